"""`exchange resume`: lift a suspension."""

import secrets
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHOWN_ID
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, say
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.texts import check_text
from exchange.cli.governing.suspend import require_suspender
from exchange.cli.governing.suspending import TARGET_HELP, Suspended, find_suspensions, target_text
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import revocation_entry
from exchange.core.state import OBJECT_ID
from exchange.home import Home

app = new_command()


@app.command(
    epilog=example(
        'exchange resume 8c11d0a2 --reason "Put right" --home ./registry-office',
        "exchange resume officer-17@housing --home ./housing",
    )
)
def resume(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=f"A suspension's id, or: {TARGET_HELP}")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Lift suspensions: those that this party signed or, as a coordinator, any."""
    require_suspender(home)
    if reason:
        check_text("--reason", reason)
    coordinates = Home(home).role == "coordinator"
    directory, lifted, left = act(home, lambda session: _resume(session, target, reason, coordinates))
    if as_json:
        print_json({"lifted": [item.id for item in lifted], "still": [item.described(directory) for item in left]})
        return
    for item in lifted:
        print_line(f"Lifted {item.id[:SHOWN_ID]}: {target_text(directory, item.target)} is no longer suspended by it.")
    for item in left:
        say(f"{target_text(directory, item.target)} is still suspended by {item.standing.by}: {item.id[:SHOWN_ID]}")


async def _resume(
    session: Session, typed: str, reason: str, coordinates: bool
) -> tuple[Directory, list[Suspended], list[Suspended]]:
    directory = session.directory
    found = find_suspensions(directory, typed)
    own = [item for item in found if coordinates or item.standing.by == session.party]
    if not own:
        names = " and ".join(sorted({str(item.standing.by) for item in found}))
        raise CommandError(f"{typed} is suspended by {names}", "whoever suspended it lifts it, or the coordinator")
    for item in own:
        draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), item.standing.digest, reason)
        await session.append(session.sign(draft))
    return directory, own, [item for item in found if item not in own]
