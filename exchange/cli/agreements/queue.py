"""`exchange agreement queue`: what is due to whom, the most urgent first."""

from typing import Annotated

import typer

from exchange.cli.acting import act
from exchange.cli.agreements.telling import Told, tell_all
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.grants import SHOWN_ID
from exchange.cli.output import print_csv, print_json, print_line, print_table
from exchange.cli.times import day_of, iso
from exchange.client.session import Session
from exchange.core.clocks import State, describe
from exchange.core.due import Waiting
from exchange.core.names import Party
from exchange.core.procedure import Who

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

Row = tuple[Told, Waiting]


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

    A party sees the cases that it may see: its own; coordinators and auditors see all of them.
    """
    rows = act(home, lambda session: _rows(session, department, overdue, rules))
    if as_json:
        print_json([_described(told, wait) for told, wait in rows])
    elif as_csv:
        print_csv(COLUMNS, [_cells(told, wait) for told, wait in rows])
    elif not rows:
        print_line("Nothing is late." if overdue else "Nothing is due.")
    else:
        print_table(COLUMNS, [_cells(told, wait) for told, wait in rows])


async def _rows(session: Session, department: str, overdue: bool, rules: str) -> list[Row]:
    rows = [(told, wait) for told in tell_all(session.directory, rules) for wait in told.waits]
    if department:
        rows = [row for row in rows if department in _departments(*row)]
    if overdue:
        rows = [row for row in rows if _is_late(row[1])]
    return sorted(rows, key=_urgency)


def _departments(told: Told, wait: Waiting) -> set[str | None]:
    """The departments that have to act; a coordinator belongs to none."""
    return {_party(told, who).department for who in wait.option.who if who != Who.COORDINATOR}


def _party(told: Told, who: Who) -> Party:
    return told.applicant if who in {Who.APPLICANT, Who.APPLICANT_HEAD} else told.owner


def _is_late(wait: Waiting) -> bool:
    return wait.due is not None and wait.due.reading.state == State.OVERDUE


def _urgency(row: Row) -> tuple[bool, int, int]:
    """What has a time comes first, the earliest first; the rest by how long it has waited."""
    told, wait = row
    due = wait.due.reading.due if wait.due is not None else None
    return due is None, due or 0, told.case.since.time


def _cells(told: Told, wait: Waiting) -> tuple[object, ...]:
    reading = wait.due.reading if wait.due is not None else None
    text = (
        describe(reading, told.jurisdiction.calendar) if reading is not None and told.jurisdiction else "no time limit"
    )
    return (
        day_of(reading.due) if reading is not None and reading.due is not None else None,
        text,
        reading.escalated_to if reading is not None else None,
        " or ".join(told.party_of(who) for who in wait.option.who),
        told.wanted(wait),
        told.dataset,
        told.id[:SHOWN_ID],
    )


def _described(told: Told, wait: Waiting) -> dict[str, object]:
    reading = wait.due.reading if wait.due is not None else None
    return {
        "application": told.id,
        "dataset": told.dataset,
        "state": str(told.stage),
        "act": str(wait.option.act),
        "who": [told.party_of(who) for who in wait.option.who],
        "departments": sorted(name for name in _departments(told, wait) if name),
        "clock": wait.due.clock.clock.code if wait.due is not None else None,
        "due": iso(reading.due) if reading is not None and reading.due is not None else None,
        "overdue": _is_late(wait),
        "left": reading.left if reading is not None else None,
        "late": reading.late if reading is not None else None,
        "escalated_to": str(reading.escalated_to) if reading is not None and reading.escalated_to else None,
    }
