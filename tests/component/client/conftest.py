from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exchange.client import ExchangeClient, Session, sqlite_file, use_file
from exchange.home import Home
from tests.simulator import Simulator, make_home
from tests.world import World


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability has a test of its own; the others need not wait for the disk."""
    monkeypatch.setattr(sqlite_file, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(use_file, "SYNCHRONOUS", "OFF")


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(World.standard())


@pytest.fixture
def home(tmp_path: Path, simulator: Simulator) -> Home:
    return make_home(tmp_path / "home", simulator.world)


@pytest.fixture
async def session(home: Home, simulator: Simulator) -> AsyncIterator[Session]:
    session = Session(home, simulator, simulator.clock)
    async with session:
        yield session


@pytest.fixture
async def client(session: Session) -> AsyncIterator[ExchangeClient]:
    async with ExchangeClient(session) as client:
        yield client
