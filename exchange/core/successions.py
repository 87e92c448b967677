"""Breaks of the access log that the root has declared: what was lost, and whence the log goes on (DESIGN section 7).

A log that is smaller than it was has been rolled back. It is an honest disaster where the directory, which every party
mirrors, says so, signed by the offline root: then what was signed between the two checkpoints counts as lost, and
everything else must be of one history still.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from exchange.core.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from exchange.core.envelope import ENTRY, decode_envelope
from exchange.core.errors import CoreError, NoteError
from exchange.core.note import Verifier
from exchange.core.state import MAX_ENTRY, MAX_TEXT, OBJECT_ID, EntryError, State
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, Successor

BREAKS_OBJECT = hashlib.sha256(b"exchange.v1/breaks").digest()[:OBJECT_ID]
"""The object id of declared breaks: there is one such object, and each break is a version of it."""


@dataclass(frozen=True, slots=True)
class Succession:
    """A declared break.

    Args:
        index: of its entry in the directory.
        time: of that, milliseconds.
        lost: the largest checkpoint of the broken log; first: that from which the log goes on.
        first_note: the latter, as the log signed it.
        reason: for people.
    """

    index: int
    time: int
    lost: Checkpoint
    first: Checkpoint
    first_note: bytes
    reason: str

    def covers(self, size: int) -> bool:
        """Whether a checkpoint of this size may be of what was lost."""
        return self.first.size < size <= self.lost.size

    def __str__(self) -> str:
        return (
            f"entry {self.index} of the directory declares that the access log lost its entries {self.first.size} to "
            f"{self.lost.size - 1}, signed by the root: {self.reason}"
        )


def check_successor(origin: str, said: Successor) -> None:
    """The rule: both checkpoints are of the exchange's access log, the first is the smaller, and there is a reason.

    That the log signed them is for those to check who have its key.

    Raises:
        EntryError: it is broken.
    """
    try:
        lost, first = (_unverified(note) for note in (said.lost_checkpoint, said.first_checkpoint))
    except (NoteError, UnicodeDecodeError) as error:
        raise EntryError(f"a declared break names two checkpoints: {error}") from error
    if {lost.origin, first.origin} != {f"{origin}/access"} or first.size >= lost.size:
        raise EntryError("a declared break is of the access log, which goes on from less than it had")
    if not 1 <= len(said.reason) <= MAX_TEXT:
        raise EntryError("a declared break has a reason of at most 2,000 characters")


def successions(state: State, leaf: Callable[[int], bytes], verifier: Verifier) -> Iterator[Succession]:
    """The declared breaks of a directory, in their order; what the log has not signed is none.

    Args:
        state: of the leaves.
        leaf: gives one by its index.
        verifier: the access log's note key.
    """
    for digest in state.histories.get(BREAKS_OBJECT, ()):
        index = state.versions[digest].index
        try:
            yield read_succession(index, leaf(index), verifier)
        except CoreError:
            continue


def has_breaks(state: State) -> bool:
    """Whether the root has declared any break."""
    return bool(state.histories.get(BREAKS_OBJECT))


def read_succession(index: int, data: bytes, verifier: Verifier) -> Succession:
    """Read a declared break out of a leaf that the fold has accepted.

    Args:
        index: the leaf's.
        data: a serialised DirectoryLeaf.
        verifier: the access log's note key.

    Raises:
        CoreError: the log has not signed what it names.
    """
    frame = decode(DirectoryLeaf, data, MAX_ENTRY)
    said = decode(Entry, decode_envelope(frame.envelope, ENTRY, MAX_ENTRY).payload, MAX_ENTRY).successor
    lost = open_checkpoint(said.lost_checkpoint, verifier)
    first = open_checkpoint(said.first_checkpoint, verifier)
    return Succession(index, frame.time, lost, first, said.first_checkpoint, said.reason)


def _unverified(note: bytes) -> Checkpoint:
    return parse_checkpoint(note.partition(b"\n\n")[0].decode() + "\n")
