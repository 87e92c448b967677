"""A case as a story: what happened, what it waits for, and by when."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from exchange.cli.agreements.grants import SHOWN_ID
from exchange.cli.frame.errors import say_once
from exchange.cli.frame.output import listed, print_line, print_table
from exchange.cli.frame.times import day_of, iso, now
from exchange.client.datasets import dataset_name
from exchange.core.calendar import CalendarError
from exchange.core.case import Case, Event, waits_for
from exchange.core.clocks import Jurisdiction, describe
from exchange.core.directory import Directory
from exchange.core.due import Due, Waiting, dues, waiting
from exchange.core.names import Party
from exchange.core.procedure import Act, Stage, Who
from exchange.core.terms import ApplicationTerms

_DONE: Mapping[Act, str] = MappingProxyType(
    {
        Act.APPLY: "applied",
        Act.CONSENT: "consented to it",
        Act.SUBMIT: "submitted it",
        Act.RETURN: "returned it",
        Act.CONSENT_ANSWER: "consented to the answer",
        Act.REFUSE: "refused",
        Act.AGREE: "agreed",
        Act.SUPPLY: "supplied the data",
        Act.AMEND: "amended the agreement",
        Act.EXTEND: "extended the time to answer",
        Act.RATE: "rated it",
        Act.WITHDRAW: "withdrew it",
        Act.END: "ended the agreement",
        Act.OPEN_DISPUTE: "opened a dispute",
        Act.ESCALATE: "took the dispute one level up",
        Act.SETTLE_CONTINUE: "settled: it goes on as it was",
        Act.SETTLE_AMEND: "settled: the owner amends the agreement",
        Act.SETTLE_END: "settled: the agreement is ended",
        Act.SETTLE_AGREE: "settled: the owner agrees",
    }
)


@dataclass(frozen=True, slots=True)
class Told:
    """A case with the names and clocks that people ask for.

    Args:
        application: its latest version; owner: of the dataset; dataset: DEPARTMENT/CODE.
        case: what became of it; stage: its state, a suspension included.
        waits: what it waits for; clocks: all of its clocks.
        jurisdiction: whose rules the clocks are read by; None where they are not at hand.
    """

    application: ApplicationTerms
    owner: Party
    dataset: str
    case: Case
    stage: Stage
    waits: tuple[Waiting, ...]
    clocks: tuple[Due, ...]
    jurisdiction: Jurisdiction | None

    @property
    def id(self) -> str:
        """The message digest of the application, in hex."""
        return self.application.version.digest.hex()

    @property
    def applicant(self) -> Party:
        """Who applied."""
        return self.application.version.owner

    def party_of(self, who: Who) -> str:
        """Somebody's part in this case, with the name of their department."""
        if who == Who.COORDINATOR:
            return str(who)
        department = self.applicant if who in {Who.APPLICANT, Who.APPLICANT_HEAD} else self.owner
        part = {Who.APPLICANT_HEAD: "head of office", Who.OWNER_HEAD: "head of office", Who.OWNER_SYSTEM: "system"}
        return f"{department.department}'s {part.get(who, 'steward')}"

    def wanted(self, wait: Waiting) -> str:
        """What is to be done, in a few words."""
        act = wait.option.act
        if act == Act.AGREE:
            return "answer"
        return "settle the dispute" if act == Act.SETTLE_CONTINUE else str(act)

    @property
    def summary(self) -> str:
        """The state, what is due from whom, and by when: one line."""
        text = f"The application {self.id[:SHOWN_ID]} for {self.dataset} is {self.stage}"
        for wait in self.waits:
            who = " or ".join(self.party_of(who) for who in wait.option.who)
            text += f"; it waits for {who} to {self.wanted(wait)}"
            if wait.due is not None and self.jurisdiction is not None:
                text += f" ({describe(wait.due.reading, self.jurisdiction.calendar)})"
        return f"{text}."

    def described(self) -> dict[str, object]:
        """The same for programs."""
        case = self.case
        return {
            "application": self.id,
            "dataset": self.dataset,
            "applicant": str(self.applicant),
            "owner": str(self.owner),
            "state": str(self.stage),
            "since": iso(case.since.time) if case.since.time else None,
            "missing": list(case.returned.step.missing) if case.returned is not None else [],
            "rating": case.rating or None,
            "agreements": sorted(digest.hex() for digest in case.standing),
            "waits_for": [self._described_wait(wait) for wait in self.waits],
            "clocks": [self._described_due(due) for due in self.clocks],
            "history": [_described_event(event) for event in case.history],
        }

    def _described_wait(self, wait: Waiting) -> dict[str, object]:
        return {
            "act": str(wait.option.act),
            "who": [self.party_of(who) for who in wait.option.who],
            "clock": self._described_due(wait.due) if wait.due is not None else None,
        }

    def _described_due(self, due: Due) -> dict[str, object]:
        reading = due.reading
        return {
            "code": due.clock.clock.code,
            "state": str(reading.state),
            "started": iso(due.run.started),
            "due": iso(reading.due) if reading.due is not None else None,
            "left": reading.left,
            "late": reading.late,
            "unit": str(reading.unit),
            "extended": due.run.extended,
            "escalated_to": str(reading.escalated_to) if reading.escalated_to is not None else None,
        }


def tell_case(directory: Directory, application: bytes, rules: str = "") -> Told:
    """Tell the case of an application that is known here.

    Args:
        application: its object id; rules: a file of one's own, where the exchange's are not among the program's.
    """
    case = directory.case(application)
    assert case is not None  # noqa: S101 - who asks has found the application here
    latest = directory.terms.applications[case.application]
    dataset = directory.terms.datasets[latest.dataset]
    jurisdiction = jurisdiction_of(directory, rules)
    moment = max(now(), directory.state.time)
    waits, clocks = _clocked(case, jurisdiction, moment)
    return Told(
        latest,
        dataset.version.owner,
        dataset_name(dataset),
        case,
        case.shown(is_suspended(directory, case, moment)),
        waits,
        clocks,
        jurisdiction,
    )


def tell_all(directory: Directory, rules: str = "") -> list[Told]:
    """Every case that this party may see, in the order of their applications."""
    known = (object_id for object_id in directory.terms.events if _is_known(directory, object_id))
    found = [tell_case(directory, object_id, rules) for object_id in known]
    return sorted(found, key=lambda told: told.case.history[0].index)


def _is_known(directory: Directory, application: bytes) -> bool:
    case = directory.case(application)
    return case is not None and directory.terms.applications[case.application].dataset in directory.terms.datasets


def _clocked(case: Case, jurisdiction: Jurisdiction | None, moment: int) -> tuple[tuple[Waiting, ...], tuple[Due, ...]]:
    """What a case waits for, with its clocks; without them where no rules or no calendar are at hand."""
    try:
        if jurisdiction is not None:
            return waiting(case, jurisdiction, moment), dues(case, jurisdiction, moment)
    except CalendarError as error:
        say_once(f"Clocks are left out: {error}.")
    return tuple(Waiting(option, None) for option in waits_for(case)), ()


def is_suspended(directory: Directory, case: Case, moment: int) -> bool:
    """Whether every agreement of a case is held up at a time, milliseconds."""
    return bool(case.standing) and all(directory.is_suspended(digest, moment) for digest in case.standing)


def jurisdiction_of(directory: Directory, rules: str = "") -> Jurisdiction | None:
    """The rules that the exchange has adopted, or those named; None where they are not at hand."""
    # Reading rules takes a third of a second to load: who asks for no clock need not wait for it.
    from exchange.rules.reading import DEFAULT
    from exchange.rules.tables import shipped_rules

    adopted = directory.state.rules
    name = rules or adopted.jurisdiction or DEFAULT
    if not rules and name not in shipped_rules():
        say_once(f"The rules {name!r} that this exchange adopted are not here: name their file with --rules.")
        return None
    found, digest = _loaded(name)
    if adopted.jurisdiction and digest != adopted.rules_sha256:
        say_once(f"The rules {name!r} here are not the file that this exchange adopted: days may be counted otherwise.")
    return found


@cache
def _loaded(name: str) -> tuple[Jurisdiction, bytes]:
    from exchange.rules.reading import load_rules, rules_digest

    return load_rules(name), rules_digest(name)


def print_story(told: Told) -> None:
    """Print what happened in a case, line by line, its clocks and what it waits for."""
    rows = [(_day(event, told.jurisdiction), _actor(event), _done(event), _words(event)) for event in told.case.history]
    print_table(("DAY", "WHO", "WHAT", "WORDS"), rows)
    if told.jurisdiction is not None and told.clocks:
        calendar = told.jurisdiction.calendar
        print_line()
        for due in told.clocks:
            clock = due.clock.clock
            print_line(f"{clock.label_en}: {describe(due.reading, calendar)} ({clock.article})")
    print_line()
    print_line(told.summary)


def _day(event: Event, jurisdiction: Jurisdiction | None) -> str:
    """The day of an event where its clocks are counted, or its place where no more is known."""
    if not event.time:
        return f"entry {event.index}"
    return str(jurisdiction.calendar.day_of(event.time)) if jurisdiction is not None else day_of(event.time)


def _actor(event: Event) -> str:
    return "/".join(event.actor.segments[1:])


def _done(event: Event) -> str:
    if event.subject and event.act in {Act.WITHDRAW, Act.END}:
        return "revoked it" if event.act == Act.WITHDRAW else "the agreement was revoked"
    return _DONE[event.act]


def _words(event: Event) -> str:
    step = event.step
    parts = [step.text] if step.text else []
    if step.missing:
        parts.append(f"missing: {listed(step.missing)}")
    if step.rating:
        parts.append(f"{step.rating} of 5")
    return "; ".join(parts)


def _described_event(event: Event) -> dict[str, object]:
    return {
        "act": str(event.act),
        "actor": str(event.actor),
        "part": str(event.who),
        "index": event.index,
        "time": iso(event.time) if event.time else None,
        "text": event.step.text,
        "missing": list(event.step.missing),
        "rating": event.step.rating or None,
    }
