"""How bad a clock, a version or an end is, and how a command ends for it."""

import pytest

from exchange.core.protocol import SILENT, Announcement, Version
from exchange.health.checks import Finding, Level, exit_code, fail, ok, warn
from exchange.health.files import DAY, ending
from exchange.health.network import clock, judged, skew
from exchange.transport import own_announcement


@pytest.mark.parametrize(
    ("offset", "doubt", "level"),
    [
        (0.0, 0.1, Level.OK),
        (4.9, 0.0, Level.OK),
        (-4.9, 0.0, Level.OK),
        (5.1, 0.0, Level.WARN),
        (-30.0, 1.0, Level.WARN),
        # What the network may have added is not held against a clock.
        (5.1, 1.0, Level.OK),
        (60.0, 0.0, Level.FAIL),
        (-61.0, 0.5, Level.FAIL),
        (60.2, 0.5, Level.WARN),
    ],
)
def test_a_clock_is_wrong_where_requests_would_be_refused(offset: float, doubt: float, level: Level) -> None:
    found = clock("clock b", offset, doubt)
    assert found.level is level
    assert ("behind" in found.detail) == (offset <= 0)
    assert bool(found.mend) == (level is not Level.OK)


OURS = Announcement("1.4.2", Version(1, 1), Version(1, 2))


@pytest.mark.parametrize(
    ("theirs", "level"),
    [
        (OURS, Level.OK),
        (Announcement("1.5.0", Version(1, 2), Version(1, 3)), Level.WARN),
        (Announcement("1.3.9", Version(1, 0), Version(1, 1)), Level.WARN),
        (Announcement("1.9.0", Version(1, 5), Version(1, 6)), Level.FAIL),
        (Announcement("1.2.0", Version(1, 0), Version(1, 0)), Level.FAIL),
    ],
)
def test_one_minor_version_apart_works(theirs: Announcement, level: Level) -> None:
    found = skew("version b", theirs, OURS)
    assert (found.level, bool(found.mend)) == (level, level is not Level.OK)
    assert theirs.package in found.detail


@pytest.mark.parametrize(
    ("days", "level"), [(31, Level.OK), (29, Level.WARN), (6, Level.FAIL), (0, Level.FAIL), (-1, Level.FAIL)]
)
def test_an_end_is_said_in_time(days: int, level: Level) -> None:
    found = ending("certificate", 1_800_000_000 + days * DAY, 1_800_000_000, "renew it")
    assert (found.level, found.mend) == (level, "" if level is Level.OK else "renew it")
    assert ("expired" in found.detail) == (days <= 0)


def test_what_a_broker_tells_is_judged_in_the_middle_of_the_call() -> None:
    clock, version = judged("b:1", "1800000090000", own_announcement(), 1_800_000_000.0, 0.4)
    assert (clock.name, clock.level) == ("clock b:1", Level.FAIL)
    assert "90.0 s ahead of this one, within 0.2 s" in clock.detail
    assert (version.name, version.level) == ("version b:1", Level.OK)


@pytest.mark.parametrize("time", ["", "now", "-5", "\u0661"])
def test_a_broker_that_tells_nothing_is_not_judged_by_it(time: str) -> None:
    assert judged("b:1", time, SILENT, 0.0, 0.0) == []


UNCHECKED = fail("a", "?", "look", checked=False)


@pytest.mark.parametrize(
    ("findings", "code"),
    [
        ([], 0),
        ([ok("a", ""), warn("b", "", "do it")], 0),
        ([ok("a", ""), UNCHECKED], 3),
        ([UNCHECKED, fail("b", "", "do it")], 1),
    ],
)
def test_a_failure_is_graver_than_what_could_not_be_checked(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code
