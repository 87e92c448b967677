"""`exchange log erase`: a coordinator, or the owner of a body, signs that it may go."""

import re
from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.texts import check_text
from exchange.client.session import Session
from exchange.core.entries import erased_entry
from exchange.core.envelope import DIGEST
from exchange.home import Home
from exchange.v1.directory_pb2 import EntryRange, Erased

ERASE_EXAMPLE = example(
    'exchange log erase --access 0-99999 --reason "retention of three years is over" \\',
    '    --legal-basis "Archives Act, article 9" --home ./coordinator',
)
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


def erase(
    reason: Annotated[str, typer.Option(help="Why it need not be kept.", show_default=False)],
    legal_basis: Annotated[str, typer.Option(help="The law that asks for it.", show_default=False)],
    access: Annotated[
        str, typer.Option(metavar="FIRST-LAST", help="Entries of the access log, both included (a coordinator).")
    ] = "",
    body: Annotated[
        str, typer.Option(metavar="ID", help="A dataset, application or agreement that has ended (its owner).")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be signed, and sign nothing.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Erase bodies for good, by a signed entry.

    The entry says which, why, and by which law; leaves and the tree always stay. The broker refuses what is younger
    than it keeps, on hold, or needed by an agreement. With --body all versions go at once, and there can be no
    later one.
    """
    if bool(access) == bool(body):
        raise WrongUsageError("either --access or --body", "entries of the access log, or one object of the directory")
    check_text("--reason", reason)
    check_text("--legal-basis", legal_basis)
    erased = Erased(reason=reason, legal_basis=legal_basis)
    if access:
        erased.access.CopyFrom(_range(access))
        _require_coordinator(Home(home))
    index, what = act(home, lambda session: _erase(session, erased, body, dry_run))
    if as_json:
        print_json({"index": index, "erased": what, "dry_run": dry_run})
    elif dry_run:
        print_line(f"Would erase {what}. Nothing was signed.")
    else:
        print_line(f"Erased {what}: entry {index} of the directory.")


def command(first: int, end: int) -> str:
    """What a coordinator types to erase access entries from `first` to before `end`."""
    return f'exchange log erase --access {first}-{end - 1} --reason "…" --legal-basis "…"'


async def _erase(session: Session, erased: Erased, typed: str, dry_run: bool) -> tuple[int | None, str]:
    if typed:
        erased.digest, what = _version(session, typed)
    else:
        what = f"the bodies of access entries {erased.access.first} to {erased.access.end - 1}"
    if dry_run:
        return None, what
    draft = erased_entry(session.party, new_object().object_id, erased)
    return (await session.append(session.sign(draft))).index, what


def _range(text: str) -> EntryRange:
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise WrongUsageError(f"--access: not a range: {text}", "first and last index, both included: 0-99999")
    return EntryRange(first=int(match[1]), end=int(match[2]) + 1)


def _require_coordinator(home: Home) -> None:
    if home.role != "coordinator":
        text = f"{home.party} is a {home.role}: a coordinator erases entries of the access log"
        raise CommandError(text, "choose the home with --home", ExitCode.USAGE)


def _version(session: Session, typed: str) -> tuple[bytes, str]:
    """The version that a person named by its message digest, or the beginning of it."""
    wanted = typed.lower()
    versions = session.directory.state.versions
    found = [digest for digest, version in versions.items() if version.body_sha256 and digest.hex().startswith(wanted)]
    if len(found) != 1 or not wanted:
        text = f"--body: {len(found)} datasets, applications or agreements begin with {typed}"
        raise WrongUsageError(text, f"`exchange agreement list` shows them; an id has {2 * DIGEST} hex digits")
    [digest] = found
    return digest, f"the body of {digest.hex()[:12]}"
