"""Proofs out of the store: receipts of entries, inclusion and consistency paths, frontiers."""

from collections.abc import Iterable, Sequence

from exchange.core.checkpoint import open_checkpoint
from exchange.core.errors import NoteError, ProofError
from exchange.core.merkle import (
    Frontier,
    NodeId,
    consistency_proof,
    frontier_nodes,
    inclusion_nodes,
    inclusion_proof,
)
from exchange.core.note import Verifier
from exchange.store.ports import Head, Log, LogStore, StoreFatalError
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.log_pb2 import ProofRequest


def load_frontier(store: LogStore, log: Log, size: int) -> Frontier:
    """The frontier of a log at a size that it has, or had."""
    return Frontier(size, store.nodes(log, frontier_nodes(size)))


def continued(store: LogStore, head: Head, known: Frontier, verifier: Verifier) -> Frontier:
    """The frontier at a head that another process wrote, once it is known to continue what this one has seen.

    A server that fails over to a standby which lacks entries rolls a log back: who extends that forks it.

    Args:
        store: holds the nodes.
        head: the log's last; known: the frontier that this process has seen last.
        verifier: the log's note key.

    Raises:
        StoreFatalError: it does not continue it, or is not signed.
    """
    if head.size >= known.size:
        before, now = frontier_nodes(known.size), frontier_nodes(head.size)
        hashes = store.nodes(head.log, (*before, *now))
        frontier = Frontier(head.size, hashes[len(before) :])
        if hashes[: len(before)] == known.hashes and _is_signed(head, frontier, verifier):
            return frontier
    raise StoreFatalError(f"the {head.log} log does not continue what this broker has seen of it: it was changed")


def _is_signed(head: Head, frontier: Frontier, verifier: Verifier) -> bool:
    # Before its first batch a log has no checkpoint.
    if not head.size and not head.checkpoint:
        return True
    try:
        signed = open_checkpoint(head.checkpoint, verifier)
    except NoteError:
        return False
    return (signed.size, signed.root) == (head.size, frontier.root())


def receipts(store: LogStore, head: Head, leaves: "dict[int, bytes]") -> dict[int, Receipt]:
    """Receipts of several entries under one head, with one read of nodes.

    Args:
        store: holds the nodes.
        head: of size greater than every index.
        leaves: the leaf at each index that is asked for.
    """
    wanted = {node for index in leaves for node in inclusion_nodes(index, head.size)}
    known = _read(store, head.log, wanted)

    def read(ids: Sequence[NodeId]) -> Sequence[bytes]:
        return [known[node] for node in ids]

    return {
        index: Receipt(
            index=index,
            leaf=leaf,
            path=inclusion_proof(index, head.size, read),
            checkpoint=head.checkpoint,
        )
        for index, leaf in leaves.items()
    }


def prove(store: LogStore, log: Log, request: ProofRequest) -> tuple[bytes, ...]:
    """The path that a ProofRequest asks for.

    Raises:
        ProofError: it asks for a size that the log does not have, or names no proof.
    """
    if request.size > store.head(log).size:
        raise ProofError("the log has no such size yet")

    def read(ids: Sequence[NodeId]) -> Sequence[bytes]:
        return store.nodes(log, ids)

    kind = request.WhichOneof("proof")
    if kind == "index":
        return inclusion_proof(request.index, request.size, read)
    if kind == "old_size":
        return consistency_proof(request.old_size, request.size, read)
    raise ProofError("neither inclusion nor consistency is asked for")


def _read(store: LogStore, log: Log, wanted: Iterable[NodeId]) -> dict[NodeId, bytes]:
    ids = tuple(wanted)
    return dict(zip(ids, store.nodes(log, ids), strict=True)) if ids else {}
