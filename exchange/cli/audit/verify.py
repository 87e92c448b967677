"""`exchange-audit verify`: recompute everything from the trust file alone, in the mirror or in a copied database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.audit.database import BrokerDatabase
from exchange.cli.audit.findings import NO_WITNESSES, Finding, Level, exit_code, plural, span
from exchange.cli.audit.offline import AuditHome, erasures_of, is_mirrored, opened_home
from exchange.cli.audit.progress import bar, counted
from exchange.cli.audit.tree import Expected, ProvenLeaves, TreeCheck, WholeTree
from exchange.cli.audit.verification import LoggedEntry, Verification
from exchange.cli.errors import WrongUsageError, say
from exchange.cli.output import clean, print_json, print_line, print_pairs
from exchange.core.erasures import Erasures
from exchange.core.note import encode_base64
from exchange.core.trust import Trust
from exchange.home import Home

SHOWN = 30
"""Findings that are printed for people; JSON has them all."""

_RANGE = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")

app = new_command()


@dataclass(frozen=True, slots=True)
class Copy:
    """Both logs, from wherever they are read.

    Args:
        trust: what they are checked against.
        directory, access: what their leaves must lead to.
        directory_rows, access_rows: their entries.
        count: how many access entries there are to read.
        erasures: which bodies may be missing.
        findings: what was found while opening them.
    """

    trust: Trust
    directory: Expected
    access: Expected
    directory_rows: Iterator[LoggedEntry]
    access_rows: Iterator[LoggedEntry]
    count: int
    erasures: Erasures
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was verified, and what was found.

    Args:
        copy: what was read.
        asked: the access entries asked for, as first and stop; None for all.
        findings: in the order they were found.
    """

    copy: Copy
    asked: tuple[int, int] | None
    findings: tuple[Finding, ...]

    @property
    def is_verified(self) -> bool:
        """Whether nothing is worse than a warning."""
        return all(finding.level == Level.WARNING for finding in self.findings)


@app.command(
    epilog=example(
        "exchange-audit verify --home ./audit-office",
        "exchange-audit verify --range 1000:2000 --home ./audit-office",
        "exchange-audit verify --database ./copy/exchange.db --home ./audit-office",
    )
)
def verify(
    database: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="A copy of the broker's SQLite database, not the mirror."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Every entry; this is so unless --range is given.")] = False,
    range_: Annotated[
        str, typer.Option("--range", metavar="A:B", help="Only access entries A to before B.", show_default=False)
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify both logs: trees, checkpoints, bodies, signatures, and that every release was granted.

    It asks nobody. Each access entry is judged under the directory as it stood then, by the keys in HOME/trust.toml.
    A copy of the broker's database is compared with the mirror too: older, rolled back or forked, it ends with 4.
    """
    if full and range_:
        raise WrongUsageError("--full and --range exclude each other")
    asked = _parsed(range_) if range_ else None
    if asked is not None:
        say("a range is judged by itself: what was released twice, or never settled, shows only over the whole log")
    if database is None:
        with opened_home(home) as place:
            outcome = _verified(_mirror_copy(place, asked), asked)
            _print(outcome, as_json)
            if outcome.is_verified:
                place.end()
    else:
        with BrokerDatabase.opened(database) as file, _mirror_beside(home) as known:
            outcome = _verified(_database_copy(file, Home(home).trust, known, asked), asked)
            _print(outcome, as_json)
    raise typer.Exit(exit_code(outcome.findings))


def _parsed(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None or int(match[1]) >= int(match[2]):
        raise WrongUsageError(f"--range: not a range: {text}", "write it as A:B, such as 0:1000 for the first thousand")
    return int(match[1]), int(match[2])


def _mirror_copy(place: AuditHome, asked: tuple[int, int] | None) -> Copy:
    size = place.access.checkpoint.size
    start, stop = _bounded(asked, size)
    stored = place.access.size
    text = f"{span(size, stored - 1)}: not verified yet, a sync was interrupted: run `exchange-audit sync`"
    return Copy(
        place.trust,
        place.directory.expected(),
        replace(place.access.expected(), seen=place.access.checkpoints(verified=True)),
        iter(place.directory.entries),
        place.access.rows(start, stop),
        stop - start,
        place.erasures(),
        (Finding(place.access.origin, None, text, Level.WARNING),) if stored > size else (),
    )


@contextmanager
def _mirror_beside(home: Path) -> Iterator[AuditHome | None]:
    """The mirror that a database is compared with, where the home has one."""
    if not is_mirrored(home):
        say("this home has no mirror: nothing tells whether the copy was rolled back or forked")
        yield None
        return
    with opened_home(home) as place:
        yield place


def _database_copy(file: BrokerDatabase, trust: Trust, known: AuditHome | None, asked: tuple[int, int] | None) -> Copy:
    directory, problems = file.check_head("directory", trust.directory_log)
    access, more = file.check_head("access", trust.access_log)
    expected = (
        Expected(trust.directory_log.name, directory, nodes=lambda place: file.node("directory", place)),
        Expected(trust.access_log.name, access, nodes=lambda place: file.node("access", place)),
    )
    if known is not None:
        mirrored = known.directory
        seen = known.access.checkpoints(verified=True)
        expected = (
            replace(expected[0], seen=(mirrored.checkpoint,), known=mirrored.leaf_hash),
            replace(expected[1], seen=seen, known=known.access.leaf_node),
        )
    bounds = _bounded(asked, access.size if access is not None else 0) if asked is not None else None
    rows = file.rows("access", *bounds) if bounds is not None else file.rows("access")
    count = bounds[1] - bounds[0] if bounds is not None else file.count("access")
    erasures = erasures_of(trust, file.rows("directory"))
    return Copy(trust, *expected, file.rows("directory"), rows, count, erasures, (*problems, *more))


def _bounded(asked: tuple[int, int] | None, size: int) -> tuple[int, int]:
    if asked is None:
        return 0, size
    if asked[0] >= size:
        raise WrongUsageError(f"--range: the access log has {plural(size)} here, and none from {asked[0]} on")
    return asked[0], min(asked[1], size)


def _verified(copy: Copy, asked: tuple[int, int] | None) -> Outcome:
    tree: TreeCheck = WholeTree(copy.access) if asked is None else ProvenLeaves(copy.access, asked[0])
    from_start = asked is None or asked[0] == 0
    verification = Verification(copy.trust, WholeTree(copy.directory), tree, copy.erasures, from_start=from_start)
    with bar("verifying") as advance:
        rows = counted(copy.access_rows, copy.count, advance)
        walked = list(verification.walk(copy.directory_rows, rows))
    findings = (*verification.finish(), *walked)
    return Outcome(copy, asked, (*copy.findings, *sorted(findings, key=_entry_first)))


def _entry_first(finding: Finding) -> tuple[bool, str, int]:
    """What names an entry says most, and an altered leaf explains what else is wrong with it."""
    return finding.index is None, finding.log, finding.index or 0


def _print(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        print_json(_described(outcome))
        return
    for finding in outcome.findings[:SHOWN]:
        print_line(clean(str(finding)))
    if len(outcome.findings) > SHOWN:
        print_line(f"… and {len(outcome.findings) - SHOWN} more: --json prints them all")
    print_pairs(dict(_summary(outcome)))
    verdict = "verified" if outcome.is_verified else "NOT VERIFIED"
    print_line(f"{verdict}; {NO_WITNESSES}")


def _summary(outcome: Outcome) -> Iterator[tuple[str, list[str]]]:
    """For each log: what was asked, what was verified, and the checkpoint that it was verified against."""
    copy = outcome.copy
    for expected, asked, stop in ((copy.directory, None, None), (copy.access, outcome.asked, _stop(outcome))):
        checkpoint = expected.checkpoint
        if checkpoint is None:
            yield expected.origin, ["no signed checkpoint"]
            continue
        failed = any(f.log == expected.origin and f.level != Level.WARNING for f in outcome.findings)
        done = _range(asked[0] if asked else 0, stop if stop is not None else checkpoint.size)
        told = f"asked {_range(*asked) if asked else 'all'}, {'NOT VERIFIED' if failed else f'verified {done}'}"
        yield expected.origin, [f"{told}, checkpoint {checkpoint.size}", f"root {encode_base64(checkpoint.root)}"]


def _stop(outcome: Outcome) -> int | None:
    return outcome.asked[0] + outcome.copy.count if outcome.asked is not None else None


def _range(start: int, stop: int) -> str:
    return f"{start} to {stop - 1}" if stop > start else "none"


def _described(outcome: Outcome) -> dict[str, object]:
    copy = outcome.copy
    return {
        "verified": outcome.is_verified,
        "logs": [
            {
                "log": expected.origin,
                "size": expected.checkpoint.size if expected.checkpoint else None,
                "root": encode_base64(expected.checkpoint.root) if expected.checkpoint else None,
            }
            for expected in (copy.directory, copy.access)
        ],
        "range_asked": list(outcome.asked) if outcome.asked else None,
        "range_verified": [outcome.asked[0] if outcome.asked else 0, _stop(outcome) or copy.count],
        "findings": [
            {"log": item.log, "index": item.index, "level": item.level.name.lower(), "text": item.text}
            for item in outcome.findings
        ],
        "witnesses": [],
        "caveats": [NO_WITNESSES],
    }
