"""Stores of earlier versions: refused by name, brought to this program's version whole or not at all."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from exchange.store import migrating, postgres, schema
from exchange.store.migrating import Migration, Step, migrate, steps_from
from exchange.store.ports import (
    Log,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    StoreMissingError,
    StoreOpenError,
    Witnessed,
)
from exchange.store.sql import SqlLogStore
from tests.databases import Server, database_of
from tests.store.fixtures import append, check_whole, directory

Name = Path | str
OLDEST = 1


class Engine:
    """One engine: stores of any version in it, and what can be seen of them from outside."""

    def __init__(self, name: Name, run: Callable[[str], list[tuple[object, ...]]]) -> None:
        self.name = name
        self.run = run

    def make(self, version: int) -> None:
        """A store as a release of that version made it, by the revisions up to there."""
        SqlLogStore.create(self.name).close()
        for table in schema.METADATA.sorted_tables:
            self.run(f"DROP TABLE {table.name}")
        for step in self.steps(0):
            if step.version <= version:
                for statement in step.statements:
                    self.run(statement)
        self.set_version(version)

    def steps(self, version: int) -> list[Step]:
        return list(steps_from(version, self.dialect))

    @property
    def dialect(self):  # type: ignore[no-untyped-def]
        return create_engine("sqlite://" if isinstance(self.name, Path) else "postgresql+psycopg://").dialect

    def set_version(self, version: int) -> None:
        if isinstance(self.name, Path):
            self.run(f"PRAGMA user_version = {version}")
        else:
            self.run(f"UPDATE exchange_log_store SET version = {version}")

    @property
    def version(self) -> object:
        query = "PRAGMA user_version" if isinstance(self.name, Path) else "SELECT version FROM exchange_log_store"
        return self.run(query)[0][0]

    def described(self) -> list[tuple[object, ...]]:
        """Every table, column and index, as the engine itself tells it."""
        if isinstance(self.name, Path):
            rows = self.run("SELECT type, name, sql FROM sqlite_master ORDER BY name")
            return [(kind, name, re.sub(r"\s", "", str(sql))) for kind, name, sql in rows]
        return self.run(
            "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        ) + self.run("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        path = tmp_path / "log.db"

        def run(statement: str) -> list[tuple[object, ...]]:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                return connection.execute(statement).fetchall()

        yield Engine(path, run)
    else:
        server: Server = request.getfixturevalue("postgres_server")
        url = server.new_database()
        yield Engine(url, lambda statement: server.execute(statement, database_of(url)))


# --- the same schema, whichever way ----------------------------------------------------------------------


def test_the_revisions_come_to_the_schema(engine: Engine) -> None:
    SqlLogStore.create(engine.name).close()
    created = engine.described()
    for table in schema.METADATA.sorted_tables:
        engine.run(f"DROP TABLE {table.name}")
    for step in engine.steps(0):
        for statement in step.statements:
            engine.run(statement)
    assert engine.described() == created


def test_alembic_finds_no_difference(engine: Engine) -> None:
    engine.make(OLDEST)
    migrate(engine.name)
    name = engine.name
    url = f"sqlite:///{name}" if isinstance(name, Path) else "postgresql+psycopg://"
    creator = {} if isinstance(name, Path) else {"creator": lambda: psycopg.connect(str(name))}
    other = create_engine(url, **creator)
    with other.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda found, kind, _: kind != "table" or found != "exchange_log_store"}
        )
        assert compare_metadata(context, schema.METADATA) == []
        assert set(inspect(connection).get_table_names()) >= set(schema.METADATA.tables)
    other.dispose()


def test_every_version_has_its_revision() -> None:
    steps = list(steps_from(0, create_engine("sqlite://").dialect))
    assert [step.version for step in steps] == list(range(1, schema.VERSION + 1))
    assert all(step.title and step.statements for step in steps)


# --- migrating ---------------------------------------------------------------------------------------------


def test_a_store_of_an_earlier_version_is_refused_with_the_command(engine: Engine) -> None:
    engine.make(OLDEST)
    with pytest.raises(StoreOpenError, match=r"is of version 1; .*run `exchange log migrate --home BROKER`"):
        SqlLogStore.open(engine.name)
    assert engine.version == OLDEST


def test_a_store_of_a_later_version_says_which_release_it_needs(engine: Engine) -> None:
    SqlLogStore.create(engine.name).close()
    engine.set_version(99)
    for attempt in (SqlLogStore.open, migrate):
        with pytest.raises(StoreOpenError, match=r"is of version 99; .*it needs a release that knows version 99"):
            attempt(engine.name)  # type: ignore[operator]


def test_a_migrated_store_has_what_it_had_and_works(engine: Engine) -> None:
    store = SqlLogStore.create(engine.name)
    append(store, Log.DIRECTORY, *map(directory, range(3)))
    store.close()
    # What came after the oldest version is taken away again.
    for table in set(schema.METADATA.tables) - {"entries", "nodes", "heads"}:
        engine.run(f"DROP TABLE {table}")
    engine.set_version(OLDEST)
    before = engine.run("SELECT leaf FROM entries ORDER BY idx")
    done = migrate(engine.name)
    assert (done.found, [step.version for step in done.steps]) == (OLDEST, list(range(2, schema.VERSION + 1)))
    assert engine.version == schema.VERSION
    assert engine.run("SELECT leaf FROM entries ORDER BY idx") == before
    store = SqlLogStore.open(engine.name)
    try:
        assert store.head(Log.DIRECTORY).size == 3
        assert store.cosigned(Log.ACCESS) == Witnessed(Log.ACCESS, 0, 0, b"")
        append(store, Log.DIRECTORY, directory(3))
        check_whole(store)
    finally:
        store.close()
    assert migrate(engine.name).steps == ()


def test_a_dry_run_says_what_would_run_and_changes_nothing(engine: Engine) -> None:
    engine.make(OLDEST)
    before = engine.described()
    done = migrate(engine.name, dry_run=True)
    assert engine.described() == before
    assert engine.version == OLDEST
    # It is the very text that runs.
    assert migrate(engine.name) == done
    assert any("CREATE TABLE cosigned" in statement for step in done.steps for statement in step.statements)


def test_there_has_to_be_a_store(engine: Engine) -> None:
    if isinstance(engine.name, Path):
        with pytest.raises(StoreMissingError):
            migrate(engine.name)
        engine.run("CREATE TABLE other (x)")
        with pytest.raises(StoreOpenError, match="is not a log store"):
            migrate(engine.name)
    else:
        engine.run("CREATE TABLE other (x int)")
        with pytest.raises(StoreMissingError):
            migrate(engine.name)


# --- faults ------------------------------------------------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails after all the others have run."""
    whole = migrating.steps_from

    def steps(version: int, dialect: object) -> Iterator[Step]:
        yield from whole(version, dialect)  # type: ignore[arg-type]
        yield Step(schema.VERSION, "broken", ("CREATE TABLE more (x INTEGER)", "INSERT INTO nowhere VALUES (1)"))

    monkeypatch.setattr(migrating, "steps_from", steps)


def test_a_step_that_fails_leaves_the_store_as_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.make(OLDEST)
    before = engine.described()
    with monkeypatch.context() as patch:
        failing(patch)
        with pytest.raises(StoreError):
            migrate(engine.name)
    assert (engine.described(), engine.version) == (before, OLDEST)
    migrate(engine.name)
    SqlLogStore.open(engine.name).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from exchange.store import migrating

def die(upgrade, step, take=migrating._take):
    take(upgrade, step)
    os.kill(os.getpid(), signal.SIGKILL)

migrating._take = die
name = sys.argv[1]
migrating.migrate(name if "://" in name else Path(name))
"""


def test_a_migration_that_is_killed_before_its_commit_leaves_the_old_store(engine: Engine) -> None:
    engine.make(OLDEST)
    before = engine.described()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(engine.name)], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (engine.described(), engine.version) == (before, OLDEST)
    assert _once_alone(engine).found == OLDEST
    SqlLogStore.open(engine.name).close()


def _once_alone(engine: Engine) -> Migration:
    """Migrate as soon as the server has noticed that the killed program's session has ended."""
    for _ in range(200):
        try:
            return migrate(engine.name)
        except StoreOpenError:
            engine.run("SELECT pg_sleep(0.02)")
    return migrate(engine.name)


def test_a_store_that_a_broker_has_open_is_not_migrated(engine: Engine) -> None:
    SqlLogStore.create(engine.name).close()
    store = SqlLogStore.open(engine.name)
    try:
        with pytest.raises(StoreOpenError, match=r"already open|stop its brokers first"):
            migrate(engine.name)
    finally:
        store.close()


def test_no_two_migrations_run_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "WAIT_SECONDS", 0.1)
    engine.make(OLDEST)
    seen: list[type[StoreError]] = []

    def second(upgrade: object, step: object, take: Callable[..., None] = migrating._take) -> None:
        with pytest.raises((StoreBusyError, StoreOpenError)) as caught:
            migrate(engine.name)
        seen.append(caught.type)
        take(upgrade, step)

    monkeypatch.setattr(migrating, "_take", second)
    migrate(engine.name)
    assert seen
    assert engine.version == schema.VERSION


def test_a_full_disk_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"

    def run(statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    engine = Engine(path, run)
    engine.make(OLDEST)
    run("VACUUM")
    whole = migrating.steps_from

    def limited(version: int, dialect: object) -> Iterator[Step]:
        # SQLite's own limit makes it fail as a full disk does.
        yield Step(OLDEST, "limit", ("PRAGMA max_page_count = 1",))
        yield from whole(version, dialect)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(migrating, "steps_from", limited)
        with pytest.raises(StoreFatalError, match="the disk is full"):
            migrate(path)
    assert engine.version == OLDEST
    migrate(path)
