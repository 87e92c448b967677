"""An in-memory log store with the promises of the port, but for durability: for unit tests."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Event, Lock
from typing import Final, TypeVar

from exchange.core.merkle import NodeId
from exchange.store.paging import fitting
from exchange.store.ports import (
    RELEASED,
    SUMMARY,
    AccessIndex,
    AccessQuery,
    Batch,
    Head,
    HeadMovedError,
    Log,
    NewEntry,
    NodeMissingError,
    Release,
    ReleasedTwiceError,
    StoreBusyError,
    StoredEntry,
    StoreError,
    StoreFatalError,
    Taken,
    Witnessed,
)

_LOCK_SECONDS = 5.0
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _Content:
    """What is stored, in maps that a transaction lays its own over."""

    heads: MutableMapping[Log, Head] = field(default_factory=dict)
    entries: MutableMapping[tuple[Log, int], NewEntry] = field(default_factory=dict)
    nodes: MutableMapping[tuple[Log, NodeId], bytes] = field(default_factory=dict)
    released: MutableMapping[tuple[str, bytes], int] = field(default_factory=dict)
    settled: MutableMapping[bytes, tuple[int, ...]] = field(default_factory=dict)
    cosigned: MutableMapping[Log, Witnessed] = field(default_factory=dict)

    def overlaid(self, over: "_Content") -> "_Content":
        return _Content(
            ChainMap(over.heads, self.heads),
            ChainMap(over.entries, self.entries),
            ChainMap(over.nodes, self.nodes),
            ChainMap(over.released, self.released),
            ChainMap(over.settled, self.settled),
            ChainMap(over.cosigned, self.cosigned),
        )

    def update(self, over: "_Content") -> None:
        self.heads.update(over.heads)
        self.entries.update(over.entries)
        self.nodes.update(over.nodes)
        self.released.update(over.released)
        self.settled.update(over.settled)
        self.cosigned.update(over.cosigned)

    def add(self, batch: Batch) -> None:
        if self.heads[batch.log].size != batch.start:
            raise HeadMovedError(f"the {batch.log} log is no longer at {batch.start}")
        self.heads[batch.log] = batch.head
        self.nodes.update({(batch.log, NodeId(node.level, node.index)): node.hash for node in batch.nodes})
        for position, entry in enumerate(batch.entries, batch.start):
            self.entries[batch.log, position] = entry
            if entry.index is not None and entry.index.settles:
                self._settle(entry.index, position)

    def erase(self, log: Log, first: int, end: int) -> None:
        for position in range(first, min(end, self.heads[log].size)):
            self.entries[log, position] = replace(self.entries[log, position], body=b"")

    def _settle(self, index: AccessIndex, position: int) -> None:
        first = index.kind == RELEASED
        if first and self.released.setdefault((index.requester, index.request_id), position) != position:
            raise ReleasedTwiceError("the request already has its released entry")
        if index.response_digest:
            others = self.settled.get(index.response_digest, ())
            # Where another request has a released entry for the same answer, the earlier one stands first.
            place = sum(self._is_released(other) for other in others) if first else len(others)
            self.settled[index.response_digest] = (*others[:place], position, *others[place:])

    def _is_released(self, position: int) -> bool:
        index = self.entries[Log.ACCESS, position].index
        return index is not None and index.kind == RELEASED

    def stored(self, log: Log, position: int) -> StoredEntry | None:
        entry = self.entries.get((log, position))
        return None if entry is None else StoredEntry(position, entry.leaf, entry.body)

    def access_from(self, start: int) -> Iterator[tuple[int, AccessIndex]]:
        for position in range(start, self.heads[Log.ACCESS].size):
            index = self.entries[Log.ACCESS, position].index
            if index is not None:
                yield position, index


class _MemoryTransaction:
    def __init__(self, committed: _Content) -> None:
        self.added = _Content()
        self._content = committed.overlaid(self.added)
        self._error: StoreError | None = None

    def heads(self) -> Mapping[Log, Head]:
        self.check()
        return dict(self._content.heads)

    def append(self, batch: Batch) -> None:
        self.check()
        try:
            self._content.add(batch)
        except StoreError as error:
            self._error = error
            raise

    def erase(self, log: Log, first: int, end: int) -> None:
        self.check()
        self._content.erase(log, first, end)

    def released(self, requester: str, request_id: bytes) -> Release | None:
        self.check()
        position = self._content.released.get((requester, request_id))
        index = None if position is None else self._content.entries[Log.ACCESS, position].index
        return None if position is None or index is None else Release(position, index.request_digest)

    def settled(self, response_digest: bytes) -> tuple[int, ...]:
        self.check()
        return self._content.settled.get(response_digest, ())

    def settlements(self, response_digests: Iterable[bytes]) -> Mapping[bytes, tuple[int, ...]]:
        found = {digest: self.settled(digest) for digest in response_digests}
        return {digest: indexes for digest, indexes in found.items() if indexes}

    def keep_cosigned(self, witnessed: Witnessed) -> None:
        self.check()
        kept = self._content.cosigned.get(witnessed.log)
        if kept is None or (kept.size, kept.time) <= (witnessed.size, witnessed.time):
            self._content.cosigned[witnessed.log] = witnessed

    def check(self) -> None:
        if self._error is not None:
            raise self._error


class MemoryLogStore:
    """Both logs in dictionaries; see `LogStore` for what it promises. Nothing outlives the object."""

    is_shared: Final = False

    def __init__(self) -> None:
        self._content = _Content(heads={log: Head(log, 0, b"", 0) for log in Log})
        self._append_lock = Lock()
        self._read_lock = Lock()
        self._closed = Event()

    def wait_for_others(self, seconds: float) -> None:
        """See `LogStore.wait_for_others`."""
        self._closed.wait(seconds)

    @contextmanager
    def locked(self) -> Iterator[_MemoryTransaction]:
        """See `LogStore.locked`."""
        if not self._append_lock.acquire(timeout=_LOCK_SECONDS):
            raise StoreBusyError("the append lock was not free in time")
        try:
            if self._closed.is_set():
                raise StoreFatalError("the store is closed")
            transaction = _MemoryTransaction(self._content)
            yield transaction
            transaction.check()
            # The commit point: readers see the whole transaction from here on.
            self._read(lambda content: content.update(transaction.added))
        finally:
            self._append_lock.release()

    def _read(self, look: Callable[[_Content], _Found]) -> _Found:
        with self._read_lock:
            return look(self._content)

    def head(self, log: Log) -> Head:
        """See `LogStore.head`."""
        return self._read(lambda content: content.heads[log])

    def cosigned(self, log: Log) -> Witnessed:
        """See `LogStore.cosigned`."""
        return self._read(lambda content: content.cosigned.get(log, Witnessed(log, 0, 0, b"")))

    def entries(self, log: Log, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """See `LogStore.entries`."""
        end = min(self.head(log).size, start + max_count)
        found = (self.entry(log, position) for position in range(start, end))
        return fitting((entry for entry in found if entry is not None), max_bytes)

    def entry(self, log: Log, index: int) -> StoredEntry | None:
        """See `LogStore.entry`."""
        return self._read(lambda content: content.stored(log, index))

    def nodes(self, log: Log, ids: Sequence[NodeId]) -> tuple[bytes, ...]:
        """See `LogStore.nodes`."""
        try:
            return self._read(lambda content: tuple(content.nodes[log, node] for node in ids))
        except KeyError:
            raise NodeMissingError(f"a node of the {log} log is not stored") from None

    def released(self, requester: str, request_id: bytes) -> StoredEntry | None:
        """See `LogStore.released`."""
        index = self._read(lambda content: content.released.get((requester, request_id)))
        return None if index is None else self.entry(Log.ACCESS, index)

    def settled(self, response_digest: bytes) -> tuple[StoredEntry, ...]:
        """See `LogStore.settled`."""
        found = self._read(lambda content: content.settled.get(response_digest, ()))
        return tuple(entry for index in found if (entry := self.entry(Log.ACCESS, index)) is not None)

    def taken_since(self, time: int) -> Iterator[Taken]:
        """See `LogStore.taken_since`."""
        found = self._read(lambda content: [index for _, index in content.access_from(0)])
        taken = [index for index in found if index.settles and index.time >= time]
        for index in sorted(taken, key=lambda index: index.time):
            yield Taken(index.requester, index.request_id, index.request_digest, index.time)

    def own(self, party: str, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """See `LogStore.own`."""
        found = self._read(lambda content: list(content.access_from(max(start, 0))))
        own = (position for position, index in found if _concerns(index, party))
        entries = (self.entry(Log.ACCESS, position) for position in islice(own, max(max_count, 0)))
        return fitting((entry for entry in entries if entry is not None), max_bytes)

    def search(
        self, query: AccessQuery, start: int, stop: int, max_bytes: int, max_count: int
    ) -> tuple[StoredEntry, ...]:
        """See `LogStore.search`."""
        found = self._read(lambda content: list(content.access_from(max(start, 0))))
        fit = (position for position, index in found if position < stop and _fits(index, query))
        entries = (self.entry(Log.ACCESS, position) for position in islice(fit, max(max_count, 0)))
        return fitting((entry for entry in entries if entry is not None), max_bytes)

    def close(self) -> None:
        """See `LogStore.close`."""
        with self._append_lock:
            self._closed.set()


def _fits(index: AccessIndex, query: AccessQuery) -> bool:
    exact = ((index.kind, query.kind), (index.request_id, query.request_id))
    parties = ((index.requester, query.requester), (index.provider, query.provider))
    return (
        all(wanted is None or value == wanted for value, wanted in exact)
        and (query.code is None or index.code == query.code or index.kind == SUMMARY)
        and all(wanted is None or _covered(name, wanted) for name, wanted in parties)
        and (query.since is None or index.time >= query.since)
        and (query.until is None or index.time <= query.until)
    )


def _covered(name: str, party: str) -> bool:
    return f"{name}/".startswith(f"{party}/")


def _concerns(index: AccessIndex, party: str) -> bool:
    names = (index.requester, index.provider)
    return any(name and _covered(name, party) for name in names)
