"""Every so many entries the broker signs what the directory folds to; a broker that folds otherwise stops."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exchange.broker.logs import AccessProposal, AuditUnavailableError, DirectoryProposal, Logs
from exchange.broker.records import AccessRecord
from exchange.broker.snapshots import DirectoryDiffersError, Snapshots
from exchange.core.directory import Directory
from exchange.core.envelope import decode_envelope
from exchange.core.fold import apply
from exchange.core.keys import key_id
from exchange.core.snapshot import state_digest
from exchange.core.state import genesis
from exchange.core.wire import decode
from exchange.store.ports import Log, StoreError
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, EntryKind
from tests.component.broker.parts import FailingStore, note_signers, store_of
from tests.component.broker.test_logs import check_log, purpose
from tests.world import BROKER, ORIGIN, World, signer

SNAPSHOT = EntryKind.ENTRY_KIND_SNAPSHOT


def logs_with(world: World, store: FailingStore, every: int, start: Directory | None = None) -> Logs:
    start = start or Directory.genesis(ORIGIN, signer("root").public_key)
    snapshots = Snapshots(world.keys[BROKER], BROKER, every)
    return Logs(store, note_signers(world), start, lambda: world.now, snapshots)


@pytest.fixture
def store(world: World) -> FailingStore:
    return store_of(world)


@pytest.fixture
async def logs(world: World, store: FailingStore) -> AsyncIterator[Logs]:
    """The next entry but two is a snapshot's turn."""
    logs = logs_with(world, store, world.directory.size + 2)
    yield logs
    await logs.close()


def entries_of(store: FailingStore) -> list[Entry]:
    leaves = [entry.leaf for entry in store.entries(Log.DIRECTORY, 0, 1 << 30, 1 << 30)]
    envelopes = [decode_envelope(decode(DirectoryLeaf, leaf).envelope) for leaf in leaves]
    return [decode(Entry, envelope.payload) for envelope in envelopes]


async def test_a_snapshot_follows_the_entry_that_makes_the_directory_large_enough(
    world: World, store: FailingStore, logs: Logs
) -> None:
    size = world.directory.size
    await logs.append(purpose(world, "tax.audit"))
    assert logs.directory.size == size + 1
    await logs.append(purpose(world, "tax.refund"))
    assert logs.directory.size == size + 3
    check_log(world, store, Log.DIRECTORY)
    entry = entries_of(store)[-1]
    assert (entry.kind, entry.owner, entry.snapshot.size) == (SNAPSHOT, str(BROKER), size + 2)
    state = genesis(ORIGIN, signer("root").public_key)
    for stored in store.entries(Log.DIRECTORY, 0, 1 << 30, size + 2):
        state, _ = apply(state, stored.leaf)
    assert entry.snapshot.state_sha256 == state_digest(state)


async def test_snapshots_come_in_the_middle_of_a_batch_too(world: World, store: FailingStore) -> None:
    logs = logs_with(world, store, 4)
    before, start = store.transactions, world.directory.size
    codes = [f"purpose.{number}" for number in range(10)]
    entered = await asyncio.gather(*(logs.append(purpose(world, code)) for code in codes))
    await logs.close()
    assert store.transactions == before + 1
    entries = entries_of(store)
    places = [index for index, entry in enumerate(entries) if entry.kind == SNAPSHOT]
    assert places == [index for index in range(start + 1, len(entries)) if index % 4 == 0]
    assert [entries[one.receipt.index].purpose.code for one in entered] == codes
    check_log(world, store, Log.DIRECTORY)
    assert logs_with(world, store, 4).directory == logs.directory


async def test_the_next_snapshot_comes_as_many_entries_later(world: World, store: FailingStore) -> None:
    logs = logs_with(world, store, 1000)
    await logs.append(purpose(world, "tax.audit"))
    await logs.close()
    assert all(entry.kind != SNAPSHOT for entry in entries_of(store))


async def test_a_broker_whose_key_has_ended_appends_without_snapshots(
    world: World, store: FailingStore, logs: Logs, logged: list[dict]
) -> None:
    await logs.append(purpose(world, "tax.audit"))
    world.revoke(key_id(world.keys[BROKER].public_key), next(iter(world.keys)))
    await logs.append(DirectoryProposal(world.entries[-1], b""))
    assert logs.directory.size == world.directory.size
    assert any(entry["event"] == "no snapshot was appended" for entry in logged)
    check_log(world, store, Log.DIRECTORY)


async def test_a_broker_that_folds_to_another_state_does_not_start(
    world: World, store: FailingStore, logs: Logs
) -> None:
    for code in ("tax.audit", "tax.refund"):
        await logs.append(purpose(world, code))
    with pytest.raises(DirectoryDiffersError, match=r"is a snapshot, and .* folds to another state here"):
        logs_with(world, store, 4, differing())
    assert issubclass(DirectoryDiffersError, StoreError)


async def test_a_running_broker_stops_when_another_one_signs_another_state(
    world: World, store: FailingStore, logs: Logs
) -> None:
    """Both write to one store, and the second has folded something otherwise."""
    second = logs_with(world, store, 1000, differing())
    for code in ("tax.audit", "tax.refund"):
        await logs.append(purpose(world, code))
    record = AccessRecord(AccessKind.ACCESS_KIND_REFUSED, Code.CODE_MALFORMED, "", request_digest=bytes(32))
    with pytest.raises(AuditUnavailableError):
        await second.append(AccessProposal(lambda _directory, _transaction, _now: record))
    assert second.failed.is_set()
    assert store.head(Log.ACCESS).size == 0
    await second.close()


def differing() -> Directory:
    """A program that gets one thing wrong: it knows of an object that no entry made."""
    directory = Directory.genesis(ORIGIN, signer("root").public_key)
    objects = directory.state.objects.set(bytes(16), bytes(32))
    return replace(directory, state=replace(directory.state, objects=objects))
