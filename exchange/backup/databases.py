"""Copies of SQLite files while programs write them, each one state of its file, and how far the logs in them go."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from exchange.backup.manifest import BackupError, LogHead

Advance = Callable[[int, int], None]
"""Takes how much is done, and how much there is."""

_MAGIC: Final = b"SQLite format 3\0"
_BUSY: Final = 30.0
_UNCHECKED: Final = 3


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def copy_database(source: Path, target: Path) -> None:
    """Copy one state of a database, whoever writes it meanwhile (sqlite.org/backup.html).

    Args:
        source: a SQLite file; it is not written to.
        target: a file that is not there yet.

    Raises:
        BackupError: it cannot be read, or the copy cannot be written.
    """
    try:
        with closing(_connect(source)) as origin, closing(sqlite3.connect(target)) as copy:
            # Nobody else sees the copy before it is whole.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            # One state: without a transaction of its own the copy would begin anew with every commit of others.
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            origin.backup(copy)
            origin.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}", _advice(error), _UNCHECKED) from error


def heads_of(path: Path) -> Mapping[str, LogHead]:
    """How far the logs in a copy go, by their names; nothing for a database of another kind.

    Raises:
        BackupError: it cannot be read.
    """
    tables = tables_of(path)
    try:
        with closing(_connect(path)) as connection:
            return dict(_heads(connection, tables))
    except sqlite3.Error as error:
        raise BackupError(f"{path} cannot be read: {error}", "", _UNCHECKED) from error


def tables_of(path: Path) -> set[str]:
    """The names of a database's tables; it is not written to.

    Raises:
        BackupError: it cannot be read.
    """
    try:
        with closing(_connect(path)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise BackupError(f"{path} cannot be read: {error}", "", _UNCHECKED) from error


def _heads(connection: sqlite3.Connection, tables: set[str]) -> Iterator[tuple[str, LogHead]]:
    """By the tables that it has: a broker's logs, a party's mirror, an auditor's mirror, an adapter's ledger."""
    if {"nodes", "cosigned", "heads"} <= tables:
        rows = connection.execute("SELECT log, size, CAST(checkpoint AS BLOB) FROM heads ORDER BY log")
        yield from ((log, LogHead(size, note.decode(errors="replace"))) for log, size, note in rows)
    elif {"heads", "snapshot_parts"} <= tables:
        rows = connection.execute("SELECT log, CAST(note AS BLOB) FROM heads ORDER BY log")
        yield from ((log, _noted(bytes(note))) for log, note in rows)
    elif {"checkpoints", "disorder"} <= tables:
        query = "SELECT CAST(note AS BLOB) FROM checkpoints WHERE verified = 1 ORDER BY size DESC LIMIT 1"
        yield from (("access", _noted(bytes(note))) for (note,) in connection.execute(query))
    elif {"answers", "settlements"} <= tables:
        query = "SELECT number, CAST(chain AS BLOB) FROM answers ORDER BY number DESC LIMIT 1"
        yield from (("ledger", LogHead(number, chain.hex())) for number, chain in connection.execute(query))


def _noted(note: bytes) -> LogHead:
    """The size stands in a checkpoint's second line (C2SP tlog-checkpoint)."""
    text = note.decode(errors="replace")
    lines = text.split("\n")
    return LogHead(int(lines[1]) if len(lines) > 1 and lines[1].isdecimal() else 0, text)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY, isolation_level=None)


def _advice(error: sqlite3.Error) -> str:
    code: int = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return "make room on the disk, or name a folder on another one with --scratch; nothing was written"
    return "nothing was written"
