"""How a case moves: by the steps of its parties, and by revocations (`core/procedure.py` has the table)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exchange.core.case import Case, Event, Run
from exchange.core.case_checks import missing_need
from exchange.core.errors import CoreError
from exchange.core.procedure import TABLE, UNANSWERED, Act, Stage, Timer, Transition, instead
from exchange.core.values import replace

MAX_EVENTS = 256
"""In one case. Everybody tells it anew for each: without an end to it, one department could keep all others busy."""

_CLOSING = frozenset({Act.WITHDRAW, Act.END, Act.SETTLE_CONTINUE, Act.SETTLE_AMEND, Act.SETTLE_END, Act.SETTLE_AGREE})


class ProcedureError(CoreError):
    """A step does not fit the case; the text says what can be done now, and by whom."""


def begin(event: Event) -> Case:
    """The case of an application that was signed; where no consent is asked for, its signature submits it.

    Args:
        event: APPLY, of the first version.
    """
    return _applied(Case(Stage.DRAFTED, event, event.digest), event)


def perform(case: Case, event: Event) -> Case:
    """Do one step.

    Raises:
        ProcedureError: it is not in the table, not for them to do, or lacks what it needs.
    """
    line = TABLE.get((case.stage, event.act))
    if line is None or event.act in {Act.SUSPEND, Act.RESUME}:
        raise ProcedureError(f"the case is {case.stage}, so nobody can {event.act} now; {instead(case.stage)}")
    if event.who not in line.who:
        who = " or ".join(sorted(line.who))
        raise ProcedureError(f"{event.actor} is {event.who} here, and to {event.act} is for {who} to do")
    problem = missing_need(case, event)
    if problem:
        raise ProcedureError(problem)
    if len(case.history) >= MAX_EVENTS and event.act not in _CLOSING:
        raise ProcedureError(f"the case has {MAX_EVENTS} events already: it can only be ended; apply anew")
    if event.act == Act.APPLY:
        return _applied(case, event)
    changed = _CHANGES.get(event.act, _unchanged)(_moved(case, event, line), case, event)
    return replace(changed, runs=_timed(changed.runs, event, line))


def lapse(case: Case, event: Event) -> Case:
    """Take note that a version was revoked, which its owner can always do: an application, or an agreement.

    Args:
        event: WITHDRAW or END, `subject` the version.
    """
    noted = replace(case, history=(*case.history, event))
    if event.act == Act.END:
        noted = replace(noted, standing=case.standing - {event.subject})
    if event.act == Act.WITHDRAW:
        is_over = case.stage in {Stage.DRAFTED, Stage.CONSENTED, *UNANSWERED} and event.subject == case.application
        next = Stage.WITHDRAWN
    else:
        is_over = event.subject in case.standing and not noted.standing
        next = Stage.ENDED
    if not is_over:
        return noted
    if case.stage == Stage.DISPUTED:
        return replace(noted, before=next)
    runs = tuple(run for run in case.runs if run.stopped is not None)
    return replace(noted, stage=next, since=event, runs=runs)


def _applied(case: Case, event: Event) -> Case:
    # A new version of what was returned goes on where it stood; anything else begins anew.
    is_returned = case.stage == Stage.RETURNED
    runs = case.runs if is_returned else _void(case.runs)
    if not event.consent:
        runs = _timed(runs, event, TABLE[Stage.DRAFTED, Act.SUBMIT])
    return replace(
        case,
        stage=Stage.DRAFTED if event.consent else Stage.SUBMITTED,
        since=event,
        application=event.digest,
        # The consents were to what is now replaced.
        consented=b"",
        answers=frozenset(),
        history=(*case.history, event),
        returned=case.returned if is_returned else None,
        runs=runs,
        is_final=False,
    )


def _void(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.stopped is not None)


def _moved(case: Case, event: Event, line: Transition) -> Case:
    next = line.next if line.next is not None else (case.before or case.stage)
    history = (*case.history, event)
    if next == case.stage:
        return replace(case, history=history)
    return replace(case, stage=next, since=event, history=history)


def _timed(runs: tuple[Run, ...], event: Event, line: Transition) -> tuple[Run, ...]:
    if line.stops is not None:
        runs = tuple(_stopped(run, line.stops, event) for run in runs)
    if line.pauses is not None:
        runs = tuple(run.paused(event.time) if _is(run, line.pauses) else run for run in runs)
    if line.starts is not None and any(_is(run, line.starts) for run in runs):
        runs = tuple(run.resumed(event.time) if _is(run, line.starts) and run.is_paused else run for run in runs)
    elif line.starts is not None:
        code = event.clock if line.starts == Timer.ANSWER else str(line.starts)
        runs = (*runs, Run(line.starts, code, event.time))
    return runs


def _is(run: Run, timer: Timer) -> bool:
    return run.timer == timer and run.stopped is None


def _stopped(run: Run, timer: Timer, event: Event) -> Run:
    if not _is(run, timer):
        return run
    return replace(run.resumed(event.time) if run.is_paused else run, stopped=event.time)


_Change = Callable[[Case, Case, Event], Case]


def _unchanged(moved: Case, _before: Case, _event: Event) -> Case:
    return moved


def _change_consent(moved: Case, _before: Case, event: Event) -> Case:
    return replace(moved, consented=event.step.digest)


def _change_answers(moved: Case, _before: Case, event: Event) -> Case:
    return replace(moved, answers=moved.answers | {event.step.digest})


def _change_granted(moved: Case, _before: Case, event: Event) -> Case:
    return replace(moved, standing=moved.standing - {event.subject} | {event.digest})


def _change_returned(moved: Case, _before: Case, event: Event) -> Case:
    return replace(moved, returned=event)


def _change_extended(moved: Case, _before: Case, _event: Event) -> Case:
    runs = tuple(replace(run, extended=True) if _is(run, Timer.ANSWER) else run for run in moved.runs)
    return replace(moved, runs=runs)


def _change_rating(moved: Case, _before: Case, event: Event) -> Case:
    return replace(moved, rating=event.step.rating)


def _change_ended(moved: Case, before: Case, _event: Event) -> Case:
    return replace(moved, standing=frozenset(), before=Stage.ENDED if before.stage == Stage.DISPUTED else moved.before)


def _change_disputed(moved: Case, before: Case, event: Event) -> Case:
    return replace(moved, before=before.stage, opener=event.who, level=0)


def _change_level(moved: Case, _before: Case, _event: Event) -> Case:
    return replace(moved, level=moved.level + 1)


def _change_settled(moved: Case, _before: Case, event: Event) -> Case:
    ends = event.act == Act.SETTLE_END
    standing = frozenset[bytes]() if ends else moved.standing
    # What an earlier settlement asked for still binds where this dispute is dropped.
    outcome = moved.outcome if event.act == Act.SETTLE_CONTINUE else event.step.outcome
    return replace(moved, outcome=outcome, standing=standing, is_final=moved.is_final or ends)


_CHANGES: Mapping[Act, _Change] = MappingProxyType(
    {
        Act.CONSENT: _change_consent,
        Act.RETURN: _change_returned,
        Act.CONSENT_ANSWER: _change_answers,
        Act.AGREE: _change_granted,
        Act.AMEND: _change_granted,
        Act.EXTEND: _change_extended,
        Act.RATE: _change_rating,
        Act.END: _change_ended,
        Act.OPEN_DISPUTE: _change_disputed,
        Act.ESCALATE: _change_level,
        Act.SETTLE_CONTINUE: _change_settled,
        Act.SETTLE_AMEND: _change_settled,
        Act.SETTLE_END: _change_settled,
        Act.SETTLE_AGREE: _change_settled,
    }
)
