"""Past its budget a party's refusals are summed up in one entry a minute, and each is signed (DESIGN section 6)."""

import asyncio

import pytest

from exchange.broker.limits import TokenBuckets
from exchange.broker.refusals import RefusedError
from exchange.cli.audit.checking.checks import judge
from exchange.cli.audit.checking.opening import open_entry
from exchange.core.access import read_refusal
from exchange.core.decision import Deny
from exchange.core.envelope import decode_envelope, verify_signature
from exchange.core.merkle import root_of
from exchange.core.names import Party
from exchange.core.summary import MINUTE, refusals_in
from exchange.core.wire import encode
from exchange.store.ports import StoreBusyError, StoreFatalError
from exchange.v1.access_pb2 import AccessKind, Code
from tests.component.broker.parts import REFUSED, Broker, refusing
from tests.world import APPLICATIONS, BROKER, MARRIAGE, ORIGIN, World

REFUSALS = AccessKind.ACCESS_KIND_REFUSALS
BUDGET = 3


@pytest.fixture
def broker(broker: Broker) -> Broker:
    broker.refusals._budget = TokenBuckets(0, BUDGET)
    return broker


async def flood(broker: Broker, count: int, peer: Party = APPLICATIONS) -> list[RefusedError]:
    """Refusals of what cannot be parsed, one after the other."""
    return [await broker.refused(f"rubbish {number}".encode(), peer=peer) for number in range(count)]


def places(errors: list[RefusedError]) -> list[int]:
    return [read_refusal(error.refusal).summed_up for error in errors]


async def test_one_entry_sums_up_what_passes_the_budget(broker: Broker, world: World) -> None:
    errors = await flood(broker, BUDGET + 1000)
    assert broker.size == BUDGET
    await broker.refusals.close()
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED] * BUDGET + [REFUSALS]
    leaf = broker.leaf(-1)
    counts = {item.code: item.count for item in leaf.counts}
    assert counts.keys() == {Code.CODE_MALFORMED, Code.CODE_OVERLOADED}
    assert sum(counts.values()) == 1000
    assert (leaf.requester, leaf.refuser) == (str(APPLICATIONS), str(BROKER))
    assert (leaf.since, leaf.until, leaf.time) == (world.now, world.now, world.now)
    assert places(errors) == [0] * BUDGET + list(range(1, 1001))


async def test_every_signed_refusal_can_be_matched_with_its_summary(broker: Broker, world: World) -> None:
    errors = (await flood(broker, BUDGET + 7))[BUDGET:]
    await broker.refusals.close()
    for error in errors:
        verify_signature(error.refusal, ORIGIN, world.keys[BROKER].public_key)
    leaf = broker.leaf(-1)
    assert leaf.refusals_root == root_of([error.refusal.digest for error in errors])
    # The entry's evidence is the last one, which says how many there were.
    evidence = decode_envelope(broker.body(-1).refusal)
    verify_signature(evidence, ORIGIN, world.keys[BROKER].public_key)
    assert evidence.digest == leaf.refusal_digest == errors[-1].refusal.digest
    assert read_refusal(evidence).summed_up == refusals_in(leaf) == 7


async def test_an_auditor_verifies_a_summary(broker: Broker) -> None:
    await flood(broker, BUDGET + 7)
    await broker.refusals.close()
    opened = open_entry(broker.leaf(-1), encode(broker.body(-1)))
    checks = list(judge(broker.logs.directory, opened, None))
    assert [check.detail for check in checks if not check.ok] == []
    assert any("7 MALFORMED" in check.detail for check in checks)


async def test_each_party_has_its_own_budget_and_its_own_summary(broker: Broker) -> None:
    await flood(broker, BUDGET + 5)
    assert places(await flood(broker, BUDGET, MARRIAGE)) == [0] * BUDGET
    await flood(broker, 2, MARRIAGE)
    await broker.refusals.close()
    summaries = [leaf for leaf in broker.leaves() if leaf.kind == REFUSALS]
    assert {leaf.requester: refusals_in(leaf) for leaf in summaries} == {str(APPLICATIONS): 5, str(MARRIAGE): 2}


async def test_a_minute_later_another_summary_begins(broker: Broker, world: World) -> None:
    await flood(broker, BUDGET + 4)
    world.now += MINUTE + 1
    assert places(await flood(broker, 2)) == [1, 2]
    await broker.refusals.close()
    summaries = sorted((leaf for leaf in broker.leaves() if leaf.kind == REFUSALS), key=lambda leaf: leaf.since)
    assert [refusals_in(leaf) for leaf in summaries] == [4, 2]
    assert summaries[0].until < summaries[1].since


async def test_refusals_at_one_moment_have_places_of_their_own(broker: Broker) -> None:
    await flood(broker, BUDGET)
    errors = await asyncio.gather(*(broker.refused(bytes([number])) for number in range(50)))
    assert sorted(places(errors)) == list(range(1, 51))
    await broker.refusals.close()
    ordered = sorted(errors, key=lambda error: read_refusal(error.refusal).summed_up)
    assert broker.leaf(-1).refusals_root == root_of([error.refusal.digest for error in ordered])


async def test_a_refill_gives_entries_of_their_own_again(broker: Broker, world: World) -> None:
    broker.refusals._budget = TokenBuckets(1, 1)
    assert places(await flood(broker, 2)) == [0, 1]
    world.now += 1000
    assert places(await flood(broker, 1)) == [0]


async def test_a_providers_refusal_past_the_budget_is_the_brokers_own(broker: Broker, world: World) -> None:
    adapter = await broker.attach()
    adapter.respond = refusing(world, Deny(10, Code.CODE_STATE_STALE, "catching up"))
    errors = [await broker.refused(world.request()) for _ in range(BUDGET + 2)]
    refusals = [read_refusal(error.refusal) for error in errors]
    assert [refusal.refuser == str(BROKER) for refusal in refusals] == [False] * BUDGET + [True] * 2
    assert {(refusal.code, refusal.check) for refusal in refusals} == {(Code.CODE_STATE_STALE, 10)}
    assert refusals[-1].reason == "the provider refused: catching up"
    await broker.refusals.close()
    assert [(item.code, item.count) for item in broker.leaf(-1).counts] == [(Code.CODE_STATE_STALE, 2)]


async def test_nothing_is_counted_when_the_log_can_never_take_it(broker: Broker) -> None:
    await flood(broker, BUDGET)
    broker.store.before = StoreFatalError("the disk is full")
    other = await broker.refused(b"rubbish", peer=MARRIAGE)
    assert other.code == Code.CODE_AUDIT_UNAVAILABLE
    [error] = await flood(broker, 1)
    assert (error.code, places([error])) == (Code.CODE_AUDIT_UNAVAILABLE, [0])


async def test_a_summary_that_the_log_does_not_take_is_written_when_it_does(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.broker.refusals.RETRY", 0)
    await flood(broker, BUDGET + 3)
    attempted = asyncio.Event()
    append = broker.logs.append

    async def failing(proposal: object) -> object:
        try:
            return await append(proposal)  # type: ignore[arg-type]
        finally:
            attempted.set()

    monkeypatch.setattr(broker.logs, "append", failing)
    broker.store.before = StoreBusyError("the database was not free in time")
    next(iter(broker.refusals._tallies.values())).ended.set()
    await attempted.wait()
    broker.store.before = None
    await broker.refusals.close()
    assert refusals_in(broker.leaf(-1)) == 3


async def test_a_broker_that_stops_with_a_failing_log_says_what_is_lost(broker: Broker, logged: list[dict]) -> None:
    await flood(broker, BUDGET + 3)
    broker.store.before = StoreBusyError("the database was not free in time")
    await broker.refusals.close()
    broker.store.before = None
    lost = [entry for entry in logged if entry["event"] == "a summary of refusals was lost"]
    assert [(entry["requester"], entry["refusals"]) for entry in lost] == [(str(APPLICATIONS), 3)]
