"""Connections that can only read, give up in time, and fail in words for people.

Sources: SQLite's URI filenames, PRAGMA query_only and result codes (sqlite.org/rescode.html); PostgreSQL's client
connection defaults and its error codes (appendix A).
"""

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from adapters.connectors import ConnectorError, QuestionError
from exchange.v1.access_pb2 import Code

# SQLite's virtual machine instructions between two looks at the clock: a small part of a millisecond.
_STEPS = 10_000
_DEADLINE = "exchange.deadline"

_UNREACHABLE = "the database cannot be reached or refuses the connection"
_SLOW = "the database did not answer in time"
_LOCKED = "the database is locked by another program"
_MISSING = "the dataset's table or a column of it is missing from the database"
_DAMAGED = "the database file is damaged or is not a database"
_MISFIT = "a column's type does not fit its described field"

_SQLITE_REASONS: Mapping[int, str] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_INTERRUPT: _SLOW,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: "the database file is missing or cannot be opened",
}
_POSTGRESQL_REASONS: Mapping[str, str] = {
    "3F000": _MISSING,
    "42501": "the account may not read the dataset's table",
    "42703": _MISSING,
    "42804": _MISFIT,
    "42883": _MISFIT,
    "42P01": _MISSING,
    "55P03": _LOCKED,
    "57014": _SLOW,
    "57P01": _UNREACHABLE,
    "57P02": _UNREACHABLE,
    "57P03": _UNREACHABLE,
}


def read_only_engine(url: str, statement_timeout_ms: int, connections: int) -> sa.Engine:
    """Makes an engine whose connections can only read; it connects when first used.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`, the latter through psycopg.
        statement_timeout_ms: after which a statement is given up; SQLite may wait as long again for a lock.
        connections: the most at a time.

    Raises:
        ConnectorError: the URL is of neither kind.
    """
    parsed = sa.make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database:
        return _sqlite(parsed.database, statement_timeout_ms, connections)
    if backend == "postgresql":
        return _postgresql(parsed, statement_timeout_ms, connections)
    raise ConnectorError("a source's URL starts with sqlite:///PATH or postgresql://")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Replaces what SQLAlchemy and the drivers raise, whose text can hold statements and values.

    Raises:
        ConnectorError: the database failed.
        QuestionError: a value does not fit the column that it is compared with.
    """
    # `from None`: a logged traceback would print what is replaced here.
    try:
        yield
    except exc.DBAPIError as error:
        raise _plain(error.orig) from None
    except exc.SQLAlchemyError:
        raise ConnectorError("the database could not be asked") from None
    except UnicodeError:
        # The database's encoding lacks a character of the question; the error's text would show it.
        raise QuestionError(Code.CODE_MALFORMED, "a value has characters that the provider cannot hold") from None


def _sqlite(path: str, statement_timeout_ms: int, connections: int) -> sa.Engine:
    seconds = statement_timeout_ms / 1000
    # quote: in a URI filename `?`, `#` and `%` would end or change the path.
    url = sa.URL.create("sqlite", database=f"file:{quote(path)}", query={"mode": "ro", "uri": "true"})
    engine = sa.create_engine(
        url, pool_size=connections, max_overflow=0, hide_parameters=True, connect_args={"timeout": seconds}
    )

    def on_connect(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        # mode=ro guards the file alone; query_only refuses every other way to write.
        connection.execute("PRAGMA query_only = ON").close()
        entry.info[_DEADLINE] = deadline = [math.inf]
        connection.set_progress_handler(lambda: time.monotonic() > deadline[0], _STEPS)

    def on_execute(connection: sa.Connection, *_: object) -> None:
        connection.info[_DEADLINE][0] = time.monotonic() + seconds

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "before_cursor_execute", on_execute)
    return engine


def _postgresql(url: sa.URL, statement_timeout_ms: int, connections: int) -> sa.Engine:
    # Of two settings of one name the last wins, so these do.
    options = f"-c default_transaction_read_only=on -c statement_timeout={statement_timeout_ms}"
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",  # one round trip for a statement, not three
        use_native_hstore=False,
        connect_args={
            "options": " ".join([*_texts(url.query.get("options", ())), options]),
            "connect_timeout": max(2, math.ceil(statement_timeout_ms / 1000)),
            "tcp_user_timeout": 2 * statement_timeout_ms,
        },
    )
    event.listen(engine, "connect", _refuse_writable)
    return engine


def _refuse_writable(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Makes sure that the setting has arrived: some connection poolers drop it without a word."""
    cursor = connection.cursor()
    cursor.execute("SHOW default_transaction_read_only")
    answer = cursor.fetchone()
    cursor.close()
    connection.rollback()
    if answer != ("on",):
        connection.close()
        raise ConnectorError("a connection pooler drops the read-only setting; connect to the database itself")


def _plain(error: BaseException | None) -> ConnectorError | QuestionError:
    if isinstance(error, sqlite3.Error):
        return ConnectorError(_sqlite_reason(error))
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        if isinstance(error, psycopg.DataError):
            return QuestionError(Code.CODE_MALFORMED, "a value does not fit the column it is compared with")
        # libpq gives no code for any connection that it could not make.
        if state is None and isinstance(error, psycopg.OperationalError):
            return ConnectorError(_UNREACHABLE)
        return ConnectorError(_POSTGRESQL_REASONS.get(state or "", f"the database failed (SQLSTATE {state})"))
    return ConnectorError("the database failed")


def _sqlite_reason(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return "the database holds text that is not UTF-8" if "UTF-8" in str(error) else "the database failed"
    # SQLite has no code of its own for these; the text is looked at and goes no further.
    if str(error).startswith(("no such table", "no such column")):
        return _MISSING
    # The low byte is the primary result code.
    return _SQLITE_REASONS.get(code & 0xFF, f"the database failed (SQLite result code {code})")


def _texts(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
