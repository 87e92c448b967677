"""Retry is not replay (DESIGN section 6): the same bytes join what is under way, other bytes never get in."""

import asyncio
from collections.abc import Iterator

import pytest

from exchange.client import ExchangeClient, Prepared, preparing
from exchange.core.access import read_refusal
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import prepare, refused, send_once
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, REGISTRY, person
from tests.e2e.processes import until


@pytest.fixture(scope="module")
def shared(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    shared.start()
    yield shared
    shared.faults(REGISTRY).let_go("asking")
    shared.wait_settled()
    shared.check()


@pytest.fixture
def held(city: City) -> Iterator[None]:
    """The registry's source answers nothing until the test lets go."""
    city.faults(REGISTRY).hold_at("asking")
    yield
    city.faults(REGISTRY).let_go("asking")


async def twin(client: ExchangeClient, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Another message under the same request id."""
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "request_id", lambda now: prepared.header.request_id)
        other = await prepare(client, 12)
    assert other.header.request_id == prepared.header.request_id
    assert other.envelope.digest != prepared.envelope.digest
    return other


async def sent(city: City, client: ExchangeClient, prepared: Prepared) -> "asyncio.Task[object]":
    """A request that is known to have reached the broker."""
    submitted = city.faults(BROKER).count("submitted")
    task: asyncio.Task[object] = asyncio.create_task(client.submit(prepared))
    await until(lambda: city.faults(BROKER).count("submitted") > submitted, "the request")
    return task


async def asked(city: City, before: int) -> None:
    await until(lambda: city.faults(REGISTRY).count("asking") > before, "the question")


async def test_other_bytes_are_refused_while_the_first_are_under_way(
    city: City, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with city.client() as client:
        prepared = await prepare(client, 11)
        other = await twin(client, prepared, monkeypatch)
        first = await sent(city, client, prepared)
        with refused(Code.CODE_REPLAYED):
            await client.submit(other)
        city.faults(REGISTRY).let_go("asking")
        await first
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    assert city.kinds_of(other.envelope.digest) == ["refused"]


@pytest.mark.parametrize("end", ["", BROKER, REGISTRY])
async def test_other_bytes_are_refused_ever_after(city: City, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with city.client() as client:
        prepared = await prepare(client, 11)
        other = await twin(client, prepared, monkeypatch)
        answer = await client.submit(prepared)
    if end == BROKER:
        city.broker.kill()
        city.restart_broker()
    elif end == REGISTRY:
        city.registry.kill()
        city.start()
    async with city.client() as client:
        with refused(Code.CODE_REPLAYED) as caught:
            await client.submit(other)
        assert caught.value.verified
        again = await client.submit(prepared)
    assert (again.index, again.response) == (answer.index, answer.response)
    assert len(city.rows_of(prepared.envelope.digest)) == 1
    assert not city.rows_of(other.envelope.digest)


async def test_other_bytes_are_refused_by_the_provider_where_the_broker_has_forgotten_the_first(
    city: City, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that crashed knows nothing of what was under way; the adapter does."""
    faults = city.faults(REGISTRY)
    before = faults.count("asking")
    async with city.client() as client:
        prepared = await prepare(client, 11)
        other = await twin(client, prepared, monkeypatch)
        first = asyncio.create_task(send_once(client, prepared))
        await asked(city, before)
        city.broker.kill()
        await asyncio.wait([first])
        assert first.exception() is not None
    city.restart_broker()
    async with city.client() as client:
        with refused(Code.CODE_REPLAYED) as caught:
            await client.submit(other)
        assert caught.value.refuser == str(city.party(REGISTRY))
        again = await sent(city, client, prepared)
        faults.let_go("asking")
        await again
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    assert faults.count("asking") == before + 1


async def test_the_same_bytes_at_once_are_one_flight(city: City, held: None) -> None:
    faults = city.faults(REGISTRY)
    before = faults.count("asking")
    async with city.client() as one, city.client() as two:
        prepared = await prepare(one, 11)
        first = await sent(city, one, prepared)
        second = await sent(city, two, prepared)
        await asked(city, before)
        faults.let_go("asking")
        answers = await asyncio.gather(first, second)
    assert answers[0] == answers[1]
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    assert len(city.rows_of(prepared.envelope.digest)) == 1
    assert faults.count("asking") == before + 1


async def test_a_flight_ends_on_record_although_its_client_has_gone(city: City, held: None) -> None:
    faults = city.faults(REGISTRY)
    before = faults.count("asking")
    async with city.client() as client:
        prepared = await prepare(client, 11)
        sending = await sent(city, client, prepared)
        await asked(city, before)
        sending.cancel()
        await asyncio.wait([sending])
    faults.let_go("asking")
    digest = prepared.envelope.digest
    await until(lambda: city.kinds_of(digest) == ["released"], "the entry")
    async with city.client() as client:
        answer = await client.submit(prepared)
    assert [row["id_number"] for row in answer.rows] == [person(11)]
    assert city.kinds_of(digest) == ["released"]
    assert faults.count("asking") == before + 1


async def test_an_answer_after_the_deadline_is_settled_and_given_to_the_retry(city: City, held: None) -> None:
    faults = city.faults(REGISTRY)
    async with city.client() as client:
        prepared = await prepare(client, 11)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE) as caught:
            await client.submit(prepared, timeout=0.7)
        assert caught.value.refusal is not None
        assert "in time" in read_refusal(caught.value.refusal).reason
        faults.let_go("asking")
        digest = prepared.envelope.digest
        await until(lambda: len(city.entries_of(digest)) == 2, "the late answer's entry")
        late = city.entries_of(digest)[1]
        assert (late.kind, late.code) == (AccessKind.ACCESS_KIND_UNRELEASED, Code.CODE_INTERRUPTED)
        await client.submit(prepared)
    assert city.kinds_of(digest) == ["refused", "unreleased", "released"]
    assert len(city.rows_of(digest)) == 1


async def test_a_refusal_does_not_use_the_id_up(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async with city.client() as client:
        wrong = await prepare(client, 11, fields=("birth_date",))
        with refused(Code.CODE_FIELD_NOT_GRANTED):
            await client.submit(wrong)
        answer = await client.submit(await twin(client, wrong, monkeypatch))
    assert answer.request_id == wrong.header.request_id
