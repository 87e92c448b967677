import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from exchange.client import arriving
from exchange.client import mirror as module
from exchange.client.calls import MAX_CHECKPOINT
from exchange.client.errors import (
    EvidenceError,
    ExchangeError,
    ForkError,
    RollbackError,
    StaleError,
    UnavailableError,
    UntrustedError,
)
from exchange.client.mirror import DirectoryMirror
from exchange.client.storage import MirrorFile
from exchange.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from exchange.core.trust import Trust
from exchange.transport import DIRECTORY_SYNC
from exchange.v1.log_pb2 import DirectoryServiceProveResponse, Record
from tests.memory import MemoryLog, signer
from tests.simulator import Simulator, lost_connection, refused, trust_of
from tests.world import PURPOSE, World


@pytest.fixture
def trust(simulator: Simulator) -> Trust:
    return trust_of(simulator.world)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


@pytest.fixture
async def mirror(path: Path, trust: Trust) -> DirectoryMirror:
    return await DirectoryMirror.open(path, trust)


def other_history(world: World, size: int) -> MemoryLog:
    """A log of the same key with the same first entries, which then goes on otherwise."""
    log = world.directory_log
    twin = MemoryLog(log.signer.name)
    for leaf, body in zip(log.leaves[:-1], log.bodies[:-1], strict=True):
        twin.append(leaf, body)
    while twin.size < size:
        twin.append(b"another entry")
    return twin


async def test_starts_from_the_trust_file_alone(mirror: DirectoryMirror, trust: Trust) -> None:
    assert mirror.directory.size == mirror.checkpoint.size == 0
    assert mirror.directory.origin == trust.name


async def test_folds_what_the_log_holds(mirror: DirectoryMirror, simulator: Simulator) -> None:
    directory = await mirror.sync(simulator)
    assert directory is mirror.directory
    assert directory.size == mirror.checkpoint.size == simulator.world.directory.size
    assert directory.state.purpose(PURPOSE) is not None
    assert directory.agreement(simulator.world.agreement.digest) == simulator.world.agreement


async def test_reads_page_by_page(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.page = 3
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size
    assert simulator.count(DIRECTORY_SYNC) == -(-simulator.world.directory.size // 3)


async def test_checks_a_log_that_grows_between_pages(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.page = 4

    def grow(record: Record) -> Record:
        if record.index == 2:
            simulator.world.register("another.purpose")
        return record

    simulator.sync_record = grow
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


async def test_is_on_disk_for_the_next_process(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    await mirror.sync(simulator)
    again = await DirectoryMirror.open(path, trust)
    assert again.checkpoint == mirror.checkpoint
    assert again.directory.agreement(simulator.world.agreement.digest) == simulator.world.agreement


def test_is_readable_by_its_owner_alone(path: Path) -> None:
    MirrorFile(path)
    assert path.stat().st_mode & 0o077 == 0


async def test_only_new_entries_are_fetched(mirror: DirectoryMirror, simulator: Simulator) -> None:
    await mirror.sync(simulator)
    simulator.world.register("another.purpose")
    before = mirror.directory.size
    records: list[int] = []
    simulator.sync_record = lambda record: (records.append(record.index), record)[1]
    assert (await mirror.sync(simulator)).size == before + 1
    assert records == [before]


async def test_calls_at_the_same_moment_share_one_flight(mirror: DirectoryMirror, simulator: Simulator) -> None:
    directories = await asyncio.gather(*(mirror.sync(simulator) for _ in range(5)))
    assert simulator.count(DIRECTORY_SYNC) == 1
    assert {id(directory) for directory in directories} == {id(mirror.directory)}


async def test_a_caller_that_leaves_does_not_end_the_flight(mirror: DirectoryMirror, simulator: Simulator) -> None:
    leaver, stayer = asyncio.create_task(mirror.sync(simulator)), asyncio.create_task(mirror.sync(simulator))
    await asyncio.sleep(0)
    leaver.cancel()
    assert (await stayer).size == simulator.world.directory.size


async def test_the_last_caller_that_leaves_ends_the_flight(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.stalls = True
    callers = [asyncio.create_task(mirror.sync(simulator)) for _ in range(2)]
    await until(lambda: simulator.count(DIRECTORY_SYNC) == 1)
    callers[0].cancel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(callers[1], 0.01)
    await until(lambda: simulator.cancelled == 1)
    simulator.stalls = False
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


async def test_a_caller_does_not_join_a_flight_that_is_ending(
    mirror: DirectoryMirror, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_thread, go_on = threading.Event(), threading.Event()
    grow, at_work = mirror._grow, []

    def slow(growth: object) -> None:
        at_work.append(1)
        assert sum(at_work) == 1
        in_thread.set()
        go_on.wait(5)
        grow(growth)  # type: ignore[arg-type]
        at_work.append(-1)

    monkeypatch.setattr(mirror, "_grow", slow)
    leaver = asyncio.create_task(mirror.sync(simulator))
    await until(in_thread.is_set)
    leaver.cancel()
    await asyncio.wait([leaver])
    stayer = asyncio.create_task(mirror.sync(simulator))
    await asyncio.sleep(0.01)
    go_on.set()
    # What was fetched is used, and only then the next one begins.
    assert (await stayer).size == simulator.world.directory.size


async def test_a_flight_has_an_end(
    mirror: DirectoryMirror, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLIGHT", 0.01)
    simulator.stalls = True
    with pytest.raises(UnavailableError, match="did not bring the directory"):
        await mirror.sync(simulator)
    mirror.check()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for knows nothing of this test
            await asyncio.sleep(0.001)


async def test_a_sync_takes_so_much_and_no_more(
    mirror: DirectoryMirror, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = simulator.directory_log = Endless(simulator.world.directory_log.signer.name)
    simulator.page = 1000
    monkeypatch.setattr(arriving, "STRETCH", 2_000_000)
    with pytest.raises(EvidenceError, match="does not prove its entries"):
        await mirror.sync(simulator)
    # Entries without anything in them count too.
    assert simulator.count(DIRECTORY_SYNC) == 8
    assert mirror.directory.size == 0
    assert log.size > 0


class Endless(MemoryLog):
    """A log that signs the size of a great many empty entries, whatever the root."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.leaves = self.bodies = [b""] * 100_000

    def checkpoint(self, size: int | None = None) -> bytes:
        return sign_checkpoint(Checkpoint(self.signer.name, self.size, bytes(32)), self.signer)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return ()


async def test_a_checkpoint_that_is_too_long_is_not_read(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.directory_log = Verbose(simulator.world.directory_log.signer.name)
    with pytest.raises(EvidenceError, match="the most is"):
        await mirror.sync(simulator)


class Verbose(MemoryLog):
    """A log whose checkpoint has a great many strangers' signatures."""

    def checkpoint(self, size: int | None = None) -> bytes:
        line = "\N{EM DASH} witness.example AAAAAAAA\n".encode()
        return super().checkpoint(size) + line * (MAX_CHECKPOINT // len(line))


async def test_asks_nobody_for_what_it_has(mirror: DirectoryMirror, simulator: Simulator) -> None:
    directory = await mirror.sync(simulator)
    assert await mirror.sync(simulator, at_least=directory.size) is directory
    assert simulator.count(DIRECTORY_SYNC) == 1


async def test_a_flight_that_left_before_does_not_count(mirror: DirectoryMirror, simulator: Simulator) -> None:
    await mirror.sync(simulator)
    simulator.world.register("another.purpose")
    early = simulator.world.directory.size
    log = simulator.world.directory_log.copy()
    simulator.directory_log = log
    flight = asyncio.create_task(mirror.sync(simulator))
    await asyncio.sleep(0)
    simulator.world.register("a.third.purpose")

    def show(record: Record) -> Record:
        simulator.directory_log = None
        return record

    simulator.sync_record = show
    assert (await mirror.sync(simulator, at_least=early + 1)).size == early + 1
    await flight


async def test_a_broker_that_is_behind_is_stale(mirror: DirectoryMirror, simulator: Simulator) -> None:
    with pytest.raises(StaleError) as caught:
        await mirror.sync(simulator, at_least=simulator.world.directory.size + 1)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("admits", [True, False])
async def test_a_smaller_log_is_a_rollback_for_good(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator, admits: bool
) -> None:
    simulator.admits = admits
    old = simulator.world.directory_log.copy()
    simulator.world.register("another.purpose")
    await mirror.sync(simulator)
    simulator.directory_log = old
    with pytest.raises(RollbackError):
        await mirror.sync(simulator)
    simulator.directory_log = None
    with pytest.raises(RollbackError):
        await mirror.sync(simulator)
    with pytest.raises(RollbackError) as caught:
        await DirectoryMirror.open(path, trust)
    sizes = [open_checkpoint(note, trust.directory_log).size for note in (caught.value.earlier, caught.value.later)]
    assert sizes == [old.size + 1, old.size]
    assert caught.value.exit_code == 4
    assert str(path) in caught.value.hint


@pytest.mark.parametrize("more", [0, 1, 5])
async def test_another_history_is_a_fork_for_good(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator, more: int
) -> None:
    size = (await mirror.sync(simulator)).size
    simulator.directory_log = other_history(simulator.world, size + more)
    for _ in range(2):
        with pytest.raises(ForkError):
            await mirror.sync(simulator)
        simulator.directory_log = None
    with pytest.raises(ForkError) as caught:
        await DirectoryMirror.open(path, trust)
    assert open_checkpoint(caught.value.earlier, trust.directory_log) == mirror.checkpoint
    assert open_checkpoint(caught.value.later, trust.directory_log).size == size + more


async def test_deleting_the_file_is_the_way_out_of_a_failure(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    size = (await mirror.sync(simulator)).size
    simulator.directory_log = other_history(simulator.world, size)
    with pytest.raises(ForkError):
        await mirror.sync(simulator)
    await asyncio.to_thread(path.unlink)
    simulator.directory_log = None
    assert (await (await DirectoryMirror.open(path, trust)).sync(simulator)).size == size


def renumbered(record: Record) -> Record:
    return Record(index=record.index + 1, leaf=record.leaf, body=record.body)


def another_leaf(record: Record) -> Record:
    return Record(index=record.index, leaf=record.leaf + b"\0", body=record.body)


def another_body(record: Record) -> Record:
    return Record(index=record.index, leaf=record.leaf, body=record.body and record.body + b"\0")


@pytest.mark.parametrize("change", [renumbered, another_leaf, another_body])
async def test_takes_nothing_that_does_not_prove_itself(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator, change: Callable[[Record], Record]
) -> None:
    simulator.sync_record = change
    with pytest.raises(EvidenceError):
        await mirror.sync(simulator)
    assert mirror.directory.size == 0
    assert (await DirectoryMirror.open(path, trust)).directory.size == 0
    simulator.sync_record = lambda record: record
    assert (await mirror.sync(simulator)).size == simulator.world.directory.size


class Overfull(MemoryLog):
    """A log that shows one entry more than it has signed."""

    def checkpoint(self, size: int | None = None) -> bytes:
        return super().checkpoint(self.size - 1)


@pytest.mark.parametrize("kind", ["more than signed", "the same twice"])
async def test_rejects_entries_out_of_order(mirror: DirectoryMirror, simulator: Simulator, kind: str) -> None:
    log = simulator.directory_log = Overfull(simulator.world.directory_log.signer.name)
    for leaf in simulator.world.directory_log.leaves:
        log.append(leaf)
    if kind == "the same twice":
        simulator.directory_log = None
        simulator.sync_record = lambda record: Record(leaf=record.leaf, body=record.body)
    with pytest.raises(EvidenceError, match="out of order"):
        await mirror.sync(simulator)


async def test_a_log_that_shrinks_between_pages_is_a_rollback(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.page = 4
    old = simulator.world.directory_log.copy()
    simulator.world.register("another.purpose")

    def shrink(record: Record) -> Record:
        if record.index == 5:
            simulator.directory_log = old
        return record

    simulator.sync_record = shrink
    with pytest.raises(RollbackError) as caught:
        await mirror.sync(simulator)
    sizes = [open_checkpoint(note, old.signer.verifier).size for note in (caught.value.earlier, caught.value.later)]
    assert sizes == [old.size + 1, old.size]


async def test_a_broker_that_garbles_entries_is_not_a_log_that_forked(
    mirror: DirectoryMirror, simulator: Simulator
) -> None:
    await mirror.sync(simulator)
    size = simulator.world.directory_log.size
    simulator.world.register("another.purpose")
    simulator.sync_record = lambda record: another_leaf(record) if record.index == size else record
    with pytest.raises(EvidenceError):
        await mirror.sync(simulator)
    # The log proves that it only grew: nothing sticks, and an honest broker is believed.
    mirror.check()
    simulator.sync_record = lambda record: record
    assert (await mirror.sync(simulator)).size == size + 1


@pytest.mark.parametrize("silence", [refused("MALFORMED", "no"), lost_connection()])
async def test_a_proof_that_nobody_gives_is_not_a_fork(
    mirror: DirectoryMirror, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, silence: ExchangeError
) -> None:
    """The two checkpoints prove nothing against the log, so a broker alone cannot end this party's exchange."""
    size = (await mirror.sync(simulator)).size
    simulator.world.register("another.purpose")

    def deny(data: bytes) -> DirectoryServiceProveResponse:
        raise silence

    simulator.sync_record = lambda record: another_leaf(record) if record.index == size else record
    with monkeypatch.context() as patched:
        patched.setattr(simulator, "_prove_directory", deny)
        with pytest.raises((EvidenceError, UnavailableError)) as caught:
            await mirror.sync(simulator)
    assert caught.value.exit_code == (3 if isinstance(silence, UnavailableError) else 1)
    mirror.check()
    simulator.sync_record = lambda record: record
    assert (await mirror.sync(simulator)).size == size + 1


async def test_rejects_another_logs_checkpoint(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.directory_log = simulator.world.access_log
    with pytest.raises(EvidenceError):
        await mirror.sync(simulator)


async def test_rejects_a_page_without_entries(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.page = 0
    with pytest.raises(EvidenceError, match="withholds"):
        await mirror.sync(simulator)


async def test_a_body_that_no_entry_names_is_dropped(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    simulator.sync_record = lambda record: Record(index=record.index, leaf=record.leaf, body=record.body or b"surplus")
    directory = await mirror.sync(simulator)
    assert directory.agreement(simulator.world.agreement.digest) is not None
    assert (await DirectoryMirror.open(path, trust)).checkpoint == mirror.checkpoint


async def test_no_body_no_rights(mirror: DirectoryMirror, simulator: Simulator) -> None:
    simulator.sync_record = lambda record: Record(index=record.index, leaf=record.leaf)
    directory = await mirror.sync(simulator)
    assert directory.size == simulator.world.directory.size
    assert directory.agreement(simulator.world.agreement.digest) is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET leaf = leaf || x'00' WHERE position = 2",
        "UPDATE entries SET body = body || x'00' WHERE length(body) > 0",
        "UPDATE entries SET body = x'00' WHERE position = 0",
        "DELETE FROM entries WHERE position = (SELECT max(position) FROM entries)",
        "DELETE FROM entries WHERE position = 2",
        "UPDATE heads SET note = x'00'",
        "PRAGMA user_version = 9",
    ],
)
async def test_finds_a_mirror_altered_on_disk(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator, damage: str
) -> None:
    await mirror.sync(simulator)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(EvidenceError) as caught:
        await DirectoryMirror.open(path, trust)
    assert caught.value.exit_code == 1
    assert "delete" in caught.value.hint


async def test_a_file_that_is_no_database_is_altered(path: Path, trust: Trust) -> None:
    await asyncio.to_thread(path.write_bytes, b"not a database at all, though it is long enough to be one" * 100)
    with pytest.raises(EvidenceError):
        await DirectoryMirror.open(path, trust)


async def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path, trust: Trust) -> None:
    with pytest.raises(UnavailableError):
        await DirectoryMirror.open(tmp_path / "nowhere" / "mirror.db", trust)


async def test_a_mirror_of_another_exchange_does_not_pass(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    await mirror.sync(simulator)
    log = MemoryLog("town.example/directory").signer.verifier
    with pytest.raises(UntrustedError, match=r"the key of town\.example/directory in trust\.toml") as caught:
        await DirectoryMirror.open(path, replace(trust, name="town.example", directory_log=log))
    assert "memory of what was seen" in caught.value.hint


async def test_rights_hang_on_the_root_key(path: Path, trust: Trust, simulator: Simulator) -> None:
    mirror = await DirectoryMirror.open(path, replace(trust, root_key=signer("impostor").public_key))
    directory = await mirror.sync(simulator)
    assert directory.state.purpose(PURPOSE) is None


async def test_takes_over_what_another_process_fetched(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    other = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    records: list[int] = []
    simulator.sync_record = lambda record: (records.append(record.index), record)[1]
    assert (await other.sync(simulator)).size == mirror.directory.size
    assert records == []


async def test_what_two_processes_were_shown_is_compared(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    size = simulator.world.directory.size
    rival = Simulator(simulator.world.copy())
    rival.directory_log = other_history(simulator.world, size)
    other = await DirectoryMirror.open(path, trust)

    class Slow:
        async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
            answer = await rival.unary(method, request, timeout)
            # The second process has looked into the file; now the first one writes.
            await mirror.sync(simulator)
            return answer

        async def close(self) -> None: ...

    with pytest.raises(ForkError):
        await other.sync(Slow())
    with pytest.raises(ForkError):
        await mirror.sync(simulator)


async def test_another_process_may_go_further_meanwhile(
    mirror: DirectoryMirror, path: Path, trust: Trust, simulator: Simulator
) -> None:
    other = await DirectoryMirror.open(path, trust)
    size = simulator.world.directory.size

    class Slow:
        async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
            answer = await simulator.unary(method, request, timeout)
            simulator.world.register("another.purpose")
            await mirror.sync(simulator)
            return answer

        async def close(self) -> None: ...

    assert (await other.sync(Slow())).size == size
    assert (await DirectoryMirror.open(path, trust)).directory.size == size + 1
    assert (await other.sync(simulator)).size == size + 1
    assert (await DirectoryMirror.open(path, trust)).directory.size == size + 1


async def test_confirms_an_earlier_checkpoint_of_its_history(mirror: DirectoryMirror, simulator: Simulator) -> None:
    await mirror.sync(simulator)
    log = simulator.world.directory_log
    note = log.checkpoint(5)
    await mirror.confirm(open_checkpoint(note, log.signer.verifier), note)
    note = other_history(simulator.world, log.size).checkpoint()
    with pytest.raises(ForkError):
        await mirror.confirm(open_checkpoint(note, log.signer.verifier), note)
    with pytest.raises(ForkError):
        mirror.check()
