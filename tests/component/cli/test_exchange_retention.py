"""`exchange log retain` and `erase`: the operator is shown what may go, a coordinator or an owner signs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import exchange.cli.brokers.log as log
import exchange.cli.frame.acting
from exchange.broker import retention
from exchange.cli.main import app
from exchange.home import Home
from exchange.store import inspection
from exchange.store.sql import SqlLogStore
from tests.component.audit.copies import ask, busy_world
from tests.component.cli.stores import alter, broker_home, configure, database, store_name
from tests.component.cli.test_exchange_directory import FakeSession
from tests.world import AUDITOR, COORDINATOR, DAY, POPULATION, World

__all__ = ["database"]

TEXTS = ("--reason", "the retention is over", "--legal-basis", "Archives Act, article 9")


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["log", *(str(item) for item in arguments), "--home", str(home)])


# What the operator is shown.


@pytest.fixture
def world() -> World:
    """Five entries of the first day, five of the 31st; it is the 1,126th day."""
    world = busy_world()
    world.now += 30 * DAY
    for _ in range(5):
        ask(world, issued_at=world.now, expires_at=world.now + 1000)
    world.now += 1095 * DAY
    return world


@pytest.fixture
def home(tmp_path: Path, world: World, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(log, "now", lambda: world.now)
    return broker_home(tmp_path / "broker", world, database)


def ranges(home: Path, *arguments: object) -> list[tuple[int, int]]:
    result = run(home, "retain", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [(item["first"], item["end"]) for item in json.loads(result.stdout)["ranges"]]


def test_shows_what_is_older_than_the_broker_keeps(home: Path) -> None:
    assert ranges(home) == [(0, 5)]
    result = run(home, "retain")
    assert "5 entries have bodies older than 1095 days" in result.stdout
    assert 'exchange log erase --access 0-4 --reason "…" --legal-basis "…"' in result.stdout


@pytest.mark.parametrize(("age", "found"), [("1095d", [(0, 5)]), ("3y", [(0, 5)]), ("1126d", []), ("9999y", [])])
def test_an_age_is_in_days_or_years(home: Path, age: str, found: list[tuple[int, int]]) -> None:
    assert ranges(home, "--older-than", age) == found


@pytest.mark.parametrize("age", ["1094d", "2y"])
def test_never_shows_what_the_broker_must_keep(home: Path, age: str) -> None:
    result = run(home, "retain", "--older-than", age)
    assert result.exit_code == 2
    assert "this broker keeps bodies for 1095 days" in result.stderr


@pytest.mark.parametrize("age", ["3", "y", "0d", "-1d", "3m", "3 y", "10000d"])
def test_an_age_is_written_in_one_way(home: Path, age: str) -> None:
    result = run(home, "retain", "--older-than", age)
    assert result.exit_code == 2
    assert "not an age" in result.stderr


def test_a_shorter_retention_is_the_operators_to_set(home: Path) -> None:
    path = home / "broker.toml"
    path.write_text(path.read_text().replace("retention_days = 1095", "retention_days = 30"))
    assert ranges(home) == [(0, 10)]
    assert ranges(home, "--older-than", "3y") == [(0, 5)]


def test_leaves_out_what_is_on_hold(home: Path) -> None:
    (home / "holds.toml").write_text('[[hold]]\nname = "HS-2026-118"\nfirst = 1\nend = 3\n')
    assert ranges(home) == [(0, 1), (3, 5)]
    assert "on hold: entries 1 to 2, HS-2026-118" in run(home, "retain").stdout


def test_shows_nothing_while_it_is_not_known_what_is_on_hold(home: Path) -> None:
    (home / "holds.toml").write_text("[[hold]]\n")
    result = run(home, "retain")
    assert result.exit_code != 0
    assert "a hold has a name" in result.stderr


def test_leaves_out_what_is_erased_already(home: Path) -> None:
    alter(home, "UPDATE entries SET body = ? WHERE log = 'access' AND idx IN (0, 3)", b"")
    assert ranges(home) == [(1, 3), (4, 5)]
    assert "3 entries have bodies" in run(home, "retain").stdout


def test_bodies_are_looked_for_in_pages(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_WINDOW", 2)
    alter(home, "UPDATE entries SET body = ? WHERE log = 'access' AND idx = 2", b"")
    assert ranges(home) == [(0, 2), (3, 5)]


def test_names_no_more_than_one_erasure_may(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    assert ranges(home) == [(0, 2), (2, 4), (4, 5)]


def test_reads_beside_a_running_broker_and_writes_nothing(home: Path) -> None:
    store = SqlLogStore.open(store_name(home))
    try:
        assert ranges(home) == [(0, 5)]
    finally:
        store.close()


def test_a_broker_without_a_database_cannot_be_asked(home: Path) -> None:
    configure(home, "other.db")
    assert run(home, "retain").exit_code == 3


# What is signed.


@pytest.fixture
def homes(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exchange.cli.frame.acting, "Session", type("WorldSession", (FakeSession,), {"world": world}))
    for party, role in ((COORDINATOR, "coordinator"), (POPULATION, "department"), (AUDITOR, "auditor")):
        Home.create(tmp_path / role, party, role)
    return tmp_path


def test_a_coordinator_erases_entries_of_the_access_log(homes: Path, world: World) -> None:
    result = run(homes / "coordinator", "erase", "--access", "0-4", *TEXTS)
    assert result.exit_code == 0, result.output
    index = world.directory.size - 1
    assert result.stdout == f"Erased the bodies of access entries 0 to 4: entry {index} of the directory.\n"
    again = run(homes / "coordinator", "erase", "--access", "5-5", *TEXTS, "--json")
    assert json.loads(again.stdout)["index"] == index + 1


def test_an_owner_erases_what_has_ended(homes: Path, world: World) -> None:
    [digest] = world.directory.terms.agreements
    result = run(homes / "department", "erase", "--body", digest.hex()[:12], *TEXTS)
    assert result.exit_code == 1
    assert "the object still stands" in result.stderr
    world.revoke(digest, POPULATION)
    result = run(homes / "department", "erase", "--body", digest.hex()[:12], *TEXTS)
    assert result.exit_code == 0, result.output


def test_a_dry_run_signs_nothing(homes: Path, world: World) -> None:
    size = world.directory.size
    result = run(homes / "coordinator", "erase", "--access", "0-4", *TEXTS, "--dry-run")
    assert result.stdout == "Would erase the bodies of access entries 0 to 4. Nothing was signed.\n"
    assert json.loads(run(homes / "coordinator", "erase", "--access", "0-4", *TEXTS, "--dry-run", "--json").stdout) == {
        "index": None,
        "erased": "the bodies of access entries 0 to 4",
        "dry_run": True,
    }
    assert world.directory.size == size


@pytest.mark.parametrize("role", ["department", "auditor"])
def test_nobody_else_erases_entries_of_the_access_log(homes: Path, world: World, role: str) -> None:
    result = run(homes / role, "erase", "--access", "0-4", *TEXTS)
    assert result.exit_code == 2
    assert "a coordinator erases entries of the access log" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --access or --body"),
        (("--access", "0-1", "--body", "00"), "either --access or --body"),
        (("--access", "5-4"), "not a range"),
        (("--access", "5"), "not a range"),
        (("--access", "-5"), "not a range"),
        (("--body", "zz"), "0 datasets, applications or agreements begin with zz"),
    ],
)
def test_says_what_is_wrong_with_what_was_typed(
    homes: Path, world: World, arguments: tuple[str, ...], message: str
) -> None:
    result = run(homes / "coordinator", "erase", *arguments, *TEXTS)
    assert result.exit_code == 2
    assert message in result.stderr
