"""A stopped store's SQLite file, read and mended row by row: what `exchange log fsck` needs, and no broker ever.

Everything is read in pages by key, so memory does not grow with the logs, and what was read may be written again.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from exchange.store.ports import AccessIndex, Head, Log
from exchange.store.sqlite import exclusive_file, store_errors, watched_file

COLUMNS: Final = tuple(field.name for field in fields(AccessIndex))
"""The index columns of an access entry; those of a directory entry are NULL."""

_DAMAGES: Final = 20


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


class InspectedFile:
    """The file, for this process alone. Each method raises `StoreError` where the database failed."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[InspectedFile]":
        """Open the file of a stopped broker.

        Raises:
            StoreOpenError: it is missing, of another version, or in use: the broker runs.
        """
        with exclusive_file(path) as file:
            yield cls(file)

    @classmethod
    @contextmanager
    def watched(cls, path: Path) -> "Iterator[InspectedFile]":
        """Open the file for reading alone, whether or not the broker runs.

        Raises:
            StoreOpenError: it is missing, or of another version.
        """
        with watched_file(path) as file:
            yield cls(file)

    def since(self, time: int) -> int:
        """The index of the first access entry of a time (milliseconds) or later, by the index columns; else the end."""
        first, end = 0, self.heads()[Log.ACCESS].size
        while first < end:
            middle = (first + end) // 2
            query = "SELECT time FROM entries WHERE log = ? AND idx = ?"
            row = self._file.execute(query, (Log.ACCESS.value, middle)).fetchone()
            first, end = (middle + 1, end) if row is not None and row[0] < time else (first, middle)
        return first

    def time_of(self, index: int) -> int | None:
        """The time of an access entry, by its index column, milliseconds; None where there is none."""
        query = "SELECT time FROM entries WHERE log = ? AND idx = ?"
        row = self._file.execute(query, (Log.ACCESS.value, index)).fetchone()
        return int(row[0]) if row is not None and row[0] is not None else None

    def kept(self, stop: int) -> Iterator[tuple[int, int]]:
        """The access entries below an index that still have their bodies, as first and end of those that follow."""
        query = "SELECT idx FROM entries WHERE log = ? AND idx < ? AND length(body) > 0 ORDER BY idx"
        first = end = -1
        for (index,) in self._file.execute(query, (Log.ACCESS.value, stop)):
            if index != end:
                if first >= 0:
                    yield first, end
                first = index
            end = index + 1
        if first >= 0:
            yield first, end

    def damages(self) -> tuple[str, ...]:
        """What SQLite itself finds wrong with its pages and indexes, in its own words; nothing where all is well."""
        lines = [str(line) for (line,) in self._file.execute(f"PRAGMA integrity_check({_DAMAGES})")]
        return tuple(line for line in lines if line != "ok")

    def heads(self) -> Mapping[Log, Head]:
        """Where the logs end, as the file says; a log without a row is not in it."""
        rows = self._file.execute(
            "SELECT log, CAST(size AS INTEGER), CAST(checkpoint AS BLOB), CAST(time AS INTEGER) FROM heads"
        ).fetchall()
        known = {log.value: log for log in Log}
        return {known[name]: Head(known[name], size, note, time) for name, size, note, time in rows if name in known}

    def count(self, log: Log) -> tuple[int, int]:
        """How many entries and nodes of a log are stored."""
        counts = (f"SELECT count(*) FROM {table} WHERE log = ?" for table in ("entries", "nodes"))  # noqa: S608
        entries, nodes = (self._file.execute(query, (log.value,)).fetchone()[0] for query in counts)
        return int(entries), int(nodes)

    def rows(self, log: Log, start: int, count: int) -> list[InspectedRow]:
        """The first rows whose index is `start` or more, by index."""
        found = self._file.execute(
            "SELECT idx, coalesce(CAST(leaf AS BLOB), x''), coalesce(CAST(body AS BLOB), x''),"  # noqa: S608
            f" {', '.join(COLUMNS)} FROM entries WHERE log = ? AND idx >= ? ORDER BY idx LIMIT ?",
            (log.value, start, count),
        )
        return [InspectedRow(index, leaf, body, tuple(columns)) for index, leaf, body, *columns in found]

    def nodes(self, log: Log, first: int, stop: int) -> dict[int, bytes]:
        """The stored hashes from place `first` to before `stop`."""
        found = self._file.execute(
            "SELECT place, CAST(hash AS BLOB) FROM nodes WHERE log = ? AND place >= ? AND place < ?",
            (log.value, first, stop),
        )
        return dict(found.fetchall())

    @contextmanager
    def mending(self) -> Iterator[None]:
        """One transaction: all that is written in it is kept, or nothing."""
        with store_errors():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def set_nodes(self, log: Log, hashes: Mapping[int, bytes]) -> None:
        """Write hashes by their places, in place of what stands there."""
        rows = [(log.value, place, hash) for place, hash in hashes.items()]
        self._file.executemany("INSERT OR REPLACE INTO nodes (log, place, hash) VALUES (?, ?, ?)", rows)

    def drop_nodes(self, log: Log, start: int) -> None:
        """Remove every node from a place on: no tree of this log has it."""
        self._file.execute("DELETE FROM nodes WHERE log = ? AND place >= ?", (log.value, start))

    def set_columns(self, log: Log, index: int, columns: Sequence[object]) -> None:
        """Write what the index says of an entry; leaf and body stay as they are."""
        places = ", ".join(f"{name} = ?" for name in COLUMNS)
        self._file.execute(
            f"UPDATE entries SET {places} WHERE log = ? AND idx = ?",  # noqa: S608
            (*columns, log.value, index),
        )

    def rebuild_indexes(self) -> None:
        """Build every index of the file again, out of its rows."""
        with store_errors():
            self._file.execute("REINDEX")
