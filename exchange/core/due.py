"""When a step of a case is due: the clocks that its events moved, read by the rules of a jurisdiction."""

from dataclasses import dataclass

from exchange.core.case import Case, Run, waits_for
from exchange.core.clocks import Jurisdiction, Pause, Reading, RunningClock, read
from exchange.core.procedure import Option, Timer


@dataclass(frozen=True, slots=True)
class Due:
    """A clock of a case, as it stands.

    Args:
        run: what moved it; reading: how it stands; clock: which one.
    """

    run: Run
    clock: RunningClock
    reading: Reading


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a case waits for: a step, whose it is, and the clock that runs; None where no law sets a time."""

    option: Option
    due: Due | None


def dues(case: Case, jurisdiction: Jurisdiction, now: int) -> tuple[Due, ...]:
    """Every clock of a case for which the jurisdiction has a rule, in the order in which they started.

    Args:
        now: milliseconds, not before the case's last event.

    Raises:
        UncoveredYearError: a clock runs into a year that has no calendar.
        CalendarError: a time is too far away.
    """
    found = []
    for run in case.runs:
        running = _running(run, jurisdiction)
        if running is not None:
            found.append(Due(run, running, read(running, jurisdiction, now)))
    return tuple(found)


def waiting(case: Case, jurisdiction: Jurisdiction, now: int) -> tuple[Waiting, ...]:
    """What a case waits for, with the clock of the one who is waited for.

    Raises: as `dues`.
    """
    open_dues = {due.run.timer: due for due in dues(case, jurisdiction, now) if due.run.stopped is None}
    timer = Timer.ANSWER if case.running(Timer.ANSWER) is not None else Timer.SUPPLY
    return tuple(Waiting(option, open_dues.get(timer)) for option in waits_for(case))


def _running(run: Run, jurisdiction: Jurisdiction) -> RunningClock | None:
    clock = next((clock for clock in jurisdiction.clocks if clock.code == run.code), None)
    if clock is None:
        return None
    # An extension that the rules of this place do not know of gives no time.
    extended = clock.extension.count if run.extended and clock.extension is not None else 0
    pauses = tuple(Pause(start, end) for start, end in run.pauses) if clock.length.unit.is_days else ()
    return RunningClock(clock, run.started, extended, pauses, run.stopped)
