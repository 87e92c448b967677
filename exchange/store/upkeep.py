"""What a SQL engine does its own way where an operator looks after a store: snapshots, damage, sizes."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, text

from exchange.store import postgres, postgres_errors, schema, sqlite

_DAMAGES: Final = 20
_TABLES: Final = tuple(sorted(schema.METADATA.tables))


class Upkeep(Protocol):
    """One database, looked at beside whoever uses it."""

    @property
    def name(self) -> str:
        """The engine's, for people."""

    @property
    def readers(self) -> Engine:
        """Connections that can only read; each statement is a transaction of its own."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of the database, however long it is read."""

    def damages(self, connection: Connection) -> tuple[str, ...]:
        """What the engine itself finds wrong with its pages and indexes; nothing where all is well."""

    def rebuild_indexes(self, connection: Connection) -> None:
        """Build every index of the store again, out of its rows."""

    def size(self, connection: Connection) -> int:
        """Bytes that the store takes on disk, indexes included."""

    def free(self) -> int | None:
        """Bytes that its disk has left; None where only the server's machine knows."""

    def errors(self) -> AbstractContextManager[None]:
        """Turn the engine's errors into the store's."""


class SqliteUpkeep:
    """A SQLite file.

    Args:
        path: the file.
        readers: as `Upkeep.readers`.
    """

    name: Final = "SQLite"

    def __init__(self, path: Path, readers: Engine) -> None:
        self._path = path
        self.readers = readers

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """See `Upkeep.snapshot`."""
        with self.readers.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    def damages(self, connection: Connection) -> tuple[str, ...]:
        """See `Upkeep.damages`, in SQLite's own words."""
        lines = connection.exec_driver_sql(f"PRAGMA integrity_check({_DAMAGES})").scalars()
        return tuple(str(line) for line in lines if line != "ok")

    def rebuild_indexes(self, connection: Connection) -> None:
        """See `Upkeep.rebuild_indexes`."""
        connection.exec_driver_sql("REINDEX")

    def size(self, connection: Connection) -> int:
        """See `Upkeep.size`: the file, and what stands in the write-ahead log beside it."""
        beside = self._path.with_name(f"{self._path.name}-wal")
        return self._path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)

    def free(self) -> int | None:
        """See `Upkeep.free`."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def errors(self) -> AbstractContextManager[None]:
        """See `Upkeep.errors`."""
        return sqlite.store_errors()


_UNUSABLE: Final = text(
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE indrelid = ANY (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)"
    " AND NOT (indisvalid AND indisready AND indislive) ORDER BY relname"
)
_SIZE: Final = text(
    "SELECT CAST(coalesce(sum(pg_total_relation_size(to_regclass(name))), 0) AS bigint)"
    " FROM unnest(CAST(:tables AS text[])) AS name"
)


class PostgresUpkeep:
    """A PostgreSQL database.

    Args:
        readers: as `Upkeep.readers`.
    """

    name: Final = "PostgreSQL"

    def __init__(self, readers: Engine) -> None:
        self.readers = readers

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """See `Upkeep.snapshot`: brokers append meanwhile, and none of it is seen."""
        with self.readers.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            yield connection

    def damages(self, connection: Connection) -> tuple[str, ...]:
        """See `Upkeep.damages`: indexes that it does not use, or not for writing."""
        names = connection.execute(_UNUSABLE, {"tables": list(_TABLES)}).scalars()
        return tuple(f"the index {name} is not valid" for name in names)

    def rebuild_indexes(self, connection: Connection) -> None:
        """See `Upkeep.rebuild_indexes`."""
        for table in _TABLES:
            connection.exec_driver_sql(f"REINDEX TABLE {table}")

    def size(self, connection: Connection) -> int:
        """See `Upkeep.size`."""
        return int(connection.execute(_SIZE, {"tables": list(_TABLES)}).scalar_one())

    def free(self) -> int | None:
        """See `Upkeep.free`: SQL has no question for it."""
        return None

    def errors(self) -> AbstractContextManager[None]:
        """See `Upkeep.errors`."""
        return postgres_errors.store_errors()


@contextmanager
def watched(name: Path | str) -> Iterator[Upkeep]:
    """A store that exists, for reading alone, whether or not a broker has it open.

    Args:
        name: the path of a SQLite file, or the URL of a PostgreSQL database.

    Raises:
        StoreOpenError: it is missing, or of another version.
        StoreLostError: the database server cannot be reached.
        StoreFatalError: the database failed.
    """
    if isinstance(name, Path):
        with sqlite.watching(name) as readers:
            yield SqliteUpkeep(name, readers)
    else:
        with postgres.watching(name) as readers:
            yield PostgresUpkeep(readers)


def upkeep_of(name: Path | str, readers: Engine) -> Upkeep:
    """What is engine's own of a store that is open already.

    Args:
        name: as `watched`.
        readers: its own.
    """
    return SqliteUpkeep(name, readers) if isinstance(name, Path) else PostgresUpkeep(readers)
