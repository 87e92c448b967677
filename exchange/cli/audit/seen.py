"""A checkpoint from elsewhere, held against all that this home has seen: a log has one history, or it has failed.

Whatever brings a signed checkpoint (a proof, a bundle, another auditor's note) comes through here, so that a log which
shows one history to one party and another to the next is found out by whoever compares.
"""

from exchange.cli.audit.access_mirror import EVIDENCE
from exchange.cli.audit.findings import plural
from exchange.cli.audit.offline import AuditHome
from exchange.cli.audit.sources import LogName, MirroredLog, mirrored_log
from exchange.client.errors import BrokenLogError, ForkError
from exchange.core.checkpoint import Checkpoint
from exchange.core.ranges import GrowingRoot, cover
from exchange.core.trust import Trust
from exchange.home import Home


def log_of(trust: Trust, note: bytes) -> LogName | None:
    """Which of the two logs a checkpoint says to be of, unverified; None for neither."""
    origin = note.partition(b"\n")[0]
    names = {trust.access_log.name.encode(): LogName.ACCESS, trust.directory_log.name.encode(): LogName.DIRECTORY}
    return names.get(origin)


def root_at(log: MirroredLog, size: int) -> bytes:
    """The root that a log had at a size, by the mirror's nodes."""
    tree, places = GrowingRoot(), tuple(cover(0, size))
    for place, hash_ in zip(places, log.nodes(places), strict=True):
        tree.add_node(place.level, hash_)
    return tree.root()


def compare(place: AuditHome, name: LogName, checkpoint: Checkpoint, note: bytes) -> bool:
    """Hold a checkpoint against the mirror, and keep it.

    Args:
        place: the home.
        name: the log; checkpoint: one that it signed; note: as it signed it.

    Returns:
        Whether the mirror reaches as far; a checkpoint of the access log that goes further is kept for the next sync,
        which will be held to it.

    Raises:
        ForkError: the log signed another history to this home; sticky, and both notes are kept in HOME/evidence.
    """
    log = mirrored_log(place, name)
    if checkpoint.size > log.checkpoint.size:
        if name is LogName.ACCESS:
            place.access.keep(checkpoint, note)
        return False
    if root_at(log, checkpoint.size) != checkpoint.root:
        own = log.note(log.checkpoint.size)
        text = f"{checkpoint.origin} signed two histories: {_sizes(checkpoint.size, log.checkpoint.size)} do not agree"
        raise place.fail(name, ForkError(text, earlier=own, later=note))
    return True


def keep_evidence(home: Home, error: BrokenLogError) -> None:
    """Both signed notes as files: they are what is shown to others."""
    for name, note in (("earlier", error.earlier), ("later", error.later)):
        log = note.partition(b"\n")[0].rpartition(b"/")[2].decode(errors="replace")
        path = f"{EVIDENCE}/{log}-{name}.checkpoint"
        if note and not (home.path / path).exists():
            home.write(path, note)


def _sizes(one: int, other: int) -> str:
    return f"that of {plural(one)} and that of {other}"
