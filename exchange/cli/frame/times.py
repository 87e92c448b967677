"""Times between people and messages: milliseconds inside, dates and days outside."""

import time
from datetime import UTC, date, datetime
from datetime import time as clock

from exchange.cli.frame.errors import WrongUsageError

SECOND = 1000
DAY = 24 * 3600 * SECOND
YEAR = 365 * DAY

_FURTHEST = 50  # years from now for which anything can be granted
_LAST, _FIRST = "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"


def now() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000


def end_of_day(text: str, option: str) -> int:
    """The last millisecond of a day, by this machine's time zone.

    Args:
        text: YYYY-MM-DD.
        option: where it was typed, for the error.

    Raises:
        WrongUsageError: not a day, one that is over, or one too far away.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise WrongUsageError(f"{option}: not a day: {text}", "write it as YYYY-MM-DD, such as 2027-12-31") from None
    today = datetime.fromtimestamp(now() / SECOND, UTC).astimezone().date()
    if day < today:
        raise WrongUsageError(f"{option}: {text} is over", "choose a day to come")
    if day.year > today.year + _FURTHEST:
        raise WrongUsageError(f"{option}: {text} is more than {_FURTHEST} years away", "choose an earlier day")
    return int(datetime.combine(day, clock.max).timestamp() * SECOND)


def first_moment(text: str, option: str, *, end: bool = False) -> int:
    """The first millisecond of a day, or with `end` the last one, by this machine's time zone; it may be over.

    Raises:
        WrongUsageError: not a day.
    """
    try:
        day = date.fromisoformat(text)
        return int(datetime.combine(day, clock.max if end else clock.min).timestamp() * SECOND)
    except (ValueError, OverflowError, OSError):
        raise WrongUsageError(f"{option}: not a day: {text}", "write it as YYYY-MM-DD, such as 2026-12-31") from None


def day_of(moment: int) -> str:
    """The day of a time in milliseconds, by this machine's time zone: YYYY-MM-DD, whatever another party wrote."""
    try:
        return datetime.fromtimestamp(moment // SECOND, UTC).astimezone().date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "after 9999" if moment > 0 else "before 0001"


def iso(moment: int) -> str:
    """A time in milliseconds as ISO 8601 in UTC, to the second, for programs; the first or last that it can write."""
    try:
        return datetime.fromtimestamp(moment // SECOND, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return _LAST if moment > 0 else _FIRST


def days_left(until: int, moment: int) -> str:
    """How long something is still valid, in words."""
    days = (until - moment) // DAY
    if until <= moment:
        return "expired"
    return f"{days} days left" if days != 1 else "1 day left"


def age(moment: int, at: int) -> str:
    """How long ago a time was, in words."""
    seconds = max(0, at - moment) // SECOND
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} seconds ago"
