"""`exchange certificates`: which keys and certificates end soon, and who renews them."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import ExitCode, WrongUsageError, say
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.times import DAY, day_of, days_left, iso, now
from exchange.client.errors import ExchangeError
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.expiry import Expiring, Kind, expiring
from exchange.core.names import Party
from exchange.home import Home
from exchange.succession import certificates_of
from exchange.v1.directory_pb2 import Role

_WITHIN = re.compile(r"([1-9][0-9]{0,4})d")

app = new_command()


@app.command(
    epilog=example(
        "exchange certificates --within 30d --home ./health",
        "exchange certificates --within 60d --json --home ./operator/broker",
    )
)
def certificates(
    within: Annotated[str, typer.Option(metavar="DAYS", help="What ends within so many days: 30d.")] = "60d",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List what ends soon: this home's certificates, and the keys of this party and those below it.

    The operator's and a broker's home show everybody's keys. Exit code 1 where something has ended already.
    """
    days = _days(within)
    directory, problem = asyncio.run(_directory(Home(home)))
    if problem:
        say(f"the directory as this home has it; it could not be read anew: {problem}")
    found = standing_expiry(home, directory, days * DAY)
    if as_json:
        print_json({"within_days": days, "up_to_date": not problem, "expiring": [described(item) for item in found]})
    elif found:
        print_table(("ends", "left", "what", "party", "renewed"), [_row(item) for item in found])
    else:
        print_line(f"Nothing ends within {days} days.")
    if any(item.until <= now() for item in found):
        raise typer.Exit(ExitCode.REFUSED)


def standing_expiry(home: Path, directory: Directory | None, within: int) -> tuple[Expiring, ...]:
    """What ends within a time, as a home sees it.

    Args:
        home: whose certificates, and from whose place in the tree of names the keys are looked at.
        directory: as far as it is known; within: milliseconds.

    Raises:
        HomeError: a certificate cannot be read.
    """
    place = Home(home)
    party = Party(place.party.domain) if place.role in {"root", "broker", "coordinator"} else place.party
    return expiring(directory, [party], certificates_of(place), now(), within)


def described(item: Expiring) -> dict[str, object]:
    """One of them, for programs."""
    return {
        "what": item.kind.value,
        "party": str(item.party),
        "key": item.id or None,
        "until": iso(item.until),
        "days_left": (item.until - now()) // DAY,
        "renews_itself": item.renewal is not None,
        "warning_days": item.warning(now()),
    }


def warning_line(item: Expiring) -> str:
    """One of them, in a line for `status`, with what to do."""
    left = days_left(item.until, now())
    key = f" {item.id.hex()[:16]} …" if item.id else ""
    return f"{item.kind.value}{key} of {item.party}: {left}, until {day_of(item.until)}; {_renewed(item)}"


def _renewed(item: Expiring) -> str:
    if item.kind is Kind.TLS_AUTHORITY:
        return "a new trust file for everybody"
    if item.role == Role.ROLE_BROKER:
        return "with another broker: exchange broker add"
    if item.renewal is not None:
        return "by itself, while its service runs"
    return "exchange key renew" if item.kind is Kind.TLS_CERTIFICATE else "exchange key rotate"


def _row(item: Expiring) -> tuple[object, ...]:
    key = f" {item.id.hex()[:16]}" if item.id else ""
    return day_of(item.until), days_left(item.until, now()), item.kind.value + key, item.party, _renewed(item)


def _days(text: str) -> int:
    found = _WITHIN.fullmatch(text)
    if found is None:
        raise WrongUsageError(f"--within: not a number of days: {text[:100]}", "write it as 30d")
    return int(found[1])


async def _directory(home: Home) -> tuple[Directory | None, str]:
    """The directory, as new as it can be had, and why it is not newer."""
    try:
        async with Session(home) as session:
            try:
                return await session.sync(), ""
            except ExchangeError as error:
                return session.directory, str(error)
    except ExchangeError as error:
        return None, str(error)
