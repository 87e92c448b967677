"""`exchange-audit sync`: mirror both logs into the auditor's home, and verify that they only grow."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.checking.policies import Standing, of_quorum
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.bodies import fetch_bodies
from exchange.cli.audit.mirror.breaks import settle_breaks
from exchange.cli.audit.mirror.fetch import fetch_access_log
from exchange.cli.audit.mirror.offline import opened_home
from exchange.cli.audit.mirror.seen import hold_to_later, keep_evidence
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import clean, print_json, print_line, print_pairs
from exchange.cli.frame.progress import bar
from exchange.cli.frame.times import iso
from exchange.client.cosignatures import split_view
from exchange.client.errors import BrokenLogError
from exchange.client.session import Session
from exchange.client.storage import ACCESS, DIRECTORY
from exchange.core.checkpoint import Checkpoint
from exchange.core.note import encode_base64
from exchange.core.successions import Succession
from exchange.home import Home

app = new_command()


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One log after a sync: its checkpoint, and how many entries are new here.

    Args:
        seen: what witnesses say of it.
        stale: why a split view is not excluded though a quorum cosigned it once; empty where that was lately.
    """

    checkpoint: Checkpoint
    new: int
    seen: Standing
    stale: str

    @property
    def caveats(self) -> list[str]:
        """What is not excluded."""
        return [*self.seen.caveats, *([self.stale] if self.stale else [])]


@app.command(epilog=example("exchange-audit sync --home ./audit-office"))
def sync(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Mirror both logs, and verify that each goes on from what it signed before.

    It takes what is new, page by page, and goes on where it was interrupted. A log that is smaller than it was, or has
    two histories, ends it with exit code 4, then and ever after; both signed checkpoints are kept in HOME/evidence.
    Where the root has declared in the directory that the access log lost its end, that is printed as a warning, then
    and ever after, and what this home had of the lost entries is kept in HOME/evidence.
    """
    require_role(home, "auditor", "only an auditor is given the whole access log")
    logs, breaks = asyncio.run(_mirror(Home(home)))
    if as_json:
        described = [
            {
                "log": log.checkpoint.origin,
                "size": log.checkpoint.size,
                "new": log.new,
                "root": encode_base64(log.checkpoint.root),
                **log.seen.described(),
            }
            for log in logs
        ]
        print_json({"logs": described, "breaks": [_broken(item) for item in breaks], "caveats": _caveats(logs)})
        return
    print_pairs({log.checkpoint.origin: _lines(log) for log in logs})
    for item in breaks:
        print_line(clean(f"WARNING: {item}"))
    print_line("; ".join((f"verified to {logs[1].checkpoint.size}", *_caveats(logs))))


def _lines(log: Mirrored) -> list[str]:
    lines = [f"{plural(log.checkpoint.size)}, {log.new} new"]
    return lines if log.seen.quorum is None else [*lines, log.seen.told()]


def _caveats(logs: Sequence[Mirrored]) -> list[str]:
    """Of both logs, each once."""
    return list(dict.fromkeys(caveat for log in logs for caveat in log.caveats))


def _broken(item: Succession) -> dict[str, object]:
    lost = [item.first.size, item.lost.size - 1]
    return {"entry": item.index, "time": iso(item.time), "lost": lost, "reason": item.reason}


async def _mirror(home: Home) -> tuple[tuple[Mirrored, Mirrored], Sequence[Succession]]:
    try:
        async with Session(home) as session:
            with AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True) as mirror:
                logs = await _both(session, mirror)
                breaks = await asyncio.to_thread(session.declared_breaks)
        with opened_home(home.path) as place:
            hold_to_later(place)
        return logs, breaks
    except BrokenLogError as error:
        keep_evidence(home, error)
        raise


async def _both(session: Session, mirror: AccessMirror) -> tuple[Mirrored, Mirrored]:
    had = session.directory.size, mirror.size
    with bar("directory log") as advance:
        session.mirror.progress = advance
        await session.sync()
    # What the access log's entries name later is little, and shows no bar of its own.
    session.mirror.progress = lambda _done, _total: None
    await settle_breaks(session, mirror)
    await fetch_bodies(session, mirror)
    with bar("access log") as advance:
        access = await fetch_access_log(session, mirror, advance)
    directory = session.mirror.checkpoint
    return (
        _mirrored(session, DIRECTORY, directory, session.mirror.note, directory.size - had[0]),
        _mirrored(session, ACCESS, access, mirror.note(access.size), access.size - had[1]),
    )


def _mirrored(session: Session, log: str, checkpoint: Checkpoint, note: bytes, new: int) -> Mirrored:
    cosigned, policy = session.cosignatures.of(log), session.trust.policy
    seen = of_quorum(cosigned, checkpoint, session.cosignatures.note(log) or note, policy)
    stale = split_view(policy, cosigned, session.clock()) if cosigned is not None else ""
    return Mirrored(checkpoint, new, seen, stale)
