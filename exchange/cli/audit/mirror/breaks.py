"""Breaks of the access log that the root has declared: what the auditor's mirror keeps of them, and gives up.

Nothing is thrown away: a mirror that has more than the log goes on from is kept whole in HOME/evidence, beside a line
of text for each break, before the lost entries leave the mirror.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from exchange.backup.databases import copy_database
from exchange.cli.audit.mirror.access_mirror import EVIDENCE, AccessMirror
from exchange.client.breaks import is_lost
from exchange.client.session import Session
from exchange.core.successions import Succession
from exchange.home import write_file


async def settle_breaks(session: Session, mirror: AccessMirror) -> Sequence[Succession]:
    """Settle the breaks that the directory declares, each of them once, and give all of them.

    Args:
        session: of the auditor; its directory follows the log.
        mirror: of the access log.

    Raises:
        ForkError: what the mirror has before the break is of another history than the declaration says.
        UnavailableError: nobody says what the log still proves.
    """
    declared = await asyncio.to_thread(session.declared_breaks)
    for succession in declared:
        note = _note(mirror, succession)
        if not note.exists():
            shown = (mirror.checkpoint, *mirror.checkpoints(verified=False))
            largest = max(shown, key=lambda checkpoint: checkpoint.size)
            if await is_lost(session.transport, succession, largest):
                copy = note.with_suffix(".db")
                copy.parent.mkdir(exist_ok=True, mode=0o700)
                copy.unlink(missing_ok=True)
                copy_database(mirror.path, copy)
                copy.chmod(0o600)
                mirror.give_up(succession)
            write_file(note, f"{succession}\n".encode(), 0o644)
    return declared


def _note(mirror: AccessMirror, succession: Succession) -> Path:
    return mirror.path.parent / EVIDENCE / f"access-break-{succession.index}.txt"
