"""Corrections: filed, answered, told to every recipient, acknowledged."""

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core.calendar import Calendar, Length, Unit
from exchange.core.clocks import Clock, Jurisdiction, Role
from exchange.core.clocks import State as ClockState
from exchange.core.correction import Correction, Notice, Standing
from exchange.core.corrections import ANSWER, MAX_REQUESTS, answer_due, bound, notices_for
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.names import Party
from exchange.core.state import Version
from exchange.v1.procedure_pb2 import Action
from tests.memory import fixed
from tests.world import (
    APPLICATIONS,
    CIVIL_AFFAIRS,
    COORDINATOR,
    DAY,
    HOUSING,
    HOUSING_HEAD,
    MARRIAGE,
    POPULATION,
    POPULATION_HEAD,
    REGISTRY,
    World,
)

OPEN, CORRECT = Action.ACTION_OPEN_CORRECTION, Action.ACTION_CORRECT
REJECT, NOTIFY = Action.ACTION_REJECT_CORRECTION, Action.ACTION_NOTIFY
ACKNOWLEDGE = Action.ACTION_ACKNOWLEDGE
ACTIONS = (OPEN, CORRECT, REJECT, NOTIFY, ACKNOWLEDGE)
ID = fixed("correction", 16)
REQUESTS = [fixed("first", 16), fixed("second", 16)]

# Written from the article, and not from the table: what can be done after what, and by whom.
EXPECTED = {
    ("", OPEN, HOUSING): "filed",
    ("", OPEN, POPULATION): "filed",
    ("", NOTIFY, POPULATION): "corrected",
    ("", NOTIFY, REGISTRY): "corrected",
    ("filed", CORRECT, POPULATION): "corrected",
    ("filed", REJECT, POPULATION): "rejected",
    ("corrected", NOTIFY, POPULATION): "corrected",
    ("corrected", NOTIFY, REGISTRY): "corrected",
    ("corrected", ACKNOWLEDGE, HOUSING): "corrected",
    ("corrected", ACKNOWLEDGE, APPLICATIONS): "corrected",
}
PARTIES = (HOUSING, APPLICATIONS, HOUSING_HEAD, POPULATION, REGISTRY, POPULATION_HEAD, CIVIL_AFFAIRS, COORDINATOR)


def world_at(standing: str) -> World:
    world = World.standard()
    world.admit_heads()
    if standing:
        file(world)
    if standing == "corrected":
        world.do(POPULATION, CORRECT, ID)
        notify(world)
    if standing == "rejected":
        world.do(POPULATION, REJECT, ID, text="the register is right")
    return world


def file(world: World, **changes: Any) -> None:
    world.do(HOUSING, OPEN, ID, **(fields(world, OPEN) | changes))


def notify(world: World, **changes: Any) -> bytes:
    return world.do(REGISTRY, NOTIFY, ID, **(fields(world, NOTIFY) | changes)).digest


def fields(world: World, action: Action.ValueType) -> dict[str, Any]:
    """What a step of each kind needs."""
    found = world.directory.terms.corrections.get(ID)
    notice = found.notices[0].version.digest if found is not None and found.notices else bytes(32)
    about = {"about": world.dataset.object_id, "fields": ["address"]}
    return {
        OPEN: about | {"text": "another street", "case_id": "ZF-2027-0001"},
        CORRECT: {},
        REJECT: {"text": "the register is right"},
        NOTIFY: about | {"recipient": str(HOUSING), "request_ids": REQUESTS},
        ACKNOWLEDGE: {"digest": notice},
    }[action]


def correction(directory: Directory) -> Correction:
    return directory.terms.corrections[ID]


@pytest.mark.parametrize("standing", ["", "filed", "corrected", "rejected"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_the_article_allows_can_be_done_and_nothing_else(standing: str, action: Action.ValueType) -> None:
    world = world_at(standing)
    for party in PARTIES:
        applied = world.copy().step(party, action, ID, **fields(world, action))
        twin = world.copy()
        twin.step(party, action, ID, **fields(world, action))
        expected = EXPECTED.get((standing, action, party))
        assert (not applied.reason) == (expected is not None), (party, applied.reason)
        after = twin.directory.terms.corrections.get(ID)
        assert (str(after.standing) if after is not None else "") == (expected or standing)


def test_a_refusal_tells_what_can_be_done() -> None:
    world = world_at("rejected")
    assert "the correction is rejected: possible are: none" in world.step(POPULATION, CORRECT, ID).reason
    assert (
        "possible are: correct it (the owner's steward)"
        in world_at("filed").step(REGISTRY, NOTIFY, ID, **fields(world, NOTIFY)).reason
    )


def test_a_correction_is_told_as_it_went() -> None:
    world = world_at("filed")
    world.now += DAY
    world.do(POPULATION, CORRECT, ID, text="number 3")
    first = notify(world)
    second = notify(world, recipient=str(CIVIL_AFFAIRS), request_ids=[fixed("third", 16)])
    world.do(APPLICATIONS, ACKNOWLEDGE, ID, digest=first)
    found = correction(world.directory)
    assert (found.dataset, found.owner, found.fields) == (world.dataset.object_id, POPULATION, ("address",))
    assert found.filed is not None
    assert found.answered is not None
    assert (found.filed.step.case_id, found.answered.step.text) == ("ZF-2027-0001", "number 3")
    told = {notice.recipient: notice for notice in found.notices}
    assert told[HOUSING].requests == tuple(REQUESTS)
    assert told[HOUSING].acknowledged is not None
    assert told[HOUSING].acknowledged.owner == APPLICATIONS
    assert told[CIVIL_AFFAIRS].version.digest == second
    assert told[CIVIL_AFFAIRS].acknowledged is None
    assert [notice.version.digest for _, notice in notices_for(world.directory.terms, HOUSING)] == [first]
    assert list(notices_for(world.directory.terms, COORDINATOR)) == []


@pytest.mark.parametrize(
    ("action", "changes", "reason"),
    [
        (OPEN, {"text": " "}, "says in words"),
        (OPEN, {"fields": []}, "named, each once"),
        (OPEN, {"fields": ["name", "name"]}, "named, each once"),
        (OPEN, {"fields": ["No Field"]}, "named, each once"),
        (OPEN, {"case_id": ""}, "names the case"),
        (OPEN, {"about": fixed("nothing", 16)}, "not known here"),
        (OPEN, {"recipient": str(HOUSING)}, "recipient does not go with ACTION_OPEN_CORRECTION"),
        (NOTIFY, {"request_ids": []}, "each once"),
        (NOTIFY, {"request_ids": [REQUESTS[0], REQUESTS[0]]}, "each once"),
        (NOTIFY, {"request_ids": [b"short"]}, "each once"),
        (NOTIFY, {"request_ids": [fixed(str(n), 16) for n in range(MAX_REQUESTS + 1)]}, "each once"),
        (NOTIFY, {"recipient": str(APPLICATIONS)}, "goes to another department"),
        (NOTIFY, {"recipient": str(POPULATION)}, "goes to another department"),
        (NOTIFY, {"recipient": "city.example"}, "no|name"),
        (NOTIFY, {"text": "x" * 2001}, "2,000"),
    ],
)
def test_a_step_that_lacks_something_does_nothing(
    action: Action.ValueType, changes: dict[str, Any], reason: str
) -> None:
    world = World.standard()
    party = HOUSING if action == OPEN else REGISTRY
    applied = world.step(party, action, ID, **(fields(world, action) | changes))
    assert applied.reason
    assert any(part in applied.reason for part in reason.split("|")), applied.reason
    assert not world.directory.terms.corrections


def test_the_most_requests_fit_into_one_notice() -> None:
    world = world_at("corrected")
    ids = [fixed(str(n), 16) for n in range(MAX_REQUESTS)]
    notify(world, request_ids=ids)
    assert correction(world.directory).notices[-1].requests == tuple(ids)


def test_a_notice_about_another_dataset_is_refused() -> None:
    world = world_at("corrected")
    other = world.publish("more")
    applied = world.step(REGISTRY, NOTIFY, ID, **(fields(world, NOTIFY) | {"about": other.object_id}))
    assert "another dataset" in applied.reason


def test_who_has_no_agreement_files_nothing() -> None:
    world = World.standard()
    assert "has, or had, an agreement" in world.step(CIVIL_AFFAIRS, OPEN, ID, **fields(world, OPEN)).reason
    world.revoke(world.agreement.digest, POPULATION)
    file(world)


def test_a_correction_under_the_id_of_a_dataset_is_read_by_those_whom_it_binds_alone() -> None:
    """Ids of corrections are their own: whoever takes that of something else gains nothing by it."""
    world = World.standard()
    id = world.dataset.object_id
    filed = world.do(HOUSING, OPEN, id, **fields(world, OPEN))
    version = world.directory.state.versions[filed.digest]
    assert set(bound(world.directory.terms, version)) == {POPULATION, HOUSING}
    assert world.directory.dataset(id) is not None


def test_what_is_published_later_under_its_id_takes_nothing_from_a_correction() -> None:
    world = world_at("corrected")
    world.publish("later", version=ObjectVersion(ID))
    assert dict(reopened(world).terms.corrections) == dict(world.directory.terms.corrections)


def test_a_notice_is_acknowledged_once_and_by_the_one_who_was_given_it() -> None:
    world = world_at("corrected")
    other = notify(world, recipient=str(CIVIL_AFFAIRS))
    assert "it is for" in world.step(APPLICATIONS, ACKNOWLEDGE, ID, digest=other).reason
    world.do(MARRIAGE, ACKNOWLEDGE, ID, digest=other)
    assert "acknowledged already" in world.step(CIVIL_AFFAIRS, ACKNOWLEDGE, ID, digest=other).reason


def test_each_step_binds_the_owner_and_the_one_that_it_concerns() -> None:
    world = world_at("filed")
    steps = {"filed": world.directory.terms.corrections[ID].filed}
    corrected = world.do(POPULATION, CORRECT, ID).digest
    notice = notify(world, recipient=str(CIVIL_AFFAIRS))
    answer = world.do(MARRIAGE, ACKNOWLEDGE, ID, digest=notice).digest
    terms, versions = world.directory.terms, world.directory.state.versions
    assert steps["filed"] is not None
    assert set(bound(terms, steps["filed"].version)) == {POPULATION, HOUSING}
    assert set(bound(terms, versions[corrected])) == {POPULATION, HOUSING}
    assert set(bound(terms, versions[notice])) == {POPULATION, CIVIL_AFFAIRS}
    assert set(bound(terms, versions[answer])) == {POPULATION, CIVIL_AFFAIRS}
    assert bound(terms, world.dataset.version) == ()


def test_a_recipient_reads_its_notice_without_the_filing() -> None:
    """What a mirror folds that was given the notice, and no body of the steps before it."""
    world = World.standard()
    seen = world.directory
    start = world.directory_log.size
    file(world)
    world.do(POPULATION, CORRECT, ID)
    notice = notify(world)
    for index in range(start, world.directory_log.size):
        body = world.directory_log.bodies[index] if index == world.directory_log.size - 1 else b""
        seen, applied = seen.apply(world.directory_log.leaves[index], body)
        assert not applied.reason
    found = correction(seen)
    assert (found.standing, found.filed, found.owner) == (Standing.CORRECTED, None, POPULATION)
    assert [item.version.digest for item in found.notices] == [notice]


def test_corrections_are_opened_again_as_they_were() -> None:
    world = world_at("corrected")
    assert dict(reopened(world).terms.corrections) == dict(world.directory.terms.corrections)


class Bodies(list[tuple[int, bytes]]):
    """The bodies that are at hand, by the index of their entry; also looked up by a version."""

    def body(self, version: Version) -> bytes:
        return dict(self).get(version.index, b"")


def reopened(world: World) -> Directory:
    """The directory of the world's state, its bodies opened again."""
    bodies = Bodies((index, body) for index, body in enumerate(world.directory_log.bodies) if body)
    return Directory.reopened(world.directory.state, bodies)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(PARTIES), st.sampled_from(ACTIONS)), max_size=8))
def test_no_order_of_steps_answers_twice_or_tells_of_what_is_not_corrected(
    steps: list[tuple[Party, Action.ValueType]],
) -> None:
    world = world_at("")
    answers = 0
    for party, action in steps:
        applied = world.step(party, action, ID, **fields(world, action))
        answers += not applied.reason and action in {CORRECT, REJECT}
    found = world.directory.terms.corrections.get(ID)
    assert answers <= 1
    if found is not None and found.notices:
        assert found.standing == Standing.CORRECTED
        assert all(isinstance(notice, Notice) and notice.requests for notice in found.notices)


# The clock.


def jurisdiction(*codes: str) -> Jurisdiction:
    calendar = Calendar("test", datetime.UTC, frozenset(), frozenset(), frozenset({2027}), frozenset())
    clocks = tuple(
        Clock(code, "更正", "correct", Role.PROVIDER, Length(10, Unit.WORKING_DAYS), "Decree 809, art. 26")
        for code in codes
    )
    return Jurisdiction("test", "测试", "Test", calendar, clocks)


def test_the_clock_runs_from_the_filing_to_the_answer() -> None:
    world = world_at("filed")
    rules = jurisdiction(ANSWER)
    running = answer_due(correction(world.directory), rules, world.now + 5 * DAY)
    assert running is not None
    assert running.state == ClockState.RUNNING
    late = answer_due(correction(world.directory), rules, world.now + 15 * DAY)
    assert late is not None
    assert late.state == ClockState.OVERDUE
    world.now += 3 * DAY
    world.do(POPULATION, REJECT, ID, text="it is right")
    done = answer_due(correction(world.directory), rules, world.now + 15 * DAY)
    assert done is not None
    assert done.state == ClockState.DONE


def test_no_clock_runs_where_nobody_filed_or_no_rule_sets_a_time() -> None:
    world = World.standard()
    notify(world)
    assert answer_due(correction(world.directory), jurisdiction(ANSWER), world.now) is None
    assert answer_due(correction(world_at("filed").directory), jurisdiction(), world.now) is None
