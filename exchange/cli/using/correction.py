"""`exchange correction`: a record is wrong: file it, answer, see who was told, acknowledge (Decree 809, article 26)."""

import re
from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.agreements.drafting import named
from exchange.cli.agreements.grants import SHORTEST_ID, SHOWN_ID, find_agreement
from exchange.cli.agreements.taking import append_checked
from exchange.cli.agreements.telling import jurisdiction_of
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import listed, print_json, print_line, print_pairs, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, iso, now
from exchange.client.datasets import dataset_name
from exchange.client.session import Session
from exchange.core.calendar import CalendarError
from exchange.core.clocks import Reading, describe
from exchange.core.correction import Correction, Notice, Standing
from exchange.core.corrections import answer_due
from exchange.core.directory import Directory
from exchange.core.entries import body_entry
from exchange.core.names import Party, is_case_id
from exchange.core.wire import FORMAT
from exchange.v1.procedure_pb2 import Action, Step

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Of the correction: at least 8 digits of it.")]

_ID = re.compile(r"[0-9a-f]{8,32}")

app = new_group(
    "File that a record is wrong, answer, and see who was told of it.",
    "exchange correction file 8c11d0a2 --fields address --case ZF-2027-0001 \\",
    '    --text "the street was renamed" --home ./housing',
    "exchange correction answer 5b0e77d1 --corrected --home ./registry-office",
)


@dataclass(frozen=True, slots=True)
class Told:
    """A correction with the names and the clock that people ask for; `due` is None where no clock runs or ran."""

    correction: Correction
    dataset: str
    due: Reading | None
    due_text: str

    @property
    def id(self) -> str:
        """Its object id, in hex."""
        return self.correction.object_id.hex()

    def described(self) -> dict[str, object]:
        """The same for programs."""
        correction, due = self.correction, self.due
        filed, answered = correction.filed, correction.answered
        return {
            "id": self.id,
            "standing": str(correction.standing),
            "dataset": self.dataset,
            "owner": str(correction.owner),
            "fields": list(correction.fields),
            "filed_by": str(filed.version.owner) if filed is not None else None,
            "filed_at": iso(filed.version.time) if filed is not None else None,
            "case": filed.step.case_id if filed is not None else None,
            "text": filed.step.text if filed is not None else None,
            "answered_at": iso(answered.version.time) if answered is not None else None,
            "answer": answered.step.text if answered is not None else None,
            "clock": str(due.state) if due is not None else None,
            "due": iso(due.due) if due is not None and due.due is not None else None,
            "notices": [_described(notice) for notice in correction.notices],
        }


@app.command(
    "file",
    epilog=example(
        "exchange correction file 8c11d0a2 --fields address --case ZF-2027-0001 \\",
        '    --text "the street was renamed" --home ./housing',
    ),
)
def file(
    agreement: Annotated[str, typer.Argument(metavar="AGREEMENT", help="Under which the record came.")],
    fields: Annotated[str, typer.Option(metavar="A,B", help="The fields that are wrong.", show_default=False)],
    case: Annotated[str, typer.Option(metavar="ID", help="The case in which it was found: by it both offices know.")],
    text: Annotated[str, typer.Option(help="What is wrong, without saying about whom.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """File that a record is wrong. Whose record it is stays out of it: tell the owner by the case, on another way."""
    require_role(home, "department", "only a department's steward files corrections")
    check_text("--text", text)
    if not is_case_id(case):
        raise WrongUsageError("--case: letters, digits and hyphens, 64 at most", "for example --case ZF-2027-0001")
    told = act(home, lambda session: _file(session, agreement, fields, case, text))
    _print_done(told, "Filed", as_json)
    if not as_json:
        print_line(f"Next: the steward of {told.correction.owner} runs")
        print_line(f"      exchange correction answer {told.id[:SHOWN_ID]} --corrected --home DIR")


@app.command(
    "answer",
    epilog=example(
        'exchange correction answer 5b0e77d1 --corrected --text "put right today" --home ./registry-office',
        'exchange correction answer 5b0e77d1 --rejected --text "the register is right" --home ./registry-office',
    ),
)
def answer(
    id: IdArgument,
    corrected: Annotated[bool, typer.Option("--corrected", help="The record was wrong, and is put right.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="The record is right; --text says why.")] = False,
    text: Annotated[str, typer.Option(help="What was verified; the one who filed it reads it.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Answer a correction, as the dataset's owner: what was verified, and what came of it."""
    require_role(home, "department", "only a department's steward answers corrections")
    if corrected == rejected:
        raise WrongUsageError("one of --corrected and --rejected is needed")
    if rejected or text:
        check_text("--text", text)
    action = Action.ACTION_CORRECT if corrected else Action.ACTION_REJECT_CORRECTION
    told = act(home, lambda session: _take(session, id, Step(action=action, text=text)))
    _print_done(told, "Corrected" if corrected else "Rejected", as_json)
    if corrected and not as_json:
        print_line("Next: tell everybody who was given the record, from the home of the answering system:")
        print_line(f"      exchange-adapter notify {told.id[:SHOWN_ID]} --subject KEY --home DIR")


@app.command("list", epilog=example("exchange correction list --open --home ./registry-office"))
def list_corrections(
    only_open: Annotated[bool, typer.Option("--open", help="Only what is not answered yet.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the corrections that this party may see, the most urgent first."""
    found = act(home, _all)
    shown = [told for told in found if not only_open or told.correction.standing == Standing.FILED]
    if as_json:
        print_json([told.described() for told in shown])
    elif not shown:
        print_line("No correction waits for an answer." if only_open else "No correction is known here.")
    else:
        rows = [
            (told.id[:SHOWN_ID], told.correction.standing, told.dataset, listed(told.correction.fields), told.due_text)
            for told in shown
        ]
        print_table(("CORRECTION", "STANDING", "DATASET", "FIELDS", "CLOCK"), rows)


@app.command("show", epilog=example("exchange correction show 5b0e77d1 --home ./registry-office"))
def show(id: IdArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show a correction: what was filed and answered, who was told, and who has acknowledged."""
    told = act(home, lambda session: _found(session, id))
    if as_json:
        print_json(told.described())
    else:
        print_pairs(_pairs(told))


@app.command("acknowledge", epilog=example("exchange correction acknowledge 5b0e77d1 --home ./subsidies"))
def acknowledge(
    id: IdArgument,
    text: Annotated[str, typer.Option(help="What was done about it.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Acknowledge every notice of a correction that this party's department was given: it knows, and acts on it."""
    if text:
        check_text("--text", text)
    told = act(home, lambda session: _acknowledge(session, id, text))
    _print_done(told, "Acknowledged", as_json)


def find_correction(directory: Directory, typed: str) -> Correction:
    """The one correction whose id begins with what was typed.

    Raises:
        WrongUsageError: none or several, or too few digits.
    """
    if _ID.fullmatch(typed.lower()) is None:
        raise WrongUsageError(f"not a correction's id: {typed}", f"give {SHORTEST_ID} or more digits of it")
    found = [item for item in directory.terms.corrections.values() if item.object_id.hex().startswith(typed.lower())]
    if len(found) != 1:
        problem = "no correction that is known here begins" if not found else f"{len(found)} corrections begin"
        raise WrongUsageError(f"{problem} with {typed}", "`exchange correction list` shows them")
    return found[0]


async def _file(session: Session, typed: str, fields: str, case: str, text: str) -> Told:
    directory = session.directory
    shown = find_agreement(directory, typed, now())
    dataset = directory.terms.datasets.get(shown.grant.dataset)
    if dataset is None:
        raise CommandError(f"the dataset of {shown.id[:SHOWN_ID]} is not known here")
    names = named("--fields", fields, dataset.fields)
    step = Step(
        action=Action.ACTION_OPEN_CORRECTION,
        subject=new_object().object_id,
        about=shown.grant.dataset,
        fields=names,
        case_id=case,
        text=text,
    )
    return await _append(session, step)


async def _take(session: Session, typed: str, step: Step) -> Told:
    step.subject = find_correction(session.directory, typed).object_id
    return await _append(session, step)


async def _acknowledge(session: Session, typed: str, text: str) -> Told:
    correction, department = find_correction(session.directory, typed), session.party.own_department
    waiting = [item for item in correction.notices if item.recipient == department and item.acknowledged is None]
    if not waiting:
        raise CommandError("no notice of this correction waits for this party's acknowledgement")
    told = None
    for notice in waiting:
        digest = notice.version.digest
        step = Step(action=Action.ACTION_ACKNOWLEDGE, subject=correction.object_id, digest=digest, text=text)
        told = await _append(session, step)
    assert told is not None  # noqa: S101 - there is at least one
    return told


async def _append(session: Session, step: Step) -> Told:
    wanted = Step(format=FORMAT)
    wanted.MergeFrom(step)
    await append_checked(session, body_entry(session.party, new_object(), wanted, new_salt()))
    return _told(session.directory, session.directory.terms.corrections[step.subject])


async def _found(session: Session, typed: str) -> Told:
    return _told(session.directory, find_correction(session.directory, typed))


async def _all(session: Session) -> list[Told]:
    directory = session.directory
    found = [_told(directory, correction) for correction in directory.terms.corrections.values()]
    return sorted(found, key=_urgency)


def _urgency(told: Told) -> tuple[bool, int, str]:
    due = told.due.due if told.due is not None and told.due.due is not None else 0
    return told.correction.standing != Standing.FILED, due, told.id


def _told(directory: Directory, correction: Correction) -> Told:
    dataset = directory.terms.datasets.get(correction.dataset)
    name = dataset_name(dataset) if dataset is not None else correction.dataset.hex()
    jurisdiction = jurisdiction_of(directory)
    due, text = None, ""
    if jurisdiction is not None:
        try:
            due = answer_due(correction, jurisdiction, max(now(), directory.state.time))
            text = describe(due, jurisdiction.calendar) if due is not None else ""
        except CalendarError as error:
            text = str(error)
    return Told(correction, name, due, text)


def _print_done(told: Told, what: str, as_json: bool) -> None:
    if as_json:
        print_json(told.described())
        return
    print_line(f"{what}: correction {told.id[:SHOWN_ID]} of {told.dataset} is {told.correction.standing}.")
    if told.due_text:
        print_line(f"answer: {told.due_text}")


def _pairs(told: Told) -> dict[str, object]:
    correction = told.correction
    filed, answered = correction.filed, correction.answered
    pairs: dict[str, object] = {
        "correction": told.id,
        "standing": str(correction.standing),
        "dataset": told.dataset,
        "fields": listed(correction.fields),
    }
    if filed is not None:
        pairs["filed"] = f"{day_of(filed.version.time)} by {_short(filed.version.owner)}, case {filed.step.case_id}"
        pairs["says"] = filed.step.text
        pairs["clock"] = told.due_text
    if answered is not None:
        pairs["answered"] = f"{day_of(answered.version.time)} {answered.step.text}".rstrip()
    pairs["told"] = [_notice_line(notice) for notice in correction.notices] or "nobody yet"
    return pairs


def _notice_line(notice: Notice) -> str:
    count = "1 request" if len(notice.requests) == 1 else f"{len(notice.requests)} requests"
    acknowledged = notice.acknowledged
    state = f"acknowledged {day_of(acknowledged.time)}" if acknowledged is not None else "NOT acknowledged yet"
    return f"{_short(notice.recipient)}, {day_of(notice.version.time)}, {count}: {state}"


def _described(notice: Notice) -> dict[str, object]:
    acknowledged = notice.acknowledged
    return {
        "recipient": str(notice.recipient),
        "index": notice.version.index,
        "at": iso(notice.version.time),
        "request_ids": list(notice.requests),
        "acknowledged_at": iso(acknowledged.time) if acknowledged is not None else None,
        "acknowledged_by": str(acknowledged.owner) if acknowledged is not None else None,
    }


def _short(party: Party) -> str:
    return "/".join(party.segments[1:])
