"""`exchange-adapter ledger recover`: a ledger that has lost answers for good says so, signed, and goes on after them.

What was lost is told by the log: every answer that may have left has its entry there, and in it its number, its
agreement and who asked, so that it goes on counting against the agreement's limits. The answers themselves, what was
asked and about whom, are gone; the parties' entries in the log stay.
"""

import asyncio
from dataclasses import dataclass, field

from adapters.host import LEDGER
from adapters.ledger_breaks import LARGEST, draft_break
from adapters.ledger_rows import LedgerError
from adapters.ledger_starts import LostLedger
from adapters.ledger_uses import Use
from adapters.local import checked_reason
from adapters.reconciling import SETTLING, own_entries
from exchange.client.errors import EvidenceError
from exchange.client.session import MIRROR, Session
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.access import read_access_leaf
from exchange.core.decision import read_request
from exchange.core.envelope import REQUEST, RESPONSE, decode_envelope, sign, verify_signature
from exchange.core.errors import CoreError
from exchange.core.response import read_response
from exchange.core.wire import MAX_TIME, decode
from exchange.home import Home, HomeError
from exchange.v1.access_pb2 import AccessBody
from exchange.v1.ledger_pb2 import LedgerBreak
from exchange.v1.log_pb2 import Record


@dataclass(frozen=True, slots=True)
class Declared:
    """What came of it.

    Args:
        first, last: numbers of the answers that are declared lost; last is 0 where none were.
        kept: the last answer that the ledger still has.
        entries: of the access log that are about answers which the ledger no longer has.
        counted: of the answers that are declared lost, those that count against the limits of their agreements.
    """

    first: int
    last: int
    kept: int
    entries: int
    counted: int = 0

    @property
    def uncounted(self) -> int:
        """Answers of which the log says too little: they never got an entry, or its body was erased."""
        return max(self.last - self.first + 1, 0) - self.counted


@dataclass(slots=True)
class _Given:
    """What the log says was given."""

    uses: dict[int, Use] = field(default_factory=dict)
    entries: int = 0
    size: int = 0
    note: bytes = b""


async def declare_lost(home: Home, reason: str) -> Declared:
    """Declare the answers that the log has and the ledger has not, and go on after them.

    Args:
        home: of an adapter that does not run; a broker must be reached.
        reason: for the record, 1 to 2,000 characters.

    Raises:
        UsageError: no reason.
        EvidenceError: what the broker shows is no evidence.
        BrokenLogError: the log contradicts what it signed before.
        HomeError: the adapter runs, or the ledger cannot be written.
    """
    reason, path = checked_reason(reason), home.path / LEDGER
    try:
        with LostLedger.held(path) as ledger:
            async with Session(home) as session:
                return await declare(session, ledger, reason)
    except LedgerError as error:
        raise HomeError(f"{path}: {error}", "stop the adapter first; a damaged file is moved away first") from error


async def declare(session: Session, ledger: LostLedger, reason: str) -> Declared:
    """As `declare_lost`, for a ledger that is held already.

    Args:
        session: open; ledger: of the same home.
        reason: for the record.
    """
    await session.sync()
    given = await _given(session, ledger.head.number)
    head, last = ledger.head, max(*given.uses, ledger.anchored, 0)
    if last <= head.number:
        # All that was given is here: the anchor alone was lost with the disk.
        ledger.clear()
        return Declared(head.number + 1, 0, head.number, given.entries)
    said = LedgerBreak(
        party=str(session.party),
        after_number=head.number,
        after_chain=head.chain,
        until_number=last,
        log_size=given.size,
        checkpoint=given.note,
        time=session.clock(),
        reason=reason,
    )
    uses = tuple(given.uses[number] for number in sorted(given.uses))
    ledger.begin_anew(sign(session.signer, session.trust.name, draft_break(said)), uses)
    return Declared(head.number + 1, last, head.number, given.entries, len(uses))


async def _given(session: Session, kept: int) -> _Given:
    """The answers after `kept` that the log has, as they were used, and how many entries are about them."""
    found = _Given()
    async for record, _ in own_entries(session):
        use = _use(session, record)
        if use is not None and use.number > kept:
            found.entries += 1
            found.uses[use.number] = use
    await session.evidence.settle()
    seen = session.evidence.checkpoint
    if seen is not None:
        found.size = seen.size
        found.note = await asyncio.to_thread(MirrorFile(session.home.path / MIRROR).head, ACCESS)
    return found


def _use(session: Session, record: Record) -> Use | None:
    """This system's answer that an entry settles, as it is counted; None where it settles none, or its body is gone."""
    try:
        leaf = read_access_leaf(record.leaf)
        if leaf.provider != str(session.party) or leaf.kind not in SETTLING or not record.body:
            return None
        body = decode(AccessBody, record.body)
        envelope = decode_envelope(body.response, RESPONSE)
        key = session.directory.state.keys.get(envelope.key_id)
        if envelope.digest != leaf.response_digest or key is None or key.party != session.party:
            raise EvidenceError(f"entry {record.index} of the access log has a body that is not this system's answer")
        # Whatever the broker says: the number is believed because this system signed it, its key revoked since or not.
        verify_signature(envelope, session.trust.name, key.public_key)
        response = read_response(envelope)
        request = decode_envelope(body.request, REQUEST)
        if request.digest != response.request_digest:
            raise EvidenceError(f"entry {record.index} of the access log has a request that was not answered so")
        asked = read_request(request)
        number, time = min(response.ledger_number, LARGEST - 1), min(response.answered_at, MAX_TIME)
        return Use(number, response.agreement, asked.requester.rpartition("/")[0], time)
    except CoreError as error:
        raise EvidenceError(f"entry {record.index} of the access log cannot be read: {error}") from error
