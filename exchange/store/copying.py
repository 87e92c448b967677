"""Copies a store, as it is at one moment, into a new one of either engine: for backups, and to bring them back."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from exchange.store.engine import Database
from exchange.store.schema import METADATA
from exchange.store.sql import opened_database
from exchange.store.upkeep import watched

_PAGE: Final = 1000


def copy_store(source: Path | str, target: Path | str, advance: Callable[[int, int], None]) -> None:
    """Copy every table.

    The source may be in use: one state of it is copied (PostgreSQL: repeatable read; SQLite: one read transaction).
    The target has all of it when this returns, or is an empty store.

    Args:
        source: the path of a SQLite file, or the URL of a PostgreSQL database.
        target: likewise; nothing is there yet.
        advance: takes rows done, and rows in all.

    Raises:
        StoreOpenError: no store there, or something is where the new one goes.
        StoreLostError: a database server cannot be reached.
        StoreFatalError: a database failed.
    """
    database = opened_database(target, create=True)
    try:
        with watched(source) as upkeep, upkeep.errors(), upkeep.snapshot() as reads, database.errors():
            connection = database.begin()
            try:
                _copy(reads, database, connection, advance)
            except BaseException:
                _roll_back(database, connection)
                raise
            database.commit(connection)
            database.end(connection)
    finally:
        database.close()


def _copy(reads: Connection, database: Database, writes: Connection, advance: Callable[[int, int], None]) -> None:
    tables, done = METADATA.sorted_tables, 0
    total = sum(reads.scalar(select(func.count()).select_from(table)) or 0 for table in tables)
    for table in tables:
        # A new store has its heads, at 0.
        writes.execute(table.delete())
        for rows in reads.execute(select(table), execution_options={"yield_per": _PAGE}).partitions():
            database.add_rows(writes, table, [tuple(row) for row in rows])
            done += len(rows)
            advance(done, total)


def _roll_back(database: Database, connection: Connection) -> None:
    with suppress(SQLAlchemyError):
        connection.rollback()
        database.end(connection)
        return
    database.abandon(connection)
