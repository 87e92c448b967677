"""`exchange steward`: a department's stewards, each with a key of their own, which signs in the department's place."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.cli.frame.homes import require_own_key
from exchange.cli.frame.output import clean, grouped, print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, now
from exchange.cli.joining.admission import Admission
from exchange.cli.joining.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    admit,
)
from exchange.cli.people.countersigning import Waiting, described, read_waiting
from exchange.cli.people.keys import described_key, keys_in, parsed, revoke_all, standing_keys, state_of
from exchange.client.session import Session
from exchange.core.entries import ObjectVersion, stewardship_entry
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.people import stewardship_name
from exchange.core.state import KeyRecord
from exchange.core.wire import decode
from exchange.home import Home, write_file
from exchange.v1.directory_pb2 import Key, Role

StewardArgument = Annotated[str, typer.Argument(metavar="PARTY", help="The steward's name, in full.")]
ReasonOption = Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)]

# One of them could else remove the others.
_ONLY = "only the department's own key admits and removes stewards"

NOBODY_LEFT = (
    "no steward's key is valid: whoever keeps the department's own key adds one with `exchange steward add`; where that"
    " key is gone too, `exchange key recover` asks the operator, whose root key signs a new one for it"
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
        print_json([described_key(record) for record in found])
        return
    if not found:
        print_line("No steward has a key: the department's own key signs for it.")
        return
    rows = [(record.party, state_of(record), day_of(record.not_after), grouped(record.key_id)) for record in found]
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
    party = parsed(steward)
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
    party = parsed(steward)
    # Asked before anything is signed: a handover that names nobody must not leave a steward more.
    act(home, lambda session: _standing(session, party))
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "steward")
    index, _ = act(home, lambda session: _removed(session, party, reason))
    if not as_json:
        print_line(f"{party} signs nothing for the department any more: entry {index} of the directory.")


@app.command("require", epilog=example("exchange steward require 2 --home ./housing"))
def require(
    count: Annotated[int, typer.Argument(metavar="COUNT", min=1, max=2, help="1 or 2.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Say how many stewards sign what shares data: datasets, agreements, standing approvals, keys of systems.

    With 2, the first steward's command writes a file, and another one's `exchange steward countersign` enters it. What
    ends or holds something up needs one; the department's own key needs nobody.
    """
    require_own_key(home, "only the department's own key says how many stewards it needs")
    index = act(home, lambda session: _require(session, count))
    if as_json:
        print_json({"needed": count, "index": index})
    else:
        print_line(f"{'Two stewards sign' if count > 1 else 'One steward signs'}: entry {index} of the directory.")


@app.command(
    "countersign", epilog=example("exchange steward countersign second-3f2a91c0.json --home ./housing-steward-2")
)
def countersign(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="What the first one sent.")],
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign what another steward of the department signed first, and enter it."""
    place = Home(home)
    if place.role != "steward":
        raise CommandError(f"{place.party} is a {place.role}: a steward countersigns", "choose the home with --home", 2)
    own = key_id(place.signer().public_key)
    waiting, second = act(home, lambda session: _waiting(session, file.read_bytes(), own))
    for name, value in described(waiting, second):
        say(f"  {name:20} {clean(str(value))}")
    if not yes and not sys.stdin.isatty():
        raise CommandError("nobody has looked at it; nothing was signed", "--yes signs without asking", ExitCode.USAGE)
    if not yes and not typer.confirm("Sign this for the department?", err=True):
        raise CommandError("nothing was signed")
    appended = act(home, lambda session: session.append(session.sign(waiting.draft)))
    if waiting.entry.WhichOneof("body") == "key":
        party = Party.parse(decode(Key, waiting.entry.key.statement).party)
        trust = place.read("trust.toml").decode("utf-8-sig")
        target = out or file.with_name(f"{party.segments[-1]}-admission.json")
        write_file(target, Admission(party, appended.certificate, trust).encode(), 0o644)
        say(f"The admission is in {target}.")
    if as_json:
        print_json({"index": appended.index, "signed_first_by": str(second)})
    else:
        print_line(f"Entered: entry {appended.index} of the directory.")


async def _require(session: Session, count: int) -> int:
    state, department = session.directory.state, session.party
    before = state.people.officers.get(stewardship_name(department))
    version = new_object() if before is None else ObjectVersion(state.versions[before].object_id, before)
    return (await session.append(session.sign(stewardship_entry(department, version, count)))).index


async def _waiting(session: Session, data: bytes, own: bytes) -> tuple[Waiting, Party]:
    keys = session.directory.state.keys
    if own not in keys:
        raise CommandError(
            "this steward's key is not in the directory", "the department adds it: `exchange steward add`"
        )
    waiting = read_waiting(data, session.directory.state, keys[own], now())
    return waiting, keys[waiting.entry.second.key_id].party


async def _stewards(session: Session) -> list[KeyRecord]:
    return keys_in(session, Role.ROLE_STEWARD)


async def _standing(session: Session, party: Party) -> list[KeyRecord]:
    return standing_keys(session, party, Role.ROLE_STEWARD)


async def _removed(session: Session, party: Party, reason: str) -> tuple[int, Sequence[KeyRecord]]:
    """Revoke every key of a steward; the last entry's index, and all stewards' keys then."""
    index = await revoke_all(session, party, Role.ROLE_STEWARD, reason)
    return index, await _stewards(session)


def _tell_if_nobody_is_left(found: Sequence[KeyRecord]) -> None:
    if not any(state_of(record) == "valid" for record in found):
        say(NOBODY_LEFT)
