"""Proofs of an entry as one file (C2SP tlog-proof), which anybody who has the log's key can check offline.

    c2sp.org/tlog-proof@v1
    extra YWJj
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=

    gov.example/access
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — gov.example/access hI2DJw...

This exchange puts the leaf's bytes into `extra`: unsigned as they are, it is their hash that is proven.
"""

import re
from dataclasses import dataclass
from typing import Final

from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import NoteError, ProofError
from exchange.core.merkle import HASH_SIZE, MAX_SIZE, leaf_hash, verify_inclusion
from exchange.core.note import MAX_NOTE, Verifier, decode_base64, encode_base64
from exchange.v1.envelope_pb2 import Receipt

MAX_EXTRA: Final = 1 << 16
MAX_PATH: Final = 63
MAX_PROOF: Final = MAX_NOTE + 2 * MAX_EXTRA
"""Bytes of the longest file that is read."""

_FIRST: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
# Not \d nor int() alone: both take other scripts' digits, and int() signs, spaces and underscores as well.
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof that a log holds an entry; nothing of it is verified yet.

    Args:
        index: the entry's, from 0.
        path: inclusion path, 32-byte hashes, the leaf's sibling first.
        checkpoint: a checkpoint as a signed note, with any cosignatures.
        extra: opaque and unsigned, at most 65,536 bytes; here the leaf.

    Raises:
        ProofError: a part is out of its range.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_SIZE:
            raise ProofError(f"index {self.index} is out of range")
        if len(self.path) > MAX_PATH or any(len(item) != HASH_SIZE for item in self.path):
            raise ProofError(f"a path is at most {MAX_PATH} hashes of {HASH_SIZE} bytes")
        if len(self.extra) > MAX_EXTRA:
            raise ProofError(f"the extra data is longer than {MAX_EXTRA} bytes")
        if not self.checkpoint or len(self.checkpoint) > MAX_NOTE:
            raise ProofError(f"a proof has a checkpoint of at most {MAX_NOTE} bytes")


def encode_proof(proof: TlogProof) -> bytes:
    """Write a proof's file, by custom NAME.tlog-proof (C2SP tlog-proof, "Format")."""
    extra = [_EXTRA + encode_base64(proof.extra)] if proof.extra else []
    lines = (_FIRST, *extra, f"index {proof.index}", *map(encode_base64, proof.path), "", "")
    return "\n".join(lines).encode() + proof.checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read the one encoding of a proof, the inverse of `encode_proof` (C2SP tlog-proof, "Format").

    Args:
        data: the file, at most `MAX_PROOF` bytes.

    Raises:
        ProofError: not exactly what `encode_proof` writes.
    """
    if len(data) > MAX_PROOF:
        raise ProofError(f"a proof is at most {MAX_PROOF} bytes")
    # Lines of the proof are never empty, so the first empty line ends them, whatever the checkpoint holds.
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ProofError("a proof's lines are ASCII") from error
    if not separator or first != _FIRST:
        raise ProofError(f"not a proof: it does not begin with {_FIRST}")
    extra = _parse_extra(lines.pop(0)) if lines and lines[0].startswith(_EXTRA) else b""
    match = _INDEX.fullmatch(lines[0]) if lines else None
    if match is None:
        raise ProofError("a proof names its index")
    return TlogProof(int(match[1]), tuple(_decode(line) for line in lines[1:]), checkpoint, extra)


def verify_proof(proof: TlogProof, leaf: bytes, verifier: Verifier) -> Checkpoint:
    """Check that a log holds an entry.

    Args:
        proof: as it was read; its `extra` is not looked at.
        leaf: the entry's bytes.
        verifier: the log's key, from a source already trusted.

    Raises:
        CoreError: the checkpoint is not the log's, or does not hold the entry.
    """
    checkpoint = open_checkpoint(proof.checkpoint, verifier)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.path, checkpoint.root)
    return checkpoint


def receipt_proof(receipt: Receipt) -> TlogProof:
    """The proof that a receipt is, with its leaf as `extra`; as little verified as the receipt."""
    return TlogProof(receipt.index, tuple(receipt.path), receipt.checkpoint, receipt.leaf)


def _parse_extra(line: str) -> bytes:
    extra = _decode(line.removeprefix(_EXTRA))
    # C2SP tlog-proof, "Format": without extra data the line is omitted.
    if not extra:
        raise ProofError("a proof without extra data has no line for it")
    return extra


def _decode(text: str) -> bytes:
    try:
        return decode_base64(text)
    except NoteError as error:
        raise ProofError(f"a line of the proof: {error}") from error
