"""A copy of a broker's SQLite database, read directly: both logs with their nodes, index columns and heads.

The auditor trusts no program of the broker's, so nothing of `exchange.store` is used, though its schema.py says what
the tables are. The copy is never written to.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.cli.audit.checking.findings import Finding, Level
from exchange.cli.audit.checking.opening import directory_time
from exchange.cli.audit.checking.tree import place_of
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.columns import index_problem
from exchange.client.errors import UnavailableError
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.note import Verifier

_APPLICATION_ID: Final = int.from_bytes(b"XLOG")
# What version 3 added stands beside the logs.
_VERSIONS: Final = (2, 3)
_COLUMNS: Final = (
    "time",
    "kind",
    "code",
    "requester",
    "provider",
    "request_id",
    "request_digest",
    "response_digest",
)
_MANY: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Head:
    """What the copy says of a log's end."""

    size: int
    note: bytes
    time: int


class BrokerDatabase:
    """The copy, open for reading; both logs are of one moment."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[BrokerDatabase]":
        """Open a copy.

        Args:
            path: the file; what SQLite kept beside it (-wal) was copied with it.

        Raises:
            UnavailableError: it cannot be read, or is not a broker's database.
        """
        # Without a write-ahead log beside it nothing else belongs to the file, and SQLite need not write there.
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
                connection.isolation_level = None
                connection.execute("BEGIN")
                _check_kind(path, connection)
                yield cls(path, connection)
        except sqlite3.Error as error:
            hint = "copy it again with the broker stopped, and with the file -wal beside it if there is one"
            raise UnavailableError(f"{path} cannot be read: {error}", hint) from error

    def head(self, log: str) -> Head | None:
        """Where a log ends, as the copy says."""
        row = self._connection.execute(
            "SELECT CAST(size AS INTEGER), CAST(checkpoint AS BLOB), CAST(time AS INTEGER) FROM heads WHERE log = ?",
            (log,),
        ).fetchone()
        return Head(*row) if row is not None else None

    def count(self, log: str) -> int:
        """Rows of a log."""
        (count,) = self._connection.execute("SELECT count(*) FROM entries WHERE log = ?", (log,)).fetchone()
        return int(count)

    def rows(self, log: str, start: int = -_MANY, stop: int = _MANY) -> Iterator[LoggedEntry]:
        """The rows of a log by their index, all of them unless told otherwise."""
        cursor = self._connection.execute(
            f"SELECT CAST(idx AS INTEGER), CAST(leaf AS BLOB), CAST(body AS BLOB), {', '.join(_COLUMNS)} FROM entries"  # noqa: S608
            " WHERE log = ? AND idx >= ? AND idx < ? ORDER BY idx",
            (log, start, stop),
        )
        for index, leaf, body, *stored in cursor:
            expected = _columns_of(leaf) if log == "access" else (None,) * len(_COLUMNS)
            yield LoggedEntry(index, leaf, body, index_problem(stored, expected, _COLUMNS))

    def node(self, log: str, place: int) -> bytes | None:
        """The stored hash at a place."""
        row = self._connection.execute(
            "SELECT CAST(hash AS BLOB) FROM nodes WHERE log = ? AND place = ?", (log, place)
        ).fetchone()
        return bytes(row[0]) if row is not None else None

    def check_head(self, log: str, verifier: Verifier) -> tuple[Checkpoint | None, list[Finding]]:
        """The signed checkpoint of a log, where one holds, and what is wrong around it.

        Args:
            log: directory or access.
            verifier: its note key, out of the trust file.
        """
        origin, head = verifier.name, self.head(log)
        if head is None:
            return None, [Finding(origin, None, "the copy has no head of this log")]
        if not head.note and not head.size and not self.count(log):
            return None, []
        try:
            checkpoint = open_checkpoint(head.note, verifier)
        except CoreError as error:
            text = f"its checkpoint is not signed by the log key in the trust file: {error}"
            return None, [Finding(origin, None, text, Level.UNTRUSTED)]
        return checkpoint, [Finding(origin, None, text) for text in self._head_problems(log, head, checkpoint)]

    def _head_problems(self, log: str, head: Head, checkpoint: Checkpoint) -> Iterator[str]:
        size = checkpoint.size
        if head.size != size:
            yield f"its head says {head.size} entries, the signed checkpoint {size}"
        (nodes,) = self._connection.execute("SELECT count(*) FROM nodes WHERE log = ?", (log,)).fetchone()
        if nodes != place_of(0, size):
            yield f"it has {nodes} stored nodes; a tree of {size} entries has {place_of(0, size)}"
        last = next(self.rows(log, size - 1, size), None)
        if last is not None and head.time != _time_of(log, last.leaf):
            yield "its head has another time than its last entry"


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    found = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if found not in [(_APPLICATION_ID, version) for version in _VERSIONS]:
        hint = "the broker keeps it as exchange.db in its home; copy it with the broker stopped"
        raise UnavailableError(f"{path} is not a broker's database of version {_VERSIONS[0]} or {_VERSIONS[1]}", hint)


def _columns_of(leaf: bytes) -> tuple[object, ...]:
    try:
        said = read_access_leaf(leaf)
    except CoreError:
        return (None,) * len(_COLUMNS)
    return tuple(getattr(said, name) for name in _COLUMNS)


def _time_of(log: str, leaf: bytes) -> int | None:
    try:
        return read_access_leaf(leaf).time if log == "access" else directory_time(leaf)
    except CoreError:
        return None
