"""How much of an agreement was used: what its limits are compared with (DESIGN section 6, check 8)."""

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Tally:
    """A count of answers that come in the order of their times; it holds those of the last minute, and no others.

    Args:
        total: all of them.
        day: when the day of UTC began that the last one lies in; in_day: how many lie in it.
        recent: times of those within a minute of the last one.
    """

    total: int = 0
    day: int = 0
    in_day: int = 0
    recent: tuple[int, ...] = ()

    def counted(self, time: int) -> "Tally":
        """One answer more, at or after the last one; milliseconds."""
        day = day_of(time)
        recent = tuple(other for other in self.recent if other > time - MINUTE)
        return Tally(self.total + 1, day, 1 + (self.in_day if day == self.day else 0), (*recent, time))

    def usage(self, now: int) -> Usage:
        """What was used at a time, which is not before the last answer's; milliseconds."""
        minute = sum(time > now - MINUTE for time in self.recent)
        return Usage(minute, self.in_day if day_of(now) == self.day else 0, self.total)
