"""A record is wrong: filed, answered, and told to everybody who was given it before (Decree 809, article 26).

Nobody writes in the directory which record it is: both offices know it by the filer's case, and a recipient by its own
requests. A notice binds the owner and one recipient, so no recipient learns of another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from exchange.core.clocks import Jurisdiction, Reading, RunningClock, read
from exchange.core.correction import Correction, Notice, Standing
from exchange.core.envelope import DIGEST
from exchange.core.names import Party, is_case_id, is_field
from exchange.core.opening import named_dataset, named_party
from exchange.core.procedure_terms import StepTerms
from exchange.core.state import OBJECT_ID, State, Version
from exchange.core.terms import MAX_FIELDS, Terms, TermsError
from exchange.v1.directory_pb2 import Role
from exchange.v1.procedure_pb2 import Action, Step

ANSWER = "correction.answer"
MAX_REQUESTS = 1000
"""Requests that one notice names; the next ones go into another."""


class Part(StrEnum):
    """Who acts in a correction."""

    GRANTEE = "the steward of a department that has, or had, an agreement for the dataset"
    OWNER = "the owner's steward"
    OWNER_SYSTEM = "the owner's system"
    RECIPIENT = "the steward of the department that was told"
    RECIPIENT_SYSTEM = "its system"


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the table: the standing after it, and who may do it."""

    after: Standing
    who: frozenset[Part]


_OPEN, _CORRECT = Action.ACTION_OPEN_CORRECTION, Action.ACTION_CORRECT
_REJECT, _NOTIFY, _ACKNOWLEDGE = (
    Action.ACTION_REJECT_CORRECTION,
    Action.ACTION_NOTIFY,
    Action.ACTION_ACKNOWLEDGE,
)
_OWNERS = frozenset({Part.OWNER, Part.OWNER_SYSTEM})

TABLE: Mapping[tuple[Standing | None, "Action.ValueType"], _Line] = MappingProxyType(
    {
        (None, _OPEN): _Line(Standing.FILED, frozenset({Part.GRANTEE, Part.OWNER})),
        (None, _NOTIFY): _Line(Standing.CORRECTED, _OWNERS),
        (Standing.FILED, _CORRECT): _Line(Standing.CORRECTED, frozenset({Part.OWNER})),
        (Standing.FILED, _REJECT): _Line(Standing.REJECTED, frozenset({Part.OWNER})),
        (Standing.CORRECTED, _NOTIFY): _Line(Standing.CORRECTED, _OWNERS),
        (Standing.CORRECTED, _ACKNOWLEDGE): _Line(
            Standing.CORRECTED, frozenset({Part.RECIPIENT, Part.RECIPIENT_SYSTEM})
        ),
    }
)
"""Every step of a correction that there is, by the standing before it: None is the first one."""

CORRECTION_ACTIONS = frozenset(action for _, action in TABLE)

_DONE: Mapping["Action.ValueType", str] = MappingProxyType(
    {
        _OPEN: "file it",
        _CORRECT: "correct it",
        _REJECT: "reject it",
        _NOTIFY: "notify recipients",
        _ACKNOWLEDGE: "acknowledge a notice",
    }
)


def open_correction_step(state: State, terms: Terms, version: Version, step: Step) -> Terms:
    """Open a step of a correction.

    Args:
        state: with `version` folded in; terms: of every entry before.
        version: of the step; step: its words.

    Raises:
        TermsError: it cannot come now, or not from this party; the text says what can.
    """
    correction = terms.corrections.get(step.subject)
    if correction is None:
        correction = _begun(terms, step)
        line = TABLE.get((None, step.action))
    else:
        line = TABLE.get((correction.standing, step.action))
    if line is None:
        raise TermsError(f"the correction is {correction.standing}: possible are: {_possible(correction.standing)}")
    parts = _parts(state, terms, correction, version, step)
    if not parts & line.who:
        raise TermsError(f"{version.owner} may not do this: it is for {' or '.join(sorted(line.who))}")
    _check(correction, step)
    moved = _moved(replace(correction, standing=line.after), version, step)
    return replace(
        terms,
        steps=terms.steps.set(version.digest, StepTerms(version, step, step.subject)),
        corrections=terms.corrections.set(step.subject, moved),
    )


def bound(terms: Terms, version: Version) -> tuple[Party, ...]:
    """The departments that a step of a correction binds, and that may read it; empty for anything else.

    Args:
        version: of any entry.
    """
    taken = terms.steps.get(version.digest)
    if taken is None or taken.step.action not in CORRECTION_ACTIONS:
        return ()
    correction = terms.corrections[taken.about]
    if taken.step.action == _NOTIFY:
        return correction.owner, named_party(taken.step.recipient)
    if taken.step.action == _ACKNOWLEDGE or correction.filed is None:
        return correction.owner, version.owner.own_department
    return correction.owner, correction.filed.version.owner


def notices_for(terms: Terms, department: Party) -> Iterable[tuple[Correction, Notice]]:
    """Every notice that a department was given, the oldest first.

    Args:
        department: of the recipient.
    """
    found = [
        (correction, notice)
        for correction in terms.corrections.values()
        for notice in correction.notices
        if notice.recipient == department
    ]
    return sorted(found, key=lambda item: item[1].version.index)


def answer_due(correction: Correction, jurisdiction: Jurisdiction, now: int) -> Reading | None:
    """How the time stands that the owner has to answer; None where nobody filed it, or no rule sets a time.

    Args:
        now: milliseconds.

    Raises:
        CalendarError: the clock runs into a year without a calendar.
    """
    clock = next((clock for clock in jurisdiction.clocks if clock.code == ANSWER), None)
    if correction.filed is None or clock is None:
        return None
    answered = correction.answered
    stopped = answered.version.time if answered is not None else None
    return read(RunningClock(clock, correction.filed.version.time, stopped=stopped), jurisdiction, now)


def _begun(terms: Terms, step: Step) -> Correction:
    """The correction that a first step begins."""
    if step.action not in {_OPEN, _NOTIFY}:
        raise TermsError("the correction is not known here")
    dataset = named_dataset(terms, step.about)
    return Correction(step.subject, step.about, dataset.version.owner, tuple(step.fields), Standing.FILED)


def _parts(state: State, terms: Terms, correction: Correction, version: Version, step: Step) -> frozenset[Part]:
    """In which parts the signer can act."""
    role, department = state.keys_of(version.owner)[0].role, version.owner.own_department
    is_steward, is_system = role == Role.ROLE_DEPARTMENT, role == Role.ROLE_SYSTEM
    found: set[Part] = set()
    if department == correction.owner:
        found |= {Part.OWNER} if is_steward else {Part.OWNER_SYSTEM} if is_system else set()
    if is_steward and (correction.dataset, department) in terms.granted:
        found.add(Part.GRANTEE)
    notice = _notice(correction, step.digest)
    if notice is not None and notice.recipient == department:
        found |= {Part.RECIPIENT} if is_steward else {Part.RECIPIENT_SYSTEM} if is_system else set()
    return frozenset(found)


def _check(correction: Correction, step: Step) -> None:
    if step.action in {_OPEN, _REJECT} and not step.text.strip():
        raise TermsError("it says in words what is wrong, or why nothing is")
    if step.action in {_OPEN, _NOTIFY}:
        _check_fields(step)
    if step.action == _OPEN and not is_case_id(step.case_id):
        raise TermsError("a correction names the case of the one who files it: which record it is goes by that")
    if step.action == _NOTIFY:
        _check_notice(correction, step)
    if step.action == _ACKNOWLEDGE:
        notice = _notice(correction, step.digest)
        if notice is not None and notice.acknowledged is not None:
            raise TermsError("the notice is acknowledged already")


def _check_fields(step: Step) -> None:
    fields = tuple(step.fields)
    if not 1 <= len(set(fields)) == len(fields) <= MAX_FIELDS or not all(is_field(name) for name in fields):
        raise TermsError("the fields that are wrong are named, each once")


def _check_notice(correction: Correction, step: Step) -> None:
    recipient = named_party(step.recipient)
    if recipient.is_exchange or recipient != recipient.own_department or recipient == correction.owner:
        raise TermsError("a notice goes to another department")
    if step.about != correction.dataset:
        raise TermsError("the notice is about another dataset than the correction")
    ids = tuple(step.request_ids)
    if not 1 <= len(set(ids)) == len(ids) <= MAX_REQUESTS or any(len(item) != OBJECT_ID for item in ids):
        raise TermsError(f"a notice names 1 to {MAX_REQUESTS:,} requests, each once")


def _moved(correction: Correction, version: Version, step: Step) -> Correction:
    taken = StepTerms(version, step, step.subject)
    if step.action == _OPEN:
        return replace(correction, filed=taken)
    if step.action == _NOTIFY:
        notice = Notice(version, named_party(step.recipient), tuple(step.request_ids))
        return replace(correction, notices=(*correction.notices, notice))
    if step.action == _ACKNOWLEDGE:
        return replace(
            correction,
            notices=tuple(
                replace(notice, acknowledged=version) if notice.version.digest == step.digest else notice
                for notice in correction.notices
            ),
        )
    return replace(correction, answered=taken)


def _notice(correction: Correction, digest: bytes) -> Notice | None:
    if len(digest) != DIGEST:
        return None
    return next((notice for notice in correction.notices if notice.version.digest == digest), None)


def _possible(standing: Standing) -> str:
    found = [
        f"{_DONE[action]} ({' or '.join(sorted(line.who))})"
        for (before, action), line in TABLE.items()
        if before == standing
    ]
    return ", ".join(found) or "none"
