"""`exchange-audit witness`: a key, settings and a memory are made once, and what is wrong is said."""

import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.audit.main import app
from exchange.core.cosignature import CosignatureVerifier
from exchange.core.trust import Trust, encode_trust
from exchange.witness.config import WitnessHome
from tests.component.witness.histories import LOG, OTHER
from tests.simulator import trust_of
from tests.world import World

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["witness", *arguments, "--home", str(tmp_path / "witness")])

    return call


@pytest.fixture(scope="session")
def trust() -> Trust:
    return trust_of(World.standard())


def test_new_prints_the_key_that_others_trust(run: Run, tmp_path: Path) -> None:
    result = run("new", "witness.test/w1", "--log", str(LOG.verifier))
    assert result.exit_code == 0, result.stderr
    place = WitnessHome(tmp_path / "witness")
    verifier = place.cosigner("witness.test/w1").verifier
    assert f"witness NAME {verifier} http://127.0.0.1:8471" in result.stdout
    assert CosignatureVerifier.parse(str(verifier)) == verifier
    assert place.logs(place.config()) == {LOG.name: LOG.verifier}
    assert (tmp_path / "witness" / "keys" / "witness.pem").stat().st_mode & 0o077 == 0


def test_new_witnesses_both_logs_of_a_trust_file(run: Run, tmp_path: Path, trust: Trust) -> None:
    file = tmp_path / "trust.toml"
    file.write_text(encode_trust(trust))
    assert run("new", "witness.test", "--trust", str(file)).exit_code == 0
    place = WitnessHome(tmp_path / "witness")
    logs = trust.directory_log, trust.access_log
    assert place.logs(place.config()) == {log.name: log for log in logs}


def test_new_takes_the_trust_file_of_the_home(run: Run, tmp_path: Path, trust: Trust) -> None:
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness" / "trust.toml").write_text(encode_trust(trust))
    assert run("new", "witness.test").exit_code == 0
    place = WitnessHome(tmp_path / "witness")
    assert set(place.logs(place.config())) == {trust.directory_log.name, trust.access_log.name}


def test_a_witness_is_not_made_twice(run: Run, tmp_path: Path) -> None:
    run("new", "witness.test", "--log", str(LOG.verifier))
    key = (tmp_path / "witness" / "keys" / "witness.pem").read_bytes()
    again = run("new", "witness.test", "--log", str(LOG.verifier))
    assert again.exit_code == 2
    assert "home of a witness already" in again.stderr
    assert (tmp_path / "witness" / "keys" / "witness.pem").read_bytes() == key


@pytest.mark.parametrize(
    "arguments",
    [
        ("witness.test",),
        ("witness test", "--log", str(LOG.verifier)),
        ("witness+test", "--log", str(LOG.verifier)),
        ("witness.test", "--log", "city.test/access"),
        ("witness.test", "--log", str(LOG.verifier), "--log", str(LOG.verifier)),
        ("witness.test", "--log", str(LOG.verifier), "--listen", "8471"),
        ("witness.test", "--log", str(LOG.verifier), "--listen", "127.0.0.1:70000"),
    ],
)
def test_wrong_usage_makes_nothing(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run("new", *arguments)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ('name = "w"\nlogs = ""\n', "no log is witnessed"),
        ('name = "w"\nlog = "x"\ntrust = ["t"]\n', "log"),
        ('name = "w"\ntrust = ["t"]\ntls_key = "k.pem"\n', "belong together"),
        ("name = ", "Invalid value"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(run: Run, tmp_path: Path, settings: str, what: str) -> None:
    run("new", "witness.test", "--log", str(LOG.verifier))
    (tmp_path / "witness" / "witness.toml").write_text(settings)
    result = run("run")
    assert result.exit_code == 2
    assert what in result.stderr


def test_two_keys_of_one_log_are_refused(run: Run, tmp_path: Path) -> None:
    second = OTHER.verifier.of(LOG.name, OTHER.verifier.public_key)
    result = run("new", "witness.test", "--log", str(LOG.verifier), "--log", str(second))
    assert result.exit_code == 2
    assert "two keys" in result.stderr


def test_run_without_its_memory_does_not_go_on(run: Run, tmp_path: Path) -> None:
    run("new", "witness.test", "--log", str(LOG.verifier))
    (tmp_path / "witness" / "witness.db").unlink()
    result = run("run")
    assert result.exit_code == 3
    assert "is missing" in result.stderr


def test_run_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("new", "witness.test", "--log", str(LOG.verifier))
    monkeypatch.delitem(sys.modules, "exchange.witness.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("run")
    assert result.exit_code == 2
    assert "pip install 'department-exchange[witness]'" in result.stderr


def test_run_says_why_it_cannot_listen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(socket, "create_server", taken)
    run("new", "witness.test", "--log", str(LOG.verifier), "--listen", "127.0.0.1:8471")
    result = run("run")
    assert result.exit_code == 3
    assert "cannot listen on 127.0.0.1:8471: Address already in use" in result.stderr
