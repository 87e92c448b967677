"""When an application is due, across holidays, year ends and zones, by the shipped rules."""

from datetime import datetime, timedelta, timezone

import pytest

from exchange.core.case import Case, Event
from exchange.core.case_moves import begin, perform
from exchange.core.clocks import Role, State
from exchange.core.due import dues, waiting
from exchange.core.names import Party
from exchange.core.procedure import Act, Timer, Who
from exchange.rules.reading import load_rules, rules_digest
from exchange.v1.procedure_pb2 import Step

NATIONAL = load_rules("cn-national")
HOUSING, POPULATION = Party("city.example", "housing"), Party("city.example", "population")
CONDITIONAL, UNCONDITIONAL = "application.answer.conditional", "application.answer.unconditional"
CHINA = timezone(timedelta(hours=8))


def at(text: str) -> int:
    """A time of Shanghai, unless it names another offset; milliseconds."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=CHINA)).timestamp() * 1000)


def applied(text: str, clock: str = CONDITIONAL) -> Case:
    return begin(Event(Act.APPLY, HOUSING, Who.APPLICANT, 0, at(text), bytes(32), clock=clock))


def step(case: Case, act: Act, who: Who, text: str, **fields: object) -> Case:
    said = Step(**{"digest": bytes(32), "text": "because", **fields})
    return perform(case, Event(act, HOUSING, who, 1, at(text), bytes(32), step=said, clock=CONDITIONAL))


def due_day(case: Case, now: str) -> str:
    (due,) = [due for due in dues(case, NATIONAL, at(now)) if due.run.stopped is None]
    assert due.reading.due is not None
    return str(NATIONAL.calendar.day_of(due.reading.due))


@pytest.mark.parametrize(
    ("submitted", "clock", "due"),
    [
        ("2026-11-26T09:00", CONDITIONAL, "2026-12-10"),
        ("2026-11-26T09:00", UNCONDITIONAL, "2026-11-27"),
        # Fridays: the weekend does not count.
        ("2026-11-27T17:59", UNCONDITIONAL, "2026-11-30"),
        # Before the spring festival, whose Saturday the 14th is worked.
        ("2026-02-13T09:00", UNCONDITIONAL, "2026-02-14"),
        ("2026-02-14T09:00", UNCONDITIONAL, "2026-02-24"),
        # Over National Day: the 10th of October, a Saturday, is worked.
        ("2026-09-30T09:00", CONDITIONAL, "2026-10-20"),
        # Over the end of the year.
        ("2025-12-31T09:00", UNCONDITIONAL, "2026-01-04"),
        ("2025-12-26T09:00", CONDITIONAL, "2026-01-12"),
        # One moment, two days: it is the 27th in Shanghai already.
        ("2026-11-26T16:30+00:00", UNCONDITIONAL, "2026-11-30"),
        ("2026-11-26T15:30+00:00", UNCONDITIONAL, "2026-11-27"),
    ],
)
def test_an_answer_is_due_on_the_day_that_the_law_counts_out(submitted: str, clock: str, due: str) -> None:
    assert due_day(applied(submitted, clock), submitted) == due


def test_the_coordinators_extension_gives_ten_days_more() -> None:
    case = step(applied("2026-11-26T09:00"), Act.EXTEND, Who.COORDINATOR, "2026-12-09T09:00", clock=CONDITIONAL)
    assert due_day(case, "2026-12-09T09:00") == "2026-12-24"


def test_an_extension_that_the_law_does_not_know_gives_nothing() -> None:
    case = step(
        applied("2026-11-26T09:00", UNCONDITIONAL), Act.EXTEND, Who.COORDINATOR, "2026-11-26T10:00", clock=UNCONDITIONAL
    )
    assert due_day(case, "2026-11-26T10:00") == "2026-11-27"


def test_days_while_an_application_is_returned_do_not_count() -> None:
    case = step(applied("2026-11-26T09:00"), Act.RETURN, Who.OWNER, "2026-11-30T09:00", missing=["a paper"])
    (paused,) = dues(case, NATIONAL, at("2026-12-03T09:00"))
    assert paused.reading.state == State.PAUSED
    again = step(case, Act.SUBMIT, Who.APPLICANT, "2026-12-07T09:00")
    # One day was spent before the return, on the 27th; nine are left from the 8th on.
    assert due_day(again, "2026-12-07T09:00") == "2026-12-18"


def test_supply_is_due_twenty_working_days_after_the_agreement() -> None:
    case = step(applied("2026-11-26T09:00"), Act.AGREE, Who.OWNER, "2026-11-27T09:00")
    answer, supply = dues(case, NATIONAL, at("2026-11-30T09:00"))
    assert (answer.reading.state, supply.run.timer) == (State.DONE, Timer.SUPPLY)
    assert due_day(case, "2026-11-30T09:00") == "2026-12-25"


def test_who_is_waited_for_and_who_hears_of_what_is_late() -> None:
    case = applied("2026-11-26T09:00", UNCONDITIONAL)
    (wait,) = waiting(case, NATIONAL, at("2026-12-01T09:00"))
    assert wait.due is not None
    assert wait.option.who == (Who.OWNER,)
    assert (wait.due.reading.state, wait.due.reading.late) == (State.OVERDUE, 2)
    assert wait.due.reading.escalated_to == Role.COORDINATOR


def test_a_clock_that_the_rules_do_not_have_is_left_out() -> None:
    case = applied("2026-11-26T09:00", "application.answer.unheard-of")
    assert dues(case, NATIONAL, at("2026-11-26T09:00")) == ()
    (wait,) = waiting(case, NATIONAL, at("2026-11-26T09:00"))
    assert wait.due is None


def test_rules_have_one_digest_with_all_that_they_extend() -> None:
    digests = {rules_digest(name) for name in ("cn-national", "cn-shanxi", "cn-guizhou")}
    assert len(digests) == 3
    assert rules_digest("cn-national") == rules_digest()
