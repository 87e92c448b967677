"""HOME/receipts.db: the receipts of a party's answers, and the last cosigned checkpoint of each log.

A receipt comes under a checkpoint that the log alone has signed. It is kept, and replaced by the proof under a cosigned
one as soon as there is one: that proof holds against an exchange whose operator and log keys are in one bad hand.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.client.sqlite_file import SqliteFile

FILE: Final = "receipts.db"

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS cosigned (log TEXT PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS receipts (
    position INTEGER PRIMARY KEY, since INTEGER NOT NULL, receipt BLOB NOT NULL, cosigned INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS receipts_waiting ON receipts (position) WHERE NOT cosigned;
"""


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """One receipt of the access log.

    Args:
        position: the entry's index.
        since: when it came, milliseconds.
        receipt: a serialised `Receipt`.
        cosigned: whether its checkpoint is a cosigned one.
    """

    position: int
    since: int
    receipt: bytes
    cosigned: bool


class ReceiptFile(SqliteFile):
    """The file, which only its owner can read; it is made when it is first used.

    Every method is one transaction, durable when it returns, and blocks: call it in a thread. Each raises
    `EvidenceError` where the file is not one of receipts, and `UnavailableError` where it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "receipts", _SCHEMA, _VERSION)

    def cosigned(self, log: str) -> bytes:
        """The last cosigned checkpoint of a log; empty without one."""
        with self._transaction("BEGIN") as connection:
            row = connection.execute("SELECT CAST(note AS BLOB) FROM cosigned WHERE log = ?", (log,)).fetchone()
        return bytes(row[0]) if row is not None else b""

    def keep_cosigned(self, log: str, note: bytes) -> None:
        """Put another in its place."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.execute("INSERT OR REPLACE INTO cosigned VALUES (?, ?)", (log, note))

    def keep(self, receipts: Sequence[KeptReceipt]) -> None:
        """Add receipts; what is kept of an entry already stays."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            rows = [(kept.position, kept.since, kept.receipt, kept.cosigned) for kept in receipts]
            connection.executemany("INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?)", rows)

    def upgrade(self, receipts: Sequence[KeptReceipt]) -> None:
        """Put cosigned receipts in the place of those that wait."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            rows = [(kept.receipt, kept.position) for kept in receipts]
            connection.executemany(
                "UPDATE receipts SET receipt = ?, cosigned = 1 WHERE position = ? AND NOT cosigned", rows
            )

    def waiting(self, limit: int) -> tuple[KeptReceipt, ...]:
        """The first receipts that are not cosigned yet, by index."""
        return self._read("WHERE NOT cosigned ORDER BY position LIMIT ?", limit)

    def receipt(self, position: int) -> KeptReceipt | None:
        """The receipt of an entry, if one was kept."""
        return next(iter(self._read("WHERE position = ?", position)), None)

    def late(self, until: int) -> Iterator[int]:
        """The indexes of the receipts that are not cosigned yet and came at or before a time in milliseconds."""
        last = -1
        while True:
            with self._transaction("BEGIN") as connection:
                rows = connection.execute(
                    "SELECT position FROM receipts WHERE NOT cosigned AND position > ? AND since <= ?"
                    " ORDER BY position LIMIT 1000",
                    (last, until),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (position for (position,) in rows)

    def count_waiting(self, until: int) -> tuple[int, int]:
        """How many receipts are not cosigned yet, and how many of them came at or before a time in milliseconds."""
        with self._transaction("BEGIN") as connection:
            row = connection.execute(
                "SELECT count(*), count(*) FILTER (WHERE since <= ?) FROM receipts WHERE NOT cosigned", (until,)
            ).fetchone()
        return int(row[0]), int(row[1])

    def _read(self, where: str, value: int) -> tuple[KeptReceipt, ...]:
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                f"SELECT position, since, CAST(receipt AS BLOB), cosigned FROM receipts {where}",  # noqa: S608 - bound
                (value,),
            )
            return tuple(KeptReceipt(position, since, data, bool(done)) for position, since, data, done in rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with super()._open() as connection:
            self._make_tables(connection)
            yield connection
