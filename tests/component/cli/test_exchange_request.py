"""`exchange request --proof`: the receipt as a file that a stranger can verify."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.frame import acting
from exchange.cli.main import app
from exchange.cli.using import request
from exchange.client import Session, sqlite_file
from exchange.core.tlog_proof import parse_proof, verify_proof
from tests.simulator import Simulator, make_home, trust_of
from tests.world import ID_NUMBER, PURPOSE, World


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    simulator = Simulator(World.standard())
    monkeypatch.setattr(sqlite_file, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(acting, "Session", lambda home: Session(home, simulator, simulator.clock))
    return simulator


def ask(tmp_path: Path, simulator: Simulator, proof: Path) -> Result:
    home = make_home(tmp_path / "home", simulator.world)
    about = ["--purpose", PURPOSE, "--case", "ZF-2027-0001", "--officer", "o-7", "--proof", str(proof)]
    asked = ["request", "population/residents", "--key", ID_NUMBER, "--fields", "name,address"]
    return CliRunner().invoke(app, [*asked, *about, "--home", str(home.path)])


def test_the_receipt_is_written_as_a_proof(tmp_path: Path, simulator: Simulator) -> None:
    path = tmp_path / "answer.tlog-proof"
    result = ask(tmp_path, simulator, path)
    assert result.exit_code == 0, result.output
    proof, log = parse_proof(path.read_bytes()), simulator.world.access_log
    assert proof.extra == log.leaves[0]
    assert verify_proof(proof, proof.extra, trust_of(simulator.world).access_log).size == log.size


def test_nothing_is_asked_where_the_proof_could_not_be_written(tmp_path: Path, simulator: Simulator) -> None:
    result = ask(tmp_path, simulator, tmp_path / "missing" / "answer.tlog-proof")
    assert result.exit_code == 3
    assert simulator.world.access_log.size == 0


def test_the_example_of_the_help_shows_it() -> None:
    assert "--proof" in CliRunner().invoke(request.app, ["--help"]).stdout.split("Example:")[1]
