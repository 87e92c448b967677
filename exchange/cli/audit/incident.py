"""`exchange-audit incident`: what happened, in a folder that proves it, and a hold on the erasure of its bodies."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.audit.bundle import pack
from exchange.cli.audit.checking.findings import Finding, plural
from exchange.cli.audit.checking.policies import SEEN_BY_MANY, Standing, read_policy
from exchange.cli.audit.exports.formats import NOTE, open_writer
from exchange.cli.audit.exports.output_file import sha256_of, written_whole
from exchange.cli.audit.exports.rows import export_row
from exchange.cli.audit.incidents.holds import HeldRanges, hold_text
from exchange.cli.audit.incidents.selection import Selection, about, chosen, selected
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.searching.criteria import moment
from exchange.cli.audit.sign import SUFFIX, signature_of
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs
from exchange.cli.frame.progress import bar
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import iso, now
from exchange.core.directory import Directory
from exchange.core.note import encode_base64
from exchange.home import Home

TIMELINE: Final = "timeline.csv"
ROWS: Final = "timeline.jsonl"
HOLDS: Final = "holds.toml"
BUNDLE: Final = "evidence.tar"
RECORD: Final = "incident.json"
SHOWN: Final = 30
"""Findings that are kept in the record; all of them are counted."""

app = new_group(
    "Gather what happened around a party, an officer or an agreement.",
    "exchange-audit incident open --officer officer-17 --reason 'asked without a case' \\",
    "    --output ./incident-17 --home ./audit-office",
)


@dataclass(slots=True)
class Gathered:
    """What a timeline holds.

    Args:
        ranges: the entries, and where they lie too scattered those between.
        entries: of the incident.
        findings: what is wrong with entries that were left out, or with their index; the first `SHOWN` of them.
        wrong: how many there are.
        withheld: entries that were left out because no mandate covers their bodies.
    """

    ranges: HeldRanges
    entries: int
    findings: list[str]
    wrong: int
    withheld: int = 0


@app.command(
    "open",
    epilog=example(
        "exchange-audit incident open --officer officer-17 --reason 'asked without a case' \\",
        "    --output ./incident-17 --home ./audit-office",
        "exchange-audit incident open --party housing --since 2026-11-01 --reason 'complaint 88' \\",
        "    --output ./complaint-88 --home ./audit-office",
    ),
)
def open_incident(  # noqa: PLR0913 - what, why, when and where
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record: 1 to 2,000 characters.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A folder, which is made.")],
    party: Annotated[str, typer.Option(metavar="PARTY", help="Who asked or answered; covers its systems.")] = "",
    officer: Annotated[str, typer.Option(metavar="NAME", help="The pseudonym of the person who asked.")] = "",
    agreement: Annotated[str, typer.Option(metavar="ID", help="8 or more digits of an agreement's id.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="From this day or time on, UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="To the end of this day, or to this time, UTC.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Open an incident: its timeline, a hold on erasure, and a bundle that proves it, signed by this auditor's key.

    DIR has timeline.csv and timeline.jsonl, evidence.tar (`exchange-audit verify bundle`), holds.toml for the operator
    to add to the holds.toml of each broker, and incident.json with the SHA-256 of them all. incident.json and
    holds.toml are signed (`exchange-audit verify report`).
    """
    require_role(home, "auditor", "only an auditor opens an incident")
    reason = check_text("--reason", reason)
    if output.exists():
        raise WrongUsageError(f"{output} is there already", "name a folder that is not")
    period = (
        moment(since, "--since", end=False) if since else None,
        moment(until, "--until", end=True) if until else None,
    )
    with opened_home(home) as place:
        place.end()
        directory = place.verified_directory()
        selection = chosen(directory, party, officer, agreement, period)
        with _made_whole(output) as folder:
            gathered = _gather(place, directory, selection, folder)
            if not gathered.entries:
                hint = (
                    f"the log is verified to {place.access.checkpoint.size} here; `exchange-audit sync` may bring more"
                )
                raise CommandError(f"no entry is of {about(directory, selection)}", hint, ExitCode.USAGE)
            record, seen = _seal(place, directory, Home(home), folder, (selection, reason), gathered)
    _print(output, record, seen, as_json)
    if gathered.withheld:
        say(f"left out: {plural(gathered.withheld)} whose bodies no mandate of yours covers")
    if gathered.wrong:
        say(f"hint: `exchange-audit verify full --home {home}` names all that was altered")
        raise typer.Exit(ExitCode.REFUSED)


@contextmanager
def _made_whole(output: Path) -> Iterator[Path]:
    """A folder that is there with all that belongs to it, or not at all."""
    beside = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    beside.mkdir(mode=0o700, parents=True)
    try:
        yield beside
        beside.rename(output)
    except BaseException:
        shutil.rmtree(beside)
        raise


def _gather(place: AuditHome, directory: Directory, selection: Selection, folder: Path) -> Gathered:
    """Write the timeline, row after row, and remember which entries it names."""
    gathered = Gathered(HeldRanges(), 0, [], 0)
    log, size = place.access.origin, place.access.checkpoint.size
    with (
        bar("timeline") as advance,
        written_whole(folder / TIMELINE) as table,
        written_whole(folder / ROWS) as lines,
    ):
        writers = [open_writer("csv", table, log, {}), open_writer("jsonl", lines, log, {})]
        for item in selected(place.access, selection, place.erasures()):
            if isinstance(item, Finding):
                gathered.wrong += 1
                gathered.findings += [str(item)] if gathered.wrong <= SHOWN else []
                continue
            if item.entry.is_withheld:
                gathered.withheld += 1
                continue
            row = export_row(directory, item)
            for writer in writers:
                writer.add(row)
            gathered.ranges.add(item.index)
            gathered.entries += 1
            advance(item.index + 1, size)
        for writer in writers:
            writer.close()
    return gathered


def _seal(
    place: AuditHome,
    directory: Directory,
    home: Home,
    folder: Path,
    what: tuple[Selection, str],
    gathered: Gathered,
) -> tuple[dict[str, object], Standing]:
    """Write the hold, the bundle and the record, and sign what others act on."""
    selection, reason = what
    checkpoint, opened_at = place.access.checkpoint, iso(now())
    comments = [
        f"Kept for {home.party}, since {opened_at}: {reason}",
        f"Entries of {checkpoint.origin}. Add this to the holds.toml in each broker's home; holds.toml{SUFFIX} is its",
        f"signature: exchange-audit verify report {HOLDS} {HOLDS}{SUFFIX}",
    ]
    name = f"{about(directory, selection)}: {reason}"
    with written_whole(folder / HOLDS) as file:
        file.write(hold_text(gathered.ranges, name, comments).encode())
    _, seen = pack(folder / BUNDLE, place, tuple(gathered.ranges), read_policy(home.path, place.trust, None))
    record: dict[str, object] = {
        "incident": selection.described(),
        "about": about(directory, selection),
        "since": iso(selection.since) if selection.since is not None else None,
        "until": iso(selection.until) if selection.until is not None else None,
        "reason": reason,
        "opened_by": str(home.party),
        "opened_at": opened_at,
        "log": checkpoint.origin,
        "verified_to": checkpoint.size,
        "root": encode_base64(checkpoint.root),
        "entries": gathered.entries,
        "held": {"ranges": len(gathered.ranges), "entries": gathered.ranges.count},
        "findings": {"count": gathered.wrong, "first": gathered.findings},
        "sha256": {part: sha256_of(folder / part) for part in (TIMELINE, ROWS, HOLDS, BUNDLE)},
        "note": NOTE,
        "caveats": [seen.caveat] if seen.caveat else [],
    }
    with written_whole(folder / RECORD) as file:
        text = json.dumps(record, ensure_ascii=False, indent=2, default=lambda value: value.hex())
        file.write(text.encode() + b"\n")
    for part in (RECORD, HOLDS):
        with written_whole(folder / f"{part}{SUFFIX}") as file:
            file.write(signature_of(place, home, folder / part))
    return record, seen


def _print(output: Path, record: dict[str, object], seen: Standing, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(output), **record})
        return
    held = record["held"]
    entries = held["entries"] if isinstance(held, dict) else 0
    print_pairs(
        {
            "about": record["about"],
            "timeline": f"{output / TIMELINE}: {_counted(record['entries'])}",
            "hold": f"{output / HOLDS}: {_counted(entries)}, for the operator",
            "bundle": output / BUNDLE,
            "record": f"{output / RECORD}, signed in {RECORD}{SUFFIX}",
        }
    )
    print_line(clean(f"verified to {record['verified_to']} of {record['log']}; {seen.caveat or SEEN_BY_MANY}"))
    say(f"check it anywhere: exchange-audit verify report {output / RECORD} {output / RECORD}{SUFFIX}")
    say(f"                   exchange-audit verify bundle {output / BUNDLE}")


def _counted(count: object) -> str:
    return plural(count if isinstance(count, int) else 0)
