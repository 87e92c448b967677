import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from exchange.broker.config import BrokerConfig, ConfigError, encode_config, load_config
from exchange.home import HomeError


def load(folder: Path, text: str) -> BrokerConfig:
    (folder / "broker.toml").write_text(text)
    return load_config(folder)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    config = BrokerConfig(
        listen="[::1]:7443",
        hosts=("broker.city.example", "::1"),
        database="data/exchange.db",
        anchor=Path("elsewhere"),
        requests_per_second=12.5,
        burst=50,
        drain_seconds=0,
        metrics="127.0.0.1:9743",
        join_listen="[::1]:7444",
        join_address="b.city.example:443",
        joins_per_second=0.5,
        joins_burst=3,
    )
    assert load(tmp_path, encode_config(config)) == config
    assert load(tmp_path, encode_config(BrokerConfig(listen="localhost:1"))) == BrokerConfig(listen="localhost:1")


def test_only_where_to_listen_has_to_be_said(tmp_path: Path) -> None:
    assert load(tmp_path, 'listen = "127.0.0.1:7443"') == BrokerConfig(listen="127.0.0.1:7443")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "listen: "),
        ("listen = 7443", "listen: "),
        ('listen = "7443"', "listen: "),
        ('listen = "host"', "listen: "),
        ('listen = "a:b:7443"', "listen: "),
        ('listen = "host:7443 "', "listen: "),
        ('listen = "host:123456"', "listen: "),
        ('listen = "h:0"', "a port is a number from 1 to 65535"),
        ('listen = "h:65536"', "a port is a number from 1 to 65535"),
        ('lisen = "h:1"', "lisen: unknown setting"),
        ('listen = "h:1"\nlisten_on = "h:2"', "listen_on: "),
        ('listen = "h:1"\nrequests_per_second = 0', "requests_per_second: "),
        ('listen = "h:1"\nburst = 0.5', "burst: "),
        ('listen = "h:1"\njoin_listen = "h"', "join_listen: "),
        ('listen = "h:1"\njoin_listen = "h:0"', "a port is a number from 1 to 65535"),
        ('listen = "h:1"\njoins_burst = 0', "joins_burst: "),
        ('listen = "h:1"\ndrain_seconds = -1', "drain_seconds: "),
        ('listen = "h:1"\nhosts = ["a b"]', "hosts.0: "),
        ("listen =", "Invalid value"),
        ('listen = "h:1"\n# by hand\nmetrics = "0.0.0.0:9743"', "broker.toml:3: metrics: "),
        ('listen = "h:1"\nmetrics = "localhost:9743"', "figures are for this machine alone"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HomeError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "broker.toml") in str(caught.value)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("name", "hint"), [("lisen", "did you mean listen?"), ("zzz", "known are listen, hosts,")])
def test_an_unknown_setting_gets_a_near_one(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(HomeError) as caught:
        load(tmp_path, f'{name} = "h:1"')
    assert hint in caught.value.hint


def test_a_missing_file_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(HomeError) as caught:
        load_config(tmp_path)
    assert "exchange init" in caught.value.hint


def test_bytes_that_are_no_text_are_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_bytes(b'listen = "\xff"')
    with pytest.raises(HomeError):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('# The broker\nlisten = "h:1"\nburst = 0', "broker.toml:3: burst: "),
        ('listen = "h:1"\n\n\nlisen = "h:1"', "broker.toml:4: lisen: "),
        ('listen = "h:1"\nhosts = ["a", "b c"]', "broker.toml:2: hosts.1: "),
        ('listen = "h:1"\nburst =\n', "broker.toml:2: "),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HomeError, match=re.escape(says)):
        load(tmp_path, text)


def test_the_environment_stands_above_the_file(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text('listen = "h:1"\nburst = 10\nretention_days = 7')
    environment = {
        "EXCHANGE_BROKER_LISTEN": "0.0.0.0:7443",
        "EXCHANGE_BROKER_HOSTS": "broker, broker.city.example",
        "EXCHANGE_BROKER_BURST": "50",
        "EXCHANGE_BROKER_ANCHOR": "/var/lib/anchor",
        "EXCHANGE_HOME": "elsewhere",
    }
    config = load_config(tmp_path, environment)
    assert (config.listen, config.burst, config.retention_days) == ("0.0.0.0:7443", 50, 7)
    assert config.hosts == ("broker", "broker.city.example")
    assert config.anchor == Path("/var/lib/anchor")


def test_every_setting_has_its_variable(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text("")
    secret = tmp_path / "url"
    secret.write_text("exchange.db\n")
    secret.chmod(0o400)
    wanted = BrokerConfig(listen="h:1", hosts=("h",)).model_dump() | {"database_file": secret}
    texts = wanted | {"hosts": "h"}
    named = {f"EXCHANGE_BROKER_{name.upper()}": str(value) for name, value in texts.items() if name != "database"}
    assert load_config(tmp_path, named).model_dump() == wanted


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EXCHANGE_BROKER_LISTEN", "h:99999", "EXCHANGE_BROKER_LISTEN: a port is a number from 1 to 65535"),
        ("EXCHANGE_BROKER_BURST", "many", "EXCHANGE_BROKER_BURST: "),
        ("EXCHANGE_BROKER_HOSTS", "a b", "EXCHANGE_BROKER_HOSTS: "),
        ("EXCHANGE_BROKER_MISSING_QUORUM", "", "EXCHANGE_BROKER_MISSING_QUORUM: "),
        ("EXCHANGE_BROKER_DATABASE", "postgresql://u:s3cret@[", "EXCHANGE_BROKER_DATABASE: "),
        ("EXCHANGE_BROKER_DATABASE_FILE", "missing", "missing: No such file"),
    ],
)
def test_a_wrong_variable_is_named_and_its_value_is_not(tmp_path: Path, name: str, value: str, says: str) -> None:
    (tmp_path / "broker.toml").write_text('listen = "h:1"')
    with pytest.raises(HomeError) as caught:
        load_config(tmp_path, {name: value})
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EXCHANGE_BROKER_LISEN", "did you mean EXCHANGE_BROKER_LISTEN?"),
        ("EXCHANGE_BROKER_", "known are EXCHANGE_BROKER_LISTEN, "),
    ],
)
def test_an_unknown_variable_is_refused(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "broker.toml").write_text('listen = "h:1"')
    with pytest.raises(ConfigError, match=f"{name}: unknown variable") as caught:
        load_config(tmp_path, {name: "h:2"})
    assert hint in caught.value.hint


def secret_file(folder: Path, text: str, mode: int = 0o440) -> Path:
    path = folder / "log-database"
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


URL = "postgresql://broker:s3cret@db/log"


def test_the_database_may_be_a_secret_file(tmp_path: Path) -> None:
    path = secret_file(tmp_path, f"{URL}\n")
    config = load(tmp_path, 'listen = "h:1"\ndatabase_file = "log-database"')
    assert (config.database, config.database_file) == (URL, path)
    assert load_config(tmp_path, {"EXCHANGE_BROKER_DATABASE": "other.db"}).database == "other.db"
    (tmp_path / "broker.toml").write_text('listen = "h:1"\ndatabase = "exchange.db"')
    (tmp_path / "broker.toml").chmod(0o644)
    assert load_config(tmp_path, {"EXCHANGE_BROKER_DATABASE_FILE": str(path)}).database == URL
    assert "s3cret" not in repr(config)


def test_a_secret_file_is_named_in_a_new_configuration_and_never_copied(tmp_path: Path) -> None:
    secret_file(tmp_path, URL)
    config = load(tmp_path, 'listen = "h:1"\ndatabase_file = "log-database"')
    text = encode_config(config)
    assert "s3cret" not in text
    assert load(tmp_path, text) == config


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (URL, 0o444, "can be read by everybody"),
        ("", 0o400, "one line is expected"),
        (f"{URL}\n{URL}\n", 0o400, "one line is expected"),
        ("postgresql://u:s3cret@[", 0o400, "log-database: "),
        ("postgresql://u:s3cret@db/a b", 0o400, "log-database: "),
        ("s3cret" * 20_000, 0o400, "one line is expected"),
    ],
)
def test_a_secret_file_that_is_none_is_refused_and_not_repeated(
    tmp_path: Path, text: str, mode: int, says: str
) -> None:
    secret_file(tmp_path, text, mode)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, 'listen = "h:1"\ndatabase_file = "log-database"')
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_database_is_said_once(tmp_path: Path) -> None:
    secret_file(tmp_path, URL)
    with pytest.raises(ConfigError, match="database and database_file"):
        load(tmp_path, 'listen = "h:1"\ndatabase = "a"\ndatabase_file = "log-database"')
    (tmp_path / "broker.toml").write_text('listen = "h:1"')
    both = {"EXCHANGE_BROKER_DATABASE": "a", "EXCHANGE_BROKER_DATABASE_FILE": "log-database"}
    with pytest.raises(ConfigError, match="EXCHANGE_BROKER_DATABASE and EXCHANGE_BROKER_DATABASE_FILE"):
        load_config(tmp_path, both)


def test_a_config_never_changes() -> None:
    with pytest.raises(ValidationError):
        BrokerConfig(listen="h:1").listen = "h:2"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("listen", "address", "told"),
    [
        ("", "", ""),
        ("", "b.city.example:7444", ""),
        ("b.city.example:7444", "", "b.city.example:7444"),
        ("0.0.0.0:7444", "", ""),
        ("[::]:7444", "", ""),
        ("0.0.0.0:7444", "b.city.example:443", "b.city.example:443"),
    ],
)
def test_invites_name_an_address_that_can_be_dialled(listen: str, address: str, told: str) -> None:
    config = BrokerConfig(listen="h:1", join_listen=listen, join_address=address)
    assert config.takes_invites_at == told
