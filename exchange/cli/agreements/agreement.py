"""`exchange agreement`: apply for a dataset, sign, list, show and revoke."""

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements import approvals, disputes, queue, stale, steps
from exchange.cli.agreements.answers import print_draft, write_answer
from exchange.cli.agreements.approvals import find_approval
from exchange.cli.agreements.drafting import Narrowing, Wish, draft_agreement, draft_application
from exchange.cli.agreements.enforcing import require_enforced, warn_of_masked_key
from exchange.cli.agreements.explaining import EXPLAIN_EPILOG, explain_request
from exchange.cli.agreements.grants import (
    SHOWN_ID,
    Shown,
    find_agreement,
    find_application,
    find_grant,
    print_grant,
    show_all,
    show_one,
)
from exchange.cli.agreements.steps import DraftOption
from exchange.cli.agreements.taking import check_entry, take
from exchange.cli.agreements.telling import Told, print_story, tell_case
from exchange.cli.agreements.terms import TEMPLATE, add_terms, keep_terms
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, end_of_day, now
from exchange.cli.frame.where import parse_where
from exchange.client.datasets import find_dataset
from exchange.client.session import Session
from exchange.core.entries import ObjectVersion, body_entry, revocation_entry
from exchange.core.envelope import Draft
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID
from exchange.core.terms import AgreementTerms, ApplicationTerms
from exchange.v1.procedure_pb2 import Action, Step
from exchange.v1.request_pb2 import Filter

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id, or at least the first 8 digits of it.")]

app = new_group(
    "Apply for a dataset, sign or revoke agreements.",
    "exchange agreement list --pending --home ./registry-office",
    "exchange agreement sign 3f2a91c07b44 --home ./registry-office",
)


@app.command(
    "apply",
    epilog=example(
        "exchange agreement apply --dataset registry-office/household.registration \\",
        "    --grantee exchange://city.example/housing/subsidies \\",
        "    --operations LOOKUP --fields full_name,district --purposes social.housing-subsidy \\",
        '    --legal-basis "Housing Act, section 12" --scenario "Check who lives where" \\',
        "    --until 2027-12-31 --home ./housing",
    ),
)
def apply(  # noqa: PLR0913 - the parts of an application
    dataset: Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="What for.", show_default=False)],
    grantee: Annotated[str, typer.Option(metavar="PARTY", help="This department or one of its systems.")],
    operations: Annotated[str, typer.Option(metavar="A,B", help="LOOKUP, QUERY.")],
    fields: Annotated[str, typer.Option(metavar="A,B", help="The fields of each row.")],
    purposes: Annotated[str, typer.Option(metavar="A,B", help="Registered codes: see `purpose list`.")],
    legal_basis: Annotated[str, typer.Option(help="The law that allows it.")],
    scenario: Annotated[str, typer.Option(help="Who will use it, how, and how often.")],
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day, such as 2027-12-31.")],
    filterable: Annotated[str, typer.Option(metavar="A,B", help="The fields that a QUERY may filter by.")] = "",
    standing: Annotated[str, typer.Option(metavar="ID", help="The standing approval that answers it at once.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Apply for a dataset; its owner answers with an agreement."""
    require_role(home, "department", "only a department's steward applies")
    wish = Wish(
        _grantee(grantee),
        operations,
        fields,
        filterable,
        purposes,
        check_text("--legal-basis", legal_basis),
        check_text("--scenario", scenario),
        end_of_day(until, "--until"),
    )
    applied = act(home, lambda session: _apply(session, dataset, wish, standing))
    if as_json:
        print_json(applied.described())
        return
    print_line(f"Applied for {applied.dataset}.")
    print_line(f"application  {applied.id}")
    if applied.state == "drafted":
        print_line("Next: the head of your office runs")
        print_line(f"      exchange agreement consent {applied.id[:SHOWN_ID]} --home HEAD")
        print_line(f"      and then you run `exchange agreement submit {applied.id[:SHOWN_ID]} --home {home}`")
    elif applied.state == "answered":
        print_line("The standing approval has answered it: it is agreed, and requests name it by this id.")
    else:
        print_line(f"Next: the steward of {applied.owner} runs")
        print_line(f"      exchange agreement sign {applied.id[:SHOWN_ID]} --home DIR")


@app.command(
    "sign",
    epilog=example(
        "exchange agreement sign 3f2a91c07b44 --home ./registry-office",
        "exchange agreement sign 3f2a91c07b44 --fields full_name --where \"district = 'Lakeside'\" \\",
        "    --until 2026-12-31 --terms terms.toml --home ./registry-office",
    ),
)
def sign(  # noqa: PLR0913 - what is granted less, and on which terms
    application: IdArgument,
    fields: Annotated[str, typer.Option(metavar="A,B", help="Grant only these of the fields asked for.")] = "",
    filterable: Annotated[str, typer.Option(metavar="A,B", help="Let only these be filtered by.")] = "",
    until: Annotated[str, typer.Option(metavar="DAY", help="Grant it for a shorter time.")] = "",
    where: Annotated[str, typer.Option(metavar="CONDITION", help="Grant only these rows.")] = "",
    terms: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Masks, officers, hours, limits: see `agreement terms`."),
    ] = None,
    supersedes: Annotated[str, typer.Option(metavar="ID", help="The agreement that this one replaces.")] = "",
    draft: DraftOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Answer an application with an agreement that grants what was asked for, or less.

    Where the exchange asks for consents, --draft writes it down for the head of the office to consent to first.
    """
    require_role(home, "department", "only a department's steward signs its agreements")
    not_after = end_of_day(until, "--until") if until else None
    narrowing = Narrowing(fields, filterable, not_after, terms=terms)
    unsigned = act(home, lambda session: _draft(session, application, narrowing, where, supersedes))
    if draft is not None:
        write_answer(draft, unsigned)
        print_json({"draft": str(draft)}) if as_json else print_draft(draft)
        return
    signed = act(home, lambda session: _publish(session, unsigned))
    if as_json:
        print_json(signed.described())
        return
    print_line(f"Signed an agreement with {signed.grant.grantee}:")
    print_line()
    print_grant(signed)
    print_line()
    print_line(f"Next: they ask with `exchange request {signed.dataset} …`.")
    print_line(f"To end it: exchange agreement revoke {signed.id[:SHOWN_ID]} --reason TEXT --home {home}")


@app.command("list", epilog=example("exchange agreement list --pending --home ./registry-office"))
def list_agreements(
    mine: Annotated[bool, typer.Option("--mine", help="Only of this department, as owner or grantee.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Only applications that wait for an answer.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List applications and agreements that this party may see, the newest first.

    An application is waiting, answered or withdrawn; an agreement is in force, ended, revoked or superseded.
    """
    shown = act(home, lambda session: _list(session, mine, pending))
    if as_json:
        print_json([item.described() for item in shown])
    elif not shown:
        print_line("No application waits." if pending else "No application or agreement is known here.")
    else:
        print_table(("ID", "STATE", "DATASET", "GRANTEE", "FIELDS", "UNTIL"), [_row(item) for item in shown])


@app.command("show", epilog=example("exchange agreement show 3f2a91c07b44 --home ./registry-office"))
def show(id: IdArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show all that an application or an agreement says, and its case: what happened, and what is due from whom."""
    shown, told = act(home, lambda session: _find(session, id))
    if as_json:
        print_json(shown.described() | {"case": told.described() if told is not None else None})
        return
    print_grant(shown)
    if told is not None:
        print_line()
        print_story(told)


@app.command(
    "revoke",
    epilog=example('exchange agreement revoke 8c11d0a2 --reason "The subsidy ended" --home ./registry-office'),
)
def revoke(
    id: IdArgument,
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Revoke an agreement as its owner, at once; or withdraw an application as the applicant."""
    check_text("--reason", reason)
    shown, index, others = act(home, lambda session: _revoke(session, id, reason))
    if as_json:
        print_json({"id": shown.id, "state": shown.state, "index": index, "reason": reason, "still_in_force": others})
        return
    print_line(f"The {shown.kind} {shown.id[:SHOWN_ID]} is {shown.state}: entry {index} of the directory.")
    if shown.kind == "agreement":
        print_line(f"No new request of {shown.grant.grantee} is answered under it.")
    for other in others:
        say(f"Another agreement with them on {shown.dataset} is still in force: {other[:SHOWN_ID]}")


@app.command("terms", epilog=example("exchange agreement terms > terms.toml"))
def terms() -> None:
    """Print terms to start from: masks, officers, hours, limits, review."""
    typer.echo(TEMPLATE, nl=False)


app.command("explain", epilog=EXPLAIN_EPILOG)(explain_request)


async def _apply(session: Session, name: str, wish: Wish, standing: str) -> Shown:
    dataset = find_dataset(session.directory, name)
    if standing:
        wish = replace(wish, standing_approval=find_approval(session, standing.lower()).version.digest)
    application = draft_application(session.directory, session.party, dataset, wish)
    envelope = session.sign(body_entry(session.party, new_object(), application, new_salt()))
    check_entry(session, envelope)
    await session.append(envelope)
    return _shown(session, envelope.digest)


async def _draft(session: Session, typed: str, narrowing: Narrowing, where: str, supersedes: str) -> Draft:
    directory = session.directory
    found = find_application(directory, typed, now())
    application = found.grant
    assert isinstance(application, ApplicationTerms)  # noqa: S101 - `find_application` finds nothing else
    _check_answerable(session, found)
    if where:
        narrowing = Narrowing(
            narrowing.fields,
            narrowing.filterable,
            narrowing.not_after,
            _rows(session, application, where),
            narrowing.terms,
        )
    version = _superseded(session, supersedes, application) if supersedes else _first(session, application)
    agreement = draft_agreement(application, narrowing, now())
    if narrowing.terms is not None:
        add_terms(agreement, narrowing.terms, directory.terms.datasets[application.dataset])
    elif version.supersedes:
        # What the owner withheld before is not given away by saying nothing of it.
        keep_terms(agreement, directory.terms.agreements[version.supersedes])
    dataset = directory.terms.datasets[application.dataset]
    require_enforced(session.home.path, dataset, agreement)
    warn_of_masked_key(dataset, agreement)
    return body_entry(session.party, version, agreement, new_salt())


async def _publish(session: Session, unsigned: Draft) -> Shown:
    envelope = session.sign(unsigned)
    check_entry(session, envelope)
    await session.append(envelope)
    return _shown(session, envelope.digest)


async def _list(session: Session, mine: bool, pending: bool) -> list[Shown]:
    department = session.party.parent if session.party.is_system else session.party
    return [
        item
        for item in show_all(session.directory, now())
        if not (pending and item.state != "waiting")
        and not (mine and department is not None and not item.concerns(department))
    ]


async def _find(session: Session, typed: str) -> tuple[Shown, Told | None]:
    shown = find_grant(session.directory, typed, now())
    digest = shown.grant.version.digest if isinstance(shown.grant, ApplicationTerms) else shown.grant.application
    application = session.directory.state.versions[digest].object_id
    is_known = application in session.directory.terms.events
    return shown, tell_case(session.directory, application) if is_known else None


async def _revoke(session: Session, typed: str, reason: str) -> tuple[Shown, int, list[str]]:
    shown = find_grant(session.directory, typed, now())
    owner = shown.grant.version.owner
    # A system may revoke its own department's agreements, never grant (DESIGN section 7).
    own = session.party == owner or (shown.kind == "agreement" and owner.covers(session.party))
    if not own:
        what = "the owner alone revokes an agreement" if shown.kind == "agreement" else "the applicant withdraws it"
        raise CommandError(f"the {shown.kind} is {owner}'s, and this is the home of {session.party}: {what}")
    if shown.state in {"revoked", "superseded", "withdrawn"}:
        raise CommandError(f"the {shown.kind} {shown.id[:SHOWN_ID]} is {shown.state} already")
    index = await _end(session, shown, reason)
    others = [
        item.id
        for item in show_all(session.directory, now())
        if item.is_standing and (item.grant.dataset, item.grant.grantee) == (shown.grant.dataset, shown.grant.grantee)
    ]
    return _ended(session, shown), index, others


async def _end(session: Session, shown: Shown, reason: str) -> int:
    if isinstance(shown.grant, AgreementTerms) and shown.grant.approval:
        # What a standing approval gave has no entry of the owner's that could be revoked.
        taken = await take(session, shown.id, Step(action=Action.ACTION_END, text=reason))
        return taken.index
    draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), shown.grant.version.digest, reason)
    return (await session.append(session.sign(draft))).index


def _ended(session: Session, shown: Shown) -> Shown:
    return show_one(session.directory, shown.grant, now())


def _shown(session: Session, digest: bytes) -> Shown:
    """What the mirror, which has just seen the entry, makes of it."""
    terms = session.directory.terms
    grant = terms.applications.get(digest) or terms.agreements.get(digest)
    if grant is None:
        raise CommandError(
            "the entry is in the directory, but its body was not accepted, so it grants nothing",
            "something it names was changed at the same moment: look with `exchange agreement list`, and try again",
        )
    return show_one(session.directory, grant, now())


def _check_answerable(session: Session, application: Shown) -> None:
    if application.owner != session.party:
        raise CommandError(
            f"{application.dataset} belongs to {application.owner}, and this is the home of {session.party}",
            "only the dataset's owner signs; choose the home with --home",
        )
    if application.state in {"withdrawn", "superseded"}:
        raise CommandError(f"the application {application.id[:SHOWN_ID]} is {application.state}", "they apply again")


def _rows(session: Session, application: ApplicationTerms, where: str) -> Filter:
    """The owner's row filter may use every field of its dataset."""
    return parse_where(where, session.directory.terms.datasets[application.dataset].types)


def _first(session: Session, application: ApplicationTerms) -> ObjectVersion:
    """A first agreement: a second one on the same application would outlive the revocation of the first."""
    for item in show_all(session.directory, now()):
        answer = item.grant
        if isinstance(answer, AgreementTerms) and answer.application == application.version.digest and item.is_standing:
            raise CommandError(
                f"the agreement {item.id[:SHOWN_ID]} answers this application already, and is {item.state}",
                f"--supersedes {item.id[:SHOWN_ID]} replaces it",
            )
    return new_object()


def _superseded(session: Session, typed: str, application: ApplicationTerms) -> ObjectVersion:
    old = find_agreement(session.directory, typed, now())
    if old.grant.version.owner != session.party or old.state == "superseded":
        raise CommandError(f"--supersedes: the agreement {old.id[:SHOWN_ID]} cannot be replaced: it is {old.state}")
    if (old.grant.dataset, old.grant.grantee) != (application.dataset, application.grantee):
        raise CommandError("--supersedes: that agreement is on another dataset, or with another grantee")
    return ObjectVersion(old.grant.version.object_id, old.grant.version.digest)


def _grantee(text: str) -> Party:
    try:
        return Party.parse(text)
    except CoreError as error:
        hint = "write it in full: exchange://DOMAIN/DEPARTMENT[/SYSTEM]"
        raise WrongUsageError(f"--grantee: {error}", hint) from error


def _row(item: Shown) -> tuple[object, ...]:
    grant = item.grant
    # The domain is the same for all of them.
    grantee = "/".join(grant.grantee.segments[1:])
    return (
        item.id[:SHOWN_ID],
        item.state,
        item.dataset,
        grantee,
        len(grant.fields),
        day_of(grant.not_after),
    )


steps.register(app)
approvals.register(app)
queue.register(app)
stale.register(app)
app.add_typer(disputes.app, name="dispute")
