"""Hours of an agreement: their form, when they are open, and how people say them (DESIGN section 6, check 6)."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.restrictions import RestrictionError, hours_text, is_open, read_hours, zone_named
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.terms_pb2 import Hours

OFFICE: dict[str, Any] = {"zone": "Asia/Shanghai", "weekdays": [1, 2, 3, 4, 5], "opens": 510, "closes": 1050}


def hours(**changes: Any) -> Hours:
    return Hours(**(OFFICE | changes))


def test_any_hour_will_do_where_none_are_named() -> None:
    assert read_hours(Agreement()) is None


@pytest.mark.parametrize(
    "changes",
    [{}, {"weekdays": [7]}, {"weekdays": [1, 7]}, {"opens": 0, "closes": 1}, {"opens": 1439, "closes": 1440}]
    + [{"zone": zone} for zone in ("UTC", "Etc/GMT+8", "America/Argentina/Buenos_Aires", "Mars/Olympus")],
    ids=str,
)
def test_reads_hours_in_their_form_whatever_zones_there_are_here(changes: dict[str, Any]) -> None:
    assert read_hours(Agreement(hours=hours(**changes))) == hours(**changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"weekdays": days}, "weekdays") for days in ([], [0], [8], [2, 1], [1, 1])]
    + [({"opens": opens, "closes": closes}, "within one day") for opens, closes in ((0, 0), (600, 599), (1, 1441))]
    + [({"zone": zone}, "a time zone") for zone in ("", "/etc/passwd", "../UTC", "Asia/", "Asia/上海", "A" * 33)],
    ids=str,
)
def test_refuses_hours_that_are_not_in_their_form(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RestrictionError, match=reason):
        read_hours(Agreement(hours=hours(**changes)))


def test_an_unknown_zone_is_never_open() -> None:
    always = hours(zone="Mars/Olympus", weekdays=[1, 2, 3, 4, 5, 6, 7], opens=0, closes=1440)
    assert zone_named("Mars/Olympus") is None
    assert zone_named("../UTC") is None
    assert not any(is_open(always, 1_800_000_000_000 + hour * 3_600_000) for hour in range(24 * 7))


ZONES = ("UTC", "Asia/Shanghai", "Asia/Kathmandu", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe")


@given(
    now=st.integers(0, 4_000_000_000_000),
    zone=st.sampled_from(ZONES),
    days=st.sets(st.integers(1, 7), min_size=1),
    span=st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda pair: pair[0] < pair[1]),
)
def test_hours_are_open_by_the_clock_on_the_wall_there(
    now: int, zone: str, days: set[int], span: tuple[int, int]
) -> None:
    utc = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)
    wall = utc.astimezone(ZoneInfo(zone))
    expected = wall.isoweekday() in days and span[0] <= wall.hour * 60 + wall.minute < span[1]
    assert is_open(hours(zone=zone, weekdays=sorted(days), opens=span[0], closes=span[1]), now) is expected


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Mon–Fri 08:30–17:30 Asia/Shanghai"),
        ({"weekdays": [6]}, "Sat 08:30–17:30 Asia/Shanghai"),
        ({"weekdays": [1, 2, 4, 6, 7]}, "Mon–Tue, Thu, Sat–Sun 08:30–17:30 Asia/Shanghai"),
        ({"opens": 0, "closes": 1440, "zone": "UTC"}, "Mon–Fri 00:00–24:00 UTC"),
    ],
    ids=str,
)
def test_hours_are_said_as_people_say_them(changes: dict[str, Any], text: str) -> None:
    assert hours_text(hours(**changes)) == text
