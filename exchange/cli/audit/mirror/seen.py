"""A checkpoint from elsewhere, held against all that this home has seen: a log has one history, or it has failed.

Whatever brings a signed checkpoint (a proof, a bundle, another auditor's note) comes through here, so that a log which
shows one history to one party and another to the next is found out by whoever compares.
"""

from pathlib import Path
from typing import Final

from exchange.cli.audit.checking.findings import plural
from exchange.cli.audit.mirror.access_mirror import EVIDENCE
from exchange.cli.audit.mirror.offline import AuditHome
from exchange.cli.audit.mirror.sources import LogName, mirrored_log, root_at
from exchange.client.errors import BrokenLogError, EvidenceError, ForkError, RollbackError
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.trust import Trust
from exchange.home import Home, write_file

SEEN: Final = "seen"
"""The folder of checkpoints of the directory that somebody brought, and that the mirror does not reach yet."""


def log_of(trust: Trust, note: bytes) -> LogName | None:
    """Which of the two logs a checkpoint says to be of, unverified; None for neither."""
    origin = note.partition(b"\n")[0]
    names = {trust.access_log.name.encode(): LogName.ACCESS, trust.directory_log.name.encode(): LogName.DIRECTORY}
    return names.get(origin)


def compare(place: AuditHome, name: LogName, checkpoint: Checkpoint, note: bytes) -> bool:
    """Hold a checkpoint against the mirror, and keep it.

    Args:
        place: the home.
        name: the log; checkpoint: one that it signed; note: as it signed it.

    Returns:
        Whether the mirror reaches as far; a checkpoint that goes further is kept, and the next sync is held to it.

    Raises:
        ForkError: the log signed another history to this home; sticky, and both notes are kept in HOME/evidence.
    """
    log = mirrored_log(place, name)
    if checkpoint.size > log.checkpoint.size:
        if name is LogName.ACCESS:
            place.access.keep(checkpoint, note)
        else:
            _keep_later(place, checkpoint, note)
        return False
    if root_at(log, checkpoint.size) != checkpoint.root:
        own = log.note(log.checkpoint.size)
        text = f"{checkpoint.origin} signed two histories: {_sizes(checkpoint.size, log.checkpoint.size)} do not agree"
        raise place.fail(name, ForkError(text, earlier=own, later=note))
    return True


def hold_to_later(place: AuditHome) -> None:
    """Hold the directory, as a sync has left it, to the checkpoints that had gone further than the mirror.

    Raises:
        ForkError, RollbackError: the log does not reach what it had signed; sticky.
        EvidenceError: a file in HOME/seen is not what was put there.
    """
    own = place.directory.checkpoint
    for path in sorted(_folder(place).glob("directory-*.checkpoint")):
        note = path.read_bytes()
        later = _opened(path, note, place.trust)
        if not compare(place, LogName.DIRECTORY, later, note):
            text = f"{own.origin} had signed {plural(later.size)} to somebody, and shows {own.size} here"
            raise place.fail(LogName.DIRECTORY, RollbackError(text, earlier=note, later=place.directory.note))
        path.unlink()


def keep_evidence(home: Home, error: BrokenLogError) -> None:
    """Both signed notes as files: they are what is shown to others."""
    for name, note in (("earlier", error.earlier), ("later", error.later)):
        log = note.partition(b"\n")[0].rpartition(b"/")[2].decode(errors="replace")
        path = f"{EVIDENCE}/{log}-{name}.checkpoint"
        if note and not (home.path / path).exists():
            home.write(path, note)


def _keep_later(place: AuditHome, checkpoint: Checkpoint, note: bytes) -> None:
    path = _folder(place) / f"directory-{checkpoint.size}.checkpoint"
    if path.exists():
        earlier = path.read_bytes()
        if _opened(path, earlier, place.trust).root != checkpoint.root:
            text = f"{checkpoint.origin} signed two histories of {plural(checkpoint.size)}"
            raise place.fail(LogName.DIRECTORY, ForkError(text, earlier=earlier, later=note))
        return
    write_file(path, note, 0o644)


def _folder(place: AuditHome) -> Path:
    return place.access.path.parent / SEEN


def _opened(path: Path, note: bytes, trust: Trust) -> Checkpoint:
    try:
        return open_checkpoint(note, trust.directory_log)
    except CoreError as error:
        raise EvidenceError(
            f"{path} was altered: {error}", "somebody showed it to this home: ask for it again"
        ) from error


def _sizes(one: int, other: int) -> str:
    return f"that of {plural(one)} and that of {other}"
