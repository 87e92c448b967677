"""Memory does not grow with the log: `sync`, `verify full` and bundles take a long one in as much as a short one."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exchange.cli.audit.bundles.format import BundleReader
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, RangeLeaves, WholeTree
from exchange.cli.audit.checking.verification import LoggedEntry, Verification
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.fetch import fetch_access_log
from exchange.client.session import Session
from exchange.core.checkpoint import Checkpoint
from exchange.core.wire import encode
from exchange.home import Home
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, checkpoint_of
from tests.component.audit.test_tiles import grown
from tests.memory import MemoryLog
from tests.simulator import trust_of
from tests.world import START, World

SHORT, LONG = 500, 4_500
SLACK = 250_000
"""Bytes by which two measurements may differ; the control shows that a table of the entries takes more."""


def leaf(number: int) -> bytes:
    """A release, of which each request is another; nothing was asked, so it has no body that fits."""
    about = number.to_bytes(16)
    return encode(
        AccessLeaf(
            format=1,
            time=START + number,
            kind=AccessKind.ACCESS_KIND_RELEASED,
            requester="exchange://city.example/housing/applications",
            provider="exchange://city.example/population/registry",
            request_id=about,
            request_digest=about * 2,
            response_digest=about * 2,
            directory_size=0,
        )
    )


@pytest.fixture(scope="module")
def logs(busy: World) -> dict[int, MemoryLog]:
    log = MemoryLog(busy.access_log.signer.name)
    found = {}
    for number in range(LONG):
        log.append(leaf(number))
        if log.size in (SHORT, LONG):
            found[log.size] = log.copy()
    return found


@contextmanager
def measured() -> Iterator[list[int]]:
    """The most memory that Python had at once beyond what it had before, bytes."""
    result: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield result
        result.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def growth(work: Callable[[int], None]) -> int:
    """How much more memory some work takes for a long log than for a short one."""
    # Once before, so that what is loaded or cached at first counts for neither.
    work(SHORT)
    peaks = []
    for size in (SHORT, LONG):
        with measured() as found:
            work(size)
        peaks += found
    return peaks[1] - peaks[0]


def rows(log: MemoryLog) -> Iterator[LoggedEntry]:
    return (LoggedEntry(index, leaf, b"") for index, leaf in enumerate(log.leaves))


class InMemory(Remembered):
    """The control: what must not be done."""

    def __init__(self) -> None:
        super().__init__()
        self._released: dict[bytes, int] = {}

    def first_release(self, request: bytes, index: int) -> int:
        return self._released.setdefault(request, index)


def verify(
    busy: World, checkpoint: Checkpoint, entries: Iterable[LoggedEntry], kind: type[Remembered] = Remembered
) -> int:
    """Walk a log, and count what is found instead of keeping it."""
    trees = (
        WholeTree(Expected(busy.directory_log.signer.name, checkpoint_of(busy.directory_log))),
        WholeTree(Expected(checkpoint.origin, checkpoint)),
    )
    with kind() as remembered:
        verification = Verification(trust_of(busy), *trees, remembered, from_start=True)
        return sum(1 for _ in verification.walk((), entries))


def test_verification_remembers_on_disk(busy: World, logs: dict[int, MemoryLog]) -> None:
    def work(size: int) -> None:
        assert verify(busy, checkpoint_of(logs[size]), rows(logs[size])) == size

    assert growth(work) < SLACK


def test_a_verification_that_remembered_in_memory_would_be_seen(busy: World, logs: dict[int, MemoryLog]) -> None:
    def work(size: int) -> None:
        assert verify(busy, checkpoint_of(logs[size]), rows(logs[size]), InMemory) == size

    assert growth(work) > SLACK


def test_what_was_remembered_is_found_again_past_the_cache() -> None:
    with Remembered() as remembered:
        for number in range(LONG):
            assert remembered.first_release(number.to_bytes(16), number) == number
            remembered.withhold(number.to_bytes(32))
        assert remembered.first_release((7).to_bytes(16), LONG) == 7
        assert remembered.is_withheld((7).to_bytes(32))
        assert not remembered.is_withheld(LONG.to_bytes(32))


def test_sync_takes_a_page_at_a_time(home: Home, busy: World, logs: dict[int, MemoryLog]) -> None:
    def work(size: int) -> None:
        exchange = AuditedExchange(busy.copy())
        exchange.access_log, exchange.page = logs[size], 250
        (home.path / FILE).unlink(missing_ok=True)

        async def sync() -> None:
            async with Session(home, exchange, exchange.clock) as session:
                await session.sync()
                with AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True) as mirror:
                    assert (await fetch_access_log(session, mirror, lambda _done, _total: None)).size == size

        asyncio.run(sync())

    assert growth(work) < SLACK


def test_the_mirror_is_read_row_by_row(synced: Path, busy: World, logs: dict[int, MemoryLog]) -> None:
    verifier = busy.access_log.signer.verifier

    def work(size: int) -> None:
        (synced / FILE).unlink()
        grown(synced, logs[size], size)
        gc.collect()
        with AccessMirror.opened(synced / FILE, verifier) as mirror:
            tracemalloc.reset_peak()
            assert verify(busy, mirror.checkpoint, mirror.rows(0, size)) == size

    assert growth(work) < SLACK


def test_a_bundle_is_written_and_read_chunk_by_chunk(
    run: Run, synced: Path, tmp_path: Path, busy: World, logs: dict[int, MemoryLog]
) -> None:
    path = tmp_path / "log.tar"

    def work(size: int) -> None:
        (synced / FILE).unlink()
        grown(synced, logs[size], size)
        gc.collect()
        tracemalloc.reset_peak()
        assert run("bundle", "--output", path, home=synced).exit_code == 0
        with path.open("rb") as file:
            reader = BundleReader(file)
            tree = RangeLeaves(Expected("", checkpoint_of(logs[size])), reader.manifest.ranges, reader.nodes())
            for entry in reader.rows("access"):
                tree.add(entry.index, entry.leaf)
            assert list(tree.finish()) == []

    assert growth(work) < SLACK
