"""A real PostgreSQL for tests that keeps what it commits, and a database of their own for each of them."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import URL

from examples.city.postgres import start, stop

DURABLE = {"fsync": "on", "max_connections": "100"}


class Server:
    """A running server.

    Args:
        url: of its superuser.
    """

    def __init__(self, url: URL) -> None:
        self._url = url

    def new_database(self) -> str:
        """The URL of an empty database, with the password."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, as libpq reads it."""
        return self._url.set(drivername="postgresql", database=database).render_as_string(hide_password=False)

    @property
    def password(self) -> str:
        """The superuser's."""
        return str(self._url.password)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def sessions(self, url: str, state: str = "%") -> list[int]:
        """The process ids of the sessions in a database; with a state of pg_stat_activity, of those alone."""
        name = database_of(url)
        found = self.execute(f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND state LIKE '{state}'")
        return [pid for (pid,) in found]

    def kill_sessions(self, url: str) -> int:
        """End every session in a database, as an administrator can; returns how many there were."""
        found = self.sessions(url)
        for pid in found:
            self.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        return len(found)


def database_of(url: str) -> str:
    """The name of a URL's database."""
    return urlsplit(url).path.removeprefix("/")


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server that runs while the block does."""
    url = start(folder, DURABLE)
    try:
        yield Server(url)
    finally:
        # Nobody needs what is in it any more.
        stop(folder, "immediate")
