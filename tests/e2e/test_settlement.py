"""Brokers that keep receipts back, adapters that answer wrongly: nobody else is held up, and all is on record."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from exchange.client import Prepared
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import ask, prepare, refused, send_once
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, BROKER, CIVIL, MARRIAGES, REGISTRY, person
from tests.e2e.processes import until

OWED_SECONDS = 5
UNRELEASED, REFUSED = AccessKind.ACCESS_KIND_UNRELEASED, AccessKind.ACCESS_KIND_REFUSED


@pytest.fixture(scope="module")
def shared(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True, civil=True) as city:
        yield city


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    shared.start(civil=True)
    yield shared
    shared.check()


async def others_are_served(city: City) -> None:
    async with city.client() as client:
        assert (await ask(client, 3, MARRIAGES)).rows == ({"id_number": person(3), "status": "married"},)


async def test_a_provider_answers_nothing_more_through_a_broker_that_keeps_receipts_back(
    new_city: NewCity,
) -> None:
    with new_city(faulty=True, civil=True) as city:
        city.registry.stop()
        city.faults(REGISTRY).switch_on("give-up", str(OWED_SECONDS + 1))
        city.start()
        city.faults(BROKER).switch_on("withhold")
        async with city.client() as client:
            first = await prepare(client, 1)
            await client.submit(first)
            began = time.monotonic()
            # Within the window the provider goes on answering.
            await ask(client, 2)
            mark = city.registry.mark()
            refusal = await _refused_in_time(city, began)
            assert city.kinds_of(refusal.envelope.digest) == ["refused"]
            assert not city.rows_of(refusal.envelope.digest)
            assert city.owed() == 2
            await others_are_served(city)

            # It attaches anew and offers what it is owed; as long as that is not settled either it is not ready.
            await city.registry.seen("withholds receipts", mark)
            offered = city.registry.mark()
            await city.registry.seen("unsettled answers are offered", mark)
            with refused(Code.CODE_PROVIDER_UNAVAILABLE):
                await ask(client, 4)

            city.faults(BROKER).switch_off("withhold")
            await city.registry.seen("is attached to", offered)
            assert not city.owed()
            await ask(client, 5)
            assert (await client.submit(first)).index == city.rows_of(first.envelope.digest)[0].settlements[0][0]
        city.check()
        assert [entry.kind for entry in city.access_log()].count(AccessKind.ACCESS_KIND_RELEASED) == 4


async def _refused_in_time(city: City, began: float) -> Prepared:
    """The first request after the time that makes a provider suspect a broker; the provider itself refuses it."""
    await asyncio.sleep(max(0.0, began + OWED_SECONDS + 0.1 - time.monotonic()))
    async with city.client() as client:
        prepared = await prepare(client, 3)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await client.submit(prepared)
    assert caught.value.verified
    assert caught.value.refuser == str(city.party(REGISTRY))
    assert "receipts" in caught.value.reason
    return prepared


async def test_an_adapter_that_dies_holds_up_nobody_else(city: City) -> None:
    city.faults(REGISTRY).kill_at("asking")
    async with city.client() as client:
        prepared = await prepare(client, 1)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await client.submit(prepared)
        assert caught.value.refuser == str(city.party(BROKER))
    await others_are_served(city)
    assert city.kinds_of(prepared.envelope.digest) == ["refused"]


async def test_a_reply_that_comes_twice_counts_once(city: City) -> None:
    city.faults(REGISTRY).switch_on("twice")
    try:
        async with city.client() as client:
            answers = [await ask(client, number) for number in range(3)]
    finally:
        city.faults(REGISTRY).switch_off("twice")
    for answer in answers:
        assert city.kinds_of(answer.request.digest) == ["released"]
    await until(lambda: not city.owed(), "receipts")


@pytest.mark.parametrize("fault", ["swapped", "signer"])
async def test_an_answer_that_is_not_the_providers_to_this_request_is_not_released(city: City, fault: str) -> None:
    faults = city.faults(REGISTRY)
    async with city.client() as client:
        before = await ask(client, 1)
        faults.switch_on(fault, str(city.path / APPLICATIONS) if fault == "signer" else "on")
        try:
            prepared = await prepare(client, 2)
            with refused(Code.CODE_RESPONSE_INVALID) as caught:
                await client.submit(prepared)
        finally:
            faults.switch_off(fault)
        assert caught.value.verified
        digest = prepared.envelope.digest
        *unreleased, refusal = city.entries_of(digest)
        assert (refusal.kind, refusal.code) == (REFUSED, Code.CODE_RESPONSE_INVALID)
        # The answer before, to another request, has its entry already; what was forged gets one.
        if fault == "signer":
            [entry] = unreleased
            assert (entry.kind, entry.code) == (UNRELEASED, Code.CODE_RESPONSE_INVALID)
            assert entry.response_digest == city.rows_of(digest)[0].response_digest
        else:
            assert not unreleased
            assert city.kinds_of(before.request.digest) == ["released"]
        await others_are_served(city)
        # The provider goes on, once it answers rightly.
        assert (await ask(client, 3)).rows[0]["id_number"] == person(3)


async def test_a_swapped_answer_is_settled_all_the_same(city: City) -> None:
    """The provider committed an answer and sent another one: its own is owed, offered again, and on record."""
    faults = city.faults(REGISTRY)
    async with city.client() as client:
        await ask(client, 1)
        faults.switch_on("swapped")
        prepared = await prepare(client, 2)
        with refused(Code.CODE_RESPONSE_INVALID):
            await client.submit(prepared)
        faults.switch_off("swapped")
        digest = prepared.envelope.digest
        await until(lambda: bool(city.rows_of(digest)[0].settlements), "the settlement of the answer that never came")
        [(_, kind, code)] = city.rows_of(digest)[0].settlements
        assert (kind, code) == (UNRELEASED, Code.CODE_INTERRUPTED)
        # And the right answer, asked for once more, is released.
        assert (await client.submit(prepared)).rows[0]["id_number"] == person(2)
    assert city.kinds_of(digest) == ["refused", "unreleased", "released"]


async def test_a_reply_that_cannot_be_read_is_refused_and_its_answer_kept(city: City) -> None:
    faults = city.faults(REGISTRY)
    faults.switch_on("garbage")
    async with city.client() as client:
        prepared = await prepare(client, 2)
        with refused(Code.CODE_RESPONSE_INVALID):
            await client.submit(prepared)
        faults.switch_off("garbage")
        await others_are_served(city)
        answer = await client.submit(prepared)
    assert city.kinds_of(prepared.envelope.digest)[-1] == "released"
    [row] = city.rows_of(prepared.envelope.digest)
    assert row.response_digest == answer.response.digest


async def test_two_providers_do_not_see_each_others_requests(city: City) -> None:
    before = len(city.ledger(CIVIL))
    async with city.client() as client:
        prepared = await prepare(client, 1)
        await send_once(client, prepared)
    assert len(city.rows_of(prepared.envelope.digest)) == 1
    assert len(city.ledger(CIVIL)) == before
