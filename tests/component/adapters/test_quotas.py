"""Quotas are counted from what the ledger has committed: exactly, once, by department, over restarts and versions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from adapters.answering import DenyError
from adapters.ledger import Ledger, LedgerError
from adapters.ledger_uses import IN_DAYS, IN_MINUTE
from adapters.quotas import Counted
from exchange.core.decision import Usage
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Envelope
from exchange.core.names import Party
from exchange.core.terms import AgreementTerms
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.terms_pb2 import Limits
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.world import APPLICATIONS, CIVIL_AFFAIRS, HOUSING, LOOKUP, MARRIAGE, MINUTE, ORIGIN, World, lookup

DAY = 86_400_000
RENTS = Party(ORIGIN, "housing", "rents")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@asynccontextmanager
async def limited(path: Path, grantee: Party = APPLICATIONS, **limits: int) -> AsyncIterator[Provider]:
    """The registry's adapter with one agreement that has these limits."""
    world = World.founded()
    world.register("housing.allocation")
    dataset = world.publish()
    world.grant(world.apply_for(dataset, grantee), operations=[LOOKUP], limits=Limits(**limits))
    async with provider_at(path, world) as provider:
        yield provider


def agreement(world: World) -> AgreementTerms:
    """The newest one."""
    return max(world.directory.terms.agreements.values(), key=lambda terms: terms.version.index)


def ask(world: World, party: Party = APPLICATIONS, **header: Any) -> Envelope:
    return world.request(lookup("1"), party, agreement=agreement(world).digest, **header)


async def answered(provider: Provider, count: int, party: Party = APPLICATIONS) -> None:
    for _ in range(count):
        await provider.answer(ask(provider.world, party))


async def exhausted(provider: Provider, party: Party = APPLICATIONS) -> bool:
    deny = await provider.denied(ask(provider.world, party))
    assert deny.check == 8
    return deny.code == Code.CODE_QUOTA_EXHAUSTED


async def test_a_minute_is_any_sixty_seconds(tmp_path: Path) -> None:
    async with limited(tmp_path, per_minute=3) as provider:
        await answered(provider, 1)
        provider.world.now += MINUTE - 1
        await answered(provider, 2)
        assert await exhausted(provider)
        provider.world.now += 1
        await answered(provider, 1)
        assert await exhausted(provider)
        provider.world.now += MINUTE
        await answered(provider, 3)


async def test_a_day_is_one_of_utc(tmp_path: Path) -> None:
    async with limited(tmp_path, per_day=2) as provider:
        world = provider.world
        world.now += DAY - world.now % DAY - 1
        await answered(provider, 2)
        assert await exhausted(provider)
        world.now += 1
        await answered(provider, 2)
        assert await exhausted(provider)


async def test_the_total_is_over_all_versions_of_an_agreement(tmp_path: Path) -> None:
    """DESIGN section 6: the owner who signs a new version does not give away what was used before."""
    async with limited(tmp_path, in_total=3) as provider:
        world, first = provider.world, agreement(provider.world)
        await answered(provider, 2)
        version = ObjectVersion(first.object_id, first.digest)
        application = world.directory.terms.applications[first.application]
        world.grant(application, version, operations=[LOOKUP], limits=Limits(in_total=4))
        await answered(provider, 2)
        assert await exhausted(provider)


async def test_another_agreement_has_a_count_of_its_own(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=1) as provider:
        world, first = provider.world, agreement(provider.world)
        await answered(provider, 1)
        assert await exhausted(provider)
        application = world.directory.terms.applications[first.application]
        world.grant(application, operations=[LOOKUP], limits=Limits(in_total=1))
        await answered(provider, 1)
        assert await exhausted(provider)


async def test_systems_of_one_department_share_its_quota(tmp_path: Path) -> None:
    async with limited(tmp_path, HOUSING, in_total=3) as provider:
        provider.world.admit(RENTS, Role.ROLE_SYSTEM)
        await answered(provider, 2)
        await answered(provider, 1, RENTS)
        assert await exhausted(provider)
        assert await exhausted(provider, RENTS)


async def test_departments_are_counted_apart(tmp_path: Path) -> None:
    """One agreement has one grantee; the count is by department all the same."""
    async with limited(tmp_path, in_total=2) as provider:
        await answered(provider, 2)
        counted, world = Counted(provider.ledger), provider.world
        now = world.now
        assert counted.usage(world.directory, agreement(world), HOUSING, now) == Usage(0, 2, 2)
        assert counted.usage(world.directory, agreement(world), CIVIL_AFFAIRS, now) == Usage(0, 0, 0)
        assert counted.usage(world.directory, agreement(world), MARRIAGE, now) == Usage(0, 0, 0)


async def test_a_retry_is_not_counted_again(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=2) as provider:
        request = ask(provider.world)
        first = await provider.answer(request)
        assert [await provider.answer(request) for _ in range(3)] == [first] * 3
        await answered(provider, 1)
        assert await exhausted(provider)
        assert await provider.answer(request) == first


async def test_what_was_refused_or_failed_is_not_counted(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=1) as provider:
        await provider.denied(ask(provider.world, fields=["household_id"]))
        provider.sources.error = RuntimeError("the source broke")
        with pytest.raises(RuntimeError):
            await provider.answer(ask(provider.world))
        provider.sources.error = None
        await answered(provider, 1)
        assert await exhausted(provider)


@pytest.mark.parametrize("limits", [{"in_total": 3}, {"per_day": 3}, {"per_minute": 3}])
async def test_no_two_requests_take_the_last_one(tmp_path: Path, limits: dict[str, int]) -> None:
    """All pass the first decision, while the source makes them wait; the commit counts again."""
    async with limited(tmp_path, **limits) as provider:
        provider.sources.gate.clear()
        tasks = [asyncio.create_task(provider.answer(ask(provider.world))) for _ in range(8)]
        while len(provider.sources.questions) < 8:
            provider.sources.asked.clear()
            await provider.sources.asked.wait()
        provider.sources.gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [error for error in found if isinstance(error, DenyError)]
        assert [error.deny.code for error in refused] == [Code.CODE_QUOTA_EXHAUSTED] * 5
        assert provider.ledger.head.number == 3
        provider.ledger.verify()


async def test_a_batch_goes_on_without_those_that_are_one_too_many(tmp_path: Path) -> None:
    """An unlimited agreement's answers share the batch, and number and chain have no gap."""
    async with limited(tmp_path, in_total=1) as provider:
        world, narrow = provider.world, agreement(provider.world)
        provider.sources.gate.clear()
        requests = [ask(world) for _ in range(2)]
        application = world.directory.terms.applications[narrow.application]
        world.grant(application, operations=[LOOKUP])
        requests[1:1] = [ask(world)]
        requests.append(ask(world))
        tasks = [asyncio.create_task(provider.answer(request)) for request in requests]
        while len(provider.sources.questions) < 4:
            provider.sources.asked.clear()
            await provider.sources.asked.wait()
        provider.sources.gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(error, DenyError) for error in found) == 1
        assert provider.ledger.head.number == 3
        provider.ledger.verify()


async def test_a_clock_that_is_set_back_gives_nothing_back(tmp_path: Path) -> None:
    async with limited(tmp_path, per_minute=1, per_day=1) as provider:
        provider.world.now += 2 * DAY
        await answered(provider, 1)
        provider.world.now -= 2 * DAY
        assert await exhausted(provider)


# --- what the file holds -------------------------------------------------------------------------------


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def used(path: Path, world: World) -> Usage:
    ledger = Ledger.open(path)
    try:
        ledger.verify()
        return Counted(ledger).usage(world.directory, agreement(world), HOUSING, world.now)
    finally:
        ledger.close()


async def test_what_was_used_survives_a_restart(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=5, per_minute=5) as provider:
        world = provider.world
        await answered(provider, 2)
    assert used(tmp_path / "ledger.db", world) == Usage(2, 2, 2)


async def test_a_ledger_of_an_earlier_version_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=5, per_minute=5) as provider:
        world = provider.world
        await answered(provider, 3)
    path = tmp_path / "ledger.db"
    change(path, "DROP TABLE uses", "DROP TABLE tallies")
    reader = Ledger.read(path)
    # Readers change nothing, and can read it as it is.
    reader.verify()
    reader.close()
    assert used(path, world) == Usage(3, 3, 3)


async def test_what_an_earlier_version_appended_meanwhile_is_counted_too(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=5, per_minute=5) as provider:
        world = provider.world
        await answered(provider, 3)
    path = tmp_path / "ledger.db"
    change(path, "DELETE FROM uses WHERE number > 1", "UPDATE tallies SET count = 1")
    reader = Ledger.read(path)
    reader.verify()
    reader.close()
    assert used(path, world) == Usage(3, 3, 3)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE tallies SET count = count - 1"], "is not what the ledger's rows add up to"),
        (["DELETE FROM tallies"], "is not what the ledger's rows add up to"),
        (["UPDATE uses SET department = 'exchange://city.example/tax' WHERE number = 2"], "row 2: its use"),
        (["UPDATE uses SET agreement = zeroblob(32) WHERE number = 1"], "row 1: its use"),
        (["UPDATE uses SET time = time - 60000 WHERE number = 1"], "row 1: its use"),
        (["DELETE FROM uses WHERE number = 1"], "row 1: its use"),
        (
            [
                "INSERT INTO uses SELECT 4, agreement, department, time FROM uses LIMIT 1",
                "UPDATE tallies SET count = 4",
            ],
            "is not what the ledger's rows add up to",
        ),
    ],
)
async def test_a_count_that_was_altered_is_found(tmp_path: Path, statements: Sequence[str], said: str) -> None:
    async with limited(tmp_path, in_total=5) as provider:
        await answered(provider, 3)
    change(tmp_path / "ledger.db", *statements)
    reader = Ledger.read(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match=said):
        reader.verify()
    reader.close()


async def test_no_count_reads_the_whole_ledger(tmp_path: Path) -> None:
    async with limited(tmp_path, in_total=5, per_minute=5, per_day=5) as provider:
        await answered(provider, 1)
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
        values = {"agreement": b"", "department": "", "since": 0, "most": 5, "today": 0}
        for statement in (IN_MINUTE, IN_DAYS):
            plan = str(db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())
            assert "SEARCH" in plan
            assert "SCAN uses" not in plan
            assert "SCAN tallies" not in plan
