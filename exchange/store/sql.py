"""The log store in a SQL database; what depends on the engine is left to its `Database`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, Executable, Row
from sqlalchemy.exc import SQLAlchemyError

from exchange.core.merkle import MAX_SIZE, NodeId
from exchange.store import schema
from exchange.store.engine import WAIT_SECONDS, Database
from exchange.store.paging import fitting
from exchange.store.ports import (
    AccessQuery,
    Batch,
    CommitUnknownError,
    Head,
    HeadMovedError,
    Log,
    NewEntry,
    NodeMissingError,
    Release,
    StoreBusyError,
    StoredEntry,
    StoreError,
    StoreFatalError,
    Taken,
    Witnessed,
    node_place,
)
from exchange.store.postgres import PostgresDatabase
from exchange.store.searching import search_access
from exchange.store.sqlite import SqliteDatabase

_TAKEN_PAGE: Final = 5000
_Row = Row[*tuple[Any, ...]]


class SqlLogStore:
    """Both logs in a SQL database; see `LogStore` for what it promises. Made by `create` or `open`.

    A store is named by the path of a SQLite file, or by the URL of a PostgreSQL database: postgresql://...
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._append_lock = Lock()
        # Why nothing more is appended. A failed fsync, above all, is not tried again: the pages that it should have
        # written may be marked clean by then.
        self._failure: str | None = None

    @classmethod
    def create(cls, name: Path | str) -> "SqlLogStore":
        """Makes an empty store and opens it.

        Args:
            name: of a file in a folder that exists, -wal, -shm and .lock stand beside it; or of an empty database.

        Raises:
            StoreOpenError: something is there already, or in use, or would lose what it is told to keep.
            StoreLostError: the database server cannot be reached.
            StoreFatalError: the database failed.
        """
        return cls(opened_database(name, create=True))

    @classmethod
    def open(cls, name: Path | str) -> "SqlLogStore":
        """Opens a store: a SQLite file for this process alone, a PostgreSQL database beside any number of others.

        Raises:
            StoreMissingError: there is none.
            StoreOpenError: it is of another version, in use, or would lose what it is told to keep.
            StoreLostError: the database server cannot be reached.
            StoreFatalError: the database failed.
        """
        return cls(opened_database(name, create=False))

    @property
    def is_shared(self) -> bool:
        """See `LogStore.is_shared`."""
        return self._database.is_shared

    def wait_for_others(self, seconds: float) -> None:
        """See `LogStore.wait_for_others`."""
        self._database.wait(seconds)

    @contextmanager
    def locked(self) -> "Iterator[_SqlTransaction]":
        """See `LogStore.locked`."""
        if not self._append_lock.acquire(timeout=WAIT_SECONDS):
            raise StoreBusyError("the append lock was not free in time")
        try:
            with self._remembering_failure():
                yield from self._transact()
        finally:
            self._append_lock.release()

    @contextmanager
    def _remembering_failure(self) -> Iterator[None]:
        if self._failure is not None:
            raise StoreFatalError(f"nothing is appended until the store is opened again: {self._failure}")
        try:
            yield
        except CommitUnknownError as error:
            if self._database.forgets_commits:
                self._failure = str(error)
            raise
        except StoreFatalError as error:
            self._failure = str(error)
            raise

    def _transact(self) -> "Iterator[_SqlTransaction]":
        with self._database.errors():
            connection = self._database.begin()
        try:
            transaction = _SqlTransaction(connection, self._database)
            yield transaction
            transaction.check()
        except BaseException:
            self._roll_back(connection)
            raise
        self._commit(connection)

    def _commit(self, connection: Connection) -> None:
        try:
            # THE COMMIT POINT, of both logs. Before, nothing of the transaction may leave the process; after, nothing
            # can take it back.
            self._database.commit(connection)
        except CommitUnknownError:
            self._roll_back(connection)
            raise
        self._database.end(connection)

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except SQLAlchemyError:
            self._failure = self._database.abandon(connection) or self._failure
        else:
            self._database.end(connection)

    def head(self, log: Log) -> Head:
        """See `LogStore.head`."""
        return _head(self.rows(schema.HEAD, of_log=log.value)[0])

    def cosigned(self, log: Log) -> Witnessed:
        """See `LogStore.cosigned`."""
        row = self.rows(schema.COSIGNED_OF, of_log=log.value)[0]
        return Witnessed(Log(row.log), row.size, row.time, row.note)

    def entries(self, log: Log, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """See `LogStore.entries`."""
        if start > MAX_SIZE or max_count <= 0:
            return ()
        with self._reading() as connection:
            rows = connection.execute(schema.ENTRIES_FROM, {"of_log": log.value, "start": start, "count": max_count})
            return _fitting(rows, max_bytes)

    def entry(self, log: Log, index: int) -> StoredEntry | None:
        """See `LogStore.entry`."""
        if index > MAX_SIZE:
            return None
        return next((StoredEntry(*row) for row in self.rows(schema.ENTRY, of_log=log.value, index=index)), None)

    def nodes(self, log: Log, ids: Sequence[NodeId]) -> tuple[bytes, ...]:
        """See `LogStore.nodes`."""
        places = [node_place(node.level, node.index) for node in ids]
        storable = [place for place in places if place <= MAX_SIZE]
        hashes = {row.place: row.hash for row in self.rows(schema.NODES_AT, of_log=log.value, places=storable)}
        try:
            return tuple(hashes[place] for place in places)
        except KeyError:
            raise NodeMissingError(f"a node of the {log} log is not stored") from None

    def released(self, requester: str, request_id: bytes) -> StoredEntry | None:
        """See `LogStore.released`."""
        with self._reading() as connection:
            found = _released(connection, requester, request_id)
            return None if found is None else _access_entries(connection, (found.index,))[0]

    def settled(self, response_digest: bytes) -> tuple[StoredEntry, ...]:
        """See `LogStore.settled`."""
        with self._reading() as connection:
            indexes = _settlements(connection, (response_digest,)).get(response_digest, ())
            found = {entry.index: entry for entry in _access_entries(connection, indexes)}
        return tuple(found[index] for index in indexes)

    def taken_since(self, time: int) -> Iterator[Taken]:
        """See `LogStore.taken_since`."""
        last, index = time, -1
        while rows := self.rows(schema.TAKEN_AFTER, time=last, index=index, count=_TAKEN_PAGE):
            for row in rows:
                yield Taken(row.requester, row.request_id, row.request_digest, row.time)
            last, index = rows[-1].time, rows[-1].idx

    def own(self, party: str, start: int, max_bytes: int, max_count: int) -> tuple[StoredEntry, ...]:
        """See `LogStore.own`."""
        if not party or start > MAX_SIZE or max_count <= 0:
            return ()
        with self._reading() as connection:
            indexes = _own_indexes(connection, party, start, max_count)
            rows = connection.execute(schema.ACCESS_ENTRIES, {"indexes": sorted(indexes)[:max_count]})
            return _fitting(rows, max_bytes)

    def search(
        self, query: AccessQuery, start: int, stop: int, max_bytes: int, max_count: int
    ) -> tuple[StoredEntry, ...]:
        """See `LogStore.search`."""
        if start > MAX_SIZE or max_count <= 0:
            return ()
        with self._reading() as connection:
            rows = search_access(connection, query, range(start, min(stop, MAX_SIZE)), max_count)
            return _fitting(rows, max_bytes)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.errors(), self._database.readers.connect() as connection:
            yield connection

    def rows(self, statement: Executable, /, **parameters: object) -> Sequence[_Row]:
        """What a statement reads of a table beside the logs, in a transaction of its own."""
        with self._reading() as connection:
            return connection.execute(statement, parameters).all()

    def close(self) -> None:
        """See `LogStore.close`."""
        with self._append_lock:
            self._failure = self._failure or "the store is closed"
            self._database.close()


class _SqlTransaction:
    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._error: StoreError | None = None

    def heads(self) -> Mapping[Log, Head]:
        with self._spoiling():
            heads = map(_head, self._connection.execute(schema.HEADS_OF_ALL).all())
            return {head.log: head for head in heads}

    def append(self, batch: Batch) -> None:
        with self._spoiling():
            self._move_head(batch)
            self._add(batch)

    def _move_head(self, batch: Batch) -> None:
        sizes = {"of_log": batch.log.value, "old_size": batch.start, "new_size": batch.head.size}
        rest = {"note": batch.head.checkpoint, "last_time": batch.head.time}
        if self._connection.execute(schema.MOVE_HEAD, sizes | rest).rowcount != 1:
            raise HeadMovedError(f"the {batch.log} log is no longer at {batch.start}")

    def _add(self, batch: Batch) -> None:
        if batch.entries:
            log, first = batch.log.value, node_place(0, batch.start)
            entries = [_entry_row(log, index, entry) for index, entry in enumerate(batch.entries, batch.start)]
            nodes = [(log, place, node.hash) for place, node in enumerate(batch.nodes, first)]
            self._database.add_rows(self._connection, schema.ENTRIES, entries)
            self._database.add_rows(self._connection, schema.NODES, nodes)
            if batch.log is Log.DIRECTORY:
                self._database.announce(self._connection)

    def erase(self, log: Log, first: int, end: int) -> None:
        with self._spoiling():
            bounds = {"of_log": log, "first": min(first, MAX_SIZE), "end": min(end, MAX_SIZE)}
            self._connection.execute(schema.ERASE, bounds)

    def released(self, requester: str, request_id: bytes) -> Release | None:
        with self._spoiling():
            return _released(self._connection, requester, request_id)

    def settled(self, response_digest: bytes) -> tuple[int, ...]:
        return self.settlements((response_digest,)).get(response_digest, ())

    def settlements(self, response_digests: Iterable[bytes]) -> Mapping[bytes, tuple[int, ...]]:
        with self._spoiling():
            return _settlements(self._connection, response_digests)

    def keep_cosigned(self, witnessed: Witnessed) -> None:
        kept = {"kept_size": witnessed.size, "kept_time": witnessed.time, "kept_note": witnessed.note}
        with self._spoiling():
            self._connection.execute(schema.KEEP_COSIGNED, {"of_log": witnessed.log.value} | kept)

    def rows(self, statement: Executable, /, **parameters: object) -> Sequence[_Row]:
        with self._spoiling():
            return self._connection.execute(statement, parameters).all()

    def change(self, statement: Executable, /, **parameters: object) -> None:
        """Writes to a table beside the logs, in the same transaction."""
        with self._spoiling():
            self._connection.execute(statement, parameters)

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    @contextmanager
    def _spoiling(self) -> Iterator[None]:
        # Half a batch may stand in the transaction after an error: it must never be committed.
        self.check()
        try:
            with self._database.errors():
                yield
        except StoreError as error:
            self._error = error
            raise


def opened_database(name: Path | str, *, create: bool) -> Database:
    """The database of a store; see `SqlLogStore.create` and `SqlLogStore.open`."""
    if isinstance(name, Path):
        return SqliteDatabase.opened(name, create=create)
    return PostgresDatabase.opened(name, create=create)


def _head(row: _Row) -> Head:
    return Head(Log(row.log), row.size, row.checkpoint, row.time)


def _entry_row(log: str, position: int, entry: NewEntry) -> tuple[object, ...]:
    """The values of a row of ENTRIES, in the order of its columns."""
    index = entry.index
    if index is None:
        return log, position, None, None, None, None, None, None, None, None, entry.leaf, entry.body
    return (
        log,
        position,
        index.time,
        index.kind,
        index.code,
        index.requester,
        index.provider,
        index.request_id,
        index.request_digest,
        index.response_digest,
        entry.leaf,
        entry.body,
    )


def _released(connection: Connection, requester: str, request_id: bytes) -> Release | None:
    row = connection.execute(schema.RELEASE, {"requester": requester, "request_id": request_id}).first()
    return None if row is None else Release(row.idx, row.request_digest)


def _settlements(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, tuple[int, ...]]:
    found: dict[bytes, tuple[int, ...]] = {}
    for digest, index in connection.execute(schema.SETTLEMENTS, {"digests": [d for d in digests if d]}):
        found[digest] = (*found.get(digest, ()), index)
    return found


def _access_entries(connection: Connection, indexes: Sequence[int]) -> list[StoredEntry]:
    return [StoredEntry(*row) for row in connection.execute(schema.ACCESS_ENTRIES, {"indexes": indexes})]


def _own_indexes(connection: Connection, party: str, start: int, count: int) -> set[int]:
    # Every name under `party` lies between "party/" and "party0", for "0" follows "/"; no pattern, no wildcard.
    below = {"low": f"{party}/", "high": f"{party}0"}
    indexes: set[int] = set()
    for names_between, indexes_of in schema.PARTIES:
        for name in (party, *connection.scalars(names_between, below)):
            indexes.update(connection.scalars(indexes_of, {"name": name, "start": start, "count": count}))
    return indexes


def _fitting(rows: Iterable[_Row], max_bytes: int) -> tuple[StoredEntry, ...]:
    return fitting((StoredEntry(*row) for row in rows), max_bytes)
