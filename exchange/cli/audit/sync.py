"""`exchange-audit sync`: mirror both logs into the auditor's home, and verify that they only grow."""

import asyncio
from dataclasses import dataclass

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.audit.access_mirror import FILE, AccessMirror
from exchange.cli.audit.fetch import fetch_access_log
from exchange.cli.audit.findings import NO_WITNESSES, plural
from exchange.cli.audit.progress import bar
from exchange.cli.audit.seen import keep_evidence
from exchange.cli.homes import require_role
from exchange.cli.output import print_json, print_line, print_pairs
from exchange.client.errors import BrokenLogError
from exchange.client.session import Session
from exchange.core.checkpoint import Checkpoint
from exchange.core.note import encode_base64
from exchange.home import Home

app = new_command()


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One log after a sync: its checkpoint, and how many entries are new here."""

    checkpoint: Checkpoint
    new: int


@app.command(epilog=example("exchange-audit sync --home ./audit-office"))
def sync(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Mirror both logs, and verify that each goes on from what it signed before.

    It takes what is new, page by page, and goes on where it was interrupted. A log that is smaller than it was, or has
    two histories, ends it with exit code 4, then and ever after; both signed checkpoints are kept in HOME/evidence.
    """
    require_role(home, "auditor", "only an auditor is given the whole access log")
    logs = asyncio.run(_mirror(Home(home)))
    if as_json:
        described = [
            {"log": log.checkpoint.origin, "size": log.checkpoint.size, "new": log.new, "root": _root(log.checkpoint)}
            for log in logs
        ]
        print_json({"logs": described, "witnesses": [], "caveats": [NO_WITNESSES]})
        return
    print_pairs({log.checkpoint.origin: f"{plural(log.checkpoint.size)}, {log.new} new" for log in logs})
    print_line(f"verified to {logs[1].checkpoint.size}; {NO_WITNESSES}")


async def _mirror(home: Home) -> tuple[Mirrored, Mirrored]:
    try:
        async with Session(home) as session:
            with AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True) as mirror:
                return await _both(session, mirror)
    except BrokenLogError as error:
        keep_evidence(home, error)
        raise


async def _both(session: Session, mirror: AccessMirror) -> tuple[Mirrored, Mirrored]:
    had = session.directory.size, mirror.size
    await session.sync()
    with bar("access log") as advance:
        access = await fetch_access_log(session, mirror, advance)
    directory = session.mirror.checkpoint
    return Mirrored(directory, directory.size - had[0]), Mirrored(access, access.size - had[1])


def _root(checkpoint: Checkpoint) -> str:
    return encode_base64(checkpoint.root)
