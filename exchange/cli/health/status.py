"""`exchange status`: who this is, what it holds, and what can be verified now, on one screen."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from exchange.cli.brokers.growth import described, growth_of, shown
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import ExitCode, diagnose
from exchange.cli.frame.output import clean, grouped, print_json, print_line, print_pairs
from exchange.cli.frame.screen import on_one_screen, packed
from exchange.cli.frame.times import SECOND, age, day_of, days_left, iso, now
from exchange.cli.health.standing import LogStanding, Standing, standing_of
from exchange.cli.keys.certificates import described as described_expiring
from exchange.cli.keys.certificates import warning_line
from exchange.cli.keys.revoking import described_pending, pending_line
from exchange.core.keys import key_id
from exchange.core.protocol import Announcement
from exchange.home import ROOT, Home, HomeError

if TYPE_CHECKING:
    from exchange.store.growth import Growth

app = new_command()

_HALF = 16
"""Bytes of a fingerprint that stand on one line."""

_ADMITTED_BY_FILES = "the parent admits the key request, and sends an admission to install"

_VALUES = 59
"""Columns beside the longest name: directory witnesses."""


@app.command(epilog=example("exchange status --home ./health"))
def status(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show who this is, how its keys and certificate stand, and what can be verified now."""
    standing = asyncio.run(standing_of(Home(home)))
    growth, problem = _growth(home, standing)
    if as_json:
        more = {"growth": described(growth) if growth is not None else None} if _is_broker(standing) else {}
        print_json(_described(standing) | more)
    else:
        _print(_shown(standing) | (shown(growth) if growth is not None else problem), standing.caveats)
    raise typer.Exit(_exit_code(standing))


def _print(pairs: Mapping[str, object], caveats: Sequence[str]) -> None:
    """On a terminal no more than fits its screen; elsewhere all of it, each text on a line of its own."""
    cleaned = {name: [clean(str(line)) for line in _listed(value)] for name, value in pairs.items()}
    if sys.stdout.isatty():
        for line in on_one_screen(cleaned, caveats, ("signing key",)):
            print_line(line)
        return
    print_pairs(cleaned)
    for number, caveat in enumerate(caveats):
        if not number:
            print_line()
        print_line(f"! {caveat}")


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _is_broker(standing: Standing) -> bool:
    return standing.role == "broker"


def _growth(home: Path, standing: Standing) -> "tuple[Growth | None, dict[str, object]]":
    """How a broker's logs grow, or why that is not known."""
    if not _is_broker(standing):
        return None, {}
    from exchange.store.ports import StoreError

    try:
        return growth_of(home, now()), {}
    except (StoreError, HomeError, OSError) as error:
        return None, {"growth": f"not known: {error}"}


def _exit_code(standing: Standing) -> int:
    if standing.problem is not None:
        return diagnose(standing.problem).exit_code
    return ExitCode.DONE if standing.directory is not None else ExitCode.UNCHECKED


def _shown(standing: Standing) -> dict[str, object]:
    trust, until = standing.trust, standing.certificate_until
    pairs: dict[str, object] = {"party": f"{standing.party} ({standing.role})"}
    if trust is None:
        pairs["exchange"] = "no trust file yet: " + (standing.waits or "`exchange key install` brings it")
    else:
        pairs["exchange"] = f"{trust.name}, root {grouped(key_id(trust.root_key)[:8])} …"
    pairs["signing key"] = _signing_key(standing)
    if sealing := [key for key in standing.keys if key.use == "sealing"]:
        latest = sorted(sealing, key=lambda key: key.until or 0, reverse=True)
        pairs["sealing keys"] = [f"{grouped(key.id[:4])} …: {_until(key.state, key.until)}" for key in latest]
    if until is None:
        pairs["certificate"] = "none yet: " + (standing.waits or _ADMITTED_BY_FILES)
    else:
        pairs["certificate"] = _until(days_left(until, now()), until)
    if standing.brokers:
        lines = [f"{address} {_broker(state, announced)}" for address, state, announced in standing.brokers]
        pairs["brokers"] = lines
    pairs["directory"] = _directory(standing)
    pairs["access log"] = _access(standing)
    pairs |= {f"{log.log.rpartition('/')[2]} witnesses": _cosigned(log) for log in standing.witnessed}
    waiting, late = standing.receipts
    if waiting:
        alarm = f", {late} of them for over a minute: ALARM" if late else ""
        pairs["receipts"] = f"{waiting} not cosigned yet{alarm}"
    if standing.expiring:
        pairs["ends soon"] = [warning_line(item) for item in standing.expiring]
    if standing.pending:
        pairs["in public view"] = [pending_line(record) for record in standing.pending]
    if standing.duties:
        pairs["to do"] = list(standing.duties)
    return pairs


def _signing_key(standing: Standing) -> list[str]:
    key = next((key for key in standing.keys if key.use == "signing"), None)
    if key is None:
        rests = standing.role == ROOT
        return ["kept elsewhere, as it should be" if rests else "NOT here: restore it from this home's backup"]
    return [grouped(key.id[:_HALF]), grouped(key.id[_HALF:]), _until(key.state, key.until)]


def _broker(state: str, announced: Announcement | None) -> str:
    return f"{state}, {announced.package}, protocol {announced.spoken}" if announced is not None else state


def _cosigned(log: LogStanding) -> list[str]:
    if log.cosigned is None:
        return ["quorum NOT met"]
    met = f"quorum met at {_entries(log.cosigned.checkpoint.size)}"
    ages = [f"{name}, {age(time * SECOND, now())}" for name, time in log.cosigned.cosignatures]
    return [met, *packed(ages, _VALUES)]


def _entries(size: int) -> str:
    return "1 entry" if size == 1 else f"{size} entries"


def _until(state: str, until: int | None) -> str:
    return f"{state}, until {day_of(until)}" if until is not None else state


def _directory(standing: Standing) -> str:
    directory, problem = standing.directory, standing.problem
    if directory is None:
        return str(problem) if problem is not None else "not synced yet"
    text = f"{directory.size} {'entry' if directory.size == 1 else 'entries'}"
    if directory.size:
        text += f", the last {age(directory.state.time, now())}"
    return f"{text}; {'up to date' if problem is None else f'not synced now: {problem}'}"


def _access(standing: Standing) -> str:
    if standing.access is None:
        return "no entry seen yet"
    return f"{_entries(standing.access.size)} at the last checkpoint, root {grouped(standing.access.root[:8])} …"


def _described(standing: Standing) -> dict[str, object]:
    directory, access, trust = standing.directory, standing.access, standing.trust
    until, problem = standing.certificate_until, standing.problem
    return {
        "party": str(standing.party),
        "role": standing.role,
        "exchange": trust.name if trust else None,
        "root_fingerprint": key_id(trust.root_key) if trust else None,
        "keys": [
            {"use": key.use, "id": key.id, "state": key.state, "until": iso(key.until) if key.until else None}
            for key in standing.keys
        ],
        "certificate_until": iso(until) if until else None,
        "brokers": [
            {
                "address": address,
                "state": state,
                "release": announced.package if announced else None,
                "protocol": announced.spoken if announced else None,
            }
            for address, state, announced in standing.brokers
        ],
        "directory": {
            "size": directory.size,
            "last_entry_at": iso(directory.state.time) if directory.size else None,
            "up_to_date": problem is None,
        }
        if directory
        else None,
        "access_checkpoint": {"origin": access.origin, "size": access.size, "root": access.root} if access else None,
        "problem": str(problem) if problem else None,
        "witnesses": [_described_log(log) for log in standing.witnessed],
        "receipts": {"not_cosigned": standing.receipts[0], "late": standing.receipts[1]},
        "expiring": [described_expiring(item) for item in standing.expiring],
        "in_public_view": [described_pending(record) for record in standing.pending],
        "to_do": list(standing.duties),
        "caveats": standing.caveats,
    }


def _described_log(log: LogStanding) -> dict[str, object]:
    cosigned = log.cosigned
    return {
        "log": log.log,
        "size": cosigned.checkpoint.size if cosigned is not None else None,
        "quorum": cosigned is not None,
        "fresh": not log.caveat,
        "cosignatures": [
            {"witness": name, "cosigned_at": iso(time * SECOND)}
            for name, time in (cosigned.cosignatures if cosigned is not None else ())
        ],
    }
