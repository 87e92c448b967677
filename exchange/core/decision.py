"""`decide`: whether a request may be answered, checks 2 to 8 of DESIGN section 6, in their order.

Broker and adapter run the same function over their own mirrors. It is pure, denies by default, and never raises
for a refusal. Check 1 (frame and size) and 9 to 13 belong to who relays and who answers.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from exchange.core.directory import Directory
from exchange.core.envelope import DIGEST, REQUEST, Envelope, verify_signature
from exchange.core.errors import CoreError, DecodeError, SignatureError
from exchange.core.guardrails import Case
from exchange.core.names import Party, is_case_id, is_code, is_field, is_officer
from exchange.core.officers import officer_problem
from exchange.core.restrictions import hours_text, is_open
from exchange.core.sealing import CAPSULE
from exchange.core.state import OBJECT_ID, KeyRecord, is_signing
from exchange.core.suspending import Concerned, suspended
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.core.wire import decode
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.request_pb2 import Operation, RequestHeader, Sealed

SKEW = 60_000
LIFETIME = 600_000
MAX_FIELDS = 500
REQUEST_ID = 16

# Which message holds a request id: (requester, request id) -> message digest, or None while it is free.
Taken = Callable[[str, bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests answered before under any version of an agreement, by the grantee's department as a whole.

    Args:
        minute: within the last 60 seconds; day: since midnight UTC; total: ever.
    """

    minute: int
    day: int
    total: int


UNUSED = Usage(0, 0, 0)


# What was used of an agreement: (agreement, the requester's department, now in milliseconds) -> Usage.
Used = Callable[[AgreementTerms, Party, int], Usage]


@dataclass(frozen=True, slots=True)
class Deny:
    """A refusal: the number of the check in DESIGN section 6, its code, and a reason for people."""

    check: int
    code: "Code.ValueType"
    reason: str


REPLAYED = Deny(4, Code.CODE_REPLAYED, "another message has used this request id: make a new one")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose signature holds: its envelope, its header, and the key that signed it."""

    envelope: Envelope
    header: RequestHeader
    requester: Party
    key: KeyRecord


class Granted(NamedTuple):
    """What a request asks, and the terms of its own agreement that it asks it under."""

    header: RequestHeader
    requester: Party
    agreement: AgreementTerms
    dataset: DatasetTerms


@dataclass(frozen=True, slots=True)
class Allow:
    """A request that may be answered, and the terms that allow it."""

    asked: Asked
    agreement: AgreementTerms
    dataset: DatasetTerms


def uncounted(_agreement: AgreementTerms, _department: Party, _now: int) -> Usage:
    """A `Used` that says nothing was: for a request that is counted already, or is not to be counted."""
    return UNUSED


def decide(
    directory: Directory, envelope: Envelope, now: int, *, taken: Taken, used: Used, peer: Party | None = None
) -> Allow | Deny:
    """Whether a request may be answered.

    Args:
        directory: the snapshot to decide under.
        envelope: of kind request, its frame checked.
        now: milliseconds.
        taken: who holds a request id.
        used: what was used of an agreement; a retry is not counted twice.
        peer: the party that TLS authenticated; None where the request came through a broker.
    """
    asked = authenticate(directory, envelope, now, peer)
    if isinstance(asked, Deny):
        return asked
    return examine(directory, asked, now, taken, used)


def authenticate(
    directory: Directory, envelope: Envelope, now: int, peer: Party | None, header: RequestHeader | None = None
) -> Asked | Deny:
    """Checks 2 and 3; the payload is read behind them, so its form (check 1) is judged last.

    Args:
        directory, envelope, now, peer: as `decide`.
        header: what `read_request` gave of this very envelope, where it was read before.
    """
    record = directory.state.keys.get(envelope.key_id)
    if record is None or not is_signing(record):
        return Deny(3, Code.CODE_SIGNATURE_INVALID, "the signing key is not in the directory")
    if peer is not None and record.party != peer:
        return Deny(2, Code.CODE_IDENTITY_MISMATCH, f"connected as {peer}, but signed by {record.party}")
    try:
        verify_signature(envelope, directory.origin, record.public_key)
    except SignatureError as error:
        return Deny(3, Code.CODE_SIGNATURE_INVALID, str(error))
    if record.revoked_index is not None:
        return Deny(3, Code.CODE_KEY_REVOKED, f"the signing key of {record.party} is revoked")
    if not record.is_valid(now):
        return Deny(3, Code.CODE_SIGNATURE_INVALID, f"the signing key of {record.party} is not valid now")
    try:
        header = read_request(envelope) if header is None else header
    except DecodeError as error:
        return Deny(1, Code.CODE_MALFORMED, str(error))
    # DESIGN section 4: the key belongs to the payload's party.
    if header.requester != str(record.party):
        return Deny(2, Code.CODE_IDENTITY_MISMATCH, f"asked as {header.requester}, but signed by {record.party}")
    # Other keys have names below their department's too, and ask for nothing.
    if record.role != Role.ROLE_SYSTEM:
        return Deny(3, Code.CODE_SIGNATURE_INVALID, f"the key of {record.party} is no system's, and asks nothing")
    return Asked(envelope, header, record.party, record)


def examine(directory: Directory, asked: Asked, now: int, taken: Taken, used: Used) -> Allow | Deny:
    """Checks 4 to 8, of a request whose signature holds."""
    if stale := _fresh(asked, now):
        return stale
    holder = taken(asked.header.requester, asked.header.request_id)
    if holder is None:
        return authorise(directory, asked, now, used)
    # DESIGN section 6, "Retry is not replay": the same message may come again, and is not counted twice.
    if holder == asked.envelope.digest:
        return authorise(directory, asked, now, uncounted)
    return REPLAYED


def decide_again(directory: Directory, envelope: Envelope, now: int, used: Used) -> Allow | Deny:
    """Checks 3 and 5 to 8 once more, of a request that was allowed: the directory may have moved since (check 12)."""
    asked = authenticate(directory, envelope, now, None)
    return asked if isinstance(asked, Deny) else authorise(directory, asked, now, used)


def authorise(directory: Directory, asked: Asked, now: int, used: Used) -> Allow | Deny:
    """Checks 5 to 8: what the agreement grants to a request whose signature holds."""
    weighed = weigh(directory, asked.header, asked.requester, now, used)
    return weighed if isinstance(weighed, Deny) else Allow(asked, weighed.agreement, weighed.dataset)


def weigh(directory: Directory, header: RequestHeader, requester: Party, now: int, used: Used) -> Granted | Deny:
    """Checks 5 to 8, of what a requester asks: it need not be signed.

    Args:
        directory: the snapshot to decide under.
        header: what is asked; its form, its times and its id are not looked at.
        requester: the system that asks.
        now: milliseconds.
        used: what was used of an agreement.
    """
    found = _agreement(directory, header, requester)
    if isinstance(found, Deny):
        return found
    return (
        _in_force(directory, found, now)
        or _suspended(directory, found, now)
        or _operation(found)
        or _fields(found)
        or _purpose(directory, found)
        or _officer(directory, found)
        or _hours(found, now)
        or _forbidden(directory, found)
        or _quota(found, now, used)
        or found
    )


def _fresh(asked: Asked, now: int) -> Deny | None:
    """Check 4: both times are in the message; clocks may differ by a minute."""
    issued, expires = asked.header.issued_at, asked.header.expires_at
    if not issued < expires <= issued + LIFETIME:
        return Deny(4, Code.CODE_EXPIRED, "a request expires at most 10 minutes after it was issued")
    if issued > now + SKEW:
        return Deny(4, Code.CODE_EXPIRED, "issued in the future: check the clock of the requester")
    if now > expires + SKEW:
        return Deny(4, Code.CODE_EXPIRED, "the request has expired: sign a new one, and check the clocks")
    return None


def _agreement(directory: Directory, header: RequestHeader, requester: Party) -> Granted | Deny:
    """Check 5: one answer for unknown, another's and another dataset's, so that nothing can be probed."""
    agreement = directory.agreement(header.agreement)
    dataset = directory.dataset(header.dataset)
    if (
        agreement is None
        or dataset is None
        or agreement.dataset != header.dataset
        or not agreement.grantee.covers(requester)
    ):
        return Deny(5, Code.CODE_NO_AGREEMENT, "no such agreement of this requester for this dataset")
    return Granted(header, requester, agreement, dataset)


def _in_force(directory: Directory, found: Granted, now: int) -> Deny | None:
    """Check 6: an agreement of the requester's own that does not stand."""
    agreement = found.agreement
    if not directory.stands(agreement):
        return Deny(6, Code.CODE_AGREEMENT_ENDED, "the agreement is revoked or superseded")
    if not agreement.not_before <= now <= agreement.not_after:
        return Deny(6, Code.CODE_AGREEMENT_ENDED, "the agreement is not in force at this time")
    if agreement.review_at and now >= agreement.review_at:
        when = datetime.fromtimestamp(agreement.review_at / 1000, UTC)
        reason = f"the agreement was to be reviewed by {when:%Y-%m-%d}: {agreement.version.owner} must renew it first"
        return Deny(6, Code.CODE_AGREEMENT_ENDED, reason)
    return None


def _suspended(directory: Directory, found: Granted, now: int) -> Deny | None:
    """Check 6: the agreement, its dataset, who asks, who answers or the officer is held up for now."""
    concerned = Concerned(found.agreement, found.dataset, found.requester, found.header.officer)
    reason = suspended(directory.state, concerned, now)
    return Deny(6, Code.CODE_SUSPENDED, reason) if reason else None


def _operation(found: Granted) -> Deny | None:
    operation = found.header.operation
    if operation not in found.agreement.operations or operation not in found.dataset.operations:
        name = Operation.Name(operation).removeprefix("OPERATION_")
        return Deny(6, Code.CODE_OPERATION_NOT_GRANTED, f"the agreement does not grant {name}")
    return None


def _fields(found: Granted) -> Deny | None:
    granted, described = _set_of(found.agreement.fields), found.dataset.fields
    for name in found.header.fields:
        if name not in granted or name not in described:
            return Deny(6, Code.CODE_FIELD_NOT_GRANTED, f"the agreement does not grant the field {name}")
    return None


@lru_cache(maxsize=4096)
def _set_of(fields: tuple[str, ...]) -> frozenset[str]:
    return frozenset(fields)


def _purpose(directory: Directory, found: Granted) -> Deny | None:
    code = found.header.purpose
    if code not in found.agreement.purposes or directory.state.purpose(code) is None:
        return Deny(6, Code.CODE_PURPOSE_NOT_GRANTED, f"the agreement does not grant the purpose {code}")
    return None


def _officer(directory: Directory, found: Granted) -> Deny | None:
    officers, officer = found.agreement.officers, found.header.officer
    if officers and officer not in officers:
        reason = "the agreement names the officers who may ask, and this one is not among them"
    else:
        reason = officer_problem(directory.state, found.requester.own_department, officer)
    return Deny(6, Code.CODE_OFFICER_NOT_GRANTED, reason) if reason else None


def _hours(found: Granted, now: int) -> Deny | None:
    hours = found.agreement.hours
    if hours is not None and not is_open(hours, now):
        return Deny(6, Code.CODE_OUTSIDE_HOURS, f"the agreement grants {hours_text(hours)}, and it is not then")
    return None


def _forbidden(directory: Directory, found: Granted) -> Deny | None:
    """Check 7: a guardrail only denies, whatever any agreement grants."""
    header, dataset = found.header, found.dataset
    fields = dataset.fields
    sensitivity = max([fields[name].sensitivity for name in header.fields])
    owner = dataset.version.owner
    case = Case(found.requester, owner, dataset.object_id, sensitivity, header.purpose, header.operation)
    guardrail = directory.state.bars.forbidding(case)
    if guardrail is None:
        return None
    said = guardrail.said
    return Deny(7, Code.CODE_FORBIDDEN_BY_RULE, f"the guardrail {said.code} forbids it: {said.label_en or said.label}")


def is_limited(agreement: AgreementTerms) -> bool:
    """Whether requests under an agreement are counted: nothing is, where nothing is limited."""
    limits = agreement.limits
    return bool(limits.per_minute or limits.per_day or limits.in_total)


def _quota(found: Granted, now: int, used: Used) -> Deny | None:
    """Check 8: what the department as a whole was answered before."""
    if not is_limited(found.agreement):
        return None
    limits, department = found.agreement.limits, found.requester.own_department
    usage = used(found.agreement, department, now)
    if limits.in_total and usage.total >= limits.in_total:
        return _used_up(department, f"{limits.in_total:,} requests in all")
    if limits.per_day and usage.day >= limits.per_day:
        return _used_up(department, f"{limits.per_day:,} requests a day (UTC)")
    if limits.per_minute and usage.minute >= limits.per_minute:
        return _used_up(department, f"{limits.per_minute:,} requests a minute")
    return None


def _used_up(department: Party, what: str) -> Deny:
    return Deny(8, Code.CODE_QUOTA_EXHAUSTED, f"{department} has used up what the agreement grants: {what}")


def read_request(envelope: Envelope) -> RequestHeader:
    """Read the header of a request whose signature holds, and check its form and its attachments.

    Raises:
        DecodeError: another kind, a part is malformed, or an attachment is not the one that was signed.
    """
    if envelope.kind != REQUEST:
        raise DecodeError("not a request")
    sealed = decode(Sealed, envelope.payload)
    header = decode(RequestHeader, sealed.header)
    check_attachments(envelope, (sealed.capsule_sha256, sealed.ciphertext_sha256))
    if envelope.attachments and len(envelope.attachments[0]) != CAPSULE:
        raise DecodeError("the capsule has an impossible length")
    try:
        is_system = Party.parse(header.requester).is_system
    except CoreError as error:
        raise DecodeError("the requester is not a party's name") from error
    lengths = ((header.request_id, REQUEST_ID), (header.dataset, OBJECT_ID))
    digests = (header.agreement, header.sealing_key, sealed.capsule_sha256, sealed.ciphertext_sha256)
    if any(len(data) != size for data, size in (*lengths, *((data, DIGEST) for data in digests))):
        raise DecodeError("an identifier in the header has an impossible length")
    if not is_system or not is_officer(header.officer) or not is_case_id(header.case_id):
        raise DecodeError("the requester, officer or case id is not in its form")
    if header.operation == Operation.OPERATION_UNSPECIFIED or not is_code(header.purpose):
        raise DecodeError("the operation or purpose is not in its form")
    # RFC 9562 section 5.7: version 7, variant 10.
    if header.request_id[6] >> 4 != 7 or header.request_id[8] >> 6 != 2:
        raise DecodeError("the request id is not a UUIDv7")
    _check_fields(tuple(header.fields))
    return header


def _check_fields(fields: tuple[str, ...]) -> None:
    if not 1 <= len(fields) <= MAX_FIELDS or len(set(fields)) != len(fields):
        raise DecodeError(f"a request names 1 to {MAX_FIELDS} fields, each once")
    if not all(is_field(name) for name in fields):
        raise DecodeError("a field's name is not in its form")


def check_attachments(envelope: Envelope, digests: tuple[bytes, ...]) -> None:
    """Check attachments against the digests that were signed; an envelope without any passes as evidence.

    Raises:
        DecodeError: another number of them, or other bytes.
    """
    found = tuple(hashlib.sha256(data).digest() for data in envelope.attachments)
    if found and found != digests:
        raise DecodeError("the attachments are not the ones that were signed")
