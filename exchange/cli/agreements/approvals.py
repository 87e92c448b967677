"""Standing approvals: the owner's terms that every fitting application gets at once (Decree 809, article 21)."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements.answers import print_draft, write_answer
from exchange.cli.agreements.drafting import Approving, draft_approval
from exchange.cli.agreements.grants import SHOWN_ID
from exchange.cli.agreements.steps import DraftOption
from exchange.cli.agreements.taking import append_checked
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.times import end_of_day
from exchange.client.datasets import find_dataset
from exchange.client.session import Session
from exchange.core.entries import body_entry
from exchange.core.procedure_terms import ApprovalTerms


def register(app: typer.Typer) -> None:
    """Add the command to `exchange agreement`."""
    app.command(
        "approve-standing",
        epilog=example(
            "exchange agreement approve-standing --dataset registry-office/districts --days 365 \\",
            "    --purposes social.housing-subsidy --until 2028-12-31 --home ./registry-office",
        ),
    )(approve_standing)


def approve_standing(  # noqa: PLR0913 - the parts of an approval
    dataset: Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="Of this department.", show_default=False)],
    purposes: Annotated[str, typer.Option(metavar="A,B", help="Registered codes: see `purpose list`.")],
    days: Annotated[int, typer.Option(min=1, help="The longest term of an application, in days.")],
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day of all of them.")],
    grantees: Annotated[str, typer.Option(metavar="A,B", help="Parties; everybody where none is named.")] = "",
    operations: Annotated[str, typer.Option(metavar="A,B", help="All that the dataset offers, if none is named.")] = "",
    fields: Annotated[str, typer.Option(metavar="A,B", help="All of the dataset, if none is named.")] = "",
    filterable: Annotated[str, typer.Option(metavar="A,B", help="The fields that a QUERY may filter by.")] = "",
    draft: DraftOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Approve once what everybody may have of a dataset without conditions: fitting applications are agreed at once.

    Revoking the approval, or replacing it, ends what was agreed under it.
    """
    require_role(home, "department", "only a department's steward approves")
    wanted = Approving(grantees, operations, fields, filterable, purposes, days, end_of_day(until, "--until"))
    index, digest = act(home, lambda session: _approve(session, dataset, wanted, draft))
    if draft is not None:
        if as_json:
            print_json({"draft": str(draft)})
        else:
            print_draft(draft)
    elif as_json:
        print_json({"id": digest, "index": index, "dataset": dataset})
    else:
        print_line(f"Approved: entry {index} of the directory. Applications name it with")
        print_line(f"      exchange agreement apply --standing {digest.hex()[:SHOWN_ID]} …")


def find_approval(session: Session, typed: str) -> ApprovalTerms:
    """The one standing approval whose id begins with what was typed.

    Raises:
        WrongUsageError: none, or several.
    """
    found = [item for item in session.directory.terms.approvals.values() if item.version.digest.hex().startswith(typed)]
    if len(found) != 1 or not typed:
        how_many = "no" if not found or not typed else f"{len(found)}"
        raise WrongUsageError(
            f"--standing: {how_many} standing approvals begin with {typed!r}", "ask the owner for its id"
        )
    return found[0]


async def _approve(session: Session, name: str, wanted: Approving, draft: Path | None) -> tuple[int, bytes]:
    dataset = find_dataset(session.directory, name)
    if dataset.version.owner != session.party:
        raise WrongUsageError(f"--dataset: {name} belongs to {dataset.version.owner}")
    approval = draft_approval(session.directory, dataset, wanted)
    entry = body_entry(session.party, new_object(), approval, new_salt())
    if draft is not None:
        write_answer(draft, entry)
        return 0, b""
    digest = session.sign(entry).digest
    return await append_checked(session, entry), digest
