"""A log store's database in SQLite: how it is opened and locked, its schema's version, what its errors mean.

Everything that another engine would do otherwise stands here.
"""

import fcntl
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, StaticPool, Table, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from exchange.store import schema
from exchange.store.engine import WAIT_SECONDS, Upgrade, version_error
from exchange.store.ports import (
    CommitUnknownError,
    Log,
    ReleasedTwiceError,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    StoreMissingError,
    StoreOpenError,
)

_READERS: Final = 4


class SqliteDatabase:
    """One SQLite file: a connection that writes and alone checkpoints, and a few that can only read.

    Up to 3.51.2 SQLite can corrupt a database whose WAL two connections write or checkpoint at once, so no second one
    may be able to: readers open with mode=ro, and the lock file keeps other processes out.
    """

    def __init__(self, writer: Connection, readers: Engine, resources: ExitStack) -> None:
        self.writer = writer
        self.readers = readers
        self._resources = resources
        self._closed = Event()

    @classmethod
    def opened(cls, path: Path, *, create: bool) -> "SqliteDatabase":
        """Opens the file for this process alone, after making the schema if that is asked."""
        with ExitStack() as resources, store_errors():
            resources.enter_context(_exclusive(path, create=create))
            file = resources.enter_context(closing(_connect(path, "rw")))
            _check_version(path, file, create=create)
            if file.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise StoreOpenError(f"{path} is where SQLite cannot keep a write-ahead log: a network share?")
            for pragma in _WRITER_PRAGMAS:
                file.execute(f"PRAGMA {pragma}")
            writer = resources.enter_context(_writing_engine(file).connect())
            if create:
                _make_schema(writer)
            readers = _reading_engine(path)
            resources.callback(readers.dispose)
            return cls(writer, readers, resources.pop_all())

    is_shared: Final = False
    # A commit record that was written but not synced is found again, or not, when the file is next opened.
    forgets_commits: Final = True

    def begin(self) -> Connection:
        """See `Database.begin`."""
        self.writer.begin()
        return self.writer

    def commit(self, connection: Connection) -> None:
        """See `Database.commit`: with synchronous=FULL it returns after fsync."""
        try:
            connection.commit()
        except DBAPIError as error:
            raise CommitUnknownError(f"a commit may have happened or not: {reason(error.orig)}") from error.orig

    def abandon(self, connection: Connection) -> str:
        """See `Database.abandon`: there is no second writer."""
        return "a transaction could not be rolled back"

    def end(self, connection: Connection) -> None:
        """See `Database.end`: the one writer stays."""

    def add_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Database.add_rows`."""
        add_rows(connection, table, rows)

    def announce(self, connection: Connection) -> None:
        """See `Database.announce`: nobody else has the file open."""

    def wait(self, seconds: float) -> None:
        """See `Database.wait`."""
        self._closed.wait(seconds)

    def errors(self) -> AbstractContextManager[None]:
        """See `Database.errors`."""
        return store_errors()

    def close(self) -> None:
        """Closes the connections, then gives the lock back."""
        self._closed.set()
        # The readers first, as the stack has it: the last connection to close checkpoints, and must be the writer.
        self._resources.close()


_WRITER_PRAGMAS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    # What was erased is overwritten in the file too. Nothing else is ever deleted, so it costs nothing.
    "secure_delete = ON",
    # KiB. Digests come at random: with the default of 2 MiB most of a batch's index pages would be read again.
    "cache_size = -65536",
    # Pages. A longer WAL is copied back less often, and a page that changed in many batches only once.
    "wal_autocheckpoint = 8000",
)
_APPLICATION_ID: Final = int.from_bytes(b"XLOG")


@contextmanager
def _exclusive(path: Path, *, create: bool) -> Iterator[None]:
    if not create and not path.is_file():
        raise StoreMissingError(f"there is no log store at {path}")
    beside = path.with_name(f"{path.name}.lock")
    beside.touch(mode=0o600)
    with beside.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreOpenError(f"{path} is already open, in this process or another") from None
        if create:
            # It names who asked whom: for its owner's eyes. What SQLite puts beside it gets the same mode.
            path.touch(mode=0o600)
        yield


@contextmanager
def watching(path: Path) -> Iterator[Engine]:
    """Connections that can only read the file of a store that exists, beside the process that has it open.

    Raises:
        StoreOpenError: it is missing, or of another version.
        StoreFatalError: the database failed.
    """
    if not path.is_file():
        raise StoreOpenError(f"there is no log store at {path}")
    readers = _reading_engine(path)
    try:
        with store_errors(), closing(_connect(path, "ro")) as file:
            _check_version(path, file, create=False)
        yield readers
    finally:
        readers.dispose()


@contextmanager
def upgrading(path: Path) -> Iterator[Upgrade]:
    """One transaction over a store of any version, while no other process has it open.

    SQLite's changes of a schema are transactional, and so is its version: a crash leaves the old store or the new one.

    Raises:
        StoreMissingError: there is none.
        StoreOpenError: it is something else, or in use.
        StoreFatalError: a statement failed; nothing of the transaction is kept.
    """
    with ExitStack() as resources, store_errors():
        resources.enter_context(_exclusive(path, create=False))
        file = resources.enter_context(closing(_connect(path, "rw")))
        if file.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise StoreOpenError(f"{path} is not a log store")
        for pragma in _WRITER_PRAGMAS:
            file.execute(f"PRAGMA {pragma}")
        writer = resources.enter_context(_writing_engine(file).connect())
        with writer.begin():
            version = writer.exec_driver_sql("PRAGMA user_version").scalar_one()
            yield Upgrade(str(path), version, writer, partial(_mark, writer))


def _mark(writer: Connection, version: int) -> None:
    writer.exec_driver_sql(f"PRAGMA user_version = {version}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # No isolation level: the module would begin transactions by itself, and not IMMEDIATE ones.
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)


def _writing_engine(file: sqlite3.Connection) -> Engine:
    engine = create_engine("sqlite://", creator=lambda: file, poolclass=StaticPool, hide_parameters=True)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _reading_engine(path: Path) -> Engine:
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(path, "ro"),
        poolclass=QueuePool,
        pool_size=_READERS,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
    return engine


def _check_version(path: Path, file: sqlite3.Connection, *, create: bool) -> None:
    queries = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    found = tuple(file.execute(query).fetchone()[0] for query in queries)
    if create and any(found):
        raise StoreOpenError(f"{path} already holds a database")
    if not create and found[0] != _APPLICATION_ID:
        raise StoreOpenError(f"{path} is not a log store")
    if not create and found[1] != schema.VERSION:
        raise version_error(str(path), found[1])


def _make_schema(writer: Connection) -> None:
    # In one transaction with the version: a crash leaves a whole store or an empty file.
    with writer.begin():
        schema.METADATA.create_all(writer)
        add_rows(writer, schema.HEADS, [(log.value, 0, b"", 0) for log in Log])
        add_rows(writer, schema.COSIGNED, [(log.value, 0, 0, b"") for log in Log])
        writer.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
        _mark(writer, schema.VERSION)


def add_rows(writer: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    """Inserts rows whose values are in the order of the table's columns."""
    # Straight to the driver: SQLAlchemy's processing of each value would take as long as the insertion.
    places = ", ".join("?" * len(table.columns))
    statement = f"INSERT INTO {table.name} VALUES ({places})"  # noqa: S608 - a table of ours, no input
    writer.exec_driver_sql(statement, list(rows))


_REASONS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_CORRUPT: "the database is corrupt",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_CONSTRAINT: "the database holds what its heads deny",
}


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the database's errors into the store's; their text may hold SQL, so it goes no further."""
    try:
        yield
    except DBAPIError as error:
        raise _store_error(error.orig) from error.orig
    except sqlite3.Error as error:
        raise _store_error(error) from error
    except PoolTimeoutError:
        raise StoreBusyError("no connection to read with was free in time") from None
    except OSError as error:
        raise StoreOpenError(f"cannot open the log store: {error}") from error


def _store_error(error: BaseException | None) -> StoreError:
    if _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusyError("the database was not free in time")
    if _code(error) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        return ReleasedTwiceError("the request already has its released entry")
    return StoreFatalError(reason(error))


def reason(error: BaseException | None) -> str:
    """Says what is wrong with the database, from the driver's own error, in words for an operator."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{_REASONS.get(_code(error) & 0xFF, 'the database failed')} ({name})"


def _code(error: BaseException | None) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code
