"""How what `doctor` found is shown: a line each, and below it the command that mends it."""

from collections.abc import Sequence

import typer

from exchange.cli.frame.output import clean, print_json, print_line
from exchange.health.checks import Finding, Level, exit_code

_COLOURS = {Level.OK: typer.colors.GREEN, Level.WARN: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}


def show_findings(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings.

    Returns:
        The exit code: 0 where nothing failed, 1 where something did, 3 where something could not be checked.
    """
    if as_json:
        print_json([_described(finding) for finding in findings])
        return exit_code(findings)
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        mark = typer.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
        print_line(f"{mark}  {clean(finding.name):<{width}}  {clean(finding.detail)}")
        if finding.mend:
            print_line(f"{'':4}  {'':{width}}  -> {clean(finding.mend)}")
    print_line()
    print_line(_summary(findings))
    return exit_code(findings)


def _described(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.name,
        "level": str(finding.level),
        "detail": finding.detail,
        "mend": finding.mend or None,
        "checked": finding.checked,
    }


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    unchecked = sum(not finding.checked for finding in findings)
    text = f"{counts[Level.OK]} ok, {counts[Level.WARN]} warn, {counts[Level.FAIL]} fail"
    return f"{text}, {unchecked} of them not checked" if unchecked else text
