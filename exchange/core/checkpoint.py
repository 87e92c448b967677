"""Checkpoints of a log (C2SP tlog-checkpoint): its name, size and root, as the text of a signed note.

    gov.example/access
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

Extension lines may follow; this exchange's logs write none, but read them.
"""

import re
from dataclasses import dataclass

from exchange.core.errors import NoteError
from exchange.core.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE
from exchange.core.note import (
    NoteSigner,
    Verifier,
    decode_base64,
    encode_base64,
    encode_text,
    open_note,
    sign_note,
)

# Not \d nor int() alone: both take other scripts' digits, and int() signs, spaces and underscores as well.
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's state at one size.

    Args:
        origin: the log's name, one non-empty line.
        size: number of leaves, 0 to 2**63 - 1.
        root: the tree's 32-byte root (RFC 9162 section 2.1.1); EMPTY_ROOT for size 0.
        extensions: opaque non-empty lines, which monitors cannot audit.

    Raises:
        NoteError: a line is malformed, the size is out of range, or the root cannot be that of the size.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or "\n" in line:
                raise NoteError("a checkpoint's origin and extensions are single non-empty lines")
        encode_text("\n".join((self.origin, *self.extensions, "")))
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteError(f"checkpoint size {self.size} is out of range")
        if len(self.root) != HASH_SIZE:
            raise NoteError(f"a checkpoint's root is {HASH_SIZE} bytes, not {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise NoteError("the root of an empty log is not SHA-256 of nothing")


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """Writes a checkpoint as a note's text, with its final newline (C2SP tlog-checkpoint, "Note text")."""
    root = encode_base64(checkpoint.root)
    return "\n".join((checkpoint.origin, str(checkpoint.size), root, *checkpoint.extensions, ""))


def parse_checkpoint(text: str) -> Checkpoint:
    """Reads the one encoding of a checkpoint, the inverse of `encode_checkpoint`.

    Args:
        text: a note's text, verified already: see `open_checkpoint`.

    Raises:
        NoteError: the text is not exactly what `encode_checkpoint` writes.
    """
    origin, *rest = text.split("\n")
    if len(rest) < 3 or rest[-1]:
        raise NoteError("a checkpoint is at least three lines")
    size, root, *extensions = rest[:-1]
    # C2SP tlog-checkpoint, "Note text": ASCII decimal without leading zeroes.
    if not _SIZE.fullmatch(size):
        raise NoteError(f"not a checkpoint size: {size[:80]!r}")
    return Checkpoint(origin, int(size), decode_base64(root), tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Encodes a checkpoint as a note signed by its log.

    The caller has made sure that it is consistent with all that this log signed before (C2SP tlog-checkpoint,
    "Signatures").

    Args:
        checkpoint: its origin is the signer's name.
        signer: the log's key.

    Raises:
        NoteError: the origin is not the signer's name, or the note passes the limits of `open_note`.
    """
    _check_origin(checkpoint, signer.verifier)
    return sign_note(encode_checkpoint(checkpoint), (signer,))


def open_checkpoint(note: bytes, verifier: Verifier) -> Checkpoint:
    """Verifies and reads a log's signed checkpoint, ignoring signatures by other keys.

    Args:
        note: a signed note, at most 1 MiB.
        verifier: the key of the log asked for.

    Raises:
        NoteError: the note or its text is malformed, the log has not signed it, or it is another log's.
    """
    checkpoint = parse_checkpoint(open_note(note, (verifier,)).text)
    _check_origin(checkpoint, verifier)
    return checkpoint


def _check_origin(checkpoint: Checkpoint, verifier: Verifier) -> None:
    # DESIGN section 3: the origin line must equal the log asked for, or one log's state passes for another's.
    if checkpoint.origin != verifier.name:
        raise NoteError(f"the checkpoint is of {checkpoint.origin[:80]!r}, not {verifier.name!r}")
