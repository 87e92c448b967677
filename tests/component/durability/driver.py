"""`sqlite3` over apsw: as much of the module as SQLAlchemy, the store and the ledger use, on a VFS of the test's.

So the code under test is the product's own, statement for statement; only the connection is another.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

_MODES = {
    True: apsw.SQLITE_OPEN_READONLY,
    False: apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
}


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "extendedresult", sqlite3.SQLITE_ERROR)
        kind = sqlite3.IntegrityError if code & 0xFF == sqlite3.SQLITE_CONSTRAINT else sqlite3.OperationalError
        raised = kind(str(error))
        raised.sqlite_errorcode = code
        raised.sqlite_errorname = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes[code & 0xFF]
        raise raised from error


class Connection:
    """A connection that begins no transaction by itself; `rewrite` may change a statement before it is run."""

    isolation_level: str | None = None

    def __init__(self, name: str, vfs: str, rewrite: Callable[[str], str], timeout: float) -> None:
        with _errors():
            flags = apsw.SQLITE_OPEN_URI | _MODES[name.endswith("mode=ro")]
            self.file = apsw.Connection(name, flags=flags, vfs=vfs)
            self.file.set_busy_timeout(int(timeout * 1000))
        self.rewrite = rewrite

    @property
    def in_transaction(self) -> bool:
        return self.file.in_transaction

    def cursor(self) -> "Cursor":
        return Cursor(self)

    def execute(self, sql: str, values: Any = ()) -> "Cursor":
        return self.cursor().execute(sql, values)

    def executemany(self, sql: str, rows: Any) -> "Cursor":
        return self.cursor().executemany(sql, rows)

    def commit(self) -> None:
        if self.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")

    def create_function(self, name: str, count: int, function: Any, *, deterministic: bool = False) -> None:
        self.file.create_scalar_function(name, function, count, deterministic=deterministic)

    def close(self) -> None:
        with _errors():
            self.file.close()


class Cursor:
    """A cursor that reads all rows at once."""

    arraysize = 1
    lastrowid: int | None = None
    description: Any = None
    rowcount = -1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []

    def execute(self, sql: str, values: Any = ()) -> "Cursor":
        return self._run(lambda cursor: cursor.execute(self._connection.rewrite(sql), values or None))

    def executemany(self, sql: str, rows: Any) -> "Cursor":
        return self._run(lambda cursor: cursor.executemany(self._connection.rewrite(sql), rows))

    def _run(self, run: Callable[[apsw.Cursor], Any]) -> "Cursor":
        file = self._connection.file
        before = file.total_changes()
        cursor = file.cursor()
        columns: list[Any] = []
        cursor.exec_trace = lambda at, _sql, _values: columns.append(at.get_description()) or True
        with _errors():
            self._rows = list(run(cursor))
        self.description = (columns and [(name, *[None] * 6) for name, *_ in columns[-1]]) or None
        self.rowcount = file.total_changes() - before
        self.lastrowid = file.last_insert_rowid()
        return self

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        taken, self._rows = self._rows[: size or 1], self._rows[size or 1 :]
        return taken

    def fetchall(self) -> list[Any]:
        taken, self._rows = self._rows, []
        return taken

    def close(self) -> None:
        self._rows = []


def connect_through(vfs: str, rewrite: Callable[[str], str] = lambda sql: sql) -> Callable[..., Any]:
    """What to put in the place of `sqlite3.connect`.

    Args:
        vfs: name of the VFS.
        rewrite: may change a statement, to show what another setting would do.
    """

    def connect(name: str, *, timeout: float = 5.0, **_options: object) -> Any:
        return Connection(name, vfs, rewrite, timeout)

    return connect
