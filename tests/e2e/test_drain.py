"""SIGTERM under load: what was begun is finished, what was answered is on record, nobody is left without a word."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from exchange.broker.limits import REFUSALS_AT_ONCE
from exchange.client import Answer, ExchangeClient, ExchangeError, Prepared, RefusedError, UnavailableError
from exchange.store.ports import Log
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import prepare
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, PEOPLE, REGISTRY
from tests.e2e.processes import Program, until

IN_FLIGHT = 200
MOST_SECONDS = 8.0


@pytest.fixture(scope="module")
def shared(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    # Every test has runs of its own: nothing that another one asked for is under way, or summed up.
    for program in (shared.broker, shared.registry):
        program.kill()
    shared.start()
    yield shared
    shared.faults(REGISTRY).let_go("asking")
    shared.start()
    shared.wait_settled()
    shared.check()


@dataclass
class Load:
    """What became of the requests: an answer, or a typed error, for each."""

    answers: list[Answer] = field(default_factory=list)
    errors: list[tuple[Prepared, ExchangeError]] = field(default_factory=list)

    async def submit(self, client: ExchangeClient, prepared: Prepared, timeout: float = 2.0) -> None:
        try:
            self.answers.append(await client.submit(prepared, timeout=timeout))
        except (RefusedError, UnavailableError) as error:
            self.errors.append((prepared, error))

    async def keep_asking(self, client: ExchangeClient, ended: asyncio.Event) -> None:
        """One after the other, until somebody has had enough."""
        while not ended.is_set():
            # So long that an answer which was released is late on no machine, however busy.
            await self.submit(client, await prepare(client, len(self.answers) % PEOPLE), timeout=10.0)

    def check(self, city: City) -> None:
        """Every answer is the entry that its receipt names, and every refusal is signed."""
        log = city.access_log()
        for answer in self.answers:
            entry = log[answer.index]
            assert entry.kind == AccessKind.ACCESS_KIND_RELEASED
            assert (entry.request_digest, entry.response_digest) == (answer.request.digest, answer.response.digest)
        for _, error in self.errors:
            if isinstance(error, RefusedError):
                assert error.verified, error.unverified
                assert error.code in {Code.CODE_PROVIDER_UNAVAILABLE, Code.CODE_AUDIT_UNAVAILABLE}


async def in_flight(city: City, client: ExchangeClient, load: Load) -> "list[asyncio.Task[None]]":
    """Requests that the provider has, and answers when it is let go."""
    faults = city.faults(REGISTRY)
    asked = faults.count("asking")
    faults.hold_at("asking")
    requests = await asyncio.gather(*(prepare(client, number) for number in range(IN_FLIGHT)))
    tasks = [asyncio.create_task(load.submit(client, prepared, 30)) for prepared in requests]
    await until(
        lambda: faults.count("asking") == asked + IN_FLIGHT,
        "all requests at the provider",
        explain=lambda: f"{faults.count('asking') - asked} came; {Counter(str(error) for _, error in load.errors)}",
    )
    return tasks


async def ended(program: Program) -> int:
    return await asyncio.to_thread(program.wait_exit, MOST_SECONDS)


def check_anchored(city: City) -> None:
    for log in Log:
        assert city.anchored(log) == city.head(log)


@pytest.mark.parametrize("stopped", [BROKER, REGISTRY])
async def test_what_is_in_flight_is_answered_before_the_end(city: City, stopped: str) -> None:
    program = city.broker if stopped == BROKER else city.registry
    load = Load()
    async with city.client() as client:
        tasks = await in_flight(city, client, load)
        program.signal(signal.SIGTERM)
        city.faults(REGISTRY).let_go("asking")
        await asyncio.gather(*tasks)
        assert await ended(program) == 0
    assert (len(load.answers), load.errors) == (IN_FLIGHT, [])
    load.check(city)
    if stopped == BROKER:
        check_anchored(city)
    else:
        assert not city.owed()


@pytest.mark.parametrize("stopped", [BROKER, REGISTRY])
async def test_requests_that_keep_coming_do_not_hold_the_end_up(city: City, stopped: str) -> None:
    program = city.broker if stopped == BROKER else city.registry
    load, enough = Load(), asyncio.Event()
    async with city.client() as client:
        workers = [asyncio.create_task(load.keep_asking(client, enough)) for _ in range(IN_FLIGHT)]
        await until(lambda: len(load.answers) > 100, "answers")
        program.signal(signal.SIGTERM)
        assert await ended(program) == 0
        enough.set()
        await asyncio.gather(*workers)
    load.check(city)
    released = {entry.request_digest for entry in city.access_log() if entry.kind == AccessKind.ACCESS_KIND_RELEASED}
    lost = released.intersection(prepared.envelope.digest for prepared, _ in load.errors)
    # What was released but did not arrive is given again to whoever asks again.
    assert not lost, Counter(str(error) for prepared, error in load.errors if prepared.envelope.digest in lost)
    if stopped == BROKER:
        check_anchored(city)


async def test_requests_under_way_survive_the_restart_of_their_broker(city: City) -> None:
    load, enough = Load(), asyncio.Event()
    async with city.client() as client:
        workers = [asyncio.create_task(load.keep_asking(client, enough)) for _ in range(16)]
        await until(lambda: len(load.answers) > 50, "answers")
        city.broker.signal(signal.SIGTERM)
        assert await ended(city.broker) == 0
        await asyncio.to_thread(city.restart_broker)
        count = len(load.answers)
        await until(lambda: len(load.answers) > count + 50, "answers again")
        enough.set()
        await asyncio.gather(*workers)
    load.check(city)
    async with city.client() as client:
        again = [await client.submit(prepared) for prepared, _ in load.errors[:5]]
    assert [answer.request.digest for answer in again] == [prepared.envelope.digest for prepared, _ in load.errors[:5]]


async def test_an_adapter_ends_at_once_while_its_broker_is_down(city: City) -> None:
    city.broker.kill()
    await city.registry.seen("not attached")
    assert city.registry.stop(2) == 0


async def test_a_broker_that_stops_logs_the_refusals_that_it_summed_up(city: City) -> None:
    before = len(city.access_log())
    count = REFUSALS_AT_ONCE + 200
    async with city.client() as client:
        refused = await asyncio.gather(*(not_granted(client, number) for number in range(count)))
        places = [error.summed_up for error in refused]
        city.broker.signal(signal.SIGTERM)
        assert await ended(city.broker) == 0
    log = city.access_log()[before:]
    [summary] = [entry for entry in log if entry.kind == AccessKind.ACCESS_KIND_REFUSALS]
    assert [(item.code, item.count) for item in summary.counts] == [(Code.CODE_PURPOSE_NOT_GRANTED, max(places))]
    assert sorted(place for place in places if place) == list(range(1, max(places) + 1))
    assert places.count(0) == len(log) - 1
    check_anchored(city)


async def not_granted(client: ExchangeClient, number: int) -> RefusedError:
    """The refusal of a request for a purpose that nobody granted."""
    prepared = await prepare(client, number % PEOPLE, purpose="tax.audit")
    with pytest.raises(RefusedError) as caught:
        await client.submit(prepared, timeout=30)
    assert caught.value.verified, caught.value.unverified
    return caught.value
