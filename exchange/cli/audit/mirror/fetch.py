"""Fetching the access log page by page: nothing is taken that its log has not signed (DESIGN sections 2 and 7)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import AccessMirror
from exchange.cli.frame.progress import Advance
from exchange.client.calls import call
from exchange.client.errors import (
    EvidenceError,
    ExchangeError,
    ForkError,
    RefusedError,
    ResponseInvalidError,
    UnavailableError,
)
from exchange.client.session import Session
from exchange.client.storage import ACCESS
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError, ProofError
from exchange.core.merkle import Frontier, Node, leaf_hash, verify_consistency
from exchange.transport import ACCESS_PROVE, ACCESS_SYNC
from exchange.v1.access_pb2 import Code
from exchange.v1.log_pb2 import (
    LogServiceProveRequest,
    LogServiceProveResponse,
    LogServiceSyncRequest,
    LogServiceSyncResponse,
    ProofRequest,
    Record,
)

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Growth:
    """What a page makes of the tree.

    Args:
        nodes: those that its leaves complete.
        verified: sizes of the checkpoints whose root the leaves make.
        contradicted: the first one whose root they do not make, if any.
    """

    nodes: tuple[Node, ...]
    verified: tuple[int, ...]
    contradicted: Checkpoint | None


def grow(frontier: Frontier, leaves: Sequence[bytes], pending: Sequence[Checkpoint]) -> Growth:
    """Extend a tree, and compare its root with every signed checkpoint that it passes.

    Args:
        frontier: of the tree so far.
        leaves: what follows.
        pending: signed checkpoints that are not compared yet, by size.
    """
    start = frontier.size
    hashes = [leaf_hash(leaf) for leaf in leaves]
    nodes: list[Node] = []
    verified: list[int] = []
    for checkpoint in pending:
        if checkpoint.size > start + len(leaves):
            break
        frontier, complete = frontier.extend(hashes[frontier.size - start : checkpoint.size - start])
        nodes.extend(complete)
        if frontier.root() != checkpoint.root:
            return Growth(tuple(nodes), tuple(verified), checkpoint)
        verified.append(checkpoint.size)
    _, complete = frontier.extend(hashes[frontier.size - start :])
    return Growth((*nodes, *complete), tuple(verified), None)


async def fetch_access_log(session: Session, mirror: AccessMirror, advance: Advance) -> Checkpoint:
    """Bring the mirror up to the log's checkpoint.

    Args:
        session: of the auditor; its directory follows the log.
        mirror: goes on from where it is.
        advance: told after each page.

    Returns:
        The checkpoint that the mirror is verified to.

    Raises:
        RollbackError, ForkError: the log contradicts what it signed before; sticky.
        EvidenceError: what the broker sent does not prove itself.
        RefusedError, UnavailableError: the broker does not give the log to this party, or not in time.
    """
    mirror.check()
    while True:
        records, checkpoint, cosigned = await _page(session, mirror)
        await _follow(session, records)
        await _take(session, mirror, records)
        advance(mirror.size, checkpoint.size)
        if mirror.size >= checkpoint.size:
            await _witnessed(session, mirror, cosigned)
            return checkpoint
        if not records:
            raise EvidenceError("the broker withholds entries of the access log that its log has signed")


async def ask_page(session: Session, start: int) -> Sequence[Record]:
    """Entries from an index on, contiguous, as the broker sends them; nothing of them is verified.

    Raises:
        EvidenceError: they are out of order, or the checkpoint beside them is not the log's.
        RefusedError, UnavailableError: the broker does not answer.
    """
    records, _, _, _ = await _ask(session, start)
    if any(record.index != index for index, record in enumerate(records, start)):
        raise EvidenceError("the broker sent entries of the access log out of order")
    return records


async def _page(session: Session, mirror: AccessMirror) -> tuple[Sequence[Record], Checkpoint, bytes]:
    start = mirror.size
    try:
        records, checkpoint, note, cosigned = await _ask(session, start)
    except ExchangeError as error:
        if not (start and _is_past_the_end(error)):
            raise
        # A log that was rolled back has nothing from our end on: its own checkpoint says how much it has.
        _, checkpoint, note, _ = await _ask(session, 0)
        mirror.observe(checkpoint, note)
        raise
    mirror.observe(checkpoint, note)
    for index, record in enumerate(records, start):
        if record.index != index or index >= checkpoint.size:
            raise EvidenceError("the broker sent entries of the access log out of order")
    return records, checkpoint, cosigned


async def _ask(session: Session, start: int) -> tuple[Sequence[Record], Checkpoint, bytes, bytes]:
    request = LogServiceSyncRequest(start=start)
    response = await call(session.transport, ACCESS_SYNC, request, LogServiceSyncResponse, TIMEOUT)
    try:
        checkpoint = open_checkpoint(response.checkpoint, session.trust.access_log)
    except CoreError as error:
        raise EvidenceError(f"the broker's checkpoint of the access log does not hold: {error}") from error
    return response.records, checkpoint, response.checkpoint, response.cosigned


async def _witnessed(session: Session, mirror: AccessMirror, note: bytes) -> None:
    """Take what witnesses have cosigned, as it came with the last page, and hold the mirror to it."""
    if not session.cosignatures.needed:
        return
    with suppress(UnavailableError):
        # The sync stands without a proof, and says that a split view is not excluded.
        await session.evidence.keep(mirror.note(mirror.checkpoint.size))
        await session.cosignatures.take(ACCESS, note)
    cosigned = session.cosignatures.of(ACCESS)
    # What a newer process of this home has seen may be larger; the proofs that it asked for hold for this mirror too.
    if cosigned is not None and cosigned.checkpoint.size <= mirror.checkpoint.size:
        mirror.keep_cosigned(cosigned.checkpoint, session.cosignatures.note(ACCESS))


async def _follow(session: Session, records: Sequence[Record]) -> None:
    """No entry is kept before the directory that it was decided under; one that names a larger one is told later."""
    needed = 0
    for record in records:
        try:
            needed = max(needed, read_access_leaf(record.leaf).directory_size)
        except CoreError:
            continue
    if session.directory.size < needed:
        await session.sync()


async def _take(session: Session, mirror: AccessMirror, records: Sequence[Record]) -> None:
    start, pending = mirror.size, mirror.checkpoints(verified=False)
    growth = grow(mirror.frontier(), [record.leaf for record in records], pending)
    if growth.contradicted is not None:
        raise await _contradiction(session, mirror, growth.contradicted)
    entries = [LoggedEntry(record.index, record.leaf, record.body) for record in records]
    mirror.extend(start, entries, growth.nodes, growth.verified)


async def _contradiction(session: Session, mirror: AccessMirror, later: Checkpoint) -> ExchangeError:
    """Entries do not make a signed root: either the log forked, or these are not the log's entries."""
    earlier = mirror.checkpoint
    if earlier.size and not await _goes_on(session, earlier, later):
        text = f"the access log of {later.size} entries does not go on from that of {earlier.size}"
        return mirror.fail(ForkError(text, earlier=mirror.note(earlier.size), later=mirror.note(later.size)))
    mirror.drop_unverified()
    text = f"the entries that came do not make the root that the access log signed at {later.size}"
    return EvidenceError(text, "the broker altered them: nothing of it was kept; tell the operator, and sync again")


async def _goes_on(session: Session, earlier: Checkpoint, later: Checkpoint) -> bool:
    """Whether the log proves that its later tree begins with its earlier one."""
    request = LogServiceProveRequest(proof=ProofRequest(old_size=earlier.size, size=later.size))
    try:
        response = await call(session.transport, ACCESS_PROVE, request, LogServiceProveResponse, TIMEOUT)
        verify_consistency(earlier.size, earlier.root, later.size, later.root, tuple(response.path))
    except (ProofError, RefusedError, ResponseInvalidError):
        return False
    return True


def _is_past_the_end(error: ExchangeError) -> bool:
    if isinstance(error, RefusedError):
        return error.code == Code.CODE_MALFORMED
    return isinstance(error, UnavailableError) and error.status in {"OUT_OF_RANGE", "INVALID_ARGUMENT"}
