"""What was verified of both logs and how it is told: range asked, range verified, checkpoint, witnesses, findings."""

from collections.abc import Iterator
from dataclasses import dataclass

from exchange.cli.audit.checking.findings import Finding, Level, exit_code
from exchange.cli.audit.checking.policies import SEEN_BY_MANY, Standing
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, TreeCheck, WholeTree
from exchange.cli.audit.checking.verification import LoggedEntry, Verification
from exchange.cli.audit.mirror.sources import LogName
from exchange.cli.frame.errors import ExitCode
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs
from exchange.cli.frame.progress import bar, counted
from exchange.core.erasures import Erasures
from exchange.core.note import encode_base64
from exchange.core.trust import Trust

SHOWN = 30
"""Findings that are printed for people; JSON has them all."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Both logs, from wherever they are read.

    Args:
        trust: what they are checked against.
        directory, access: what their leaves must lead to.
        directory_rows, access_rows: their entries.
        count: how many access entries there are to read.
        erasures: which bodies may be missing.
        standings: what witnesses say of the directory's checkpoint and the access log's, where they are signed.
        findings: what was found while opening them.
    """

    trust: Trust
    directory: Expected
    access: Expected
    directory_rows: Iterator[LoggedEntry]
    access_rows: Iterator[LoggedEntry]
    count: int
    erasures: Erasures
    standings: tuple[Standing | None, Standing | None]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was verified, and what was found.

    Args:
        copy: what was read.
        asked: the ranges of entries asked for, each as first and stop; None for all.
        verified: those that were read.
        findings: in the order they were found.
        log: whose ranges; with the access log the directory is verified, all of it.
    """

    copy: Copy
    asked: tuple[tuple[int, int], ...] | None
    verified: tuple[tuple[int, int], ...]
    findings: tuple[Finding, ...]
    log: LogName = LogName.ACCESS

    @property
    def is_verified(self) -> bool:
        """Whether nothing is worse than a warning."""
        return all(finding.level == Level.WARNING for finding in self.findings)

    @property
    def caveats(self) -> list[str]:
        """What stays open."""
        found = [standing.caveat for standing in self.copy.standings if standing is not None and standing.caveat]
        return list(dict.fromkeys(found))

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends: what was found says more than what could not be."""
        found = exit_code(self.findings)
        if found is not ExitCode.DONE:
            return found
        return max((item.exit_code for item in self.copy.standings if item is not None), default=found)


def verified(
    copy: Copy,
    tree: TreeCheck,
    asked: tuple[tuple[int, int], ...] | None,
    reached: tuple[tuple[int, int], ...],
    log: LogName = LogName.ACCESS,
) -> Outcome:
    """Verify both logs, or the directory alone.

    Args:
        copy: what is read.
        tree: compares the access entries with what was signed.
        asked: the ranges asked for; None for all.
        reached: those of which there are entries.
        log: whose ranges.
    """
    from_start, is_scattered = not reached or reached[0][0] == 0, len(reached) > 1
    with Remembered() as remembered, bar("verifying") as advance:
        trees = WholeTree(copy.directory), tree
        verification = Verification(
            copy.trust, *trees, remembered, copy.erasures, from_start=from_start, is_scattered=is_scattered
        )
        directory, access = copy.directory_rows, copy.access_rows
        if log is LogName.ACCESS:
            access = counted(access, copy.count, advance)
        elif copy.directory.checkpoint is not None:
            directory = counted(directory, copy.directory.checkpoint.size, advance)
        walked = list(verification.walk(directory, access))
        findings = [*verification.finish(), *walked]
    if log is LogName.DIRECTORY and asked is not None:
        findings = [finding for finding in findings if _is_about(finding, asked)]
    return Outcome(copy, asked, reached, (*copy.findings, *sorted(findings, key=_entry_first)), log)


def _is_about(finding: Finding, asked: tuple[tuple[int, int], ...]) -> bool:
    """Whether something is found of the entries asked for, or of the log as a whole."""
    index = finding.index
    return index is None or finding.level > Level.TAMPERED or any(first <= index < stop for first, stop in asked)


def print_outcome(outcome: Outcome, as_json: bool) -> None:
    """Tell what was verified."""
    if as_json:
        print_json(_described(outcome))
        return
    for finding in outcome.findings[:SHOWN]:
        print_line(clean(str(finding)))
    if len(outcome.findings) > SHOWN:
        print_line(f"… and {len(outcome.findings) - SHOWN} more: --json prints them all")
    print_pairs(dict(_summary(outcome)))
    verdict = "verified" if outcome.is_verified else "NOT VERIFIED"
    print_line(f"{verdict}; {', '.join(outcome.caveats) or SEEN_BY_MANY}")


def ranges_text(ranges: tuple[tuple[int, int], ...]) -> str:
    """Ranges for people: "0 to 4, 7 to 7"."""
    return ", ".join(f"{start} to {stop - 1}" for start, stop in ranges if stop > start) or "none"


def _entry_first(finding: Finding) -> tuple[bool, str, int]:
    """What names an entry says most, and an altered leaf explains what else is wrong with it."""
    return finding.index is None, finding.log, finding.index or 0


def _summary(outcome: Outcome) -> Iterator[tuple[str, list[str]]]:
    """For each log: what was asked, what was verified, and the checkpoint that it was verified against."""
    copy = outcome.copy
    whole = ((0, copy.directory.checkpoint.size if copy.directory.checkpoint is not None else 0),)
    for expected, standing in _logs(outcome):
        is_asked = outcome.log is LogName.DIRECTORY or expected is copy.access
        asked, done = (outcome.asked, outcome.verified) if is_asked else (None, whole)
        checkpoint = expected.checkpoint
        if checkpoint is None or standing is None:
            yield expected.origin, ["no signed checkpoint"]
            continue
        failed = any(f.log == expected.origin and f.level != Level.WARNING for f in outcome.findings)
        result = "NOT VERIFIED" if failed else f"verified {ranges_text(done)}"
        told = f"asked {ranges_text(asked) if asked is not None else 'all'}, {result}, checkpoint {checkpoint.size}"
        yield expected.origin, [told, f"root {encode_base64(checkpoint.root)}, {standing.told()}"]


def _logs(outcome: Outcome) -> Iterator[tuple[Expected, Standing | None]]:
    """What each log that was verified had to lead to, and what witnesses say of it."""
    copy = outcome.copy
    yield copy.directory, copy.standings[0]
    if outcome.log is LogName.ACCESS:
        yield copy.access, copy.standings[1]


def _described(outcome: Outcome) -> dict[str, object]:
    return {
        "verified": outcome.is_verified,
        "logs": [
            {
                "log": expected.origin,
                "size": expected.checkpoint.size if expected.checkpoint else None,
                "root": encode_base64(expected.checkpoint.root) if expected.checkpoint else None,
                **(standing.described() if standing is not None else {}),
            }
            for expected, standing in _logs(outcome)
        ],
        "log_asked": outcome.copy.access.origin if outcome.log is LogName.ACCESS else outcome.copy.directory.origin,
        "ranges_asked": [list(item) for item in outcome.asked] if outcome.asked is not None else None,
        "ranges_verified": [list(item) for item in outcome.verified],
        "findings": [
            {"log": item.log, "index": item.index, "level": item.level.name.lower(), "text": item.text}
            for item in outcome.findings
        ],
        "caveats": outcome.caveats,
    }
