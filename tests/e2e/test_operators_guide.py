"""The chapters of docs/operator.md on founding and upgrading, command by command."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.main import app
from exchange.store.schema import METADATA, VERSION
from tests.e2e.city import free_port
from tests.e2e.processes import Program
from tests.e2e.test_guides import blocks


class Founder:
    """Who types what founds an exchange; the address of the guide is one of this machine.

    Args:
        folder: where the homes are.
    """

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        run = [
            "-c",
            "from exchange.cli.main import app; app()",
            "broker",
            "run",
            "--home",
            str(folder / "operator" / "broker"),
        ]
        self.broker = Program(run, folder / "broker.log", "is ready on", {})

    def type(self, line: str) -> str:
        """Type a line that must succeed; returns what it prints."""
        if line == "exchange broker run --home ./operator/broker":
            self.broker.start()
            return self.broker.output
        program, *arguments = line.replace("broker.city.example:7443", self.address).split()
        assert program == "exchange"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.stdout


@pytest.fixture
def founder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Founder]:
    monkeypatch.chdir(tmp_path)
    founder = Founder(tmp_path)
    yield founder
    founder.broker.kill()


def lines(chapter: str) -> list[str]:
    return [line for _, text, _ in blocks("operator.md", chapter) for line in text.splitlines()]


def test_an_exchange_is_founded_as_the_guide_says(founder: Founder) -> None:
    founded, _, status, doctor = (founder.type(line) for line in lines("Founding an exchange"))
    assert "Founded the exchange city.example" in founded
    assert f"{founder.address} reachable" in status
    assert "0 fail" in doctor


def test_a_database_of_an_earlier_release_is_upgraded_as_the_guide_says(founder: Founder) -> None:
    founder.type("exchange init city.example --home ./operator --listen broker.city.example:7443")
    with closing(sqlite3.connect("operator/broker/exchange.db")) as database, database:
        for table in set(METADATA.tables) - {"entries", "nodes", "heads"}:
            database.execute(f"DROP TABLE {table}")
        database.execute("PRAGMA user_version = 1")
    founder.broker.start(wait=False)
    assert founder.broker.wait_exit() != 0
    assert "exchange log migrate --home" in founder.broker.output
    shown, migrated, checked = (founder.type(line) for line in lines("Upgrades"))
    assert "CREATE TABLE" in shown
    assert f"was of version 1, and is of version {VERSION} now" in migrated
    assert "FAIL" not in checked
    founder.type("exchange broker run --home ./operator/broker")
