"""`exchange-audit search`: every access that fits, out of the mirror, each row proven before it is shown."""

import asyncio
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import Finding, plural
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.witnessed import kept_standing, mirror_standing
from exchange.cli.audit.searching.asking import UNVERIFIED, Answer, ask_broker
from exchange.cli.audit.searching.criteria import Criteria
from exchange.cli.audit.searching.following import follow
from exchange.cli.audit.searching.options import Typed, searched
from exchange.cli.audit.searching.rows import COLUMNS, ProvenEntry, described, proven_entries, row
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import clean, print_json, print_table
from exchange.core.directory import Directory
from exchange.home import Home

MOST = 10_000

app = new_command()


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Args:
        rows: proven, by index.
        findings: rows that could not be proven, or that the index had under a wrong name.
        following: the last index of this page, where more fit after it; None where nothing does.
        log: the log's name.
        size: how many entries the checkpoint counts that all of it is verified by.
        caveats: what is not shown by this.
    """

    rows: tuple[ProvenEntry, ...]
    findings: tuple[Finding, ...]
    following: int | None
    log: str
    size: int
    caveats: tuple[str, ...]


@app.command(
    epilog=example(
        "exchange-audit search --case HS-2026-118 --home ./audit-office",
        "exchange-audit search --requester housing --since 2026-11-01 --kind refused --home ./audit-office",
        "exchange-audit search --key 3f2a91c0 --since 2027-01-15T08:30 --home ./audit-office",
        "exchange-audit search --officer officer-17 --follow --home ./audit-office",
    )
)
@searched
def search(
    typed: Typed,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="The most rows of one page.")] = 100,
    after: Annotated[
        int | None, typer.Option(min=-1, metavar="INDEX", help="Only entries after this one: the next page.")
    ] = None,
    broker: Annotated[
        bool, typer.Option("--broker", help="Ask the broker's index, not the mirror; it may leave entries out.")
    ] = False,
    following: Annotated[
        bool, typer.Option("--follow", help="Go on: print what fits as it enters the log, until Ctrl-C.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find accesses in the mirror; without any option, all of them.

    Every row is read again from its leaf and body and proven against the signed checkpoint, so no index can make one
    up. That the mirror's hides none is what `exchange-audit verify full` shows; nothing shows it of the broker's. With
    --follow, --json prints one line for each entry.
    """
    if following and broker:
        raise WrongUsageError(
            "--follow and --broker exclude each other", "--follow brings the mirror up to date itself"
        )
    if following:
        require_role(home, "auditor", "only an auditor is given the whole access log")
        follow(Home(home), typed, after, as_json)
        return
    start, again = (after + 1 if after is not None else 0), _again(typed, limit, home, broker=broker)
    if broker:
        require_role(home, "auditor", "only an auditor may search the whole access log")
        directory, answer = asyncio.run(ask_broker(Home(home), typed, start, limit))
        found = _told(home, answer)
        _print(directory, found, as_json, again)
        _end(home, found)
        return
    with opened_home(home) as place:
        directory = place.verified_directory()
        found = _search(place, typed.criteria(directory), start, limit)
        _print(directory, found, as_json, again)
        _end(home, found)
        place.end()


def _search(place: AuditHome, criteria: Criteria, start: int, limit: int) -> Found:
    rows: list[ProvenEntry] = []
    findings: list[Finding] = []
    following = None
    # One more than is shown tells whether there is another page.
    for item in proven_entries(place.access, criteria, start, limit + 1, place.erasures()):
        if len(rows) == limit:
            following = rows[-1].index
            break
        if isinstance(item, Finding):
            findings.append(item)
        elif criteria.holds(item.entry):
            rows.append(item)
    size = place.access.checkpoint.size
    caveats = mirror_standing(place).caveats
    return Found(tuple(rows), tuple(findings), following, place.access.origin, size, caveats)


def _told(home: Path, answer: Answer) -> Found:
    """What the broker's index gave, and what stays open: its checkpoint was held against what this home has seen."""
    checkpoint = answer.checkpoint
    caveats = UNVERIFIED, *kept_standing(home, Home(home).trust, checkpoint, answer.note).caveats
    return Found(answer.rows, answer.findings, answer.following, checkpoint.origin, checkpoint.size, caveats)


def _again(typed: Typed, limit: int, home: Path, *, broker: bool) -> str:
    """The command that was typed, but for its page."""
    flags = ["--broker"] if broker else []
    words = [
        "exchange-audit",
        "search",
        *typed.words(),
        *flags,
        "--limit",
        str(limit),
        "--home",
        shlex.quote(str(home)),
    ]
    return " ".join(words)


def _print(directory: Directory, found: Found, as_json: bool, again: str) -> None:
    if as_json:
        print_json(
            {
                "entries": [described(directory, item) for item in found.rows],
                "next_after": found.following,
                "findings": [{"index": item.index, "text": item.text} for item in found.findings],
                "log": found.log,
                "verified_to": found.size,
                "complete": UNVERIFIED not in found.caveats,
                "caveats": list(found.caveats),
            }
        )
        return
    if found.rows:
        print_table(COLUMNS, [row(directory, item) for item in found.rows])
    for line in _remarks(found, again):
        say(line)


def _remarks(found: Found, again: str) -> Iterator[str]:
    for finding in found.findings:
        yield clean(str(finding))
    told = f"{plural(len(found.rows))} of {found.size}, verified to {found.size} of {found.log}"
    yield "; ".join((told, *found.caveats))
    if found.following is not None:
        yield clean(f"more fit: {again} --after {found.following}")


def _end(home: Path, found: Found) -> None:
    if found.findings:
        say(f"hint: `exchange-audit verify full --home {home}` names all that was altered")
        raise typer.Exit(ExitCode.REFUSED)
