"""A mirror begins with the last snapshot that it kept, and believes it no more than the log's signed entries."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exchange.client.errors import DirectoryDiffersError, EvidenceError, ForkError
from exchange.client.mirror import DirectoryMirror
from exchange.client.storage import MirrorFile, NewParts
from exchange.core import directory as directory_module
from exchange.core.belongings import rows_of
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.chunks import CHUNK
from exchange.core.entries import snapshot_entry
from exchange.core.fold import apply
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.snapshot import encode_part, part_hashes, state_digest
from exchange.core.state import State, genesis
from exchange.core.trust import Trust
from exchange.v1.log_pb2 import Record
from tests.memory import MemoryLog, signer
from tests.simulator import Simulator, trust_of
from tests.world import BROKER, COORDINATOR, PURPOSE, World


@pytest.fixture
def trust(simulator: Simulator) -> Trust:
    return trust_of(simulator.world)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mirror.db"


def take_snapshot(world: World, digest: bytes = b"") -> int:
    """What a broker appends every so many entries; gives its index."""
    state = world.directory.state
    draft = snapshot_entry(BROKER, world.fresh(16), state.size, digest or state_digest(state))
    return world.append(draft, BROKER).index


@pytest.fixture
async def snapshot(path: Path, trust: Trust, simulator: Simulator) -> int:
    """A mirror on disk, with a snapshot and two entries after it; gives the snapshot's index."""
    index = take_snapshot(simulator.world)
    simulator.world.register("tax.audit")
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    return index


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The entries that are folded from here on."""
    indexes: list[int] = []

    def counting(state: Any, leaf: bytes) -> Any:
        indexes.append(state.size)
        return apply(state, leaf)

    monkeypatch.setattr(directory_module, "apply", counting)
    return indexes


def alter(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount


async def test_folds_on_opening_only_what_follows_its_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, folded: list[int]
) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    assert folded == [snapshot, snapshot + 1]
    assert mirror.directory == simulator.world.directory
    assert mirror.directory.agreement(simulator.world.agreement.digest) == simulator.world.agreement


async def test_goes_on_from_there(path: Path, trust: Trust, simulator: Simulator, snapshot: int) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    simulator.world.revoke(simulator.world.directory.state.purposes[PURPOSE], COORDINATOR)
    assert await mirror.sync(simulator) == simulator.world.directory
    assert (await DirectoryMirror.open(path, trust)).directory == simulator.world.directory


async def test_keeps_the_newest_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, folded: list[int]
) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    simulator.world.register("tax.refund")
    newest = take_snapshot(simulator.world)
    await mirror.sync(simulator)
    folded.clear()
    assert (await DirectoryMirror.open(path, trust)).directory == simulator.world.directory
    assert folded == [newest]


async def test_a_mirror_without_snapshot_takes_one_from_its_own_entries(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, folded: list[int]
) -> None:
    """As one of a version that kept none."""
    alter(path, "DELETE FROM snapshot")
    assert (await DirectoryMirror.open(path, trust)).directory == simulator.world.directory
    assert folded[0] == 0
    folded.clear()
    await DirectoryMirror.open(path, trust)
    assert folded == [snapshot, snapshot + 1]


@pytest.mark.parametrize(
    "before",
    [
        "DROP TABLE snapshot; DROP TABLE snapshot_parts; PRAGMA user_version = 1",
        "ALTER TABLE snapshot_parts DROP COLUMN digest; UPDATE snapshot_parts SET data = 'x'; PRAGMA user_version = 2",
        "DROP TABLE belongings; PRAGMA user_version = 3",
    ],
)
async def test_a_file_of_a_version_before_gets_a_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, before: str
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(before)
    assert (await DirectoryMirror.open(path, trust)).directory == simulator.world.directory
    kept = MirrorFile(path).snapshot()
    assert kept is not None
    assert kept.size == snapshot


async def test_a_body_that_comes_late_gives_its_rights_from_a_snapshot_too(
    path: Path, trust: Trust, simulator: Simulator
) -> None:
    world = simulator.world
    index = world.agreement.version.index
    simulator.sync_record = lambda record: without_body(record, index)
    take_snapshot(world)
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    assert mirror.directory.agreement(world.agreement.digest) is None
    late = {index: world.directory_log.bodies[index]}
    MirrorFile(path).complete(late, rows_of(world.directory.state, late))
    assert (await DirectoryMirror.open(path, trust)).directory == world.directory


async def test_a_body_that_comes_before_the_first_snapshot_is_found_after_it(
    path: Path, trust: Trust, simulator: Simulator
) -> None:
    world = simulator.world
    index = world.agreement.version.index
    simulator.sync_record = lambda record: without_body(record, index)
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    late = {index: world.directory_log.bodies[index]}
    MirrorFile(path).complete(late, rows_of(world.directory.state, late))
    take_snapshot(world)
    await mirror.sync(simulator)
    assert (await DirectoryMirror.open(path, trust)).directory == world.directory


# What bodies are about.


async def test_opens_the_bodies_of_one_case_alone(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = simulator.world
    world.adopt()
    granted = [world.grant(world.apply_for(world.dataset)) for _ in range(3)]
    take_snapshot(world)
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    read: list[int] = []
    body = MirrorFile.body

    def reading(file: MirrorFile, index: int) -> bytes:
        read.append(index)
        return body(file, index)

    monkeypatch.setattr(MirrorFile, "body", reading)
    directory = (await DirectoryMirror.open(path, trust)).directory
    assert not read
    one, wanted, other = granted
    assert directory.agreement(wanted.digest) == wanted
    assert wanted.version.index in read
    assert not {one.version.index, other.version.index} & set(read)


DAMAGES = ("UPDATE belongings SET rows = zeroblob(length(rows))", "UPDATE belongings SET digest = x'00'")


@pytest.mark.parametrize("damage", [*DAMAGES, "DELETE FROM belongings"])
@pytest.mark.usefixtures("snapshot")
async def test_makes_a_damaged_index_anew(path: Path, trust: Trust, simulator: Simulator, damage: str) -> None:
    world = simulator.world
    whole = index_in(path)
    alter(path, damage)
    late = {world.agreement.version.index: world.directory_log.bodies[world.agreement.version.index]}
    MirrorFile(path).complete(late, rows_of(world.directory.state, late))
    assert index_in(path) is None
    mirror = await DirectoryMirror.open(path, trust)
    assert mirror.directory == world.directory
    take_snapshot(world)
    await mirror.sync(simulator)
    assert index_in(path) == whole


def index_in(path: Path) -> bytes | None:
    kept = MirrorFile(path).snapshot()
    assert kept is not None
    return kept.belongings


def without_body(record: Record, index: int) -> Record:
    return Record(index=record.index, leaf=record.leaf) if record.index == index else record


# Who folds to something else.


async def test_stops_where_a_broker_signed_another_state(path: Path, trust: Trust, simulator: Simulator) -> None:
    take_snapshot(simulator.world, bytes(32))
    mirror = await DirectoryMirror.open(path, trust)
    for _ in range(2):
        with pytest.raises(DirectoryDiffersError, match="folds to another state here") as caught:
            await mirror.sync(simulator)
    assert "compare versions" in caught.value.hint
    assert mirror.directory.size == 0
    assert (await DirectoryMirror.open(path, trust)).directory.size == 0


# A file that was altered.


def other_state(world: World) -> State:
    """A state that grants what the log never did: the keys of one more party."""
    state = world.directory.state
    key = next(record for record in state.keys.values() if record.party == BROKER)
    return state.with_changed_key(replace(key, not_after=1 << 62))


def keep_in(path: Path, log: MemoryLog, size: int, state: State) -> None:
    frontier, _ = Frontier().extend([leaf_hash(leaf) for leaf in log.leaves[:size]])
    parts = NewParts(part_hashes(state), lambda number: encode_part(state, number))
    MirrorFile(path).keep_snapshot(size, frontier.hashes, parts, ())


def flip(path: Path, part: int, place: int) -> None:
    """One bit of a part is another one; its name in the file is as it was."""
    with closing(sqlite3.connect(path)) as connection, connection:
        (data,) = connection.execute("SELECT data FROM snapshot_parts WHERE part = ?", (part,)).fetchone()
        altered = bytearray(data)
        altered[place] ^= 1
        connection.execute("UPDATE snapshot_parts SET data = ? WHERE part = ?", (bytes(altered), part))


ALTERED: dict[str, Callable[[Path], None]] = {
    "no state": lambda path: alter(path, "DELETE FROM snapshot_parts"),
    "half a state": lambda path: alter(path, "DELETE FROM snapshot_parts WHERE part > 0"),
    "a state of other bytes": lambda path: alter(path, "UPDATE snapshot_parts SET data = x'ff' WHERE part = 1"),
    "another size": lambda path: alter(path, "UPDATE snapshot SET size = size - 1"),
    "another tree": lambda path: alter(path, "UPDATE snapshot SET hashes = zeroblob(length(hashes))"),
    "no tree": lambda path: alter(path, "UPDATE snapshot SET hashes = x''"),
    "a state less": lambda path: alter(path, "DELETE FROM snapshot_parts WHERE part = 0"),
    "another head": lambda path: flip(path, 0, 40),
    "another record": lambda path: flip(path, 1, -40),
    "another row": lambda path: flip(path, 1, 5),
    "no entries after it": lambda path: alter(
        path, "DELETE FROM entries WHERE position >= (SELECT size FROM snapshot)"
    ),
    "another entry in its place": lambda path: alter(
        path,
        "UPDATE entries SET leaf = (SELECT leaf FROM entries WHERE position = 0)"
        " WHERE position = (SELECT size FROM snapshot)",
    ),
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED.keys())
@pytest.mark.usefixtures("snapshot")
async def test_refuses_a_snapshot_with(path: Path, trust: Trust, change: Callable[[Path], None]) -> None:
    change(path)
    with pytest.raises(EvidenceError, match="was altered"):
        await DirectoryMirror.open(path, trust)


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize("place", range(0, 4000, 97))
async def test_uses_no_record_of_an_altered_snapshot(
    path: Path, trust: Trust, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(path, 1, place)
    opened: list[bytes] = []
    monkeypatch.setattr("exchange.core.kept.decode_record", lambda data, _size: opened.append(data))
    with pytest.raises(EvidenceError, match="was altered"):
        await DirectoryMirror.open(path, trust)
    assert opened == []


@pytest.mark.usefixtures("snapshot")
async def test_refuses_the_snapshot_of_another_exchange(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int
) -> None:
    log = simulator.world.directory_log
    other = replace(genesis("other.example", trust.root_key), size=snapshot)
    for state in (other, replace(genesis(trust.name, signer("another root").public_key), size=snapshot)):
        alter(path, "DELETE FROM snapshot")
        keep_in(path, log, snapshot, state)
        with pytest.raises(EvidenceError, match="is of another directory"):
            await DirectoryMirror.open(path, trust)


async def test_finds_an_altered_body_of_before_its_snapshot_when_it_is_looked_up(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int
) -> None:
    alter(path, "UPDATE entries SET body = x'00' WHERE length(body) > 0")
    mirror = await DirectoryMirror.open(path, trust)
    with pytest.raises(EvidenceError, match=r"the body of entry .* is not the one that was signed"):
        mirror.directory.agreement(simulator.world.agreement.digest)
    with pytest.raises(EvidenceError, match="was altered"):
        mirror.directory.dataset(simulator.world.dataset.object_id)


async def test_writes_only_what_changed_since_its_last_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int
) -> None:
    world = simulator.world
    while world.directory.size < 2 * CHUNK:
        world.register(f"purpose.{world.directory.size}")
    take_snapshot(world)
    mirror = await DirectoryMirror.open(path, trust)
    await mirror.sync(simulator)
    alter(path, "UPDATE snapshot_parts SET data = x'00' WHERE part = 1")
    world.register("tax.refund")
    take_snapshot(world)
    await mirror.sync(simulator)
    kept = MirrorFile(path).snapshot()
    assert kept is not None
    assert [part == b"\0" for part in kept.parts] == [False, True, False, False]


async def test_refuses_a_state_that_its_entry_does_not_say(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int
) -> None:
    twin = World.standard()
    alter(path, "DELETE FROM snapshot")
    keep_in(path, simulator.world.directory_log, snapshot, other_state(twin))
    with pytest.raises(EvidenceError, match="its snapshot is not the one that the directory log has there"):
        await DirectoryMirror.open(path, trust)


async def test_refuses_a_state_that_no_entry_follows(path: Path, trust: Trust, simulator: Simulator) -> None:
    """Cut back to a checkpoint that the log signed once, a file has nothing that vouches for its state."""
    world = simulator.world
    await (await DirectoryMirror.open(path, trust)).sync(simulator)
    log = world.directory_log
    keep_in(path, log, log.size, other_state(world))
    with pytest.raises(EvidenceError, match="its snapshot is not one that the directory log has"):
        await DirectoryMirror.open(path, trust)


# Checkpoints of before the snapshot.


async def test_confirms_a_checkpoint_from_before_its_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int
) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    log = simulator.world.directory_log
    for size in (1, snapshot - 1, snapshot, snapshot + 1, log.size):
        await mirror.confirm(Checkpoint(log.signer.name, size, log.roots[size]), log.checkpoint(size))
    with pytest.raises(ValueError, match="sync to the checkpoint first"):
        await mirror.confirm(Checkpoint(log.signer.name, log.size + 1, bytes(32)), b"")


@pytest.mark.parametrize("before", [1, 0])
async def test_finds_a_fork_before_and_after_its_snapshot(
    path: Path, trust: Trust, simulator: Simulator, snapshot: int, before: int
) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    log, size = simulator.world.directory_log, snapshot + 1 - 2 * before
    other = Checkpoint(log.signer.name, size, bytes(31) + b"\1")
    with pytest.raises(ForkError):
        await mirror.confirm(other, sign_checkpoint(other, log.signer))


async def test_an_altered_file_is_no_fork(path: Path, trust: Trust, simulator: Simulator, snapshot: int) -> None:
    mirror = await DirectoryMirror.open(path, trust)
    log = simulator.world.directory_log
    alter(path, "UPDATE entries SET leaf = x'00' WHERE position = 0")
    with pytest.raises(EvidenceError, match="do not make the tree of its snapshot"):
        await mirror.confirm(Checkpoint(log.signer.name, 3, log.roots[3]), log.checkpoint(3))
    mirror.check()
