"""A store's database, read and mended row by row: what `exchange log` and `exchange status` need, and no broker ever.

Everything is read in pages by key, so memory does not grow with the logs, and what was read may be written again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    cast,
    func,
    inspect,
    literal,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NullType

from exchange.store.engine import Database
from exchange.store.ports import AccessIndex, Head, Log
from exchange.store.schema import ENTRIES, HEADS, NODES
from exchange.store.sql import opened_database
from exchange.store.upkeep import Upkeep, upkeep_of, watched

COLUMNS: Final = tuple(field.name for field in fields(AccessIndex))
"""The index columns of an access entry; those of a directory entry are NULL."""

_WINDOW: Final = 50_000
_E, _N, _H = ENTRIES.c, NODES.c, HEADS.c


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """As the driver gives it: in a damaged file a column may hold a value of any type."""
    return type_coerce(column, NullType())


def _bytes(column: Column[Any]) -> ColumnElement[bytes]:
    return func.coalesce(cast(column, LargeBinary), literal(b"", LargeBinary), type_=NullType())


_HEADS: Final = select(_raw(_H.log), cast(_H.size, BigInteger), _bytes(_H.checkpoint), cast(_H.time, BigInteger))
_ROWS: Final = select(_E.idx, _bytes(_E.leaf), _bytes(_E.body), *(_raw(_E[name]) for name in COLUMNS))
_SET_NODE: Final = text(
    "INSERT INTO nodes (log, place, hash) VALUES (:log, :place, :hash)"
    " ON CONFLICT (log, place) DO UPDATE SET hash = excluded.hash"
)


@dataclass(frozen=True, slots=True)
class InspectedRow:
    """A row of a log.

    Args:
        index: the entry's.
        leaf, body: its bytes.
        columns: what its index says, in the order of `COLUMNS`.
    """

    index: int
    leaf: bytes
    body: bytes
    columns: tuple[object, ...]


class Inspection:
    """The rows of a store as one connection sees them. Each method raises `StoreError` where the database failed.

    Args:
        connection: to read from; to write to where it was given by `InspectedStore.mending`.
        upkeep: what is the engine's own.
    """

    def __init__(self, connection: Connection, upkeep: Upkeep) -> None:
        self._connection = connection
        self._upkeep = upkeep

    @classmethod
    @contextmanager
    def watched(cls, name: Path | str) -> "Iterator[Inspection]":
        """Open a store for reading alone, whether or not brokers have it open; what they append is seen.

        Args:
            name: the path of a SQLite file, or the URL of a PostgreSQL database.

        Raises:
            StoreOpenError: it is missing, or of another version.
            StoreLostError: the database server cannot be reached.
        """
        with watched(name) as upkeep, upkeep.errors(), upkeep.readers.connect() as connection:
            yield cls(connection, upkeep)

    def since(self, time: int) -> int:
        """The index of the first access entry of a time (milliseconds) or later, by the index columns; else the end."""
        first, end = 0, self.heads()[Log.ACCESS].size
        while first < end:
            middle = (first + end) // 2
            found = self.time_of(middle)
            first, end = (middle + 1, end) if found is not None and found < time else (first, middle)
        return first

    def time_of(self, index: int) -> int | None:
        """The time of an access entry, by its index column, milliseconds; None where there is none."""
        time = self._connection.scalar(select(_E.time).where(_E.log == Log.ACCESS.value, _E.idx == index))
        return None if time is None else int(time)

    def kept(self, stop: int) -> Iterator[tuple[int, int]]:
        """The access entries below an index that still have their bodies, as first and end of those that follow."""
        first = end = -1
        for index in self._with_bodies(stop):
            if index != end:
                if first >= 0:
                    yield first, end
                first = index
            end = index + 1
        if first >= 0:
            yield first, end

    def _with_bodies(self, stop: int) -> Iterator[int]:
        for start in range(0, stop, _WINDOW):
            within = (_E.log == Log.ACCESS.value, _E.idx >= start, _E.idx < min(start + _WINDOW, stop))
            query = select(_E.idx).where(*within, func.length(_E.body) > 0).order_by(_E.idx)
            yield from self._connection.scalars(query)

    def size(self) -> int:
        """Bytes that the store takes on disk, nodes and indexes included."""
        return self._upkeep.size(self._connection)

    def free(self) -> int | None:
        """Bytes that its disk has left; None where only the database server's machine knows."""
        return self._upkeep.free()

    def damages(self) -> tuple[str, ...]:
        """What the engine itself finds wrong with its pages and indexes; nothing where all is well."""
        return tuple(f"{self._upkeep.name} says: {line}" for line in self._upkeep.damages(self._connection))

    def missing_indexes(self) -> tuple[str, ...]:
        """The indexes that the store's tables must have, and have not, or have otherwise."""
        stored = {index["name"]: index for index in inspect(self._connection).get_indexes(ENTRIES.name)}
        return tuple(sorted(str(index.name) for index in ENTRIES.indexes if not _is(index, stored.get(index.name))))

    def heads(self) -> Mapping[Log, Head]:
        """Where the logs end, as the database says; a log without a row is not in it."""
        known = {log.value: log for log in Log}
        rows = self._connection.execute(_HEADS).all()
        return {known[name]: Head(known[name], size, note, time) for name, size, note, time in rows if name in known}

    def count(self, log: Log) -> tuple[int, int]:
        """How many entries and nodes of a log are stored."""
        counts = (select(func.count()).select_from(table).where(table.c.log == log.value) for table in (ENTRIES, NODES))
        entries, nodes = (self._connection.scalars(query).one() for query in counts)
        return entries, nodes

    def rows(self, log: Log, start: int, count: int) -> list[InspectedRow]:
        """The first rows whose index is `start` or more, by index."""
        query = _ROWS.where(_E.log == log.value, _E.idx >= start).order_by(_E.idx).limit(count)
        found = self._connection.execute(query)
        return [InspectedRow(index, leaf, body, tuple(columns)) for index, leaf, body, *columns in found]

    def nodes(self, log: Log, first: int, stop: int) -> dict[int, bytes]:
        """The stored hashes from place `first` to before `stop`."""
        query = select(_N.place, _bytes(_N.hash)).where(_N.log == log.value, _N.place >= first, _N.place < stop)
        return {row.place: row[1] for row in self._connection.execute(query)}

    def set_nodes(self, log: Log, hashes: Mapping[int, bytes]) -> None:
        """Write hashes by their places, in place of what stands there."""
        rows = [{"log": log.value, "place": place, "hash": hash} for place, hash in hashes.items()]
        if rows:
            self._connection.execute(_SET_NODE, rows)

    def drop_nodes(self, log: Log, start: int) -> None:
        """Remove every node from a place on: no tree of this log has it."""
        self._connection.execute(NODES.delete().where(_N.log == log.value, _N.place >= start))

    def set_columns(self, log: Log, index: int, columns: Sequence[object]) -> None:
        """Write what the index says of an entry; leaf and body stay as they are."""
        row = update(ENTRIES).where(_E.log == log.value, _E.idx == index)
        self._connection.execute(row.values(dict(zip(COLUMNS, columns, strict=True))))

    def rebuild_indexes(self) -> None:
        """Build every index again, out of the rows, where the engine finds one damaged."""
        if self.damages():
            self._upkeep.rebuild_indexes(self._connection)

    def restore_indexes(self) -> None:
        """Make the indexes that are missing, or are others."""
        missing = self.missing_indexes()
        for index in ENTRIES.indexes:
            if index.name in missing:
                index.drop(self._connection, checkfirst=True)
                index.create(self._connection)


class InspectedStore:
    """A store that may be mended.

    Args:
        database: opened for writing.
        upkeep: what is the engine's own.
    """

    def __init__(self, database: Database, upkeep: Upkeep) -> None:
        self._database = database
        self._upkeep = upkeep

    @classmethod
    @contextmanager
    def opened(cls, name: Path | str) -> "Iterator[InspectedStore]":
        """Open a store: a SQLite file for this process alone, a PostgreSQL database beside its brokers.

        Args:
            name: as `Inspection.watched`.

        Raises:
            StoreOpenError: it is missing, of another version, or a SQLite file in use: its broker runs.
            StoreLostError: the database server cannot be reached.
        """
        database = opened_database(name, create=False)
        try:
            yield cls(database, upkeep_of(name, database.readers))
        finally:
            database.close()

    @contextmanager
    def snapshot(self) -> Iterator[Inspection]:
        """One state of it, to be read; brokers go on beside it."""
        with self._upkeep.errors(), self._upkeep.snapshot() as connection:
            yield Inspection(connection, self._upkeep)

    @contextmanager
    def mending(self) -> Iterator[Inspection]:
        """One transaction under the append lock: all that is written in it is kept, or nothing; no broker appends."""
        with self._upkeep.errors():
            connection = self._database.begin()
            try:
                yield Inspection(connection, self._upkeep)
            except BaseException:
                self._roll_back(connection)
                raise
            self._database.commit(connection)
            self._database.end(connection)

    def _roll_back(self, connection: Connection) -> None:
        with suppress(SQLAlchemyError):
            connection.rollback()
            self._database.end(connection)
            return
        self._database.abandon(connection)


def _is(index: Index, stored: Any) -> bool:
    if stored is None:
        return False
    names = [column.name for column in index.columns]
    return (stored["column_names"], bool(stored["unique"])) == (names, bool(index.unique))
