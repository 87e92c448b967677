"""A department's whole life on separate homes: it joins, shares, is asked, rotates, is robbed, recovers, and leaves."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from examples.city.stage import HOUSING, NAME, POPULATION, PURPOSE, Stage, someone
from examples.joining.measure import Measurement
from exchange.client import ExchangeClient
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.home import Home
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import refused

# Broker and adapter outlive the commands that started them; the fixture ends them by their process ids.
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Life:
    """The people around one department, and what they type."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.measurement = Measurement(stage)
        self.steward, self.system = stage.steward(POPULATION), stage.system(POPULATION)
        self.requester, self.bureau = stage.system(HOUSING), stage.home("data-bureau")

    async def types(self, home: Path, *arguments: str | Path) -> str:
        """Run a command of somebody; returns what it prints."""
        return await asyncio.to_thread(self.stage.must, *arguments, "--home", home)

    async def succeed(self, home: Path, parent: Path, group: tuple[str, str]) -> None:
        """A request for a next key is signed by the parent, and its admission installed."""
        request, admission = home / "request-next.json", self.stage.folder / f"{home.name}-next.json"
        fingerprint = json.loads(await self.types(home, "key", "rotate", *_by(group), "--json"))["key"]
        await self.types(parent, *group, request, "--fingerprint", fingerprint, "--out", admission)
        await self.types(home, "key", "install", admission)

    def client(self) -> ExchangeClient:
        """Housing's system."""
        return ExchangeClient(Session(Home(self.requester)))

    async def ask(self, client: ExchangeClient) -> None:
        """Look one resident up, and see that it is the right one."""
        city = self.measurement.city
        resident = next(item for item in city.residents if item.id_number == someone(city))
        answer = await client.lookup(
            POPULATION.dataset,
            [resident.id_number],
            fields=["name", "address"],
            purpose=PURPOSE,
            case="HS-1",
            officer="officer-17",
        )
        assert [row["name"] for row in answer.rows] == [resident.name]

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Requests that keep coming while the block runs; none may fail."""
        done = asyncio.Event()

        async def asking() -> int:
            asked = 0
            async with self.client() as client:
                while not done.is_set():
                    await self.ask(client)
                    asked += 1
            return asked

        # A client of its own for each would write one home's mirror by several hands.
        task = asyncio.create_task(asking())
        try:
            yield
        finally:
            done.set()
            assert await task > 10


def _by(group: tuple[str, str]) -> tuple[str, ...]:
    return ("--by-department",) if group == ("system", "add") else ()


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    stage = Stage(tmp_path_factory.mktemp("life") / "city")
    try:
        yield Life(stage)
    finally:
        stage.stop()


async def test_a_department_joins_lives_and_leaves(life: Life) -> None:
    # Invite, join, approve, publish, agree, ask.
    url = await asyncio.to_thread(life.measurement.prepare)
    steps = await asyncio.to_thread(life.measurement.run, url)
    assert steps[-1].name == "housing has a verified answer"

    # Everything is rotated while requests keep coming.
    async with life.load():
        await life.types(life.system, "key", "rotate")
        await life.types(life.system, "key", "renew")
        await life.succeed(life.steward, life.stage.operator, ("department", "admit"))
        await life.types(life.steward, "key", "revoke", "--replaced", "--reason", "Replaced")
        await life.types(life.requester, "key", "renew")

    # Suspended by the coordinator, and resumed.
    async with life.client() as client:
        party = f"exchange://{NAME}/{HOUSING.name}/{HOUSING.system}"
        suspended = await life.types(life.bureau, "suspend", party, "--reason", "Under inquiry", "--json")
        with refused(Code.CODE_SUSPENDED):
            await life.ask(client)
        await life.types(life.bureau, "resume", json.loads(suspended)["id"], "--reason", "Nothing was found")
        await life.ask(client)

    # The requester's key is stolen: it ends, what it signed since is listed, and another one takes its place.
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 1))
    async with life.client() as client:
        await life.ask(client)
    stolen = key_id(Home(life.requester).signer().public_key).hex()[:16]
    steward = life.stage.steward(HOUSING)
    told = await life.types(steward, "key", "revoke", stolen, "--since", began, "--reason", "Laptop stolen")
    assert "of the access log" in told
    await life.succeed(life.requester, steward, ("system", "add"))
    async with life.client() as client:
        await life.ask(client)

    # The department's key is gone: the root gives another one, in public view, which the old one could cancel.
    fingerprint = json.loads(await life.types(life.steward, "key", "recover", "--json"))["key"]
    admission = life.stage.folder / "recovered.json"
    request = ("department", "admit", life.steward / "request-next.json", "--fingerprint", fingerprint)
    assert "72 hours" in await life.types(life.stage.operator, *request, "--out", admission)
    assert POPULATION.name in await life.types(life.requester, "key", "pending")

    # It leaves: nothing of it is answered any more, and the log still verifies.
    await life.types(life.steward, "department", "leave", "--reason", "Merged", "--yes")
    async with life.client() as client:
        with refused(Code.CODE_NO_AGREEMENT):
            await life.ask(client)
    assert life.stage.processes.stop()
    assert "are those of the leaves" in await life.types(life.stage.operator / "broker", "log", "fsck")
