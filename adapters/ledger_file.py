"""The ledger's SQLite file: its tables and statements, how it is opened, and what its failures mean."""

import fcntl
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from adapters.ledger_rows import LedgerBusyError, LedgerError, LedgerFatalError, Settlement, check_settlement
from adapters.ledger_uses import prepare_uses

FORMAT = 1
TAIL = 1_000  # rows verified whenever the ledger is opened for writing
PAGE = 200  # rows verified in one transaction: a long one would keep erased bytes in the WAL
BUSY = 5_000  # milliseconds

SCHEMA = (
    """CREATE TABLE answers (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, requester TEXT NOT NULL,
        request_id BLOB NOT NULL, request_digest BLOB NOT NULL, response_digest BLOB NOT NULL UNIQUE,
        row BLOB NOT NULL, chain BLOB NOT NULL, request BLOB NOT NULL, response BLOB NOT NULL,
        UNIQUE (requester, request_id)) STRICT""",
    "CREATE TABLE subjects (number INTEGER, subject TEXT, PRIMARY KEY (number, subject)) STRICT, WITHOUT ROWID",
    "CREATE INDEX subjects_by_subject ON subjects (subject)",
    "CREATE TABLE sealed (number INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT",
    "CREATE TABLE kept (number INTEGER PRIMARY KEY, erase_after INTEGER NOT NULL) STRICT",
    "CREATE INDEX kept_by_erase_after ON kept (erase_after)",
    "CREATE TABLE owed (number INTEGER PRIMARY KEY) STRICT",
    """CREATE TABLE settlements (number INTEGER, log_index INTEGER, kind INTEGER NOT NULL, code INTEGER NOT NULL,
        receipt BLOB NOT NULL, PRIMARY KEY (number, log_index)) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {FORMAT}",
)
# Where the ledger began anew the chain goes on from a declaration: see ledger_breaks.
STARTS = """CREATE TABLE IF NOT EXISTS starts (number INTEGER PRIMARY KEY, chain BLOB NOT NULL,
    declaration BLOB NOT NULL) STRICT"""
HAS_STARTS = "SELECT count(*) FROM sqlite_schema WHERE name = 'starts'"
BETWEEN = "SELECT count(*) FROM answers WHERE number > :after AND number <= :number"
DECLARED = "SELECT declaration FROM starts ORDER BY number"
HEAD = """SELECT number, chain FROM answers WHERE number = (SELECT max(number) FROM answers)
    UNION ALL SELECT number, chain FROM starts WHERE number = (SELECT max(number) FROM starts)
    ORDER BY number DESC LIMIT 1"""
ALONE = """SELECT number, chain FROM answers WHERE number = :number
    UNION ALL SELECT number, chain FROM starts WHERE number = :number"""
HEAD_WITHOUT = "SELECT number, chain FROM answers ORDER BY number DESC LIMIT 1"
ALONE_WITHOUT = "SELECT number, chain FROM answers WHERE number = :number"
BEFORE = """SELECT number, chain FROM answers WHERE number = (SELECT max(number) FROM answers WHERE number <= :number)
    UNION ALL SELECT number, chain FROM starts
    WHERE number = (SELECT max(number) FROM starts WHERE number <= :number) ORDER BY number DESC LIMIT 1"""
AT = "SELECT time FROM answers WHERE number = :number"
NEXT = "SELECT min(number) FROM answers WHERE number > :after"
ANSWERS = """SELECT answers.*, (SELECT envelope FROM sealed WHERE sealed.number = kept.number),
    owed.number IS NOT NULL FROM answers LEFT JOIN kept USING (number) LEFT JOIN owed USING (number) WHERE """
SETTLEMENTS = """SELECT number, response_digest, kind, code, log_index, receipt
    FROM answers JOIN settlements USING (number) WHERE """
SUBJECTS = "SELECT number, subject FROM subjects WHERE "
NAMED = "number IN (SELECT number FROM subjects WHERE subject = :subject) ORDER BY number"
UNSETTLED = "number IN (SELECT number FROM owed) ORDER BY number"
ON_PAGE = "number > :after AND number <= :after + :page ORDER BY number"
STRAY = """SELECT number FROM (SELECT number FROM answers UNION ALL SELECT number FROM subjects UNION ALL
    SELECT number FROM sealed UNION ALL SELECT number FROM kept UNION ALL SELECT number FROM owed UNION ALL
    SELECT number FROM settlements)
    WHERE number < 1 OR number > (SELECT coalesce(max(number), 0) FROM answers) LIMIT 1"""
UNERASED = """SELECT number FROM sealed WHERE number NOT IN (SELECT number FROM kept)
    AND envelope != zeroblob(length(envelope))
    UNION ALL SELECT number FROM kept WHERE number NOT IN (SELECT number FROM sealed) LIMIT 1"""

# SQLite zeroes what it deletes, but a deletion also moves neighbours and leaves copies of them in unused parts of pages
# (seen with 3.40.1). So an erased answer is overwritten where it stands, which moves nothing, and its row goes once
# no answer that is still kept stands within MARGIN rows: a deletion moves cells of three pages, some 60 rows.
PAGE_SIZE = 4_096
MARGIN = 100
ERASE = (
    """UPDATE sealed SET envelope = zeroblob(length(envelope))
        WHERE number IN (SELECT number FROM kept WHERE erase_after <= :now)""",
    "DELETE FROM kept WHERE erase_after <= :now",
    "DELETE FROM sealed WHERE number < coalesce((SELECT min(number) FROM kept) - :margin, 9223372036854775807)",
)

# After these the ledger is sound. Every other failure, known or not, stops the process.
PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_LOCKED}
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room, then start the adapter again",
    sqlite3.SQLITE_READONLY: "it cannot be written: check its permissions and its file system",
    sqlite3.SQLITE_CANTOPEN: "check that it exists, and its permissions",
}
OTHER = "stop the adapter, and check the ledger and its disk before starting again"


def hold(path: Path, closing: ExitStack) -> None:
    """Keeps every other writer away until this one closes or its process ends."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    closing.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LedgerBusyError(f"another adapter writes {path}: stop it, or give this one its own ledger") from error


def connect(path: Path, mode: str, closing: ExitStack) -> sqlite3.Connection:
    """Open the file, "ro" or "rw", until `closing` closes; a new one gets its tables."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY / 1000, isolation_level=None, check_same_thread=False)
    closing.callback(db.close)
    if mode == "rw":
        _prepare(db)
    if db.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        raise LedgerError(f"{path} is no ledger of format {FORMAT}: name another file")
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise LedgerFatalError("the ledger's file system has no write-ahead log: keep it on a local disk")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        for statement in SCHEMA:
            db.execute(statement)
        db.execute(STARTS)
        prepare_uses(db)
    elif db.execute("PRAGMA user_version").fetchone() == (FORMAT,):
        # Changes nothing, but finds a read-only file now, not at the first answer.
        db.execute(SCHEMA[-1])
        db.execute(STARTS)
        prepare_uses(db)
    db.execute("COMMIT")


def store_settlement(db: sqlite3.Connection, settlement: Settlement) -> int:
    """Stores an entry unless it is known, and returns the number of the answer that it settles."""
    digest, index = settlement.response_digest, settlement.index
    found = db.execute("SELECT number FROM answers WHERE response_digest = ?", (digest,)).fetchone()
    if not found:
        raise LedgerError(f"no answer of this ledger has the digest {digest.hex()}")
    number = int(found[0])
    check_settlement(number, settlement)
    known = "SELECT kind, code FROM settlements WHERE number = ? AND log_index = ?"
    entry = db.execute(known, (number, index)).fetchone()
    if entry not in (None, (settlement.kind, settlement.code)):
        raise LedgerError(f"row {number}: entry {index} of the access log was another before")
    if entry is None:
        values = (number, index, settlement.kind, settlement.code, settlement.receipt)
        db.execute("INSERT INTO settlements VALUES (?, ?, ?, ?, ?)", values)
        db.execute("DELETE FROM owed WHERE number = ?", (number,))
    return number


@contextmanager
def failures() -> Iterator[None]:
    """Turns what SQLite and the system raise into the ledger's errors."""
    try:
        yield
    except OverflowError as error:
        raise LedgerError("a number is larger than the ledger can hold") from error
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", -1) & 0xFF
        if code in PASSING:
            raise LedgerError(f"the ledger refused: {error}") from error
        raise LedgerFatalError(f"{error}; {ADVICE.get(code, OTHER)}") from error


def by_number(rows: list[Any]) -> defaultdict[int, list[Any]]:
    """Rows grouped by their first column, which is left out."""
    groups = defaultdict[int, list[Any]](list)
    for number, *rest in rows:
        groups[number].append(rest)
    return groups
