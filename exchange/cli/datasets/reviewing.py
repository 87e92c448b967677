"""`exchange dataset review`, `extend`, `deprecate`: a dataset's way through the catalogue, with its clock."""

from collections.abc import Sequence
from typing import Annotated

import typer

from exchange.cli.agreements.taking import append_checked
from exchange.cli.agreements.telling import jurisdiction_of
from exchange.cli.datasets.similar import overlap_text, unexplained
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import WrongUsageError, say_once
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, end_of_day, iso, now
from exchange.client.datasets import dataset_name, find_dataset
from exchange.client.session import Session
from exchange.core.calendar import CalendarError
from exchange.core.clocks import Jurisdiction, Reading, RunningClock, describe, read
from exchange.core.directory import Directory
from exchange.core.entries import body_entry
from exchange.core.review import UPDATE, Review, Standing, review_of
from exchange.core.terms import DatasetTerms
from exchange.core.wire import FORMAT
from exchange.v1.procedure_pb2 import Action, Step

DatasetArgument = Annotated[str, typer.Argument(metavar="DEPARTMENT/CODE", help="As `dataset list` names it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `exchange dataset`."""
    for name, command, line in (
        ("review", review, "exchange dataset review registry-office/households --publish --home ./data-bureau"),
        ("extend", extend, 'exchange dataset extend registry-office/households --reason "merged" --home ./data-bureau'),
        (
            "deprecate",
            deprecate,
            'exchange dataset deprecate office/households --until 2027-06-30 --reason "replaced" --home ./office',
        ),
    ):
        app.command(name, epilog=example(line))(command)


def review(
    dataset: DatasetArgument,
    publish: Annotated[bool, typer.Option("--publish", help="It can be applied for from now on.")] = False,
    missing: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Return it: what is missing; repeat it for each thing.")
    ] = None,
    text: Annotated[str, typer.Option(help="Words for its owner.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish a dataset that was submitted, or return it with all that is missing (coordinator)."""
    require_role(home, "coordinator", "only a coordinator reviews datasets")
    if publish == bool(missing):
        raise WrongUsageError("either --publish, or --missing for each thing that is missing", "say one of the two")
    action = Action.ACTION_PUBLISH if publish else Action.ACTION_RETURN_DATASET
    step = Step(action=action, text=check_text("--text", text) if text else "", missing=_texts(missing or ()))
    _take(home, dataset, step, "Published" if publish else "Returned", as_json)


def extend(
    dataset: DatasetArgument,
    reason: Annotated[str, typer.Option(help="Why the owner gets more time.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give an owner more time to put right what was returned, once (coordinator)."""
    require_role(home, "coordinator", "only a coordinator extends time")
    step = Step(action=Action.ACTION_EXTEND, clock=UPDATE, text=check_text("--reason", reason))
    _take(home, dataset, step, "Extended", as_json)


def deprecate(
    dataset: DatasetArgument,
    until: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The last day on which it can be applied for.")],
    reason: Annotated[str, typer.Option(help="Why, and what replaces it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Give notice that a dataset will be retired: agreements go on, new ones end with the day (its steward)."""
    require_role(home, "department", "only a department's steward retires its datasets")
    last = end_of_day(until, "--until")
    step = Step(action=Action.ACTION_DEPRECATE, until=last, text=check_text("--reason", reason))
    _take(home, dataset, step, "Deprecated", as_json)


def standing_of(directory: Directory, dataset: DatasetTerms) -> Review | None:
    """How a dataset stands now."""
    return review_of(directory.terms, dataset.object_id, now())


def reading_of(found: Review, jurisdiction: Jurisdiction | None) -> Reading | None:
    """The clock of a review that runs; None where none does, or where its rules or its calendar are not at hand."""
    timing = found.timing
    if timing is None or jurisdiction is None:
        return None
    clock = next((clock for clock in jurisdiction.clocks if clock.code == timing.code), None)
    if clock is None:
        return None
    extended = clock.extension.count if timing.extended and clock.extension is not None else 0
    try:
        return read(RunningClock(clock, timing.started, extended), jurisdiction, max(now(), timing.started))
    except CalendarError as error:
        say_once(f"Clocks are left out: {error}.")
        return None


def clock_text(directory: Directory, found: Review) -> str:
    """The clock that runs, in words; empty where there is none to read."""
    jurisdiction = jurisdiction_of(directory)
    reading = reading_of(found, jurisdiction)
    return describe(reading, jurisdiction.calendar) if reading is not None and jurisdiction is not None else ""


def standing_text(directory: Directory, found: Review) -> str:
    """How a dataset stands, who is waited for, and by when: one line."""
    clock = clock_text(directory, found)
    timed = f" ({clock})" if clock else ""
    words = {
        Standing.SUBMITTED: f"submitted; it waits for the coordinator to publish it{timed}",
        Standing.RETURNED: f"returned; it waits for its owner{timed}; missing: {'; '.join(found.missing)}",
        Standing.PUBLISHED: f"published since {day_of(found.since)}",
        Standing.DEPRECATED: f"deprecated; it can be applied for until {day_of(found.until)}: {found.text}",
        Standing.RETIRED: f"retired since {day_of(found.since)}: {found.text}",
    }
    return words[found.standing]


def describe_standing(directory: Directory, found: Review | None) -> dict[str, object] | None:
    """The same for programs."""
    if found is None:
        return None
    return {
        "state": str(found.standing),
        "since": iso(found.since),
        "by": str(found.by),
        "text": found.text or None,
        "missing": list(found.missing),
        "until": iso(found.until) if found.until else None,
        "clock": clock_text(directory, found) or None,
        "can_be_applied_for": found.is_open,
    }


def _texts(missing: Sequence[str]) -> list[str]:
    return [check_text("--missing", text) for text in missing]


def _take(home: HomeOption, name: str, step: Step, verb: str, as_json: bool) -> None:
    index, directory, dataset = act(home, lambda session: _append(session, name, step))
    found = standing_of(directory, dataset)
    if as_json:
        print_json({"index": index, "dataset": dataset_name(dataset), "review": describe_standing(directory, found)})
        return
    print_line(f"{verb} {dataset_name(dataset)}: entry {index} of the directory.")
    if step.action == Action.ACTION_PUBLISH:
        duplicates = unexplained(directory, dataset.descriptor, dataset.version.owner, home)
        if duplicates:
            print_line(f"Others provide some of it too, which it does not explain: {overlap_text(duplicates)}.")
    if found is not None:
        print_line(f"It is {standing_text(directory, found)}.")


async def _append(session: Session, name: str, step: Step) -> tuple[int, Directory, DatasetTerms]:
    dataset = find_dataset(session.directory, name)
    digest = b"" if step.action == Action.ACTION_EXTEND else dataset.version.digest
    wanted = Step(format=FORMAT, subject=dataset.object_id, digest=digest)
    wanted.MergeFrom(step)
    index = await append_checked(session, body_entry(session.party, new_object(), wanted, new_salt()))
    return index, await session.sync(), dataset
