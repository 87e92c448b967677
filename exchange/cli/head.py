"""`exchange head`: a department admits the head of its sharing office, who consents to applications and answers."""

import secrets
from typing import Annotated

import typer

from exchange.cli.acting import act
from exchange.cli.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    admit,
    require_parent,
)
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.errors import CommandError, WrongUsageError
from exchange.cli.homes import require_role
from exchange.cli.output import grouped, print_json, print_line, print_table
from exchange.cli.texts import check_text
from exchange.cli.times import day_of, iso, now
from exchange.client.session import Session
from exchange.core.entries import revocation_entry
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, KeyRecord
from exchange.v1.directory_pb2 import Role

app = new_group(
    "Admit the head of a department's sharing office (its steward).",
    "exchange head add head-request.json --home ./health",
    "exchange head list --home ./health",
)


@app.command(
    "add",
    epilog=example(
        "exchange head add head-request.json --home ./health",
        "exchange head add head-request.json --fingerprint '3f2a 91c0 …' --home ./health",
    ),
)
def add(
    request: RequestArgument,
    fingerprint: FingerprintOption = "",
    unchecked: UncheckedOption = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a head's key with the department's.

    The request comes from `exchange key new exchange://DOMAIN/DEPARTMENT/NAME --role head`. The key signs consents, and
    neither requests nor agreements.
    """
    require_parent(home, "department")
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "head")


@app.command("list", epilog=example("exchange head list --home ./health"))
def list_heads(
    everybody: Annotated[bool, typer.Option("--all", help="Also those of other departments.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the heads of a department's sharing office, and whether their keys hold."""
    found = act(home, lambda session: _heads(session, everybody))
    if as_json:
        print_json([_described(record) for record in found])
    elif not found:
        print_line("No head has a key: `exchange key new exchange://DOMAIN/DEPARTMENT/NAME --role head` makes one.")
    else:
        rows = [(record.party, _state(record), day_of(record.not_after), grouped(record.key_id)) for record in found]
        print_table(("HEAD", "STATE", "UNTIL", "FINGERPRINT"), rows)


@app.command(
    "remove",
    epilog=example('exchange head remove exchange://city.example/health/head --reason "retired" --home ./health'),
)
def remove(
    head: Annotated[str, typer.Argument(metavar="PARTY", help="The head's name, in full.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Revoke a head's key; what it consented to before stands."""
    require_role(home, "department", "only a department's steward removes its heads")
    check_text("--reason", reason)
    party = _parsed(head)
    index = act(home, lambda session: _remove(session, party, reason))
    if as_json:
        print_json({"party": str(party), "index": index, "reason": reason})
    else:
        print_line(f"{party} consents to nothing any more: entry {index} of the directory.")


async def _heads(session: Session, everybody: bool) -> list[KeyRecord]:
    department = session.party.own_department
    return [
        record
        for record in session.directory.state.keys.values()
        if record.role == Role.ROLE_HEAD and (everybody or record.party.own_department == department)
    ]


async def _remove(session: Session, party: Party, reason: str) -> int:
    keys = [record for record in session.directory.state.keys_of(party) if record.revoked_index is None]
    if party.parent != session.party or not keys or keys[-1].role != Role.ROLE_HEAD:
        raise CommandError(f"{party} is no head of {session.party} with a key", "`exchange head list` shows them")
    index = 0
    for record in keys:
        draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), record.key_id, reason)
        index = (await session.append(session.sign(draft))).index
    return index


def _parsed(text: str) -> Party:
    try:
        return Party.parse(text)
    except CoreError as error:
        raise WrongUsageError(str(error), "write it in full: exchange://DOMAIN/DEPARTMENT/NAME") from error


def _state(record: KeyRecord) -> str:
    if record.revoked_index is not None:
        return "removed"
    return "valid" if record.is_valid(now()) else "not valid now"


def _described(record: KeyRecord) -> dict[str, object]:
    return {
        "party": str(record.party),
        "state": _state(record),
        "not_after": iso(record.not_after),
        "fingerprint": record.key_id,
        "index": record.index,
    }
