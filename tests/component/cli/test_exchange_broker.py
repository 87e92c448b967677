"""Founding on PostgreSQL, and one more broker beside the first."""

import stat
from pathlib import Path

import pytest

from exchange.broker.app import _open
from exchange.broker.config import load_config
from exchange.broker.genesis import log_signers
from exchange.core.checkpoint import open_checkpoint
from exchange.core.directory import Directory
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from exchange.transport import certificate_key, certificate_party
from exchange.v1.directory_pb2 import Role
from tests.component.cli.test_exchange_init import run
from tests.databases import Server, database_of

SECOND = ("broker", "add", "broker-2", "--listen", "127.0.0.1:7444")


@pytest.fixture
def url(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of an empty database, as it is typed: without its password."""
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    return postgres_server.new_database().replace(f":{postgres_server.password}@", "@")


@pytest.fixture
def operator(tmp_path: Path, url: str) -> Home:
    path = tmp_path / "operator"
    result = run("init", "city.example", "--database", url, "--home", path)
    assert result.exit_code == 0, result.stderr
    return Home(path)


def directory_of(home: Home) -> Directory:
    store = SqlLogStore.open(load_config(home.path).database)
    directory = Directory.genesis(home.trust.name, home.trust.root_key)
    for entry in store.entries(Log.DIRECTORY, 0, 1 << 30, 1000):
        directory, _ = directory.apply(entry.leaf, entry.body)
    store.close()
    return directory


def test_an_exchange_is_founded_in_a_database(operator: Home, url: str) -> None:
    broker = Home(operator.path / "broker")
    assert load_config(broker.path).database == url
    assert not (broker.path / "exchange.db").exists()
    store = _open(broker, load_config(broker.path))
    assert store.head(Log.DIRECTORY).size == 1
    for log, signer in log_signers(broker).items():
        assert (broker.path / "anchor" / log.value).read_bytes() == store.head(log).checkpoint
        open_checkpoint(store.head(log).checkpoint, signer.verifier)
    store.close()


def test_a_database_that_is_not_empty_is_refused_before_any_key_is_made(
    operator: Home, url: str, tmp_path: Path, postgres_server: Server
) -> None:
    again = tmp_path / "again"
    result = run("init", "town.example", "--database", url, "--home", again)
    assert (result.exit_code, again.exists()) == (3, False)
    assert "holds a log store already" in result.stderr
    other = postgres_server.new_database()
    postgres_server.execute("CREATE TABLE theirs (x int)", database_of(other))
    bare = other.replace(f":{postgres_server.password}@", "@")
    result = run("init", "town.example", "--database", bare, "--home", again)
    assert (result.exit_code, again.exists()) == (3, False)
    assert "holds something else" in result.stderr


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("postgresql://exchange:s3cret@host/x", "a password does not belong on a command line"),
        ("postgresql://exchange@host/x?password=s3cret", "a password does not belong on a command line"),
        ("mysql://exchange:s3cret@host/x", "a file, or a PostgreSQL database, is expected"),
        ("postgresql://[s3cret@host/x", "not a URL"),
        ("postgresql://exchange@host/x?unheard=s3cret", "not of the form"),
    ],
)
def test_a_database_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, database: str, message: str) -> None:
    result = run("init", "city.example", "--database", database, "--home", tmp_path / "operator")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "s3cret" not in result.stderr + result.stdout
    assert not (tmp_path / "operator").exists()


def test_a_password_in_the_configuration_is_for_its_owners_eyes_and_never_printed(
    operator: Home, postgres_server: Server, tmp_path: Path
) -> None:
    path = operator.path / "broker" / "broker.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    path.write_text(text.replace("postgres@", f"postgres:{postgres_server.password}@"))
    config = load_config(path.parent)
    assert postgres_server.password in config.database
    assert postgres_server.password not in repr(config)
    path.chmod(0o644)
    result = run(*SECOND, "--home", operator.path)
    assert result.exit_code == 2
    assert "can be read by others" in result.stderr
    assert f"chmod 600 {path}" in result.stderr
    assert postgres_server.password not in result.stderr


@pytest.mark.parametrize(
    ("statement", "exit_code", "message"),
    [
        ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", 4, "the database is missing, but the anchor has seen"),
        ("ALTER DATABASE {name} SET synchronous_commit = off", 3, "synchronous_commit = off: it may lose"),
        ("ALTER DATABASE {name} ALLOW_CONNECTIONS false", 3, "the database of broker.toml"),
    ],
)
def test_a_broker_whose_database_cannot_be_used_says_why(
    operator: Home, url: str, postgres_server: Server, statement: str, exit_code: int, message: str
) -> None:
    name = database_of(url)
    postgres_server.execute(statement.format(name=name), "postgres" if "{name}" in statement else name)
    result = run("broker", "run", "--home", operator.path / "broker")
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr
    assert postgres_server.password not in result.stderr


def test_one_more_broker_has_the_logs_keys_and_keys_of_its_own(operator: Home) -> None:
    result = run(*SECOND, "--host", "b2.city.example", "--home", operator.path)
    assert result.exit_code == 0, result.stderr
    first, second = Home(operator.path / "broker"), Home(operator.path / "broker-2")
    assert str(second.party) == "exchange://city.example/broker-2"
    for name in ("directory-log", "access-log", "tls-authority"):
        assert (second.keys / f"{name}.pem").read_bytes() == (first.keys / f"{name}.pem").read_bytes()
    for name in ("signing", "tls"):
        assert (second.keys / f"{name}.pem").read_bytes() != (first.keys / f"{name}.pem").read_bytes()
    for path in second.keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    public = second.signer().public_key
    [key] = directory_of(second).state.keys_of(second.party)
    assert (key.public_key, key.role, key.index) == (public, Role.ROLE_BROKER, 1)
    assert certificate_party(second.read("tls.pem")) == second.party
    assert certificate_key(second.read("tls.pem")) == key.key_id
    assert b"b2.city.example" not in first.read("broker.toml")
    assert "b2.city.example" in load_config(second.path).hosts
    store = _open(second, load_config(second.path))
    for log in Log:
        # Placed before its key was entered: what comes after continues it.
        assert (second.path / "anchor" / log.value).exists()
    store.close()
    for home in (operator, first, second):
        assert home.trust.brokers == ("127.0.0.1:7443", "127.0.0.1:7444")
    for text in ("Added exchange://city.example/broker-2.", "1 of city.example/directory", "Next: exchange broker run"):
        assert text in result.stdout


@pytest.mark.parametrize("name", ["broker", "broker-2"])
def test_a_name_is_given_once(operator: Home, name: str, tmp_path: Path) -> None:
    assert run(*SECOND, "--home", operator.path).exit_code == 0
    (operator.path / name).rename(tmp_path / "elsewhere")
    source = tmp_path / "elsewhere" if name == "broker" else operator.path / "broker"
    result = run("broker", "add", name, "--listen", "127.0.0.1:7445", "--from", source, "--home", operator.path)
    assert result.exit_code == 2
    assert "has a key in the directory already" in result.stderr
    assert not (operator.path / name).exists()


def test_brokers_behind_one_address_add_none(operator: Home) -> None:
    result = run("broker", "add", "broker-2", "--listen", "127.0.0.1:7443", "--json", "--home", operator.path)
    assert result.exit_code == 0
    assert '"brokers": [\n    "127.0.0.1:7443"\n  ]' in result.stdout


def test_a_database_that_was_exchanged_gets_no_further_broker(
    operator: Home, url: str, postgres_server: Server
) -> None:
    postgres_server.execute("UPDATE heads SET size = 0 WHERE log = 'directory'", database_of(url))
    result = run(*SECOND, "--home", operator.path)
    assert result.exit_code == 4
    assert "it was rolled back" in result.stderr
    assert not (operator.path / "broker-2").exists()


def test_a_file_is_not_shared(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path)
    result = run(*SECOND, "--home", tmp_path)
    assert result.exit_code == 2
    assert "which one broker alone can open" in result.stderr
    assert "exchange init --database" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Broker", "--listen", "127.0.0.1:7444"), "not a name segment"),
        (("broker-2", "--listen", "0.0.0.0:7444"), "nobody can dial"),
        (("broker-2", "--listen", "127.0.0.1"), "is not HOST:PORT"),
        (("broker-2", "--listen", "127.0.0.1:7444", "--host", "*.city"), "is not a name or address"),
    ],
)
def test_what_is_typed_is_checked_first(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    run("init", "city.example", "--home", tmp_path)
    result = run("broker", "add", *arguments, "--home", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr


def test_only_the_operator_adds_brokers(tmp_path: Path) -> None:
    run("init", "city.example", "--home", tmp_path)
    result = run(*SECOND, "--home", tmp_path / "broker")
    assert result.exit_code == 2
    assert "only the operator makes brokers" in result.stderr
