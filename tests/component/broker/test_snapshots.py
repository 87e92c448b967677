"""Every so many entries the broker signs what the directory folds to; a broker that folds otherwise stops."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from exchange.broker.beginning import Beginning, StateFile, _blocks
from exchange.broker.logs import AccessProposal, AuditUnavailableError, DirectoryProposal, Logs
from exchange.broker.records import AccessRecord
from exchange.broker.snapshots import DirectoryDiffersError, Snapshots
from exchange.core.directory import Directory
from exchange.core.envelope import decode_envelope
from exchange.core.fold import apply
from exchange.core.keys import key_id
from exchange.core.snapshot import state_digest
from exchange.core.state import genesis
from exchange.core.terms import AgreementTerms
from exchange.core.wire import decode
from exchange.store.ports import Log, StoredEntry, StoreError
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, EntryKind
from tests.component.broker.parts import FailingStore, note_signers, store_of
from tests.component.broker.test_logs import check_log, purpose
from tests.simulator import trust_of
from tests.world import BROKER, ORIGIN, World, signer

FROM_START = "folding from entry 0: the kept state is not the log's"
SNAPSHOT = EntryKind.ENTRY_KIND_SNAPSHOT


def logs_with(world: World, store: FailingStore, every: int, start: Directory | Beginning | None = None) -> Logs:
    start = start or Directory.genesis(ORIGIN, signer("root").public_key)
    start = start if isinstance(start, Beginning) else Beginning(start)
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
    return replace(directory, state=directory.state.with_object(63, bytes(16), bytes(32)))


# --- where a broker begins ----------------------------------------------------------------------------


def kept_in(folder: Path, world: World, store: FailingStore) -> StateFile:
    return StateFile(folder / "directory.state", store, world.directory_log.signer.verifier)


async def keep_a_snapshot(folder: Path, world: World, store: FailingStore) -> Logs:
    """A broker that has appended two snapshots, kept the state of the last, and one entry after it."""
    state = kept_in(folder, world, store)
    logs = logs_with(world, store, world.directory.size + 2, state.begin(trust_of(world)))
    logs._snapshots = replace(logs._snapshots, every=4)
    for number in range(9):
        await logs.append(purpose(world, f"purpose.{number}"))
    await logs.close()
    state.close()
    return logs


def begin(folder: Path, world: World, store: FailingStore) -> Beginning:
    state = kept_in(folder, world, store)
    beginning = state.begin(trust_of(world))
    state.close()
    return beginning


async def test_a_broker_begins_with_the_state_that_it_kept(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    logs = await keep_a_snapshot(tmp_path, world, store)
    beginning = begin(tmp_path, world, store)
    places = [index for index, entry in enumerate(entries_of(store)) if entry.kind == SNAPSHOT]
    assert beginning.directory.size == places[-1] > places[0]
    again = logs_with(world, store, 1000, beginning)
    assert again.directory == logs.directory
    assert again.directory.agreement(world.agreement.digest) == world.agreement
    assert not logged
    await again.append(purpose(world, "tax.audit"))
    check_log(world, store, Log.DIRECTORY)
    await again.close()


async def keep_agreements(folder: Path, world: World, store: FailingStore, count: int) -> list[AgreementTerms]:
    """A broker goes on from what it kept, until it has kept so many agreements more."""
    state = kept_in(folder, world, store)
    logs = logs_with(world, store, 2, state.begin(trust_of(world)))
    found = [world.grant(world.apply_for(world.dataset)) for _ in range(count)]
    for envelope in world.entries[-2 * count :]:
        await logs.append(DirectoryProposal(envelope, envelope.attachments[0]))
    await logs.close()
    state.close()
    return found


async def test_a_broker_reads_the_bodies_of_one_case_without_the_others(
    tmp_path: Path, world: World, store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreements = await keep_agreements(tmp_path, world, store, 4)
    more = await keep_agreements(tmp_path, world, store, 4)
    directory = begin(tmp_path, world, store).directory
    assert directory.size > max(directory.state.versions[terms.digest].index for terms in more)
    read: list[int] = []
    entry = store.entry

    def reading(log: Log, index: int) -> StoredEntry | None:
        read.append(index)
        return entry(log, index)

    monkeypatch.setattr(store, "entry", reading)
    for wanted in (agreements[1], more[1]):
        found = directory.agreement(wanted.digest)
        assert found is not None
        assert found.version.index in read
    others = (agreements[0], agreements[2], more[0], more[2])
    assert not {directory.state.versions[terms.digest].index for terms in others} & set(read)
    assert {terms.digest for terms in (*agreements, *more)} < set(directory.terms.agreements)


async def test_an_index_that_grew_is_the_one_that_is_made_at_once(
    tmp_path: Path, world: World, store: FailingStore
) -> None:
    for _ in range(2):
        await keep_agreements(tmp_path, world, store, 4)
    grown = (tmp_path / "directory.state").read_bytes()
    (tmp_path / "directory.state").unlink()
    state = kept_in(tmp_path, world, store)
    await logs_with(world, store, 1000, state.begin(trust_of(world))).close()
    state.close()
    assert (tmp_path / "directory.state").read_bytes() == grown


async def test_a_kept_state_with_a_damaged_index_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    file = tmp_path / "directory.state"
    _, (_, rows, *_) = _blocks(file.read_bytes())
    file.write_bytes(file.read_bytes().replace(rows, bytes(len(rows))))
    assert begin(tmp_path, world, store).directory.size == 0
    assert [entry["reason"] for entry in logged] == ["its index was damaged"]


async def test_a_kept_state_of_an_earlier_form_is_made_anew(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    file = tmp_path / "directory.state"
    kept = file.read_bytes()
    file.write_bytes(kept.replace(b"directory state 2", b"directory state 1"))
    state = kept_in(tmp_path, world, store)
    await logs_with(world, store, 1000, state.begin(trust_of(world))).close()
    state.close()
    assert file.read_bytes() == kept
    assert [entry["reason"] for entry in logged] == ["the file is not one of this kind"]


async def test_an_entry_of_before_the_kept_state_is_appended_once(
    tmp_path: Path, world: World, store: FailingStore
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    again = logs_with(world, store, 1000, begin(tmp_path, world, store))
    size = again.directory.size
    for index in (0, 3, 9):
        entered = await again.append(DirectoryProposal(world.entries[index], b""))
        assert entered.receipt.index == index
    assert again.directory.size == size
    await again.close()


async def test_without_a_kept_state_a_broker_folds_from_entry_0(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    (tmp_path / "directory.state").unlink()
    assert begin(tmp_path, world, store).directory.size == 0
    assert not logged


async def test_a_broker_that_folded_from_entry_0_keeps_the_last_snapshot(
    tmp_path: Path, world: World, store: FailingStore
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    kept = (tmp_path / "directory.state").read_bytes()
    (tmp_path / "directory.state").unlink()
    state = kept_in(tmp_path, world, store)
    await logs_with(world, store, 1000, state.begin(trust_of(world))).close()
    state.close()
    assert (tmp_path / "directory.state").read_bytes() == kept


async def test_a_kept_state_that_was_altered_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    data = (tmp_path / "directory.state").read_bytes()
    opened: list[bytes] = []
    monkeypatch.setattr("exchange.core.kept.decode_record", lambda record, _size: opened.append(record))
    places = [*range(0, len(data), len(data) // 50), len(data) - 1]
    for place in places:
        altered = bytearray(data)
        altered[place] ^= 1
        (tmp_path / "directory.state").write_bytes(altered)
        assert begin(tmp_path, world, store).directory.size == 0
    assert opened == []
    assert [entry["event"] for entry in logged] == ["folding from entry 0: the kept state is not the log's"] * len(
        places
    )


@pytest.mark.parametrize("length", [0, 10, 40, 200, -1])
async def test_a_kept_state_that_was_cut_short_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, length: int, logged: list[dict]
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    data = (tmp_path / "directory.state").read_bytes()
    (tmp_path / "directory.state").write_bytes(data[:length])
    assert begin(tmp_path, world, store).directory.size == 0
    assert len(logged) == 1


async def test_a_kept_state_that_cannot_be_read_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    (tmp_path / "directory.state").mkdir()
    assert begin(tmp_path, world, store).directory.size == 0
    assert [entry["event"] for entry in logged] == ["folding from entry 0: the kept state cannot be read"]


async def test_the_kept_state_of_another_exchange_or_log_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    trust = trust_of(world)
    state = kept_in(tmp_path, world, store)
    for other in (replace(trust, name="other.example"), replace(trust, root_key=signer("another").public_key)):
        assert state.begin(other).directory.size == 0
    state.close()
    assert begin(tmp_path, world, store_of(World.standard())).directory.size == 0
    longer = World.standard()
    for number in range(30):
        longer.register(f"other.{number}")
    assert begin(tmp_path, longer, store_of(longer)).directory.size == 0
    reasons = [entry["reason"] for entry in logged]
    assert reasons[:2] == ["it is of another exchange"] * 2
    assert "and it is of" in reasons[2]
    assert "is no snapshot of it" in reasons[3]


async def test_a_kept_state_whose_entry_is_not_under_the_head_is_not_used(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep_a_snapshot(tmp_path, world, store)
    nodes = store.nodes
    monkeypatch.setattr(store, "nodes", lambda log, ids: tuple(bytes(32) for _ in nodes(log, ids)))
    assert begin(tmp_path, world, store).directory.size == 0
    assert "does not lead to the root" in logged[0]["reason"]


async def test_a_state_that_cannot_be_kept_stops_nobody(
    tmp_path: Path, world: World, store: FailingStore, logged: list[dict]
) -> None:
    (tmp_path / "directory.state").mkdir()
    logs = await keep_a_snapshot(tmp_path, world, store)
    assert logs.directory.size == store.head(Log.DIRECTORY).size
    assert any("was not kept" in entry["event"] for entry in logged)
