"""The host says at its start what it cannot answer, and keeps the ledger's anchor close behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from adapters import host as module
from adapters.anchor import Anchor, Head
from adapters.config import load_config
from adapters.host import Host
from adapters.sources import Sources
from exchange.home import HomeError
from exchange.v1.directory_pb2 import Role
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.component.adapters.test_sources import COLUMNS, CONFIG, fill
from tests.world import ORIGIN, Party, World


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path, World.standard()) as provider:
        # It has nobody to attach to: what the host does by itself is looked at here.
        provider.session.trust = replace(provider.session.trust, brokers=())
        yield provider


@asynccontextmanager
async def running(provider: Provider, path: Path, config: str = CONFIG) -> AsyncIterator["asyncio.Task[None]"]:
    """The host of a provider, which ends by SIGTERM as it does in life, unless it has ended before."""
    (path / "adapter.toml").write_text(config)
    host = Host(provider.session, load_config(path / "adapter.toml"), provider.ledger, provider.orders)
    task = asyncio.create_task(host.run(lambda _broker: None))
    # One turn of the loop, and its signal handlers are there.
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await asyncio.wait([task])


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the last dataset was looked at."""
    event, look = asyncio.Event(), Host._look

    async def seen(host: Host) -> None:
        await look(host)
        event.set()

    monkeypatch.setattr(Host, "_look", seen)
    return event


async def logged(provider: Provider, path: Path, looked: asyncio.Event, config: str = CONFIG) -> list[EventDict]:
    """What a host logs at its start."""
    with capture_logs() as logs:
        async with running(provider, path, config), asyncio.timeout(10):
            await looked.wait()
    return logs


async def warnings(provider: Provider, path: Path, looked: asyncio.Event, config: str = CONFIG) -> list[EventDict]:
    """What a host says of its datasets at its start."""
    logs = await logged(provider, path, looked, config)
    return [log for log in logs if log["event"] == "a dataset cannot be answered"]


async def test_what_can_be_answered_needs_no_warning(provider: Provider, tmp_path: Path, looked: asyncio.Event) -> None:
    fill(tmp_path / "people.db")
    assert await warnings(provider, tmp_path, looked, CONFIG.partition("[datasets.vehicles]")[0]) == []


def misfit(path: Path, _world: World) -> None:
    fill(path, columns=COLUMNS.replace("name TEXT, ", "").replace("area_m2 DECIMAL", "area_m2 BLOB"))


def without_table(path: Path, _world: World) -> None:
    fill(path, table="others")


def without_database(_path: Path, _world: World) -> None:
    pass


def elsewhere(path: Path, world: World) -> None:
    archive = Party(ORIGIN, "population", "archive")
    world.admit(archive, Role.ROLE_SYSTEM)
    world.publish("vehicles", system=archive)
    fill(path)


def unpublished(path: Path, _world: World) -> None:
    fill(path)


@pytest.mark.parametrize(
    ("prepare", "code", "problems"),
    [
        (misfit, "residents", ["residents.name: ", "residents.area_m2: "]),
        (without_table, "residents", ["there is no table or view residents"]),
        (without_database, "residents", ["database"]),
        (elsewhere, "vehicles", ["published as answered by exchange://city.example/population/archive"]),
        (unpublished, "vehicles", ["not published yet"]),
    ],
)
async def test_what_cannot_be_answered_is_said_at_the_start_finding_by_finding(
    provider: Provider,
    tmp_path: Path,
    looked: asyncio.Event,
    prepare: Callable[[Path, World], None],
    code: str,
    problems: list[str],
) -> None:
    prepare(tmp_path / "people.db", provider.world)
    found = [log for log in await warnings(provider, tmp_path, looked) if log["dataset"] == code]
    assert {log["log_level"] for log in found} == {"warning"}
    assert len(found) == len(problems)
    for log, problem in zip(found, problems, strict=True):
        assert problem in log["problem"]


async def test_a_configuration_that_does_not_fit_is_said_in_its_own_words(
    provider: Provider, tmp_path: Path, looked: asyncio.Event
) -> None:
    fill(tmp_path / "people.db")
    config = CONFIG.replace('table = "residents"', 'table = "residents"\ncolumns = { nosuch = "x" }')
    [log] = [log for log in await warnings(provider, tmp_path, looked, config) if log["dataset"] == "residents"]
    assert "does not describe the field nosuch" in log["problem"]


async def test_without_a_broker_the_mirror_is_asked_and_that_is_said(
    provider: Provider, tmp_path: Path, looked: asyncio.Event
) -> None:
    provider.simulator.down = 1000
    fill(tmp_path / "people.db")
    logs = await logged(provider, tmp_path, looked)
    assert any("judged by the mirror alone" in log["event"] for log in logs)
    assert [log["dataset"] for log in logs if "dataset" in log] == ["vehicles"]


async def test_the_end_of_the_look_is_not_the_end_of_the_host(
    provider: Provider, tmp_path: Path, looked: asyncio.Event
) -> None:
    fill(tmp_path / "people.db")
    async with running(provider, tmp_path) as task, asyncio.timeout(5):
        await looked.wait()
        await asyncio.sleep(0)
        assert not task.done()


async def test_the_ledgers_anchor_follows_while_the_host_runs(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.ANCHOR_SECONDS < 1
    monkeypatch.setattr(module, "ANCHOR_SECONDS", 0.01)
    loop, placed, place = asyncio.get_running_loop(), asyncio.Event(), Anchor.place

    def watched(anchor: Anchor, head: Head) -> None:
        place(anchor, head)
        if head.number == 1:
            loop.call_soon_threadsafe(placed.set)

    monkeypatch.setattr(Anchor, "place", watched)
    async with running(provider, tmp_path):
        await provider.answer(provider.world.request())
        async with asyncio.timeout(5):
            await placed.wait()
        assert Anchor(tmp_path / "ledger.db").seen() == provider.ledger.head


async def test_an_anchor_that_cannot_be_written_ends_the_host(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise HomeError("cannot write the anchor: No space left on device")

    with monkeypatch.context() as context:
        context.setattr(provider.ledger, "place_anchor", full)
        async with running(provider, tmp_path) as task, asyncio.timeout(5):
            with pytest.raises(HomeError, match="No space left"):
                await task


async def test_a_refusal_stays_short_and_the_log_says_why(provider: Provider, tmp_path: Path) -> None:
    config = CONFIG.replace('table = "residents"', 'table = "residents"\ncolumns = { nosuch = "x" }')
    (tmp_path / "adapter.toml").write_text(config)
    sources = Sources(load_config(tmp_path / "adapter.toml"))
    fill(tmp_path / "people.db")
    provider.answerer._sources = sources
    with capture_logs() as logs:
        deny = await provider.denied(provider.world.request())
    assert "nosuch" not in deny.reason
    [problem] = [log["problem"] for log in logs if log["log_level"] == "error"]
    assert "does not describe the field nosuch" in problem
    await sources.close()
