"""The steps of a case as commands: consent, submit, return, refuse, answer, supply, withdraw, end, extend, rate."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements.answers import print_draft, read_answer, write_answer
from exchange.cli.agreements.grants import find_application, find_grant
from exchange.cli.agreements.taking import (
    Taken,
    about_version,
    append_checked,
    application_of,
    print_taken,
    take,
)
from exchange.cli.agreements.telling import tell_case
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import now
from exchange.client.session import Session
from exchange.core.entries import body_entry
from exchange.core.procedure import Timer
from exchange.core.wire import FORMAT
from exchange.v1.directory_pb2 import Agreement
from exchange.v1.procedure_pb2 import Action, StandingApproval, Step

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Of the application or the agreement: at least 8 digits of it.")
]
DraftOption = Annotated[
    Path | None, typer.Option("--draft", metavar="FILE", help="Write the answer for the head to consent to, unsigned.")
]
TextOption = Annotated[str, typer.Option("--text", help="Words for the others who see the case.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `exchange agreement`."""
    for name, command, line in (
        ("consent", consent, "exchange agreement consent 3f2a91c07b44 --home ./housing-head"),
        ("submit", submit, "exchange agreement submit 3f2a91c07b44 --home ./housing"),
        (
            "return",
            give_back,
            'exchange agreement return 3f2a91c07b44 --missing "the council\'s decision" --home ./office',
        ),
        ("refuse", refuse, 'exchange agreement refuse 3f2a91c07b44 --reason "no legal basis" --home ./registry-office'),
        ("answer", answer, "exchange agreement answer answer.json --home ./registry-office"),
        ("supply", supply, "exchange agreement supply 8c11d0a2 --home ./registry-office"),
        ("withdraw", withdraw, "exchange agreement withdraw 3f2a91c07b44 --home ./housing"),
        ("end", end, 'exchange agreement end 8c11d0a2 --reason "the purpose is met" --home ./housing'),
        ("extend", extend, 'exchange agreement extend 3f2a91c07b44 --reason "two registers" --home ./data-bureau'),
        ("rate", rate, 'exchange agreement rate 8c11d0a2 --rating 4 --text "quick" --home ./housing'),
    ):
        app.command(name, epilog=example(line))(command)


def consent(
    what: Annotated[
        str, typer.Argument(metavar="ID|FILE", help="The application's id; or the file of an answer, not yet signed.")
    ],
    text: TextOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Consent as the head of the office: to an application before it is sent, or to an answer before it is given."""
    require_role(home, "head", "only the head of a sharing office consents")
    path = Path(what)
    if path.is_file():
        index, digest = act(home, lambda session: _consent_to_answer(session, path, text))
        if as_json:
            print_json({"index": index, "answer": digest})
        else:
            print_line(f"Consented to the answer in {path}: entry {index} of the directory.")
            print_line(f"Next: the steward runs `exchange agreement answer {path} --home DIR`.")
        return
    taken = act(home, lambda session: _about(session, what, Action.ACTION_CONSENT, text))
    print_taken(taken, "Consented", as_json)


def submit(id: IdArgument, text: TextOption = "", home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Submit an application to the dataset's owner; also again, once what was missing is there."""
    require_role(home, "department", "only a department's steward submits")
    taken = act(home, lambda session: _about(session, id, Action.ACTION_SUBMIT, text))
    print_taken(taken, "Submitted", as_json)


def give_back(
    id: IdArgument,
    missing: Annotated[list[str], typer.Option(help="What is missing; once for each, and all at once.")],
    text: TextOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Return an application with the complete list of what is missing: once, and the clock stands still meanwhile."""
    require_role(home, "department", "only a department's steward returns applications")
    for item in missing:
        check_text("--missing", item)
    _take(home, id, Step(action=Action.ACTION_RETURN, missing=missing, text=text), "Returned", as_json)


def refuse(
    id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why; the applicant reads it.", show_default=False)],
    draft: DraftOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Refuse an application, with reasons; where heads consent, write the refusal with --draft first."""
    require_role(home, "department", "only a department's steward refuses applications")
    step = Step(action=Action.ACTION_REFUSE, text=check_text("--reason", reason))
    if draft is None:
        _take(home, id, step, "Refused", as_json)
        return
    act(home, lambda session: _draft_refusal(session, id, step, draft))
    if as_json:
        print_json({"draft": str(draft)})
    else:
        print_draft(draft)


def answer(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The answer's file.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign and publish the answer that the head of the office has consented to."""
    require_role(home, "department", "only a department's steward answers applications")
    index, told = act(home, lambda session: _publish(session, file))
    if as_json:
        print_json({"index": index, "case": told})
    else:
        print_line(f"Published the answer in {file}: entry {index} of the directory.")
        # Its id is what requests name, and what is suspended, amended or ended.
        agreements = told["agreements"] if told is not None else []
        for agreement in agreements if isinstance(agreements, list) else []:
            print_line(f"agreement  {agreement}")


def supply(id: IdArgument, text: TextOption = "", home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Say that the data of an agreement is supplied: the adapter answers, or a file was handed over."""
    taken = act(home, lambda session: _supply(session, id, text))
    print_taken(taken, "Supplied", as_json)


def withdraw(
    id: IdArgument, text: TextOption = "", home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Withdraw an application that is not answered yet, as the applicant."""
    require_role(home, "department", "only a department's steward withdraws")
    _take(home, id, Step(action=Action.ACTION_WITHDRAW, text=text), "Withdrawn", as_json)


def end(
    id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why; the other side reads it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End what was agreed, from either side: nothing more is answered under it."""
    step = Step(action=Action.ACTION_END, text=check_text("--reason", reason))
    _take(home, id, step, "Ended", as_json)


def extend(
    id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why; the applicant reads it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Extend the owner's time to answer, as the coordinator: once."""
    require_role(home, "coordinator", "only a coordinator extends")
    check_text("--reason", reason)
    taken = act(home, lambda session: _extend(session, id, reason))
    print_taken(taken, "Extended", as_json)


def rate(
    id: IdArgument,
    rating: Annotated[int, typer.Option(min=1, max=5, help="1 is bad, 5 is very good.", show_default=False)],
    text: TextOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say how satisfied the applicant is with the answer and the data; the last rating counts."""
    require_role(home, "department", "only a department's steward rates")
    _take(home, id, Step(action=Action.ACTION_RATE, rating=rating, text=text), "Rated", as_json)


def _take(home: Path, typed: str, step: Step, done: str, as_json: bool) -> None:
    print_taken(act(home, lambda session: take(session, typed, step)), done, as_json)


async def _about(session: Session, typed: str, action: "Action.ValueType", text: str) -> Taken:
    return await take(session, typed, about_version(session, typed, action, text))


async def _consent_to_answer(session: Session, path: Path, text: str) -> tuple[int, bytes]:
    found = read_answer(path)
    if found.entry.owner != str(session.party.parent):
        raise CommandError(f"the answer is {found.entry.owner}'s, and this is the home of {session.party}")
    step = Step(format=FORMAT, action=Action.ACTION_CONSENT_ANSWER, digest=found.digest, text=text)
    body = found.body
    if isinstance(body, StandingApproval):
        step.subject = body.dataset
    elif isinstance(body, Agreement):
        version = session.directory.state.versions.get(body.application)
        step.subject = version.object_id if version is not None else b""
    elif isinstance(body, Step):
        step.subject = body.subject
    index = await append_checked(session, body_entry(session.party, new_object(), step, new_salt()))
    return index, found.digest


async def _draft_refusal(session: Session, typed: str, step: Step, path: Path) -> None:
    application = find_application(session.directory, typed, now()).grant
    wanted = Step(format=FORMAT, subject=application.version.object_id)
    wanted.MergeFrom(step)
    write_answer(path, body_entry(session.party, new_object(), wanted, new_salt()))


async def _publish(session: Session, path: Path) -> tuple[int, dict[str, object] | None]:
    found = read_answer(path)
    if found.entry.owner != str(session.party):
        raise CommandError(f"the answer is {found.entry.owner}'s, and this is the home of {session.party}")
    index = await append_checked(session, found.draft)
    if isinstance(found.body, StandingApproval):
        return index, None
    subject = found.body.subject if isinstance(found.body, Step) else b""
    if isinstance(found.body, Agreement):
        subject = session.directory.state.versions[found.body.application].object_id
    return index, tell_case(session.directory, subject).described()


async def _supply(session: Session, typed: str, text: str) -> Taken:
    shown = find_grant(session.directory, typed, now())
    case = session.directory.case(application_of(session, shown).version.object_id)
    standing = sorted(case.standing) if case is not None else []
    digest = shown.grant.version.digest if shown.grant.version.digest in standing else b"".join(standing[-1:])
    return await take(session, typed, Step(action=Action.ACTION_SUPPLY, digest=digest or bytes(32), text=text))


async def _extend(session: Session, typed: str, reason: str) -> Taken:
    application = application_of(session, find_grant(session.directory, typed, now()))
    told = tell_case(session.directory, application.version.object_id)
    run = told.case.running(Timer.ANSWER)
    if run is not None and told.jurisdiction is not None:
        clock = told.jurisdiction.clock(run.code)
        if clock.extension is None:
            raise WrongUsageError(f"{clock.code} cannot be extended ({clock.article})")
    step = Step(action=Action.ACTION_EXTEND, clock=run.code if run is not None else "", text=reason)
    return await take(session, typed, step)
