"""A signed erasure is carried out in the transaction that appends it, or refused: nothing goes uncovered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from exchange.broker.beginning import Beginning
from exchange.broker.logs import AccessProposal, DirectoryProposal, Entered, EntryRefusedError, Logs
from exchange.broker.records import AccessRecord
from exchange.broker.retention import AT_ONCE, DAY, Retention, read_holds
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, erased_entry
from exchange.core.names import Party
from exchange.home import HomeError
from exchange.store.ports import CommitUnknownError, Log
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import EntryRange, Erased
from tests.component.broker.parts import FailingStore, logs_of, note_signers, store_of
from tests.component.broker.test_logs import check_log
from tests.world import COORDINATOR, HOUSING, ORIGIN, POPULATION, World, signer

DAYS = 30
COUNT = 6


@pytest.fixture
def store(world: World) -> FailingStore:
    return store_of(world)


@pytest.fixture
async def logs(world: World, store: FailingStore, tmp_path: Path) -> AsyncIterator[Logs]:
    """Six access entries, a day apart; the last two are younger than 30 days at the end."""
    genesis = Directory.genesis(ORIGIN, signer("root").public_key)
    retention = Retention(DAYS, lambda: read_holds(tmp_path))
    logs = Logs(store, note_signers(world), Beginning(genesis), lambda: world.now, retention=retention)
    for _ in range(COUNT):
        await logs.append(refused(world))
        world.now += DAY
    world.now += (DAYS - 2) * DAY
    yield logs
    await logs.close()


def refused(world: World) -> AccessProposal:
    kind = AccessKind.ACCESS_KIND_REFUSED
    record = AccessRecord(kind, Code.CODE_MALFORMED, "", request_digest=bytes(32), request=world.request())
    return AccessProposal(lambda _directory, _transaction, _now: record)


async def erase(world: World, logs: Logs, party: Party = COORDINATOR, **target: Any) -> Entered:
    erased = Erased(reason="the retention is over", legal_basis="Archives Act, article 9", **target)
    world.append(erased_entry(party, world.fresh(16), erased), party)
    return await logs.append(DirectoryProposal(world.entries[-1], b""))


def bodies(store: FailingStore, log: Log = Log.ACCESS) -> list[bool]:
    """Which entries of a log still have their bodies."""
    return [bool(entry.body) for entry in store.entries(log, 0, 1 << 30, 1 << 30)]


async def test_erases_what_is_older_than_the_retention(world: World, store: FailingStore, logs: Logs) -> None:
    leaves = [entry.leaf for entry in store.entries(Log.ACCESS, 0, 1 << 30, 1 << 30)]
    head = store.head(Log.ACCESS)
    entered = await erase(world, logs, access=EntryRange(first=1, end=4))
    assert bodies(store) == [True, False, False, False, True, True]
    assert [entry.leaf for entry in store.entries(Log.ACCESS, 0, 1 << 30, 1 << 30)] == leaves
    assert store.head(Log.ACCESS) == head
    assert entered.receipt.index == world.directory.size - 1
    for log in Log:
        check_log(world, store, log)


async def test_the_fold_is_the_same_for_whoever_comes_later(world: World, store: FailingStore, logs: Logs) -> None:
    await erase(world, logs, access=EntryRange(first=0, end=4))
    assert logs_of(world, store).directory.state == logs.directory.state == world.directory.state


@pytest.mark.parametrize(("first", "end"), [(4, 5), (0, 5), (0, 6), (5, 6)])
async def test_keeps_what_is_younger(world: World, store: FailingStore, logs: Logs, first: int, end: int) -> None:
    with pytest.raises(EntryRefusedError, match=f"entry {end - 1} of the access log is not 30 days old yet"):
        await erase(world, logs, access=EntryRange(first=first, end=end))
    assert all(bodies(store))


async def test_an_entry_may_go_the_moment_after_its_last_day(world: World, store: FailingStore, logs: Logs) -> None:
    world.now += 1
    await erase(world, logs, access=EntryRange(first=4, end=5))
    assert bodies(store) == [True] * 4 + [False, True]


@pytest.mark.parametrize(("first", "end"), [(0, 7), (6, 7), (0, AT_ONCE), (2**62, 2**62 + 1)])
async def test_refuses_what_does_not_exist(world: World, store: FailingStore, logs: Logs, first: int, end: int) -> None:
    with pytest.raises(EntryRefusedError, match="the access log has no entry"):
        await erase(world, logs, access=EntryRange(first=first, end=end))
    assert all(bodies(store))


async def test_refuses_too_many_at_once(world: World, logs: Logs) -> None:
    with pytest.raises(EntryRefusedError, match="at most 100,000 entries"):
        await erase(world, logs, access=EntryRange(first=0, end=AT_ONCE + 1))


@pytest.mark.parametrize(("first", "end"), [(0, 4), (2, 3), (0, 3)])
async def test_keeps_what_is_on_hold(
    world: World, store: FailingStore, logs: Logs, tmp_path: Path, first: int, end: int
) -> None:
    """A hold is seen by the next erasure, without a restart."""
    (tmp_path / "holds.toml").write_text('[[hold]]\nname = "HS-2026-118"\nfirst = 2\nend = 3\n')
    with pytest.raises(EntryRefusedError, match="entries 2 to 2 are on hold: HS-2026-118"):
        await erase(world, logs, access=EntryRange(first=first, end=end))
    assert all(bodies(store))
    (tmp_path / "holds.toml").unlink()
    await erase(world, logs, access=EntryRange(first=first, end=end))
    assert bodies(store).count(False) == end - first


async def test_erases_nothing_while_it_is_not_known_what_is_on_hold(
    world: World, store: FailingStore, logs: Logs, tmp_path: Path
) -> None:
    (tmp_path / "holds.toml").write_text("[[hold]]\nname = 1\n")
    with pytest.raises(EntryRefusedError, match="it is not known what is on hold"):
        await erase(world, logs, access=EntryRange(first=0, end=1))
    assert all(bodies(store))
    with pytest.raises(HomeError):
        read_holds(tmp_path)


async def test_an_owner_erases_the_body_of_what_ended(world: World, store: FailingStore, logs: Logs) -> None:
    agreement = world.agreement
    world.revoke(agreement.digest, POPULATION)
    await logs.append(DirectoryProposal(world.entries[-1], b""))
    before = bodies(store, Log.DIRECTORY)
    await erase(world, logs, POPULATION, digest=agreement.digest)
    after = bodies(store, Log.DIRECTORY)
    changed = [index for index, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
    assert changed == [agreement.version.index]
    assert logs_of(world, store).directory.state == logs.directory.state


async def test_every_version_of_an_object_goes_together(world: World, store: FailingStore, logs: Logs) -> None:
    first = world.agreement
    application = world.directory.terms.applications[first.application]
    second = world.grant(application, ObjectVersion(first.version.object_id, first.digest), fields=["name"])
    await logs.append(DirectoryProposal(world.entries[-1], world.directory_log.bodies[-1]))
    world.revoke(second.digest, POPULATION)
    await logs.append(DirectoryProposal(world.entries[-1], b""))
    await erase(world, logs, POPULATION, digest=first.digest)
    kept = bodies(store, Log.DIRECTORY)
    assert (kept[first.version.index], kept[second.version.index]) == (False, False)
    assert kept[application.version.index]


async def test_keeps_what_an_agreement_needs(world: World, store: FailingStore, logs: Logs) -> None:
    digest = world.agreement.application
    world.revoke(digest, HOUSING)
    await logs.append(DirectoryProposal(world.entries[-1], b""))
    before = bodies(store, Log.DIRECTORY)
    with pytest.raises(EntryRefusedError, match=r"the body stays: the agreement .* needs it"):
        await erase(world, logs, HOUSING, digest=digest)
    assert bodies(store, Log.DIRECTORY) == before


async def test_what_the_fold_refuses_is_not_erased(world: World, store: FailingStore, logs: Logs) -> None:
    with pytest.raises(EntryRefusedError, match="is not a coordinator"):
        await erase(world, logs, POPULATION, access=EntryRange(first=0, end=1))
    assert all(bodies(store))


async def test_a_broker_without_retention_erases_nothing(world: World, store: FailingStore, logs: Logs) -> None:
    other = logs_of(world, store)
    with pytest.raises(EntryRefusedError, match="erases nothing"):
        await erase(world, other, access=EntryRange(first=0, end=1))
    assert all(bodies(store))
    await other.close()


async def test_an_erasure_that_is_not_committed_erased_nothing(world: World, store: FailingStore, logs: Logs) -> None:
    store.at_commit = CommitUnknownError("the disk went away")
    with pytest.raises(Exception, match="not written"):
        await erase(world, logs, access=EntryRange(first=0, end=4))
    store.at_commit = None
    assert all(bodies(store))


async def test_the_same_erasure_again_gives_its_receipt_again(world: World, store: FailingStore, logs: Logs) -> None:
    entered = await erase(world, logs, access=EntryRange(first=0, end=4))
    again = await logs.append(DirectoryProposal(world.entries[-1], b""))
    assert again.receipt.index == entered.receipt.index
