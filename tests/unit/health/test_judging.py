"""How bad a clock, a version or an end is, and how a command ends for it."""

import pytest

from exchange.health.checks import Finding, Level, exit_code, fail, ok, warn
from exchange.health.files import DAY, ending
from exchange.health.network import clock, judged, skew
from exchange.metrics.gauges import build_version
from exchange.transport import RELEASE_METADATA, TIME_METADATA


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


@pytest.mark.parametrize(
    ("theirs", "level"),
    [
        ("1.4.2", Level.OK),
        ("1.4.1", Level.WARN),
        ("1.5.0", Level.WARN),
        ("1.3.9", Level.WARN),
        ("1.6.0", Level.FAIL),
        ("2.4.2", Level.FAIL),
        ("nonsense", Level.FAIL),
    ],
)
def test_one_minor_version_apart_works(theirs: str, level: Level) -> None:
    assert skew("version b", theirs, "1.4.2").level is level


def test_the_newer_version_is_the_one_to_install() -> None:
    assert skew("version b", "1.10.0", "1.9.0").mend == "install 1.10.0 on both sides"


@pytest.mark.parametrize(
    ("days", "level"), [(31, Level.OK), (29, Level.WARN), (6, Level.FAIL), (0, Level.FAIL), (-1, Level.FAIL)]
)
def test_an_end_is_said_in_time(days: int, level: Level) -> None:
    found = ending("certificate", 1_800_000_000 + days * DAY, 1_800_000_000, "renew it")
    assert (found.level, found.mend) == (level, "" if level is Level.OK else "renew it")
    assert ("expired" in found.detail) == (days <= 0)


def test_what_a_broker_tells_is_judged_in_the_middle_of_the_call() -> None:
    told = {TIME_METADATA: "1800000090000", RELEASE_METADATA: build_version()}
    clock, version = judged("b:1", told, 1_800_000_000.0, 0.4)
    assert (clock.name, clock.level) == ("clock b:1", Level.FAIL)
    assert "90.0 s ahead of this one, within 0.2 s" in clock.detail
    assert (version.name, version.level) == ("version b:1", Level.OK)


@pytest.mark.parametrize("time", ["", "now", "-5", "\u0661"])
def test_a_broker_that_does_not_tell_its_time_is_not_judged_by_it(time: str) -> None:
    assert judged("b:1", {TIME_METADATA: time}, 0.0, 0.0) == []


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
