"""Either log as the auditor's home mirrors it, behind one interface: leaves, bodies, nodes, signed checkpoints."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Protocol

import typer

from exchange.cli.audit.checking.policies import RECENT, Standing, newest_standing
from exchange.cli.audit.checking.tree import place_of
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.nodes import StreamedNodes
from exchange.cli.audit.mirror.offline import AuditHome
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.client.errors import ForkError
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import NoteError
from exchange.core.merkle import NodeId, inclusion_proof, leaf_hash, verify_inclusion
from exchange.core.note import Verifier
from exchange.core.policy import Policy
from exchange.core.ranges import GrowingRoot, cover


class LogName(StrEnum):
    """Which of the two logs."""

    ACCESS = "access"
    DIRECTORY = "directory"


LogOption = Annotated[LogName, typer.Option("--log", help="Which of the two logs.")]


class MirroredLog(Protocol):
    """A log as it is mirrored; nothing of it is verified but the signature of its checkpoint."""

    @property
    def checkpoint(self) -> Checkpoint:
        """The last one that the log signed to this home."""
        ...

    @property
    def verifier(self) -> Verifier:
        """The log's key, out of the trust file."""
        ...

    def note(self, size: int) -> bytes:
        """The signed checkpoint of a size; empty where the log never showed it."""
        ...

    def sizes(self) -> Sequence[int]:
        """The sizes of which there are signed checkpoints, ascending."""
        ...

    def notes(self) -> Sequence[bytes]:
        """The newest signed checkpoints, at most `RECENT`, the newest first."""
        ...

    def rows(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`, as they are stored."""
        ...

    def nodes(self, wanted: Sequence[NodeId]) -> list[bytes]:
        """The hashes of complete nodes, as they are stored."""
        ...


class AccessLog:
    """The access log, whose nodes are stored."""

    def __init__(self, place: AuditHome) -> None:
        self._mirror = place.access
        self.verifier = place.trust.access_log
        self.checkpoint = place.access.checkpoint

    def note(self, size: int) -> bytes:
        """The signed checkpoint of a size."""
        return self._mirror.note(size)

    def sizes(self) -> Sequence[int]:
        """The sizes of which there are signed checkpoints."""
        return [checkpoint.size for checkpoint in self._mirror.checkpoints(verified=True)]

    def notes(self) -> Sequence[bytes]:
        """The newest signed checkpoints."""
        return self._mirror.notes(RECENT)

    def rows(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`."""
        return self._mirror.rows(start, min(stop, self.checkpoint.size))

    def nodes(self, wanted: Sequence[NodeId]) -> list[bytes]:
        """The hashes of complete nodes."""
        return [self._mirror.node(place_of(node.level, node.index)) or b"" for node in wanted]


class DirectoryLog:
    """The directory log, whose nodes are computed from its leaves."""

    def __init__(self, place: AuditHome) -> None:
        self._place = place
        self._mirror = place.directory
        self.verifier = place.trust.directory_log
        self.checkpoint = place.directory.checkpoint
        self._nodes = StreamedNodes(self._leaves, self.checkpoint.size)
        self._notes: list[bytes] = []

    def note(self, size: int) -> bytes:
        """The signed checkpoint of a size."""
        return next((note for note in self.notes() if open_checkpoint(note, self.verifier).size == size), b"")

    def sizes(self) -> Sequence[int]:
        """The sizes of which there are signed checkpoints."""
        return [open_checkpoint(note, self.verifier).size for note in reversed(self.notes())]

    def notes(self) -> Sequence[bytes]:
        """The newest signed checkpoints: the last one, and before it the last that a quorum cosigned.

        Raises:
            ForkError: what was cosigned is of another history than the mirror; sticky.
        """
        self._notes = self._notes or [self._mirror.note, *self._cosigned()]
        return self._notes

    def _cosigned(self) -> Iterator[bytes]:
        """What a quorum cosigned of an earlier size, held against the mirror."""
        note = self._mirror.cosigned
        try:
            cosigned = open_checkpoint(note, self.verifier)
        except NoteError:
            return
        if cosigned.size >= self.checkpoint.size:
            return
        if root_at(self, cosigned.size) != cosigned.root:
            text = f"witnesses have cosigned another directory of {cosigned.size} entries than this home was given"
            raise self._place.fail(LogName.DIRECTORY, ForkError(text, earlier=self._mirror.note, later=note))
        yield note

    def rows(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`."""
        return self._mirror.entries.between(start, min(stop, self.checkpoint.size))

    def nodes(self, wanted: Sequence[NodeId]) -> list[bytes]:
        """The hashes of complete nodes."""
        return [self._nodes.hash(node) for node in wanted]

    def _leaves(self, start: int, stop: int) -> Iterator[bytes]:
        return (entry.leaf for entry in self._mirror.entries.between(start, stop))


def mirrored_log(place: AuditHome, name: LogName) -> MirroredLog:
    """One of the two logs of a home."""
    return AccessLog(place) if name is LogName.ACCESS else DirectoryLog(place)


def root_at(log: MirroredLog, size: int) -> bytes:
    """The root that a log had at a size, by the mirror's nodes."""
    tree, places = GrowingRoot(), tuple(cover(0, size))
    for place, hash_ in zip(places, log.nodes(places), strict=True):
        tree.add_node(place.level, hash_)
    return tree.root()


def log_standing(log: MirroredLog, policy: Policy | None, least: int = 0) -> Standing:
    """The newest checkpoint of a mirrored log that meets a policy, or the newest of all where none does.

    Args:
        log: the mirror; policy: the auditor's.
        least: entries that the checkpoint must hold.

    Raises:
        NoteError: a cosignature by a witness of the policy fails.
    """
    notes = [note for note in log.notes() if open_checkpoint(note, log.verifier).size >= least]
    return newest_standing(notes, log.verifier, policy)


def proven_path(log: MirroredLog, entry: LoggedEntry, checkpoint: Checkpoint) -> tuple[bytes, ...]:
    """The inclusion path of an entry, which is checked to hold.

    Args:
        log: the mirror.
        entry: as it is stored.
        checkpoint: one that the log signed.

    Raises:
        CommandError: leaf or nodes were altered.
    """
    try:
        path = inclusion_proof(entry.index, checkpoint.size, log.nodes)
        verify_inclusion(leaf_hash(entry.leaf), entry.index, checkpoint.size, path, checkpoint.root)
    except ValueError as error:
        raise altered(checkpoint.origin) from error
    return path


def altered(origin: str) -> CommandError:
    """The error for a mirror that does not make the root that its log signed."""
    hint = "`exchange-audit verify full` names what was altered"
    return CommandError(f"the mirror of {origin} was altered: it does not make the signed root", hint, ExitCode.REFUSED)
