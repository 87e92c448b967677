"""The broker counts what it releases against the agreement's limits, and takes up what bars a release meanwhile."""

import asyncio
from typing import Any

import pytest

from exchange.broker import usage
from exchange.core.decision import Usage
from exchange.core.entries import ObjectVersion
from exchange.core.terms import AgreementTerms
from exchange.store.ports import StoreBusyError
from exchange.v1.access_pb2 import Code
from exchange.v1.guardrail_pb2 import Test as Node
from exchange.v1.terms_pb2 import Limits
from tests.component.broker.parts import RELEASED, UNRELEASED, Broker, nobody, store_of
from tests.world import APPLICATIONS, COORDINATOR, DAY, HOUSING, MARRIAGE, MINUTE, POPULATION, PURPOSE, World


def limited(world: World, **limits: Any) -> AgreementTerms:
    """The requester's newest agreement, with limits."""
    return world.grant(world.apply_for(world.dataset), limits=Limits(**limits))


@pytest.fixture
def world() -> World:
    return World.standard()


async def exhausted(broker: Broker) -> bool:
    return (await broker.refused(broker.world.request())).code == Code.CODE_QUOTA_EXHAUSTED


async def test_what_was_released_is_counted(world: World) -> None:
    limited(world, in_total=2)
    broker = Broker(world)
    adapter = await broker.attach()
    for _ in range(2):
        await broker.submit(world.request())
    assert await exhausted(broker)
    # The provider is not even asked.
    assert len(adapter.deliveries) == 2
    assert [leaf.kind for leaf in broker.leaves()[:2]] == [RELEASED, RELEASED]
    await broker.close()


async def test_two_requests_at_once_cannot_both_take_the_last_one(world: World) -> None:
    limited(world, in_total=1)
    broker = Broker(world)
    adapter = await broker.attach()
    adapter.respond = nobody
    requests = [world.request(case_id=str(number)) for number in range(3)]
    flights = [asyncio.create_task(broker.submit(request)) for request in requests]
    await adapter.delivered(3)
    for delivery, request in zip(adapter.deliveries, requests, strict=True):
        await adapter.reply(delivery, world.respond(request))
    ends = await asyncio.gather(*flights, return_exceptions=True)
    codes = [getattr(end, "code", None) for end in ends]
    assert sorted(codes, key=str) == [Code.CODE_QUOTA_EXHAUSTED, Code.CODE_QUOTA_EXHAUSTED, None]
    settled = [(leaf.kind, leaf.code) for leaf in broker.leaves() if leaf.kind in (RELEASED, UNRELEASED)]
    assert sorted(settled) == [(RELEASED, 0)] + [(UNRELEASED, Code.CODE_QUOTA_EXHAUSTED)] * 2
    await broker.close()


async def test_a_retry_is_not_counted_twice(world: World) -> None:
    limited(world, in_total=1)
    broker = Broker(world)
    adapter = await broker.attach()
    request = world.request()
    first = await broker.submit(request)
    adapter.respond = lambda _request: None
    flight = asyncio.create_task(broker.submit(request))
    await adapter.reply(await adapter.delivered(2), first.response)
    assert (await flight).response == first.response
    assert await exhausted(broker)
    await broker.close()


async def test_a_count_is_the_same_after_a_restart(world: World) -> None:
    agreement = limited(world, in_total=3)
    store = store_of(world)
    broker = Broker(world, store=store)
    await broker.attach()
    for _ in range(2):
        await broker.submit(world.request())
    await broker.close()
    broker = Broker(world, store=store)
    await broker.attach()
    await broker.submit(world.request())
    assert broker.logs.usage.glance(agreement, HOUSING, world.now) == Usage(3, 3, 3)
    assert await exhausted(broker)
    await broker.close()


async def test_what_another_broker_released_counts_under_the_lock(world: World) -> None:
    limited(world, in_total=2)
    store = store_of(world)
    one, other = Broker(world, store=store), Broker(world, store=store)
    adapter = await one.attach()
    await other.attach()
    await one.submit(world.request())
    adapter.respond = nobody
    request = world.request()
    flight = asyncio.create_task(one.submit(request))
    delivery = await adapter.delivered(2)
    await other.submit(world.request())
    await adapter.reply(delivery, world.respond(request))
    with pytest.raises(Exception, match="2 requests in all"):
        await flight
    assert await exhausted(one)
    assert await exhausted(other)
    await one.close()
    await other.close()


async def test_a_batch_that_failed_counts_nothing(world: World) -> None:
    agreement = limited(world, in_total=1)
    broker = Broker(world)
    adapter = await broker.attach()
    broker.store.at_commit = StoreBusyError("busy")
    request = world.request()
    answer = world.respond(request)
    adapter.respond = lambda _request: answer
    assert (await broker.refused(request)).code == Code.CODE_AUDIT_UNAVAILABLE
    broker.store.at_commit = None
    again = await broker.attach()
    again.respond = lambda _request: answer
    await broker.submit(request)
    assert broker.logs.usage.glance(agreement, HOUSING, world.now).total == 1
    await broker.close()


async def test_another_department_and_another_agreement_have_counts_of_their_own(world: World) -> None:
    before = world.agreement
    agreement = limited(world, in_total=1)
    world.grant(world.apply_for(world.dataset, MARRIAGE), limits=Limits(in_total=1))
    broker = Broker(world)
    await broker.attach()
    await broker.submit(world.request(agreement=before.digest))
    await broker.submit(world.request(agreement=agreement.digest))
    newest = world.directory.agreements_of(MARRIAGE, world.dataset.object_id, world.now)[0]
    await broker.submit(world.request(party=MARRIAGE, agreement=newest.digest), peer=MARRIAGE)
    error = await broker.refused(world.request(agreement=agreement.digest))
    assert error.code == Code.CODE_QUOTA_EXHAUSTED
    await broker.close()


async def test_a_limit_that_came_later_counts_what_was_released_before(world: World) -> None:
    before = world.agreement
    broker = Broker(world)
    await broker.attach()
    await broker.submit(world.request())
    application = world.directory.terms.applications[before.application]
    world.grant(application, ObjectVersion(before.object_id, before.digest), limits=Limits(in_total=1))
    await broker.publish()
    assert await exhausted(broker)
    await broker.close()


async def test_a_minute_and_a_day_pass(world: World) -> None:
    limited(world, per_minute=1, per_day=2)
    broker = Broker(world)
    await broker.attach()
    await broker.submit(world.request())
    assert await exhausted(broker)
    world.now += MINUTE
    await broker.submit(world.request())
    world.now += MINUTE
    assert await exhausted(broker)
    world.now += DAY
    await broker.submit(world.request())
    await broker.close()


async def test_only_so_many_counts_are_kept_and_the_others_are_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "KEPT", 1)
    first, second = limited(world, in_total=1), limited(world, in_total=1)
    broker = Broker(world)
    await broker.attach()
    for agreement in (first, second):
        await broker.submit(world.request(agreement=agreement.digest))
    for agreement in (first, second):
        error = await broker.refused(world.request(agreement=agreement.digest))
        assert error.code == Code.CODE_QUOTA_EXHAUSTED
    await broker.close()


async def test_nobody_has_another_departments_agreement_counted(world: World) -> None:
    agreement = limited(world, in_total=1)
    broker = Broker(world)
    error = await broker.refused(world.request(party=MARRIAGE, agreement=agreement.digest), peer=MARRIAGE)
    assert error.code == Code.CODE_NO_AGREEMENT
    assert broker.logs.usage.glance(agreement, MARRIAGE.own_department, world.now) == Usage(0, 0, 0)
    assert not broker.logs.usage._counts
    await broker.close()


@pytest.mark.parametrize("code", ["SUSPENDED", "FORBIDDEN_BY_RULE"])
async def test_what_bars_a_request_meanwhile_bars_its_release(world: World, code: str) -> None:
    broker = Broker(world)
    adapter = await broker.attach()
    adapter.respond = nobody
    request = world.request()
    flight = asyncio.create_task(broker.submit(request))
    delivery = await adapter.delivered()
    if code == "SUSPENDED":
        world.suspend(POPULATION, agreement=world.agreement.digest)
    else:
        world.forbid(Node(purpose=PURPOSE))
    await broker.publish()
    await adapter.reply(delivery, world.respond(request))
    with pytest.raises(Exception, match=r"suspended by|forbids it"):
        await flight
    assert [(leaf.kind, leaf.code) for leaf in broker.leaves()[:1]] == [(UNRELEASED, Code.Value(f"CODE_{code}"))]
    await broker.close()


async def test_what_is_lifted_is_answered_again(world: World) -> None:
    digest = world.suspend(COORDINATOR, party=str(APPLICATIONS)).digest
    broker = Broker(world)
    await broker.attach()
    assert (await broker.refused(world.request())).code == Code.CODE_SUSPENDED
    world.revoke(digest, COORDINATOR)
    await broker.publish()
    await broker.submit(world.request())
    await broker.close()
