import errno
import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from exchange.broker.app import BrokerError
from exchange.cli.frame.output import grouped
from exchange.cli.main import app
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
        (("city.example", "--host", "bad host"), "--host: 'bad host' is not a name or address of a machine"),
        (("city.example", "--host", "*"), "--host: '*' is not a name"),
        (("city.example", "--host", "*.city.example"), "--host: '*.city.example' is not a name"),
        (("city.example", "--host", ""), "--host: '' is not a name"),
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
    assert result.exit_code == 2
    assert Home(tmp_path / "operator").trust == before


def test_a_broker_runs_in_its_own_home_alone(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path / "operator")
    result = run("broker", "run", "--home", tmp_path / "operator")
    assert result.exit_code == 2
    assert "a broker runs in the folder broker" in result.stderr


def test_a_founding_that_was_cut_short_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "operator"
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["exchange.broker.genesis"].SqlLogStore, "create", killed)
        assert run("init", "city.example", "--home", path).exit_code == 130
    result = run("init", "city.example", "--home", path)
    assert result.exit_code == 2
    assert "was not finished" in result.stderr
    assert f"hint: delete {path}, and run this again" in result.stderr


def test_a_machine_is_named_by_name_or_address(tmp_path: Path) -> None:
    names = ("--host", "broker.city.example", "--host", "192.0.2.7", "--host", "::1")
    assert run("init", "city.example", *names, "--home", tmp_path / "operator").exit_code == 0


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(home: Home, ready: object) -> None:
        raise BrokerError("cannot listen on 127.0.0.1:7443: is another broker running there?")

    run("init", "city.example", "--home", tmp_path / "operator")
    monkeypatch.setattr(sys.modules["exchange.broker.app"], "serve", serve)
    result = run("broker", "run", "--home", tmp_path / "operator" / "broker")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "exchange: error: cannot listen on 127.0.0.1:7443: is another broker running there?\n"


def run_broker(home: Path) -> Result:
    return run("broker", "run", "--home", home / "broker")


def test_a_database_that_is_gone_while_its_anchor_stands_is_a_rollback(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path)
    (tmp_path / "broker" / "exchange.db").unlink()
    result = run_broker(tmp_path)
    assert result.exit_code == 4
    assert "the database is missing, but the anchor has seen its logs" in result.stderr
    assert "do not delete the anchor" in result.stderr


class FakeSocket:
    """A socket whose address cannot be bound, for the reason of the moment."""

    why = 0

    def __init__(self, *_: object) -> None:
        return None

    def __enter__(self) -> "FakeSocket":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def setsockopt(self, *_: object) -> None:
        return None

    def bind(self, address: object) -> None:
        raise OSError(self.why, os.strerror(self.why))


def patch_sockets(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Change what the broker alone sees of the module socket: the event loop has sockets of its own."""
    seen = SimpleNamespace(**(vars(socket) | changes))
    monkeypatch.setattr(sys.modules["exchange.broker.app"], "socket", seen)


@pytest.mark.parametrize(
    ("why", "message"),
    [
        (errno.EADDRINUSE, "another program listens there"),
        (errno.EADDRNOTAVAIL, "no network interface of this machine has that address"),
        (errno.EACCES, "ports below 1024 need a permission of their own"),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
    ],
)
def test_why_a_broker_cannot_listen_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: int, message: str
) -> None:
    run("init", "city.example", "--home", tmp_path)
    monkeypatch.setattr(FakeSocket, "why", why)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 7443))]
    patch_sockets(monkeypatch, socket=FakeSocket, getaddrinfo=lambda *_, **__: found)
    result = run_broker(tmp_path)
    assert result.exit_code == 3
    assert f"error: cannot listen on 127.0.0.1:7443: {message}" in result.stderr


def test_a_host_without_an_address_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    run("init", "city.example", "--listen", "broker.city.example:7443", "--home", tmp_path)
    patch_sockets(monkeypatch, getaddrinfo=unknown)
    result = run_broker(tmp_path)
    assert result.exit_code == 3
    assert "broker.city.example has no address" in result.stderr


def test_a_configuration_that_cannot_be_is_wrong_usage(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path)
    (tmp_path / "broker" / "broker.toml").write_text('lisen = "127.0.0.1:7443"')
    result = run_broker(tmp_path)
    assert result.exit_code == 2
    assert "lisen: unknown setting\nhint: did you mean listen?" in result.stderr


@pytest.mark.parametrize("name", ["tls.pem", "keys/access-log.pem", "keys/signing.pem", "tls-authority.pem"])
def test_what_a_broker_has_lost_comes_from_its_backup(tmp_path: Path, name: str) -> None:
    run("init", "city.example", "--home", tmp_path)
    (tmp_path / "broker" / name).unlink()
    result = run_broker(tmp_path)
    assert result.exit_code == 3
    assert "backup" in result.stderr
    assert "key new" not in result.stderr
