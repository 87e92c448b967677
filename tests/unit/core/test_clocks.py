"""A clock that runs: due, extended, paused, overdue, done; and the words that people read."""

from dataclasses import replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.calendar import Calendar, Length, UncoveredYearError, Unit
from exchange.core.clocks import (
    Clock,
    ClockError,
    Escalation,
    Extension,
    Jurisdiction,
    Pause,
    Role,
    RunningClock,
    State,
    describe,
    due_at,
    read,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
HOUR, DAY = 3_600_000, 24 * 3_600_000


def clock(code: str, due_from: Role, length: Length, extension: int = 0, *, at_least: bool = False) -> Clock:
    extended = Extension(extension, Role.COORDINATOR) if extension else None
    return Clock(code, "时限", "a time limit", due_from, length, "Decree 809, art. 21", extended, at_least)


ANSWER = clock("answer", Role.PROVIDER, Length(10, Unit.WORKING_DAYS), 10)
REVIEW = clock("review", Role.COORDINATOR, Length(2, Unit.WORKING_DAYS))
CLOSE = clock("close", Role.PROVIDER, Length(90, Unit.DAYS))
SETTLE = clock("settle", Role.PROVIDER, Length(2, Unit.MONTHS))
KEEP = clock("keep", Role.REQUESTER, Length(3, Unit.YEARS), at_least=True)

CALENDAR = Calendar(
    "test",
    SHANGHAI,
    holidays=frozenset({date(2027, 1, 1)}),
    working_weekends=frozenset(),
    covers=frozenset({2026, 2027}),
    provisional=frozenset({2027}),
)
STEPS = (Escalation(0, Role.HEAD), Escalation(2, Role.COORDINATOR), Escalation(5, Role.UPPER_LEVEL))
PLACE = Jurisdiction("test", "某地", "Some Place", CALENDAR, (ANSWER, REVIEW, CLOSE, SETTLE, KEEP), STEPS)


def at(text: str) -> int:
    """A time in Shanghai; a day alone is noon."""
    full = text if "T" in text else f"{text}T12:00"
    return int(datetime.fromisoformat(full).replace(tzinfo=SHANGHAI).timestamp() * 1000)


def shown(running: RunningClock, now: str) -> str:
    return describe(read(running, PLACE, at(now)), CALENDAR)


STARTED = RunningClock(ANSWER, at("2026-11-13"))  # a Friday: due on Friday two weeks later


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("2026-11-13", "due 2026-11-27, 10 working days left"),
        ("2026-11-14", "due 2026-11-27, 10 working days left"),
        ("2026-11-16T00:00", "due 2026-11-27, 9 working days left"),
        ("2026-11-24", "due 2026-11-27, 3 working days left"),
        ("2026-11-26", "due 2026-11-27, 1 working day left"),
        ("2026-11-27T23:59:59.999", "due 2026-11-27, today"),
        ("2026-11-28T00:00", "overdue, due 2026-11-27"),
        ("2026-11-29", "overdue, due 2026-11-27"),
        ("2026-11-30T00:00", "overdue by 1 working day, due 2026-11-27"),
        ("2026-12-01", "overdue by 2 working days, due 2026-11-27"),
        ("2027-01-04", "overdue by 25 working days, due 2026-11-27; provisional: no calendar for 2027"),
    ],
)
def test_a_clock_is_shown(now: str, words: str) -> None:
    assert shown(STARTED, now) == words


@pytest.mark.parametrize(
    ("now", "left", "late", "state"),
    [
        ("2026-11-26", 1, 0, State.RUNNING),
        ("2026-11-27T23:59:59.999", 0, 0, State.RUNNING),
        ("2026-11-28T00:00", 0, 0, State.OVERDUE),
        ("2026-11-30", 0, 1, State.OVERDUE),
    ],
)
def test_days_are_left_or_late_and_never_both(now: str, left: int, late: int, state: State) -> None:
    reading = read(STARTED, PLACE, at(now))
    assert (reading.left, reading.late, reading.state) == (left, late, state)


def test_an_extension_is_counted_on_top_and_never_beyond_what_the_rule_allows() -> None:
    assert shown(replace(STARTED, extended=3), "2026-11-30") == "due 2026-12-02, 2 working days left"
    assert shown(replace(STARTED, extended=10), "2026-11-30") == "due 2026-12-11, 9 working days left"
    with pytest.raises(ClockError, match="by 10 at most, not by 11"):
        replace(STARTED, extended=11)
    with pytest.raises(ClockError, match="by 0 at most, not by 1"):
        RunningClock(REVIEW, 0, extended=1)
    with pytest.raises(ClockError):
        replace(STARTED, extended=-1)


def test_a_clock_stands_still_while_it_is_paused() -> None:
    # Wednesday to Wednesday: 2 days are spent, and neither Wednesday counts.
    paused = replace(STARTED, pauses=(Pause(at("2026-11-18")),))
    for now in ("2026-11-18", "2026-12-24", "2027-11-18", "2031-01-01"):
        assert shown(paused, now) == "paused since 2026-11-18, 8 working days left"
    assert due_at(paused, CALENDAR) is None
    assert read(paused, PLACE, at("2026-12-24")).late == 0
    resumed = replace(STARTED, pauses=(Pause(at("2026-11-18"), at("2026-11-25")),))
    assert shown(resumed, "2026-11-25") == "due 2026-12-07, 8 working days left"


def test_a_clock_can_be_paused_more_than_once() -> None:
    pauses = (Pause(at("2026-11-16"), at("2026-11-17")), Pause(at("2026-11-19"), at("2026-11-20")))
    assert shown(replace(STARTED, pauses=pauses), "2026-11-20") == "due 2026-12-03, 9 working days left"
    open_again = replace(STARTED, pauses=(*pauses, Pause(at("2026-11-24"))))
    assert shown(open_again, "2026-12-24") == "paused since 2026-11-24, 8 working days left"


def test_a_pause_on_the_last_day_leaves_that_day() -> None:
    paused = replace(STARTED, pauses=(Pause(at("2026-11-27T18:00")),))
    assert shown(paused, "2026-12-01") == "paused since 2026-11-27, 1 working day left"
    resumed = replace(STARTED, pauses=(Pause(at("2026-11-27T18:00"), at("2026-12-04")),))
    assert shown(resumed, "2026-12-05") == "due 2026-12-07, 1 working day left"


def test_a_pause_mends_nothing_that_is_overdue_already() -> None:
    paused = replace(STARTED, pauses=(Pause(at("2026-11-30")),))
    assert shown(paused, "2026-12-01") == "overdue by 2 working days, due 2026-11-27"


def test_a_pause_on_a_last_day_that_followed_a_day_of_rest_leaves_a_working_day() -> None:
    # 90 days end on Sunday 29 November, and so on Monday.
    running = RunningClock(CLOSE, at("2026-08-31"))
    assert shown(running, "2026-11-30") == "due 2026-11-30, today"
    assert shown(replace(running, pauses=(Pause(at("2026-11-30")),)), "2026-12-02").startswith(
        "paused since 2026-11-30"
    )
    resumed = replace(running, pauses=(Pause(at("2026-11-30"), at("2026-12-02")),))
    assert shown(resumed, "2026-12-02") == "due 2026-12-03, 1 day left"


def test_a_pause_at_once_leaves_all_days() -> None:
    paused = replace(STARTED, pauses=(Pause(STARTED.started + HOUR),))
    assert shown(paused, "2026-12-01") == "paused since 2026-11-13, 10 working days left"
    resumed = replace(STARTED, pauses=(Pause(STARTED.started + HOUR, STARTED.started + 2 * HOUR),))
    assert due_at(resumed, CALENDAR) == due_at(STARTED, CALENDAR)


@pytest.mark.parametrize(
    ("stopped", "state", "words"),
    [
        ("2026-11-20", State.DONE, "done 2026-11-20, in time"),
        ("2026-11-27T23:59:59.999", State.DONE, "done 2026-11-27, in time"),
        ("2026-11-28T00:00", State.DONE_LATE, "done 2026-11-28, late"),
        ("2026-12-02", State.DONE_LATE, "done 2026-12-02, 3 working days late"),
    ],
)
def test_what_is_done_stays_as_it_was_however_late_it_is_read(stopped: str, state: State, words: str) -> None:
    done = replace(STARTED, stopped=at(stopped))
    for now in (stopped, "2027-06-01", "2039-01-01"):
        assert shown(done, now) == words
    assert read(done, PLACE, at("2027-06-01")).state == state
    assert read(done, PLACE, at("2027-06-01")).escalated_to is None


def test_what_ends_while_paused_is_done_and_never_late() -> None:
    done = replace(STARTED, pauses=(Pause(at("2026-11-18")),), stopped=at("2026-12-24"))
    assert shown(done, "2027-01-01") == "done 2026-12-24, while paused"


def test_months_are_shown_in_days_and_never_paused() -> None:
    assert shown(RunningClock(SETTLE, at("2026-10-08")), "2026-12-01") == "due 2026-12-08, 7 days left"
    assert shown(RunningClock(SETTLE, at("2026-10-08")), "2026-12-10") == "overdue by 2 days, due 2026-12-08"
    assert shown(RunningClock(CLOSE, at("2026-09-01")), "2026-11-29") == "due 2026-11-30, 1 day left"
    with pytest.raises(ClockError, match="never paused"):
        RunningClock(SETTLE, 0, pauses=(Pause(1),))


def test_records_are_kept_at_least_so_long_and_are_never_overdue() -> None:
    kept = RunningClock(KEEP, at("2026-11-26"))
    assert shown(kept, "2029-11-25") == "to be kept until 2029-11-26, 1 day left"
    assert shown(kept, "2029-11-26T23:59:59.999") == "to be kept until 2029-11-26, 0 days left"
    assert shown(kept, "2029-11-27T00:00") == "was to be kept until 2029-11-26"
    assert shown(kept, "2030-01-01") == "was to be kept until 2029-11-26"
    assert read(kept, PLACE, at("2030-01-01")).state == State.OVER
    with pytest.raises(ClockError, match="nothing stops it"):
        replace(kept, stopped=at("2027-01-01"))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("2026-11-27", None),
        ("2026-11-28", Role.HEAD),
        ("2026-11-30", Role.HEAD),
        ("2026-12-01", Role.COORDINATOR),
        ("2026-12-03", Role.COORDINATOR),
        ("2026-12-04", Role.UPPER_LEVEL),
    ],
)
def test_what_is_overdue_goes_up_step_by_step(now: str, told: Role | None) -> None:
    assert read(STARTED, PLACE, at(now)).escalated_to == told


def test_nobody_is_told_of_their_own_delay_by_themselves() -> None:
    late = RunningClock(REVIEW, at("2026-11-25"))
    assert shown(late, "2026-12-02") == "overdue by 3 working days, due 2026-11-27"
    assert read(late, PLACE, at("2026-12-02")).escalated_to == Role.HEAD
    assert read(late, PLACE, at("2026-12-04")).escalated_to == Role.UPPER_LEVEL


def test_nothing_is_escalated_where_no_steps_are_set() -> None:
    assert read(STARTED, replace(PLACE, escalations=()), at("2026-12-31")).escalated_to is None


def test_december_runs_into_a_year_that_nobody_has_announced_and_says_so() -> None:
    december = RunningClock(ANSWER, at("2026-12-21"))
    assert shown(december, "2026-12-31") == "due 2027-01-05, 2 working days left; provisional: no calendar for 2027"
    announced = replace(CALENDAR, provisional=frozenset())
    assert describe(read(december, replace(PLACE, calendar=announced), at("2026-12-31")), announced) == (
        "due 2027-01-05, 2 working days left"
    )
    with pytest.raises(UncoveredYearError) as caught:
        read(RunningClock(ANSWER, at("2027-12-21")), PLACE, at("2027-12-31"))
    assert caught.value.year == 2028


@pytest.mark.parametrize(
    ("pauses", "stopped"),
    [
        ((Pause(1),), None),
        ((Pause(20, 15),), None),
        ((Pause(11), Pause(12, 13)), None),
        ((Pause(11, 13), Pause(12, 14)), None),
        ((Pause(11, 13),), 12),
        ((), 9),
    ],
)
def test_refuses_a_clock_that_cannot_have_run_like_this(pauses: tuple[Pause, ...], stopped: int | None) -> None:
    with pytest.raises(ClockError):
        RunningClock(ANSWER, 10, pauses=pauses, stopped=stopped)


def test_clocks_are_found_by_their_code() -> None:
    assert PLACE.clock("answer") is ANSWER
    with pytest.raises(ClockError, match="test has no clock answers"):
        PLACE.clock("answers")


def from_day(number: int) -> int:
    return at("2026-01-05") + number * DAY


@given(st.integers(0, 200), st.integers(0, 10), st.integers(0, 40), st.integers(0, 40), st.integers(0, 90))
def test_extending_or_pausing_is_never_due_earlier(start: int, extended: int, after: int, long: int, now: int) -> None:
    running = RunningClock(ANSWER, from_day(start))
    paused = RunningClock(
        ANSWER,
        from_day(start),
        extended,
        (Pause(from_day(start + after), from_day(start + after + long)),),
    )
    due, later = due_at(running, CALENDAR), due_at(paused, CALENDAR)
    assert due is not None
    assert later is not None
    assert due <= later
    reading = read(paused, PLACE, from_day(start + after + long + now))
    assert (reading.left == 0) or (reading.late == 0)
    assert (reading.state == State.OVERDUE) == (from_day(start + after + long + now) > later)


@given(st.integers(0, 200), st.integers(0, 13), st.integers(1, 40))
def test_days_left_at_a_pause_are_left_after_it(start: int, after: int, long: int) -> None:
    begun, ended = from_day(start + after), from_day(start + after + long)
    paused = RunningClock(ANSWER, from_day(start), pauses=(Pause(begun),))
    reading = read(paused, PLACE, ended)
    resumed = read(replace(paused, pauses=(Pause(begun, ended),)), PLACE, ended)
    if reading.state == State.PAUSED:
        assert resumed.left == reading.left > 0
    else:
        assert reading.due == resumed.due
