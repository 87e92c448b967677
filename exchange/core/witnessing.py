"""Asking a witness for its cosignature (C2SP tlog-witness): the request, its strict reader, and what is checked of it.

    old 20852014
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
    jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+...

Witness and log share this module, so that neither reads what the other would not write.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError, DecodeError, ProofError, UnsignedError
from exchange.core.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, verify_consistency
from exchange.core.note import Verifier, decode_base64, encode_base64

MAX_PROOF = 63
"""Hashes of one request (C2SP tlog-witness, "add-checkpoint")."""

MAX_NOTE = 16 * 1024
"""Bytes of a signed checkpoint that a witness takes."""

MAX_REQUEST = MAX_NOTE + 4 * 1024
"""Bytes of a whole request: 63 hashes of 45 characters, and the old size, fit beside the checkpoint."""

MAX_RESPONSE = 16 * 1024
"""Bytes of a witness's answer that a log reads."""

SIZE_TYPE = "text/x.tlog.size"
"""The content type of an answer that says which size the witness has."""

BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 400, 403, 404, 409, 422

_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """One `add-checkpoint` request.

    Args:
        old_size: the size of the checkpoint that the witness cosigned last, 0 to 2**63 - 1.
        proof: the consistency path from there, at most 63 hashes of 32 bytes.
        note: the signed checkpoint, which is not verified yet.

    Raises:
        DecodeError: a part is out of its bounds.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.old_size <= MAX_SIZE:
            raise DecodeError(f"the old size {self.old_size} is out of range")
        if len(self.proof) > MAX_PROOF or any(len(item) != HASH_SIZE for item in self.proof):
            raise DecodeError(f"a consistency proof is at most {MAX_PROOF} hashes of {HASH_SIZE} bytes")
        if not 0 < len(self.note) <= MAX_NOTE:
            raise DecodeError(f"a checkpoint of {len(self.note)} bytes: the most is {MAX_NOTE}")

    @property
    def origin(self) -> str:
        """The log that the note says it is of; a claim until its signature is verified."""
        return self.note.partition(b"\n")[0].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a witness does not cosign.

    Args:
        status: the HTTP status that C2SP tlog-witness gives to it.
        reason: for people.
        size: with CONFLICT, the size of the checkpoint that the witness cosigned last.
    """

    status: int
    reason: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A request whose checkpoint its log has signed.

    Args:
        request: as it was read.
        checkpoint: verified and read.
    """

    request: AddCheckpoint
    checkpoint: Checkpoint


def encode_add_checkpoint(request: AddCheckpoint) -> bytes:
    """Writes a request's body (C2SP tlog-witness, "add-checkpoint")."""
    lines = [f"old {request.old_size}", *(encode_base64(item) for item in request.proof), "", ""]
    return "\n".join(lines).encode() + request.note


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Reads the one encoding of a request, the inverse of `encode_add_checkpoint`; the note stays bytes.

    Args:
        data: a request's body, from anybody.

    Raises:
        DecodeError: it is not exactly what `encode_add_checkpoint` writes.
    """
    if len(data) > MAX_REQUEST:
        raise DecodeError(f"a request of {len(data)} bytes: the most is {MAX_REQUEST}")
    head, separator, note = data.partition(b"\n\n")
    if not separator:
        raise DecodeError("no empty line stands before the checkpoint")
    try:
        first, *lines = head.decode("ascii").split("\n")
        proof = tuple(decode_base64(line) for line in lines)
    except (UnicodeDecodeError, CoreError) as error:
        raise DecodeError("a line of the consistency proof is not Base64") from error
    old = _OLD.fullmatch(first)
    if old is None:
        raise DecodeError("the first line is not an old size")
    return AddCheckpoint(int(old[1]), proof, note)


def encode_size(size: int) -> bytes:
    """Writes the size that a witness has, as the body of a CONFLICT."""
    return f"{size}\n".encode()


def parse_size(body: bytes) -> int:
    """Reads the size that a witness says it has, the inverse of `encode_size`.

    Raises:
        DecodeError: it is not one decimal number and a newline.
    """
    match = _SIZE.fullmatch(body)
    if match is None or int(match[1]) > MAX_SIZE:
        raise DecodeError("not the size of a log")
    return int(match[1])


def open_submission(data: bytes, logs: Mapping[str, Verifier]) -> Submission | Rejected:
    """Reads a request, and verifies that its log has signed the checkpoint: all that needs no memory of the log.

    Args:
        data: a request's body, from anybody.
        logs: the logs that are witnessed, by their origin.
    """
    try:
        request = parse_add_checkpoint(data)
    except DecodeError as error:
        return Rejected(BAD_REQUEST, str(error))
    verifier = logs.get(request.origin)
    if verifier is None:
        return Rejected(NOT_FOUND, "this log is not witnessed here")
    try:
        checkpoint = open_checkpoint(request.note, verifier)
    except UnsignedError as error:
        return Rejected(FORBIDDEN, str(error))
    except CoreError as error:
        return Rejected(BAD_REQUEST, str(error))
    if request.old_size > checkpoint.size:
        return Rejected(BAD_REQUEST, f"the old size {request.old_size} is larger than the checkpoint's")
    return Submission(request, checkpoint)


def judge(submission: Submission, latest: Checkpoint | None) -> Rejected | None:
    """Decides whether a checkpoint may follow the one that the witness cosigned last; None: it may.

    Whoever asks holds the lock under which the new checkpoint is kept: between both, nothing else may be.

    Args:
        submission: what the log has signed.
        latest: of the same log; None where the witness never cosigned one.
    """
    request, new = submission.request, submission.checkpoint
    size, root = (latest.size, latest.root) if latest is not None else (0, EMPTY_ROOT)
    if request.old_size != size:
        return Rejected(CONFLICT, f"the last checkpoint cosigned here is of {size} entries", size)
    if size == new.size and root != new.root:
        return Rejected(CONFLICT, f"another root was cosigned here for {size} entries", size)
    try:
        verify_consistency(size, root, new.size, new.root, request.proof)
    except ProofError as error:
        return Rejected(UNPROCESSABLE, str(error))
    return None
