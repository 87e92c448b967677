"""The one append path: both logs, one lock, one transaction a batch (DESIGN section 7)."""

import asyncio
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from exchange.batching import Batcher, ClosedError
from exchange.broker.proofs import continued, receipts
from exchange.broker.records import AccessRecord, access_entry
from exchange.broker.retention import Erasure, Retention, RetentionError
from exchange.broker.snapshots import DirectoryDiffersError, Snapshots
from exchange.broker.usage import UsageCounts
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.decision import Deny
from exchange.core.directory import Directory
from exchange.core.entries import directory_leaf
from exchange.core.envelope import Envelope
from exchange.core.errors import CoreError
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.note import NoteSigner
from exchange.store.ports import (
    Batch,
    Head,
    Log,
    LogStore,
    NewEntry,
    StoreError,
    StoreFatalError,
    Transaction,
)
from exchange.v1.access_pb2 import AccessKind
from exchange.v1.directory_pb2 import Erased
from exchange.v1.envelope_pb2 import Receipt

_PAGE = 1000
_PAGE_BYTES = 8 * 1024 * 1024

logger = structlog.get_logger("exchange.broker")


class AuditUnavailableError(Exception):
    """The entry is not durable, or it is not known whether it is: nothing may be released."""


class EntryRefusedError(Exception):
    """The directory's rules refuse the entry; the text says why."""


@dataclass(frozen=True, slots=True)
class DirectoryProposal:
    """A signed directory entry, with its body."""

    envelope: Envelope
    body: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """An entry that is in the log already: nothing is appended, its receipt is given again."""

    index: int
    deny: Deny | None = None


@dataclass(frozen=True, slots=True)
class AccessProposal:
    """An access entry that is decided under the lock, by the directory that stands there, at the entry's time."""

    draw: Callable[[Directory, Transaction, int], AccessRecord | Standing]


Proposal = DirectoryProposal | AccessProposal


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry that is durable, with its proof, and why it forbids a release, if it does."""

    receipt: Receipt
    deny: Deny | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a proposal's entry is, or will be once the batch is committed."""

    log: Log
    index: int
    digest: bytes = b""
    deny: Deny | None = None


@dataclass(slots=True)
class _Tail:
    """One log's end while a batch is drawn up."""

    log: Log
    frontier: Frontier
    time: int
    entries: list[NewEntry] = field(default_factory=list)
    erasures: list[Erasure] = field(default_factory=list)

    def settling(self, response_digest: bytes) -> int | None:
        """Where this batch settles an answer already: the transaction knows only of the batches before."""
        for place, entry in enumerate(self.entries, self.frontier.size):
            if entry.index is not None and entry.index.settles and entry.index.response_digest == response_digest:
                return place
        return None

    def add(self, entry: NewEntry, time: int) -> int:
        self.entries.append(entry)
        self.time = time
        return self.frontier.size + len(self.entries) - 1


class Logs:
    """The directory log and the access log of one exchange, and the directory that their entries make.

    Args:
        store: opened for writing.
        signers: the note keys of both logs.
        directory: the state before entry 0; it is folded up to the store's head.
        clock: milliseconds.
        snapshots: signs what the directory folds to, every so many entries; None where no snapshots are made.
        retention: says which bodies may be erased; None where none may.

    Raises:
        DirectoryDiffersError: a broker signed another state than the store's entries fold to here.
    """

    def __init__(
        self,
        store: LogStore,
        signers: Mapping[Log, NoteSigner],
        directory: Directory,
        clock: Callable[[], int],
        snapshots: Snapshots | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.store = store
        self._retention = retention
        self._snapshots = snapshots
        self.failed = asyncio.Event()
        self._signers = signers
        self._clock = clock
        self._directory = directory
        self._frontiers = {log: Frontier() for log in Log}
        self._indexes: dict[bytes, int] = {}
        self._writer = ThreadPoolExecutor(1, "append")
        self.usage = UsageCounts(store, self._writer, lambda: self._directory)
        self._batcher: Batcher[Proposal, Entered] = Batcher(self._append)
        self._moved = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._checkpoints: dict[Log, bytes] = {}
        self._catch_up({log: store.head(log) for log in Log})

    @property
    def directory(self) -> Directory:
        """The directory at the last durable head."""
        return self._directory

    async def append(self, proposal: Proposal) -> Entered:
        """Append one entry; when this returns it is durable. Many at once share one commit.

        Raises:
            EntryRefusedError: the directory's rules refuse it.
            CoreError: what the entry is to be drawn from is no evidence.
            AuditUnavailableError: it could not be made durable, or it is not known whether it is.
        """
        try:
            return await asyncio.shield(self._batcher.submit(proposal))
        except ClosedError as error:
            raise AuditUnavailableError("the broker is stopping") from error

    async def moved(self, size: int) -> int:
        """Wait until the directory is larger than `size`; returns its size."""
        while self._directory.size <= size:
            await self._moved.wait()
        return self._directory.size

    async def catch_up(self) -> None:
        """Take up what other brokers have appended to the directory; callers at the same moment share one look.

        Raises:
            StoreError: it cannot be read; after a StoreFatalError nothing more is appended.
        """
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
            self._looking.add_done_callback(self._looked)
        await asyncio.shield(self._looking)

    async def close(self) -> None:
        """Write what is queued, then stop."""
        await self._batcher.close()
        if self._looking is not None:
            await asyncio.wait((self._looking,))
        self._writer.shutdown()

    async def _look(self) -> None:
        before = self._directory.size
        try:
            # In the writer's thread, which alone changes what is known of the logs.
            await asyncio.get_running_loop().run_in_executor(self._writer, self._read_directory)
        except StoreFatalError as error:
            self._fail(error)
            raise
        finally:
            self._tell_if_moved(before)
        if self._directory.size != before:
            logger.info("another broker's entries are taken up", size=self._directory.size)

    def _looked(self, task: "asyncio.Task[None]") -> None:
        self._looking = None
        # Read, so that nothing is logged where every caller has gone.
        if not task.cancelled():
            task.exception()

    def _read_directory(self) -> None:
        self._catch_up({Log.DIRECTORY: self.store.head(Log.DIRECTORY)})

    def _fail(self, error: StoreFatalError) -> None:
        logger.critical("the log cannot be written: nothing more is released", reason=str(error))
        self.failed.set()

    def _tell_if_moved(self, before: int) -> None:
        if self._directory.size != before:
            self._moved.set()
            self._moved = asyncio.Event()

    async def _append(self, proposals: Sequence[Proposal]) -> Sequence[Entered | Exception]:
        if self.failed.is_set():
            raise AuditUnavailableError("the log takes no more entries")
        before = self._directory.size
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._writer, self._write, proposals)
        except StoreFatalError as error:
            self._fail(error)
            raise AuditUnavailableError("the log cannot be written") from error
        except StoreError as error:
            logger.error("a batch was not written", reason=str(error), entries=len(proposals))
            raise AuditUnavailableError("the entry was not written") from error
        finally:
            self._tell_if_moved(before)
        return results

    def _write(self, proposals: Sequence[Proposal]) -> list[Entered | Exception]:
        """In the writer thread: lock, decide, extend, sign, commit, prove."""
        with self.store.locked() as transaction:
            heads = dict(transaction.heads())
            # Another broker, or a commit whose outcome was unknown, may have moved the heads.
            self._catch_up(heads)
            self.usage.begin(heads[Log.ACCESS].size)
            tails = {log: _Tail(log, self._frontiers[log], heads[log].time) for log in Log}
            directory, places = self._decide(proposals, tails, transaction)
            grown = [self._grow(tail) for tail in tails.values() if tail.entries]
            for batch, _ in grown:
                transaction.append(batch)
            for erasure in tails[Log.DIRECTORY].erasures:
                transaction.erase(erasure.log, erasure.first, erasure.end)
        # COMMITTED: from here on checkpoints, receipts and answers may leave the process.
        for batch, frontier in grown:
            self._frontiers[batch.log] = frontier
            self._checkpoints[batch.log] = batch.head.checkpoint
            heads[batch.log] = batch.head
        for place in places:
            if isinstance(place, _Place) and place.digest:
                self._indexes[place.digest] = place.index
        self._directory = directory
        self.usage.commit(heads[Log.ACCESS].size)
        return self._prove(places, heads, tails)

    def _decide(
        self, proposals: Sequence[Proposal], tails: Mapping[Log, _Tail], transaction: Transaction
    ) -> "tuple[Directory, list[_Place | Exception]]":
        directory = self._directory
        places: list[_Place | Exception] = []
        known = ChainMap({}, self._indexes)
        for proposal in proposals:
            try:
                if isinstance(proposal, DirectoryProposal):
                    directory, place = self._propose(proposal, directory, tails[Log.DIRECTORY], known)
                else:
                    place = self._draw(proposal, directory, tails[Log.ACCESS], transaction)
            except (EntryRefusedError, CoreError) as error:
                places.append(error)
            else:
                places.append(place)
        return directory, places

    def _propose(
        self, proposal: DirectoryProposal, directory: Directory, tail: _Tail, known: MutableMapping[bytes, int]
    ) -> tuple[Directory, _Place]:
        digest = proposal.envelope.digest
        if digest in known:
            return directory, _Place(Log.DIRECTORY, known[digest])
        time = max(self._clock(), tail.time)
        leaf = directory_leaf(proposal.envelope, time)
        grown, applied = directory.apply(leaf, proposal.body)
        if applied.reason:
            raise EntryRefusedError(applied.reason)
        if applied.entry is not None and applied.entry.WhichOneof("body") == "erased":
            tail.erasures.extend(self._erasures(applied.entry.erased, grown, time))
        known[digest] = tail.add(NewEntry(leaf, proposal.body, None), time)
        return self._with_snapshot(grown, tail), _Place(Log.DIRECTORY, known[digest], digest)

    def _erasures(self, erased: Erased, directory: Directory, time: int) -> Sequence[Erasure]:
        if self._retention is None:
            raise EntryRefusedError("this broker erases nothing")
        try:
            return self._retention.judge(erased, directory, self.store, time)
        except RetentionError as error:
            raise EntryRefusedError(str(error)) from error

    def _with_snapshot(self, directory: Directory, tail: _Tail) -> Directory:
        envelope = self._snapshots.due(directory) if self._snapshots is not None else None
        if envelope is None:
            return directory
        leaf = directory_leaf(envelope, tail.time)
        grown, applied = directory.apply(leaf, b"")
        if applied.reason:
            # The broker's key has expired, say: the log goes on, and mirrors start from the snapshot before.
            logger.error("no snapshot was appended", reason=applied.reason)
            return directory
        tail.add(NewEntry(leaf, b"", None), tail.time)
        return grown

    def _draw(self, proposal: AccessProposal, directory: Directory, tail: _Tail, transaction: Transaction) -> _Place:
        # The time that the entry will say, so that whoever decides again later decides by the same one.
        time = max(self._clock(), tail.time)
        record = proposal.draw(directory, transaction, time)
        if isinstance(record, Standing):
            return _Place(Log.ACCESS, record.index, deny=record.deny)
        if record.kind == AccessKind.ACCESS_KIND_UNRELEASED and record.response is not None:
            # Several adapters of one system offer the same answers when they attach.
            place = tail.settling(record.response.digest)
            if place is not None:
                return _Place(Log.ACCESS, place, deny=record.deny)
        if record.counted is not None:
            self.usage.release(*record.counted, time)
        return _Place(Log.ACCESS, tail.add(access_entry(record, time, directory.size), time), deny=record.deny)

    def _grow(self, tail: _Tail) -> tuple[Batch, Frontier]:
        frontier, nodes = tail.frontier.extend([leaf_hash(entry.leaf) for entry in tail.entries])
        signer = self._signers[tail.log]
        checkpoint = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
        head = Head(tail.log, frontier.size, checkpoint, tail.time)
        return Batch(tail.log, tail.frontier.size, tuple(tail.entries), nodes, head), frontier

    def _prove(
        self, places: "list[_Place | Exception]", heads: Mapping[Log, Head], tails: Mapping[Log, _Tail]
    ) -> list[Entered | Exception]:
        proofs = {log: receipts(self.store, heads[log], self._leaves(tails[log], places)) for log in Log}
        return [
            Entered(proofs[place.log][place.index], place.deny) if isinstance(place, _Place) else place
            for place in places
        ]

    def _leaves(self, tail: _Tail, places: "list[_Place | Exception]") -> dict[int, bytes]:
        """The leaf of every place in this log, out of the batch or the store."""
        leaves = {}
        for place in places:
            if isinstance(place, _Place) and place.log == tail.log:
                fresh = place.index - tail.frontier.size
                leaves[place.index] = tail.entries[fresh].leaf if fresh >= 0 else self._leaf(place)
        return leaves

    def _leaf(self, place: _Place) -> bytes:
        entry = self.store.entry(place.log, place.index)
        if entry is None:
            raise StoreFatalError("an entry below the head is missing")
        return entry.leaf

    def _catch_up(self, heads: Mapping[Log, Head]) -> None:
        """Read what the store holds beyond what this process knows."""
        for log, head in heads.items():
            if self._checkpoints.get(log) != head.checkpoint:
                self._frontiers[log] = continued(self.store, head, self._frontiers[log], self._signers[log].verifier)
                self._checkpoints[log] = head.checkpoint
        size = heads[Log.DIRECTORY].size
        directory = self._directory
        while directory.size < size:
            for entry in self.store.entries(Log.DIRECTORY, directory.size, _PAGE_BYTES, _PAGE):
                directory, applied = directory.apply(entry.leaf, entry.body)
                if applied.differs:
                    text = f"entry {entry.index} of the directory is a snapshot, and {applied.reason}"
                    raise DirectoryDiffersError(f"{text}: compare the brokers' versions")
                self._indexes[applied.digest] = entry.index
        self._directory = directory
