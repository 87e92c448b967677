"""A suspension, or an officer's removal, cuts what is under way; what comes late is settled all the same."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from exchange.broker.cutting import Cutter
from exchange.broker.refusals import RefusedError
from exchange.broker.status import NotPermittedError
from exchange.core.bars import party_target
from exchange.core.envelope import Envelope
from exchange.v1.access_pb2 import Code
from exchange.v1.guardrail_pb2 import Officer
from tests.component.broker.parts import REFUSED, RELEASED, UNRELEASED, Adapter, Broker, nobody
from tests.world import APPLICATIONS, COORDINATOR, HOUSING, MARRIAGE, MINUTE, POPULATION, REGISTRY, World

Suspend = Callable[[World], object]

REQUESTERS: dict[str, Suspend] = {
    "the agreement, by its owner": lambda world: world.suspend(POPULATION, agreement=world.agreement.digest),
    "the agreement": lambda world: world.suspend(COORDINATOR, agreement=world.agreement.digest),
    "the dataset": lambda world: world.suspend(POPULATION, dataset=world.dataset.object_id),
    "the department that asks": lambda world: world.suspend(COORDINATOR, party=str(HOUSING)),
    "the system that asks": lambda world: world.suspend(HOUSING, party=str(APPLICATIONS)),
    "the officer": lambda world: world.suspend(
        COORDINATOR, officer=Officer(department=str(HOUSING), pseudonym="officer-7")
    ),
}
PROVIDERS: dict[str, Suspend] = {
    "the department that answers": lambda world: world.suspend(COORDINATOR, party=str(POPULATION)),
    "the system that answers": lambda world: world.suspend(POPULATION, party=str(REGISTRY)),
}


@pytest.fixture
async def cutter(broker: Broker) -> AsyncIterator[Cutter]:
    cutter = Cutter(broker.logs, broker.tunnels, broker.clock)
    task = asyncio.create_task(cutter.run())
    await asyncio.sleep(0)
    yield cutter
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def silent(broker: Broker, cutter: Cutter) -> Adapter:
    adapter = await broker.attach()
    adapter.respond = nobody
    return adapter


async def cut(broker: Broker, silent: Adapter, request: Envelope, suspend: Suspend) -> RefusedError:
    """The refusal of a request whose provider has it, and does not answer."""
    task = asyncio.create_task(broker.submit(request, timeout=600))
    await silent.delivered()
    suspend(broker.world)
    await broker.publish()
    await asyncio.wait([task], timeout=5)
    error = task.exception()
    assert isinstance(error, RefusedError)
    return error


@pytest.mark.parametrize("what", REQUESTERS)
async def test_a_suspension_cuts_what_is_under_way(broker: Broker, silent: Adapter, world: World, what: str) -> None:
    request = world.request()
    response = world.respond(request)
    error = await cut(broker, silent, request, REQUESTERS[what])
    broker.check_refusal(error, Code.CODE_SUSPENDED, 6, request.digest)
    # The provider answers all the same, and what it committed is in the log.
    await silent.reply(await silent.delivered(), response)
    await silent.settlement(response)
    assert [(leaf.kind, leaf.code) for leaf in broker.leaves()] == [
        (REFUSED, Code.CODE_SUSPENDED),
        (UNRELEASED, Code.CODE_SUSPENDED),
    ]
    assert (await broker.refused(world.request())).code == Code.CODE_SUSPENDED


@pytest.mark.parametrize("what", PROVIDERS)
async def test_a_suspended_provider_is_cut_off_until_it_is_resumed(
    broker: Broker, silent: Adapter, world: World, what: str
) -> None:
    request = world.request()
    response = world.respond(request)
    error = await cut(broker, silent, request, PROVIDERS[what])
    broker.check_refusal(error, Code.CODE_SUSPENDED, 6, request.digest)
    with pytest.raises(NotPermittedError, match="used for another purpose"):
        await silent.task
    assert list(broker.tunnels) == []
    with pytest.raises(NotPermittedError, match="is suspended by"):
        await Adapter(broker, REGISTRY).task
    await broker.attach(MARRIAGE)

    [(_, standing)] = world.directory.state.bars.all_suspensions()
    world.revoke(standing.digest, COORDINATOR)
    await broker.publish()
    again = await broker.attach()
    # What it had committed when the tunnel was cut is settled now.
    await again.offer(request, response)
    await again.settlement(response)
    await broker.submit(world.request())
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED, UNRELEASED, RELEASED]


async def test_a_provider_attaches_again_once_its_suspension_is_over(
    broker: Broker, silent: Adapter, world: World
) -> None:
    world.suspend(COORDINATOR, party=str(POPULATION), until=world.now + MINUTE)
    await broker.publish()
    with pytest.raises(NotPermittedError):
        await silent.task
    world.now += MINUTE
    await broker.attach()
    await broker.submit(world.request())


async def test_removing_an_officer_cuts_what_is_under_way(broker: Broker, silent: Adapter, world: World) -> None:
    world.name_officer(HOUSING, "officer-7")
    await broker.publish()
    request = world.request()
    error = await cut(broker, silent, request, lambda world: world.name_officer(HOUSING, "officer-7", removed=True))
    broker.check_refusal(error, Code.CODE_OFFICER_NOT_GRANTED, 6, request.digest)


async def test_what_is_not_suspended_goes_on(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    task = asyncio.create_task(broker.submit(request, timeout=600))
    delivery = await silent.delivered()
    world.suspend(COORDINATOR, officer=Officer(department=str(HOUSING), pseudonym="officer-8"))
    world.suspend(COORDINATOR, party=str(MARRIAGE))
    await broker.publish()
    await silent.reply(delivery, world.respond(request))
    await task
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]


async def test_many_flights_are_cut_and_no_other(broker: Broker, silent: Adapter, world: World) -> None:
    """More than are judged at once, of two officers in turn."""
    requests = [world.request(officer=f"officer-{7 + number % 2}") for number in range(90)]
    tasks = [asyncio.create_task(broker.submit(request, timeout=600)) for request in requests]
    await silent.delivered(len(requests))
    world.suspend(COORDINATOR, officer=Officer(department=str(HOUSING), pseudonym="officer-7"))
    await broker.publish()
    await asyncio.wait(tasks[::2], timeout=5)
    assert [type(task.exception()) for task in tasks[::2]] == [RefusedError] * 45
    assert not any(task.done() for task in tasks[1::2])
    for place, delivery in enumerate(silent.deliveries):
        if place % 2:
            await silent.reply(delivery, world.respond(requests[place]))
    await asyncio.gather(*tasks[1::2])


async def test_a_retry_after_the_resumption_gets_the_answer(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    await cut(broker, silent, request, REQUESTERS["the agreement"])
    assert world.directory.state.bars.holding(party_target(HOUSING), world.now) is None
    [(_, standing)] = world.directory.state.bars.all_suspensions()
    world.revoke(standing.digest, COORDINATOR)
    await broker.publish()
    silent.respond = lambda _request: response
    assert (await broker.submit(request)).response == response.encode()
