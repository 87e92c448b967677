"""HOME/mirror.db: the directory as it was mirrored, the last checkpoint of both logs, and proof against them."""

import binascii
import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.client.errors import (
    BrokenLogError,
    EvidenceError,
    ExchangeError,
    ForkError,
    RollbackError,
    UntrustedError,
)
from exchange.client.sqlite_file import SqliteFile
from exchange.core.belongings import Belongings
from exchange.core.merkle import leaf_hash
from exchange.core.note import Verifier

DIRECTORY: Final = "directory"
ACCESS: Final = "access"

_SIGNATURE = re.compile("— (\\S+) ((?:[A-Za-z0-9+/]{4}){2,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)")
_VERSION = 4
_HASH = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, leaf BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS heads (log TEXT PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS unchecked (note BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS failures (
    log TEXT PRIMARY KEY, kind TEXT NOT NULL, message TEXT NOT NULL, earlier BLOB NOT NULL, later BLOB NOT NULL
);
DROP TABLE IF EXISTS snapshot;
DROP TABLE IF EXISTS snapshot_parts;
DROP TABLE IF EXISTS belongings;
CREATE TABLE snapshot (one INTEGER PRIMARY KEY, size INTEGER NOT NULL, hashes BLOB NOT NULL);
CREATE TABLE snapshot_parts (part INTEGER PRIMARY KEY, digest BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE belongings (one INTEGER PRIMARY KEY, digest BLOB NOT NULL, rows BLOB NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One mirrored entry; the body is empty where this party may not see it."""

    position: int
    leaf: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """Entries from a position on, and the signed checkpoint that they lead to; empty before the first sync."""

    entries: tuple[Entry, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """The folded state that a mirror begins with.

    Args:
        size: entries of the directory that it is of.
        hashes: those of the tree's right edge at that size, 32 bytes each.
        parts: the state's encoding.
        belongings: rows of what each body is about; None where they were damaged.
    """

    size: int
    hashes: tuple[bytes, ...]
    parts: tuple[bytes, ...]
    belongings: bytes | None


@dataclass(frozen=True, slots=True)
class NewParts:
    """The parts of a state, which are encoded only where the file has others.

    Args:
        digests: what a part is known by, whoever wrote it.
        encode: gives a part by its number.
    """

    digests: Sequence[bytes]
    encode: Callable[[int], bytes]


class MirrorFile(SqliteFile):
    """The file, which only its owner can read.

    Every method is one transaction, durable when it returns (synchronous=EXTRA), and blocks: call it in a thread. Each
    raises `EvidenceError` where the file is not a mirror, and `UnavailableError` where it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        # Earlier versions had no snapshots, or others; they are taken anew when the file is first opened.
        super().__init__(path, "mirror", _SCHEMA, _VERSION, older=(1, 2, 3))
        with self._open() as connection:
            self._make_tables(connection)

    def load(self, start: int) -> Loaded:
        """The entries from a position on, with the checkpoint of the same moment."""
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT position, CAST(leaf AS BLOB), CAST(body AS BLOB) FROM entries"
                " WHERE position >= ? ORDER BY position",
                (start,),
            )
            return Loaded(tuple(Entry(*row) for row in rows), _head(connection, DIRECTORY))

    def page(self, start: int, stop: int) -> tuple[Entry, ...]:
        """The entries from `start` to before `stop`, for whoever does not want all of them in memory."""
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT position, CAST(leaf AS BLOB), CAST(body AS BLOB) FROM entries"
                " WHERE position >= ? AND position < ? ORDER BY position",
                (start, stop),
            )
            return tuple(Entry(*row) for row in rows)

    def stored(self) -> tuple[int, bytes]:
        """How many entries there are, and the signed checkpoint of the same moment; empty before the first sync."""
        with self._transaction("BEGIN") as connection:
            (size,) = connection.execute("SELECT coalesce(max(position) + 1, 0) FROM entries").fetchone()
            return size, _head(connection, DIRECTORY)

    def extend(self, entries: Iterable[Entry], note: bytes, size: int) -> int | None:
        """Add entries, and make `note` the checkpoint unless another process has gone further.

        Args:
            entries: contiguous, up to `size`; read one by one, so that they need not be in memory.
            note: the signed checkpoint of `size`.

        Returns:
            None; or, with nothing written, the position of an entry that another process was given otherwise.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            (stored,) = connection.execute("SELECT coalesce(max(position) + 1, 0) FROM entries").fetchone()
            end = stored
            for entry in entries:
                if entry.position == end:
                    connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (end, entry.leaf, entry.body))
                    end += 1
                    continue
                if entry.position > end or end > stored:
                    raise self.tampered("it was replaced while it was in use")
                row = connection.execute(
                    "SELECT CAST(leaf AS BLOB) FROM entries WHERE position = ?", (entry.position,)
                ).fetchone()
                if row[0] != entry.leaf:
                    return entry.position
            if size >= stored:
                _move(connection, DIRECTORY, note)
        return None

    def complete(self, bodies: Mapping[int, bytes], rows: Iterable[bytes]) -> None:
        """Add bodies to entries that were mirrored without, by their positions; one that is there is never replaced.

        Args:
            bodies: by their positions.
            rows: what they are about, as `core/belongings.py` has it.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            late = [(body, position) for position, body in bodies.items()]
            connection.executemany("UPDATE entries SET body = ? WHERE position = ? AND length(body) = 0", late)
            # Where it was damaged, it is to stay so: these alone would pass for all of them.
            if _belongings(connection) is not None:
                _add_belongings(connection, rows)

    def indexed(self) -> int:
        """How many of the first entries have all rows of their bodies here."""
        with self._transaction("BEGIN") as connection:
            return (_snapshot_size(connection) or 0) if _belongings(connection) is not None else 0

    def keep_snapshot(self, size: int, hashes: Sequence[bytes], parts: NewParts, belongings: Iterable[bytes]) -> None:
        """Keep a folded state for the next opening, in place of an earlier one.

        Args:
            size: entries of the directory that it is of.
            hashes: those of the tree's right edge at that size, 32 bytes each.
            parts: the state.
            belongings: rows of what each body is about, of all entries from `indexed` on.
        """
        with self._transaction("BEGIN") as connection:
            before = _snapshot_size(connection)
            known = dict(connection.execute("SELECT part, CAST(digest AS BLOB) FROM snapshot_parts"))
        if before is not None and before >= size:
            return
        # Outside of every transaction: the first time it is all of them.
        rows = [
            (part, digest, parts.encode(part)) for part, digest in enumerate(parts.digests) if known.get(part) != digest
        ]
        index = list(belongings)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            # Another process of this home may have kept one meanwhile: then that is the one to begin with.
            if _snapshot_size(connection) == before:
                connection.execute("INSERT OR REPLACE INTO snapshot VALUES (0, ?, ?)", (size, b"".join(hashes)))
                connection.executemany("INSERT OR REPLACE INTO snapshot_parts VALUES (?, ?, ?)", rows)
                _add_belongings(connection, index)

    def snapshot(self) -> KeptSnapshot | None:
        """What `keep_snapshot` kept."""
        with self._transaction("BEGIN") as connection:
            row = connection.execute("SELECT size, CAST(hashes AS BLOB) FROM snapshot").fetchone()
            if row is None:
                return None
            parts = connection.execute("SELECT CAST(data AS BLOB) FROM snapshot_parts ORDER BY part")
            size, hashes = row
            edge = tuple(hashes[start : start + _HASH] for start in range(0, len(hashes), _HASH))
            return KeptSnapshot(size, edge, tuple(data for (data,) in parts), _belongings(connection))

    def body(self, position: int) -> bytes:
        """The body of an entry; empty where it is not here."""
        with self._transaction("BEGIN") as connection:
            query = "SELECT CAST(body AS BLOB) FROM entries WHERE position = ?"
            row = connection.execute(query, (position,)).fetchone()
            return bytes(row[0]) if row is not None else b""

    def leaf_hashes(self, stop: int) -> tuple[bytes, ...]:
        """The hashes of the leaves below a position."""
        with self._transaction("BEGIN") as connection:
            query = "SELECT CAST(leaf AS BLOB) FROM entries WHERE position < ? ORDER BY position"
            return tuple(leaf_hash(leaf) for (leaf,) in connection.execute(query, (stop,)))

    def head(self, log: str) -> bytes:
        """The last checkpoint of a log, signed; empty without one."""
        with self._transaction("BEGIN") as connection:
            return _head(connection, log)

    def move_head(self, log: str, expected: bytes, note: bytes) -> bool:
        """Compare and swap a log's checkpoint; False where another process has moved it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if _head(connection, log) != expected:
                return False
            _move(connection, log, note)
        return True

    def keep_unchecked(self, notes: Sequence[bytes]) -> None:
        """Keep checkpoints of the access log that nobody could check yet, for the next process."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.executemany("INSERT OR IGNORE INTO unchecked VALUES (?)", [(note,) for note in notes])

    def unchecked(self) -> tuple[bytes, ...]:
        """What `keep_unchecked` kept."""
        with self._transaction("BEGIN") as connection:
            return tuple(note for (note,) in connection.execute("SELECT CAST(note AS BLOB) FROM unchecked"))

    def forget_unchecked(self, notes: Sequence[bytes]) -> None:
        """Drop checkpoints that are checked now."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.executemany("DELETE FROM unchecked WHERE note = ?", [(note,) for note in notes])

    def knows_break(self, index: int) -> bool:
        """Whether this home has settled a declared break, by its entry in the directory: that is done once."""
        with self._transaction("BEGIN") as connection:
            query = "SELECT 1 FROM heads WHERE log = ?"
            return connection.execute(query, (_break(index),)).fetchone() is not None

    def settle_break(self, index: int, lost: bytes, first: bytes, forgotten: Sequence[bytes]) -> None:
        """Settle a declared break of the access log for good; what is given up stays in the file, as evidence.

        Args:
            index: its entry in the directory.
            lost: the head that is given up, empty where none is; first: the checkpoint that takes its place.
            forgotten: checkpoints that nobody could check, and that are given up too.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if connection.execute("SELECT 1 FROM heads WHERE log = ?", (_break(index),)).fetchone() is not None:
                return
            if lost:
                if _head(connection, ACCESS) != lost:
                    return
                _move(connection, ACCESS, first)
            _move(connection, _break(index), lost)
            connection.executemany("DELETE FROM unchecked WHERE note = ?", [(note,) for note in forgotten])

    def fail(self, log: str, error: BrokenLogError) -> BrokenLogError:
        """Keep a log's failure for good, and give it back as every later use will find it."""
        kind = "rollback" if isinstance(error, RollbackError) else "fork"
        with self._transaction("BEGIN IMMEDIATE") as connection:
            row = (log, kind, str(error), error.earlier, error.later)
            connection.execute("INSERT OR IGNORE INTO failures VALUES (?, ?, ?, ?, ?)", row)
        return self.failure() or error

    def failure(self) -> BrokenLogError | None:
        """The failure of either log, if there ever was one."""
        with self._transaction("BEGIN") as connection:
            row = connection.execute("SELECT kind, message, earlier, later FROM failures ORDER BY log").fetchone()
        if row is None:
            return None
        kind, message, earlier, later = row
        error = RollbackError if kind == "rollback" else ForkError
        hint = f"keep a copy of {self.path} for the auditor; nothing goes on until it is deleted deliberately"
        return error(message, hint, earlier=earlier, later=later)

    def tampered(self, what: str) -> EvidenceError:
        """The error for a file whose content cannot be right."""
        return EvidenceError(f"the mirror {self.path} was altered: {what}", f"keep a copy of it; {self._forgetting()}")

    def unproven(self, note: bytes, verifier: Verifier, what: str) -> ExchangeError:
        """The error for a checkpoint in the file that a log's key does not prove: altered, or by another key.

        Args:
            note: the checkpoint; verifier: the log's key in the trust file.
            what: why it does not hold.
        """
        signers = named_signers(note)
        if signers and verifier.key_hash not in signers.values():
            return UntrustedError(
                f"the key of {verifier.name} in trust.toml is not the one that the mirror {self.path} was made with",
                "ask the operator, by telephone, which trust file is right, and put that one here; only if the exchange"
                f" was founded anew: {self._forgetting()}",
            )
        return self.tampered(what)

    def _forgetting(self) -> str:
        return (
            f"deleting {self.path} fetches it again, and also deletes the memory of what was seen:"
            " a log that was rolled back would not be found out"
        )


def named_signers(note: bytes) -> dict[str, bytes]:
    """The keys that a signed note claims to be signed by, unverified: their ids by their names."""
    lines = note.decode(errors="replace").splitlines()
    found = (_SIGNATURE.fullmatch(line) for line in lines)
    return {line[1]: binascii.a2b_base64(line[2])[:4] for line in found if line}


def _head(connection: sqlite3.Connection, log: str) -> bytes:
    row = connection.execute("SELECT CAST(note AS BLOB) FROM heads WHERE log = ?", (log,)).fetchone()
    return bytes(row[0]) if row is not None else b""


def _break(index: int) -> str:
    """Under this name stands what was given up for a declared break."""
    return f"{ACCESS} before {index}"


def _snapshot_size(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT size FROM snapshot").fetchone()
    return row[0] if row is not None else None


def _belongings(connection: sqlite3.Connection) -> bytes | None:
    """What each body is about: nothing so far, or None where it was damaged."""
    row = connection.execute("SELECT CAST(digest AS BLOB), CAST(rows AS BLOB) FROM belongings").fetchone()
    if row is None:
        # A snapshot never comes without.
        return None if _snapshot_size(connection) is not None else b""
    return bytes(row[1]) if hashlib.sha256(row[1]).digest() == row[0] else None


def _add_belongings(connection: sqlite3.Connection, rows: Iterable[bytes]) -> None:
    before = Belongings(_belongings(connection) or b"")
    found = Belongings.of([*before, *rows]).rows
    connection.execute("INSERT OR REPLACE INTO belongings VALUES (0, ?, ?)", (hashlib.sha256(found).digest(), found))


def _move(connection: sqlite3.Connection, log: str, note: bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", (log, note))
