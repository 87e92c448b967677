"""Two brokers on one PostgreSQL database: what one has appended binds the other, at once or within a moment."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from exchange.broker.append import AppendCommand
from exchange.broker.authority import found_authority
from exchange.broker.beginning import Beginning
from exchange.broker.following import LOOKS, LOOKS_AT_ONCE, Follower
from exchange.broker.logs import AuditUnavailableError, DirectoryProposal, Logs
from exchange.core.access import read_access_leaf, verify_release
from exchange.core.entries import ObjectVersion
from exchange.core.names import Party
from exchange.store.ports import Batch, Head, Log
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Dataset, Field, FieldType, Role
from exchange.v1.terms_pb2 import Limits
from tests.certificates import AUTHORITY_KEY, NOW
from tests.component.broker.parts import (
    RELEASED,
    UNRELEASED,
    Broker,
    fill,
    logs_of,
    nobody,
    note_signers,
    store_of,
)
from tests.component.broker.test_logs import check_log, purpose, refusal, saying
from tests.databases import Server, database_of
from tests.memory import signer
from tests.world import APPLICATIONS, LOOKUP, MINUTE, ORIGIN, REGISTRY, World


@pytest.fixture
def url(postgres_server: Server, world: World) -> str:
    found = postgres_server.new_database()
    store = SqlLogStore.create(found)
    fill(store, world)
    store.close()
    return found


@pytest.fixture
def stores(url: str) -> Iterator[tuple[SqlLogStore, SqlLogStore]]:
    one, other = SqlLogStore.open(url), SqlLogStore.open(url)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
async def brokers(world: World, stores: tuple[SqlLogStore, SqlLogStore]) -> AsyncIterator[tuple[Broker, Broker]]:
    one, other = (Broker(world, store=store) for store in stores)
    yield one, other
    await one.close()
    await other.close()


def revoke(world: World) -> DirectoryProposal:
    world.revoke(world.agreement.digest, REGISTRY)
    return DirectoryProposal(world.entries[-1], b"")


async def test_the_last_request_of_a_quota_is_released_at_one_broker_alone(
    brokers: tuple[Broker, Broker], world: World
) -> None:
    application = world.directory.terms.applications[world.agreement.application]
    world.grant(
        application, ObjectVersion(world.agreement.object_id, world.agreement.digest), limits=Limits(in_total=1)
    )
    one, other = brokers
    await one.publish()
    await other.logs.catch_up()
    adapters = [await broker.attach() for broker in brokers]
    requests = [world.request(case_id=str(number)) for number in range(2)]
    flights = []
    for broker, adapter, request in zip(brokers, adapters, requests, strict=True):
        adapter.respond = nobody
        flights.append(asyncio.create_task(broker.submit(request)))
    for adapter, request in zip(adapters, requests, strict=True):
        await adapter.reply(await adapter.delivered(), world.respond(request))
    ends = await asyncio.gather(*flights, return_exceptions=True)
    assert [getattr(end, "code", None) for end in ends].count(Code.CODE_QUOTA_EXHAUSTED) == 1
    assert sorted(leaf.kind for leaf in one.leaves())[:2] == [RELEASED, UNRELEASED]


async def test_an_answer_is_not_released_after_a_revocation_at_another_broker(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    adapter = await other.attach()
    adapter.respond = nobody
    request = world.request()
    asking = asyncio.create_task(other.refused(request))
    delivery = await adapter.delivered()
    # The other broker has decided already, and knows nothing of this.
    response = world.respond(request)
    await one.logs.append(revoke(world))
    assert other.logs.directory.size < world.directory.size
    await adapter.reply(delivery, response)
    error = await asking
    assert error.code == Code.CODE_AGREEMENT_ENDED
    assert (one.leaf(0).kind, one.leaf(0).code) == (UNRELEASED, Code.CODE_AGREEMENT_ENDED)
    assert one.leaf(0).directory_size == world.directory.size
    assert (await adapter.settlement(response)).leaf == one.leaf(0)


async def test_a_revocation_reaches_every_broker_and_its_adapters_without_an_append_of_theirs(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    adapter = await other.attach()
    following = asyncio.create_task(Follower(other.logs, other.taken, 0).run())
    size = other.logs.directory.size
    moved = asyncio.create_task(other.logs.moved(size))
    request = world.request()
    await one.logs.append(revoke(world))
    async with asyncio.timeout(30):
        assert await moved == size + 1
    await adapter.until(lambda: adapter.heads[-1] == size + 1)
    assert (await other.refused(request)).code == Code.CODE_AGREEMENT_ENDED
    assert other.logs.directory == one.logs.directory
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_who_has_seen_a_larger_directory_at_one_broker_is_answered_by_the_other(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    await other.attach()
    await one.logs.append(purpose(world, "tax.audit"))
    assert other.logs.directory.size < world.directory.size
    assert await other.submit(world.request())


async def test_a_key_that_was_admitted_at_one_broker_asks_at_the_other_at_once(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    await other.attach()
    world.admit(APPLICATIONS, Role.ROLE_SYSTEM, signer("its next key"))
    await one.publish()
    request = world.request()
    assert request.key_id not in other.logs.directory.state.keys
    assert await other.submit(request)


async def test_a_key_that_was_admitted_at_one_broker_signs_entries_at_the_other_at_once(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    department, system = Party(ORIGIN, "tax"), Party(ORIGIN, "tax", "vehicles")
    world.admit(department, Role.ROLE_DEPARTMENT)
    world.admit(system, Role.ROLE_SYSTEM)
    await one.publish()
    field = Field(name="plate", label="plate", type=FieldType.FIELD_TYPE_TEXT)
    body = Dataset(
        format=1, code="cars", title="cars", system=str(system), fields=[field], key="plate", operations=[LOOKUP]
    )
    append = AppendCommand(other.logs, found_authority(AUTHORITY_KEY, ORIGIN, NOW), other.clock)
    appended = await append(department, world.sign(world.body_draft(department, body), department).encode())
    assert appended.receipt.index == one.logs.directory.size == other.logs.directory.size - 1


async def test_strangers_cannot_make_a_broker_look_as_often_as_they_like(
    world: World, brokers: tuple[Broker, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = brokers
    looks, catch_up = [], other.logs.catch_up

    async def counted() -> None:
        looks.append(world.now)
        await catch_up()

    monkeypatch.setattr(other.logs, "catch_up", counted)
    stranger = replace(world.request(), key_id=bytes(32))
    for _ in range(10):
        assert (await other.refused(stranger)).code == Code.CODE_SIGNATURE_INVALID
    assert len(looks) == LOOKS_AT_ONCE
    world.now += 1000
    for _ in range(10):
        await other.refused(stranger)
    assert len(looks) == LOOKS_AT_ONCE + LOOKS


async def test_one_release_for_the_same_bytes_at_both_brokers(world: World, brokers: tuple[Broker, Broker]) -> None:
    one, other = brokers
    request = world.request()
    response = world.respond(request)
    for broker in brokers:
        adapter = await broker.attach()
        adapter.respond = lambda _: response
    first, second = await asyncio.gather(one.submit(request), other.submit(request))
    again = await other.submit(request)
    assert first.response == second.response == again.response == response.encode()
    verifier = world.access_log.signer.verifier
    for released in (first, second, again):
        assert verify_release(released.receipt, verifier, request.digest, response.digest).index == 0
    assert [leaf.kind for leaf in one.leaves()] == [RELEASED]


async def test_an_id_that_one_broker_released_is_refused_to_another_message_at_the_other(
    world: World, brokers: tuple[Broker, Broker]
) -> None:
    one, other = brokers
    for broker in brokers:
        await broker.attach()
    request_id = world.request_id()
    first, replay = world.request(request_id=request_id), world.request(request_id=request_id, officer="officer-8")
    answer = world.respond(first)
    for broker in brokers:
        broker.adapters[0].respond = lambda request: answer if request == first else world.respond(request)
    await one.submit(first)
    # Before it has heard of it, the log itself keeps it from a second release, and says why.
    for _ in range(2):
        error = await other.refused(replay)
        other.check_refusal(error, Code.CODE_REPLAYED, 4, replay.digest)
        assert (one.leaf(-2).kind, one.leaf(-2).code) == (UNRELEASED, Code.CODE_REPLAYED)
    assert [leaf.kind for leaf in one.leaves()].count(RELEASED) == 1
    # And the message that the id belongs to is answered there as it was.
    assert (await other.submit(first)).response == answer.encode()
    fresh = world.request_id()
    await one.submit(world.request(request_id=fresh))
    await Follower(other.logs, other.taken, 0).look()
    replay = world.request(request_id=fresh)
    error = await other.refused(replay)
    other.check_refusal(error, Code.CODE_REPLAYED, 4, replay.digest)


async def test_what_one_broker_could_not_settle_another_does(world: World, brokers: tuple[Broker, Broker]) -> None:
    one, other = brokers
    request = world.request()
    response = world.respond(request)
    adapter = await other.attach(ready=False)
    await adapter.offer(request, response)
    proven = await adapter.settlement(response)
    assert proven.leaf.kind == UNRELEASED
    # The same answer, offered to the first broker as well, has its entry already.
    again = await one.attach(ready=False)
    await again.offer(request, response)
    assert (await again.settlement(response)).index == proven.index
    assert one.size == 1


async def test_times_never_decrease_between_brokers_whose_clocks_differ(
    world: World, stores: tuple[SqlLogStore, SqlLogStore]
) -> None:
    ahead, behind = logs_of(world, stores[0]), logs_of(world, stores[1])
    ahead._clock = lambda: world.now + MINUTE
    for logs in (ahead, behind, ahead, behind):
        await logs.append(saying(refusal()))
    stored = stores[0].entries(Log.ACCESS, 0, 1 << 30, 10)
    times = [read_access_leaf(entry.leaf).time for entry in stored]
    assert times == [world.now + MINUTE] * 4
    await ahead.close()
    await behind.close()


async def test_brokers_that_race_leave_one_contiguous_log_that_each_can_prove(
    world: World, stores: tuple[SqlLogStore, SqlLogStore]
) -> None:
    one, other = logs_of(world, stores[0]), logs_of(world, stores[1])
    entered = await asyncio.gather(
        *(logs.append(saying(refusal(number))) for number in range(100) for logs in (one, other))
    )
    assert sorted(item.receipt.index for item in entered) == list(range(200))
    for log in Log:
        check_log(world, stores[0], log)
    await one.close()
    await other.close()


async def until_waiting(server: Server, url: str, count: int) -> None:
    """Wait until so many sessions of a database are in the queue for its append lock."""
    query = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        f" WHERE datname = '{database_of(url)}' AND locktype = 'advisory' AND NOT granted"
    )
    async with asyncio.timeout(30):
        while await asyncio.to_thread(server.execute, query) != [(count,)]:
            pass


async def test_what_arrives_while_another_broker_holds_the_lock_goes_with_one_commit(
    world: World, url: str, postgres_server: Server, stores: tuple[SqlLogStore, SqlLogStore]
) -> None:
    logs = logs_of(world, stores[1])
    with stores[0].locked():
        appending = [asyncio.create_task(logs.append(saying(refusal(0))))]
        await until_waiting(postgres_server, url, 1)
        appending += [asyncio.create_task(logs.append(saying(refusal(number)))) for number in range(1, 30)]
        # The store says nothing of it while the lock is another's.
        assert stores[0].head(Log.ACCESS).size == 0
        await asyncio.sleep(0)
    entered = await asyncio.gather(*appending)
    assert [item.receipt.index for item in entered] == list(range(30))
    # Each entry is proven by the checkpoint of its own commit: there was one.
    assert len({item.receipt.checkpoint for item in entered}) == 1
    check_log(world, stores[0], Log.ACCESS)
    await logs.close()


async def test_what_arrives_while_another_broker_revokes_is_decided_by_the_revocation(
    world: World, url: str, postgres_server: Server, brokers: tuple[Broker, Broker]
) -> None:
    """Both wait for the lock, and the revocation has it first."""
    one, other = brokers
    await other.attach()
    requests = [world.request() for _ in range(3)]
    third = SqlLogStore.open(url)
    with third.locked():
        revoking = asyncio.create_task(one.logs.append(revoke(world)))
        await until_waiting(postgres_server, url, 1)
        asking = [asyncio.create_task(other.refused(request)) for request in requests]
        await until_waiting(postgres_server, url, 2)
    third.close()
    await revoking
    assert {error.code for error in await asyncio.gather(*asking)} == {Code.CODE_AGREEMENT_ENDED}
    assert RELEASED not in [leaf.kind for leaf in one.leaves()]


async def test_a_lock_that_is_not_free_in_time_fails_what_waited_for_it_and_nothing_is_released(
    world: World, stores: tuple[SqlLogStore, SqlLogStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.store.postgres.WAIT_SECONDS", 0.05)
    logs = logs_of(world, stores[1])
    with stores[0].locked():
        failed = await asyncio.gather(
            *(logs.append(saying(refusal(number))) for number in range(3)), return_exceptions=True
        )
    assert [type(error) for error in failed] == [AuditUnavailableError] * 3
    assert not logs.failed.is_set()
    assert (await logs.append(saying(refusal(3)))).receipt.index == 0
    await logs.close()


async def test_sessions_that_the_server_ends_cost_a_batch_at_most(
    world: World, url: str, postgres_server: Server, stores: tuple[SqlLogStore, SqlLogStore]
) -> None:
    logs = logs_of(world, stores[0])
    await logs.append(saying(refusal(0)))
    postgres_server.kill_sessions(url)
    with suppress(AuditUnavailableError):
        await logs.append(saying(refusal(1)))
    await logs.append(saying(refusal(2)))
    assert not logs.failed.is_set()
    check_log(world, stores[0], Log.ACCESS)
    await logs.close()


async def test_a_log_that_was_rolled_back_under_a_running_broker_is_not_extended(
    world: World, url: str, postgres_server: Server, stores: tuple[SqlLogStore, SqlLogStore]
) -> None:
    """As a standby does that takes over without the last entries."""
    logs = logs_of(world, stores[0])
    empty = stores[0].head(Log.ACCESS).checkpoint
    await logs.append(saying(refusal(0)))
    name = database_of(url)
    postgres_server.execute("DELETE FROM entries WHERE log = 'access'", name)
    postgres_server.execute("DELETE FROM nodes WHERE log = 'access'", name)
    postgres_server.execute(f"UPDATE heads SET size = 0, checkpoint = '\\x{empty.hex()}' WHERE log = 'access'", name)
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal(1)))
    assert logs.failed.is_set()
    assert stores[0].head(Log.ACCESS).size == 0
    await logs.close()


async def test_a_log_with_another_past_is_not_extended(world: World) -> None:
    """The same number of entries, and a checkpoint with the right key: only the tree tells."""
    store = store_of(world)
    logs = logs_of(world, store)
    await logs.append(saying(refusal(0)))
    forged = store_of(world)
    forging = Logs(forged, note_signers(world), Beginning(world.directory), lambda: world.now + 1)
    for number in (7, 8):
        await forging.append(saying(refusal(number)))
    store._content = forged._content
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal(1)))
    assert logs.failed.is_set()
    assert store.head(Log.ACCESS).size == 2
    for each in (logs, forging):
        await each.close()


async def test_a_head_that_the_logs_key_did_not_sign_is_not_extended(world: World) -> None:
    store = store_of(world)
    logs = logs_of(world, store)
    await logs.append(saying(refusal(0)))
    head = store.head(Log.ACCESS)
    with store.locked() as transaction:
        transaction.append(Batch(Log.ACCESS, 1, (), (), Head(Log.ACCESS, 1, b"unsigned", head.time)))
    with pytest.raises(AuditUnavailableError):
        await logs.append(saying(refusal(1)))
    assert logs.failed.is_set()
    await logs.close()
