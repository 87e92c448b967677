"""kill -9 at, just before and just after both commits: one release, one ledger row, nothing owed for ever."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from exchange.client import Answer, Prepared, RefusedError, UnavailableError
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import prepare, refused, send_once
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, REGISTRY, person
from tests.e2e.processes import Program, until

KILLED = -9
UNRELEASED = AccessKind.ACCESS_KIND_UNRELEASED


@pytest.fixture(scope="module")
def shared(new_city: NewCity) -> Iterator[City]:
    with new_city(faulty=True) as city:
        yield city


@pytest.fixture
def city(shared: City) -> Iterator[City]:
    shared.start()
    yield shared
    shared.check()


async def lost(city: City, program: Program) -> Prepared:
    """A request whose answer is lost because a program ends itself."""
    async with city.client() as client:
        prepared = await prepare(client, 11)
        with pytest.raises((UnavailableError, RefusedError)):
            await send_once(client, prepared)
    assert program.wait_exit() == KILLED
    return prepared


async def retry(city: City, prepared: Prepared) -> Answer:
    """The same bytes again, by a client that knows no more than these."""
    async with city.client() as client:
        answer = await client.submit(prepared)
        await client.settle()
    assert [row["id_number"] for row in answer.rows] == [person(11)]
    return answer


async def settled(city: City) -> None:
    await until(lambda: not city.owed(), "receipts")


def check_released_once(city: City, prepared: Prepared, answer: Answer) -> None:
    """One answer in the ledger, and one release in the log, which settles it."""
    digest = prepared.envelope.digest
    assert city.kinds_of(digest).count("released") == 1
    [row] = city.rows_of(digest)
    assert row.response_digest == answer.response.digest
    assert row.settlements[-1] == (answer.index, AccessKind.ACCESS_KIND_RELEASED, 0)


@pytest.mark.parametrize("point", ["after-commit", "released"])
async def test_a_release_that_the_broker_could_not_send_is_given_again(city: City, point: str) -> None:
    asked = city.faults(REGISTRY).count("asking")
    city.faults(BROKER).kill_at(point)
    prepared = await lost(city, city.broker)
    assert city.kinds_of(prepared.envelope.digest) == ["released"]

    city.restart_broker()
    await settled(city)
    answer = await retry(city, prepared)
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    check_released_once(city, prepared, answer)
    again = await retry(city, prepared)
    assert (again.index, again.response) == (answer.index, answer.response)
    assert city.faults(REGISTRY).count("asking") == asked + 1


@pytest.mark.parametrize(
    ("killed", "point"), [(BROKER, "before-commit"), (REGISTRY, "after-commit"), (REGISTRY, "both")]
)
async def test_an_answer_that_nobody_got_is_settled_as_unreleased_until_it_is_asked_for_again(
    city: City, killed: str, point: str
) -> None:
    asked = city.faults(REGISTRY).count("asking")
    program = city.broker if killed == BROKER else city.registry
    city.faults(killed).kill_at(point if point != "both" else "after-commit")
    prepared = await lost(city, program)
    digest = prepared.envelope.digest
    [row] = city.rows_of(digest)
    assert not row.settlements
    if point == "both":
        city.broker.kill()

    city.restart_broker() if program is city.broker else city.start()
    await settled(city)
    [row] = city.rows_of(digest)
    [(index, kind, code)] = row.settlements
    assert (kind, code) == (UNRELEASED, Code.CODE_INTERRUPTED)
    assert city.access_log()[index].response_digest == row.response_digest

    answer = await retry(city, prepared)
    await settled(city)
    await until(lambda: len(city.rows_of(digest)[0].settlements) == 2, "the second receipt")
    check_released_once(city, prepared, answer)
    assert city.faults(REGISTRY).count("asking") == asked + 1


@pytest.mark.parametrize("point", ["asking", "before-commit"])
async def test_an_adapter_killed_before_its_commit_has_answered_nothing(city: City, point: str) -> None:
    city.faults(REGISTRY).kill_at(point)
    prepared = await lost(city, city.registry)
    digest = prepared.envelope.digest
    assert city.kinds_of(digest) == ["refused"]
    assert not city.rows_of(digest)

    city.start()
    answer = await retry(city, prepared)
    await settled(city)
    assert city.kinds_of(digest) == ["refused", "released"]
    check_released_once(city, prepared, answer)


async def test_an_adapter_killed_right_after_sending_leaves_nothing_owed(city: City) -> None:
    """What was in its socket may arrive or not."""
    city.faults(REGISTRY).kill_at("sent")
    async with city.client() as client:
        prepared = await prepare(client, 11)
        with suppress(RefusedError):
            await send_once(client, prepared)
    assert city.registry.wait_exit() == KILLED

    city.start()
    await settled(city)
    answer = await retry(city, prepared)
    await settled(city)
    check_released_once(city, prepared, answer)


@pytest.mark.parametrize("point", ["before-receipt", "after-receipt"])
async def test_an_adapter_killed_with_a_receipt_in_hand_gets_the_same_one_again(city: City, point: str) -> None:
    city.faults(REGISTRY).kill_at(point)
    async with city.client() as client:
        prepared = await prepare(client, 11)
        answer = await client.submit(prepared)
    assert city.registry.wait_exit() == KILLED
    assert bool(city.rows_of(prepared.envelope.digest)[0].settlements) == (point == "after-receipt")

    city.start()
    await settled(city)
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    check_released_once(city, prepared, answer)


async def test_a_broker_killed_while_the_provider_works_leaves_nothing_owed(city: City) -> None:
    """The answer is committed after the new tunnel's offers: nobody waits for it, and nobody asks again."""
    faults = city.faults(REGISTRY)
    asked = faults.count("asking")
    faults.hold_at("asking")
    async with city.client() as client:
        prepared = await prepare(client, 11)
        sending = asyncio.create_task(send_once(client, prepared))
        await until(lambda: faults.count("asking") > asked, "the question")
        city.broker.kill()
        with pytest.raises(UnavailableError):
            await sending
    city.restart_broker()
    digest = prepared.envelope.digest
    faults.let_go("asking")
    await until(lambda: bool(city.rows_of(digest)), "the ledger's row")
    await settled(city)
    assert city.kinds_of(digest) == ["unreleased"]

    answer = await retry(city, prepared)
    await until(lambda: len(city.rows_of(digest)[0].settlements) == 2, "the second receipt")
    check_released_once(city, prepared, answer)
    assert faults.count("asking") == asked + 1


async def test_a_refusal_is_durable_before_anybody_hears_of_it(city: City) -> None:
    async with city.client() as client:
        prepared = await prepare(client, 11, fields=("birth_date",))
        with refused(Code.CODE_FIELD_NOT_GRANTED) as caught:
            await client.submit(prepared)
        city.broker.kill()
    assert caught.value.verified
    assert caught.value.refusal is not None
    city.restart_broker()
    [entry] = city.entries_of(prepared.envelope.digest)
    assert (entry.kind, entry.code) == (AccessKind.ACCESS_KIND_REFUSED, Code.CODE_FIELD_NOT_GRANTED)
    assert entry.refusal_digest == caught.value.refusal.digest
