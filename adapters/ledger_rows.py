"""What a row of the ledger says, and what must hold for it (DESIGN section 6).

LedgerError            this call failed: a batch does not continue the head, or a row does not verify
├── LedgerBusyError    another process holds the ledger for writing
└── LedgerFatalError   the disk or the file failed: send nothing more, stop the process
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from exchange.core.envelope import REQUEST, RESPONSE, decode_envelope, message_digest
from exchange.core.errors import DecodeError
from exchange.core.wire import decode
from exchange.v1.access_pb2 import ACCESS_KIND_RELEASED, ACCESS_KIND_UNRELEASED, AccessLeaf
from exchange.v1.envelope_pb2 import Envelope, Receipt
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.request_pb2 import RequestHeader, ResponseHeader, Sealed

M = TypeVar("M", bound=Message)


class LedgerError(Exception):
    """This call failed; the ledger stays sound, and `head` and `find` tell what it holds."""


class LedgerBusyError(LedgerError):
    """Another process holds the ledger for writing."""


class LedgerFatalError(LedgerError):
    """The disk or the file failed: whether the last batch is durable is unknown, and the process must stop."""


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """The last row's number (0 at the start) and its chain hash, 32 bytes."""

    number: int = 0
    chain: bytes = bytes(32)

    def after(self, row: bytes) -> "LedgerHead":
        """The head once `row` follows."""
        return LedgerHead(self.number + 1, sha256(self.chain + row).digest())


@dataclass(frozen=True, slots=True)
class LedgerAnswer:
    """One answer to commit; what is indexed of it comes from its row.

    Args:
        row: a serialised LedgerRow.
        request, response: the envelopes, without attachments.
        sealed: the response's whole envelope, kept for a retry.
        erase_after: from when `sealed` may be erased, milliseconds.
    """

    row: bytes
    request: bytes
    response: bytes
    sealed: bytes
    erase_after: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A committed answer, its time in milliseconds; `sealed` is None once erased, `owed` until it is settled."""

    number: int
    time: int
    requester: str
    request_id: bytes
    request_digest: bytes
    response_digest: bytes
    row: bytes
    chain: bytes
    request: bytes
    response: bytes
    sealed: bytes | None
    owed: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """An entry of the access log, at `index`, that settles an answer: AccessKind, Code, serialised Receipt."""

    response_digest: bytes
    kind: int
    code: int
    index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """One answer that concerns a person: who asked, what for, and what the access log says of it.

    Args:
        time: milliseconds.
        dataset: object id, 16 bytes.
        asked, told: the request named the person; a row of the answer was the person's.
        rows: number of rows in the answer, whosever they are.
        settlements: in the log's order, or None while owed.
        request_digest, response_digest: 32 bytes each.
    """

    number: int
    time: int
    requester: str
    officer: str
    purpose: str
    case_id: str
    dataset: bytes
    fields: tuple[str, ...]
    asked: bool
    told: bool
    rows: int
    settlements: tuple[Settlement, ...] | None
    request_digest: bytes
    response_digest: bytes


def checked_row(head: LedgerHead, data: bytes, request: bytes, response: bytes, *, strict: bool) -> LedgerRow:
    """The row after `head`, once it agrees with both envelopes and these with each other (DESIGN section 6)."""
    number = head.number + 1
    try:
        row = _parse(LedgerRow, data, strict)
        asked, answered = _parse(Envelope, request, strict), _parse(Envelope, response, strict)
        question = _parse(RequestHeader, _parse(Sealed, asked.payload, strict).header, strict)
        answer = _parse(ResponseHeader, _parse(Sealed, answered.payload, strict).header, strict)
    except (DecodeError, ProtobufDecodeError) as error:
        raise LedgerError(f"row {number}: {error}") from error
    _require(number, "number", row.number == answer.ledger_number == number)
    _require(number, "previous chain hash", answer.ledger_previous == head.chain)
    _require(number, "requester", row.requester == question.requester)
    _require(number, "request id", row.request_id == question.request_id)
    asked_digest = message_digest(REQUEST, asked.payload)
    _require(number, "request's digest", row.request_digest == answer.request_digest == asked_digest)
    _require(number, "response's digest", row.response_digest == message_digest(RESPONSE, answered.payload))
    _require(number, "envelopes' kinds", (asked.kind, answered.kind) == (REQUEST, RESPONSE))
    _require(number, "envelopes", not asked.attachments and not answered.attachments)
    return row


def _parse(kind: type[M], data: bytes, strict: bool) -> M:
    """Strictly in verification; a commit has its own process's bytes, and strictness costs half its time."""
    return decode(kind, data) if strict else kind.FromString(data)


def verified_head(head: LedgerHead, stored: Stored, names: list[Any], settled: list[Any]) -> LedgerHead:
    """The head after a row that holds, with everything that stands beside it."""
    number = head.number + 1
    if stored.number != number:
        raise LedgerError(f"row {number} is missing")
    row = checked_row(head, stored.row, stored.request, stored.response, strict=True)
    head = head.after(stored.row)
    _require(number, "chain hash", stored.chain == head.chain)
    columns = (stored.number, stored.time, stored.requester, stored.request_id)
    digests = (stored.request_digest, stored.response_digest)
    _require(number, "index", (*columns, *digests) == indexed(row))
    _require(number, "subjects", {name for (name,) in names} == subjects_of(row))
    _require(number, "settlements", stored.owed != bool(settled))
    _check_sealed(number, stored.response, stored.sealed)
    for values in settled:
        check_settlement(number, Settlement(*values))
    return head


def _check_sealed(number: int, response: bytes, sealed: bytes | None) -> None:
    if sealed is None:
        return
    try:
        envelope = decode_envelope(sealed, RESPONSE)
        digest = decode(Sealed, envelope.payload).ciphertext_sha256
    except DecodeError as error:
        raise LedgerError(f"row {number}: sealed answer: {error}") from error
    whole = envelope.attachments and sha256(envelope.attachments[-1]).digest() == digest
    _require(number, "sealed answer", whole and envelope.bare().encode() == response)


def check_settlement(number: int, settlement: Settlement) -> None:
    """Check that a settlement says what the entry in its receipt says."""
    try:
        receipt = decode(Receipt, settlement.receipt)
        leaf = decode(AccessLeaf, receipt.leaf)
    except DecodeError as error:
        raise LedgerError(f"row {number}: settlement: {error}") from error
    entry = (leaf.response_digest, leaf.kind, leaf.code, receipt.index)
    stated = (settlement.response_digest, settlement.kind, settlement.code, settlement.index)
    _require(number, "settlement", entry == stated)
    # DESIGN section 2: both kinds are receipts, and an unreleased answer has its reason.
    _require(number, "settlement's kind", leaf.kind in (ACCESS_KIND_RELEASED, ACCESS_KIND_UNRELEASED))
    _require(number, "settlement's code", (leaf.kind == ACCESS_KIND_RELEASED) == (leaf.code == 0))


def _require(number: int, what: str, holds: object) -> None:
    if not holds:
        raise LedgerError(f"row {number}: its {what} does not hold")


def indexed(row: LedgerRow) -> tuple[int, int, str, bytes, bytes, bytes]:
    """What the index columns repeat of a row."""
    digests = (row.request_digest, row.response_digest)
    return (row.number, row.time, row.requester, row.request_id, *digests)


def subjects_of(row: LedgerRow) -> set[str]:
    """Whom a row is about: asked about, or told of."""
    return {*row.asked, *row.told}


def told_of(subject: str, stored: Stored, settled: list[Any]) -> Told:
    """What one answer told about a person, out of the row and the request beside it."""
    try:
        row = decode(LedgerRow, stored.row)
        sealed = decode(Sealed, decode_envelope(stored.request, REQUEST).payload)
        question = decode(RequestHeader, sealed.header)
    except DecodeError as error:
        raise LedgerError(f"row {stored.number}: {error}") from error
    return Told(
        number=stored.number,
        time=stored.time,
        requester=stored.requester,
        officer=question.officer,
        purpose=question.purpose,
        case_id=question.case_id,
        dataset=question.dataset,
        fields=tuple(question.fields),
        asked=subject in row.asked,
        told=subject in row.told,
        rows=row.rows,
        settlements=tuple(Settlement(*values) for values in settled) or None,
        request_digest=stored.request_digest,
        response_digest=stored.response_digest,
    )
