"""How departments did in a month, counted from cases that were made by hand."""

import pytest

from exchange.core.names import Party
from exchange.core.performance import Handled, Performance, most_wanted, performances
from exchange.core.procedure import Act, Who
from tests.component.rules.test_due_dates import HOUSING, NATIONAL, POPULATION, Case, applied, at, step

SINCE, UNTIL, NOW = at("2026-11-01T00:00"), at("2026-12-01T00:00"), at("2026-12-31T00:00")
HEALTH = Party("city.example", "health")


def handled(case: Case, owner: Party = POPULATION, applicant: Party = HOUSING, **more: object) -> Handled:
    return Handled(case, applicant, owner, f"{owner.department}/residents", **more)  # type: ignore[arg-type]


def report(*cases: Handled) -> tuple[Performance, ...]:
    return performances(cases, NATIONAL, SINCE, UNTIL, NOW)


def test_answers_in_time_and_late_are_told_apart() -> None:
    in_time = step(applied("2026-11-02T09:00"), Act.AGREE, Who.OWNER, "2026-11-05T09:00")
    late = step(applied("2026-11-02T09:00"), Act.REFUSE, Who.OWNER, "2026-11-25T09:00")
    never = applied("2026-11-02T09:00")
    (found,) = report(*map(handled, (in_time, late, never)))
    assert (found.received, found.answer_rate) == (3, pytest.approx(2 / 3))
    assert (found.decided, found.on_time_rate) == (3, pytest.approx(1 / 3))
    assert (found.refused, found.overdue) == (1, 1)


def test_what_another_month_saw_does_not_count() -> None:
    october = step(applied("2026-10-12T09:00"), Act.AGREE, Who.OWNER, "2026-10-15T09:00")
    (found,) = report(handled(october))
    assert (found.received, found.answer_rate, found.on_time_rate, found.rating) == (0, None, None, None)


def test_what_the_applicant_withdrew_is_no_answer() -> None:
    withdrawn = step(applied("2026-11-02T09:00"), Act.WITHDRAW, Who.APPLICANT, "2026-11-03T09:00")
    agreed = step(applied("2026-11-02T09:00"), Act.AGREE, Who.OWNER, "2026-11-03T09:00")
    ended = step(agreed, Act.END, Who.APPLICANT, "2026-11-04T09:00")
    (found,) = report(handled(withdrawn), handled(ended))
    assert (found.received, found.decided, found.supplied) == (1, 1, 0)


def test_an_answer_that_is_not_due_yet_is_not_late() -> None:
    (found,) = report(handled(applied("2026-11-27T09:00")))
    assert (found.received, found.decided, found.overdue) == (1, 0, 0)


def test_supply_returns_disputes_and_ratings_are_counted() -> None:
    returned = step(applied("2026-11-02T09:00"), Act.RETURN, Who.OWNER, "2026-11-03T09:00", missing=["x"])
    agreed = step(returned, Act.AGREE, Who.OWNER, "2026-11-04T09:00")
    supplied = step(agreed, Act.SUPPLY, Who.OWNER, "2026-11-05T09:00")
    rated = step(
        step(supplied, Act.RATE, Who.APPLICANT, "2026-11-06T09:00", rating=1),
        Act.RATE,
        Who.APPLICANT,
        "2026-11-07T09:00",
        rating=5,
    )
    disputed = step(rated, Act.OPEN_DISPUTE, Who.APPLICANT, "2026-11-09T09:00")
    other = step(applied("2026-11-02T09:00"), Act.REFUSE, Who.OWNER, "2026-11-03T09:00")
    other = step(other, Act.RATE, Who.APPLICANT, "2026-11-04T09:00", rating=2)
    (found,) = report(handled(disputed), handled(other))
    assert (found.supplied, found.supply_rate) == (1, 1.0)
    assert (found.returned, found.disputed) == (1, 1)
    assert (found.rating, found.satisfaction) == (3.5, 0.5)


def test_departments_are_ranked_by_punctuality() -> None:
    prompt = step(applied("2026-11-02T09:00"), Act.AGREE, Who.OWNER, "2026-11-03T09:00")
    idle = step(applied("2026-10-12T09:00"), Act.AGREE, Who.OWNER, "2026-10-13T09:00")
    owners = [
        found.department
        for found in report(
            handled(applied("2026-11-02T09:00"), POPULATION), handled(idle, HOUSING), handled(prompt, HEALTH)
        )
    ]
    assert owners == [HEALTH, POPULATION, HOUSING]


def test_what_was_refused_or_not_answered_is_wanted_by_how_many() -> None:
    refused = step(applied("2026-11-02T09:00"), Act.REFUSE, Who.OWNER, "2026-11-03T09:00")
    agreed = step(applied("2026-11-02T09:00"), Act.AGREE, Who.OWNER, "2026-11-03T09:00")
    withdrawn = step(applied("2026-11-02T09:00"), Act.WITHDRAW, Who.APPLICANT, "2026-11-03T09:00")
    waiting = applied("2026-11-02T09:00")
    first, second = most_wanted(
        [
            handled(refused, applicant=HOUSING),
            handled(waiting, applicant=HEALTH, not_shared=True),
            handled(waiting, HEALTH, applicant=HOUSING),
            handled(agreed, HOUSING),
            handled(withdrawn, HOUSING),
            handled(applied("2026-10-12T09:00"), HOUSING),
        ],
        SINCE,
        UNTIL,
    )
    assert (first.dataset, first.departments, first.refused, first.unanswered) == ("population/residents", 2, 1, 1)
    assert first.not_shared
    assert (second.dataset, second.departments, second.not_shared) == ("health/residents", 1, False)
