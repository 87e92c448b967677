"""`exchange-audit search`: every access that fits, out of the mirror, each row proven before it is shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.audit.criteria import CODES, KINDS, Criteria, moment, object_id, one_of, party, request_id
from exchange.cli.audit.findings import NO_WITNESSES, Finding, plural
from exchange.cli.audit.offline import AuditHome, opened_home
from exchange.cli.audit.rows import COLUMNS, ProvenEntry, described, proven, row
from exchange.cli.errors import ExitCode, WrongUsageError, say
from exchange.cli.output import clean, print_json, print_table
from exchange.client.datasets import find_dataset
from exchange.client.errors import UsageError
from exchange.core.directory import Directory

app = new_command()

_PARTY = "PARTY"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Args:
        rows: proven, by index.
        more: how many more fit, past the limit.
        findings: rows that could not be proven, or that the index had under a wrong name.
    """

    rows: tuple[ProvenEntry, ...]
    more: int
    findings: tuple[Finding, ...]


@app.command(
    epilog=example(
        "exchange-audit search --case HS-2026-118 --home ./audit-office",
        "exchange-audit search --requester housing --since 2026-11-01 --kind refused --home ./audit-office",
    )
)
def search(  # noqa: PLR0913 - an access is found by any of its sides
    since: Annotated[str, typer.Option(metavar="TIME", help="From this day or time on, UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="To the end of this day, or to this time, UTC.")] = "",
    requester: Annotated[str, typer.Option(metavar=_PARTY, help="Who asked: a department, or a system of one.")] = "",
    provider: Annotated[str, typer.Option(metavar=_PARTY, help="Who answered, or should have.")] = "",
    dataset: Annotated[str, typer.Option(metavar="DEPARTMENT/CODE", help="What was asked for.")] = "",
    officer: Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of the person who asked.")] = "",
    purpose: Annotated[str, typer.Option(metavar="CODE", help="What it was said to be for.")] = "",
    case: Annotated[str, typer.Option(metavar="ID", help="The case that it was said to be for.")] = "",
    code: Annotated[str, typer.Option(metavar="CODE", help="Why it was refused, such as NO_AGREEMENT.")] = "",
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="released, unreleased, refused or refusals (summed up).")
    ] = "",
    request: Annotated[str, typer.Option(metavar="ID", help="The request's id, a UUID.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="The most rows; 0 shows all of them.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find accesses in the mirror; without any option, all of them.

    Every row is read again from its leaf and body and proven against the signed checkpoint, so the index cannot make
    one up. That it hides none is what `exchange-audit verify` shows.
    """
    words = {"officer": officer, "purpose": purpose, "case_id": case}
    with opened_home(home) as place:
        directory = place.verified_directory()
        criteria = Criteria({name: word for name, word in words.items() if word})
        criteria.since = moment(since, "--since", end=False) if since else None
        criteria.until = moment(until, "--until", end=True) if until else None
        for name, text in (("requester", requester), ("provider", provider)):
            if text:
                criteria.parties[name] = party(text, place.trust.name, f"--{name}")
        criteria.exact |= {"kind": one_of(kind, KINDS, "--kind")} if kind else {}
        criteria.exact |= {"code": one_of(code, CODES, "--code")} if code else {}
        criteria.exact |= {"dataset": _dataset(directory, dataset)} if dataset else {}
        criteria.exact |= {"request_id": _request(request)} if request else {}
        found = _search(place, criteria, limit)
        _print(place, directory, found, as_json)
        _end(home, place, found)


def _dataset(directory: Directory, text: str) -> bytes:
    """The object id of a dataset, published still or once."""
    ended = {f"{owner.rpartition('/')[2]}/{code}": key for (owner, code), key in directory.terms.codes.items()}
    known = object_id(text) or ended.get(text)
    if known is not None:
        return known
    try:
        return find_dataset(directory, text).object_id
    except UsageError as error:
        raise WrongUsageError(f"--dataset: {error}", error.hint) from error


def _request(text: str) -> bytes:
    found = request_id(text)
    if found is None:
        raise WrongUsageError(
            f"--request: not a request's id: {text}",
            "a UUID, as `exchange request --json` or `exchange-audit search --json` prints it",
        )
    return found


def _search(place: AuditHome, criteria: Criteria, limit: int) -> Found:
    expected = place.access.expected()
    rows: list[ProvenEntry] = []
    findings: list[Finding] = []
    more = 0
    for stored in place.access.find(*criteria.sql()):
        if limit and len(rows) == limit:
            more += 1
            continue
        result = proven(expected, stored)
        if isinstance(result, str):
            findings.append(Finding(place.access.origin, stored.index, result))
            continue
        if stored.index_problem:
            findings.append(Finding(place.access.origin, stored.index, stored.index_problem))
        if criteria.holds(result.entry):
            rows.append(result)
    return Found(tuple(rows), more, tuple(findings))


def _print(place: AuditHome, directory: Directory, found: Found, as_json: bool) -> None:
    size = place.access.checkpoint.size
    if as_json:
        print_json(
            {
                "entries": [described(directory, item) for item in found.rows],
                "more": found.more,
                "findings": [{"index": item.index, "text": item.text} for item in found.findings],
                "log": place.access.origin,
                "verified_to": size,
                "caveats": [NO_WITNESSES],
            }
        )
        return
    if found.rows:
        print_table(COLUMNS, [row(directory, item) for item in found.rows])
    for line in _remarks(place, found):
        say(line)


def _remarks(place: AuditHome, found: Found) -> Iterator[str]:
    for finding in found.findings:
        yield clean(str(finding))
    if found.more:
        yield f"{found.more} more fit: raise --limit"
    size = place.access.checkpoint.size
    yield f"{plural(len(found.rows))} of {size}, verified to {size} of {place.access.origin}; {NO_WITNESSES}"


def _end(home: Path, place: AuditHome, found: Found) -> None:
    if found.findings:
        say(f"hint: `exchange-audit verify --home {home}` names all that was altered")
        raise typer.Exit(ExitCode.REFUSED)
    place.end()
