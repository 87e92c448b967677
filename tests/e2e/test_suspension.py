"""Something is held up: at the broker at once, with what is under way; at the owner's adapter with all else down."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, prepare, refused
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, BROKER, BUREAU, HOUSING, POPULATION, REGISTRY
from tests.e2e.processes import until
from tests.e2e.test_revocation import agreement_of, run


@pytest.fixture
def city(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city
        city.check()


async def exchange(city: City, name: str, *arguments: str) -> str:
    """A command of a party, which does what it is to; all that it printed."""
    code, text = await run("exchange.cli.main", *arguments, "--home", str(city.path / name))
    assert code == 0, text
    return text


@pytest.mark.parametrize("whose", ["agreement", "party", "officer"])
async def test_a_suspension_cuts_a_flight_that_the_provider_works_on(city: City, whose: str) -> None:
    """The requester hears of it while the provider still works; what that commits is settled as unreleased."""
    faults = city.faults(REGISTRY)
    faults.hold_at("before-commit")
    target, by = {
        "agreement": ((await agreement_of(city, POPULATION))[:16], POPULATION),
        "party": (str(city.party(APPLICATIONS)), BUREAU),
        "officer": ("officer-7@housing", HOUSING),
    }[whose]
    async with city.client() as client:
        prepared = await prepare(client)
        sending = asyncio.create_task(client.submit(prepared))
        await asyncio.to_thread(faults.wait_held, "before-commit")
        await exchange(city, by, "suspend", target, "--reason", "used for another purpose")
        with refused(Code.CODE_SUSPENDED) as caught:
            await sending
        assert caught.value.verified
        assert caught.value.refuser == str(city.party(BROKER))
        assert city.kinds_of(prepared.envelope.digest) == ["refused"]
        faults.let_go("before-commit")
        # Where its adapter knows of the suspension already, nothing is committed; else it is settled in a moment.
        await until(
            lambda: all(
                [code for _, _, code in row.settlements] == [Code.CODE_SUSPENDED]
                for row in city.rows_of(prepared.envelope.digest)
            ),
            "the settlement",
        )
        with refused(Code.CODE_SUSPENDED):
            await ask(client)
        await exchange(city, by, "resume", target)
        await ask(client)


async def test_a_suspended_providers_tunnel_is_ended_until_it_is_resumed(city: City) -> None:
    await exchange(city, BUREAU, "suspend", str(city.party(REGISTRY)), "--reason", "broken into")
    await city.registry.seen("broken into")
    async with city.client() as client:
        with refused(Code.CODE_SUSPENDED):
            await ask(client)
        mark = city.registry.mark()
        await exchange(city, BUREAU, "resume", str(city.party(REGISTRY)))
        await asyncio.to_thread(city.registry.wait_for, city.registry.ready, mark)
        await ask(client)


async def test_a_removed_officers_requests_are_refused(city: City) -> None:
    async with city.client() as client:
        await ask(client)
        await exchange(city, HOUSING, "officer", "add", "officer-7", "officer-8")
        await ask(client)
        await exchange(city, HOUSING, "officer", "remove", "officer-7")
        with refused(Code.CODE_OFFICER_NOT_GRANTED) as caught:
            await ask(client)
        assert "has removed this officer" in caught.value.reason
        await ask(client, officer="officer-8")
    listed = json.loads(await exchange(city, HOUSING, "officer", "list", "--json"))
    assert [(item["officer"], item["removed"]) for item in listed] == [("officer-7", True), ("officer-8", False)]


async def test_a_dataset_is_stopped_with_the_broker_down(city: City) -> None:
    city.broker.kill()
    home = ("--home", str(city.path / REGISTRY))
    code, text = await run("adapters.cli", "stop", "residents", "--reason", "maintenance", *home)
    assert code == 0, text
    await asyncio.to_thread(city.restart_broker)
    async with city.client() as client:
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await ask(client)
    assert "stopped" in caught.value.reason


async def test_a_dataset_is_stopped_with_broker_and_adapter_down(city: City) -> None:
    """Nothing else runs: the order is on the adapter's disk, and is obeyed from its very first request on."""
    city.broker.kill()
    city.registry.kill()
    home = ("--home", str(city.path / REGISTRY))
    code, text = await run("adapters.cli", "stop", "residents", "--reason", "maintenance", *home)
    assert code == 0, text
    await asyncio.to_thread(city.start)
    async with city.client() as client:
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await ask(client)
        assert "stopped" in caught.value.reason
        assert (await run("adapters.cli", "resume", "residents", *home))[0] == 0
        await ask(client)
