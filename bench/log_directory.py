"""The directory's part of `make bench-log`: the fold, what a snapshot costs under the lock, and opening from one.

What is opened is made up: a state of so many agreements, of which the log has only the snapshot entry. It is what a
mirror reads, checks and folds when it starts; the bodies stay in the file, and are no part of it.
"""

import asyncio
import multiprocessing
import random
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from exchange.client.mirror import DirectoryMirror
from exchange.client.storage import MirrorFile, NewParts
from exchange.core import entries
from exchange.core.belongings import Belongings, rows_since
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.directory import Directory
from exchange.core.envelope import sign, sign_batch
from exchange.core.keys import is_signed
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.names import Party
from exchange.core.snapshot import EVERY, encode_part, encode_state, open_state, part_hashes, state_digest
from exchange.core.state import State, Version
from exchange.v1.directory_pb2 import Agreement, Application, EntryKind
from tests.memory import fixed
from tests.simulator import trust_of
from tests.world import APPLICATIONS, BROKER, HOUSING, LOOKUP, ORIGIN, POPULATION, PURPOSE, World

DAY = 24 * 3600 * 1000
LOOKUPS = 100
CHANGED = 1000
"""Old versions that are revoked between two snapshots."""

T = TypeVar("T")


def fold_rates(size: int, batch: int, rounds: int, *, bodies: bool) -> tuple[tuple[float, ...], float]:
    """Entries folded in a second of processor time, of each round; and the memory that one takes, KiB.

    Args:
        size: entries; batch: to a signature.
        rounds: of the measurement.
        bodies: whether their bodies are at hand.
    """
    return _in_a_process(_fold_rates, size, batch, rounds, bodies)


def _fold_rates(size: int, batch: int, rounds: int, bodies: bool) -> tuple[tuple[float, ...], float]:
    world = World.standard()
    start, logged = world.directory, _agreements(world, size, batch)
    before = _peak()
    rates = []
    for _ in range(rounds):
        # What a round verified is not verified already in the next.
        is_signed.cache_clear()
        begun = time.process_time()
        _fold(start, logged, bodies=bodies)
        rates.append(len(logged) / (time.process_time() - begun))
    return tuple(rates), (_peak() - before) / len(logged)


def _agreements(world: World, size: int, batch: int) -> list[tuple[bytes, bytes]]:
    """So many entries, leaf and body: applications and the agreements that answer them, by turns of a batch."""
    scope = {"operations": [LOOKUP], "fields": world.agreement.fields, "purposes": [PURPOSE]}
    about = {"dataset": world.agreement.dataset, "grantee": str(APPLICATIONS), "not_after": world.now + DAY, **scope}
    logged = list[tuple[bytes, bytes]]()

    def sign_all(party: Party, bodies: Sequence[Application | Agreement]) -> list[bytes]:
        first = len(logged)
        named = [(entries.ObjectVersion(number.to_bytes(16)), number.to_bytes(32)) for number in range(first, size)]
        drafts = [
            entries.body_entry(party, version, body, salt) for (version, salt), body in zip(named, bodies, strict=False)
        ]
        signed = sign_batch(world.keys[party], ORIGIN, drafts)
        logged.extend((entries.directory_leaf(envelope, world.now), envelope.attachments[0]) for envelope in signed)
        return [envelope.digest for envelope in signed]

    application = Application(format=1, legal_basis="Act", scenario="queue", **about)
    while len(logged) < size:
        asked = sign_all(HOUSING, [application] * batch)
        if len(logged) < size:
            answers = [Agreement(format=1, not_before=world.now, application=digest, **about) for digest in asked]
            sign_all(POPULATION, answers)
    return logged


def _fold(start: Directory, logged: Sequence[tuple[bytes, bytes]], *, bodies: bool) -> None:
    folded = start
    for leaf, body in logged:
        folded, applied = folded.apply(leaf, body if bodies else b"")
        assert not applied.reason, applied.reason
    assert folded.size == start.size + len(logged)


# --- bodies of before a snapshot ----------------------------------------------------------------------


def reopening_figures(agreements: int, rounds: int) -> dict[str, tuple[float, ...]]:
    """What a kept directory with procedures costs to open and to look into, by name: processor time.

    Args:
        agreements: that it has, each with the application that it answers.
        rounds: of the measurement.

    Returns:
        "open": seconds; "first", "next": agreement looked up then, with its case, milliseconds; "unindexed": the first
        one without the index of bodies, seconds; "index": its size, MiB.
    """
    return _in_a_process(_reopening_figures, agreements, rounds)


def _reopening_figures(agreements: int, rounds: int) -> dict[str, tuple[float, ...]]:
    world = World.standard()
    world.adopt()
    logged = _agreements(world, 2 * agreements, 64)
    folded, bodies, found = world.directory, _ListedBodies(dict(enumerate(world.directory_log.bodies))), list[bytes]()
    for leaf, body in logged:
        bodies.by_index[folded.size] = body
        folded, applied = folded.apply(leaf, body)
        found += [applied.digest] if applied.digest in folded.terms.agreements else []
    parts = list(encode_state(folded.state))
    index = Belongings.of(rows_since(folded.state, bodies, 0))
    figures: dict[str, list[float]] = {name: [] for name in ("open", "first", "next", "unindexed")}
    for _ in range(rounds):
        begun = time.process_time()
        directory = Directory.reopened(open_state(parts).state, bodies, index)
        figures["open"].append(time.process_time() - begun)
        figures["first"].append(_look_up(directory, found[0]) * 1000)
        figures["next"].append(_look_up(directory, found[-1]) * 1000)
        unindexed = Directory.reopened(open_state(parts).state, bodies)
        figures["unindexed"].append(_look_up(unindexed, found[0]))
    return {name: tuple(values) for name, values in figures.items()} | {"index": (len(index.rows) / 2**20,)}


class _ListedBodies:
    """Bodies in memory, by the indexes of their entries."""

    def __init__(self, by_index: dict[int, bytes]) -> None:
        self.by_index = by_index

    def body(self, version: Version) -> bytes:
        return self.by_index.get(version.index, b"")


def _look_up(directory: Directory, digest: bytes) -> float:
    begun = time.process_time()
    agreement = directory.agreement(digest)
    assert agreement is not None
    assert directory.stands(agreement)
    assert directory.case(directory.state.versions[agreement.application].object_id) is not None
    return time.process_time() - begun


# --- snapshots ----------------------------------------------------------------------------------------


def snapshot_figures(folder: Path, size: int, rounds: int) -> dict[str, tuple[float, ...]]:
    """What a state of a size costs, by name: processor time and memory.

    Args:
        folder: for its file, which is removed.
        size: entries; rounds: of each measurement.

    Returns:
        "digest": of the next snapshot, milliseconds; "open": of a mirror, seconds; "lookup": in it then, microseconds;
        "memory": of the process that opened it, MiB.
    """
    world = World.standard()
    path = folder / f"mirror-{size}.db"
    state = _state(world, size)
    _keep(path, world, state)
    digests = tuple(_next_snapshot(state, seed) for seed in range(rounds))
    opened = [_in_a_process(_open, path, size) for _ in range(rounds)]
    path.unlink()
    seconds, lookups, memory = zip(*opened, strict=True)
    return {"digest": digests, "open": seconds, "lookup": lookups, "memory": memory}


def _state(world: World, size: int) -> State:
    """What entries of so many agreements lead to, after those of a small exchange."""
    state = world.directory.state
    for index in range(state.size, size):
        state = state.with_version(_version(index))
    return state.moved(size, world.now)


def _version(index: int, ended: int | None = None) -> Version:
    kind = EntryKind.ENTRY_KIND_AGREEMENT
    return Version(
        _digest(index), kind, fixed(f"o{index}", 16), POPULATION, index, index, fixed(f"b{index}"), ended_index=ended
    )


def _digest(index: int) -> bytes:
    return fixed(f"d{index}")


def _keep(path: Path, world: World, state: State) -> None:
    """A mirror whose log has made-up leaves up to the snapshot entry, which is its last."""
    log, size = world.directory_log, state.size
    draft = entries.snapshot_entry(BROKER, fixed("snapshot", 16), size, state_digest(state))
    leaf = entries.directory_leaf(sign(world.keys[BROKER], ORIGIN, draft), world.now)
    edge = Frontier(size, tuple(fixed(f"node {number}") for number in range(size.bit_count())))
    whole, _ = edge.extend([leaf_hash(leaf)])
    note = sign_checkpoint(Checkpoint(log.signer.name, whole.size, whole.root()), log.signer)
    file = MirrorFile(path)
    parts = NewParts(part_hashes(state), lambda number: encode_part(state, number))
    file.keep_snapshot(size, edge.hashes, parts, ())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (size, leaf, b""))
        connection.execute("INSERT INTO heads VALUES ('directory', ?)", (note,))


def _next_snapshot(state: State, seed: int) -> float:
    """10,000 entries later, some of which ended older ones all over the state."""
    size, chance = state.size, random.Random(seed)
    for index in range(size, size + EVERY):
        state = state.with_version(_version(index))
    for index in chance.sample(range(100, size), CHANGED):
        state = state.with_changed_version(_version(index, size))
    state = state.moved(size + EVERY, state.time)
    begun = time.process_time()
    state_digest(state)
    return (time.process_time() - begun) * 1000


def _open(path: Path, size: int) -> tuple[float, float, float]:
    trust = trust_of(World.founded())
    begun = time.process_time()
    mirror = asyncio.run(DirectoryMirror.open(path, trust))
    opened = time.process_time()
    assert mirror.directory.size == size + 1
    versions, chance = mirror.directory.state.versions, random.Random(size)
    for index in chance.sample(range(100, size), LOOKUPS):
        assert versions[_digest(index)].index == index
    return opened - begun, (time.process_time() - opened) / LOOKUPS * 1e6, _peak() / 1024


def _in_a_process(work: Callable[..., T], *arguments: object) -> T:
    """Alone, so that memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _peak() -> float:
    """The most memory that this process had, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)


def folds(size: int, rounds: int) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """Rows of the fold: name, unit, values."""
    for bodies in (False, True):
        for batch in (64, 1):
            rates, memory = fold_rates(size, batch, rounds, bodies=bodies)
            what = f"fold of {size:,} entries, {batch} to a signature{', bodies opened' if bodies else ''}"
            yield what, "entries/s", rates
            if batch == 64:
                yield f"{what}: memory of one", "KiB", (memory,)


def snapshots(folder: Path, size: int, rounds: int) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """Rows of a state of a size: name, unit, values."""
    figures = snapshot_figures(folder, size, rounds)
    what = f"state of {size:,}"
    yield f"{what}: digest of the next snapshot, under the lock", "ms", figures["digest"]
    yield f"{what}: a mirror opened from its snapshot", "s", figures["open"]
    yield f"{what}: a version looked up then, one of the first {LOOKUPS}", "µs", figures["lookup"]
    yield f"{what}: memory of that process", "MiB", figures["memory"]


def reopenings(agreements: int, rounds: int) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """Rows of a kept directory with procedures: name, unit, values."""
    figures = reopening_figures(agreements, rounds)
    what = f"kept directory of {agreements:,} agreements with rules"
    yield f"{what}: opened", "s", figures["open"]
    yield f"{what}: the first agreement and its case looked up then", "ms", figures["first"]
    yield f"{what}: another one", "ms", figures["next"]
    yield f"{what}: the first one without an index of bodies", "s", figures["unindexed"]
    yield f"{what}: that index", "MiB", figures["index"]
