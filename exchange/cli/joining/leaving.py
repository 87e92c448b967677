"""`exchange department leave`: a department ends what it granted and asked for, and revokes its keys, its own last.

What it was told stays in its ledger of use, and what it told in its adapters' ledgers: both are kept as long as their
retention says, and the log still proves every access.
"""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.cli.frame.homes import require_own_key
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.progress import bar, counted
from exchange.cli.frame.texts import check_text
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import revocation_entry
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID
from exchange.home import Home
from exchange.v1.directory_pb2 import EntryKind

EPILOG = example('exchange department leave --reason "Merged into the planning office" --home ./health')

# Rights before what they are rights to; keys come after all of them.
_ORDER = (
    EntryKind.ENTRY_KIND_AGREEMENT,
    EntryKind.ENTRY_KIND_STANDING_APPROVAL,
    EntryKind.ENTRY_KIND_APPLICATION,
    EntryKind.ENTRY_KIND_DATASET,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """One thing that ends: what it is, as people say it, and the message digest or key id that is revoked."""

    what: str
    target: bytes


def leave(
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Leave the exchange: end every agreement, application and dataset, and revoke every key, the department's last.

    Nothing undoes it: whoever comes back is given a new key by the root, after 72 hours in public view. Stopped in the
    middle, it goes on when it is run again. Keep the home and the adapters' ledgers: what was told stays accountable.
    """
    require_own_key(home, "only a department leaves, with its own key")
    check_text("--reason", reason)
    if not yes:
        _confirm(act(home, _endings), Home(home).party)
    ended = act(home, lambda session: _leave(session, reason))
    if as_json:
        print_json([{"ended": item.what, "target": item.target} for item in ended])
        return
    for kind in dict.fromkeys(item.what for item in ended):
        print_line(f"{sum(item.what == kind for item in ended):6,}  {kind}")
    print_line(f"{Home(home).party} has left the exchange. Keep {home} and the adapters' ledgers.")


async def _endings(session: Session) -> list[Ending]:
    return list(endings(session.directory, session.party, key_id(session.home.signer().public_key)))


async def _leave(session: Session, reason: str) -> list[Ending]:
    ended = await _endings(session)
    with bar("ending") as advance:
        for item in counted(ended, len(ended), advance):
            draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), item.target, reason)
            await session.append(session.sign(draft))
    return ended


def endings(directory: Directory, department: Party, own: bytes) -> Iterator[Ending]:
    """What a department ends when it leaves, in order.

    Args:
        directory: as it is now.
        department: whose versions and keys.
        own: id of the key that signs all of it, and comes last.
    """
    standing = [version for version in directory.state.versions_of(department) if version.ended_index is None]
    for kind in _ORDER:
        name = EntryKind.Name(kind).removeprefix("ENTRY_KIND_").lower().replace("_", " ")
        yield from (Ending(name, version.digest) for version in standing if version.kind == kind)
    keys = [record for record in directory.state.keys.values() if department.covers(record.party)]
    for record in sorted(keys, key=lambda record: (record.key_id == own, record.party == department, record.index)):
        if record.revoked_index is None:
            yield Ending(f"key of {record.party}", record.key_id)


def _confirm(found: list[Ending], department: Party) -> None:
    say(f"{department} leaves the exchange; {len(found):,} things end, for good:")
    for kind in dict.fromkeys(item.what for item in found):
        say(f"  {sum(item.what == kind for item in found):6,}  {kind}")
    if not sys.stdin.isatty():
        raise CommandError("nobody has confirmed it; nothing was ended", "--yes does it without asking", ExitCode.USAGE)
    if not typer.confirm("End all of this?", err=True):
        raise CommandError("nothing was ended", "", ExitCode.REFUSED)
