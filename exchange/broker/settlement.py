"""What the access log says of an answer, decided under the append lock (DESIGN sections 2 and 6)."""

from dataclasses import replace

from exchange.broker.logs import Standing
from exchange.broker.records import AccessRecord
from exchange.core.decision import Allow, Asked, Deny, Used, authenticate, authorise, decide_again, uncounted
from exchange.core.directory import Directory
from exchange.core.envelope import DIGEST, Envelope, verify_signature
from exchange.core.errors import DecodeError
from exchange.core.names import Party
from exchange.core.response import check_response, read_response
from exchange.core.state import KeyRecord, is_signing
from exchange.store.ports import Transaction
from exchange.v1.access_pb2 import AccessKind, Code

# An envelope without attachments: of what a request or response may be, none comes near it.
MAX_BARE = 64 * 1024
# What is larger may not fit into an answer to the requester, with its receipt: nobody would ever get it.
MAX_ANSWER = 3 * 1024 * 1024

INTERRUPTED = Deny(13, Code.CODE_INTERRUPTED, "the answer came when nobody waited for it any more")


def draw_release(
    directory: Directory, transaction: Transaction, allow: Allow, answer: Envelope, now: int, used: Used
) -> AccessRecord | Standing:
    """The entry of an answer that somebody waits for: released, or unreleased with the code that forbids it.

    Args:
        directory: as it stands under the lock.
        transaction: the append lock.
        allow: the request, as checks 2 to 8 allowed it.
        answer: the provider's envelope.
        now: milliseconds.
        used: what was used of an agreement, as it stands under the lock.
    """
    standing = transaction.released(str(allow.asked.requester), allow.asked.header.request_id)
    # What was released once is counted already.
    deny = _forbids(directory, allow, answer, now, used if standing is None else uncounted)
    if deny is None and standing is None:
        counted = (allow.agreement, allow.asked.requester.own_department)
        return replace(_record(allow.asked, str(allow.dataset.system), answer, None), counted=counted)
    settled = transaction.settled(answer.digest)
    if deny is None:
        if standing in settled:
            return Standing(settled[0])
        deny = Deny(11, Code.CODE_RESPONSE_INVALID, "another answer to this request was released already")
    if settled:
        return Standing(settled[0], deny)
    return _record(allow.asked, str(allow.dataset.system), answer, deny)


def draw_offer(
    directory: Directory,
    transaction: Transaction,
    system: Party,
    request: Envelope,
    answer: Envelope,
    now: int,
) -> AccessRecord | Standing:
    """The entry of an answer that nobody waits for: what settles it already, or unreleased.

    Args:
        directory: as it stands under the lock.
        transaction: the append lock.
        system: the provider that offers it.
        request, answer: with or without attachments.
        now: milliseconds.

    Raises:
        CoreError: no evidence that this system answered this request: nothing is logged.
    """
    _check_offer(directory, system, request, answer)
    settled = transaction.settled(answer.digest)
    if settled:
        return Standing(settled[0])
    asked = authenticate(directory, request, now, None)
    if isinstance(asked, Deny):
        # Its key is revoked or expired by now: the provider may have told somebody something all the same.
        return AccessRecord(
            AccessKind.ACCESS_KIND_UNRELEASED,
            asked.code,
            "",
            str(system),
            b"",
            request.digest,
            request,
            answer,
        )
    return _record(asked, str(system), answer, _offered(directory, asked, answer, now))


def check_bare(envelope: Envelope) -> None:
    """Refuse an envelope that is too large for the log, whose pages its readers must be able to receive.

    Raises:
        DecodeError: its part without attachments is too large.
    """
    size = len(envelope.payload) + sum(map(len, envelope.path))
    if size > MAX_BARE or len(envelope.path) > MAX_BARE // DIGEST:
        raise DecodeError(f"an envelope has at most {MAX_BARE:,} bytes beside its attachments")


def _check_offer(directory: Directory, system: Party, request: Envelope, answer: Envelope) -> None:
    """Evidence is judged by signatures alone: a key that was revoked or has expired since proves an answer as well."""
    _signer(directory, request)
    signer = _signer(directory, answer)
    if signer.party != system:
        raise DecodeError(f"the answer is signed by {signer.party}, not by {system}")
    if read_response(answer).request_digest != request.digest:
        raise DecodeError("the answer is to another request")


def _signer(directory: Directory, envelope: Envelope) -> KeyRecord:
    record = directory.state.keys.get(envelope.key_id)
    if record is None or not is_signing(record):
        raise DecodeError("what is offered is signed by a key that is not in the directory")
    verify_signature(envelope, directory.origin, record.public_key)
    return record


def _offered(directory: Directory, asked: Asked, answer: Envelope, now: int) -> Deny:
    authorised = authorise(directory, asked, now, uncounted)
    if isinstance(authorised, Deny):
        return authorised
    checked = check_response(directory, authorised, answer, now)
    return checked if isinstance(checked, Deny) else INTERRUPTED


def _forbids(directory: Directory, allow: Allow, answer: Envelope, now: int, used: Used) -> Deny | None:
    """Checks 3 to 8 once more, and 11 by what they find now: the directory may have moved meanwhile (check 12)."""
    if not answer.attachments:
        return Deny(11, Code.CODE_RESPONSE_INVALID, "the response came without its ciphertext")
    if sum(map(len, answer.attachments)) > MAX_ANSWER - MAX_BARE:
        return Deny(11, Code.CODE_RESPONSE_INVALID, "the response is too large to be delivered")
    again = decide_again(directory, allow.asked.envelope, now, used)
    if isinstance(again, Deny):
        return again
    checked = check_response(directory, again, answer, now)
    return checked if isinstance(checked, Deny) else None


def _record(asked: Asked, provider: str, answer: Envelope, deny: Deny | None) -> AccessRecord:
    released = deny is None
    return AccessRecord(
        AccessKind.ACCESS_KIND_RELEASED if released else AccessKind.ACCESS_KIND_UNRELEASED,
        Code.CODE_UNSPECIFIED if deny is None else deny.code,
        str(asked.requester),
        provider,
        asked.header.request_id,
        asked.envelope.digest,
        asked.envelope,
        answer,
        deny=deny,
    )
