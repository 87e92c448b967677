"""A database that is rolled back, locked, read-only or full: the broker releases nothing, and says why."""

import asyncio
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from exchange.broker.beginning import FILE, StateFile
from exchange.broker.config import load_config
from exchange.broker.genesis import log_signers
from exchange.broker.logs import DirectoryProposal, Logs
from exchange.broker.snapshots import Snapshots
from exchange.client import RefusedError, UnavailableError
from exchange.client.session import wall_clock
from exchange.core.entries import ObjectVersion, purpose_entry
from exchange.core.envelope import sign
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Purpose
from tests.e2e.asking import ask, prepare, refused
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, BUREAU, REGISTRY

FORK, UNCHECKED = 4, 3


@pytest.fixture(scope="module")
def shared(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    shared.start()
    yield shared
    for name in (BROKER, REGISTRY):
        for fault in ("read-only", "disk", "fsync"):
            shared.faults(name).switch_off(fault)
    shared.start()
    shared.wait_settled()
    shared.check()


def database(city: City) -> Path:
    return city.path / BROKER / "exchange.db"


@contextmanager
def taken_away(path: Path, place: Path) -> Iterator[None]:
    """A file or folder is elsewhere for a while."""
    kept = shutil.move(path, place)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        shutil.move(kept, path)


def start_refused(city: City) -> str:
    """The broker ends by itself, with the exit code of a rollback; what it printed."""
    city.broker.start(wait=False)
    assert city.broker.wait_exit() == FORK, city.broker.output
    assert "Traceback" not in city.broker.output
    return city.broker.output


async def test_a_database_that_was_rolled_back_is_refused(city: City, tmp_path: Path) -> None:
    assert city.broker.stop() == 0
    older, newer = tmp_path / "older.db", tmp_path / "newer.db"
    shutil.copy(database(city), older)
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await ask(client)
    assert city.broker.stop() == 0
    shutil.copy(database(city), newer)

    shutil.copy(older, database(city))
    output = start_refused(city)
    assert "rolled back" in output
    assert "hint:" in output

    shutil.copy(newer, database(city))
    await asyncio.to_thread(city.restart_broker)
    async with city.client() as client:
        await ask(client)


@pytest.mark.parametrize("log", list(Log), ids=str)
async def test_a_missing_anchor_is_refused(city: City, tmp_path: Path, log: Log) -> None:
    assert city.broker.stop() == 0
    anchor = city.path / BROKER / "anchor" / log.value
    with taken_away(anchor, tmp_path / "anchor"):
        output = start_refused(city)
    assert "anchor" in output
    assert "do not delete" in output


async def test_a_database_of_another_history_is_refused(city: City, tmp_path: Path) -> None:
    """As long as the true one, and signed by the same keys, but not the log that the anchor has seen."""
    assert city.broker.stop() == 0
    kept = tmp_path / "kept.db"
    shutil.copy(database(city), kept)
    with closing(sqlite3.connect(database(city))) as db, db:
        db.execute("UPDATE nodes SET hash = zeroblob(32) WHERE log = 'directory'")
    assert "anchor" in start_refused(city)
    shutil.copy(kept, database(city))


async def test_a_locked_database_releases_nothing_until_it_is_free(city: City) -> None:
    with closing(sqlite3.connect(database(city), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with city.client() as client:
            prepared = await prepare(client)
            with refused(Code.CODE_AUDIT_UNAVAILABLE) as caught:
                await client.submit(prepared)
        assert caught.value.verified
        assert city.kinds_of(prepared.envelope.digest) == []
        other.execute("ROLLBACK")
    await asyncio.to_thread(city.wait_settled)
    async with city.client() as client:
        await client.submit(prepared)
    assert city.kinds_of(prepared.envelope.digest) == ["unreleased", "released"]
    assert city.broker.is_running


async def test_a_full_disk_stops_the_broker(city: City) -> None:
    async with city.client() as client:
        for number in range(5):
            await ask(client, number)
        size = database(city).with_name("exchange.db-wal").stat().st_size
        resource.prlimit(city.broker.pid, resource.RLIMIT_FSIZE, (size, size))
        prepared = await prepare(client)
        with refused(Code.CODE_AUDIT_UNAVAILABLE) as caught:
            await client.submit(prepared)
        assert caught.value.verified
    assert await asyncio.to_thread(city.broker.wait_exit) == UNCHECKED
    assert "cannot be written" in city.broker.output
    assert "Traceback" not in city.broker.output
    assert city.kinds_of(prepared.envelope.digest) == []

    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await client.submit(prepared)
    assert city.kinds_of(prepared.envelope.digest) == ["unreleased", "released"]


async def test_a_read_only_database_stops_the_broker(city: City) -> None:
    city.faults(BROKER).switch_on("read-only")
    async with city.client() as client:
        prepared = await prepare(client)
        with refused(Code.CODE_AUDIT_UNAVAILABLE) as caught:
            await client.submit(prepared)
        assert caught.value.verified
    assert await asyncio.to_thread(city.broker.wait_exit) == UNCHECKED
    assert "read-only" in city.broker.output
    assert city.kinds_of(prepared.envelope.digest) == []
    city.faults(BROKER).switch_off("read-only")
    await asyncio.to_thread(city.start)
    assert city.kinds_of(prepared.envelope.digest) == ["unreleased"]


async def test_an_anchor_that_cannot_be_written_stops_the_broker(city: City, tmp_path: Path) -> None:
    anchor = city.path / BROKER / "anchor"
    with taken_away(anchor, tmp_path / "anchor"):
        anchor.touch()
        async with city.client() as client:
            prepared = await prepare(client)
            # The entry is durable before the anchor fails; whether the answer still arrives is chance.
            with suppress(UnavailableError, RefusedError):
                await client.submit(prepared)
        assert await asyncio.to_thread(city.broker.wait_exit) == UNCHECKED
        assert f"cannot write {anchor}" in city.broker.output
        assert "Traceback" not in city.broker.output

    # What the anchor is behind with is no rollback.
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await client.submit(prepared)
    assert city.kinds_of(prepared.envelope.digest).count("released") == 1


async def test_a_full_ledger_stops_the_adapter_and_nothing_leaves(city: City) -> None:
    async with city.client() as client:
        for number in range(5):
            await ask(client, number)
        await asyncio.to_thread(city.wait_settled)
        size = (city.path / REGISTRY / "ledger.db-wal").stat().st_size
        resource.prlimit(city.registry.pid, resource.RLIMIT_FSIZE, (size, size))
        prepared = await prepare(client)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE):
            await client.submit(prepared)
    assert await asyncio.to_thread(city.registry.wait_exit) == UNCHECKED
    assert "disk" in city.registry.output
    assert "Traceback" not in city.registry.output
    assert not city.rows_of(prepared.envelope.digest)
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await client.submit(prepared)
    assert city.kinds_of(prepared.envelope.digest) == ["refused", "released"]


async def test_a_read_only_ledger_stops_the_adapter_and_nothing_leaves(city: City) -> None:
    city.faults(REGISTRY).switch_on("read-only")
    async with city.client() as client:
        prepared = await prepare(client)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE):
            await client.submit(prepared)
    assert await asyncio.to_thread(city.registry.wait_exit) == UNCHECKED
    assert "check its permissions" in city.registry.output
    assert "Traceback" not in city.registry.output
    assert not city.rows_of(prepared.envelope.digest)
    assert city.kinds_of(prepared.envelope.digest) == ["refused"]


def on_failing_disk(city: City, name: str) -> None:
    """Start a program again, on a disk that can fail."""
    program = city.broker if name == BROKER else city.registry
    assert program.stop() == 0
    city.faults(name).switch_on("disk")
    city.start()


async def test_an_fsync_error_stops_the_broker_and_nothing_is_released(city: City) -> None:
    await asyncio.to_thread(on_failing_disk, city, BROKER)
    async with city.client() as client:
        await ask(client)
        prepared = await prepare(client)
        city.faults(BROKER).switch_on("fsync")
        with refused(Code.CODE_AUDIT_UNAVAILABLE) as caught:
            await client.submit(prepared)
        assert caught.value.verified
    assert await asyncio.to_thread(city.broker.wait_exit) == UNCHECKED
    assert "cannot be written" in city.broker.output
    assert "Traceback" not in city.broker.output

    city.faults(BROKER).switch_off("fsync")
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await client.submit(prepared)
    # Whether the commit that failed is found again or not: it is released once.
    assert city.kinds_of(prepared.envelope.digest).count("released") == 1


async def test_an_fsync_error_stops_the_adapter_and_nothing_leaves(city: City) -> None:
    await asyncio.to_thread(on_failing_disk, city, REGISTRY)
    async with city.client() as client:
        await ask(client)
        await asyncio.to_thread(city.wait_settled)
        prepared = await prepare(client)
        city.faults(REGISTRY).switch_on("fsync")
        with refused(Code.CODE_PROVIDER_UNAVAILABLE):
            await client.submit(prepared)
        assert city.kinds_of(prepared.envelope.digest) == ["refused"]
    assert await asyncio.to_thread(city.registry.wait_exit) == UNCHECKED
    assert "disk" in city.registry.output
    assert "Traceback" not in city.registry.output

    city.faults(REGISTRY).switch_off("fsync")
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        await client.submit(prepared)
    assert len(city.rows_of(prepared.envelope.digest)) == 1
    assert city.kinds_of(prepared.envelope.digest).count("released") == 1


async def test_a_broker_begins_with_the_state_that_it_kept_and_says_why_where_it_does_not(city: City) -> None:
    assert city.broker.stop() == 0
    await take_snapshot(city.path)
    state = city.path / BROKER / "anchor" / "directory.state"
    data = state.read_bytes()
    for altered in (False, True):
        state.write_bytes(data[:-1] + bytes((data[-1] ^ altered,)))
        await asyncio.to_thread(city.start)
        async with city.client() as client:
            await ask(client)
        assert city.broker.stop() == 0
        said = city.broker.output
        assert ("folding from entry 0: the kept state is not the log's" in said) == altered, said


async def take_snapshot(path: Path) -> None:
    """What a broker does every 10,000 entries."""
    home, bureau = Home(path / BROKER), Home(path / BUREAU)
    config, signers = load_config(home.path), log_signers(home)
    store = SqlLogStore.open(config.store_name(home.path))
    kept = StateFile(home.path / config.anchor / FILE, store, signers[Log.DIRECTORY].verifier)
    beginning = kept.begin(home.trust)
    every = store.head(Log.DIRECTORY).size + 1
    logs = Logs(store, signers, beginning, wall_clock, Snapshots(home.signer(), home.party, every))
    purpose = Purpose(code="tax.audit", label="税务稽查", label_en="Tax audit", legal_basis="Tax Act")
    draft = purpose_entry(bureau.party, ObjectVersion(bytes(16)), purpose)
    await logs.append(DirectoryProposal(sign(bureau.signer(), home.trust.name, draft), b""))
    await logs.close()
    kept.close()
    store.close()
