"""HOME/mirror-arriving.db: entries of the directory that have come, and that nothing is believed of yet.

A log may be longer than memory, and a sync longer than the process that began it. What comes is kept here, a stretch at
a time, each proven to be the beginning of what the log signed; a sync that was interrupted goes on where it stopped.
Only when all of it makes a signed root does it become the mirror's (DESIGN section 7), and this file is emptied.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from exchange.client.errors import UnavailableError
from exchange.client.folding import Folded, fold
from exchange.client.sqlite_file import SqliteFile
from exchange.client.storage import Entry
from exchange.core.directory import Directory
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.state import State

FILE: Final = "mirror-arriving.db"

STRETCH = 8 * 1024 * 1024
"""Bytes of entries that are held in memory, before they are proven and kept."""

OVERHEAD: Final = 256
"""Bytes that count for an entry beside its own, or a broker could fill the memory with empty ones."""

_PAGE: Final = 1000
_END: Final = 1 << 62
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, leaf BLOB NOT NULL, body BLOB NOT NULL);
"""


class ArrivingFile(SqliteFile):
    """The file, made when more comes than memory should hold. Every method blocks.

    Each raises `EvidenceError` where the file is not one of these, and `UnavailableError` where it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "file of arriving entries", _SCHEMA, _VERSION)

    def begin(self, start: int) -> None:
        """Drop what does not go on from a mirror of `start` entries."""
        if not self.path.exists():
            return
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.execute("DELETE FROM entries WHERE position < ?", (start,))
            (first,) = connection.execute("SELECT min(position) FROM entries").fetchone()
            if first != start:
                connection.execute("DELETE FROM entries")

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep more of them; what another process of this home has kept stays as it is."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            rows = [(entry.position, entry.leaf, entry.body) for entry in entries]
            connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?)", rows)

    def page(self, start: int, stop: int) -> tuple[Entry, ...]:
        """A page of what is kept from `start` on, and before `stop`; empty past the end."""
        if not self.path.exists():
            return ()
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT position, CAST(leaf AS BLOB), CAST(body AS BLOB) FROM entries"
                " WHERE position >= ? AND position < ? ORDER BY position LIMIT ?",
                (start, stop, _PAGE),
            )
            return tuple(Entry(*row) for row in rows)

    def clear(self) -> None:
        """Let go of all of it, and of the room that it took."""
        if not self.path.exists():
            return
        with self._open() as connection:
            connection.execute("DELETE FROM entries")
            connection.execute("VACUUM")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with super()._open() as connection:
            self._make_tables(connection)
            yield connection


class Arriving:
    """What has come of a sync: most of it in the file, the last of it in memory. Used in a thread.

    Args:
        file: goes on where an interrupted sync stopped.
        frontier: the tree's right edge as the mirror has it.
    """

    def __init__(self, file: ArrivingFile, frontier: Frontier) -> None:
        self._file = file
        self._start = frontier.size
        self._bytes = 0
        self._last: list[Entry] = []
        file.begin(frontier.size)
        self.kept = frontier
        while page := file.page(self.kept.size, _END):
            if page[0].position != self.kept.size or page[-1].position != self.kept.size + len(page) - 1:
                file.clear()
                self.kept = frontier
                break
            self.kept, _ = self.kept.extend([leaf_hash(entry.leaf) for entry in page])

    @property
    def size(self) -> int:
        """Entries of the log, with those that have come."""
        return self.kept.size + len(self._last)

    @property
    def is_resumed(self) -> bool:
        """Whether the file holds any of it."""
        return self.kept.size > self._start

    @property
    def is_full(self) -> bool:
        """Whether memory should hold no more."""
        return self._bytes >= STRETCH

    def add(self, entry: Entry) -> None:
        """Take in the next one."""
        self._last.append(entry)
        self._bytes += OVERHEAD + len(entry.leaf) + len(entry.body)

    def grown(self) -> Frontier:
        """The tree's right edge with all that has come."""
        return self.kept.extend([leaf_hash(entry.leaf) for entry in self._last])[0]

    def keep(self, grown: Frontier) -> None:
        """Put what is in memory into the file; durable when it returns.

        Args:
            grown: the tree's right edge with it, proven.
        """
        self._file.append(self._last)
        self.kept, self._last, self._bytes = grown, [], 0

    def stretches(self, stop: int) -> Iterator[Sequence[Entry]]:
        """All entries before `stop`, some at a time, and at least one stretch, be it empty.

        Raises:
            UnavailableError: the file was emptied meanwhile.
        """
        position, end = self._start, min(stop, self.kept.size)
        while position < end:
            page = self._file.page(position, end)
            if not page or page[0].position != position:
                text = "another process of this home brought the directory up to date at the same time"
                raise UnavailableError(text, "run it again")
            yield page
            position = page[-1].position + 1
        yield [entry for entry in self._last if entry.position < stop]

    def clear(self) -> None:
        """Let go of all of it."""
        self._file.clear()


@dataclass(frozen=True, slots=True)
class Folding:
    """What entries lead to, and the positions of those whose bodies nothing names."""

    directory: Directory
    snapshot: State | None
    unnamed: frozenset[int]

    def bared(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Entries as they are to be kept: without bodies that nothing names."""
        for entry in entries:
            yield Entry(entry.position, entry.leaf, b"") if entry.position in self.unnamed else entry


def extend_by(seen: Folded, arrived: Arriving, size: int) -> tuple[tuple[bytes, ...], Frontier]:
    """As `folding.extend`, with what has come up to a size."""
    hashes, frontier = list(seen.hashes), seen.frontier
    for entries in arrived.stretches(size):
        more = [leaf_hash(entry.leaf) for entry in entries]
        hashes += more
        frontier, _ = frontier.extend(more)
    return tuple(hashes), frontier


def fold_by(seen: Folded, arrived: Arriving, size: int) -> Folding:
    """As `folding.fold`, with what has come up to a size."""
    snapshot: State | None = None
    unnamed: set[int] = set()
    for entries in arrived.stretches(size):
        if not entries and seen.directory.size:
            continue
        grown = fold(seen, entries)
        seen = replace(seen, directory=grown.directory)
        snapshot = grown.snapshot or snapshot
        pairs = zip(entries, grown.entries, strict=True)
        unnamed |= {entry.position for entry, kept in pairs if entry.body != kept.body}
    return Folding(seen.directory, snapshot, frozenset(unnamed))
