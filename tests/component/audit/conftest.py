import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.audit import sync as sync_command
from exchange.cli.audit.main import app
from exchange.client.session import Session
from exchange.home import Home
from tests.component.audit.copies import AuditedExchange, audit_home, busy_world, mirror, write_database
from tests.world import World

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def busy() -> World:
    """A world that no test changes."""
    return busy_world()


@pytest.fixture
def exchange(busy: World) -> AuditedExchange:
    return AuditedExchange(busy.copy())


@pytest.fixture
def home(tmp_path: Path, busy: World) -> Home:
    return audit_home(tmp_path / "audit-office", busy)


@pytest.fixture(scope="session")
def mirrored(tmp_path_factory: pytest.TempPathFactory, busy: World) -> Path:
    """A home whose mirror is complete; copy it."""
    home = audit_home(tmp_path_factory.mktemp("mirrored") / "audit-office", busy)
    asyncio.run(mirror(home, AuditedExchange(busy.copy())))
    return home.path


@pytest.fixture
def synced(tmp_path: Path, mirrored: Path) -> Path:
    return shutil.copytree(mirrored, tmp_path / "synced")


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory, busy: World) -> Path:
    """The broker's database; copy it."""
    return write_database(tmp_path_factory.mktemp("stored") / "exchange.db", busy)


@pytest.fixture
def database(tmp_path: Path, stored: Path) -> Path:
    return Path(shutil.copy(stored, tmp_path / "copy.db"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, exchange: AuditedExchange) -> Run:
    """The command line; `sync` asks the simulated exchange."""
    monkeypatch.setattr(sync_command, "Session", lambda home: Session(home, exchange, exchange.clock))
    monkeypatch.delenv("EXCHANGE_HOME", raising=False)

    def invoke(*arguments: object, home: Path | None = None) -> Result:
        place = ["--home", str(home)] if home is not None else []
        return CliRunner().invoke(app, [*map(str, arguments), *place])

    return invoke
