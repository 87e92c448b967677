"""What the access log says of an answer, decided under the append lock (DESIGN sections 2 and 6)."""

from exchange.broker.logs import AccessRecord, Standing
from exchange.core.decision import Allow, Asked, Deny, authenticate, authorise
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.names import Party
from exchange.core.response import check_response, read_response
from exchange.core.state import signing_record
from exchange.store.ports import Transaction
from exchange.v1.access_pb2 import AccessKind, Code

INTERRUPTED = Deny(13, Code.CODE_INTERRUPTED, "the answer came when nobody waited for it any more")


def draw_release(
    directory: Directory, transaction: Transaction, allow: Allow, answer: Envelope, now: int
) -> AccessRecord | Standing:
    """The entry of an answer that somebody waits for: released, or unreleased with the code that forbids it.

    Args:
        directory: as it stands under the lock.
        transaction: the append lock.
        allow: the request, as checks 2 to 8 allowed it.
        answer: the provider's envelope.
        now: milliseconds.
    """
    deny = _forbids(directory, allow, answer, now)
    standing = transaction.released(str(allow.asked.requester), allow.asked.header.request_id)
    if deny is None and standing is None:
        return _record(allow.asked, str(allow.dataset.system), answer, None)
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
    """
    settled = transaction.settled(answer.digest)
    if settled:
        return Standing(settled[0])
    asked = authenticate(directory, request, now, None)
    if isinstance(asked, Deny):
        # Whoever signed it, the provider may have told somebody something: it stays on record.
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
    return _record(asked, str(system), answer, _offered(directory, asked, system, answer, now))


def _offered(directory: Directory, asked: Asked, system: Party, answer: Envelope, now: int) -> Deny:
    try:
        record = signing_record(directory.state, answer, now)
        header = read_response(answer)
        if record.party != system or header.request_digest != asked.envelope.digest:
            raise DecodeError("the answer is of another system, or to another request")
    except CoreError as error:
        return Deny(11, Code.CODE_RESPONSE_INVALID, str(error))
    authorised = authorise(directory, asked, now)
    return authorised if isinstance(authorised, Deny) else INTERRUPTED


def _forbids(directory: Directory, allow: Allow, answer: Envelope, now: int) -> Deny | None:
    """Checks 3 to 8 once more, and 11 by what they find now: the directory may have moved meanwhile (check 12)."""
    if not answer.attachments:
        return Deny(11, Code.CODE_RESPONSE_INVALID, "the response came without its ciphertext")
    asked = authenticate(directory, allow.asked.envelope, now, None)
    again = asked if isinstance(asked, Deny) else authorise(directory, asked, now)
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
