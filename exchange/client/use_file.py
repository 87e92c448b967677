"""HOME/use.db: a requesting system's ledger of use, append-only and chained (Decree 809, article 29).

The chain shows what was altered or taken out of the middle. What was cut off at the end is found by comparing the
ledger with the access log, which has an entry of every answer. Old records go from the front alone: the chain hash
before the first one that is left is kept, and the rest verifies from there.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.client.errors import EvidenceError, UnavailableError
from exchange.core.errors import CoreError
from exchange.core.use_records import START, chained, check_record, read_record
from exchange.core.wire import FORMAT, encode
from exchange.files import make_private
from exchange.v1.use_pb2 import UseRecord

FILE: Final = "use.db"

SYNCHRONOUS = "EXTRA"
"""SQLite's setting, as for the mirror. Tests of anything else turn it off."""

ROOM = 16 * 1024 * 1024
"""Bytes that must be free on the disk before anything is asked: thousands of records."""

_VERSION: Final = 1
_BUSY: Final = 30.0
_PAGE: Final = 1000
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS base (one INTEGER PRIMARY KEY CHECK (one = 0), number INTEGER NOT NULL, chain BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, request_digest BLOB UNIQUE, record BLOB NOT NULL,
    chain BLOB NOT NULL
);
PRAGMA user_version = {_VERSION};
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class UseHead:
    """How far a ledger goes: its last record, 0 without one, and the chain hash after it, 32 bytes."""

    number: int
    chain: bytes


class UseFile:
    """The file, which only its owner can read; it is made when it is first used.

    Every method is one transaction, durable when it returns, and blocks: call it in a thread. Several processes may
    append at once: each record is chained to whatever is last when its transaction begins. Each method raises
    `EvidenceError` where the file was altered, and `UnavailableError` where it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_room(self) -> None:
        """Whether the disk has room for records: quick enough to be asked before each question.

        Raises:
            UnavailableError: it has not.
        """
        try:
            free = shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise self._unusable(error) from error
        if free < ROOM:
            text = f"the disk of the ledger of use {self.path} is full: nothing is asked that could not be recorded"
            raise UnavailableError(text, "free some space, then ask again")

    def check_writable(self) -> None:
        """Whether the file is one of records, and this process may write it."""
        with self._transaction("BEGIN IMMEDIATE"):
            # Whoever can begin can write.
            return

    def append(self, records: Sequence[UseRecord], now: int) -> tuple[UseRecord, ...]:
        """Add records, each with its number and its time; of an answer that is here already, what is here is returned.

        Args:
            records: without `format`, `number` and `time`.
            now: milliseconds; a record is never older than the one before it.

        Raises:
            UseRecordError: a record does not say what one of its kind says; none is added.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            head, time = _head(connection)
            done = []
            for record in records:
                known = _of_request(connection, record.request_digest)
                if known is not None:
                    done.append(self._read(known))
                    continue
                time = max(time, now)
                added = UseRecord()
                added.CopyFrom(record)
                added.format, added.number, added.time = FORMAT, head.number + 1, time
                check_record(added)
                data = encode(added)
                head = UseHead(added.number, chained(head.chain, data))
                row = (added.number, time, added.request_digest or None, data, head.chain)
                connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
                done.append(added)
        return tuple(done)

    def head(self) -> UseHead:
        """How far it goes."""
        with self._transaction("BEGIN") as connection:
            return _head(connection)[0]

    def first(self) -> int:
        """The number of the first record that is kept, or that will be."""
        with self._transaction("BEGIN") as connection:
            return _base(connection).number + 1

    def records(self) -> Iterator[UseRecord]:
        """Every record that is kept, by number, as far as the chain holds up to it.

        Raises:
            EvidenceError: a record was altered, or one is missing before the last.
        """
        with self._transaction("BEGIN") as connection:
            head = _base(connection)
        while True:
            with self._transaction("BEGIN") as connection:
                rows = connection.execute(
                    "SELECT number, CAST(record AS BLOB), CAST(chain AS BLOB) FROM records WHERE number > ?"
                    " ORDER BY number LIMIT ?",
                    (head.number, _PAGE),
                ).fetchall()
            if not rows:
                return
            for number, data, chain in rows:
                head = self._after(head, number, data, chain)
                yield self._read(data)

    def prune(self, until: int) -> int:
        """Take the oldest records away, and keep the chain hash after them.

        Args:
            until: number of the last record that goes; whether it may go, the caller has checked.

        Returns:
            How many went.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            row = connection.execute("SELECT CAST(chain AS BLOB) FROM records WHERE number = ?", (until,)).fetchone()
            if row is None:
                return 0
            connection.execute("INSERT OR REPLACE INTO base VALUES (0, ?, ?)", (until, row[0]))
            return connection.execute("DELETE FROM records WHERE number <= ?", (until,)).rowcount

    def _after(self, head: UseHead, number: int, data: bytes, chain: bytes) -> UseHead:
        expected = chained(head.chain, data)
        if number != head.number + 1:
            raise self._altered(f"record {head.number + 1} is missing")
        if chain != expected or self._read(data).number != number:
            raise self._altered(f"record {number} is not the one that was written")
        return UseHead(number, expected)

    def _read(self, data: bytes) -> UseRecord:
        try:
            return read_record(data)
        except CoreError as error:
            raise self._altered(str(error)) from error

    def _altered(self, what: str) -> EvidenceError:
        return EvidenceError(f"the ledger of use {self.path} was altered: {what}", "keep a copy of it")

    def _unusable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"the ledger of use {self.path} cannot be used: {error}")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            make_private(self.path)
            with closing(sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version not in (0, _VERSION):
                    raise EvidenceError(f"{self.path} is of version {version}, not {_VERSION}")
                if version == 0:
                    connection.executescript(_SCHEMA)
                connection.execute(begin)
                # Leaving without COMMIT closes the connection, and SQLite rolls back.
                yield connection
                connection.execute("COMMIT")
        except (sqlite3.OperationalError, OSError) as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            raise self._altered(str(error)) from error


def _base(connection: sqlite3.Connection) -> UseHead:
    row = connection.execute("SELECT number, CAST(chain AS BLOB) FROM base").fetchone()
    return UseHead(*row) if row is not None else UseHead(0, START)


def _head(connection: sqlite3.Connection) -> tuple[UseHead, int]:
    """The last record, and its time."""
    row = connection.execute(
        "SELECT number, CAST(chain AS BLOB), time FROM records ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return (UseHead(row[0], row[1]), row[2]) if row is not None else (_base(connection), 0)


def _of_request(connection: sqlite3.Connection, digest: bytes) -> bytes | None:
    if not digest:
        return None
    row = connection.execute("SELECT CAST(record AS BLOB) FROM records WHERE request_digest = ?", (digest,)).fetchone()
    return row[0] if row is not None else None
