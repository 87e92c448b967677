"""What a SQL engine does its own way: how it is opened, locked, committed and written to, and what its errors mean."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, Table

from exchange.store import schema
from exchange.store.ports import StoreOpenError

WAIT_SECONDS: Final = 5.0


class Database(Protocol):
    """One open database. `begin` to `end` is called by one thread at a time, everything else by any."""

    @property
    def readers(self) -> Engine:
        """Connections that can only read; each statement is a transaction of its own."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may append to the same database."""

    @property
    def forgets_commits(self) -> bool:
        """Whether nobody can tell, before the database is opened again, if a failed commit happened."""

    def begin(self) -> Connection:
        """Begin a transaction that holds the database's append lock, against other processes too."""

    def commit(self, connection: Connection) -> None:
        """Commit it; when this returns the transaction is on stable storage.

        Raises:
            CommitUnknownError: it may be there or not.
        """

    def abandon(self, connection: Connection) -> str:
        """Take back a connection that could not roll back.

        Returns:
            Why nothing more can be appended; empty where the next transaction may begin on a new connection.
        """

    def end(self, connection: Connection) -> None:
        """Take back a connection whose transaction was committed or rolled back."""

    def add_rows(self, connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows whose values are in the order of the table's columns."""

    def announce(self, connection: Connection) -> None:
        """Tell the processes that wait in `wait` when this transaction is committed."""

    def wait(self, seconds: float) -> None:
        """Wait until another process may have announced something, at most so long."""

    def errors(self) -> AbstractContextManager[None]:
        """Turn the database's errors into the store's; their text may hold SQL or values, so it goes no further."""

    def close(self) -> None:
        """Give back connections and locks."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A store whose schema is being changed: one transaction, while nobody else uses it.

    Args:
        where: the database, for people.
        version: that it is of.
        connection: within the transaction.
        mark: makes it of another version, in the same transaction.
    """

    where: str
    version: int
    connection: Connection
    mark: Callable[[int], None]


def version_error(where: str, found: int) -> StoreOpenError:
    """Why a store of another version is not opened, and what to do."""
    text = f"{where} is of version {found}; this program knows version {schema.VERSION}"
    if found < schema.VERSION:
        return StoreOpenError(f"{text}: stop its brokers, and run `exchange log migrate --home BROKER`")
    return StoreOpenError(f"{text}: it needs a release that knows version {found}")
