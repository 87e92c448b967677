"""A log store's database in PostgreSQL: how it is locked, committed and written to. Any number of brokers share it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from threading import Event, Lock
from typing import Any, Final

import psycopg
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus
from sqlalchemy import Column, Connection, Engine, MetaData, QueuePool, SmallInteger, Table, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from exchange.store import schema
from exchange.store.engine import WAIT_SECONDS, Upgrade, version_error
from exchange.store.ports import CommitUnknownError, Log, StoreLostError, StoreMissingError, StoreOpenError
from exchange.store.postgres_errors import reason, store_errors
from exchange.store.postgres_url import check_settings, parameters, place

_READERS: Final = 4
# One number for every exchange: an advisory lock holds within one database.
_LOCK: Final = int.from_bytes(b"XLOG")
_CHANNEL: Final = "exchange_log"

# Says whose tables these are, and of which version; PostgreSQL keeps no such number itself.
_MARK: Final = Table("exchange_log_store", MetaData(), Column("version", SmallInteger, primary_key=True))

_TAKE_LOCK: Final = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_NOTIFY: Final = text(f"SELECT pg_notify('{_CHANNEL}', '')")
_FIND_MARK: Final = text(f"SELECT to_regclass('{_MARK.name}')")
_FIND_VERSION: Final = text(f"SELECT version FROM {_MARK.name}")  # noqa: S608 - a table of ours, no input
# Whoever opens the store from then on waits before it reads its version.
_LOCK_MARK: Final = text(f"LOCK TABLE {_MARK.name} IN ACCESS EXCLUSIVE MODE")
_COUNT_SESSIONS: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
# What an extension brought along is nobody's data.
_FIND_OTHERS: Final = text(
    "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND NOT EXISTS"
    " (SELECT FROM pg_depend WHERE pg_depend.objid = pg_class.oid AND deptype = 'e')"
)

# A writer has no limit on a statement: at COMMIT it would cut the wait for a standby short, and call that a success.
# What it may wait for is locks; a process that stops in the middle of a transaction gives the lock back all the same.
_WRITER: Final = ("lock_timeout = '{wait}s'", "statement_timeout = 0", "idle_in_transaction_session_timeout = '10s'")
_READER: Final = (
    "default_transaction_read_only = on",
    "statement_timeout = '30s'",
    "lock_timeout = '{wait}s'",
)


class PostgresDatabase:
    """One PostgreSQL database: a connection that writes, a few that can only read, and one that listens.

    Each of them may be lost and is made anew: a server that restarts, or a standby that takes over, stops no broker.
    """

    is_shared: Final = True
    # A transaction holds its lock until it is durable and seen, or gone: who has the lock after it reads which.
    forgets_commits: Final = False

    def __init__(self, writers: Engine, readers: Engine, listener: "_Listener") -> None:
        self._writers = writers
        self.readers = readers
        self._listener = listener

    @classmethod
    def opened(cls, url: str, *, create: bool) -> "PostgresDatabase":
        """Opens the database of a URL, after making the schema in it if that is asked.

        Raises:
            StoreOpenError: it holds something else, or nothing, or the server may lose what it has committed.
            StoreLostError: the server cannot be reached.
        """
        known = parameters(url)
        with ExitStack() as resources, store_errors():
            writers, readers = _engine(known, _WRITER, 1), _engine(known, _READER, _READERS)
            for engine in (writers, readers):
                resources.callback(engine.dispose)
            with writers.connect() as connection, connection.begin():
                if create:
                    _make_schema(connection, place(known))
                _check_version(connection, place(known))
            resources.pop_all()
        return cls(writers, readers, _Listener(known))

    @classmethod
    def check_empty(cls, url: str) -> None:
        """Finds out whether `opened` could make a store, and makes none.

        Raises:
            StoreOpenError, StoreLostError: as `opened`.
        """
        known = parameters(url)
        with ExitStack() as resources, store_errors():
            engine = _engine(known, _WRITER, 1)
            resources.callback(engine.dispose)
            with engine.connect() as connection:
                _make_schema(connection, place(known))
                connection.rollback()

    def begin(self) -> Connection:
        """See `Database.begin`."""
        try:
            return self._locked()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            # The connection was lost while nobody used it. Nothing was begun, so another is as good.
            return self._locked()

    def _locked(self) -> Connection:
        connection = self._writers.connect()
        try:
            connection.execute(_TAKE_LOCK)
        except BaseException:
            self.abandon(connection)
            raise
        return connection

    def commit(self, connection: Connection) -> None:
        """See `Database.commit`: with synchronous_commit=on it returns after the WAL is on disk, on standbys too."""
        session, warnings = _session(connection), list[str]()
        # PostgreSQL answers the COMMIT of a transaction that has failed with ROLLBACK, and no error.
        if session.info.transaction_status != TransactionStatus.INTRANS:
            raise CommitUnknownError("a commit may have happened or not: the transaction had ended before")
        handler = _collecting(warnings)
        session.add_notice_handler(handler)
        try:
            connection.commit()
        except DBAPIError as error:
            # Not chained: the driver's text may hold an entry's values.
            raise CommitUnknownError(f"a commit may have happened or not: {reason(error.orig)}") from None
        finally:
            session.remove_notice_handler(handler)
        # Where somebody cancels the wait for a standby, COMMIT succeeds with a warning.
        if warnings:
            raise CommitUnknownError(f"a commit is perhaps on one server alone (SQLSTATE {warnings[0]})")

    def abandon(self, connection: Connection) -> str:
        """See `Database.abandon`: closing a session ends its transaction."""
        # It is gone from the pool whatever they say.
        with suppress(SQLAlchemyError):
            connection.invalidate()
        with suppress(SQLAlchemyError):
            connection.close()
        return ""

    def end(self, connection: Connection) -> None:
        """See `Database.end`."""
        connection.close()

    def add_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """See `Database.add_rows`: COPY, the fastest way in."""
        statement, types = _copying(table)
        with _session(connection).cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)

    def announce(self, connection: Connection) -> None:
        """See `Database.announce`: NOTIFY goes out with the COMMIT."""
        connection.execute(_NOTIFY)

    def wait(self, seconds: float) -> None:
        """See `Database.wait`."""
        self._listener.wait(seconds)

    def errors(self) -> AbstractContextManager[None]:
        """See `Database.errors`."""
        return store_errors()

    def close(self) -> None:
        """Closes every connection."""
        self._listener.close()
        self.readers.dispose()
        self._writers.dispose()


@contextmanager
def watching(url: str) -> Iterator[Engine]:
    """Connections that can only read the database of a store that exists, beside its brokers.

    Raises:
        StoreOpenError: it holds no store, or one of another version.
        StoreLostError: the server cannot be reached.
    """
    known = parameters(url)
    readers = _engine(known, _READER, _READERS)
    try:
        with store_errors(), readers.connect() as connection:
            _check_version(connection, place(known))
        yield readers
    finally:
        readers.dispose()


@contextmanager
def upgrading(url: str) -> Iterator[Upgrade]:
    """One transaction over a store of any version, while no broker is connected to it.

    A broker that starts meanwhile waits for its end, and then reads the version.

    Raises:
        StoreMissingError: there is none.
        StoreOpenError: sessions of brokers are open.
        StoreBusyError: another migration, or a broker, has the lock.
        StoreLostError: the server cannot be reached.
        StoreFatalError: a statement failed; nothing of the transaction is kept.
    """
    known = parameters(url)
    engine = _engine(known, _WRITER, 1)
    try:
        with store_errors(), engine.connect() as connection, connection.begin():
            connection.execute(_TAKE_LOCK)
            if connection.scalar(_FIND_MARK) is None:
                raise StoreMissingError(f"{place(known)} holds no log store")
            connection.execute(_LOCK_MARK)
            if count := connection.scalar(_COUNT_SESSIONS):
                raise StoreOpenError(f"{place(known)} has {count} other sessions of this user: stop its brokers first")
            version = connection.scalar(_FIND_VERSION) or 0
            yield Upgrade(place(known), version, connection, lambda new: _set_version(connection, new))
    finally:
        engine.dispose()


def _set_version(connection: Connection, version: int) -> None:
    connection.execute(_MARK.update().values(version=version))


class _Listener:
    """Waits for NOTIFY on a connection of its own; while there is none, for the time to pass.

    Args:
        known: the connection's parameters.
    """

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known
        self._connection: psycopg.Connection | None = None
        self._waiting = Lock()
        self._closed = Event()

    def wait(self, seconds: float) -> None:
        with self._waiting:
            if self._closed.is_set():
                return
            try:
                if self._connection is None:
                    # What was announced before is told to nobody: look at once.
                    self._connection = _listening(self._known)
                else:
                    for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                        pass
            except psycopg.Error:
                self._give_up()
                self._closed.wait(seconds)

    def close(self) -> None:
        self._closed.set()
        with self._waiting:
            self._give_up()

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _listening(known: dict[str, Any]) -> psycopg.Connection:
    connection = psycopg.connect(**known, autocommit=True)
    try:
        connection.execute(f"LISTEN {_CHANNEL}")
    except psycopg.Error:
        connection.close()
        raise
    return connection


def _engine(known: dict[str, Any], settings: Sequence[str], size: int) -> Engine:
    writes = settings is _WRITER

    def connect() -> psycopg.Connection:
        session = psycopg.connect(**known, autocommit=True)
        try:
            for setting in settings:
                session.execute("SET " + setting.format(wait=WAIT_SECONDS))
            if writes:
                # Each time: a reload may have turned them, and a standby that took over has its own.
                check_settings(session)
            session.autocommit = not writes
        except BaseException:
            session.close()
            raise
        return session

    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        hide_parameters=True,
        # A read is asked for again by nobody: whether its session still stands is found out before.
        **({} if writes else {"isolation_level": "AUTOCOMMIT", "pool_pre_ping": True}),
    )


def _make_schema(connection: Connection, where: str) -> None:
    # In one transaction, under the lock: a crash leaves a whole store or nothing, and of two that begin, one fails.
    connection.execute(_TAKE_LOCK)
    if connection.scalar(_FIND_MARK) is not None:
        # Whoever made it came no further: nothing was ever signed in it.
        if any(row.size or row.checkpoint for row in connection.execute(schema.HEADS_OF_ALL)):
            raise StoreOpenError(f"{where} holds a log store already")
        return
    if connection.scalar(_FIND_OTHERS):
        raise StoreOpenError(f"{where} holds something else: a log store needs a database of its own")
    schema.METADATA.create_all(connection, checkfirst=False)
    _MARK.create(connection)
    connection.execute(_MARK.insert(), {"version": schema.VERSION})
    heads = [{"log": log.value, "size": 0, "checkpoint": b"", "time": 0} for log in Log]
    connection.execute(schema.HEADS.insert(), heads)
    cosigned = [{"log": log.value, "size": 0, "time": 0, "note": b""} for log in Log]
    connection.execute(schema.COSIGNED.insert(), cosigned)


def _check_version(connection: Connection, where: str) -> None:
    if connection.scalar(_FIND_MARK) is None:
        raise StoreMissingError(f"{where} holds no log store")
    version = connection.scalar(_FIND_VERSION)
    if version != schema.VERSION:
        raise version_error(where, version or 0)


def _session(connection: Connection) -> psycopg.Connection:
    session = connection.connection.dbapi_connection
    if not isinstance(session, psycopg.Connection):
        raise StoreLostError("the connection to the database was lost")
    return session


def _collecting(warnings: list[str]) -> Callable[[Diagnostic], None]:
    def collect(diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            warnings.append(diagnostic.sqlstate or "")

    return collect


# By their Python types; COPY in binary converts nothing.
_TYPES: Final = {str: "text", int: "int8", bytes: "bytea"}


@cache
def _copying(table: Table) -> tuple[str, list[str]]:
    names = ", ".join(column.name for column in table.columns)
    types = ["int2" if isinstance(c.type, SmallInteger) else _TYPES[c.type.python_type] for c in table.columns]
    return f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)", types
