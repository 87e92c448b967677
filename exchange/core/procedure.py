"""From application to agreement: which step may come in which state, by whom, and which clock it moves (Decree 809).

A case is what became of one application (`core/case.py`). What this table does not name is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType


class Stage(StrEnum):
    """The states of a case."""

    DRAFTED = "drafted"
    CONSENTED = "consented"
    SUBMITTED = "submitted"
    RETURNED = "returned"
    AGREED = "agreed"
    REFUSED = "refused"
    SUPPLIED = "supplied"
    AMENDED = "amended"
    SUSPENDED = "suspended"
    DISPUTED = "disputed"
    SETTLED = "settled"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


class Act(StrEnum):
    """What somebody does in a case."""

    APPLY = "apply"
    CONSENT = "consent"
    SUBMIT = "submit"
    RETURN = "return"
    CONSENT_ANSWER = "consent to the answer"
    REFUSE = "refuse"
    AGREE = "agree"
    SUPPLY = "supply"
    AMEND = "amend"
    EXTEND = "extend"
    RATE = "rate"
    WITHDRAW = "withdraw"
    SUSPEND = "suspend"
    RESUME = "resume"
    END = "end"
    OPEN_DISPUTE = "open a dispute"
    ESCALATE = "escalate"
    SETTLE_CONTINUE = "settle: continue"
    SETTLE_AMEND = "settle: amend"
    SETTLE_END = "settle: end"
    SETTLE_AGREE = "settle: agree"


class Who(StrEnum):
    """Who does it."""

    APPLICANT = "the applicant's steward"
    APPLICANT_HEAD = "the head of the applicant's office"
    OWNER = "the owner's steward"
    OWNER_HEAD = "the head of the owner's office"
    OWNER_SYSTEM = "the owner's system"
    COORDINATOR = "the coordinator"


class Timer(StrEnum):
    """What has a time limit; the code of its clock begins with it."""

    ANSWER = "application.answer"
    SUPPLY = "application.supply"


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the table.

    Args:
        next: the state after it; None is the one before the suspension or the dispute.
        who: may do it.
        starts, stops, pauses: the clock that it moves.
    """

    next: Stage | None
    who: frozenset[Who]
    starts: Timer | None = None
    stops: Timer | None = None
    pauses: Timer | None = None


def _line(
    next: Stage | None,
    *who: Who,
    starts: Timer | None = None,
    stops: Timer | None = None,
    pauses: Timer | None = None,
) -> Transition:
    return Transition(next, frozenset(who), starts, stops, pauses)


_STEWARDS = (Who.APPLICANT, Who.OWNER)
_APPLY = _line(Stage.DRAFTED, Who.APPLICANT)
_WITHDRAW = _line(Stage.WITHDRAWN, Who.APPLICANT, stops=Timer.ANSWER)
_AGREE = _line(Stage.AGREED, Who.OWNER, starts=Timer.SUPPLY, stops=Timer.ANSWER)
_SUPPLY = _line(Stage.SUPPLIED, Who.OWNER, Who.OWNER_SYSTEM, stops=Timer.SUPPLY)
_AMEND = _line(Stage.AMENDED, Who.OWNER)
_END = _line(Stage.ENDED, Who.APPLICANT, Who.OWNER, Who.OWNER_SYSTEM, stops=Timer.SUPPLY)
_SUSPEND = _line(Stage.SUSPENDED, Who.OWNER, Who.COORDINATOR)
_DISPUTE = _line(Stage.DISPUTED, *_STEWARDS)
_COMPLAINT = _line(Stage.DISPUTED, Who.APPLICANT)


def _rate(stage: Stage) -> Transition:
    return _line(stage, Who.APPLICANT)


def _consent_answer(stage: Stage) -> Transition:
    return _line(stage, Who.OWNER_HEAD)


def _granted(stage: Stage) -> dict[tuple[Stage, Act], Transition]:
    """The lines of a state in which an agreement stands."""
    return {
        (stage, Act.AGREE): replace(_AGREE, next=stage, starts=None),
        (stage, Act.SUPPLY): _SUPPLY,
        (stage, Act.AMEND): _AMEND,
        (stage, Act.CONSENT_ANSWER): _consent_answer(stage),
        (stage, Act.RATE): _rate(stage),
        (stage, Act.SUSPEND): _SUSPEND,
        (stage, Act.END): _END,
        (stage, Act.OPEN_DISPUTE): _DISPUTE,
    }


TABLE: Mapping[tuple[Stage, Act], Transition] = MappingProxyType(
    {
        (Stage.DRAFTED, Act.APPLY): _APPLY,
        (Stage.DRAFTED, Act.CONSENT): _line(Stage.CONSENTED, Who.APPLICANT_HEAD),
        (Stage.DRAFTED, Act.SUBMIT): _line(Stage.SUBMITTED, Who.APPLICANT, starts=Timer.ANSWER),
        (Stage.DRAFTED, Act.WITHDRAW): _WITHDRAW,
        (Stage.CONSENTED, Act.APPLY): _APPLY,
        (Stage.CONSENTED, Act.SUBMIT): _line(Stage.SUBMITTED, Who.APPLICANT, starts=Timer.ANSWER),
        (Stage.CONSENTED, Act.WITHDRAW): _WITHDRAW,
        (Stage.SUBMITTED, Act.APPLY): replace(_APPLY, stops=Timer.ANSWER),
        (Stage.SUBMITTED, Act.RETURN): _line(Stage.RETURNED, Who.OWNER, pauses=Timer.ANSWER),
        (Stage.SUBMITTED, Act.CONSENT_ANSWER): _consent_answer(Stage.SUBMITTED),
        (Stage.SUBMITTED, Act.REFUSE): _line(Stage.REFUSED, Who.OWNER, stops=Timer.ANSWER),
        (Stage.SUBMITTED, Act.AGREE): _AGREE,
        (Stage.SUBMITTED, Act.EXTEND): _line(Stage.SUBMITTED, Who.COORDINATOR),
        (Stage.SUBMITTED, Act.WITHDRAW): _WITHDRAW,
        (Stage.SUBMITTED, Act.OPEN_DISPUTE): _COMPLAINT,
        (Stage.RETURNED, Act.APPLY): _APPLY,
        (Stage.RETURNED, Act.SUBMIT): _line(Stage.SUBMITTED, Who.APPLICANT, starts=Timer.ANSWER),
        (Stage.RETURNED, Act.CONSENT_ANSWER): _consent_answer(Stage.RETURNED),
        (Stage.RETURNED, Act.AGREE): _AGREE,
        (Stage.RETURNED, Act.WITHDRAW): _WITHDRAW,
        (Stage.RETURNED, Act.OPEN_DISPUTE): _COMPLAINT,
        **_granted(Stage.AGREED),
        **_granted(Stage.SUPPLIED),
        **_granted(Stage.AMENDED),
        (Stage.SUSPENDED, Act.SUPPLY): replace(_SUPPLY, next=Stage.SUSPENDED),
        (Stage.SUSPENDED, Act.AGREE): replace(_AGREE, next=Stage.SUSPENDED, starts=None),
        (Stage.SUSPENDED, Act.AMEND): _line(Stage.SUSPENDED, Who.OWNER),
        (Stage.SUSPENDED, Act.CONSENT_ANSWER): _consent_answer(Stage.SUSPENDED),
        (Stage.SUSPENDED, Act.RATE): _rate(Stage.SUSPENDED),
        (Stage.SUSPENDED, Act.RESUME): _line(None, Who.OWNER, Who.COORDINATOR),
        (Stage.SUSPENDED, Act.END): _END,
        (Stage.SUSPENDED, Act.OPEN_DISPUTE): _DISPUTE,
        (Stage.REFUSED, Act.APPLY): _APPLY,
        (Stage.REFUSED, Act.CONSENT_ANSWER): _consent_answer(Stage.REFUSED),
        (Stage.REFUSED, Act.AGREE): replace(_AGREE, stops=None),
        (Stage.REFUSED, Act.RATE): _rate(Stage.REFUSED),
        (Stage.REFUSED, Act.OPEN_DISPUTE): _COMPLAINT,
        (Stage.DISPUTED, Act.ESCALATE): _line(Stage.DISPUTED, *_STEWARDS, Who.COORDINATOR),
        (Stage.DISPUTED, Act.END): replace(_END, next=Stage.DISPUTED),
        (Stage.DISPUTED, Act.SETTLE_CONTINUE): _line(None, *_STEWARDS, Who.COORDINATOR),
        (Stage.DISPUTED, Act.SETTLE_AMEND): _line(Stage.SETTLED, *_STEWARDS, Who.COORDINATOR),
        (Stage.DISPUTED, Act.SETTLE_END): _line(Stage.ENDED, *_STEWARDS, Who.COORDINATOR, stops=Timer.SUPPLY),
        (Stage.DISPUTED, Act.SETTLE_AGREE): _line(
            Stage.SETTLED, *_STEWARDS, Who.COORDINATOR, starts=Timer.ANSWER, stops=Timer.ANSWER
        ),
        (Stage.SETTLED, Act.CONSENT_ANSWER): _consent_answer(Stage.SETTLED),
        (Stage.SETTLED, Act.AGREE): _AGREE,
        (Stage.SETTLED, Act.AMEND): _AMEND,
        (Stage.SETTLED, Act.EXTEND): _line(Stage.SETTLED, Who.COORDINATOR),
        (Stage.SETTLED, Act.RATE): _rate(Stage.SETTLED),
        (Stage.SETTLED, Act.WITHDRAW): _WITHDRAW,
        (Stage.SETTLED, Act.END): _END,
        (Stage.SETTLED, Act.OPEN_DISPUTE): _COMPLAINT,
        (Stage.ENDED, Act.CONSENT_ANSWER): _consent_answer(Stage.ENDED),
        (Stage.ENDED, Act.AGREE): replace(_AGREE, stops=None),
        (Stage.ENDED, Act.AMEND): _AMEND,
        (Stage.ENDED, Act.RATE): _rate(Stage.ENDED),
        (Stage.ENDED, Act.OPEN_DISPUTE): _COMPLAINT,
        (Stage.WITHDRAWN, Act.APPLY): _APPLY,
    }
)
"""Every step that there is; whatever is not here is refused."""

ENDS = frozenset({Stage.REFUSED, Stage.ENDED, Stage.WITHDRAWN})
"""States in which nothing is due from anybody."""

GRANTED = frozenset({Stage.AGREED, Stage.SUPPLIED, Stage.AMENDED})
"""States in which an agreement is in force, unless it is suspended."""

UNANSWERED = frozenset({Stage.SUBMITTED, Stage.RETURNED})


@dataclass(frozen=True, slots=True)
class Option:
    """Something that can be done in a state, and by whom."""

    act: Act
    who: tuple[Who, ...]

    def __str__(self) -> str:
        return f"{self.act} ({' or '.join(self.who)})"


def options(stage: Stage) -> tuple[Option, ...]:
    """Everything that can be done in a state."""
    order = list(Who)
    return tuple(
        Option(act, tuple(sorted(line.who, key=order.index))) for (at, act), line in TABLE.items() if at == stage
    )


def instead(stage: Stage) -> str:
    """What can be done in a state, as the end of a reason."""
    found = options(stage)
    return f"possible are: {', '.join(map(str, found))}" if found else "nothing is left to be done"
