import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from exchange.broker.app import BrokerError
from exchange.cli.main import app
from exchange.cli.output import grouped
from exchange.core.keys import key_id
from exchange.home import Home


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def test_an_exchange_is_founded_and_its_next_step_told(tmp_path: Path) -> None:
    result = run("init", "city.example", "--home", tmp_path / "operator")
    assert result.exit_code == 0, result.stderr
    trust = Home(tmp_path / "operator").trust
    assert Home(tmp_path / "operator" / "broker").trust == trust
    assert grouped(key_id(trust.root_key)) in result.stdout
    assert "belongs offline" in result.stdout
    assert f"Next: exchange broker run --home {tmp_path / 'operator' / 'broker'}" in result.stdout


def test_it_prints_json(tmp_path: Path) -> None:
    shown = json.loads(run("init", "city.example", "--home", tmp_path / "operator", "--json").stdout)
    assert shown["brokers"] == ["127.0.0.1:7443"]
    assert Path(shown["trust_file"]).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("City!",), "not a domain"),
        (("city.example", "--listen", "nowhere"), "is not HOST:PORT"),
        (("city.example", "--listen", "host:0"), "is not HOST:PORT"),
        (("city.example", "--listen", "host:65536"), "is not HOST:PORT"),
        (("city.example", "--listen", ":7443"), "is not HOST:PORT"),
        (("city.example", "--listen", "0.0.0.0:7443"), "nobody can dial 0.0.0.0"),
        (("city.example", "--listen", "[::]:7443"), "nobody can dial"),
    ],
)
def test_what_cannot_be_founded_leaves_nothing_behind(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("init", *arguments, "--home", tmp_path / "operator")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "operator").exists()


def test_a_home_is_never_founded_twice(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path / "operator")
    before = Home(tmp_path / "operator").trust
    result = run("init", "other.example", "--home", tmp_path / "operator")
    assert result.exit_code == 3
    assert Home(tmp_path / "operator").trust == before


def test_a_broker_runs_in_its_own_home_alone(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path / "operator")
    result = run("broker", "run", "--home", tmp_path / "operator")
    assert result.exit_code == 2
    assert "a broker runs in the folder broker" in result.stderr


@pytest.fixture
def restored_logging() -> Iterator[None]:
    config = structlog.get_config()
    yield
    structlog.configure(**config)


@pytest.mark.usefixtures("restored_logging")
def test_a_broker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(home: Home, ready: object) -> None:
        raise BrokerError("cannot listen on 127.0.0.1:7443: is another broker running there?")

    run("init", "city.example", "--home", tmp_path / "operator")
    monkeypatch.setattr(sys.modules["exchange.broker.app"], "serve", serve)
    result = run("broker", "run", "--home", tmp_path / "operator" / "broker")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "exchange: error: cannot listen on 127.0.0.1:7443: is another broker running there?\n"
