"""`exchange agreement stale`: agreements that nobody uses, or whose purpose has ended (Decree 809, article 27)."""

from dataclasses import dataclass
from typing import Annotated

import typer

from exchange.cli.agreements.grants import SHOWN_ID, Shown, show_all
from exchange.cli.agreements.queue import CsvOption
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import say
from exchange.cli.frame.output import listed, print_csv, print_json, print_line, print_table
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import DAY, day_of, iso, now
from exchange.client.session import Session
from exchange.client.uses import own_uses
from exchange.core.directory import Directory
from exchange.core.terms import AgreementTerms

COLUMNS = ("AGREEMENT", "DATASET", "GRANTEE", "LAST USE", "WHY")


@dataclass(frozen=True, slots=True)
class Stale:
    """An agreement that might be closed: when it was used last, milliseconds, and why it is listed."""

    shown: Shown
    used: int | None
    why: str


def register(app: typer.Typer) -> None:
    """Add the command to `exchange agreement`."""
    app.command("stale", epilog=example("exchange agreement stale --days 90 --home ./registry-office"))(stale)


def stale(
    days: Annotated[int, typer.Option(min=1, help="Without use for how many days.")] = 90,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List this department's agreements that nobody has used, or whose purpose is no longer registered.

    Use is what the access log's own entries of this party tell, as the broker gives them: a hint for closing, no proof.
    """
    found = act(home, lambda session: _stale(session, days))
    if as_json:
        print_json([_described(item) for item in found])
    elif as_csv:
        print_csv(COLUMNS, map(_cells, found))
    elif not found:
        print_line(f"No agreement went unused for {days} days, and every purpose is registered.")
    else:
        print_table(COLUMNS, map(_cells, found))
        say("To close one: exchange agreement end ID --reason TEXT")


async def _stale(session: Session, days: int) -> list[Stale]:
    department, moment = session.party.own_department, now()
    standing = [item for item in show_all(session.directory, moment) if item.is_standing and item.concerns(department)]
    last: dict[bytes, int] = {}
    with bar("the access log") as advance:
        async for use in own_uses(session, advance):
            last[use.agreement] = use.time
    found = []
    for item in standing:
        agreement = item.grant
        assert isinstance(agreement, AgreementTerms)  # noqa: S101 - an application never stands
        why = why_stale(session.directory, agreement, last.get(agreement.digest), moment - days * DAY)
        if why:
            found.append(Stale(item, last.get(agreement.digest), why))
    return sorted(found, key=lambda item: item.used or 0)


def why_stale(directory: Directory, agreement: AgreementTerms, used: int | None, since: int) -> str:
    """Why an agreement might be closed; empty where it is in use.

    Args:
        used: when, milliseconds; None is never.
        since: the time after which it should have been used.
    """
    gone = sorted(code for code in agreement.purposes if directory.state.purpose(code) is None)
    if gone:
        return f"no longer registered: {listed(gone)}"
    if used is None and agreement.version.time < since:
        return "never used"
    return "not used since" if used is not None and used < since else ""


def _cells(item: Stale) -> tuple[object, ...]:
    grantee = "/".join(item.shown.grant.grantee.segments[1:])
    return (item.shown.id[:SHOWN_ID], item.shown.dataset, grantee, day_of(item.used) if item.used else None, item.why)


def _described(item: Stale) -> dict[str, object]:
    return {
        "agreement": item.shown.id,
        "dataset": item.shown.dataset,
        "grantee": str(item.shown.grant.grantee),
        "last_use": iso(item.used) if item.used else None,
        "why": item.why,
    }
