"""`check` looks at everything that answering needs, and changes nothing."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from adapters import checking as module
from adapters.checking import Result, examine
from adapters.ledger import Ledger
from exchange.client.session import Session
from exchange.home import Home
from exchange.transport import TlsIdentity
from exchange.v1.directory_pb2 import Role
from tests.simulator import Simulator, make_home
from tests.unit.adapters.test_answering import wait_for_no_disk
from tests.unit.adapters.test_sources import COLUMNS, CONFIG, fill
from tests.world import ORIGIN, REGISTRY, Party, World


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(World.standard())


@pytest.fixture
def home(tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A system that has all it needs, but for its ledger: it has never run."""
    monkeypatch.setattr(module, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    monkeypatch.setattr(Home, "tls_identity", lambda _self: TlsIdentity(b"", b"", b""))
    home = make_home(tmp_path / "home", simulator.world, REGISTRY)
    configure(home)
    fill(home.path / "people.db")
    return home


def configure(home: Home, text: str = CONFIG.partition("[datasets.vehicles]")[0]) -> None:
    (home.path / "adapter.toml").write_text(text)


async def checked(home: Home) -> dict[str, Result]:
    results = await examine(home, home.path / "adapter.toml")
    return {result.name: result for result in results}


async def test_a_system_that_has_everything_passes(home: Home) -> None:
    results = await checked(home)
    assert list(results) == ["home", "ledger", "configuration", "broker", "dataset residents"]
    assert [result.detail for result in results.values() if not result.ok] == []
    assert "6 fields" in results["dataset residents"].detail
    # It has made no ledger, no orders, no keys.
    assert not (home.path / "ledger.db").exists()
    assert not (home.path / "orders.db").exists()
    assert {path.name for path in home.keys.iterdir()} == {"signing.pem"}


async def test_a_ledger_is_verified(home: Home) -> None:
    Ledger.open(home.path / "ledger.db").close()
    assert "0 answers" in (await checked(home))["ledger"].detail


async def test_a_ledger_is_verified_while_its_adapter_runs(home: Home) -> None:
    with closing(Ledger.open(home.path / "ledger.db")):
        assert (await checked(home))["ledger"].ok


async def test_a_ledger_that_does_not_hold_is_told(home: Home) -> None:
    Ledger.open(home.path / "ledger.db").close()
    with closing(sqlite3.connect(home.path / "ledger.db")) as ledger, ledger:
        ledger.execute("INSERT INTO owed VALUES (7)")
    result = (await checked(home))["ledger"]
    assert not result.ok
    assert "row 7" in result.detail


async def test_missing_keys_are_told_with_what_to_do(home: Home) -> None:
    (home.keys / "signing.pem").unlink()
    result = (await checked(home))["home"]
    assert not result.ok
    assert "exchange key new" in result.detail


@pytest.mark.parametrize("text", ["rubbish", "[datasets.residents]\nsource = 'nowhere'\ntable = 'x'"])
async def test_a_wrong_configuration_ends_the_look(home: Home, text: str) -> None:
    configure(home, text)
    results = await checked(home)
    assert list(results) == ["home", "ledger", "configuration"]
    assert not results["configuration"].ok
    assert "adapter.toml" in results["configuration"].detail


async def test_a_missing_configuration_is_told(home: Home) -> None:
    (home.path / "adapter.toml").unlink()
    assert not (await checked(home))["configuration"].ok


async def test_without_a_broker_the_datasets_are_judged_by_the_mirror(home: Home, simulator: Simulator) -> None:
    await checked(home)
    simulator.down = 1000
    results = await checked(home)
    assert not results["broker"].ok
    assert results["dataset residents"].ok


async def test_a_log_that_has_failed_is_told(home: Home, simulator: Simulator) -> None:
    await checked(home)
    fork = World.standard().copy()
    fork.now += 1
    fork.directory_log.leaves[0] = fork.directory_log.leaves[1]
    rebuilt = type(fork.directory_log)(f"{ORIGIN}/directory")
    for leaf in [*fork.directory_log.leaves, b"one more"]:
        rebuilt.append(leaf)
    simulator.directory_log = rebuilt
    assert not (await checked(home))["broker"].ok
    # And from then on it stays so, whatever the broker shows.
    simulator.directory_log = None
    results = await checked(home)
    assert not results["directory"].ok


async def test_a_dataset_that_nobody_published_is_told(home: Home, simulator: Simulator) -> None:
    configure(home, CONFIG)
    result = (await checked(home))["dataset vehicles"]
    assert not result.ok
    assert "exchange dataset publish" in result.detail


async def test_a_dataset_that_another_system_answers_is_told(home: Home, simulator: Simulator) -> None:
    world, archive = simulator.world, Party(ORIGIN, "population", "archive")
    world.admit(archive, Role.ROLE_SYSTEM)
    world.publish("vehicles", system=archive)
    configure(home, CONFIG)
    result = (await checked(home))["dataset vehicles"]
    assert not result.ok
    assert str(archive) in result.detail


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (COLUMNS.replace("name TEXT, ", ""), "residents.name: "),
        (COLUMNS.replace("area_m2 DECIMAL", "area_m2 BLOB"), "residents.area_m2: "),
    ],
    ids=["a missing column", "another type"],
)
async def test_a_table_that_does_not_fit_is_told_field_by_field(home: Home, columns: str, says: str) -> None:
    (home.path / "people.db").unlink()
    fill(home.path / "people.db", columns=columns)
    result = (await checked(home))["dataset residents"]
    assert not result.ok
    assert says in result.detail


async def test_a_database_that_is_not_there_is_told_without_its_address(home: Home) -> None:
    (home.path / "people.db").unlink()
    result = (await checked(home))["dataset residents"]
    assert not result.ok
    assert "people.db" not in result.detail
