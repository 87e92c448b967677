"""`exchange log migrate`: an earlier database is refused by name, migrated once, and left alone by a dry run."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.broker.app import serve
from exchange.cli.main import app
from exchange.home import Home, HomeError
from exchange.store.schema import METADATA, VERSION
from tests.component.audit.copies import busy_world
from tests.component.cli.stores import broker_home, database, dump, execute, store_name

__all__ = ["database"]


@pytest.fixture
def home(tmp_path: Path, database: str) -> Path:
    """Of a broker whose database is of version 1."""
    home = broker_home(tmp_path / "broker", busy_world(), database)
    for table in set(METADATA.tables) - {"entries", "nodes", "heads"}:
        execute(home, f"DROP TABLE {table}")
    mark(home, 1)
    return home


def mark(home: Path, version: int) -> None:
    sqlite = isinstance(store_name(home), Path)
    execute(
        home, f"PRAGMA user_version = {version}" if sqlite else f"UPDATE exchange_log_store SET version = {version}"
    )


def migrate(home: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["log", "migrate", "--home", str(home), *options])


def refused(home: Path) -> str:
    with pytest.raises(HomeError) as caught:
        asyncio.run(serve(Home(home), print))
    return str(caught.value)


def test_a_broker_does_not_start_and_names_the_command(home: Path) -> None:
    assert f"is of version 1; this program knows version {VERSION}" in refused(home)
    assert "exchange log migrate --home BROKER" in refused(home)
    assert "exchange log migrate" in CliRunner().invoke(app, ["log", "fsck", "--home", str(home)]).stderr


def test_a_dry_run_prints_the_sql_and_a_migration_says_what_it_did(home: Path) -> None:
    shown = migrate(home, "--dry-run")
    assert shown.exit_code == 0
    assert "CREATE TABLE cosigned" in shown.stdout
    assert f"is of version 1, and would be of version {VERSION}" in shown.stderr
    assert "version 1;" in refused(home)
    done = migrate(home)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"was of version 1, and is of version {VERSION} now" in done.stdout
    assert len(dump(home)) > 10
    again = migrate(home)
    assert again.exit_code == 0
    assert "nothing to do" in again.stdout
    assert CliRunner().invoke(app, ["log", "fsck", "--home", str(home)]).exit_code == 0


def test_json_says_the_same(home: Path) -> None:
    dry = json.loads(migrate(home, "--dry-run", "--json").stdout)
    assert (dry["found"], dry["dry_run"]) == (1, True)
    done = json.loads(migrate(home, "--json").stdout)
    assert done == dry | {"dry_run": False}
    assert [step["version"] for step in done["steps"]] == list(range(2, VERSION + 1))


def test_a_later_database_is_left_alone(home: Path) -> None:
    mark(home, 99)
    result = migrate(home)
    assert result.exit_code == 3
    assert "it needs a release that knows version 99; nothing was changed" in result.stderr
    assert "it needs a release that knows version 99" in refused(home)


def test_only_a_brokers_home_has_logs(tmp_path: Path) -> None:
    assert migrate(tmp_path).exit_code == 3
