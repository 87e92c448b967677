"""`exchange suspend`: hold something up, for now."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHOWN_ID
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, end_of_day, now
from exchange.cli.governing.suspending import TARGET_HELP, Suspended, read_target, suspensions, target_text
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import suspension_entry
from exchange.core.state import OBJECT_ID
from exchange.home import STEWARD, Home

app = new_command()


@app.command(
    epilog=example(
        'exchange suspend 8c11d0a2 --reason "Used for another purpose" --until 2027-01-31 --home ./registry-office',
        'exchange suspend officer-17@housing --reason "Under inquiry" --home ./housing',
        'exchange suspend exchange://city.example/housing/subsidies --reason "Broken into" --home ./coordinator',
    )
)
def suspend(
    target: Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP)],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day; without it, until it is lifted.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Suspend an agreement, a dataset, a party or an officer: no request about it is answered.

    A coordinator suspends anything; a department its own agreements, datasets, systems and officers.
    """
    require_suspender(home)
    check_text("--reason", reason)
    moment = end_of_day(until, "--until") if until else 0
    directory, suspended = act(home, lambda session: _suspend(session, target, reason, moment))
    if as_json:
        print_json(suspended.described(directory))
        return
    end = f"until {day_of(moment)}" if moment else "until it is lifted"
    print_line(f"Suspended {target_text(directory, suspended.target)} {end}.")
    print_line(f"To lift it: exchange resume {suspended.id[:SHOWN_ID]} --home {home}")


def require_suspender(home: Path) -> None:
    """Only coordinators and departments suspend, and lift.

    Raises:
        CommandError: another role.
    """
    place = Home(home)
    if place.role not in {"coordinator", "department", STEWARD}:
        raise CommandError(
            f"{place.party} is a {place.role}: only coordinators and departments suspend",
            "choose the home with --home",
            ExitCode.USAGE,
        )


async def _suspend(session: Session, typed: str, reason: str, until: int) -> tuple[Directory, Suspended]:
    said = read_target(session.directory, typed)
    said.reason, said.until = reason, until
    envelope = session.sign(suspension_entry(session.party, secrets.token_bytes(OBJECT_ID), said))
    await session.append(envelope)
    found = suspensions(session.directory, now())
    return session.directory, next(item for item in found if item.standing.digest == envelope.digest)
