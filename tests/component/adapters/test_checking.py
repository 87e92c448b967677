"""`check` looks at everything that answering needs, and changes nothing."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters import checking as module
from adapters.checking import Failure, Result, examine, gravest
from adapters.ledger import Ledger
from adapters.orders import Orders
from adapters.sources import Sources
from exchange.client.session import Session
from exchange.core.enforcement import TERMS
from exchange.home import Home
from exchange.transport import TlsIdentity
from exchange.v1.directory_pb2 import Role
from exchange.v1.terms_pb2 import Limits
from tests.component.adapters.test_answering import wait_for_no_disk
from tests.component.adapters.test_sources import COLUMNS, CONFIG, fill
from tests.simulator import Simulator, make_home
from tests.world import ORIGIN, POPULATION, REGISTRY, Party, World


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
    assert list(results) == ["home", "ledger", "orders", "configuration", "broker", "witnesses", "dataset residents"]
    assert [result.detail for result in results.values() if not result.ok] == []
    assert "6 fields" in results["dataset residents"].detail
    # It has made no ledger, no orders, no keys.
    assert not (home.path / "ledger.db").exists()
    assert not (home.path / "orders.db").exists()
    assert {path.name for path in home.keys.iterdir()} == {"signing.pem"}


async def test_an_agreement_with_a_term_that_is_not_enforced_is_told(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = simulator.world
    granted = world.grant(world.apply_for(world.dataset), limits=Limits(rows=5), officers=["officer-7"])
    monkeypatch.setattr(Sources, "enforces", lambda _self, _code: TERMS - {"officers"})
    result = (await checked(home))["dataset residents"]
    assert result.failure is Failure.WRONG
    assert result.detail == f"agreement {granted.digest.hex()[:12]} has terms that are not enforced here: officers"
    world.revoke(granted.digest, POPULATION)
    assert (await checked(home))["dataset residents"].ok


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


async def test_orders_are_verified_and_what_is_stopped_is_shown(home: Home) -> None:
    with closing(Orders.open(home.path / "orders.db")) as orders:
        orders.stop("residents", "leak", 1)
        orders.revoke(bytes(32), b"envelope", "misuse", 2)
        result = (await checked(home))["orders"]
    assert result.ok
    assert result.detail == ("2 orders; anchor verified; stopped: residents; revocations that wait for a broker: 1")


async def test_damaged_orders_are_told_with_their_file(home: Home) -> None:
    (home.path / "orders.db").write_bytes(b"no database" * 100)
    result = (await checked(home))["orders"]
    assert result.failure is Failure.WRONG
    assert str(home.path / "orders.db") in result.detail
    assert result.hint


async def test_orders_damaged_within_are_found(home: Home) -> None:
    path = home.path / "orders.db"
    with closing(Orders.open(path)) as orders:
        for number in range(30):
            orders.stop("residents", "x" * 2000, number)
    data = bytearray(path.read_bytes())
    data[20_000:40_000] = bytes(20_000)
    path.write_bytes(data)
    result = (await checked(home))["orders"]
    assert not result.ok
    assert str(path) in result.detail


@pytest.mark.parametrize(("name", "make"), [("ledger", Ledger.open), ("orders", Orders.open)])
async def test_a_file_that_its_anchor_misses_is_a_rollback(home: Home, name: str, make: Any) -> None:
    path = home.path / f"{name}.db"
    make(path).close()
    path.unlink()
    result = (await checked(home))[name]
    assert result.failure is Failure.FORK
    assert str(path) in result.detail
    assert "do not delete the anchor" in result.hint
    assert not path.exists()


@pytest.mark.parametrize(("name", "make"), [("ledger", Ledger.open), ("orders", Orders.open)])
async def test_a_file_without_an_anchor_is_said_to_have_none(home: Home, name: str, make: Any) -> None:
    make(home.path / f"{name}.db").close()
    (home.path / f"{name}.db.anchor").unlink()
    result = (await checked(home))[name]
    assert result.ok
    assert "no anchor yet" in result.detail
    assert not (home.path / f"{name}.db.anchor").exists()


async def test_a_ledger_that_does_not_hold_names_its_file(home: Home) -> None:
    (home.path / "ledger.db").write_bytes(b"no database" * 100)
    result = (await checked(home))["ledger"]
    assert result.failure is Failure.WRONG
    assert str(home.path / "ledger.db") in result.detail
    assert result.hint


async def test_no_dataset_at_all_is_a_failure(home: Home) -> None:
    configure(home, "[adapter]\n")
    result = (await checked(home))["configuration"]
    assert result.failure is Failure.CONFIGURATION
    assert "adapter.toml: no dataset" in result.detail
    assert "[datasets.CODE]" in result.hint


async def test_a_folder_that_is_nobodys_home_ends_the_look(tmp_path: Path) -> None:
    results = await examine(Home(tmp_path), tmp_path / "adapter.toml")
    assert [(result.name, result.failure) for result in results] == [("home", Failure.CONFIGURATION)]


async def test_each_kind_of_failure_has_its_exit_code(home: Home, simulator: Simulator) -> None:
    assert gravest(await examine(home, home.path / "adapter.toml")) is None
    simulator.down = 1000
    assert gravest(await examine(home, home.path / "adapter.toml")) is Failure.UNCHECKED
    (home.path / "people.db").unlink()
    assert gravest(await examine(home, home.path / "adapter.toml")) is Failure.WRONG
    trust = (home.path / "trust.toml").read_text()
    (home.path / "trust.toml").write_text("rubbish")
    assert gravest(await examine(home, home.path / "adapter.toml")) is Failure.UNTRUSTED
    (home.path / "trust.toml").write_text(trust)
    simulator.down = 0
    rolled_back = type(simulator.world.directory_log)(f"{ORIGIN}/directory")
    for leaf in simulator.world.directory_log.leaves[:3]:
        rolled_back.append(leaf)
    simulator.directory_log = rolled_back
    assert gravest(await examine(home, home.path / "adapter.toml")) is Failure.FORK


@pytest.mark.parametrize(
    ("found", "decides"),
    [
        ((), None),
        ((None,), None),
        ((3, None), 3),
        ((3, 2), 2),
        ((2, 1, 3), 1),
        ((3, 6), 6),
        ((1, 5, 2), 5),
        ((5, 4, 1, 2, 3, 6), 4),
    ],
)
def test_the_gravest_failure_decides(found: tuple[int | None, ...], decides: int | None) -> None:
    assert gravest([Result("x", "", "", Failure(code) if code else None) for code in found]) == decides


async def test_missing_keys_are_told_with_what_to_do(home: Home) -> None:
    (home.keys / "signing.pem").unlink()
    result = (await checked(home))["home"]
    assert not result.ok
    assert "exchange key new" in result.hint


@pytest.mark.parametrize("text", ["rubbish", "[datasets.residents]\nsource = 'nowhere'\ntable = 'x'"])
async def test_a_wrong_configuration_ends_the_look(home: Home, text: str) -> None:
    configure(home, text)
    results = await checked(home)
    assert list(results) == ["home", "ledger", "orders", "configuration"]
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
