"""`exchange-audit verify report`: who vouches for a file, by the trust file alone."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.policies import SEEN_BY_MANY, PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.mirror.offline import AuditHome, is_mirrored, opened_home
from exchange.cli.audit.mirror.sources import LogName, mirrored_log, root_at
from exchange.cli.audit.sign import digest_of
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.cli.frame.times import iso
from exchange.core.errors import CoreError
from exchange.core.report import MAX_REPORT, SignedReport, open_report
from exchange.home import Home

EXAMPLE = example("exchange-audit verify report report.csv report.csv.note --home ./audit-office")


def report(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The report.")],
    note: Annotated[Path, typer.Argument(metavar="NOTE", exists=True, dir_okay=False, help="Its signature.")],
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Verify that an auditor of this exchange signed a file, and what it had verified of both logs by then.

    Only HOME/trust.toml is needed. Where the home has a mirror, it also says whether the key was revoked, and whether
    the report was made of the same history.
    """
    trust = Home(home).trust
    asked = read_policy(home, trust, policy)
    with note.open("rb") as opened:
        data = opened.read(MAX_REPORT + 1)
    try:
        signed = open_report(data, trust)
        seen = standing(signed.checkpoint, trust.directory_log, asked)
    except CoreError as error:
        raise CommandError(f"{note}: {error}", "", ExitCode.UNTRUSTED) from error
    if digest_of(file) != (signed.report.sha256, signed.report.size):
        raise CommandError(f"{file} is not the file that was signed", f"{note} is of another, or it was altered")
    revoked = _compared(home, signed)
    _print(signed, seen, revoked, as_json)
    raise typer.Exit(seen.exit_code)


def _compared(home: Path, signed: SignedReport) -> int | None:
    """Hold a report against the mirror; says at which entry the key was revoked, if it was.

    Raises:
        CommandError: the key did not stand, or the report is of another history than the mirror's.
    """
    if not is_mirrored(home):
        say("this home has no mirror: whether the key was revoked since is not known here")
        return None
    with opened_home(home) as place:
        _check_history(place, signed)
        record = place.verified_directory().state.keys.get(signed.key_id)
        if record is None or not record.stood_at(signed.report.directory[0]):
            text = f"the key of {signed.report.signer} did not stand in the directory that the report names"
            raise CommandError(text, "", ExitCode.UNTRUSTED)
        return record.revoked_index


def _check_history(place: AuditHome, signed: SignedReport) -> None:
    for name, (size, root) in ((LogName.DIRECTORY, signed.report.directory), (LogName.ACCESS, signed.report.access)):
        log = mirrored_log(place, name)
        if size > log.checkpoint.size:
            say(f"the report saw {size} of {log.checkpoint.origin}, more than the mirror: `exchange-audit sync`")
        elif root_at(log, size) != root:
            hint = "compare signed checkpoints with that auditor: `exchange-audit verify consistency`"
            raise CommandError(f"the report was made of another history of {log.checkpoint.origin}", hint)


def _print(signed: SignedReport, seen: Standing, revoked: int | None, as_json: bool) -> None:
    report = signed.report
    if as_json:
        print_json(
            {
                "verified": True,
                "signer": report.signer,
                "key": signed.key_id,
                "sha256": report.sha256,
                "time": iso(report.time),
                "directory": report.directory[0],
                "access": report.access[0],
                "revoked_at": revoked,
                **seen.described(),
                "caveats": [seen.caveat] if seen.caveat else [],
            }
        )
        return
    since = f", revoked since by entry {revoked} of the directory" if revoked is not None else ""
    print_pairs(
        {
            "signer": f"{report.signer}, key {signed.key_id.hex()[:12]}{since}",
            "signed": f"{iso(report.time)}, by the auditor's clock",
            "its entry": f"checkpoint {seen.checkpoint.size}, {seen.told()}",
            "logs": f"verified to {report.access[0]} of the access log, {report.directory[0]} of the directory",
        }
    )
    print_line(f"verified: the file is the one that was signed; {seen.caveat or SEEN_BY_MANY}")
