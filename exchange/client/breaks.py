"""Declared breaks of the access log: what a home gives up for one, once, and holds the log to ever after.

A home that has seen more of the log than it has now would call that a rollback. Where the root has declared the break,
in the directory, a checkpoint of the lost stretch that the log no longer proves is given up, and the checkpoint that
the declaration names takes its place. Everything before it, and everything after, must be of one history as always.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from exchange.client.calls import Transport, call
from exchange.client.errors import RefusedError, ResponseInvalidError, UnavailableError
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import ProofError
from exchange.core.merkle import verify_consistency
from exchange.core.note import Verifier
from exchange.core.successions import Succession, successions
from exchange.transport import ACCESS_PROVE
from exchange.v1.access_pb2 import Code
from exchange.v1.log_pb2 import LogServiceProveRequest, LogServiceProveResponse, ProofRequest

TIMEOUT = 5.0
"""Seconds for one proof."""


class Breaks:
    """Settles declared breaks for one home.

    Args:
        file: keeps what was settled, and the access log's head.
        verifier: the access log's note key.
        transport: whom to ask for proofs.
        declared: the breaks that the home's mirror of the directory knows.
    """

    def __init__(
        self,
        file: MirrorFile,
        verifier: Verifier,
        transport: Transport,
        declared: Callable[[], Sequence[Succession]] = tuple,
    ) -> None:
        self._file = file
        self._verifier = verifier
        self._transport = transport
        self._declared = declared

    async def settle(self, queued: Iterable[tuple[Checkpoint, bytes]]) -> tuple[list[Checkpoint], bool]:
        """Settle what is declared and not settled yet.

        Args:
            queued: checkpoints that are not checked yet, each with its signed note.

        Returns:
            Those of them that are given up, and whether the head was.

        Raises:
            UnavailableError: nobody says whether the log still proves a checkpoint.
        """
        given_up: list[Checkpoint] = []
        is_moved = False
        waiting = list(queued)
        for succession in await asyncio.to_thread(self._declared):
            if not await asyncio.to_thread(self._file.knows_break, succession.index):
                lost, head = await self._settle(succession, waiting)
                given_up += lost
                is_moved = is_moved or head
        return given_up, is_moved

    async def _settle(
        self, succession: Succession, queued: Sequence[tuple[Checkpoint, bytes]]
    ) -> tuple[list[Checkpoint], bool]:
        head = await asyncio.to_thread(self._file.head, ACCESS)
        moves = bool(head) and await is_lost(self._transport, succession, open_checkpoint(head, self._verifier))
        lost = [(seen, note) for seen, note in queued if await is_lost(self._transport, succession, seen)]
        notes = [note for _, note in lost]
        before = head if moves else b""
        await asyncio.to_thread(self._file.settle_break, succession.index, before, succession.first_note, notes)
        return [seen for seen, _ in lost], moves


async def is_lost(transport: Transport, succession: Succession, seen: Checkpoint) -> bool:
    """Whether a checkpoint is of what was lost: the log that goes on does not prove it.

    Raises:
        UnavailableError: nobody says.
    """
    if not succession.covers(seen.size):
        return False
    if not succession.first.size:
        # The log begins anew, and everything continues nothing.
        return True
    request = LogServiceProveRequest(proof=ProofRequest(old_size=succession.first.size, size=seen.size))
    try:
        response = await call(transport, ACCESS_PROVE, request, LogServiceProveResponse, TIMEOUT)
        first = succession.first
        verify_consistency(first.size, first.root, seen.size, seen.root, tuple(response.path))
    except ProofError:
        return True
    except (RefusedError, ResponseInvalidError, UnavailableError) as error:
        if denies(error):
            return True
        raise UnavailableError(f"the access log did not prove its consistency: {error}", error.hint) from error
    return False


def declared_in(
    file: MirrorFile, directory: Callable[[], Directory], verifier: Verifier
) -> Callable[[], Sequence[Succession]]:
    """Gives the breaks that a mirror of the directory knows; it reads the file, so it is called in a thread.

    Args:
        file: has the leaves.
        directory: as it is folded at the moment.
        verifier: the access log's note key.
    """

    def leaf(index: int) -> bytes:
        return file.page(index, index + 1)[0].leaf

    return lambda: tuple(successions(directory().state, leaf, verifier))


def denies(error: RefusedError | ResponseInvalidError | UnavailableError) -> bool:
    """Whether a log says that it never had a size: it signed it, so it was rolled back, or is not honest."""
    if isinstance(error, RefusedError):
        return error.code == Code.CODE_MALFORMED
    return isinstance(error, UnavailableError) and error.status in {"OUT_OF_RANGE", "INVALID_ARGUMENT", "NOT_FOUND"}
