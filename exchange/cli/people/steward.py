"""`exchange steward`: a department's stewards, each with a key of their own, which signs in the department's place."""

import secrets
from collections.abc import Sequence
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
)
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.errors import CommandError, WrongUsageError, say
from exchange.cli.homes import require_own_key
from exchange.cli.output import grouped, print_json, print_line, print_table
from exchange.cli.texts import check_text
from exchange.cli.times import day_of, iso, now
from exchange.client.session import Session
from exchange.core.entries import revocation_entry
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, KeyRecord
from exchange.v1.directory_pb2 import Role

StewardArgument = Annotated[str, typer.Argument(metavar="PARTY", help="The steward's name, in full.")]
ReasonOption = Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)]

# One of them could else remove the others.
_ONLY = "only the department's own key admits and removes stewards"

NOBODY_LEFT = (
    "no steward's key is valid: whoever keeps the department's own key adds one with `exchange steward add`; where that"
    " key is gone too, the department asks the operator, whose root key signs a new one for it"
)

app = new_group(
    "Admit a department's stewards, hand over, and remove them (with the department's own key).",
    "exchange steward add steward-request.json --home ./housing",
    "exchange steward list --home ./housing",
)


@app.command(
    "add",
    epilog=example(
        "exchange steward add steward-request.json --home ./housing",
        "exchange steward add steward-request.json --fingerprint '3f2a 91c0 …' --home ./housing",
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
    """Sign a steward's key with the department's.

    The request comes from `exchange key new exchange://DOMAIN/DEPARTMENT/NAME --role steward`. The key signs datasets,
    applications, agreements, steps, systems, officers, suspensions and revocations for the department.
    """
    require_own_key(home, _ONLY)
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "steward")


@app.command("list", epilog=example("exchange steward list --home ./housing"))
def list_stewards(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List a department's stewards, and whether their keys hold."""
    found = act(home, _stewards)
    if as_json:
        print_json([_described(record) for record in found])
        return
    if not found:
        print_line("No steward has a key: the department's own key signs for it.")
        return
    rows = [(record.party, _state(record), day_of(record.not_after), grouped(record.key_id)) for record in found]
    print_table(("STEWARD", "STATE", "UNTIL", "FINGERPRINT"), rows)
    _tell_if_nobody_is_left(found)


@app.command(
    "remove",
    epilog=example(
        'exchange steward remove exchange://city.example/housing/steward-2 --reason "moved" --home ./housing'
    ),
)
def remove(
    steward: StewardArgument, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Revoke a steward's key: it signs nothing any more, and what it signed before stands."""
    require_own_key(home, _ONLY)
    check_text("--reason", reason)
    party = _parsed(steward)
    index, left = act(home, lambda session: _removed(session, party, reason))
    if as_json:
        print_json({"party": str(party), "index": index, "reason": reason})
        return
    print_line(f"{party} signs nothing for the department any more: entry {index} of the directory.")
    _tell_if_nobody_is_left(left)


@app.command(
    "handover",
    epilog=example(
        "exchange steward handover exchange://city.example/housing/steward-2 steward-3-request.json \\",
        '  --reason "moved to another office" --home ./housing',
    ),
)
def handover(
    steward: StewardArgument,
    request: RequestArgument,
    reason: ReasonOption,
    fingerprint: FingerprintOption = "",
    unchecked: UncheckedOption = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put a new steward's key in the place of another one's: the new one is admitted, then the old one revoked."""
    require_own_key(home, _ONLY)
    check_text("--reason", reason)
    party = _parsed(steward)
    # Asked before anything is signed: a handover that names nobody must not leave a steward more.
    act(home, lambda session: _standing(session, party))
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "steward")
    index, _ = act(home, lambda session: _removed(session, party, reason))
    if not as_json:
        print_line(f"{party} signs nothing for the department any more: entry {index} of the directory.")


async def _stewards(session: Session) -> list[KeyRecord]:
    department = session.party.own_department
    return [
        record
        for record in session.directory.state.keys.values()
        if record.role == Role.ROLE_STEWARD and record.party.own_department == department
    ]


async def _standing(session: Session, party: Party) -> list[KeyRecord]:
    """The keys of a steward that are not revoked.

    Raises:
        CommandError: there is none.
    """
    keys = [record for record in session.directory.state.keys_of(party) if record.revoked_index is None]
    if party.parent != session.party or not keys or keys[-1].role != Role.ROLE_STEWARD:
        raise CommandError(f"{party} is no steward of {session.party} with a key", "`exchange steward list` shows them")
    return keys


async def _removed(session: Session, party: Party, reason: str) -> tuple[int, Sequence[KeyRecord]]:
    """Revoke every key of a steward; the last entry's index, and all stewards' keys then."""
    index = 0
    for record in await _standing(session, party):
        draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), record.key_id, reason)
        index = (await session.append(session.sign(draft))).index
    return index, await _stewards(session)


def _tell_if_nobody_is_left(found: Sequence[KeyRecord]) -> None:
    if not any(_state(record) == "valid" for record in found):
        say(NOBODY_LEFT)


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
