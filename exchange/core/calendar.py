"""Working days: which days count, and when a time that is counted in days, months or years is up.

Days are counted as the Civil Code of China counts them: the day of the event does not count (art. 201); months and
years end on the day of the same number, or on the month's last where it has none (art. 202); what would end on a day of
rest ends on the first working day after it, and a day ends at 24:00 (art. 203).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from exchange.core.errors import CoreError

MAX_COUNT = 9999
"""The longest time that can be counted, in any unit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)
_SATURDAY = 5
_MONTHS = 12
# A day beyond has an end that `datetime` cannot write in every zone.
_LAST_YEAR = 9998


class CalendarError(CoreError):
    """A calendar contradicts itself, or a time cannot be counted by it."""


class UncoveredYearError(CalendarError):
    """A calendar does not say which days of a year are working days, and nobody guesses.

    Args:
        calendar: its name; year: the one that its file lacks.
    """

    def __init__(self, calendar: str, year: int) -> None:
        super().__init__(f"{calendar}: calendar.years names no file for {year}")
        self.year = year


class Unit(StrEnum):
    """What a time is counted in."""

    WORKING_DAYS = "working days"
    DAYS = "days"
    MONTHS = "months"
    YEARS = "years"

    @property
    def is_days(self) -> bool:
        """Whether single days are counted, so that some can be left out."""
        return self in {Unit.WORKING_DAYS, Unit.DAYS}


class DayKind(StrEnum):
    """Why a day is a working day, or is not."""

    WORKDAY = "working day"
    WORKING_WEEKEND = "working weekend"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"


@dataclass(frozen=True, slots=True)
class Length:
    """How long a time is.

    Args:
        count: 1 to `MAX_COUNT`; unit: what of.

    Raises:
        CalendarError: the count is out of range.
    """

    count: int
    unit: Unit

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise CalendarError(f"a time is 1 to {MAX_COUNT} {self.unit} long, not {self.count}")

    def __str__(self) -> str:
        return counted_out(self.count, self.unit)


@dataclass(frozen=True, slots=True)
class Span:
    """Days in a row, the first and the last included."""

    first: date
    last: date

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Calendar:
    """The working days of one place.

    Args:
        name: for errors.
        zone: of the place; its days are the calendar's.
        holidays: days of rest, weekends among them or not.
        working_weekends: Saturdays and Sundays that are worked, in exchange for a holiday.
        covers: the years of which all that is known.
        provisional: those among them that nobody has announced yet.

    Raises:
        CalendarError: these contradict each other.
    """

    name: str
    zone: tzinfo
    holidays: frozenset[date]
    working_weekends: frozenset[date]
    covers: frozenset[int]
    provisional: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for day in self.working_weekends:
            if day.weekday() < _SATURDAY or day in self.holidays:
                raise CalendarError(f"{self.name}: {day} is no weekend that can be worked")
        for day in self.holidays | self.working_weekends:
            if day.year not in self.covers:
                raise CalendarError(f"{self.name}: {day} is in a year that is not covered")
        if not self.provisional <= self.covers or any(not 0 < year <= _LAST_YEAR for year in self.covers):
            raise CalendarError(f"{self.name}: its years are 1 to {_LAST_YEAR}, and cover the provisional ones")

    def kind(self, day: date) -> DayKind:
        """What sort of day this is.

        Raises:
            UncoveredYearError: the calendar does not know.
        """
        if day.year not in self.covers:
            raise UncoveredYearError(self.name, day.year)
        if day in self.holidays:
            return DayKind.HOLIDAY
        if day.weekday() < _SATURDAY:
            return DayKind.WORKDAY
        return DayKind.WORKING_WEEKEND if day in self.working_weekends else DayKind.WEEKEND

    def is_working_day(self, day: date) -> bool:
        """Whether offices work on a day.

        Raises:
            UncoveredYearError: the calendar does not know.
        """
        if day.year not in self.covers:
            raise UncoveredYearError(self.name, day.year)
        return day not in self.holidays and (day.weekday() < _SATURDAY or day in self.working_weekends)

    def day_of(self, moment: int) -> date:
        """The day, in the calendar's zone, of a time in milliseconds.

        Raises:
            CalendarError: it is too far away to have one.
        """
        try:
            return (_EPOCH + moment * _MILLISECOND).astimezone(self.zone).date()
        except (OverflowError, ValueError):
            raise CalendarError(f"{self.name}: {moment} ms is no time of a calendar") from None

    def end_of(self, day: date) -> int:
        """The last millisecond of a day in the calendar's zone, whatever the clocks do at that midnight.

        Raises:
            CalendarError: it is too far away to have one.
        """
        if not 1 < day.year <= _LAST_YEAR:
            raise CalendarError(f"{self.name}: {day} is too far away")
        midnight = datetime.combine(day + _DAY, time(), self.zone)
        before, after = ((midnight.replace(fold=fold) - _EPOCH) // _MILLISECOND for fold in (0, 1))
        if before < after:
            # Midnight comes twice. Only where the clocks went back over it is it this day again before the second.
            return (after if self.day_of(after - 1) <= day else before) - 1
        # No midnight, where the clocks go forward over it: find the moment at which they do.
        while after < before:
            middle = (after + before) // 2
            after, before = (middle + 1, before) if self.day_of(middle) <= day else (after, middle)
        return before - 1

    def days(self, start: date, end: date) -> Iterator[date]:
        """The days after one, up to another and with it."""
        for number in range(1, (end - start).days + 1):
            yield start + number * _DAY

    def counted(self, start: date, end: date, unit: Unit, skipped: Sequence[Span] = ()) -> int:
        """How many days count between two days; fewer than none where the second is the earlier.

        Args:
            start: which does not count; end: which does.
            unit: working days; anything else counts every day.
            skipped: days that do not count.

        Raises:
            UncoveredYearError: a year between them has no calendar.
        """
        if end < start:
            return -self.counted(end, start, unit, skipped)
        if unit != Unit.WORKING_DAYS and not skipped:
            return (end - start).days
        return sum(self._counts(day, unit, skipped) for day in self.days(start, end))

    def between(self, start: int, end: int, unit: Unit = Unit.WORKING_DAYS) -> int:
        """How many days count between two times, as `counted` has it.

        Args:
            start, end: milliseconds.

        Raises:
            UncoveredYearError: a year between them has no calendar.
            CalendarError: a time is too far away.
        """
        return self.counted(self.day_of(start), self.day_of(end), unit)

    def last_day(self, start: date, length: Length, skipped: Sequence[Span] = (), *, rests: bool = True) -> date:
        """The day on which a time is up.

        Args:
            start: the day of the event, which does not count.
            skipped: days that do not count, where the length is in days.
            rests: whether a time that would end on a day of rest goes on to a working day (Civil Code, art. 203): so
                for what has to be done in time, and not for what has to be kept for a time.

        Raises:
            UncoveredYearError: a year that it runs into has no calendar.
            CalendarError: it is too far away.
        """
        try:
            if length.unit.is_days:
                day = self._nth(start, length, skipped)
            else:
                day = _months_later(start, length.count * (_MONTHS if length.unit == Unit.YEARS else 1))
            while rests and not self._counts(day, Unit.WORKING_DAYS, skipped):
                day += _DAY
        except (OverflowError, ValueError) as error:
            if isinstance(error, CalendarError):
                raise
            raise CalendarError(f"{self.name}: {length} after {start} is too far away") from None
        return day

    def deadline(self, moment: int, length: Length, skipped: Sequence[Span] = (), *, rests: bool = True) -> int:
        """When a time is up that starts with an event: the last millisecond of `last_day`.

        Args:
            moment: of the event, milliseconds.

        Raises:
            UncoveredYearError: a year that it runs into has no calendar.
            CalendarError: it is too far away.
        """
        return self.end_of(self.last_day(self.day_of(moment), length, skipped, rests=rests))

    def provisional_years(self, start: date, end: date) -> tuple[int, ...]:
        """The years from one day to another that nobody has announced yet, in order."""
        return tuple(year for year in range(start.year, end.year + 1) if year in self.provisional)

    def _counts(self, day: date, unit: Unit, skipped: Sequence[Span]) -> bool:
        if skipped and any(day in span for span in skipped):
            return False
        return unit != Unit.WORKING_DAYS or self.is_working_day(day)

    def _nth(self, start: date, length: Length, skipped: Sequence[Span]) -> date:
        day, left = start, length.count
        # It ends: working days lie in covered years, and there is a last day to count.
        while left:
            day += _DAY
            left -= self._counts(day, length.unit, skipped)
        return day


def counted_out(count: int, unit: Unit) -> str:
    """A number of days, months or years in words: `1 working day`, `20 working days`."""
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * _MONTHS + day.month - 1 + months, _MONTHS)
    following = date(year + (month + 1) // _MONTHS, (month + 1) % _MONTHS + 1, 1)
    return min(date(year, month + 1, 1) + (day.day - 1) * _DAY, following - _DAY)
