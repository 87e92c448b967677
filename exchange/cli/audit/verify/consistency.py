"""`exchange-audit verify consistency`: are two signed checkpoints, such as two auditors', of one history?"""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.checking.policies import SEEN_BY_MANY, PolicyOption, Standing, read_policy, standing
from exchange.cli.audit.mirror.offline import is_mirrored, opened_home
from exchange.cli.audit.mirror.seen import compare, keep_evidence, log_of
from exchange.cli.audit.mirror.sources import LogName
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.client.errors import BrokenLogError, ForkError
from exchange.core.errors import CoreError
from exchange.core.note import MAX_NOTE, encode_base64
from exchange.core.policy import Policy
from exchange.core.trust import Trust
from exchange.home import Home

EXAMPLE = example(
    "exchange-audit verify consistency theirs.checkpoint --home ./audit-office",
    "exchange-audit verify consistency theirs.checkpoint others.checkpoint --home ./audit-office",
)

NoteFile = typer.Argument(metavar="NOTE", exists=True, dir_okay=False, help="A signed checkpoint.")


def consistency(
    note: Annotated[Path, NoteFile],
    other: Annotated[Path | None, NoteFile] = None,
    policy: PolicyOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check signed checkpoints, such as two auditors', for one history: with each other, and with this home's mirror.

    Two that do not agree end it with 4. Both are signed by the log's key, so they convict the log before anybody who
    has the trust file: they are printed with --json, and kept in HOME/evidence.
    """
    trust = Home(home).trust
    asked = read_policy(home, trust, policy)
    files = [note, *([other] if other is not None else [])]
    opened = [_opened(trust, path, read_note(path), asked) for path in files]
    name = opened[0][0]
    if any(item[0] is not name for item in opened):
        raise WrongUsageError("the two checkpoints are of different logs", "compare each with one of its own log")
    notes = [item for _, item in opened]
    try:
        _compare_each_other(notes)
        reached = _compare_mirror(home, name, notes)
    except BrokenLogError as error:
        _keep(home, name, error)
        if as_json:
            _print_json(notes, "fork", error)
        raise
    if as_json:
        _print_json(notes, "one history" if reached else "unknown", None)
    else:
        _print(notes, reached)
    raise typer.Exit(max(item.exit_code for item in notes) if reached else ExitCode.UNCHECKED)


def read_note(path: Path) -> bytes:
    """A file that should be a signed note; never more than one can have is read."""
    with path.open("rb") as file:
        return file.read(MAX_NOTE + 1)


def _opened(trust: Trust, path: Path, note: bytes, policy: Policy | None) -> tuple[LogName, Standing]:
    name = log_of(trust, note)
    if name is None:
        raise CommandError(f"{path}: not a checkpoint of a log of {trust.name}", "", ExitCode.UNTRUSTED)
    verifier = trust.access_log if name is LogName.ACCESS else trust.directory_log
    try:
        return name, standing(note, verifier, policy)
    except CoreError as error:
        raise CommandError(f"{path}: {error}", "", ExitCode.UNTRUSTED) from error


def _compare_each_other(notes: list[Standing]) -> None:
    if len(notes) < 2:
        return
    one, other = (item.checkpoint for item in notes)
    if one.size == other.size and one.root != other.root:
        text = f"{one.origin} signed two histories of {plural(one.size)}"
        raise ForkError(text, earlier=notes[0].note, later=notes[1].note)


def _compare_mirror(home: Path, name: LogName, notes: list[Standing]) -> bool:
    """Whether all of them are known to be of one history."""
    sizes = {item.checkpoint.size for item in notes}
    same = len(notes) > 1 and len(sizes) == 1
    if not is_mirrored(home):
        return same
    with opened_home(home) as place:
        reached = [compare(place, name, item.checkpoint, item.note) for item in notes]
        place.end()
    return same or all(reached)


def _keep(home: Path, name: LogName, error: BrokenLogError) -> None:
    """A log that signed two histories has failed for this home, whoever showed it the second one."""
    keep_evidence(Home(home), error)
    if is_mirrored(home):
        with opened_home(home) as place:
            place.fail(name, error)


def _print(notes: list[Standing], reached: bool) -> None:
    lines = {
        f"{item.checkpoint.origin}, {number}": [
            f"checkpoint {item.checkpoint.size}",
            f"root {encode_base64(item.checkpoint.root)}",
            item.told(),
        ]
        for number, item in enumerate(notes, 1)
    }
    print_pairs(lines)
    caveats = ", ".join(dict.fromkeys(item.caveat for item in notes if item.caveat)) or SEEN_BY_MANY
    if reached:
        print_line(f"verified: one history; {caveats}")
    else:
        print_line(f"NOT VERIFIED: nothing here reaches both, run `exchange-audit sync`; {caveats}")


def _print_json(notes: list[Standing], verdict: str, error: BrokenLogError | None) -> None:
    print_json(
        {
            "verdict": verdict,
            "checkpoints": [
                {
                    "log": item.checkpoint.origin,
                    "size": item.checkpoint.size,
                    "root": encode_base64(item.checkpoint.root),
                    **item.described(),
                }
                for item in notes
            ],
            "evidence": [error.earlier.decode(), error.later.decode()] if error is not None else [],
            "caveats": list(dict.fromkeys(item.caveat for item in notes if item.caveat)),
        }
    )
