"""`exchange-audit export`: the entries that fit as a file for other programs, each with its index and leaf hash."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import Finding, plural
from exchange.cli.audit.checking.policies import Standing
from exchange.cli.audit.exports.formats import FORMATS, NOTE, open_writer
from exchange.cli.audit.exports.output_file import check_free, sha256_of, written_whole
from exchange.cli.audit.exports.rows import export_row
from exchange.cli.audit.mirror.offline import AuditHome, opened_home
from exchange.cli.audit.mirror.witnessed import mirror_standing
from exchange.cli.audit.searching.options import Typed, searched
from exchange.cli.audit.searching.rows import proven_entries
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import ExitCode, WrongUsageError, say
from exchange.cli.frame.output import clean, print_json, print_line
from exchange.cli.frame.progress import bar
from exchange.core.directory import Directory
from exchange.core.note import encode_base64

SHOWN = 30
"""Findings that are printed; all of them are counted."""

app = new_command()


@dataclass(slots=True)
class Written:
    """What a file holds.

    Args:
        rows: in it.
        findings: entries that could not be proven, which are left out, and indexes that said something else.
    """

    rows: int = 0
    findings: int = 0


@app.command(
    epilog=example(
        "exchange-audit export --format csv --case HS-2026-118 --output case.csv --home ./audit-office",
        "exchange-audit export --format ocsf --since 2026-11-01 --output november.jsonl --home ./audit-office",
        "exchange-audit export --format parquet --output all.parquet --home ./audit-office",
    )
)
@searched
def export(
    *,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the rows go; FILE.about.json too.")],
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="jsonl, csv, parquet or ocsf.")] = "jsonl",
    typed: Typed,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the entries that fit to a file: JSON lines, CSV, Parquet, or OCSF events (API Activity, version 1.6.0).

    Every entry is proven before it is written. The file is a view: the leaf is the evidence, and each row names its
    index and leaf hash. FILE.about.json says what was asked for, what it was verified by, and the file's SHA-256.
    """
    if form not in FORMATS:
        raise WrongUsageError(f"--format: {form} is none of them", f"one of {', '.join(FORMATS)}")
    beside = output.with_name(f"{output.name}.about.json")
    for path in (output, beside):
        check_free(path, force=force)
    with opened_home(home) as place:
        seen = mirror_standing(place)
        about = _about(place, typed, form, seen)
        written = _write(place, typed, form, output, force=force)
        about |= {"rows": written.rows, "findings": written.findings, "sha256": sha256_of(output)}
        with written_whole(beside, force=force) as file:
            file.write(json.dumps(about, ensure_ascii=False, indent=2).encode() + b"\n")
        if as_json:
            print_json({"file": str(output), **about})
        else:
            _print(place, about, output, seen)
        if written.findings:
            say(f"hint: `exchange-audit verify full --home {home}` names all that was altered")
            raise typer.Exit(ExitCode.REFUSED)
        place.end()


def _about(place: AuditHome, typed: Typed, form: str, seen: Standing) -> dict[str, object]:
    checkpoint = place.access.checkpoint
    return {
        "note": NOTE,
        "format": form,
        "log": checkpoint.origin,
        "verified_to": checkpoint.size,
        "root": encode_base64(checkpoint.root),
        "checkpoint": place.access.note(checkpoint.size).decode(),
        "asked": " ".join(typed.words()),
        "caveats": list(seen.caveats),
    }


def _write(place: AuditHome, typed: Typed, form: str, output: Path, *, force: bool) -> Written:
    directory: Directory = place.verified_directory()
    criteria = typed.criteria(directory)
    checkpoint, written = place.access.checkpoint, Written()
    about = {
        "exchange.log": checkpoint.origin,
        "exchange.verified_to": str(checkpoint.size),
        "exchange.root": encode_base64(checkpoint.root),
    }
    with bar("exporting") as advance, written_whole(output, force=force) as file:
        writer = open_writer(form, file, checkpoint.origin, about)
        for item in proven_entries(place.access, criteria, erasures=place.erasures()):
            if isinstance(item, Finding):
                written.findings += 1
                if written.findings <= SHOWN:
                    say(clean(str(item)))
            elif criteria.holds(item.entry):
                writer.add(export_row(directory, item))
                written.rows += 1
                advance(item.index + 1, checkpoint.size)
        writer.close()
    return written


def _print(place: AuditHome, about: dict[str, object], output: Path, seen: Standing) -> None:
    rows = about["rows"]
    print_line(
        clean(f"{output}: {plural(rows if isinstance(rows, int) else 0, 'rows', 'row')}, SHA-256 {about['sha256']}")
    )
    size = place.access.checkpoint.size
    say(f"verified to {size} of {place.access.origin}; {seen}; a view: each row's leaf is the evidence")
