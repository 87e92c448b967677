"""A case: what became of one application, as the events that happened to it tell (Decree 809, articles 20 to 28)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from exchange.core.names import Party
from exchange.core.procedure import ENDS, GRANTED, Act, Option, Stage, Timer, Who
from exchange.core.values import quick, replace
from exchange.v1.procedure_pb2 import Outcome, Step

UPPER_LEVEL = 2
"""A dispute is with the parties (0), with the coordinator (1), with the level of government above (2)."""


@quick
@dataclass(frozen=True, slots=True)
class Event:
    """One signed entry that a case is made of.

    Args:
        act: what was done; actor: by which party; who: in which part.
        index, time: of its entry; for what ends a version, 0 where only its place is known.
        digest: message digest of the entry.
        subject: of an answer or an end, the message digest of the version that it replaces or ends; else empty.
        body_sha256: of the entry's body.
        step: its words, where it is a step.
        consent: whether the exchange asked for the consent of heads then.
        clock: of an application or a submission, the code of the clock of its answer.
    """

    act: Act
    actor: Party
    who: Who
    index: int
    time: int
    digest: bytes
    subject: bytes = b""
    body_sha256: bytes = b""
    step: Step = field(default_factory=Step)
    consent: bool = False
    clock: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Run:
    """A clock of a case. Times are milliseconds.

    Args:
        timer: what it measures; code: of its clock.
        started: by which event; pauses: from and until, the last one None while it lasts.
        extended: whether the coordinator extended it.
        stopped: when what is due was done; None until then.
    """

    timer: Timer
    code: str
    started: int
    pauses: tuple[tuple[int, int | None], ...] = ()
    extended: bool = False
    stopped: int | None = None

    @property
    def is_paused(self) -> bool:
        """Whether a pause of it lasts."""
        return bool(self.pauses) and self.pauses[-1][1] is None

    def paused(self, time: int) -> "Run":
        """The same, held up from now on."""
        return replace(self, pauses=(*self.pauses, (time, None)))

    def resumed(self, time: int) -> "Run":
        """The same, going on."""
        return replace(self, pauses=(*self.pauses[:-1], (self.pauses[-1][0], time)))


@quick
@dataclass(frozen=True, slots=True)
class Case:
    """What became of an application so far.

    Args:
        stage: its state, but for a suspension; since: the event that began it.
        application: message digest of its latest version; consented: that of the version that the head consented to.
        answers: body_sha256 of each answer that the owner's head consented to.
        standing: message digests of the agreements that answer it and stand.
        history: every event, in order.
        returned: the one return, with what was missing; None before it.
        runs: its clocks, in the order in which they started.
        rating: what the applicant thinks of it, 1 to 5; 0 is nothing yet.
        before: the state before the dispute; opener: who opened it; level: whom it is with.
        outcome: what the last settlement binds the owner to.
        is_final: a settlement ended the agreement: only a new application can lead to another one.
    """

    stage: Stage
    since: Event
    application: bytes
    consented: bytes = b""
    answers: frozenset[bytes] = frozenset()
    standing: frozenset[bytes] = frozenset()
    history: tuple[Event, ...] = ()
    returned: Event | None = None
    runs: tuple[Run, ...] = ()
    rating: int = 0
    before: Stage | None = None
    opener: Who | None = None
    level: int = 0
    outcome: "Outcome.ValueType" = Outcome.OUTCOME_UNSPECIFIED
    is_final: bool = False

    @property
    def is_open(self) -> bool:
        """Whether something is still to come from somebody."""
        return self.stage not in ENDS

    def running(self, timer: Timer) -> Run | None:
        """The clock of a timer that has not stopped."""
        return next((run for run in self.runs if run.timer == timer and run.stopped is None), None)

    def shown(self, suspended: bool) -> Stage:
        """Its state, with the suspension that holds up its agreement."""
        return Stage.SUSPENDED if suspended and self.stage in GRANTED else self.stage


def waits_for(case: Case) -> tuple[Option, ...]:
    """Who has to act now, so that a case comes nearer to its end; nobody at an end, and while all goes well."""
    if case.stage == Stage.DISPUTED:
        who = (Who.COORDINATOR,) if case.level else (Who.APPLICANT, Who.OWNER)
        return (Option(Act.SETTLE_CONTINUE, who),)
    if case.stage == Stage.SETTLED:
        act = Act.AGREE if case.outcome == Outcome.OUTCOME_AGREE else Act.AMEND
        return (Option(act, (Who.OWNER,)),)
    return _WAITS.get(case.stage, ())


_WAITS: Mapping[Stage, tuple[Option, ...]] = MappingProxyType(
    {
        Stage.DRAFTED: (Option(Act.CONSENT, (Who.APPLICANT_HEAD,)),),
        Stage.CONSENTED: (Option(Act.SUBMIT, (Who.APPLICANT,)),),
        Stage.SUBMITTED: (Option(Act.AGREE, (Who.OWNER,)),),
        Stage.RETURNED: (Option(Act.SUBMIT, (Who.APPLICANT,)),),
        Stage.AGREED: (Option(Act.SUPPLY, (Who.OWNER,)),),
    }
)


def actors(case_owner: Party, dataset_owner: Party, party: Party, role: str) -> frozenset[Who]:
    """In which part a party acts in a case.

    Args:
        case_owner: the applicant; dataset_owner: who is asked.
        party: who signed; role: department, head, system or coordinator.
    """
    if role == "coordinator":
        return frozenset({Who.COORDINATOR})
    found = set()
    for department, parts in ((case_owner, _OF_APPLICANT), (dataset_owner, _OF_OWNER)):
        if party.own_department == department and role in parts:
            found.add(parts[role])
    return frozenset(found)


_OF_APPLICANT = {"department": Who.APPLICANT, "head": Who.APPLICANT_HEAD}
_OF_OWNER = {"department": Who.OWNER, "head": Who.OWNER_HEAD, "system": Who.OWNER_SYSTEM}
