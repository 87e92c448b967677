"""The rules that come with the program: what the law says, counted over the days that were announced."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from exchange.core.calendar import UncoveredYearError
from exchange.core.clocks import Jurisdiction, Role, RunningClock, describe, read
from exchange.rules.reading import load_rules
from exchange.rules.tables import shipped_rules

NATIONAL = load_rules()
PROVINCES = ("cn-guizhou", "cn-shanghai", "cn-shanxi", "cn-zhejiang")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)


def due(jurisdiction: Jurisdiction, code: str, day: str) -> str:
    deadline = jurisdiction.calendar.deadline(at(f"{day}T09:00"), jurisdiction.clock(code).length)
    return jurisdiction.calendar.day_of(deadline).isoformat()


def test_there_are_national_rules_and_those_of_four_provinces() -> None:
    assert shipped_rules() == tuple(sorted(("cn-national", *PROVINCES)))


@pytest.mark.parametrize(
    ("code", "length", "longer", "due_from", "article"),
    [
        ("catalogue.update", "10 working days", 5, Role.PROVIDER, "17"),
        ("catalogue.review", "2 working days", 0, Role.COORDINATOR, "17"),
        ("application.answer.unconditional", "1 working day", 0, Role.PROVIDER, "21"),
        ("application.answer.conditional", "10 working days", 10, Role.PROVIDER, "21"),
        ("application.supply", "20 working days", 0, Role.PROVIDER, "22"),
        ("correction.answer", "10 working days", 0, Role.PROVIDER, "26"),
        ("use.records.retention", "3 years", 0, Role.REQUESTER, "29"),
    ],
)
def test_the_regulations_figures(code: str, length: str, longer: int, due_from: Role, article: str) -> None:
    clock = NATIONAL.clock(code)
    assert str(clock.length) == length
    assert clock.due_from == due_from
    assert clock.article == f"Decree 809, art. {article}"
    assert clock.at_least == (code == "use.records.retention")
    if longer:
        assert clock.extension is not None
        assert (clock.extension.count, clock.extension.consent) == (longer, Role.COORDINATOR)
    else:
        assert clock.extension is None


def test_figures_of_other_laws() -> None:
    lengths = {clock.code: (str(clock.length), clock.at_least) for clock in NATIONAL.clocks}
    assert lengths["network.logs.retention"] == ("6 months", True)
    assert lengths["personal-data.records.retention"] == ("3 years", True)
    assert lengths["hotline.answer"] == ("5 working days", False)


@pytest.mark.parametrize(
    ("rules", "code", "length", "longer"),
    [
        ("cn-shanxi", "application.review", "2 working days", 0),
        ("cn-shanxi", "application.answer.conditional", "5 working days", 10),
        ("cn-shanxi", "application.answer.unlisted", "10 working days", 0),
        ("cn-guizhou", "application.answer.conditional", "10 working days", 10),
        ("cn-shanghai", "catalogue.unlisted", "15 working days", 0),
        ("cn-zhejiang", "objection.answer", "5 working days", 15),
    ],
)
def test_what_provinces_change(rules: str, code: str, length: str, longer: int) -> None:
    clock = load_rules(rules).clock(code)
    assert str(clock.length) == length
    assert "Decree" not in clock.article
    assert (clock.extension.count if clock.extension is not None else 0) == longer


@pytest.mark.parametrize("rules", PROVINCES)
def test_provinces_keep_the_rest_of_the_national_rules(rules: str) -> None:
    province = load_rules(rules)
    own = {clock.code for clock in province.clocks if "Decree" not in clock.article}
    assert {clock for clock in NATIONAL.clocks if clock.code not in own} <= set(province.clocks)
    assert province.calendar.holidays == NATIONAL.calendar.holidays
    assert province.escalations == NATIONAL.escalations
    assert province.label != NATIONAL.label


def test_what_is_late_goes_to_the_head_then_the_coordinator_then_up() -> None:
    assert [step.to for step in NATIONAL.escalations] == [Role.HEAD, Role.COORDINATOR, Role.UPPER_LEVEL]


@pytest.mark.parametrize(
    ("year", "rests", "worked"),
    # How many days of rest the notice gives, and how many weekends it takes; in 2028 Mid-Autumn is on 3 October.
    [(2025, 28, 5), (2026, 33, 6), (2027, 13, 0), (2028, 12, 0)],
)
def test_each_year_has_the_days_that_its_source_gives(year: int, rests: int, worked: int) -> None:
    calendar = NATIONAL.calendar
    assert sum(day.year == year for day in calendar.holidays) == rests
    assert sum(day.year == year for day in calendar.working_weekends) == worked


@pytest.mark.parametrize("year", sorted(NATIONAL.calendar.covers))
def test_every_year_rests_on_the_days_of_the_regulation_on_public_holidays(year: int) -> None:
    for month, day in ((1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)):
        assert not NATIONAL.calendar.is_working_day(date(year, month, day))
    new_year = {2025: (1, 29), 2026: (2, 17), 2027: (2, 6), 2028: (1, 26)}[year]
    first = date(year, *new_year)
    # New Year's Eve and the first three days of the first month.
    for offset in range(-1, 3):
        assert not NATIONAL.calendar.is_working_day(first + timedelta(days=offset))


@pytest.mark.parametrize(
    ("code", "day", "expected"),
    [
        ("application.answer.conditional", "2026-02-10", "2026-03-02"),  # nine days of rest, two worked Saturdays
        ("application.answer.conditional", "2026-09-30", "2026-10-20"),
        ("application.answer.unconditional", "2026-09-19", "2026-09-20"),  # a worked Sunday
        ("catalogue.review", "2025-12-31", "2026-01-05"),  # over the year's end: Sunday 4 January is worked
        ("application.supply", "2026-04-03", "2026-05-07"),
        ("correction.answer", "2025-01-24", "2025-02-13"),
    ],
)
def test_deadlines_over_holidays_and_year_ends(code: str, day: str, expected: str) -> None:
    assert due(NATIONAL, code, day) == expected


def test_an_office_works_in_december_before_the_next_year_is_announced() -> None:
    december = RunningClock(NATIONAL.clock("application.answer.conditional"), at("2026-12-21T09:00"))
    words = describe(read(december, NATIONAL, at("2026-12-31T09:00")), NATIONAL.calendar)
    assert words == "due 2027-01-05, 2 working days left; provisional: no calendar for 2027"
    assert due(NATIONAL, "application.answer.conditional", "2027-12-21") == "2028-01-04"
    with pytest.raises(UncoveredYearError, match="names no file for 2029"):
        due(NATIONAL, "application.answer.conditional", "2028-12-21")
