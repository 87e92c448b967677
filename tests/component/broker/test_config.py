from pathlib import Path

import pytest
from pydantic import ValidationError

from exchange.broker.config import BrokerConfig, encode_config, load_config
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


def test_a_config_never_changes() -> None:
    with pytest.raises(ValidationError):
        BrokerConfig(listen="h:1").listen = "h:2"  # type: ignore[misc]
