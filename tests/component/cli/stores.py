"""The home of a broker whose logs are in either engine's database, and what somebody does to them with SQL."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exchange.broker.config import encode_config, load_config, new_config
from exchange.core.names import Party
from exchange.core.trust import encode_trust
from exchange.home import Home
from exchange.store.schema import METADATA
from tests.component.audit.copies import write_database
from tests.databases import Server
from tests.simulator import trust_of
from tests.world import ORIGIN, World

SQLITE, POSTGRES = "exchange.db", "postgresql"
ENGINES = (SQLITE, POSTGRES)


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest) -> str:
    """What broker.toml names: a file, or the URL of a new database."""
    if request.param == SQLITE:
        return SQLITE
    server: Server = request.getfixturevalue("postgres_server")
    return server.new_database()


def broker_home(path: Path, world: World, database: str = SQLITE) -> Path:
    """The home of a stopped broker whose logs are the world's."""
    home = Home.create(path, Party(ORIGIN, "broker"), "broker")
    home.write("trust.toml", encode_trust(trust_of(world)).encode())
    configure(path, database)
    write_database(store_name(path), world)
    return path


def configure(home: Path, database: str) -> None:
    """Write broker.toml, for its owner alone: a URL has a password."""
    path = home / "broker.toml"
    path.write_text(encode_config(new_config("127.0.0.1:7443", (), database)))
    path.chmod(0o600)


def store_name(home: Path) -> Path | str:
    return load_config(home).store_name(home)


def execute(home: Path, statement: str, *values: object) -> tuple[int, Sequence[Any]]:
    """Run a statement whose values are `?`, past the store; how many rows it changed, and those it gave."""
    name = store_name(home)
    if isinstance(name, Path):
        with closing(sqlite3.connect(name)) as connection, connection:
            cursor = connection.execute(statement, values)
            return cursor.rowcount, cursor.fetchall()
    with psycopg.connect(name) as session:
        found = session.execute(statement.replace("?", "%s"), values)
        return found.rowcount, found.fetchall() if found.description else ()


def alter(home: Path, statement: str, *values: object) -> None:
    """Change at least one row."""
    count, _ = execute(home, statement, *values)
    assert count > 0


def dump(home: Path) -> list[str]:
    """Every row of the store, in one order."""
    rows = [(name, row) for name in METADATA.tables for row in execute(home, f"SELECT * FROM {name}")[1]]
    return sorted(map(repr, rows))
