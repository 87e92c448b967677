"""Cities that may be killed: their programs are real processes, and so is the PostgreSQL behind them."""

import os
import select
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy import create_engine

from examples.city import postgres
from examples.city.databases import create_reader
from tests.databases import DURABLE
from tests.e2e.city import City
from tests.e2e.founding import CIVIL, MARRIAGES, TABLES
from tests.e2e.processes import TIMEOUT
from tests.e2e.shared import SharedCity


class Database:
    """Civil affairs' PostgreSQL, at an address that stays the same over its runs.

    Args:
        folder: a short path, for the sake of a socket's; made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sockets = folder / "s"
        folder.mkdir(mode=0o755, exist_ok=True)

    def start(self) -> None:
        """Start it, once everything of the run before has ended."""
        for _ in range(100):
            # Until the last child of a killed server is gone, its shared memory is in use.
            with suppress(postgres.PostgresError):
                url = postgres.start(self._folder, DURABLE)
                break
        else:
            url = postgres.start(self._folder, DURABLE)
        self._sockets.unlink(missing_ok=True)
        self._sockets.symlink_to(str(url.query["host"]))

    def new(self, name: str) -> str:
        """The URL of an empty database, at the address that stays, with its password."""
        url = postgres.running(self._folder)
        assert url is not None
        with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = url.set(drivername="postgresql", database=name, query={"host": str(self._sockets)})
        return url.render_as_string(hide_password=False)

    def fill(self, home: Path) -> None:
        """Give it the table of marriages, and the adapter of a home a role that reads it."""
        url = postgres.running(self._folder)
        assert url is not None
        engine = create_engine(url)
        with engine.begin() as connection, closing(sqlite3.connect(home / "data.db")) as data:
            connection.exec_driver_sql(TABLES[MARRIAGES])
            rows = data.execute("SELECT * FROM marriages").fetchall()
            connection.exec_driver_sql("INSERT INTO marriages VALUES (%s, %s, %s)", rows)
        reader = create_reader(engine)
        engine.dispose()
        reader = reader.set(query=dict(reader.query) | {"host": str(self._sockets)})
        config = home / "adapter.toml"
        text = config.read_text()
        assert "sqlite:///data.db" in text
        config.write_text(text.replace("sqlite:///data.db", reader.render_as_string(hide_password=False)))

    def kill(self) -> None:
        """SIGKILL to its first process, and wait for its end; the others then end by themselves."""
        server = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        ended = os.pidfd_open(server)
        try:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
            # Until it is gone it counts as running, and would not be started again.
            assert select.select([ended], [], [], TIMEOUT)[0], "PostgreSQL outlived SIGKILL"
        finally:
            os.close(ended)

    def stop(self) -> None:
        """Stop it, if it runs."""
        postgres.stop(self._folder)


@contextmanager
def crash_database() -> Iterator[Database]:
    """A running PostgreSQL that may be killed; on leaving, it is ended."""
    with tempfile.TemporaryDirectory(prefix="crash-") as short:
        Path(short).chmod(0o755)
        database = Database(Path(short) / "pg")
        try:
            database.start()
            yield database
        finally:
            database.stop()


@contextmanager
def crash_city(template: City, folder: Path) -> Iterator[tuple[City, Database]]:
    """A copy of a city, running, whose civil affairs keep their marriages in PostgreSQL.

    Args:
        template: from `City.build`.
        folder: does not exist yet.
    """
    city = template.copy(folder)
    with crash_database() as database:
        database.fill(city.path / CIVIL)
        with city.running(civil=True):
            yield city, database


@contextmanager
def shared_crash_city(folder: Path) -> Iterator[tuple[City, Database]]:
    """A city, running, whose logs are in the PostgreSQL too, with two brokers on it.

    Args:
        folder: does not exist yet.
    """
    with crash_database() as database:
        city = SharedCity.found(folder, database.new("logs"))
        database.fill(city.path / CIVIL)
        with city.at_work():
            city.civil.start(wait=False)
            for address in city.addresses.values():
                city.civil.wait_for(f"is attached to {address}")
            yield city, database
