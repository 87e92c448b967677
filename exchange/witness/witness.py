"""What a witness does with a request: verify, compare and keep, and only then cosign (C2SP tlog-witness)."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from exchange.core.checkpoint import encode_checkpoint
from exchange.core.cosignature import Cosigner
from exchange.core.note import Verifier, encode_base64
from exchange.core.witnessing import (
    CONFLICT,
    SIZE_TYPE,
    UNPROCESSABLE,
    Rejected,
    Submission,
    encode_size,
    open_submission,
)
from exchange.witness.memory import WitnessMemory

TEXT_TYPE = "text/plain; charset=utf-8"

logger = structlog.get_logger("exchange.witness")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE


class Witness:
    """Cosigns the checkpoints of the logs that it is told of, each as long as it only grows.

    Args:
        logs: their keys, by origin.
        cosigner: the witness's key.
        memory: what it cosigned last.
    """

    def __init__(self, logs: Mapping[str, Verifier], cosigner: Cosigner, memory: WitnessMemory) -> None:
        self._logs = logs
        self._cosigner = cosigner
        self._memory = memory

    def add_checkpoint(self, data: bytes) -> Reply:
        """Answer one `add-checkpoint` request; blocks while the checkpoint is written.

        Args:
            data: the request's body, from anybody.

        Raises:
            MemoryFailedError: nothing can be kept, so nothing is cosigned.
        """
        submission = open_submission(data, self._logs)
        if isinstance(submission, Rejected):
            return _rejected(submission)
        kept = self._memory.advance(submission)
        if isinstance(kept, Rejected):
            _tell(submission, kept)
            return _rejected(kept)
        # The text as the log signed it, extension lines and all.
        text = encode_checkpoint(kept.checkpoint).encode()
        line = self._cosigner.cosign(text, kept.time)
        logger.debug("cosigned", log=kept.checkpoint.origin, size=kept.checkpoint.size)
        return Reply(200, str(line).encode())


def _rejected(rejected: Rejected) -> Reply:
    if rejected.status == CONFLICT and rejected.size is not None:
        return Reply(CONFLICT, encode_size(rejected.size), SIZE_TYPE)
    return Reply(rejected.status, f"{rejected.reason}\n".encode())


def _tell(submission: Submission, rejected: Rejected) -> None:
    """A checkpoint that its log has signed and that does not go on may prove a fork: the note is told whole."""
    new = submission.checkpoint
    forked = rejected.status == CONFLICT and rejected.size == new.size == submission.request.old_size
    if forked or rejected.status == UNPROCESSABLE:
        logger.error(
            "not cosigned: this checkpoint does not go on from the last one",
            log=new.origin,
            size=new.size,
            reason=rejected.reason,
            note=encode_base64(submission.request.note),
        )
