"""What was used of agreements, counted from released entries (DESIGN section 6, check 8).

The access log is the only truth of it: a count is read from there when it is first asked for, and goes on with every
batch. Under the append lock it is exact, whichever brokers share the database, as long as the bodies are kept: of an
entry whose body was erased nobody can say any more under which agreement it was released.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from exchange.core.decision import UNUSED, Usage
from exchange.core.directory import Directory
from exchange.core.envelope import REQUEST, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.core.usage import Tally
from exchange.core.wire import decode
from exchange.store.ports import RELEASED, AccessQuery, Log, LogStore, StoredEntry
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf
from exchange.v1.request_pb2 import RequestHeader, Sealed

KEPT = 10_000
"""Counts in memory; the one that was asked for longest ago gives way."""

_PAGE_BYTES = 8 * 1024 * 1024
_PAGE = 1000

Key = tuple[bytes, Party]
"""Object id of an agreement, and the requester's department."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A tally of the entries before a place in the access log."""

    size: int
    tally: Tally


_NOTHING = Counted(0, Tally())


class UsageCounts:
    """Counts of what was released, by agreement and department. All but `glance` and `count` is the writer's thread's.

    Args:
        store: the logs.
        writer: its one thread, which appends.
        directory: the directory at the last durable head.
    """

    def __init__(self, store: LogStore, writer: Executor, directory: Callable[[], Directory]) -> None:
        self._store = store
        self._writer = writer
        self._directory = directory
        self._counts: OrderedDict[Key, Counted] = OrderedDict()
        self._pending: list[tuple[Key, int]] = []
        self._size = 0

    def glance(self, agreement: AgreementTerms, department: Party, now: int) -> Usage:
        """What is known to be used, without the lock: never too much, and too little only for a moment."""
        counted = self._counts.get((agreement.object_id, department))
        return counted.tally.usage(now) if counted is not None else UNUSED

    async def count(self, agreement: AgreementTerms, department: Party) -> None:
        """Have counted what was used of an agreement, unless it is; the long part beside the appends.

        Raises:
            StoreError: the log cannot be read.
        """
        key = (agreement.object_id, department)
        if key not in self._counts:
            counted = await asyncio.to_thread(self._read, key, _NOTHING)
            await asyncio.get_running_loop().run_in_executor(self._writer, self._keep, key, counted)

    def _keep(self, key: Key, counted: Counted) -> None:
        """Take over what was read, with what has come since."""
        if key not in self._counts:
            self._counts[key] = self._read(key, counted)
        while len(self._counts) > KEPT:
            self._counts.popitem(last=False)

    def begin(self, size: int) -> None:
        """A batch is drawn up over an access log of this size; other brokers may have appended since the last one.

        Raises:
            StoreError: it cannot be read.
        """
        self._pending.clear()
        if size > self._size and self._counts:
            for entry in self._entries(self._size, size):
                self._count(entry)
        self._size = size

    def used(self, agreement: AgreementTerms, department: Party, now: int) -> Usage:
        """What was used, with what this batch releases; exact under the lock.

        Raises:
            StoreError: it cannot be read.
        """
        key = (agreement.object_id, department)
        if key not in self._counts:
            self._keep(key, _NOTHING)
        self._counts.move_to_end(key)
        tally = self._counts[key].tally
        for other, time in self._pending:
            tally = tally.counted(time) if other == key else tally
        return tally.usage(now)

    def release(self, counted: tuple[AgreementTerms, Party] | None, now: int) -> None:
        """This batch has an entry, which releases an answer under an agreement to a department; or None."""
        if counted is not None:
            self._pending.append(((counted[0].object_id, counted[1]), now))

    def commit(self, size: int) -> None:
        """The batch is durable: the access log has this size, and nobody else has appended to it."""
        for key, time in self._pending:
            counted = self._counts.get(key)
            if counted is not None:
                self._counts[key] = Counted(size, counted.tally.counted(time))
        self._pending.clear()
        self._size = size

    def _count(self, entry: StoredEntry) -> None:
        leaf = AccessLeaf.FromString(entry.leaf)
        key = self._key(leaf, entry)
        counted = self._counts.get(key) if key is not None else None
        if key is not None and counted is not None and entry.index >= counted.size:
            self._counts[key] = Counted(entry.index + 1, counted.tally.counted(leaf.time))

    def _read(self, key: Key, counted: Counted) -> Counted:
        """Go on from a count to the log's end, by the entries of one department alone."""
        stop, tally = self._store.head(Log.ACCESS).size, counted.tally
        query = AccessQuery(kind=RELEASED, requester=str(key[1]))
        start = counted.size
        while page := self._store.search(query, start, stop, _PAGE_BYTES, _PAGE):
            for entry in page:
                leaf = AccessLeaf.FromString(entry.leaf)
                tally = tally.counted(leaf.time) if self._key(leaf, entry) == key else tally
            start = page[-1].index + 1
        return Counted(stop, tally)

    def _entries(self, start: int, stop: int) -> Iterator[StoredEntry]:
        while start < stop:
            page = self._store.entries(Log.ACCESS, start, _PAGE_BYTES, min(_PAGE, stop - start))
            yield from page
            start = page[-1].index + 1

    def _key(self, leaf: AccessLeaf, entry: StoredEntry) -> Key | None:
        """Of which agreement and department a released entry is; None for any other, or without its body."""
        if leaf.kind != AccessKind.ACCESS_KIND_RELEASED:
            return None
        try:
            request = decode_envelope(AccessBody.FromString(entry.body).request, REQUEST)
            header = decode(RequestHeader, decode(Sealed, request.payload).header)
            department = Party.parse(leaf.requester).own_department
        except CoreError:
            return None
        agreement = self._directory().agreement(header.agreement)
        return (agreement.object_id, department) if agreement is not None else None
