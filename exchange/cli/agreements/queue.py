"""`exchange agreement queue`: what is due to whom, the most urgent first."""

from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHOWN_ID
from exchange.cli.agreements.telling import Told, jurisdiction_of, tell_all
from exchange.cli.datasets.reviewing import reading_of, standing_of
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.output import print_csv, print_json, print_line, print_table
from exchange.cli.frame.times import day_of, iso
from exchange.client.datasets import dataset_name, published_datasets
from exchange.client.session import Session
from exchange.core.clocks import Jurisdiction, Reading, State, describe
from exchange.core.directory import Directory
from exchange.core.due import Waiting
from exchange.core.names import Party
from exchange.core.procedure import Who
from exchange.core.review import Standing
from exchange.core.terms import DatasetTerms

COLUMNS = ("DUE", "CLOCK", "GOES TO", "WAITS FOR", "TO", "DATASET", "APPLICATION")

RulesOption = Annotated[
    str,
    typer.Option(
        "--rules",
        metavar="RULES",
        help="The file of the rules that this exchange adopted, if it is none of the program's.",
    ),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV (RFC 4180).")]

# Whose homes show the reviews of every dataset.
_LOOKING_ON = frozenset({"coordinator", "auditor"})


@dataclass(frozen=True, slots=True)
class Due:
    """Something that somebody has to do: a step of a case, or of a dataset's review.

    Args:
        reading: of the clock that runs; None where no law sets a time, or its rules are not at hand.
        clock: its code, or empty; jurisdiction: whose rules it is read by.
        who: is waited for, in words; departments: theirs; a coordinator belongs to none.
        act: the step; wanted: the same for people.
        dataset: DEPARTMENT/CODE; state: of the case, or of the dataset.
        since: milliseconds.
        application: its digest in hex; empty for a review.
    """

    reading: Reading | None
    clock: str
    jurisdiction: Jurisdiction | None
    who: tuple[str, ...]
    departments: frozenset[str]
    act: str
    wanted: str
    dataset: str
    state: str
    since: int
    application: str = ""

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.reading is not None and self.reading.state == State.OVERDUE


def register(app: typer.Typer) -> None:
    """Add the command to `exchange agreement`."""
    app.command(
        "queue",
        epilog=example(
            "exchange agreement queue --home ./registry-office",
            "exchange agreement queue --overdue --csv --home ./data-bureau",
        ),
    )(queue)


def queue(
    department: Annotated[
        str, typer.Option(metavar="NAME", help="Only what this department has to do, such as registry-office.")
    ] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Only what is late.")] = False,
    rules: RulesOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List what is due to whom, the most urgent first, and whom it goes to once it is late.

    That is the steps of applications and agreements, and the reviews of datasets, which have no application. A party
    sees its own; coordinators and auditors see all of them.
    """
    rows = act(home, lambda session: _rows(session, department, overdue, rules))
    if as_json:
        print_json([_described(item) for item in rows])
    elif as_csv:
        print_csv(COLUMNS, [_cells(item) for item in rows])
    elif not rows:
        print_line("Nothing is late." if overdue else "Nothing is due.")
    else:
        print_table(COLUMNS, [_cells(item) for item in rows])


async def _rows(session: Session, department: str, overdue: bool, rules: str) -> list[Due]:
    directory = session.directory
    found = [_of_case(told, wait) for told in tell_all(directory, rules) for wait in told.waits]
    found += [
        _of_review(directory, dataset, rules)
        for dataset in published_datasets(directory)
        if _is_waiting(directory, dataset) and _may_see(session, dataset)
    ]
    if department:
        found = [item for item in found if department in item.departments]
    if overdue:
        found = [item for item in found if item.is_late]
    return sorted(found, key=_urgency)


def _of_case(told: Told, wait: Waiting) -> Due:
    # A coordinator belongs to no department.
    departments = {_party(told, who).department for who in wait.option.who if who != Who.COORDINATOR}
    return Due(
        reading=wait.due.reading if wait.due is not None else None,
        clock=wait.due.clock.clock.code if wait.due is not None else "",
        jurisdiction=told.jurisdiction,
        who=tuple(told.party_of(who) for who in wait.option.who),
        departments=frozenset(filter(None, departments)),
        act=str(wait.option.act),
        wanted=told.wanted(wait),
        dataset=told.dataset,
        state=str(told.stage),
        since=told.case.since.time,
        application=told.id,
    )


def _of_review(directory: Directory, dataset: DatasetTerms, rules: str) -> Due:
    """What a dataset waits for on its way through the catalogue: the coordinator, or its owner where it came back."""
    found = standing_of(directory, dataset)
    assert found is not None  # noqa: S101 - who asks has seen that it waits
    owner = dataset.version.owner.department or ""
    jurisdiction = jurisdiction_of(directory, rules)
    returned = found.standing == Standing.RETURNED
    return Due(
        reading=reading_of(found, jurisdiction),
        clock=found.timing.code if found.timing is not None else "",
        jurisdiction=jurisdiction,
        who=(f"{owner}'s steward" if returned else str(Who.COORDINATOR),),
        departments=frozenset({owner} if returned else ()),
        act="submit" if returned else "review",
        wanted="put it right" if returned else "review it",
        dataset=dataset_name(dataset),
        state=str(found.standing),
        since=found.since,
    )


def _is_waiting(directory: Directory, dataset: DatasetTerms) -> bool:
    found = standing_of(directory, dataset)
    return found is not None and found.standing in {Standing.SUBMITTED, Standing.RETURNED}


def _may_see(session: Session, dataset: DatasetTerms) -> bool:
    """A review is between the owner and the coordinator; auditors look on."""
    return session.home.role in _LOOKING_ON or dataset.version.owner.covers(session.party)


def _party(told: Told, who: Who) -> Party:
    return told.applicant if who in {Who.APPLICANT, Who.APPLICANT_HEAD} else told.owner


def _urgency(item: Due) -> tuple[bool, int, int]:
    """What has a time comes first, the earliest first; the rest by how long it has waited."""
    due = item.reading.due if item.reading is not None else None
    return due is None, due or 0, item.since


def _cells(item: Due) -> tuple[object, ...]:
    reading, jurisdiction = item.reading, item.jurisdiction
    return (
        day_of(reading.due) if reading is not None and reading.due is not None else None,
        describe(reading, jurisdiction.calendar) if reading is not None and jurisdiction else "no time limit",
        reading.escalated_to if reading is not None else None,
        " or ".join(item.who),
        item.wanted,
        item.dataset,
        item.application[:SHOWN_ID] or None,
    )


def _described(item: Due) -> dict[str, object]:
    reading = item.reading
    return {
        "application": item.application or None,
        "dataset": item.dataset,
        "state": item.state,
        "act": item.act,
        "who": list(item.who),
        "departments": sorted(item.departments),
        "clock": item.clock or None,
        "due": iso(reading.due) if reading is not None and reading.due is not None else None,
        "overdue": item.is_late,
        "left": reading.left if reading is not None else None,
        "late": reading.late if reading is not None else None,
        "escalated_to": str(reading.escalated_to) if reading is not None and reading.escalated_to else None,
    }
