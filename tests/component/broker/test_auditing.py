"""Auditors read bodies within a mandate alone, and what they read is in the log before they have it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from exchange.broker.auditing import Auditing
from exchange.broker.logs import AuditUnavailableError
from exchange.broker.reading import Reading
from exchange.broker.status import NotPermittedError
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.store.ports import StoreBusyError
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from exchange.v1.directory_pb2 import Role
from exchange.v1.log_pb2 import Record, SearchRequest
from tests.component.broker.parts import REFUSED, RELEASED, Broker
from tests.world import (
    AUDITOR,
    CIVIL_AFFAIRS,
    COORDINATOR,
    DAY,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    World,
)

READ = AccessKind.ACCESS_KIND_READ
SECOND = Party(ORIGIN, "second-auditor")


@pytest.fixture
async def filled(broker: Broker, world: World) -> Broker:
    """Entry 0: an answer for housing. Entry 1: a refusal of marriage's, a second later."""
    await broker.attach()
    await broker.submit(world.request())
    world.now += 1000
    await broker.refused(world.request(party=MARRIAGE, agreement=bytes(32)), peer=MARRIAGE)
    return broker


@pytest.fixture
def auditing(broker: Broker) -> Auditing:
    return Auditing(broker.logs, Reading(broker.logs, broker.clock), broker.clock)


def with_bodies(records: Sequence[Record]) -> list[int]:
    return [record.index for record in records if record.body]


def reads(broker: Broker) -> list[AccessLeaf]:
    return [leaf for leaf in broker.leaves() if leaf.kind == READ]


async def replace_mandate(broker: Broker, **changes: Any) -> bytes:
    """The mandate of the founding ends, and this one comes instead."""
    world = broker.world
    for digest in world.directory.state.people.mandates[str(AUDITOR)]:
        world.revoke(digest, COORDINATOR)
    digest = world.mandate(**changes).digest
    await broker.publish()
    return digest


# --- what is read is an entry ---------------------------------------------------------------------------------


async def test_a_sync_is_one_entry_that_says_who_read_what_and_under_which_mandate(
    filled: Broker, auditing: Auditing, world: World
) -> None:
    [mandate] = world.directory.state.people.mandates[str(AUDITOR)]
    response = await auditing.sync(AUDITOR, 0)
    assert with_bodies(response.records) == [0, 1]
    [leaf] = reads(filled)
    assert (leaf.requester, leaf.read.mandate, leaf.read.query_sha256) == (str(AUDITOR), mandate, b"")
    assert (leaf.read.first, leaf.read.end, leaf.read.bodies) == (0, 2, 2)
    assert leaf.directory_size == world.directory.size
    assert [one.kind for one in filled.leaves()] == [RELEASED, REFUSED, READ]


async def test_reading_the_entry_of_a_read_is_no_read(filled: Broker, auditing: Auditing) -> None:
    """Else a mirror that follows the log would make it grow without end."""
    await auditing.sync(AUDITOR, 0)
    for start in (2, 3):
        response = await auditing.sync(AUDITOR, start)
        assert not with_bodies(response.records)
    assert len(reads(filled)) == 1


async def test_a_search_is_one_entry_with_the_digest_of_its_query(filled: Broker, auditing: Auditing) -> None:
    request = SearchRequest(requester=str(MARRIAGE))
    response = await auditing.search(AUDITOR, request)
    assert with_bodies([found.record for found in response.entries]) == [1]
    [leaf] = reads(filled)
    assert leaf.read.query_sha256 == hashlib.sha256(encode(request)).digest()
    assert (leaf.read.first, leaf.read.end, leaf.read.bodies) == (1, 2, 1)
    # What finds nothing reads nothing; reads themselves are found, by anybody who audits.
    await auditing.search(AUDITOR, SearchRequest(requester=str(CIVIL_AFFAIRS), code=1))
    assert len(reads(filled)) == 1
    again = await auditing.search(AUDITOR, SearchRequest(kind=READ))
    assert [found.record.index for found in again.entries] == [2]
    assert len(reads(filled)) == 1


async def test_nothing_is_released_whose_entry_is_not_durable(filled: Broker, auditing: Auditing) -> None:
    filled.store.before = StoreBusyError("locked")
    for read in (auditing.sync(AUDITOR, 0), auditing.search(AUDITOR, SearchRequest())):
        with pytest.raises(AuditUnavailableError):
            await read
    filled.store.before = None
    assert not reads(filled)


# --- within a mandate -----------------------------------------------------------------------------------------


async def test_without_a_mandate_an_auditor_reads_leaves_alone(
    filled: Broker, auditing: Auditing, world: World
) -> None:
    world.admit(SECOND, Role.ROLE_AUDITOR)
    await filled.publish()
    response = await auditing.sync(SECOND, 0)
    assert [record.index for record in response.records] == [0, 1]
    assert all(record.leaf for record in response.records)
    assert not with_bodies(response.records)
    assert not (await auditing.search(SECOND, SearchRequest())).entries
    assert not reads(filled)


SCOPES: dict[str, tuple[Callable[[World], dict[str, Any]], list[int]]] = {
    "everything": (lambda _world: {}, [0, 1]),
    "the department that asked": (lambda _world: {"departments": [str(HOUSING)]}, [0]),
    "the department that answered": (lambda _world: {"departments": [str(POPULATION)]}, [0, 1]),
    "another department": (lambda _world: {"departments": [str(CIVIL_AFFAIRS)]}, [1]),
    "a dataset": (lambda world: {"datasets": [world.dataset.object_id]}, [0, 1]),
    "another dataset": (lambda world: {"datasets": [world.publish("other").object_id]}, []),
    "a period": (lambda world: {"until": world.now - 1}, [0]),
    "a later period": (lambda world: {"since": world.now}, [1]),
}


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_mandate_gives_what_it_covers_and_no_other_body(
    filled: Broker, auditing: Auditing, world: World, scope: str
) -> None:
    said, indexes = SCOPES[scope]
    mandate = await replace_mandate(filled, **said(world))
    assert with_bodies((await auditing.sync(AUDITOR, 0)).records) == indexes
    found = await auditing.search(AUDITOR, SearchRequest(until=world.now))
    assert [item.record.index for item in found.entries if item.record.index < 2] == indexes
    assert {leaf.read.mandate for leaf in reads(filled)} == ({mandate} if indexes else set())
    assert [leaf.read.bodies for leaf in reads(filled)] == ([len(indexes)] * 2 if indexes else [])


async def test_several_mandates_are_each_read_under_where_they_are_needed(
    filled: Broker, auditing: Auditing, world: World
) -> None:
    housing = await replace_mandate(filled, departments=[str(HOUSING)])
    both = world.mandate().digest
    await filled.publish()
    assert with_bodies((await auditing.sync(AUDITOR, 0)).records) == [0, 1]
    assert {leaf.read.mandate: (leaf.read.first, leaf.read.end) for leaf in reads(filled)} == {
        housing: (0, 1),
        both: (1, 2),
    }


async def test_a_mandate_that_is_over_gives_nothing(filled: Broker, auditing: Auditing, world: World) -> None:
    await replace_mandate(filled, not_after=world.now + DAY)
    world.now += DAY
    assert with_bodies((await auditing.sync(AUDITOR, 0)).records) == [0, 1]
    world.now += 1
    assert not with_bodies((await auditing.sync(AUDITOR, 0)).records)


async def test_a_mandate_that_is_ended_gives_nothing(filled: Broker, auditing: Auditing, world: World) -> None:
    [mandate] = world.directory.state.people.mandates[str(AUDITOR)]
    world.revoke(mandate, COORDINATOR)
    await filled.publish()
    assert not with_bodies((await auditing.sync(AUDITOR, 0)).records)


async def test_a_mandate_that_ends_while_it_is_read_under_gives_nothing(
    filled: Broker, auditing: Auditing, world: World
) -> None:
    """It is decided again under the lock."""
    await replace_mandate(filled, not_after=world.now + DAY)
    clock = iter([world.now + DAY])
    late = Auditing(filled.logs, Reading(filled.logs, filled.clock), lambda: next(clock))
    world.now += DAY + 1
    with pytest.raises(NotPermittedError, match="has ended meanwhile"):
        await late.sync(AUDITOR, 0)
    assert not reads(filled)


async def test_only_auditors_read_under_mandates(filled: Broker, auditing: Auditing) -> None:
    for party in (COORDINATOR, HOUSING, POPULATION):
        with pytest.raises(NotPermittedError):
            await auditing.sync(party, 0)
        with pytest.raises(NotPermittedError):
            await auditing.search(party, SearchRequest())
