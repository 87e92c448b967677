"""Checks run side by side: one that hangs or breaks holds no other up, and is said."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from exchange.client.errors import UnavailableError
from exchange.health.checks import Check, Finding, Level, OnlineCheck, examine, ok
from exchange.home import HomeError

SECRET = "110101199003074610"


def fine(name: str) -> Check:
    return Check(name, lambda: [ok(name, "fine")], "")


def test_a_check_that_hangs_holds_nothing_else_up() -> None:
    released = threading.Event()

    def hang() -> Sequence[Finding]:
        released.wait(60)
        return []

    async def hang_online() -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    checks = [
        Check("slow", hang, "wake it", 0.2),
        fine("a"),
        OnlineCheck("far", hang_online, "call it", 0.2),
        fine("b"),
    ]
    found = examine(checks)
    released.set()
    assert [finding.name for finding in found] == ["slow", "a", "far", "b"]
    assert [finding.level for finding in found] == [Level.FAIL, Level.OK, Level.FAIL, Level.OK]
    assert [finding.checked for finding in found] == [False, True, False, True]
    assert (found[0].detail, found[0].mend) == ("no answer within 0.2 s", "wake it")


def test_limits_run_side_by_side() -> None:
    """Ten checks that wait for each other all end: none waits for its turn."""
    meeting = threading.Barrier(10, timeout=30)

    def meet() -> Sequence[Finding]:
        meeting.wait()
        return [ok("met", "")]

    assert len(examine([Check(f"{number}", meet, "", 30) for number in range(10)])) == 10


@pytest.mark.parametrize(
    ("error", "detail", "mend", "checked"),
    [
        (HomeError("no key", "make one"), "no key", "make one", True),
        (UnavailableError("no broker"), "no broker", "the usual", True),
        (PermissionError(13, "Permission denied", "/keys"), "/keys: Permission denied", "the usual", True),
        # Nobody foresaw it, so nobody knows what its text holds.
        (KeyError(SECRET), "the check itself failed: KeyError", "the usual", False),
    ],
)
def test_what_a_check_raises_is_a_finding(error: Exception, detail: str, mend: str, checked: bool) -> None:
    def look() -> Sequence[Finding]:
        raise error

    async def look_online() -> Sequence[Finding]:
        raise error

    expected = Finding("a", Level.FAIL, detail, mend, checked)
    assert examine([Check("a", look, "the usual"), OnlineCheck("a", look_online, "the usual")]) == [expected] * 2
