"""A SQLite file that a party keeps in its home: only its owner reads it, and every transaction is durable.

Several processes of one party may have it open. SQLite before 3.51.3 can corrupt a WAL when two connections write at
once (sqlite.org/wal.html, "The WAL-reset bug"), so it keeps a rollback journal, and every transaction is short.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from exchange.client.errors import EvidenceError, UnavailableError
from exchange.files import make_private

SYNCHRONOUS = "EXTRA"
"""SQLite's setting: a rollback journal's removal is durable too. Tests of anything else turn it off."""

_BUSY: Final = 30.0


class SqliteFile:
    """The file, opened anew for each transaction.

    Args:
        path: where it is.
        name: what it is called in errors, such as "mirror".
        schema: makes the tables that are not there yet.
        version: of `schema`, as the file's `user_version`.
        older: versions that `schema` makes into this one.
    """

    def __init__(self, path: Path, name: str, schema: str, version: int, older: Collection[int] = ()) -> None:
        self.path = path
        self._name = name
        self._version = version
        self._older = frozenset((0, *older))
        self._schema = f"BEGIN IMMEDIATE;{schema}PRAGMA user_version = {version};COMMIT;"

    def tampered(self, what: str) -> EvidenceError:
        """The error for a file whose content cannot be right."""
        return EvidenceError(f"the {self._name} {self.path} was altered: {what}", "keep a copy of it")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute(begin)
            # Leaving without COMMIT closes the connection, and SQLite rolls back.
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            # What a party may see is not everybody's to read.
            make_private(self.path)
            with closing(sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
                connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
                version = _version_of(connection)
                if version != self._version and version not in self._older:
                    raise self.tampered(f"its version is {version}, not {self._version}")
                yield connection
        except (sqlite3.OperationalError, OSError) as error:
            raise UnavailableError(f"the {self._name} {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self.tampered(str(error)) from error

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """In a file that is new, or of an older version."""
        if _version_of(connection) in self._older:
            connection.executescript(self._schema)


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
