"""Entries and batches for the store's tests, and the one check that a store is whole."""

from functools import partial
from hashlib import sha256

from exchange.core.merkle import (
    Frontier,
    frontier_nodes,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_inclusion,
)
from exchange.store.ports import RELEASED, AccessIndex, Batch, Head, Log, LogStore, NewEntry

REQUESTER = "exchange://city.example/health/clinic"
PROVIDER = "exchange://city.example/registry/people"
ALL = 2**40


def digest(text: object) -> bytes:
    return sha256(str(text).encode()).digest()


def access(number: int, *, kind: int = RELEASED, answer: object = None, **columns: object) -> NewEntry:
    """An access entry; `number` makes its request, and its answer unless that is given."""
    values: dict[str, object] = {
        "time": 1000 + number,
        "kind": kind,
        "code": 0,
        "requester": REQUESTER,
        "provider": PROVIDER,
        "request_id": digest(f"request {number}")[:16],
        "request_digest": digest(f"request {number}"),
        "response_digest": digest(f"answer {number if answer is None else answer}"),
    }
    index = AccessIndex(**(values | columns))  # type: ignore[arg-type]
    return NewEntry(f"access {number} {kind}".encode(), b"envelopes " * (number % 5), index)


def directory(number: int) -> NewEntry:
    return NewEntry(f"directory {number}".encode(), b"", None)


def batch(store: LogStore, log: Log, *entries: NewEntry) -> Batch:
    """The batch that comes next; its checkpoint is the root, so that `check_whole` can compare."""
    size = store.head(log).size
    frontier, nodes = Frontier(size, store.nodes(log, frontier_nodes(size))).extend(
        [leaf_hash(entry.leaf) for entry in entries]
    )
    times = [entry.index.time for entry in entries if entry.index is not None]
    head = Head(log, frontier.size, frontier.root(), max(times, default=0))
    return Batch(log, size, entries, nodes, head)


def append_batches(store: LogStore, *batches: Batch) -> None:
    with store.locked() as transaction:
        for one in batches:
            transaction.append(one)


def append(store: LogStore, log: Log, *entries: NewEntry) -> Head:
    with store.locked() as transaction:
        following = batch(store, log, *entries)
        transaction.append(following)
    return following.head


def check_whole(store: LogStore) -> dict[Log, int]:
    """Asserts that heads, entries and nodes of both logs agree, and returns the sizes."""
    for log in Log:
        head = store.head(log)
        entries = store.entries(log, 0, ALL, ALL)[: head.size]
        hashes = [leaf_hash(entry.leaf) for entry in entries]
        assert [entry.index for entry in entries] == list(range(head.size))
        assert head.checkpoint == (root_of(hashes) if head.size else b"")
        for index in range(0, head.size, 7):
            proof = inclusion_proof(index, head.size, partial(store.nodes, log))
            verify_inclusion(hashes[index], index, head.size, proof, head.checkpoint)
    return {log: store.head(log).size for log in Log}
