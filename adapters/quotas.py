"""What was used of an agreement, counted from the ledger: check 8 by the owner's own record (DESIGN section 6)."""

from adapters.ledger import LedgerReader
from adapters.ledger_rows import Stored
from exchange.core.decision import Usage
from exchange.core.directory import Directory
from exchange.core.envelope import RESPONSE, decode_envelope
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.core.usage import usage_of
from exchange.core.wire import decode
from exchange.v1.request_pb2 import ResponseHeader, Sealed


def answers_counted(
    ledger: LedgerReader, directory: Directory, agreement: AgreementTerms, department: Party, now: int
) -> Usage:
    """The answers that the ledger has for a department under any version of an agreement.

    Args:
        ledger: of the system that answers.
        directory: says which versions an agreement has.
        agreement: one of them.
        department: the requester's.
        now: milliseconds.
    """
    times = (
        stored.time
        for stored, _ in ledger.answers()
        if department.covers(Party.parse(stored.requester)) and _object(directory, stored) == agreement.object_id
    )
    return usage_of(times, now)


def _object(directory: Directory, stored: Stored) -> bytes | None:
    """The object id of the agreement that an answer was given under."""
    sealed = decode(Sealed, decode_envelope(stored.response, RESPONSE).payload)
    found = directory.agreement(decode(ResponseHeader, sealed.header).agreement)
    return found.object_id if found is not None else None
