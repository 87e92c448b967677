"""`make bench-log`: what evidence costs when a log is long: bundles, proofs, the fold of the directory.

Each figure is a median over rounds with the least and the most. What only computes is given by processor time; what
reads a database by the clock, and what is compared is measured in turn: on a machine that does other things too the
ratios say more than the figures.
"""

import argparse
import json
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256, shake_128
from pathlib import Path

from bench.log_directory import folds, reopenings, snapshots
from exchange.cli.audit.bundles.format import CHUNK, BundleReader, BundleWriter, Manifest
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, RangeLeaves, WholeTree
from exchange.cli.audit.checking.verification import LoggedEntry, Verification
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from exchange.core.envelope import Draft, Envelope, sign_batch
from exchange.core.keys import is_signed
from exchange.core.merkle import NodeId, frontier_nodes, inclusion_proof, verify_inclusion
from exchange.core.names import Party
from exchange.core.ranges import GrowingRoot, cover
from exchange.core.wire import encode
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.simulator import trust_of
from tests.world import APPLICATIONS, ORIGIN, REGISTRY, World

# On this disk, not in /tmp: there a file may be in memory.
FOLDER = Path(__file__).parents[1] / "build"
PROOFS = 300
BATCH = 64
"""Messages that share a signature where the exchange is loaded."""
RATE = "entries/s"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured.

    Args:
        name: what.
        unit: of the values.
        values: one of each round.
        target: what it must be, in words; empty where it only explains.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    target: str = ""

    def __str__(self) -> str:
        middle, least, most = map(_rounded, (statistics.median(self.values), min(self.values), max(self.values)))
        spread = f"{middle} ({least}–{most}) {self.unit}"
        return f"{self.name:76}{spread}{f'   must be {self.target}' if self.target else ''}"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> int:
    """Measure, and print. Returns the exit code."""
    arguments = _arguments()
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-log-", dir=FOLDER))
    figures: list[Figure] = []
    try:
        for section, measure in SECTIONS.items():
            if arguments.only in (None, section):
                for figure in measure(folder, arguments):
                    print(figure, flush=True)
                    figures.append(figure)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 3
    finally:
        shutil.rmtree(folder)
    print(f"\n{arguments.rounds} rounds; median (least–most); Python {platform.python_version()}, {_machine()}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.log", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--only", choices=tuple(SECTIONS), help="measure one section")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each measurement")
    parser.add_argument("--bundle", type=int, default=200_000, metavar="N", help="entries of the bundle that is hashed")
    parser.add_argument("--signed", type=int, default=1_000, metavar="N", help="entries of the bundle that is judged")
    parser.add_argument("--log", type=int, default=10_000_000, metavar="N", help="entries of the long log of proofs")
    parser.add_argument("--short", type=int, default=10_000, metavar="N", help="entries of the short one")
    parser.add_argument("--directory", type=int, default=20_000, metavar="N", help="entries that are folded")
    parser.add_argument("--agreements", type=int, default=20_000, metavar="N", help="of a directory with procedures")
    parser.add_argument(
        "--states", type=int, nargs="*", default=[100_000, 1_000_000], metavar="N", help="sizes of directories kept"
    )
    arguments = parser.parse_args()
    sizes = arguments.rounds, arguments.bundle, arguments.signed, arguments.log, arguments.short, arguments.directory
    if min(*sizes, *arguments.states, arguments.agreements) < 1:
        parser.error("every number is positive")
    return arguments


# --- bundles ------------------------------------------------------------------------------------------


def bundles(folder: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """An offline bundle: the part that hashes and proves, with and without reading bodies; and all of it."""
    path, checkpoint = folder / "log.tar", _hashed_bundle(folder / "log.tar", arguments.bundle)
    rates: dict[str, list[float]] = {"leaves": [], "rows": []}
    for _ in range(arguments.rounds):
        rates["leaves"].append(arguments.bundle / _processor(lambda: _prove_leaves(path, checkpoint)))
        rates["rows"].append(arguments.bundle / _processor(lambda: _prove_rows(path, checkpoint)))
    path.unlink()
    what = f"bundle of {arguments.bundle:,}"
    yield Figure(f"{what}: leaves hashed, root proven", RATE, tuple(rates["leaves"]), "at least 200,000")
    yield Figure(f"{what}: the same, every body read too", RATE, tuple(rates["rows"]))
    worlds = {batch: _signed_world(arguments.signed, batch) for batch in (1, BATCH)}
    judged: dict[int, list[float]] = {batch: [] for batch in worlds}
    for _ in range(arguments.rounds):
        for batch, world in worlds.items():
            judged[batch].append(arguments.signed / _processor(lambda: _judge(world)))  # noqa: B023 - called at once
    what = f"log of {arguments.signed:,}: every signature and grant judged"
    yield Figure(what, RATE, tuple(judged[1]))
    yield Figure(f"the same, {BATCH} messages to a signature", RATE, tuple(judged[BATCH]))
    ratios = tuple(many / one for one, many in zip(*judged.values(), strict=True))
    yield Figure("the second against the first", "times as fast", ratios)


def _hashed_bundle(path: Path, size: int) -> Checkpoint:
    """A bundle of leaves and bodies as long as real ones; each leaf is another."""
    world = _signed_world(1)
    leaf, body = world.access_log.leaves[0], world.access_log.bodies[0]
    said = read_access_leaf(leaf)
    tree = GrowingRoot()
    chunks = []
    for first in range(0, size, CHUNK):
        rows = []
        for index in range(first, min(first + CHUNK, size)):
            said.request_id = index.to_bytes(16)
            rows.append(LoggedEntry(index, encode(said), body))
        tree.add_leaves([row.leaf for row in rows])
        chunks.append(rows)
    signer = world.access_log.signer
    note = sign_checkpoint(Checkpoint(signer.name, size, tree.root()), signer)
    with path.open("wb") as file:
        writer = BundleWriter(file, Manifest(ORIGIN, 0, size, ((0, size),)), "")
        writer.log("directory", world.directory_log.checkpoint(0))
        writer.log("access", note, ())
        for rows in chunks:
            writer.chunk("access", rows)
        writer.finish()
    return open_checkpoint(note, signer.verifier)


def _prove_leaves(path: Path, checkpoint: Checkpoint) -> None:
    tree = GrowingRoot()
    with path.open("rb") as file:
        for _, leaves in BundleReader(file).leaves("access"):
            tree.add_leaves(leaves)
    assert (tree.size, tree.root()) == (checkpoint.size, checkpoint.root)


def _prove_rows(path: Path, checkpoint: Checkpoint) -> None:
    with path.open("rb") as file:
        reader = BundleReader(file)
        tree = RangeLeaves(Expected(checkpoint.origin, checkpoint), reader.manifest.ranges, reader.nodes())
        for row in reader.rows("access"):
            tree.add(row.index, row.leaf)
    assert list(tree.finish()) == []


def _signed_world(size: int, batch: int = 1) -> World:
    """A log of releases whose requests, and whose answers, were signed so many at a time."""
    world = World.standard()
    for first in range(0, size, batch):
        count = min(batch, size - first)
        requests = _signed(world, APPLICATIONS, [world.request() for _ in range(count)])
        responses = _signed(world, REGISTRY, [world.respond(request) for request in requests])
        for request, response in zip(requests, responses, strict=True):
            world.now += 10
            world.release(request, response)
    return world


def _signed(world: World, party: Party, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
    """The same messages under one signature; a message's digest does not hang on it."""
    drafts = [Draft(envelope.kind, envelope.payload, envelope.attachments) for envelope in envelopes]
    return sign_batch(world.keys[party], ORIGIN, drafts)


def _judge(world: World) -> None:
    logs = world.directory_log, world.access_log
    trees = (
        WholeTree(Expected(log.signer.name, open_checkpoint(log.checkpoint(), log.signer.verifier))) for log in logs
    )
    rows = [
        [LoggedEntry(i, leaf, body) for i, (leaf, body) in enumerate(zip(log.leaves, log.bodies, strict=True))]
        for log in logs
    ]
    _forget_signatures()
    with Remembered() as remembered:
        verification = Verification(trust_of(world), *trees, remembered, from_start=True)
        assert [*verification.walk(*rows), *verification.finish()] == []


# --- proofs -------------------------------------------------------------------------------------------


def proofs(folder: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """An inclusion proof from a broker's database: of a long log, and of a short one."""
    sizes = (arguments.short, arguments.log)
    begun = time.perf_counter()
    stores = [(_nodes_store(folder / f"{size}.db", size), size) for size in sizes]
    print(f"(nodes of {sizes[1]:,} entries built in {time.perf_counter() - begun:.0f} s)", file=sys.stderr)
    try:
        indexes = {size: random.Random(size).choices(range(size), k=PROOFS) for size in sizes}
        for store, size in stores:
            _check_proof(store, size, indexes[size][0])
        times: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(arguments.rounds):
            for store, size in stores:
                times[size].append(_timed(lambda: _prove_all(store, size, indexes[size])) / PROOFS * 1e6)  # noqa: B023
    finally:
        for store, _ in stores:
            store.close()
    for size in sizes:
        yield Figure(f"inclusion proof in a log of {size:,}", "µs", tuple(times[size]))
    ratios = tuple(long / short for short, long in zip(*times.values(), strict=True))
    yield Figure(f"the same, {sizes[1]:,} against {sizes[0]:,}", "times as long", ratios, "at most 2")


def _nodes_store(path: Path, size: int) -> SqlLogStore:
    """A broker's database with the nodes of a log, and nothing else of it."""
    SqlLogStore.create(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # The database can be made again: it need not survive anything.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO nodes VALUES ('access', ?, ?)", enumerate(_completed(size)))
        connection.execute("COMMIT")
    return SqlLogStore.open(path)


def _completed(size: int) -> Iterator[bytes]:
    """The hashes of all complete nodes of a log in the order in which they become complete; leaves are arbitrary."""
    edge: list[bytes] = []
    for first in range(0, size, _CHUNK):
        leaves = shake_128(first.to_bytes(8)).digest(32 * _CHUNK)
        for position in range(first, min(first + _CHUNK, size)):
            start = (position - first) * 32
            node = leaves[start : start + 32]
            yield node
            while position & 1:
                node, position = sha256(b"\x01" + edge.pop() + node).digest(), position >> 1
                yield node
            edge.append(node)


def _check_proof(store: SqlLogStore, size: int, index: int) -> None:
    def read(ids: Sequence[NodeId]) -> Sequence[bytes]:
        return store.nodes(Log.ACCESS, ids)

    tree = GrowingRoot()
    for place, hash_ in zip(cover(0, size), read(frontier_nodes(size)), strict=True):
        tree.add_node(place.level, hash_)
    (leaf,) = read([NodeId(0, index)])
    verify_inclusion(leaf, index, size, inclusion_proof(index, size, read), tree.root())


def _prove_all(store: SqlLogStore, size: int, indexes: Sequence[int]) -> None:
    for index in indexes:
        inclusion_proof(index, size, lambda ids: store.nodes(Log.ACCESS, ids))


# --- the directory ------------------------------------------------------------------------------------


def directory(folder: Path, arguments: argparse.Namespace) -> Iterator[Figure]:
    """The fold of the directory with and without bodies, signed one by one and in batches; then snapshots of it."""
    for name, unit, values in folds(arguments.directory, arguments.rounds):
        yield Figure(name, unit, values, "at least 50,000" if unit == RATE and "bodies" not in name else "")
    for name, unit, values in reopenings(arguments.agreements, arguments.rounds):
        yield Figure(name, unit, values)
    for size in arguments.states:
        for name, unit, values in snapshots(folder, size, arguments.rounds):
            yield Figure(name, unit, values, "under 3" if unit == "s" else "under 1,024" if unit == "MiB" else "")


SECTIONS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Figure]]] = {
    "bundles": bundles,
    "proofs": proofs,
    "directory": directory,
}


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _processor(work: Callable[[], object]) -> float:
    """Seconds of processor time: what only computes is not to be slowed down by whatever else runs here."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _forget_signatures() -> None:
    """What a round verified is not verified already in the next."""
    is_signed.cache_clear()


def _machine() -> str:
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
