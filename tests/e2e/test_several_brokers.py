"""Two brokers on one PostgreSQL: either may be killed at any moment, and whatever one learns binds the other."""

import asyncio
import random
import secrets
from collections.abc import Iterator

import pytest

from exchange.client import Answer, ExchangeClient, Prepared, RefusedError
from exchange.core import entries
from exchange.v1.access_pb2 import AccessKind, Code
from tests.databases import Server
from tests.e2e.asking import prepare, refused
from tests.e2e.founding import BROKER, CIVIL_AFFAIRS, MARRIAGES, REGISTRY, person
from tests.e2e.processes import until
from tests.e2e.shared import BROKERS, SECOND, SharedCity
from tests.fixtures import postgres_server

__all__ = ["postgres_server"]

KILLED = -9
# At any moment, and around a commit.
KILLS = ((BROKER, ""), (SECOND, ""), (BROKER, "before-commit"), (SECOND, "after-commit"), (BROKER, "released"))
# A refusal that says "send the same request again": nobody was told anything, and the id is not used up.
AGAIN = frozenset({Code.CODE_PROVIDER_UNAVAILABLE, Code.CODE_AUDIT_UNAVAILABLE, Code.CODE_INTERRUPTED})


@pytest.fixture(scope="module")
def shared(postgres_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCity]:
    path = tmp_path_factory.mktemp("city") / "city"
    with SharedCity.found(path, postgres_server.new_database(), faulty=True).at_work() as city:
        yield city


@pytest.fixture
def city(shared: SharedCity) -> Iterator[SharedCity]:
    for name in BROKERS:
        if not shared.broker_named(name).is_running:
            shared.start_broker(name)
    yield shared
    shared.check()


class Load:
    """Requesters that ask without a pause until they are told to stop, each with the same bytes until it is answered.

    Args:
        client: by which they ask.
        count: how many ask at once.
    """

    def __init__(self, client: ExchangeClient, count: int) -> None:
        self.answers: list[tuple[Prepared, Answer]] = []
        self._client = client
        self._stopping = False
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(count)]

    async def _ask(self) -> None:
        while not self._stopping:
            number = random.randrange(300)
            prepared = await prepare(self._client, number)
            answer = await self._answer(prepared)
            assert [row["id_number"] for row in answer.rows] == [person(number)]
            self.answers.append((prepared, answer))

    async def _answer(self, prepared: Prepared) -> Answer:
        for _ in range(200):
            try:
                return await self._client.submit(prepared)
            except RefusedError as error:
                if error.code not in AGAIN:
                    raise
                await asyncio.sleep(0.05)
        raise AssertionError("never answered")

    async def more(self, count: int) -> None:
        """Wait until so many more have been answered."""
        wanted = len(self.answers) + count
        while len(self.answers) < wanted:
            failed = [task for task in self._tasks if task.done()]
            for task in failed:
                task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


def check_answers(city: SharedCity, answers: list[tuple[Prepared, Answer]]) -> None:
    """Each answer that a client holds has its entry, and each request one access in the ledger and one release."""
    log, rows = city.access_log(), city.ledger()
    released = [leaf.request_digest for leaf in log if leaf.kind == AccessKind.ACCESS_KIND_RELEASED]
    by_request = {row.request_digest: row for row in rows}
    assert len(by_request) == len(rows)
    assert len(set(released)) == len(released)
    for prepared, answer in answers:
        digest = prepared.envelope.digest
        leaf = log[answer.index]
        assert (leaf.kind, leaf.request_digest) == (AccessKind.ACCESS_KIND_RELEASED, digest)
        assert leaf.response_digest == answer.response.digest == by_request[digest].response_digest
    # Nothing was asked of the department twice, but for what was lost before its commit.
    assert {row.request_digest for row in rows} >= {prepared.envelope.digest for prepared, _ in answers}


async def test_either_broker_may_be_killed_under_load(city: SharedCity) -> None:
    """At random moments, and right before and after a commit; clients go on with the other broker, the same bytes."""
    async with city.client_of(BROKER, SECOND) as one, city.client_of(SECOND, BROKER) as other:
        loads = [Load(one, 6), Load(other, 6)]
        for name, point in KILLS:
            for load in loads:
                await load.more(20)
            await kill(city, name, point)
            # Nobody waits for the broker that is gone.
            for load in loads:
                await load.more(20)
            await asyncio.to_thread(city.start_broker, name)
        for load in loads:
            await load.stop()
        await until(lambda: not city.owed(), "receipts")
        check_answers(city, [answer for load in loads for answer in load.answers])
        for load in loads:
            assert len(load.answers) >= 40 * len(KILLS)


async def kill(city: SharedCity, name: str, point: str) -> None:
    if point:
        await kill_at(city, name, point)
    else:
        await asyncio.to_thread(city.broker_named(name).kill)


async def kill_at(city: SharedCity, name: str, point: str, number: int = 0) -> Prepared:
    """Let a broker end itself at a point, at the latest with this request, which nobody asks again."""
    async with city.client_of(name) as client:
        prepared = await prepare(client, number)
        city.faults(name).kill_at(point)
        asking = asyncio.create_task(client.submit(prepared))
        assert await asyncio.to_thread(city.broker_named(name).wait_exit) == KILLED
        asking.cancel()
        await asyncio.wait([asking])
    return prepared


async def test_what_was_answered_through_a_broker_that_died_is_settled_by_the_other(city: SharedCity) -> None:
    asked = city.faults(REGISTRY).count("asking")
    prepared = await kill_at(city, BROKER, "before-commit", 11)
    digest = prepared.envelope.digest
    # Nobody asks again, and the broker stays dead.
    await until(lambda: not city.owed(), "the other broker's receipt")
    assert city.kinds_of(digest) == ["unreleased"]
    async with city.client_of(SECOND) as client:
        answer = await client.submit(prepared)
    assert [row["id_number"] for row in answer.rows] == [person(11)]
    assert city.kinds_of(digest) == ["unreleased", "released"]
    assert len(city.rows_of(digest)) == 1
    assert city.faults(REGISTRY).count("asking") == asked + 1


async def test_the_same_bytes_get_the_same_entry_at_either_broker(city: SharedCity) -> None:
    async with city.client_of(BROKER) as one, city.client_of(SECOND) as other:
        prepared = await prepare(one, 12)
        first, second = await asyncio.gather(one.submit(prepared), other.submit(prepared))
    assert (first.index, first.response) == (second.index, second.response)
    assert city.kinds_of(prepared.envelope.digest) == ["released"]
    assert len(city.rows_of(prepared.envelope.digest)) == 1


async def test_a_revocation_at_one_broker_is_the_others_reason_to_refuse(city: SharedCity) -> None:
    async with city.client_of(SECOND) as client, city.session_of(CIVIL_AFFAIRS, BROKER) as owner:
        [agreement] = (await owner.sync()).terms.agreements
        draft = entries.revocation_entry(owner.party, secrets.token_bytes(16), agreement, "test")
        prepared = await prepare(client, 14, MARRIAGES)
        mark = city.second.mark()
        await owner.append(owner.sign(draft))
        # Nothing but the database tells it: nobody asks it, and it appends nothing itself.
        await city.second.seen("another broker's entries are taken up", mark, timeout=20)
        with refused(Code.CODE_AGREEMENT_ENDED) as caught:
            await client.submit(prepared)
    assert (caught.value.verified, caught.value.refuser) == (True, str(city.party(SECOND)))


async def test_brokers_outlive_the_sessions_that_their_server_ends(city: SharedCity, postgres_server: Server) -> None:
    async with city.client_of(BROKER, SECOND) as one, city.client_of(SECOND, BROKER) as other:
        loads = [Load(one, 4), Load(other, 4)]
        for _ in range(4):
            for load in loads:
                await load.more(15)
            assert await asyncio.to_thread(postgres_server.kill_sessions, city.url) > 2
        for load in loads:
            await load.more(15)
            await load.stop()
        await until(lambda: not city.owed(), "receipts")
        check_answers(city, [answer for load in loads for answer in load.answers])
    assert all(city.broker_named(name).is_running for name in BROKERS)
