"""A dry run says what `decide` would say, and the smallest change that it would allow (DESIGN section 6)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from exchange.core.decision import Allow, Deny, decide
from exchange.core.explain import Explanation, Question, changes, explain, left_out, weighed
from exchange.core.restrictions import next_open
from exchange.core.terms import AgreementTerms
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Field
from exchange.v1.guardrail_pb2 import Officer
from exchange.v1.guardrail_pb2 import Test as Node
from exchange.v1.terms_pb2 import Hours, Limits
from tests.attempts import NARROW
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    DAY,
    FIELDS,
    HOUSING,
    LOOKUP,
    MARRIAGE,
    MINUTE,
    POPULATION,
    PURPOSE,
    QUERY,
    World,
)

INSPECTION = "housing.inspection"
HOUR = 60 * MINUTE
LEVELS = {"id_number": 4, "name": 2, "address": 3, "area_m2": 1}
SATURDAYS = Hours(zone="Asia/Shanghai", weekdays=[6], opens=600, closes=660)


def world_with(*agreements: dict[str, Any], forbidden: tuple[Node, ...] = ()) -> tuple[World, list[AgreementTerms]]:
    """One dataset of classed fields, agreements of the requester for it, and guardrails."""
    world = World.founded()
    for code in (PURPOSE, INSPECTION):
        world.register(code)
    fields = [Field(name=name, type=kind, sensitivity=LEVELS.get(name, 4)) for name, kind in FIELDS.items()]
    dataset = world.publish(fields=fields)
    asked = world.apply_for(dataset, purposes=[PURPOSE, INSPECTION])
    granted = [world.grant(asked, **terms) for terms in agreements]
    for number, test in enumerate(forbidden):
        world.forbid(test, f"rule-{number}")
    return world, granted


def question(world: World, agreement: AgreementTerms, **changed: Any) -> Question:
    asked = Question(agreement.digest, agreement.dataset, LOOKUP, ("name", "address"), PURPOSE, "officer-7", world.now)
    return replace(asked, **changed)


def explained(world: World, asked: Question) -> Explanation:
    return explain(world.directory, asked, APPLICATIONS, world.used)


def smallest(world: World, asked: Question) -> Question:
    explanation = explained(world, asked)
    assert explanation.denied is not None
    return explanation.changed[0]


# --- what it says ------------------------------------------------------------------------------------------


def test_what_would_be_answered_needs_no_change() -> None:
    world, [agreement] = world_with({})
    assert explained(world, question(world, agreement)) == Explanation(None)


def test_it_says_what_decide_says() -> None:
    world = NARROW.copy()
    agreement = world.agreement
    for changed in ({}, {"fields": ("name", "id_number")}, {"purpose": INSPECTION}, {"operation": QUERY}):
        asked = question(world, agreement, **changed)
        request = world.request(
            agreement=asked.agreement,
            operation=asked.operation,
            fields=asked.fields,
            purpose=asked.purpose,
            officer=asked.officer,
        )
        decided = decide(world.directory, request, world.now, taken=world.taken, used=world.used)
        assert explained(world, asked).denied == (None if isinstance(decided, Allow) else decided)


def test_an_agreement_of_another_helps_nobody() -> None:
    world, [agreement] = world_with({})
    explanation = explain(world.directory, question(world, agreement), MARRIAGE, world.used)
    assert explanation.denied is not None
    assert (explanation.denied.code, explanation.changed) == (Code.CODE_NO_AGREEMENT, ())


def test_an_unknown_dataset_is_no_agreement() -> None:
    world, [agreement] = world_with({})
    explanation = explained(world, question(world, agreement, dataset=bytes(16)))
    assert isinstance(explanation.denied, Deny)
    assert explanation.changed == ()


def test_fields_that_are_not_granted_are_left_out() -> None:
    world, [agreement] = world_with({"fields": ["name", "area_m2"]})
    asked = question(world, agreement, fields=("name", "address", "area_m2"))
    assert left_out(asked, smallest(world, asked)) == ("address",)


def test_another_purpose_operation_or_officer_that_the_agreement_grants() -> None:
    world, [agreement] = world_with({"purposes": [INSPECTION], "operations": [QUERY], "officers": ["officer-1"]})
    asked = question(world, agreement)
    changed = smallest(world, asked)
    assert (changed.purpose, changed.operation, changed.officer) == (INSPECTION, QUERY, "officer-1")
    assert changes(asked, changed) == 3


def test_another_agreement_is_one_change_where_the_own_one_needs_two() -> None:
    world, [narrow, wide] = world_with({"fields": ["name"], "purposes": [INSPECTION]}, {})
    asked = question(world, narrow)
    assert [other.agreement for other in explained(world, asked).changed] == [wide.digest]


def test_another_agreement_does_not_help_once_it_is_revoked() -> None:
    world, [narrow, wide] = world_with({"fields": ["name"]}, {})
    world.revoke(wide.digest, POPULATION)
    assert [other.agreement for other in explained(world, question(world, narrow)).changed] == [narrow.digest]


def test_the_next_opening_within_the_hours() -> None:
    world, [agreement] = world_with({"hours": SATURDAYS})
    asked = question(world, agreement)
    assert smallest(world, asked).at == round(datetime.fromisoformat("2027-01-16T10:00:00+08:00").timestamp() * 1000)


def test_a_suspension_that_ends_is_waited_for_and_one_that_does_not_is_not() -> None:
    world, [agreement] = world_with({})
    world.suspend(POPULATION, agreement=agreement.digest, until=world.now + DAY)
    assert smallest(world, question(world, agreement)).at == world.now + DAY
    world.suspend(COORDINATOR, officer=Officer(department=str(HOUSING), pseudonym="officer-7"))
    assert explained(world, question(world, agreement)).changed == ()


def test_a_named_officer_is_waited_for() -> None:
    world, [agreement] = world_with({"officers": ["officer-1"]})
    until = world.now + HOUR
    world.suspend(HOUSING, officer=Officer(department=str(HOUSING), pseudonym="officer-1"), until=until)
    changed = smallest(world, question(world, agreement))
    assert (changed.officer, changed.at) == ("officer-1", until)


def test_a_guardrail_over_the_most_sensitive_field_is_met_by_leaving_that_out() -> None:
    world, [agreement] = world_with({}, forbidden=(Node(sensitivity=3),))
    asked = question(world, agreement, fields=("name", "address", "area_m2"))
    assert left_out(asked, smallest(world, asked)) == ("address",)


@pytest.mark.parametrize(
    ("limits", "wait"), [({"per_minute": 1}, MINUTE), ({"per_day": 1}, 16 * HOUR), ({"in_total": 1}, None)], ids=str
)
def test_a_quota_is_waited_for_where_it_comes_back(limits: dict[str, int], wait: int | None) -> None:
    world, [agreement] = world_with({"limits": Limits(**limits)})
    world.use(agreement, HOUSING, world.now)
    changed = explained(world, question(world, agreement)).changed
    assert [other.at for other in changed] == ([] if wait is None else [world.now + wait])


def test_an_agreement_that_begins_later_is_waited_for() -> None:
    world, [agreement] = world_with({"not_before": NARROW.now + DAY})
    assert smallest(world, question(world, agreement)).at == world.now + DAY


def test_what_is_past_its_review_or_its_end_needs_somebody_else() -> None:
    world, [agreement] = world_with({"review_at": NARROW.now})
    assert explained(world, question(world, agreement)).changed == ()
    world, [agreement] = world_with({"hours": SATURDAYS, "not_after": NARROW.now + HOUR})
    assert explained(world, question(world, agreement)).changed == ()


# --- the smallest ------------------------------------------------------------------------------------------


NAMES = tuple(LEVELS)
TERMS = st.fixed_dictionaries(
    {},
    optional={
        "fields": st.sets(st.sampled_from(NAMES), min_size=1).map(sorted),
        "operations": st.sampled_from([[LOOKUP], [QUERY]]),
        "purposes": st.sampled_from([[PURPOSE], [INSPECTION]]),
        "officers": st.sampled_from([["officer-1"], ["officer-7", "officer-8"]]),
        "hours": st.sampled_from([SATURDAYS, Hours(zone="UTC", weekdays=[5], opens=0, closes=1440)]),
        "limits": st.sampled_from([Limits(in_total=1), Limits(per_day=1), Limits(per_minute=1)]),
    },
)
GUARDRAILS = st.sampled_from(
    [
        Node(sensitivity=3),
        Node(negation=Node(sensitivity=3)),
        Node(operation=LOOKUP),
        Node(purpose=PURPOSE),
        Node(requester=str(MARRIAGE)),
    ]
)


def smaller(agreements: list[AgreementTerms], asked: Question, bound: int) -> Iterator[Question]:
    """Every question with fewer changes that could be asked instead, at every hour of a week and a bit."""
    fields = [subset for count in range(1, len(asked.fields) + 1) for subset in combinations(asked.fields, count)]
    officers = {asked.officer, *(name for agreement in agreements for name in agreement.officers)}
    times = [asked.at + MINUTE, *(asked.at + hour * HOUR for hour in range(1, 9 * 24))]
    digests = [agreement.digest for agreement in agreements]
    for digest, operation, subset, purpose, officer in product(
        digests, (LOOKUP, QUERY), fields, (PURPOSE, INSPECTION), sorted(officers)
    ):
        other = replace(asked, agreement=digest, operation=operation, fields=subset, purpose=purpose, officer=officer)
        left = bound - changes(asked, other)
        yield from [other] if left > 0 else []
        yield from (replace(other, at=at) for at in times if left > 1)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    terms=st.lists(TERMS, min_size=1, max_size=2),
    guardrails=st.lists(GUARDRAILS, max_size=2, unique_by=str),
    suspended=st.sampled_from([None, 2 * HOUR, 0]),
    used=st.booleans(),
    fields=st.sets(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda names: tuple(sorted(names))),
    operation=st.sampled_from([LOOKUP, QUERY]),
    purpose=st.sampled_from([PURPOSE, INSPECTION]),
)
def test_what_it_proposes_is_allowed_and_nothing_smaller_is(
    terms: list[dict[str, Any]],
    guardrails: list[Node],
    suspended: int | None,
    used: bool,
    fields: tuple[str, ...],
    operation: Any,
    purpose: str,
) -> None:
    world, agreements = world_with(*terms, forbidden=tuple(guardrails))
    if suspended is not None:
        until = world.now + suspended if suspended else 0
        world.suspend(POPULATION, agreement=agreements[0].digest, until=until)
    if used:
        world.use(agreements[0], HOUSING, world.now)
    asked = question(world, agreements[0], fields=fields, operation=operation, purpose=purpose)
    explanation = explained(world, asked)
    assume(explanation.denied is not None)
    sizes = {changes(asked, other) for other in explanation.changed}
    assert len(sizes) <= 1
    for other in explanation.changed:
        assert weighed(world.directory, other, APPLICATIONS, world.used) is None
        assert set(other.fields) <= set(asked.fields)
    # Where it proposes nothing at all, up to three changes do not help either.
    for other in smaller(agreements, asked, min(sizes, default=4)):
        assert weighed(world.directory, other, APPLICATIONS, world.used) is not None, other


# --- the next opening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (SATURDAYS, "2027-01-16T10:30:00+08:00", "2027-01-16T10:30:00+08:00"),
        (SATURDAYS, "2027-01-16T10:00:00+08:00", "2027-01-16T10:00:00+08:00"),
        (SATURDAYS, "2027-01-16T11:00:00+08:00", "2027-01-23T10:00:00+08:00"),
        (SATURDAYS, "2027-01-16T09:59:59+08:00", "2027-01-16T10:00:00+08:00"),
        # The clocks leave this hour out, and it comes again a week later.
        (
            Hours(zone="Europe/Berlin", weekdays=[7], opens=120, closes=180),
            "2027-03-28T00:00:00+01:00",
            "2027-04-04T02:00:00+02:00",
        ),
        (Hours(zone="Mars/Olympus", weekdays=[7], opens=120, closes=180), "2027-03-28T00:00:00+01:00", None),
    ],
    ids=str,
)
def test_the_next_opening_is_the_first_moment_within_the_hours(hours: Hours, now: str, opens: str | None) -> None:
    moment = round(datetime.fromisoformat(now).timestamp() * 1000)
    expected = None if opens is None else round(datetime.fromisoformat(opens).timestamp() * 1000)
    assert next_open(hours, moment) == expected
