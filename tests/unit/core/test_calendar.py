"""Working days over holidays, worked weekends, year ends, leap days, and midnights that come twice or not at all."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.calendar import (
    MAX_COUNT,
    Calendar,
    CalendarError,
    DayKind,
    Length,
    Span,
    UncoveredYearError,
    Unit,
)

DAY = timedelta(days=1)
SHANGHAI = ZoneInfo("Asia/Shanghai")
# Clocks that go forward over midnight, back over it, by half an hour, far from UTC, and that stand still.
ZONES = (
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Goose_Bay",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
    "Pacific/Marquesas",
    "UTC",
)


def days(*texts: str) -> frozenset[date]:
    return frozenset(map(date.fromisoformat, texts))


def run(first: str, last: str) -> frozenset[date]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return frozenset(start + number * DAY for number in range((end - start).days + 1))


NATIONAL_DAY = Calendar(
    "test",
    SHANGHAI,
    holidays=run("2026-10-01", "2026-10-07") | days("2027-01-01"),
    working_weekends=days("2026-09-20", "2026-10-10"),
    covers=frozenset({2026, 2027}),
    provisional=frozenset({2027}),
)


def moment(text: str, zone: ZoneInfo = SHANGHAI) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def working_days(count: int) -> Length:
    return Length(count, Unit.WORKING_DAYS)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    years = range(2024, 2027)
    all_days = st.dates(date(years[0], 1, 1), date(years[-1], 12, 31))
    holidays = draw(st.frozensets(all_days, max_size=30))
    weekends = draw(st.frozensets(all_days.filter(lambda day: day.weekday() >= 5), max_size=10))
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    return Calendar("drawn", zone, holidays, weekends - holidays, frozenset(years))


# From the middle of 2024 on, so that 60 counted days stay within the covered years.
moments = st.integers(
    int(datetime(2024, 1, 3, tzinfo=UTC).timestamp()) * 1000, int(datetime(2026, 6, 1, tzinfo=UTC).timestamp()) * 1000
)
lengths = st.builds(Length, st.integers(1, 60), st.sampled_from((Unit.WORKING_DAYS, Unit.DAYS)))


@pytest.mark.parametrize(
    ("start", "count", "due"),
    [
        ("2026-09-18T09:00", 1, "2026-09-20"),  # Sunday, worked
        ("2026-09-19T09:00", 1, "2026-09-20"),  # from a Saturday on
        ("2026-09-30T23:59", 1, "2026-10-08"),
        ("2026-10-01T00:00", 1, "2026-10-08"),  # from a holiday on
        ("2026-10-08T12:00", 2, "2026-10-10"),  # Saturday, worked
        ("2026-10-09T12:00", 2, "2026-10-12"),
        ("2026-12-31T12:00", 1, "2027-01-04"),  # over the year's end, a holiday and a weekend
        ("2026-12-18T12:00", 20, "2027-01-18"),
    ],
)
def test_counts_working_days_from_the_day_after_the_event(start: str, count: int, due: str) -> None:
    deadline = NATIONAL_DAY.deadline(moment(start), working_days(count))
    assert deadline == moment(f"{due}T23:59:59.999")
    assert NATIONAL_DAY.between(moment(start), deadline) == count


def test_the_day_is_that_of_the_calendars_zone() -> None:
    late = int(datetime(2026, 11, 26, 16, 30, tzinfo=UTC).timestamp() * 1000)
    assert NATIONAL_DAY.day_of(late) == date(2026, 11, 27)
    assert NATIONAL_DAY.day_of(NATIONAL_DAY.deadline(late, working_days(1))) == date(2026, 11, 30)
    in_berlin = replace(NATIONAL_DAY, zone=ZoneInfo("Europe/Berlin"))
    assert in_berlin.day_of(in_berlin.deadline(late, working_days(1))) == date(2026, 11, 27)


def test_says_why_a_day_counts_or_not() -> None:
    kinds = {"2026-10-09": "working day", "2026-10-10": "working weekend", "2026-10-11": "weekend"}
    kinds |= {"2026-10-03": "holiday", "2026-10-05": "holiday"}
    for day, kind in kinds.items():
        assert NATIONAL_DAY.kind(date.fromisoformat(day)) == DayKind(kind)
        assert NATIONAL_DAY.is_working_day(date.fromisoformat(day)) == kind.startswith("working")


@pytest.mark.parametrize(
    ("start", "length", "due"),
    [
        # What would end on a day of rest ends on the first working day after it (Civil Code, art. 203).
        ("2026-09-21", Length(10, Unit.DAYS), "2026-10-08"),
        ("2026-09-01", Length(1, Unit.MONTHS), "2026-10-08"),
        ("2026-11-26", Length(1, Unit.DAYS), "2026-11-27"),
        ("2026-11-26", Length(2, Unit.DAYS), "2026-11-30"),
        # The day of the same number, or the month's last (art. 202).
        ("2026-08-31", Length(1, Unit.MONTHS), "2026-09-30"),
        ("2026-01-31", Length(1, Unit.MONTHS), "2026-03-02"),
        ("2026-12-15", Length(12, Unit.MONTHS), "2027-12-15"),
        ("2026-11-26", Length(1, Unit.YEARS), "2027-11-26"),
    ],
)
def test_counts_days_months_and_years(start: str, length: Length, due: str) -> None:
    assert NATIONAL_DAY.last_day(date.fromisoformat(start), length) == date.fromisoformat(due)


@pytest.mark.parametrize(
    ("start", "length", "until"),
    [
        ("2024-02-29", Length(1, Unit.YEARS), "2025-02-28"),
        ("2024-02-29", Length(4, Unit.YEARS), "2028-02-29"),
        ("2023-08-31", Length(6, Unit.MONTHS), "2024-02-29"),
        ("2023-12-31", Length(2, Unit.MONTHS), "2024-02-29"),
        ("2026-11-30", Length(3, Unit.MONTHS), "2027-02-28"),
        ("2026-11-28", Length(1, Unit.MONTHS), "2026-12-28"),
        ("2026-11-26", Length(3, Unit.YEARS), "2029-11-26"),
        ("2026-11-26", Length(1000, Unit.YEARS), "3026-11-26"),
    ],
)
def test_what_is_kept_for_months_or_years_needs_no_calendar(start: str, length: Length, until: str) -> None:
    assert NATIONAL_DAY.last_day(date.fromisoformat(start), length, rests=False) == date.fromisoformat(until)


@pytest.mark.parametrize("length", [working_days(270), Length(500, Unit.DAYS), Length(3, Unit.YEARS)])
def test_a_year_without_a_calendar_is_named_and_never_guessed(length: Length) -> None:
    with pytest.raises(UncoveredYearError, match=r"^test: calendar\.years names no file for 20\d\d$") as caught:
        NATIONAL_DAY.deadline(moment("2026-12-20T00:00"), length)
    assert caught.value.year in {2028, 2029}
    with pytest.raises(UncoveredYearError, match="2025"):
        NATIONAL_DAY.between(moment("2025-12-20T00:00"), moment("2026-01-09T00:00"))
    with pytest.raises(UncoveredYearError, match="1999"):
        NATIONAL_DAY.is_working_day(date(1999, 1, 4))
    with pytest.raises(UncoveredYearError, match="1999"):
        NATIONAL_DAY.kind(date(1999, 1, 4))


@pytest.mark.parametrize(
    ("start", "end", "unit", "number"),
    [
        ("2026-09-30", "2026-09-30", Unit.WORKING_DAYS, 0),
        ("2026-09-30", "2026-10-10", Unit.WORKING_DAYS, 3),
        ("2026-10-10", "2026-09-30", Unit.WORKING_DAYS, -3),
        ("2026-09-30", "2026-10-10", Unit.DAYS, 10),
        ("2026-10-10", "2026-09-30", Unit.DAYS, -10),
    ],
)
def test_counts_the_days_between_two_times(start: str, end: str, unit: Unit, number: int) -> None:
    assert NATIONAL_DAY.between(moment(f"{start}T12:00"), moment(f"{end}T12:00"), unit) == number


@pytest.mark.parametrize(
    ("first", "last", "due", "all_due"),
    [
        ("2026-11-16", "2026-11-17", "2026-11-20", "2026-11-18"),  # no deadline on a skipped day either
        ("2026-11-17", "2026-11-17", "2026-11-19", "2026-11-16"),
        ("2026-11-14", "2026-11-15", "2026-11-18", "2026-11-17"),
        ("2026-11-19", "2026-11-30", "2026-11-18", "2026-11-16"),
        ("2026-11-01", "2026-11-13", "2026-11-18", "2026-11-16"),
    ],
)
def test_days_that_are_skipped_do_not_count(first: str, last: str, due: str, all_due: str) -> None:
    start, span = date(2026, 11, 13), Span(date.fromisoformat(first), date.fromisoformat(last))
    assert NATIONAL_DAY.last_day(start, working_days(3), (span,)) == date.fromisoformat(due)
    assert NATIONAL_DAY.counted(start, date.fromisoformat(due), Unit.WORKING_DAYS, (span,)) == 3
    assert NATIONAL_DAY.last_day(start, Length(2, Unit.DAYS), (span,)) == date.fromisoformat(all_due)
    assert NATIONAL_DAY.counted(start, start + 10 * DAY, Unit.DAYS, (span,)) == 10 - sum(
        start + number * DAY in span for number in range(1, 11)
    )


def test_tells_which_years_are_provisional() -> None:
    assert NATIONAL_DAY.provisional_years(date(2026, 1, 1), date(2026, 12, 31)) == ()
    assert NATIONAL_DAY.provisional_years(date(2026, 12, 31), date(2027, 1, 1)) == (2027,)


@pytest.mark.parametrize(
    ("zone", "day", "ends"),
    [
        ("Asia/Shanghai", "2026-11-26", "2026-11-26T16:00:00"),
        ("Europe/Berlin", "2026-03-29", "2026-03-29T22:00:00"),  # 23 hours long
        ("Europe/Berlin", "2026-10-25", "2026-10-25T23:00:00"),  # 25 hours long
        ("America/Sao_Paulo", "2018-11-03", "2018-11-04T03:00:00"),  # the 4th began at 01:00
        ("America/Sao_Paulo", "2018-02-17", "2018-02-18T03:00:00"),  # 23:00 to 24:00 came twice
        ("America/Havana", "2025-11-01", "2025-11-02T04:00:00"),  # 00:00 to 01:00 of the 2nd came twice
        ("America/Goose_Bay", "2010-11-06", "2010-11-07T04:00:00"),  # 00:01 of the 7th was 23:01 of the 6th again
        ("America/Toronto", "1919-03-30", "1919-03-31T04:30:00"),  # 23:30 of the 30th was 00:30 of the 31st
        ("Pacific/Apia", "2011-12-29", "2011-12-30T10:00:00"),  # the 30th was left out
    ],
)
def test_a_day_ends_where_the_next_begins_whatever_the_clocks_do(zone: str, day: str, ends: str) -> None:
    calendar = replace(NATIONAL_DAY, zone=ZoneInfo(zone))
    end = calendar.end_of(date.fromisoformat(day))
    assert datetime.fromtimestamp((end + 1) // 1000, UTC).isoformat() == f"{ends}+00:00"
    assert (end + 1) % 1000 == 0
    assert calendar.day_of(end) == date.fromisoformat(day)
    assert calendar.day_of(end + 1) > date.fromisoformat(day)


@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2037, 12, 30)))
def test_days_follow_each_other_without_a_gap_in_every_zone(zone: str, day: date) -> None:
    calendar = replace(NATIONAL_DAY, zone=ZoneInfo(zone))
    end, following = calendar.end_of(day), calendar.end_of(day + DAY)
    assert end < following or zone == "Pacific/Kiritimati"  # which left out 1 January 1995
    assert end <= following
    assert calendar.day_of(end) <= day < calendar.day_of(end + 1)


@given(calendars(), moments, lengths)
def test_a_deadline_is_the_end_of_a_working_day_after_the_event(calendar: Calendar, start: int, length: Length) -> None:
    deadline = calendar.deadline(start, length)
    assert deadline > start
    assert deadline == calendar.end_of(calendar.day_of(deadline))
    assert calendar.is_working_day(calendar.day_of(deadline))


@given(calendars(), moments, lengths, st.integers(0, 10**9))
def test_a_later_event_is_never_due_earlier(calendar: Calendar, start: int, length: Length, later: int) -> None:
    assert calendar.deadline(start, length) <= calendar.deadline(start + later, length)


@given(calendars(), moments, st.integers(1, 59))
def test_one_more_working_day_is_later(calendar: Calendar, start: int, count: int) -> None:
    assert calendar.deadline(start, working_days(count)) < calendar.deadline(start, working_days(count + 1))


@given(calendars(), moments, lengths, st.integers(1, 100))
def test_one_more_holiday_never_makes_a_deadline_earlier(
    calendar: Calendar, start: int, length: Length, after: int
) -> None:
    holiday = calendar.day_of(start) + after * DAY
    more = replace(
        calendar, holidays=calendar.holidays | {holiday}, working_weekends=calendar.working_weekends - {holiday}
    )
    assert calendar.deadline(start, length) <= more.deadline(start, length)


@given(calendars(), moments, st.integers(1, 60))
def test_counting_back_what_was_counted_gives_the_same_number(calendar: Calendar, start: int, count: int) -> None:
    deadline = calendar.deadline(start, working_days(count))
    assert calendar.between(start, deadline) == count
    assert calendar.between(deadline, start) == -count
    assert calendar.between(start, calendar.end_of(calendar.day_of(deadline) - DAY)) == count - 1


@given(calendars(), moments, moments, moments)
def test_working_days_between_times_add_up(calendar: Calendar, a: int, b: int, c: int) -> None:
    a, b, c = sorted((a, b, c))
    assert calendar.between(a, b) + calendar.between(b, c) == calendar.between(a, c)
    assert calendar.between(a, c, Unit.DAYS) >= calendar.between(a, c) >= 0


@given(calendars(), moments, lengths, st.integers(0, 30), st.integers(0, 30))
def test_days_that_are_skipped_never_make_a_deadline_earlier(
    calendar: Calendar, start: int, length: Length, after: int, long: int
) -> None:
    first = calendar.day_of(start) + after * DAY
    span = Span(first, first + long * DAY)
    skipping = calendar.last_day(calendar.day_of(start), length, (span,))
    assert calendar.last_day(calendar.day_of(start), length) <= skipping
    counted = calendar.counted(calendar.day_of(start), skipping, length.unit, (span,))
    # A number of days that ends on a day of rest goes on to a working day.
    assert counted == length.count if length.unit == Unit.WORKING_DAYS else counted >= length.count


@pytest.mark.parametrize(
    "changed",
    [
        {"working_weekends": days("2026-11-26")},
        {"working_weekends": days("2026-10-03")},
        {"holidays": days("2025-01-01")},
        {"working_weekends": days("2028-01-01")},
        {"provisional": frozenset({2028})},
        {"covers": frozenset({2026, 2027, 9999})},
        {"covers": frozenset({2026, 2027, 0})},
    ],
)
def test_refuses_a_calendar_that_contradicts_itself(changed: dict[str, frozenset[int]]) -> None:
    with pytest.raises(CalendarError):
        replace(NATIONAL_DAY, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("far", [date(1, 12, 31), date(9999, 1, 1), date.max])
def test_refuses_days_whose_end_cannot_be_written(far: date) -> None:
    with pytest.raises(CalendarError, match="is too far away"):
        NATIONAL_DAY.end_of(far)
    assert NATIONAL_DAY.end_of(date(9998, 12, 31)) > NATIONAL_DAY.end_of(date(2, 1, 1))


def test_a_calendar_may_be_provisional_throughout() -> None:
    assert replace(NATIONAL_DAY, provisional=frozenset({2026, 2027})).provisional == {2026, 2027}
    assert replace(NATIONAL_DAY, covers=frozenset({1, 2026, 2027, 9998})).covers == {1, 2026, 2027, 9998}


@pytest.mark.parametrize("far", [10**15, -(10**15), 10**30, 253402300799999])
def test_refuses_times_that_no_calendar_has(far: int) -> None:
    for length in (working_days(1), Length(1, Unit.YEARS)):
        with pytest.raises(CalendarError):
            NATIONAL_DAY.deadline(far, length, rests=False)


@pytest.mark.parametrize("length", [Length(MAX_COUNT, Unit.YEARS), Length(MAX_COUNT, Unit.MONTHS)])
def test_refuses_lengths_that_end_beyond_every_calendar(length: Length) -> None:
    with pytest.raises(CalendarError):
        NATIONAL_DAY.deadline(moment("9900-01-01T00:00"), length, rests=False)


@pytest.mark.parametrize("count", [0, -1, MAX_COUNT + 1])
def test_refuses_lengths_that_cannot_be_meant(count: int) -> None:
    with pytest.raises(CalendarError):
        working_days(count)


def test_lengths_are_written_out() -> None:
    assert str(Length(1, Unit.WORKING_DAYS)) == "1 working day"
    assert str(Length(20, Unit.WORKING_DAYS)) == "20 working days"
    assert str(Length(3, Unit.YEARS)) == "3 years"
