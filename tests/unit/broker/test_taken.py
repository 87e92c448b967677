import pytest

from exchange.broker.taken import MEMORY, TakenIds
from exchange.core.decision import LIFETIME, SKEW, Asked, authenticate
from exchange.store.ports import Taken
from tests.world import APPLICATIONS, MARRIAGE, MINUTE, World


def asked(world: World, **header: object) -> Asked:
    found = authenticate(world.directory, world.request(**header), world.now, None)
    assert isinstance(found, Asked)
    return found


def holder(ids: TakenIds, of: Asked) -> bytes | None:
    return ids.holder(of.header.requester, of.header.request_id)


def test_an_id_is_free_until_it_flies_and_after_a_flight_without_answer(world: World) -> None:
    ids, one = TakenIds(), asked(world)
    assert holder(ids, one) is None
    ids.hold(one)
    assert holder(ids, one) == one.envelope.digest
    ids.let_go(one)
    assert holder(ids, one) is None


def test_an_answer_uses_the_id_up(world: World) -> None:
    ids, one = TakenIds(), asked(world)
    ids.hold(one)
    ids.settle(one, world.now)
    ids.let_go(one)
    assert holder(ids, one) == one.envelope.digest


def test_an_id_belongs_to_its_requester(world: World) -> None:
    ids, one = TakenIds(), asked(world)
    ids.hold(one)
    assert ids.holder(str(MARRIAGE), one.header.request_id) is None


def test_what_can_no_longer_be_fresh_is_forgotten(world: World) -> None:
    ids = TakenIds()
    early, late = asked(world, expires_at=world.now + MINUTE), asked(world, expires_at=world.now + LIFETIME)
    ids.settle(early, world.now)
    ids.settle(late, world.now)
    world.now += MINUTE + SKEW
    ids.settle(asked(world), world.now)
    assert holder(ids, early) is None
    assert holder(ids, late) == late.envelope.digest


def test_an_id_is_remembered_for_as_long_as_its_request_is_fresh(world: World) -> None:
    ids, one = TakenIds(), asked(world, expires_at=world.now + LIFETIME)
    ids.settle(one, world.now)
    world.now += LIFETIME + SKEW - 1
    ids.settle(asked(world), world.now)
    assert holder(ids, one) == one.envelope.digest


@pytest.mark.parametrize("age", [0, MINUTE, LIFETIME])
def test_a_new_process_knows_what_the_log_says(world: World, age: int) -> None:
    one = asked(world)
    entry = Taken(str(APPLICATIONS), one.header.request_id, one.envelope.digest, world.now - age)
    assert holder(TakenIds([entry]), one) == one.envelope.digest


def test_an_id_that_another_broker_used_up_is_learnt_and_forgotten_in_time(world: World) -> None:
    ids, theirs, own = TakenIds(), asked(world), asked(world)
    ids.settle(own, world.now)
    entries = [
        Taken(str(APPLICATIONS), one.header.request_id, digest, world.now)
        for one, digest in ((theirs, theirs.envelope.digest), (own, b"another message's"))
    ]
    for _ in range(2):
        ids.learn(entries)
    assert holder(ids, theirs) == theirs.envelope.digest
    # What is known at first hand stays.
    assert holder(ids, own) == own.envelope.digest
    world.now += MEMORY
    ids.settle(asked(world), world.now)
    assert holder(ids, theirs) is None


def test_a_request_of_any_age_that_is_still_fresh_is_within_memory() -> None:
    """Issued a minute ahead of this clock, valid for ten, and a minute more for clocks that go wrong."""
    assert MEMORY >= LIFETIME + 2 * SKEW
