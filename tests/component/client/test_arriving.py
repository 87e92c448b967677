"""A sync longer than memory, or than the process that began it: what has come is kept, and believed at the end."""

import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from exchange.client import arriving
from exchange.client.arriving import FILE
from exchange.client.errors import EvidenceError, ForkError, UnavailableError
from exchange.client.mirror import DirectoryMirror
from exchange.core.trust import Trust
from exchange.transport import DIRECTORY_PROVE, DIRECTORY_SYNC
from exchange.v1.log_pb2 import DirectoryServiceSyncRequest, Record
from tests.component.client.test_mirror import other_history
from tests.memory import MemoryLog
from tests.simulator import Simulator, lost_connection, trust_of


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page is a stretch."""
    monkeypatch.setattr(arriving, "STRETCH", 1)


@pytest.fixture
def trust(simulator: Simulator) -> Trust:
    simulator.page = 3
    return trust_of(simulator.world)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


def kept(path: Path) -> list[int]:
    """The positions that wait beside a mirror."""
    with closing(sqlite3.connect(path.with_name(FILE))) as file:
        return [position for (position,) in file.execute("SELECT position FROM entries ORDER BY position")]


def starts(simulator: Simulator) -> list[int]:
    """Where the pages that were asked for began."""
    asked = [request for method, request in simulator.calls if method == DIRECTORY_SYNC]
    return [DirectoryServiceSyncRequest.FromString(request).start for request in asked]


def killed_at(index: int) -> Callable[[Record], Record]:
    """The connection is lost while a page with this entry is sent."""

    def record(record: Record) -> Record:
        if record.index == index:
            raise lost_connection()
        return record

    return record


async def interrupted(path: Path, trust: Trust, simulator: Simulator, index: int = 7) -> None:
    simulator.sync_record = killed_at(index)
    with pytest.raises(UnavailableError):
        await (await DirectoryMirror.open(path, trust)).sync(simulator)
    simulator.sync_record = lambda record: record
    simulator.calls.clear()


async def test_a_long_log_is_the_same_directory(path: Path, trust: Trust, simulator: Simulator) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    world = simulator.world
    directory = await mirror.sync(simulator)
    assert (directory.size, directory.state) == (world.directory.size, world.directory.state)
    assert directory.agreement(world.agreement.digest) == world.agreement
    assert kept(path) == []
    again = await DirectoryMirror.open(path, trust)
    assert again.checkpoint == mirror.checkpoint
    assert again.directory.agreement(world.agreement.digest) == world.agreement
    world.register("later.purpose")
    assert (await mirror.sync(simulator)).size == world.directory.size


async def test_an_interrupted_sync_goes_on_where_it_stopped(path: Path, trust: Trust, simulator: Simulator) -> None:
    await interrupted(path, trust, simulator)
    assert kept(path) == list(range(6))
    mirror = await DirectoryMirror.open(path, trust)
    # Nothing of it is believed yet.
    assert mirror.directory.size == mirror.checkpoint.size == 0
    simulator.world.register("meanwhile.purpose")
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size
    assert starts(simulator)[0] == 6
    assert kept(path) == []


async def test_progress_is_told(path: Path, trust: Trust, simulator: Simulator) -> None:
    await interrupted(path, trust, simulator)
    mirror, told = await DirectoryMirror.open(path, trust), list[tuple[int, int]]()
    mirror.progress = lambda done, total: told.append((done, total))
    await mirror.sync(simulator)
    size = simulator.world.directory.size
    assert told == [*((done, size) for done in range(9, size, 3)), (size, size)]


async def test_no_stretch_is_kept_that_is_not_proven(path: Path, trust: Trust, simulator: Simulator) -> None:
    """Or a broker could fill the disk with anything."""
    simulator.sync_record = lambda record: Record(index=record.index, leaf=record.leaf + b"x", body=record.body)
    mirror = await DirectoryMirror.open(path, trust)
    with pytest.raises(EvidenceError, match="does not prove its entries"):
        await mirror.sync(simulator)
    assert (simulator.count(DIRECTORY_SYNC), simulator.count(DIRECTORY_PROVE)) == (1, 1)
    assert not path.with_name(FILE).exists() or kept(path) == []
    simulator.sync_record = lambda record: record
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


async def test_what_was_altered_while_it_waited_is_fetched_again(
    path: Path, trust: Trust, simulator: Simulator
) -> None:
    await interrupted(path, trust, simulator)
    with closing(sqlite3.connect(path.with_name(FILE), isolation_level=None)) as file:
        file.execute("UPDATE entries SET leaf = ? WHERE position = 4", (b"another",))
    mirror = await DirectoryMirror.open(path, trust)
    with pytest.raises(EvidenceError):
        await mirror.sync(simulator)
    assert kept(path) == []
    assert mirror.directory.size == 0
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


async def test_an_altered_last_stretch_is_found_by_the_root(path: Path, trust: Trust, simulator: Simulator) -> None:
    last = simulator.world.directory.size - 1

    def altered(record: Record) -> Record:
        return Record(index=record.index, leaf=b"another") if record.index == last else record

    simulator.sync_record = altered
    mirror = await DirectoryMirror.open(path, trust)
    with pytest.raises(EvidenceError, match="do not make the root"):
        await mirror.sync(simulator)
    assert kept(path) == []


async def test_a_gap_in_what_waits_is_fetched_again(path: Path, trust: Trust, simulator: Simulator) -> None:
    await interrupted(path, trust, simulator)
    with closing(sqlite3.connect(path.with_name(FILE), isolation_level=None)) as file:
        file.execute("DELETE FROM entries WHERE position = 4")
    mirror = await DirectoryMirror.open(path, trust)
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size
    assert starts(simulator)[0] == 0


async def test_what_another_process_has_mirrored_meanwhile_is_not_fetched_twice(
    path: Path, trust: Trust, simulator: Simulator
) -> None:
    await interrupted(path, trust, simulator)
    mirror = await DirectoryMirror.open(path, trust)
    other = await DirectoryMirror.open(path, trust)
    await other.sync(simulator)
    simulator.calls.clear()
    size = simulator.world.directory.size
    assert (await mirror.sync(simulator)).size == size
    assert starts(simulator) == [size]


async def test_a_broker_that_is_behind_what_waits_is_mirrored_as_far_as_it_goes(
    path: Path, trust: Trust, simulator: Simulator
) -> None:
    await interrupted(path, trust, simulator)
    log = simulator.world.directory_log
    behind = MemoryLog(log.signer.name)
    for leaf, body in zip(log.leaves[:4], log.bodies[:4], strict=True):
        behind.append(leaf, body)
    simulator.directory_log = behind
    mirror = await DirectoryMirror.open(path, trust)
    assert (await mirror.sync(simulator)).size == 4
    simulator.directory_log = None
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


async def test_a_fork_that_shows_in_a_stretch_is_for_good(path: Path, trust: Trust, simulator: Simulator) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    simulator.directory_log = other_history(simulator.world, simulator.world.directory.size + 9)
    for _ in range(2):
        with pytest.raises(ForkError):
            await mirror.sync(simulator)
    with pytest.raises(ForkError):
        (await DirectoryMirror.open(path, trust)).check()


async def test_memory_holds_a_stretch_and_not_the_log(
    path: Path, trust: Trust, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows with the log is the hash of each leaf, and the state that the leaves fold to."""
    log, entry = MemoryLog(simulator.world.directory_log.signer.name), bytes(8_000)
    for number in range(2_000):
        log.append(number.to_bytes(8) + entry)
    simulator.directory_log, simulator.page = log, 50
    monkeypatch.setattr(arriving, "STRETCH", 1_000_000)
    monkeypatch.setattr(arriving, "_PAGE", 50)
    mirror = await DirectoryMirror.open(path, trust)
    tracemalloc.start()
    try:
        assert (await mirror.sync(simulator)).size == log.size
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(map(len, log.leaves)) > 16_000_000
    assert most < 5_000_000
