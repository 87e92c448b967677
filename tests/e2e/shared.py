"""A city whose logs are in PostgreSQL, with two brokers; else like `tests.e2e.city`."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from exchange.broker.adding import join
from exchange.client import ExchangeClient, Session
from exchange.client.session import wall_clock
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.trust import encode_trust
from exchange.home import Home
from exchange.store.ports import Log
from tests.e2e.city import EXTENTS, City, free_port, require_contiguous
from tests.e2e.founding import APPLICATIONS, BROKER, HOSTS, OPERATOR, REGISTRY, Founding
from tests.e2e.processes import Program

SECOND = "broker-2"
BROKERS = (BROKER, SECOND)


class SharedCity(City):
    """One exchange with two brokers on one database.

    Args:
        path: its folder.
        addresses: HOST:PORT of each broker, by its name.
        url: of the database.
    """

    def __init__(self, path: Path, addresses: dict[str, str], url: str) -> None:
        super().__init__(path, addresses[BROKER])
        self.addresses = addresses
        self.url = url

    @classmethod
    def found(cls, path: Path, url: str, *, faulty: bool = False) -> "SharedCity":
        """Make one: everything is entered in the directory, nothing runs.

        Args:
            path: a folder that does not exist.
            url: of an empty database, with its password.
            faulty: its programs obey `tests.e2e.faulty`.
        """
        path.mkdir(parents=True)
        bare = _without_password(path / "pgpass", url)
        addresses = {name: f"127.0.0.1:{free_port()}" for name in BROKERS}
        asyncio.run(Founding(path, addresses[BROKER], bare).build())
        join(Home(path / OPERATOR), Home(path / BROKER), SECOND, addresses[SECOND], HOSTS, wall_clock())
        (path / OPERATOR / SECOND).rename(path / SECOND)
        for file in path.glob("*/trust.toml"):
            _set_brokers(Home(file.parent), tuple(addresses.values()))
        city = cls(path, addresses, url)
        city.is_faulty = faulty
        return city

    @property
    def second(self) -> Program:
        """`exchange broker run` of the other broker."""
        return self._program(SECOND, "is ready on")

    def broker_named(self, name: str) -> Program:
        """Either broker."""
        return self._program(name, "is ready on")

    def start_broker(self, name: str) -> None:
        """Start a broker after its end, and wait until the registry's adapter is attached to it again."""
        mark = self.registry.mark()
        self.broker_named(name).start()
        self.registry.wait_for(f"is attached to {self.addresses[name]}", mark)

    @contextmanager
    def at_work(self) -> Iterator["SharedCity"]:
        """Both brokers, and an adapter that is attached to both; on leaving, every process is ended."""
        try:
            for name in BROKERS:
                self.broker_named(name).start()
            self.registry.start(wait=False)
            for address in self.addresses.values():
                self.registry.wait_for(f"is attached to {address}")
            yield self
        finally:
            self.close()

    def client_of(self, *brokers: str) -> ExchangeClient:
        """A client in a home of its own, which knows these brokers in this order; enter it with `async with`."""
        return ExchangeClient(self.session_of(APPLICATIONS, *brokers))

    def session_of(self, name: str, *brokers: str) -> Session:
        """A session of a party, by a copy of its home that knows these brokers in this order."""
        path = self.path / f"{name} by {' '.join(brokers)}"
        if not path.exists():
            shutil.copytree(self.path / name, path, ignore=shutil.ignore_patterns("mirror.db*"))
            _set_brokers(Home(path), tuple(self.addresses[broker] for broker in brokers))
        return Session(Home(path))

    def head(self, log: Log) -> Checkpoint:
        """The head of a log as the database has it, its signature checked."""
        trust = self.home(BROKER).trust
        [(note,)] = self._rows("SELECT checkpoint FROM heads WHERE log = %s", log)
        return open_checkpoint(bytes(note), trust.access_log if log is Log.ACCESS else trust.directory_log)

    def check_contiguous(self) -> None:
        """See `City.check_contiguous`."""
        with psycopg.connect(self.url) as connection:
            require_contiguous(connection.execute(EXTENTS).fetchall())

    def _leaves(self, log: Log) -> list[bytes]:
        rows = self._rows("SELECT leaf, idx FROM entries WHERE log = %s ORDER BY idx", log)
        assert [index for _, index in rows] == list(range(len(rows)))
        return [bytes(leaf) for leaf, _ in rows]

    def _rows(self, query: str, log: Log) -> list[tuple[bytes, int]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, [log.value]).fetchall()  # type: ignore[arg-type]


def _without_password(file: Path, url: str) -> str:
    """The URL as a broker has it: its password is in a file."""
    known = psycopg.conninfo.conninfo_to_dict(url)
    password = str(known["password"])
    file.touch(mode=0o600)
    file.write_text(f"*:*:*:*:{password}\n")
    return f"{url.replace(f':{password}@', '@')}&passfile={file}"


def _set_brokers(home: Home, addresses: tuple[str, ...]) -> None:
    home.write("trust.toml", encode_trust(replace(home.trust, brokers=addresses)).encode())


__all__ = ["BROKERS", "REGISTRY", "SECOND", "SharedCity"]
