"""`search --broker`: the broker's own index is asked. It can make nothing up, but nothing shows what it leaves out."""

import asyncio
from dataclasses import dataclass
from typing import Final

from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.checking.opening import read_entry
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.offline import mirrored_erasures
from exchange.cli.audit.mirror.seen import keep_evidence
from exchange.cli.audit.searching.criteria import Criteria
from exchange.cli.audit.searching.options import Typed
from exchange.cli.audit.searching.rows import ProvenEntry
from exchange.cli.frame.progress import bar
from exchange.client.calls import brokers_checkpoint, call
from exchange.client.errors import BrokenLogError, EvidenceError
from exchange.client.session import Session
from exchange.core.checkpoint import Checkpoint
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError
from exchange.core.merkle import EMPTY_ROOT, leaf_hash, verify_inclusion
from exchange.home import Home
from exchange.transport import ACCESS_SEARCH
from exchange.v1.log_pb2 import FoundEntry, SearchRequest, SearchResponse

UNVERIFIED: Final = "completeness unverified: the broker's index chose these entries"
TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker's index had.

    Args:
        rows: proven, by index.
        findings: what was sent and does not prove itself.
        following: the last index of this page, where there may be more; None at the end.
        checkpoint: the one that the last proofs were verified by; note: as the log signed it.
    """

    rows: tuple[ProvenEntry, ...]
    findings: tuple[Finding, ...]
    following: int | None
    checkpoint: Checkpoint
    note: bytes


async def ask_broker(home: Home, typed: Typed, start: int, limit: int) -> tuple[Directory, Answer]:
    """Search the broker's index over mTLS.

    Every checkpoint that comes is demanded to be of one history with all that this home has seen, those of its mirror
    included.

    Args:
        home: of an auditor.
        typed: what is searched for; what the broker has no index of is compared here.
        start: the first index to look at.
        limit: the most rows.

    Raises:
        BrokenLogError: the log contradicts itself; both notes are kept in HOME/evidence.
        EvidenceError: a checkpoint is not the log's, or the pages do not go on.
        RefusedError, UnavailableError: the broker gives no answer.
    """
    try:
        async with Session(home) as session:
            directory = await session.sync()
            await _hold_to_mirror(home, session)
            erasures = await asyncio.to_thread(mirrored_erasures, home.path, session.trust)
            asking = Asking(session, typed.criteria(directory), start, erasures)
            with bar("the broker's index") as advance:
                while not asking.is_done(limit):
                    await asking.page(limit)
                    advance(asking.next, asking.size)
            await session.evidence.settle()
            return directory, asking.answer(limit)
    except BrokenLogError as error:
        keep_evidence(home, error)
        raise


async def _hold_to_mirror(home: Home, session: Session) -> None:
    if not (home.path / FILE).exists():
        return
    with AccessMirror.opened(home.path / FILE, session.trust.access_log) as mirror:
        if mirror.failure is not None:
            raise mirror.failure
        note = mirror.note(mirror.checkpoint.size)
    if note:
        await session.evidence.keep(note)


class Asking:
    """One search, page by page.

    Args:
        session: open.
        criteria: what is searched for.
        start: the first index to look at.
        erasures: which bodies may be missing.
    """

    def __init__(self, session: Session, criteria: Criteria, start: int, erasures: Erasures) -> None:
        self._erasures = erasures
        self._session = session
        self._criteria = criteria
        self._rows: list[ProvenEntry] = []
        self._findings: list[Finding] = []
        self._verifier = session.trust.access_log
        self._checkpoint = Checkpoint(self._verifier.name, 0, EMPTY_ROOT)
        self._note = b""
        self.next = start

    @property
    def size(self) -> int:
        """Entries of the log, as the broker last said; 0 before the first page."""
        return self._checkpoint.size

    def is_done(self, limit: int) -> bool:
        """Whether there are rows enough, or no more."""
        return len(self._rows) > limit or (bool(self._note) and self.next >= self.size)

    async def page(self, limit: int) -> None:
        """Ask for one page, and prove what comes."""
        request = _request(self._criteria, self.next, limit + 1)
        response = await call(self._session.transport, ACCESS_SEARCH, request, SearchResponse, TIMEOUT)
        checkpoint = await self._opened(response.checkpoint)
        last = self.next - 1
        for found in response.entries:
            if found.record.index <= last:
                raise EvidenceError("the broker sent entries out of order")
            last = found.record.index
            self._take(found, checkpoint)
        if response.next <= last and response.next != checkpoint.size:
            raise EvidenceError("the broker's pages do not go on")
        self._checkpoint, self._note, self.next = checkpoint, response.checkpoint, response.next

    def answer(self, limit: int) -> Answer:
        """What was found, at most `limit` rows of it."""
        rows = tuple(self._rows[:limit])
        following = rows[-1].index if len(self._rows) > limit else None
        return Answer(rows, tuple(self._findings), following, self._checkpoint, self._note)

    async def _opened(self, note: bytes) -> Checkpoint:
        try:
            checkpoint = brokers_checkpoint(note, self._verifier)
        except CoreError as error:
            raise EvidenceError(f"the broker's checkpoint of the access log does not hold: {error}") from error
        await self._session.evidence.keep(note)
        return checkpoint

    def _take(self, found: FoundEntry, checkpoint: Checkpoint) -> None:
        """An entry that is not proven, or does not fit, is shown as what it is."""
        record = found.record
        try:
            verify_inclusion(leaf_hash(record.leaf), record.index, checkpoint.size, tuple(found.path), checkpoint.root)
            entry = read_entry(record.leaf, record.body, record.index, self._erasures)
        except CoreError as error:
            self._findings.append(
                Finding(self._verifier.name, record.index, f"the broker sent what proves nothing: {error}")
            )
            return
        if self._criteria.holds(entry):
            self._rows.append(ProvenEntry(record.index, entry))


def _request(criteria: Criteria, start: int, limit: int) -> SearchRequest:
    """What the broker has an index of; the rest is compared when its answer comes."""
    exact = criteria.exact
    request = SearchRequest(
        start=start,
        # Where most of a page does not fit, a small one would only make for more of them.
        limit=limit if exact.keys() <= {"kind", "code", "request_id"} else 0,
        since=max(criteria.since or 0, 0),
        until=max(criteria.until or 0, 0),
    )
    for name in ("kind", "code", "request_id"):
        if name in exact:
            setattr(request, name, exact[name])
    for name, party in criteria.parties.items():
        setattr(request, name, str(party))
    return request
