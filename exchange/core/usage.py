"""How much of an agreement was used: what its limits are compared with (DESIGN section 6, check 8)."""

from collections.abc import Iterable

from exchange.core.decision import Usage

MINUTE = 60_000
DAY = 86_400_000


def day_of(now: int) -> int:
    """When the day of UTC began that a time lies in; both in milliseconds."""
    return now - now % DAY


def usage_of(times: Iterable[int], now: int) -> Usage:
    """What answers add up to.

    Args:
        times: when each was given, in any order, milliseconds; one that lies ahead of `now` counts as well.
        now: milliseconds.
    """
    minute = day = total = 0
    for time in times:
        minute += time > now - MINUTE
        day += time >= day_of(now)
        total += 1
    return Usage(minute, day, total)
