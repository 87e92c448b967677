"""The port to the two logs: what a store takes, gives and promises, and the errors it raises.

StoreError
├── StoreOpenError        it exists, is in use, of another version, or would lose what it is told to keep
│   └── StoreMissingError   there is none at all
├── HeadMovedError        per batch: the log is not at the size that the batch starts from
├── ReleasedTwiceError    per batch: a request already has its one released entry
├── StoreBusyError        per call: a lock or a connection was not free in time
├── StoreLostError        per call: the connection to a database server was lost, or none could be made
├── NodeMissingError      per call: a node was asked for that is not stored
├── CommitUnknownError    the batch may be durable or not: fail it, release nothing, read the head again under the lock
└── StoreFatalError       disk full, I/O, read-only, corrupt: append nothing more, stop the process

After any of them but CommitUnknownError nothing of the transaction is stored. No message holds SQL or an entry's bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from exchange.core.merkle import Node, NodeId
from exchange.v1 import access_pb2

RELEASED: int = access_pb2.ACCESS_KIND_RELEASED
UNRELEASED: int = access_pb2.ACCESS_KIND_UNRELEASED
SUMMARY: int = access_pb2.ACCESS_KIND_REFUSALS


class StoreError(Exception):
    """Root of every error that a store raises on purpose."""


class StoreOpenError(StoreError):
    """The store cannot be created or opened."""


class StoreMissingError(StoreOpenError):
    """There is no store where one is to be opened."""


class HeadMovedError(StoreError):
    """The log is not at the size that the batch starts from."""


class ReleasedTwiceError(StoreError):
    """A request already has its one released entry (DESIGN section 6, "Retry is not replay")."""


class StoreBusyError(StoreError):
    """A lock or a connection was not free in time; nothing was read or written."""


class StoreLostError(StoreError):
    """The connection to a database server was lost, or none could be made; nothing was written."""


class NodeMissingError(StoreError):
    """A node was asked for that is not stored: the asker went past the head."""


class CommitUnknownError(StoreError):
    """COMMIT failed, and the batch may be durable or not: fail it, release nothing, read the head again."""


class StoreFatalError(StoreError):
    """The disk is full, failing or read-only, or the database is corrupt: append nothing more."""


class Log(StrEnum):
    """The two logs of an exchange."""

    DIRECTORY = "directory"
    ACCESS = "access"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends.

    Args:
        log: the log.
        size: its number of entries.
        checkpoint: the signed note of this size; empty until the log's first batch.
        time: the last entry's, milliseconds; 0 when empty.
    """

    log: Log
    size: int
    checkpoint: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A checkpoint of a log that enough witnesses have cosigned.

    Args:
        log: the log.
        size: its number of entries at that checkpoint.
        time: since when a quorum has cosigned it, seconds; 0 where nothing is kept.
        note: the checkpoint with its cosignatures; empty where nothing is kept.
    """

    log: Log
    size: int
    time: int
    note: bytes


@dataclass(frozen=True, slots=True)
class AccessIndex:
    """What an access entry is found by: copied from its leaf, an index only, never the truth.

    Args:
        time: the entry's, milliseconds.
        kind: an `AccessKind`.
        code: a `Code`.
        requester: a party's name, or empty.
        provider: a party's name, or empty.
        request_id: 16 bytes, or empty.
        request_digest: 32 bytes, or empty.
        response_digest: 32 bytes, or empty.
    """

    time: int
    kind: int
    code: int
    requester: str
    provider: str
    request_id: bytes
    request_digest: bytes
    response_digest: bytes

    @property
    def settles(self) -> bool:
        """Whether the entry settles an answer: released or unreleased (DESIGN section 2)."""
        return self.kind in (RELEASED, UNRELEASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessQuery:
    """What a search of the access log asks for; all of it must hold, and None is no condition.

    Args:
        since, until: milliseconds, inclusive.
        kind: an `AccessKind`.
        code: a `Code`; every summary fits too, for its leaf alone says which codes it counts.
        requester, provider: a party's name; it covers others by whole segments.
        request_id: 16 bytes.
    """

    since: int | None = None
    until: int | None = None
    kind: int | None = None
    code: int | None = None
    requester: str | None = None
    provider: str | None = None
    request_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to append: its leaf, what stands beside it, and for the access log what it is found by."""

    leaf: bytes
    body: bytes
    index: AccessIndex | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries to append to one log at once, with the nodes that they complete and the head that they lead to.

    Args:
        log: the log.
        start: the size that the log must have; the first entry's index.
        entries: in their order; none at all to put another checkpoint in place of the present one.
        nodes: every node that becomes complete, in the order of `Frontier.extend`.
        head: the head afterwards.

    Raises:
        ValueError: the head, the entries and the nodes do not fit each other.
    """

    log: Log
    start: int
    entries: tuple[NewEntry, ...]
    nodes: tuple[Node, ...]
    head: Head

    def __post_init__(self) -> None:
        size = self.start + len(self.entries)
        if (self.head.log, self.head.size) != (self.log, size):
            raise ValueError(f"{len(self.entries)} entries from {self.start} do not lead to {self.head.size}")
        # A node left out could never be added later, and every proof over it would fail.
        places = range(node_place(0, self.start), node_place(0, size))
        if [node_place(node.level, node.index) for node in self.nodes] != list(places):
            raise ValueError(f"the nodes are not those that complete a tree from {self.start} to {size}")


def node_place(level: int, index: int) -> int:
    """Numbers the complete nodes of a tree in the order in which they become complete, from 0."""
    last_leaf = ((index + 1) << level) - 1
    return 2 * last_leaf - last_leaf.bit_count() + level


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it was appended."""

    index: int
    leaf: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A request id that a committed answer used up (DESIGN section 6)."""

    requester: str
    request_id: bytes
    request_digest: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Release:
    """A request's one released entry, and the digest of the message whose answer it released, as its index has it."""

    index: int
    request_digest: bytes


class Transaction(Protocol):
    """The append lock, held. One thread uses it, inside `LogStore.locked`, and nobody after that.

    It sees what it appended itself. After any error it is spoiled: every further call raises that error again, and so
    does leaving `locked`, even where the error was caught.
    """

    def heads(self) -> Mapping[Log, Head]:
        """Reads both heads. No other append can move them while the lock is held."""

    def append(self, batch: Batch) -> None:
        """Adds a batch to the transaction; it is not durable and nobody else sees it before `locked` is left.

        Not checked: hashes, signatures, that the index was copied right, that time does not decrease.

        Raises:
            HeadMovedError: the log's size is not `batch.start`.
            ReleasedTwiceError: a released entry's (requester, request id) has one already, here or in this batch.
            StoreFatalError: the database failed.
        """

    def erase(self, log: Log, first: int, end: int) -> None:
        """Blanks the bodies of the entries from `first` to before `end`, those that this transaction appended too.

        Leaves, nodes, heads and what entries are found by stay as they are; what does not exist is passed over.

        Raises:
            StoreFatalError: the database failed.
        """

    def released(self, requester: str, request_id: bytes) -> Release | None:
        """Finds a request's one released entry, or None."""

    def settled(self, response_digest: bytes) -> tuple[int, ...]:
        """Finds the indexes of the entries that settle an answer, the released one first, then by index."""

    def settlements(self, response_digests: Iterable[bytes]) -> Mapping[bytes, tuple[int, ...]]:
        """Does `settled` for many digests in one query; a digest without entries has no key."""

    def keep_cosigned(self, witnessed: Witnessed) -> None:
        """Keeps a cosigned checkpoint in place of the one before, unless that one is larger, or as large and later.

        Not checked: signatures, and that the log has this size.

        Raises:
            StoreFatalError: the database failed.
        """


class LogStore(Protocol):
    """Both logs of one exchange, in one database, under one append lock.

    Durability: when `locked` is left normally, its batches are on stable storage and survive a crash of the process
    or the machine. Before that, nothing of them may leave the process.

    Concurrency: every method may be called from any thread and blocks it. Appends are serialised. Reads run beside an
    append and beside each other, and never wait for one. One process has a store open; any number if `is_shared`.

    Ordering: the entries of a log are contiguous from 0, in the order they were appended, and never change, but that a
    body may be erased. A read sees
    only committed batches, each of them whole: once a head of size n is read, every entry and every complete node below
    n can be read. Two reads may see different sizes, the later one never the smaller.

    Not promised: that leaves, nodes and checkpoints are what they claim to be. An exclusive owner of the file can
    rewrite all of them; that is for checkpoints and auditors to find.

    Raises:
        StoreBusyError: from any method, when a lock or a connection was not free within 5 seconds.
        StoreLostError: from any method of a store that is a server's; the next call connects again.
        StoreFatalError: from any method, when the database failed.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other processes may append to the same logs."""

    def wait_for_others(self, seconds: float) -> None:
        """Waits until another process may have appended to the directory log, at most so long.

        It may return for no reason, or miss an append: read the head after it. One thread; `close` waits for it.
        """

    def locked(self) -> AbstractContextManager[Transaction]:
        """Takes the append lock; commits when the block is left normally, rolls back when it raises.

        After a StoreFatalError, or a failed commit that this engine cannot look into, it raises StoreFatalError until
        the store is opened again, while reads go on.

        Raises:
            StoreBusyError: the lock was not free within 5 seconds; not reentrant.
            CommitUnknownError: on leaving, the commit failed, and only the head will tell whether it happened.
            StoreFatalError: the database failed, now or earlier.
        """

    def head(self, log: Log) -> Head:
        """Reads a log's last committed head."""

    def cosigned(self, log: Log) -> Witnessed:
        """Reads the last cosigned checkpoint that was kept; an empty one before the first."""

    def entries(self, log: Log, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """Reads entries that follow each other, from index `start` on.

        Args:
            log: the log.
            start: index of the first, from 0; at or past the head nothing is returned.
            max_bytes: bound on leaves and bodies together; a first entry is returned even when it alone is larger.
            max_count: bound on their number.
        """

    def entry(self, log: Log, index: int) -> StoredEntry | None:
        """Reads one entry, or None past the head."""

    def nodes(self, log: Log, ids: Sequence[NodeId]) -> tuple[bytes, ...]:
        """Reads the hashes of complete nodes in the order asked for, all in one query.

        Raises:
            NodeMissingError: one of them is not stored.
        """

    def released(self, requester: str, request_id: bytes) -> StoredEntry | None:
        """Reads a request's one released entry, or None."""

    def settled(self, response_digest: bytes) -> tuple[StoredEntry, ...]:
        """Reads the entries that settle an answer, the released one first, then by index."""

    def taken_since(self, time: int) -> Iterator[Taken]:
        """Iterates over the released and unreleased entries of this time (milliseconds) or later, by time.

        Reads in pages, so it holds nothing open between two items. What was committed before the call is not missed;
        what is committed meanwhile may be.
        """

    def own(self, party: str, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """Reads access entries whose requester or provider is this party or lies under it, by index.

        Args:
            party: a party's name; it covers others by whole segments.
            start: no index below this one.
            max_bytes: as for `entries`.
            max_count: as for `entries`.
        """

    def search(
        self, query: AccessQuery, start: int, stop: int, max_bytes: int, max_count: int
    ) -> tuple[StoredEntry, ...]:
        """Reads access entries that fit, by their index columns, in the log's order.

        It may look at every entry from `start` to before `stop`: the caller bounds what that costs.

        Args:
            query: the conditions.
            start: no index below this one.
            stop: nor this one or any after it.
            max_bytes: as for `entries`.
            max_count: as for `entries`.
        """

    def close(self) -> None:
        """Gives back files and locks; waits for a running append. No other call may be running or follow."""
