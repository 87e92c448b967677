"""The life of a dataset in the catalogue."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core.entries import ObjectVersion
from exchange.core.review import REVIEW, UPDATE, Review, Standing, Timing, review_of
from exchange.core.terms import DatasetTerms
from exchange.v1.procedure_pb2 import Action
from tests.world import COORDINATOR, DAY, HOUSING, POPULATION, REGISTRY, World

PUBLISH, RETURN = Action.ACTION_PUBLISH, Action.ACTION_RETURN_DATASET
DEPRECATE, EXTEND = Action.ACTION_DEPRECATE, Action.ACTION_EXTEND


@pytest.fixture
def world() -> World:
    return reviewed()


def reviewed() -> World:
    world = World.standard()
    world.adopt(review=True)
    return world


def review(world: World, dataset: DatasetTerms) -> Review:
    found = review_of(world.directory.terms, dataset.object_id, world.now)
    assert found is not None
    return found


def fields(world: World, action: Action.ValueType, dataset: DatasetTerms) -> dict[str, Any]:
    """What a step of each kind needs."""
    digest = world.directory.state.objects[dataset.object_id]
    return {
        PUBLISH: {"digest": digest},
        RETURN: {"digest": digest, "missing": ["the legal basis"]},
        DEPRECATE: {"digest": digest, "text": "another one replaces it", "until": world.now + 90 * DAY},
        EXTEND: {"clock": UPDATE},
    }[action]


def do(world: World, dataset: DatasetTerms, action: Action.ValueType, **changes: Any) -> str:
    """Take a step by whose it is, and say why it was refused."""
    party = changes.pop("party", POPULATION if action == DEPRECATE else COORDINATOR)
    return world.step(party, action, dataset.object_id, **(fields(world, action, dataset) | changes)).reason


def again(world: World, dataset: DatasetTerms) -> DatasetTerms:
    version = ObjectVersion(dataset.object_id, world.directory.state.objects[dataset.object_id])
    return world.publish(dataset.code, version=version)


def test_without_rules_a_dataset_is_published_when_it_is_signed() -> None:
    world = World.standard()
    assert review(world, world.dataset).standing == Standing.PUBLISHED
    assert review(world, world.dataset).published == world.dataset.version.digest
    world.adopt(consent=True)
    assert review(world, world.publish("more")).is_open


def test_a_submitted_dataset_waits_for_the_coordinator_and_cannot_be_applied_for(world: World) -> None:
    dataset = world.publish("more")
    found = review(world, dataset)
    assert (found.standing, found.is_open, found.timing) == (Standing.SUBMITTED, False, Timing(REVIEW, world.now))
    with pytest.raises(AssertionError, match="the dataset is submitted: it can be applied for while it is published"):
        world.apply_for(dataset)
    assert do(world, dataset, PUBLISH) == ""
    assert review(world, dataset).timing is None
    world.grant(world.apply_for(dataset))


def test_rules_that_come_later_leave_alone_what_was_published(world: World) -> None:
    assert review(world, world.dataset).standing == Standing.PUBLISHED
    world.grant(world.apply_for(world.dataset))


def test_what_was_returned_is_due_from_its_owner_and_extended_once(world: World) -> None:
    dataset = world.publish("more")
    assert do(world, dataset, RETURN) == ""
    found = review(world, dataset)
    assert (found.standing, found.missing) == (Standing.RETURNED, ("the legal basis",))
    assert found.timing == Timing(UPDATE, world.now)
    assert do(world, dataset, EXTEND) == ""
    assert review(world, dataset).timing == Timing(UPDATE, world.now, extended=True)
    assert "once" in do(world, dataset, EXTEND)
    again(world, dataset)
    assert review(world, dataset).standing == Standing.SUBMITTED


def test_a_new_version_under_review_leaves_the_published_one_open(world: World) -> None:
    dataset = world.publish("more")
    do(world, dataset, PUBLISH)
    again(world, dataset)
    found = review(world, dataset)
    assert (found.standing, found.is_open) == (Standing.SUBMITTED, True)
    assert found.published == dataset.version.digest


def test_a_deprecated_dataset_is_retired_when_its_notice_has_run_out(world: World) -> None:
    dataset = world.publish("more")
    do(world, dataset, PUBLISH)
    assert do(world, dataset, DEPRECATE) == ""
    application = world.apply_for(dataset)
    world.now += 90 * DAY - 1
    assert review(world, dataset).standing == Standing.DEPRECATED
    world.now += 1
    assert review(world, dataset).standing == Standing.RETIRED
    with pytest.raises(AssertionError, match="the dataset is retired"):
        world.grant(application)


REFUSED: list[tuple[Action.ValueType, dict[str, Any], str]] = [
    (PUBLISH, {"party": POPULATION}, "the coordinator reviews"),
    (PUBLISH, {"party": HOUSING}, "the coordinator reviews"),
    (PUBLISH, {"digest": bytes(32)}, "another version than the latest"),
    (RETURN, {"missing": []}, "says everything that is missing"),
    (RETURN, {"missing": ["a", ""]}, "says everything that is missing"),
    (DEPRECATE, {}, "the dataset is submitted: this is done while it is published"),
    (EXTEND, {}, "the dataset is submitted: this is done while it is returned"),
]


@pytest.mark.parametrize(("action", "changes", "reason"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_step_of_a_review_is_refused(
    world: World, action: Action.ValueType, changes: dict[str, Any], reason: str
) -> None:
    dataset = world.publish("more")
    assert reason in do(world, dataset, action, **changes)
    assert review(world, dataset).standing == Standing.SUBMITTED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"party": COORDINATOR}, f"{POPULATION} alone"),
        ({"party": HOUSING}, f"{POPULATION} alone"),
        ({"party": REGISTRY}, f"{POPULATION} alone"),
        ({"text": ""}, "gives its reason"),
        ({"until": 1}, "a day to come"),
    ],
    ids=str,
)
def test_a_deprecation_is_refused(world: World, changes: dict[str, Any], reason: str) -> None:
    dataset = world.publish("more")
    do(world, dataset, PUBLISH)
    assert reason in do(world, dataset, DEPRECATE, **changes)
    assert review(world, dataset).standing == Standing.PUBLISHED


def test_a_step_about_a_dataset_that_nobody_knows_is_refused(world: World) -> None:
    assert "not known here" in world.step(COORDINATOR, PUBLISH, bytes(16), digest=bytes(32)).reason


# What may come after what, written down apart from the code: standing, step, standing.
TABLE = {
    (Standing.SUBMITTED, PUBLISH): Standing.PUBLISHED,
    (Standing.SUBMITTED, RETURN): Standing.RETURNED,
    (Standing.RETURNED, EXTEND): Standing.RETURNED,
    (Standing.PUBLISHED, DEPRECATE): Standing.DEPRECATED,
}
STEPS = st.sampled_from([PUBLISH, RETURN, DEPRECATE, EXTEND, "again", "wait"])


@given(st.lists(STEPS, max_size=10))
@settings(max_examples=40)
def test_any_sequence_of_steps_goes_by_the_table(steps: list[Any]) -> None:
    world = reviewed()
    dataset = world.publish("more")
    extended = False
    for step in steps:
        before = review(world, dataset)
        if step == "again":
            again(world, dataset)
            extended = False
            assert review(world, dataset).standing == Standing.SUBMITTED
        elif step == "wait":
            world.now += 30 * DAY
        else:
            expected = TABLE.get((before.standing, step))
            expected = None if step == EXTEND and extended else expected
            reason = do(world, dataset, step)
            assert (reason == "") == (expected is not None), reason
            extended = step == EXTEND or (extended and expected is None)
            assert review(world, dataset).standing == (expected or before.standing)
