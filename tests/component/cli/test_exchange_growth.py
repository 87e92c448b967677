"""`exchange status` in a broker's home says how its logs grow, and for how long the disk will hold them."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import exchange.cli.brokers.growth as growth
import exchange.cli.health.status as status_command
from exchange.cli.brokers.growth import growth_of, shown
from exchange.cli.main import app
from exchange.store.sql import SqlLogStore
from tests.component.audit.copies import ask, busy_world
from tests.component.cli.stores import SQLITE, broker_home, configure, database, execute, store_name
from tests.world import DAY, World

__all__ = ["database"]

FREE = 10 * 1024**3


@pytest.fixture
def world() -> World:
    """Five entries of three weeks ago, and ten of three days ago."""
    world = busy_world()
    world.now += 18 * DAY
    for _ in range(10):
        ask(world, issued_at=world.now, expires_at=world.now + 1000)
    world.now += 3 * DAY
    return world


@pytest.fixture
def home(tmp_path: Path, world: World, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=FREE // 4096, f_frsize=4096))
    monkeypatch.setattr(status_command, "now", lambda: world.now)
    return broker_home(tmp_path / "broker", world, database)


def stored_bytes(home: Path) -> int:
    """What the logs take on disk, as the engine's own people would find out."""
    name = store_name(home)
    if isinstance(name, Path):
        return name.stat().st_size
    tables = "('entries', 'nodes', 'heads', 'cosigned')"
    [[size]] = execute(home, f"SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN {tables}")[1]
    return int(size)


def free(home: Path) -> int | None:
    return FREE if isinstance(store_name(home), Path) else None


def test_counts_the_entries_of_the_last_week(home: Path, world: World) -> None:
    result = growth_of(home, world.now)
    assert (result.days, result.entries, result.entries_a_day) == (7, 10, 10 / 7)
    # PostgreSQL makes its files larger in a moment of its own choosing.
    assert result.size == pytest.approx(stored_bytes(home), rel=0.25)
    assert result.bytes_a_day == pytest.approx(10 / 7 * result.size / (world.directory.size + 15))
    assert result.free == free(home)
    assert result.days_left == (int(FREE / result.bytes_a_day) if result.free else None)


def test_a_young_log_is_measured_by_its_own_age(home: Path, world: World) -> None:
    young = growth_of(home, world.now - 19 * DAY)
    assert young.days == pytest.approx(2, abs=0.001)
    assert growth_of(home, world.now - 21 * DAY).days == 1


def test_a_log_that_does_not_grow_fills_no_disk(home: Path, world: World) -> None:
    still = growth_of(home, world.now + 30 * DAY)
    assert (still.entries, still.days_left) == (0, None)
    assert ("nothing grows now" in str(shown(still)["disk"])) == (still.free is not None)


def test_is_told_beside_a_running_broker(home: Path, world: World) -> None:
    store = SqlLogStore.open(store_name(home))
    try:
        assert growth_of(home, world.now).entries == 10
    finally:
        store.close()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (15 * 1024, "15 KiB"), (3.25 * 1024**3, "3.2 GiB")],
)
def test_bytes_are_told_in_a_unit_that_fits(count: float, text: str) -> None:
    assert growth.amount(count) == text


def status(home: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["status", "--home", str(home), *more])


@pytest.fixture
def broker(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its standing is another test's: here it has the growth alone."""

    async def standing_of(_home: Any) -> Any:
        return SimpleNamespace(role="broker", problem=None, directory=object(), caveats=())

    monkeypatch.setattr(status_command, "standing_of", standing_of)
    monkeypatch.setattr(status_command, "_shown", lambda _standing: {"party": "broker"})
    monkeypatch.setattr(status_command, "_described", lambda _standing: {"party": "broker"})
    return home


def test_status_of_a_broker_shows_it(broker: Path) -> None:
    result = status(broker)
    assert result.exit_code == 0, result.output
    assert "1 access entry and" in result.stdout
    assert "a day in the last 7 days" in result.stdout
    expected = "10 GiB free beside" if free(broker) else "room the database server's disk has is not known here"
    assert expected in result.stdout
    described = json.loads(status(broker, "--json").stdout)["growth"]
    assert (described["entries_a_day"], described["days"]) == (1.4, 7)
    assert (described["disk_free_bytes"], described["disk_days_left"] is None) == (free(broker), not free(broker))


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("other.db", "there is no log store at"), ("postgresql://nobody@/none?host=/nowhere", "no server listens there")],
)
@pytest.mark.parametrize("database", [SQLITE], indirect=True)
def test_status_says_where_it_is_not_known(broker: Path, missing: str, reason: str) -> None:
    configure(broker, missing)
    result = status(broker)
    assert result.exit_code == 0
    assert "not known: " in result.stdout
    assert reason in result.stdout
    assert json.loads(status(broker, "--json").stdout)["growth"] is None
