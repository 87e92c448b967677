"""How departments answered and supplied within a time, and what was wanted and not shared (Decree 809, article 38)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean

from exchange.core.calendar import CalendarError
from exchange.core.case import Case, Run
from exchange.core.clocks import Jurisdiction, State
from exchange.core.due import Due, dues
from exchange.core.names import Party
from exchange.core.procedure import GRANTED, Act, Stage, Timer

SATISFIED = 4
"""The least rating of somebody who is satisfied."""


@dataclass(frozen=True, slots=True)
class Handled:
    """A case, and whose it is.

    Args:
        case: what became of it; applicant, owner: departments; dataset: DEPARTMENT/CODE.
        not_shared: the dataset's owner says that it is not shared.
    """

    case: Case
    applicant: Party
    owner: Party
    dataset: str
    not_shared: bool = False


@dataclass(slots=True)
class _Counts:
    received: int = 0
    answered_of_these: int = 0
    decided: int = 0
    in_time: int = 0
    supplied: int = 0
    supplied_in_time: int = 0
    returned: int = 0
    refused: int = 0
    disputed: int = 0
    overdue: int = 0
    ratings: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Performance:
    """What a department did as an owner within a time. Rates are 0 to 1; None where there is nothing to count.

    Args:
        received: applications that were submitted to it; answer_rate: the share of them that is answered by now.
        decided: answers that it gave, or that were due; on_time_rate: the share of them in time.
        supplied: agreements that it supplied; supply_rate: the share in time.
        returned, refused, disputed: cases; overdue: answers that are due, and late.
        rating: the mean, 1 to 5; satisfaction: the share of ratings of at least 4.
    """

    department: Party
    received: int
    answer_rate: float | None
    decided: int
    on_time_rate: float | None
    supplied: int
    supply_rate: float | None
    returned: int
    refused: int
    disputed: int
    overdue: int
    rating: float | None
    satisfaction: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A dataset that was applied for and is not shared with them: by how many departments, and why."""

    dataset: str
    departments: int
    refused: int
    unanswered: int
    not_shared: bool


def performances(
    cases: Iterable[Handled], jurisdiction: Jurisdiction, since: int, until: int, now: int
) -> tuple[Performance, ...]:
    """How each department that was asked for something did, the best first.

    Args:
        cases: all of them.
        since, until: milliseconds, the first and the one after the last.
        now: milliseconds, not before the last event of any case.
    """
    counts: dict[Party, _Counts] = {}
    for handled in cases:
        _count(counts.setdefault(handled.owner, _Counts()), handled.case, jurisdiction, (since, until, now))
    found = (_performance(department, count) for department, count in counts.items())
    return tuple(sorted(found, key=_rank))


def most_wanted(cases: Iterable[Handled], since: int, until: int) -> tuple[Wanted, ...]:
    """Datasets that others applied for within a time without an agreement, the most wanted first."""
    found: dict[str, list[Handled]] = {}
    for handled in cases:
        if since <= handled.case.history[0].time < until and not _is_shared(handled.case):
            found.setdefault(handled.dataset, []).append(handled)
    return tuple(sorted((_wanted(name, items) for name, items in found.items()), key=_by_want))


def _is_shared(case: Case) -> bool:
    return case.stage in GRANTED or case.stage == Stage.WITHDRAWN or bool(case.standing)


def _wanted(name: str, items: Sequence[Handled]) -> Wanted:
    refused = sum(item.case.stage == Stage.REFUSED for item in items)
    departments = {item.applicant for item in items}
    return Wanted(name, len(departments), refused, len(items) - refused, any(item.not_shared for item in items))


def _by_want(wanted: Wanted) -> tuple[int, int, str]:
    return -wanted.departments, -(wanted.refused + wanted.unanswered), wanted.dataset


def _count(count: _Counts, case: Case, jurisdiction: Jurisdiction, times: tuple[int, int, int]) -> None:
    since, until, now = times
    for due in _dues(case, jurisdiction, now):
        if due.run.timer == Timer.ANSWER and (due.run.stopped is None or _was_answered(case, due.run)):
            _count_answer(count, due, since, until)
        elif due.run.timer == Timer.SUPPLY and _was_supplied(case, due.run) and since <= (due.run.stopped or 0) < until:
            count.supplied += 1
            count.supplied_in_time += due.reading.state == State.DONE
    within = [event for event in case.history if since <= event.time < until]
    count.returned += any(event.act == Act.RETURN for event in within)
    count.refused += any(event.act == Act.REFUSE for event in within)
    count.disputed += any(event.act == Act.OPEN_DISPUTE for event in within)
    ratings = [event.step.rating for event in within if event.act == Act.RATE]
    # The last one counts.
    count.ratings.extend(ratings[-1:])


def _was_answered(case: Case, run: Run) -> bool:
    """Whether the owner stopped a clock, rather than an applicant who withdrew."""
    return any(event.act in {Act.AGREE, Act.REFUSE} and event.time == run.stopped for event in case.history)


def _was_supplied(case: Case, run: Run) -> bool:
    return any(event.act == Act.SUPPLY and event.time == run.stopped for event in case.history)


def _dues(case: Case, jurisdiction: Jurisdiction, now: int) -> tuple[Due, ...]:
    try:
        return dues(case, jurisdiction, now)
    except CalendarError:
        # A clock that runs into a year without a calendar is neither late nor in time.
        return ()


def _count_answer(count: _Counts, due: Due, since: int, until: int) -> None:
    run, reading = due.run, due.reading
    if since <= run.started < until:
        count.received += 1
        count.answered_of_these += run.stopped is not None
    is_overdue = reading.state == State.OVERDUE and reading.due is not None and since <= reading.due < until
    if is_overdue or (run.stopped is not None and since <= run.stopped < until):
        count.decided += 1
        count.in_time += reading.state == State.DONE
        count.overdue += is_overdue


def _performance(department: Party, count: _Counts) -> Performance:
    ratings = count.ratings
    return Performance(
        department,
        count.received,
        _rate(count.answered_of_these, count.received),
        count.decided,
        _rate(count.in_time, count.decided),
        count.supplied,
        _rate(count.supplied_in_time, count.supplied),
        count.returned,
        count.refused,
        count.disputed,
        count.overdue,
        mean(ratings) if ratings else None,
        _rate(sum(rating >= SATISFIED for rating in ratings), len(ratings)),
    )


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rank(found: Performance) -> tuple[float, float, float, str]:
    """By punctuality, then answers, then satisfaction; who had nothing to do comes last."""
    rates = (found.on_time_rate, found.answer_rate, found.satisfaction)
    punctual, answered, satisfied = (-rate if rate is not None else 1.0 for rate in rates)
    return punctual, answered, satisfied, str(found.department)
