"""`exchange-adapter`, as a person types it: what it prints, and how it ends."""

import asyncio
import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters import checking, cli, local, reconciling
from adapters.cli import app
from adapters.ledger import Ledger
from adapters.orders import Orders
from exchange.client.session import Session
from exchange.core.enforcement import TERMS
from exchange.home import Home
from exchange.transport import TlsIdentity
from exchange.v1.directory_pb2 import Role
from tests.component.adapters.test_answering import provider_at, wait_for_no_disk
from tests.component.adapters.test_local import filled
from tests.component.adapters.test_sources import CONFIG, fill
from tests.simulator import Simulator, make_home
from tests.world import ID_NUMBER, ORIGIN, REGISTRY, Party, World

REASON = ("--reason", "data misused")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)
    # It would bind the log to the runner's stderr for every later test.
    monkeypatch.setattr(cli, "log_to_stderr", lambda: None)


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    simulator = Simulator(World.standard())
    session = partial(Session, transport=simulator, clock=simulator.clock)
    for module in (local, checking):
        monkeypatch.setattr(module, "Session", session)
    monkeypatch.setattr(Home, "tls_identity", lambda _self: TlsIdentity(b"", b"", b""))
    return simulator


@pytest.fixture
def home(tmp_path: Path, simulator: Simulator) -> Home:
    home = make_home(tmp_path / "home", simulator.world, REGISTRY)
    (home.path / "adapter.toml").write_text(CONFIG.partition("[datasets.vehicles]")[0])
    fill(home.path / "people.db")

    mirror(home, simulator)
    return home


def mirror(home: Home, simulator: Simulator) -> None:
    async def sync() -> None:
        async with Session(home, simulator, simulator.clock) as session:
            await session.sync()

    asyncio.run(sync())


def run(home: Home | Path, *arguments: str) -> Result:
    path = home.path if isinstance(home, Home) else home
    return CliRunner().invoke(app, [*arguments, "--home", str(path)])


def stopped(home: Home) -> set[str]:
    orders = Orders.open(home.path / "orders.db")
    try:
        return set(orders.stopped)
    finally:
        orders.close()


def test_check_prints_a_line_for_each_check(home: Home) -> None:
    result = run(home, "check")
    assert result.exit_code == 0, result.output
    for name in ("home", "ledger", "configuration", "broker", "dataset residents"):
        assert name in result.stdout
    assert "FAIL" not in result.stdout


def test_check_prints_json_for_programs(home: Home) -> None:
    result = run(home, "check", "--json")
    assert result.exit_code == 0
    assert {item["check"]: item["ok"] for item in json.loads(result.stdout)}["dataset residents"] is True


def test_check_keeps_its_hints(home: Home) -> None:
    (home.keys / "signing.pem").unlink()
    result = run(home, "check")
    assert result.exit_code == 1
    assert "hint: home: " in result.stderr
    assert "exchange key new" in result.stderr
    found = {item["check"]: item for item in json.loads(run(home, "check", "--json").stdout)}
    assert "exchange key new" in found["home"]["hint"]


def test_capabilities_are_what_a_steward_is_told(home: Home) -> None:
    shown = run(home, "capabilities")
    assert shown.exit_code == 0
    assert "mask.hash" in shown.stdout
    said = json.loads(run(home, "capabilities", "--json").stdout)
    assert said == {"system": str(REGISTRY), "datasets": {"residents": sorted(TERMS)}}


def test_capabilities_of_a_wrong_configuration_are_exit_2(home: Home) -> None:
    (home.path / "adapter.toml").write_text("[datasets.residents]")
    assert run(home, "capabilities").exit_code == 2


def test_check_without_a_broker_is_exit_3(home: Home, simulator: Simulator) -> None:
    simulator.down = 1000
    result = run(home, "check")
    assert result.exit_code == 3
    assert "exchange status" in result.stderr


def test_check_of_a_wrong_configuration_is_exit_2(home: Home) -> None:
    (home.path / "adapter.toml").write_text("rubbish")
    assert run(home, "check").exit_code == 2


def test_a_check_that_fails_is_exit_1(home: Home) -> None:
    (home.path / "people.db").unlink()
    result = run(home, "check")
    assert result.exit_code == 1
    assert "FAIL" in result.stdout


def test_revoke_says_what_happened_here_and_in_the_directory(home: Home, simulator: Simulator) -> None:
    agreement = simulator.world.agreement.digest.hex()
    result = run(home, "revoke", agreement[:16], *REASON)
    assert result.exit_code == 0, result.output
    assert f"agreement {agreement[:16]} is revoked here" in result.stdout
    assert f"entry {simulator.world.directory.size - 1}" in result.stdout


def test_revoke_with_the_broker_down_says_so_and_succeeds(
    home: Home, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "REACH_SECONDS", 0.05)
    simulator.down = 1000
    result = run(home, "revoke", simulator.world.agreement.digest.hex(), *REASON)
    assert result.exit_code == 0
    assert "is revoked here" in result.stdout
    assert "cannot be reached" in result.stderr


def test_revoke_prints_json_for_programs(home: Home, simulator: Simulator) -> None:
    agreement = simulator.world.agreement.digest.hex()
    result = run(home, "revoke", agreement, *REASON, "--json")
    index = simulator.world.directory.size - 1
    assert json.loads(result.stdout) == {"agreement": agreement, "directory_index": index}


def test_revoke_of_no_agreement_is_exit_2(home: Home) -> None:
    result = run(home, "revoke", "0" * 64, *REASON)
    assert result.exit_code == 2
    assert "error:" in result.stderr
    assert "hint:" in result.stderr


def test_revoke_needs_a_reason(home: Home, simulator: Simulator) -> None:
    assert run(home, "revoke", simulator.world.agreement.digest.hex()).exit_code == 2


def test_stop_and_resume(home: Home) -> None:
    result = run(home, "stop", "residents", "--reason", "maintenance")
    assert result.exit_code == 0
    assert "residents is stopped" in result.stdout
    assert stopped(home) == {"residents"}
    result = run(home, "resume", "residents")
    assert result.exit_code == 0
    assert stopped(home) == set()


def test_stop_needs_no_broker_no_certificate_and_no_mirror(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.down = 1000
    home = make_home(tmp_path / "bare", simulator.world, REGISTRY)
    (home.path / "adapter.toml").write_text(CONFIG.replace('"sqlite:///people.db"', '"env:NOT_IN_THIS_SHELL"'))
    assert run(home, "stop", "residents", "--reason", "leak").exit_code == 0
    assert stopped(home) == {"residents"}
    assert not simulator.calls


@pytest.mark.parametrize("name", ["population/residents", f"exchange://{ORIGIN}/population/residents"])
def test_stop_and_resume_take_a_datasets_whole_name(home: Home, name: str) -> None:
    assert run(home, "stop", name, "--reason", "leak").exit_code == 0
    assert stopped(home) == {"residents"}
    assert run(home, "resume", name).exit_code == 0
    assert stopped(home) == set()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Residents", "did you mean residents?"),
        ("resident", "did you mean residents?"),
        ("nosuch", "answered here: residents"),
        ("housing/residents", "name CODE, or population/CODE"),
        ("/residents", "name CODE, or population/CODE"),
        (f"exchange://{ORIGIN}/housing/residents", "name CODE, or population/CODE"),
        ("", "answered here: residents"),
    ],
)
def test_a_stop_that_stops_nothing_never_says_that_it_did(home: Home, name: str, hint: str) -> None:
    result = run(home, "stop", name, "--reason", "leak")
    assert result.exit_code == 2
    assert "stopped:" not in result.stdout
    assert hint in result.stderr
    assert stopped(home) == set()


@pytest.mark.parametrize("command", [("stop", "residents", "--reason", "leak"), ("resume", "residents")])
def test_no_order_is_given_in_a_home_that_no_adapter_runs_from(home: Home, command: tuple[str, ...]) -> None:
    (home.path / "adapter.toml").unlink()
    result = run(home, *command)
    assert result.exit_code == 2
    assert "no adapter runs from" in result.stderr
    assert "--config" in result.stderr
    assert not (home.path / "orders.db").exists()


def test_stop_finds_a_configuration_that_lies_elsewhere(home: Home) -> None:
    elsewhere = home.path.with_name("elsewhere.toml")
    (home.path / "adapter.toml").rename(elsewhere)
    assert run(home, "stop", "residents", "--reason", "leak", "--config", str(elsewhere)).exit_code == 0
    assert stopped(home) == {"residents"}


def test_stop_of_a_dataset_that_only_the_mirror_knows(home: Home, simulator: Simulator) -> None:
    """An adapter that runs was started with what the file said then."""
    simulator.down = 1000
    (home.path / "adapter.toml").write_text("")
    assert run(home, "stop", "residents", "--reason", "leak").exit_code == 0
    assert stopped(home) == {"residents"}
    assert run(home, "stop", "births", "--reason", "leak").exit_code == 2


def test_a_stop_that_cannot_be_judged_is_in_force_and_exit_3(home: Home) -> None:
    (home.path / "adapter.toml").write_text("not TOML")
    (home.path / "mirror.db").unlink()
    result = run(home, "stop", "residents", "--reason", "leak")
    assert result.exit_code == 3
    assert "is stopped" not in result.stdout
    assert "is not known" in result.stderr
    assert stopped(home) == {"residents"}


def test_a_dataset_that_another_system_answers_is_not_said_to_be_stopped(home: Home, simulator: Simulator) -> None:
    world, archive = simulator.world, Party(ORIGIN, "population", "archive")
    world.admit(archive, Role.ROLE_SYSTEM)
    world.publish("vehicles", system=archive)
    mirror(home, simulator)
    result = run(home, "stop", "vehicles", "--reason", "leak")
    assert result.exit_code == 2
    assert f"{archive} answers it" in result.stderr
    (home.path / "adapter.toml").write_text(CONFIG)
    result = run(home, "stop", "vehicles", "--reason", "leak")
    assert result.exit_code == 3
    assert "is stopped" not in result.stdout
    assert f"{archive} answers vehicles" in result.stderr
    assert stopped(home) == {"vehicles"}


@pytest.mark.parametrize("reason", ["", "  ", "x" * 2001])
def test_an_order_without_a_reason_is_exit_2_and_not_given(home: Home, simulator: Simulator, reason: str) -> None:
    agreement = simulator.world.agreement.digest.hex()
    for command in (("stop", "residents"), ("revoke", agreement)):
        result = run(home, *command, "--reason", reason)
        assert result.exit_code == 2
        assert "1 to 2,000 characters" in result.stderr
    assert not (home.path / "orders.db").exists()


def test_a_reason_may_have_2000_characters(home: Home) -> None:
    assert run(home, "stop", "residents", "--reason", "x" * 2000).exit_code == 0


def test_what_is_no_longer_configured_can_be_resumed(home: Home) -> None:
    run(home, "stop", "residents", "--reason", "leak")
    (home.path / "adapter.toml").write_text(CONFIG.replace("residents", "people"))
    assert run(home, "resume", "residents").exit_code == 0
    assert stopped(home) == set()


def test_resume_of_what_is_not_stopped_is_exit_2(home: Home) -> None:
    run(home, "stop", "residents", "--reason", "leak")
    result = run(home, "resume", "vehicles")
    assert result.exit_code == 2
    assert "stopped now: residents" in result.stderr


@pytest.mark.parametrize("command", [("stop", "residents", "--reason", "x"), ("subject", ID_NUMBER), ("run",)])
def test_nobodys_home_is_exit_3_or_2_and_nothing_is_made_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(tmp_path / "nowhere", *command)
    assert result.exit_code in {2, 3}
    assert "error:" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "nowhere").exists()


async def prepared(path: Path) -> Home:
    async with provider_at(path, World.standard()) as provider:
        await filled(provider)
        home = provider.session.home
    (path / "ledger.db").rename(home.path / "ledger.db")
    return home


def test_subject_says_who_was_told_what(tmp_path: Path) -> None:
    home = asyncio.run(prepared(tmp_path))
    result = run(home, "subject", ID_NUMBER)
    assert result.exit_code == 0, result.output
    for text in ("housing/applications", "officer-7", "ZF-2027-0001", "0 released", "owed"):
        assert text in result.stdout
    rows = json.loads(run(home, "subject", ID_NUMBER, "--json").stdout)
    assert [row["log_entry"] for row in rows] == ["0 released", "owed"]
    assert {row["time"] for row in rows} == {"2027-01-15T08:00:00Z"}
    assert {row["dataset"] for row in rows} == {"population/residents"}
    (home.path / "mirror.db").unlink()
    [dataset] = {row["dataset"] for row in json.loads(run(home, "subject", ID_NUMBER, "--json").stdout)}
    assert len(bytes.fromhex(dataset)) == 16


def test_subject_of_whom_nobody_asked_says_so(tmp_path: Path) -> None:
    home = asyncio.run(prepared(tmp_path))
    result = run(home, "subject", "somebody else")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nobody was told anything about this person" in result.stderr
    result = run(home, "subject", "somebody else", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])
    assert "nobody was told anything" in result.stderr


def test_reconcile_says_in_a_table_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = asyncio.run(prepared(tmp_path))
    simulator = Simulator(World.standard())
    simulator.world.now += 10_000
    monkeypatch.setattr(reconciling, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    result = run(home, "reconcile")
    assert result.exit_code == 1, result.output
    header, *rows, verdict, verified = result.stdout.splitlines()
    assert header.split() == ["what", "answer", "entry", "detail"]
    assert [row.split("  ")[0] for row in rows] == ["entry that the broker withholds", "answer without an entry"]
    assert verdict == "answers in the ledger: 2; entries about them in the log: 0; they differ in 2"
    assert verified.startswith("verified to 0 of city.example/access; split view not excluded")
    assert json.loads(run(home, "reconcile", "--json").stdout)["agree"] is False


def test_a_lost_ledger_never_says_that_nobody_was_told(tmp_path: Path) -> None:
    home = asyncio.run(prepared(tmp_path))
    Ledger.open(home.path / "ledger.db").close()
    (home.path / "ledger.db").unlink()
    for command in (("subject", ID_NUMBER), ("reconcile",), ("run",), ("check",)):
        (home.path / "adapter.toml").write_text(CONFIG)
        result = run(home, *command)
        assert result.exit_code == 4, result.output
        assert "its anchor has seen 2 rows" in result.output
        assert "do not delete the anchor" in result.output
        assert not (home.path / "ledger.db").exists()


def test_after_lost_orders_nothing_runs_and_nothing_is_ordered(home: Home) -> None:
    run(home, "stop", "residents", "--reason", "leak")
    (home.path / "orders.db").unlink()
    for command in (("run",), ("check",), ("stop", "residents", "--reason", "leak"), ("resume", "residents")):
        result = run(home, *command)
        assert result.exit_code == 4, result.output
        assert "orders.db" in result.output
        assert "do not delete the anchor" in result.output
        assert not (home.path / "orders.db").exists()


def test_run_without_a_configuration_is_exit_2(home: Home) -> None:
    (home.path / "adapter.toml").unlink()
    result = run(home, "run")
    assert result.exit_code == 2
    assert "adapter.toml" in result.stderr


def test_run_without_a_dataset_is_exit_2(home: Home) -> None:
    (home.path / "adapter.toml").write_text("[adapter]\nrow_limit = 5\n")
    result = run(home, "run")
    assert result.exit_code == 2
    assert "adapter.toml: no dataset" in result.stderr
    assert "hint:" in result.stderr
    assert not (home.path / "ledger.db").exists()


def test_the_version_is_the_packages() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"exchange-adapter {version('department-exchange')}\n")


def test_run_beside_another_adapter_is_exit_3(home: Home) -> None:
    ledger = Ledger.open(home.path / "ledger.db")
    try:
        result = run(home, "run")
    finally:
        ledger.close()
    assert result.exit_code == 3
    assert "another adapter" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("check", "capabilities", "run", "revoke", "stop", "resume", "subject", "reconcile", "subject-answer"),
        *("recipients", "notify"),
    ],
)
def test_every_command_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"exchange-adapter {command}" in result.stdout
