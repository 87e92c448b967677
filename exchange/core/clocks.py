"""Clocks: how long each step may take by the law of a place, and how a clock that runs stands now.

Everything is derived from the times of entries, a jurisdiction and `now`: whoever has the same three reads the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from exchange.core.calendar import Calendar, Length, Span, Unit, counted_out
from exchange.core.errors import CoreError


class ClockError(CoreError):
    """There is no such clock, or it cannot have run like this."""


class Role(StrEnum):
    """Who has to act, to consent, or to be told."""

    REQUESTER = "requester"
    PROVIDER = "provider"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    HEAD = "head"
    """The head of the department that is late."""
    UPPER_LEVEL = "upper-level"
    """The government, or the coordinator, of the level above."""


@dataclass(frozen=True, slots=True)
class Extension:
    """By how much a clock can be extended.

    Args:
        count: at most, in the clock's unit; consent: whose.
    """

    count: int
    consent: Role


@dataclass(frozen=True, slots=True)
class Clock:
    """A time that a rule sets.

    Args:
        code: dotted, such as `application.answer.conditional`.
        label, label_en: what has to be done, in Chinese and in English.
        due_from: who has to.
        length: how long it may take; where `at_least`, how long it must go on.
        article: the rule that says so.
        extension: None where there is none.
        at_least: something is kept that long: nothing is ever overdue.
    """

    code: str
    label: str
    label_en: str
    due_from: Role
    length: Length
    article: str
    extension: Extension | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who hears of what is overdue.

    Args:
        after: working days since it was due; to: whom it goes to then.
    """

    after: int
    to: Role


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """The clocks of one place, and its calendar.

    Args:
        name: of its file; label, label_en: of the place.
        clocks: by code, in order.
        escalations: the shortest `after` first.
    """

    name: str
    label: str
    label_en: str
    calendar: Calendar
    clocks: tuple[Clock, ...]
    escalations: tuple[Escalation, ...] = ()

    def clock(self, code: str) -> Clock:
        """A clock by its code.

        Raises:
            ClockError: there is none.
        """
        found = next((clock for clock in self.clocks if clock.code == code), None)
        if found is None:
            raise ClockError(f"{self.name} has no clock {code}")
        return found


@dataclass(frozen=True, slots=True)
class Pause:
    """Days on which a clock stands still, such as those while an application is returned for missing papers.

    Neither the day of the event that begins it counts, nor that of the one that ends it (Civil Code, art. 201).

    Args:
        start, end: milliseconds; without an end it goes on.
    """

    start: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class RunningClock:
    """A clock that an event has started, and what happened to it since.

    Args:
        clock: which; started: the event's time, milliseconds.
        extended: by how much, in the clock's unit.
        pauses: in order, and only the last without an end.
        stopped: when what is due was done, milliseconds; None until then.

    Raises:
        ClockError: it cannot have run like this.
    """

    clock: Clock
    started: int
    extended: int = 0
    pauses: tuple[Pause, ...] = ()
    stopped: int | None = None

    def __post_init__(self) -> None:
        most = self.clock.extension.count if self.clock.extension is not None else 0
        if not 0 <= self.extended <= most:
            raise ClockError(f"{self.clock.code} can be extended by {most} at most, not by {self.extended}")
        if self.pauses and not self.clock.length.unit.is_days:
            raise ClockError(f"{self.clock.code} is counted in {self.clock.length.unit}, and is never paused")
        if self.clock.at_least and self.stopped is not None:
            raise ClockError(f"{self.clock.code} runs for as long as something is kept: nothing stops it")
        if any(pause.end is None for pause in self.pauses[:-1]):
            raise ClockError(f"{self.clock.code} was paused while it was paused")
        pauses = (moment for pause in self.pauses for moment in (pause.start, pause.end))
        times = [moment for moment in (self.started, *pauses, self.stopped) if moment is not None]
        if times != sorted(times):
            raise ClockError(f"{self.clock.code}: its times are not in order")

    @property
    def length(self) -> Length:
        """How long it runs, extensions and all."""
        return Length(self.clock.length.count + self.extended, self.clock.length.unit)


class State(StrEnum):
    """How a clock stands."""

    RUNNING = "running"
    PAUSED = "paused"
    OVERDUE = "overdue"
    KEPT = "kept"
    OVER = "over"
    """What was kept for long enough need not be kept any longer."""
    DONE = "done"
    DONE_LATE = "done late"


@dataclass(frozen=True, slots=True)
class Reading:
    """A clock as it is shown.

    Args:
        state: how it stands.
        due: the last millisecond; None while it is paused.
        left: days until then, or that remain once a pause ends.
        late: days since then.
        unit: of these days; a clock of months or years is shown in days.
        escalated_to: who hears of it by now.
        provisional: years that it was counted over and that nobody has announced yet.
        since: when the state began, where that is not the clock's start: the pause, or what stopped it.
    """

    state: State
    due: int | None
    left: int
    late: int
    unit: Unit
    escalated_to: Role | None = None
    provisional: tuple[int, ...] = ()
    since: int | None = None


def due_at(running: RunningClock, calendar: Calendar) -> int | None:
    """When what a clock asks for is due: the last millisecond; None while it is paused.

    Raises:
        UncoveredYearError: it runs into a year that has no calendar.
        CalendarError: a time is too far away.
    """
    spans, pause = _spans(running, calendar)
    due = calendar.deadline(running.started, running.length, spans, rests=not running.clock.at_least)
    # What was overdue by then, no pause mends.
    return due if pause is None or calendar.day_of(due) < calendar.day_of(pause.start) else None


def read(running: RunningClock, jurisdiction: Jurisdiction, now: int) -> Reading:
    """How a clock stands.

    Args:
        now: milliseconds, not before the last event that happened to it.

    Raises:
        UncoveredYearError: it runs into a year that has no calendar.
        CalendarError: a time is too far away.
    """
    calendar = jurisdiction.calendar
    due = due_at(running, calendar)
    if due is None:
        return _paused(running, calendar)
    at = now if running.stopped is None else running.stopped
    state = _state(running, due, at)
    unit = _shown_unit(running)
    start, last, today = calendar.day_of(running.started), calendar.day_of(due), calendar.day_of(at)
    days = calendar.counted(today, last, unit)
    return Reading(
        state,
        due,
        left=max(days, 0),
        late=max(-days, 0),
        unit=unit,
        escalated_to=_escalated(running.clock, jurisdiction, last, today) if state == State.OVERDUE else None,
        provisional=_provisional(running, calendar, start, max(last, today)),
        since=running.stopped,
    )


def describe(reading: Reading, calendar: Calendar) -> str:
    """How a clock stands, in words: `due 2026-12-04, 3 working days left`."""
    text = _described(reading, calendar)
    if reading.provisional:
        text += f"; provisional: no calendar for {' and '.join(map(str, reading.provisional))}"
    return text


def _described(reading: Reading, calendar: Calendar) -> str:
    since = f"{calendar.day_of(reading.since)}" if reading.since is not None else ""
    left = f"{counted_out(reading.left, reading.unit)} left"
    late = counted_out(reading.late, reading.unit)
    if reading.due is None:
        return f"done {since}, while paused" if reading.state == State.DONE else f"paused since {since}, {left}"
    due = f"{calendar.day_of(reading.due)}"
    return {
        State.RUNNING: f"due {due}, {left if reading.left else 'today'}",
        State.OVERDUE: f"overdue by {late}, due {due}" if reading.late else f"overdue, due {due}",
        State.KEPT: f"to be kept until {due}, {left}",
        State.OVER: f"was to be kept until {due}",
        State.DONE: f"done {since}, in time",
        State.DONE_LATE: f"done {since}, {late} late" if reading.late else f"done {since}, late",
        State.PAUSED: "",
    }[reading.state]


def _state(running: RunningClock, due: int, at: int) -> State:
    if running.stopped is not None:
        return State.DONE_LATE if at > due else State.DONE
    if running.clock.at_least:
        return State.KEPT if at <= due else State.OVER
    return State.RUNNING if at <= due else State.OVERDUE


def _paused(running: RunningClock, calendar: Calendar) -> Reading:
    spans, pause = _spans(running, calendar)
    assert pause is not None  # noqa: S101 - only a pause leaves the due time open
    unit = running.clock.length.unit
    start, first = calendar.day_of(running.started), calendar.day_of(pause.start)
    # The day on which the pause began does not count; where it is the event's own, none does.
    spent = calendar.counted(start, first, unit, (*spans, Span(first, first)))
    state = State.PAUSED if running.stopped is None else State.DONE
    since = pause.start if running.stopped is None else running.stopped
    years = _provisional(running, calendar, start, first)
    return Reading(state, None, running.length.count - spent, 0, unit, provisional=years, since=since)


def _spans(running: RunningClock, calendar: Calendar) -> tuple[Sequence[Span], Pause | None]:
    """The days of the pauses that have ended, and the pause that has not."""
    ended = [
        Span(calendar.day_of(pause.start), calendar.day_of(pause.end))
        for pause in running.pauses
        if pause.end is not None
    ]
    pause = running.pauses[-1] if running.pauses and running.pauses[-1].end is None else None
    return ended, pause


def _shown_unit(running: RunningClock) -> Unit:
    unit = running.clock.length.unit
    return unit if unit.is_days else Unit.DAYS


def _escalated(clock: Clock, jurisdiction: Jurisdiction, due: date, today: date) -> Role | None:
    """The last whom it has gone to; whoever is late is told of it by others."""
    late = jurisdiction.calendar.counted(due, today, Unit.WORKING_DAYS)
    told = [step.to for step in jurisdiction.escalations if step.after <= late and step.to != clock.due_from]
    return told[-1] if told else None


def _provisional(running: RunningClock, calendar: Calendar, start: date, end: date) -> tuple[int, ...]:
    # Nothing that is kept for months or years depends on which days are working days.
    return () if running.clock.at_least else calendar.provisional_years(start, end)
