"""A log's tree, recomputed from its leaves and compared with what its log has signed (RFC 9162 section 2.1).

Only signed checkpoints are believed. Stored nodes and another copy's leaves serve to name the entry that was altered.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from exchange.cli.audit.checking.findings import Finding, Level, plural, span
from exchange.core.checkpoint import Checkpoint
from exchange.core.errors import ProofError
from exchange.core.merkle import Frontier, NodeId, inclusion_proof, leaf_hash, node_hash, verify_inclusion
from exchange.core.ranges import GrowingRoot, cover

ReadNode = Callable[[int], bytes | None]
"""Gives the stored hash at a place, 32 bytes, or None."""


def place_of(level: int, index: int) -> int:
    """Numbers the complete nodes of a tree in the order in which they become complete, from 0."""
    last_leaf = ((index + 1) << level) - 1
    return 2 * last_leaf - last_leaf.bit_count() + level


@dataclass(frozen=True, slots=True)
class Expected:
    """What a log's leaves must lead to.

    Args:
        origin: the log's name.
        checkpoint: the log's last one, signed; None where there is none that holds.
        seen: signed checkpoints that this home saw, by size; walked once, so that they need not be in memory.
        nodes: the stored nodes; None where none are stored.
        known: leaf hashes as this home's mirror has them, by index; None where it has none.
    """

    origin: str
    checkpoint: Checkpoint | None
    seen: Iterable[Checkpoint] = ()
    nodes: ReadNode | None = None
    known: ReadNode | None = None


class TreeCheck(Protocol):
    """Checks that leaves are those of the signed log."""

    def add(self, index: int, leaf: bytes) -> Iterator[Finding]:
        """Take the next leaf in; findings that need the whole tree come from `finish`."""
        ...

    def finish(self) -> Iterator[Finding]:
        """What the leaves together show."""
        ...


class WholeTree:
    """All leaves of a log, in their order from 0.

    Args:
        expected: what they must lead to.
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._frontier = Frontier()
        self._edge: list[bytes] = []
        self._next = 0
        self._is_whole = True
        self._altered: list[tuple[int, int]] = []
        self._strangers: list[int] = []
        self._rest = iter(expected.seen)
        self._seen = next(self._rest, None)
        self._largest = 0
        self._contradicted: list[Checkpoint] = []
        self._own_root = b""
        self._compare_root()

    def add(self, index: int, leaf: bytes) -> Iterator[Finding]:
        """Take the next leaf in."""
        origin = self._expected.origin
        if index < self._next:
            self._is_whole = False
            yield Finding(origin, index, "it is out of place: an entry of this number stood before it")
            return
        if index > self._next:
            self._is_whole = False
            yield _about(origin, self._next, index - 1, "missing")
        self._next = index + 1
        digest = leaf_hash(leaf)
        if self._expected.known is not None and self._expected.known(index) not in (None, digest):
            self._strangers.append(index)
        if self._is_whole:
            self._frontier, _ = self._frontier.extend([digest])
            self._compare_root()
        self._compare_nodes(index, digest)

    def finish(self) -> Iterator[Finding]:
        """Compare the tree with every signed checkpoint, and name what was altered."""
        own, origin = self._expected.checkpoint, self._expected.origin
        is_signed = False
        if own is not None:
            if self._next < own.size:
                missing = f"missing, though the signed checkpoint counts {own.size}"
                yield _about(origin, self._next, own.size - 1, missing)
            elif self._next > own.size:
                yield _about(origin, own.size, self._next - 1, f"not in the signed checkpoint, which counts {own.size}")
            is_signed = self._is_whole and self._own_root == own.root
            if self._is_whole and self._next >= own.size and not is_signed:
                yield Finding(origin, None, f"its leaves do not make the root that the log signed at {own.size}")
        yield from self._named(is_signed)
        yield from self._compared(is_signed, self._next if own is None else min(own.size, self._next))

    def _compare_root(self) -> None:
        """Against the checkpoints of exactly this size."""
        own, size = self._expected.checkpoint, self._frontier.size
        is_seen = self._seen is not None and self._seen.size <= size
        if not is_seen and (own is None or own.size != size):
            return
        root = self._frontier.root()
        if own is not None and own.size == size:
            self._own_root = root
        while self._seen is not None and self._seen.size <= size:
            self._largest = self._seen.size
            if self._seen.root != root:
                self._contradicted.append(self._seen)
            self._seen = next(self._rest, None)

    def _compare_nodes(self, index: int, digest: bytes) -> None:
        """Each stored node against the stored nodes below it, so that one alteration is found in one place."""
        if self._expected.nodes is None:
            return
        stored = self._expected.nodes(place_of(0, index))
        if stored != digest:
            self._altered.append((0, index))
        if not self._is_whole:
            return
        node, level, position = stored or digest, 0, index
        while position & 1:
            node, level, position = node_hash(self._edge.pop(), node), level + 1, position >> 1
            if self._expected.nodes(place_of(level, position)) != node:
                self._altered.append((level, position))
        self._edge.append(node)

    def _named(self, is_signed: bool) -> Iterator[Finding]:
        origin = self._expected.origin
        for level, position in self._altered:
            first, last = position << level, ((position + 1) << level) - 1
            if is_signed:
                yield Finding(
                    origin, None, f"the stored node over {span(first, last)} was altered; the leaves were not"
                )
            elif level == 0:
                yield Finding(origin, position, "its leaf is not the one that the tree was built from")
            else:
                yield Finding(
                    origin, None, f"the stored node over {span(first, last)} does not follow from those below"
                )
        for index in self._strangers:
            if is_signed:
                text = "the log signed another entry here than the one that this home's mirror has"
                yield Finding(origin, index, text, Level.BROKEN)
            else:
                yield Finding(origin, index, "its leaf is not the one that this home's mirror has")

    def _compared(self, is_signed: bool, size: int) -> Iterator[Finding]:
        """Against the checkpoints that this home saw."""
        origin = self._expected.origin
        while self._seen is not None:
            self._largest, self._seen = self._seen.size, next(self._rest, None)
        if size < self._largest:
            text = f"it has {plural(size)}, but the log had signed {self._largest}: rolled back, or an old copy"
            yield Finding(origin, None, text, Level.BROKEN)
        for seen in self._contradicted:
            if not self._is_whole or seen.size > size:
                continue
            if is_signed:
                text = f"fork: it does not go on from the {plural(seen.size)} that the log had signed to this home"
                yield Finding(origin, None, text, Level.BROKEN)
            elif self._expected.checkpoint is None:
                text = f"its leaves do not make the root that the log had signed to this home at {seen.size}"
                yield Finding(origin, None, text)


class ProvenLeaves:
    """Some leaves of a log, each proven by stored nodes against the signed checkpoint.

    Args:
        expected: its checkpoint and nodes are used.
        first: where the leaves begin.
    """

    def __init__(self, expected: Expected, first: int) -> None:
        self._expected = expected
        self._next = first

    def add(self, index: int, leaf: bytes) -> Iterator[Finding]:
        """Prove that the signed log has this leaf here."""
        if index != self._next:
            yield _about(self._expected.origin, self._next, index - 1, "missing")
        self._next = index + 1
        problem = prove(self._expected, index, leaf)
        if problem:
            yield Finding(self._expected.origin, index, problem)

    def finish(self) -> Iterator[Finding]:
        """Nothing more: each leaf is proven by itself."""
        return iter(())


class RangeLeaves:
    """Some ranges of a log's leaves, proven together by the nodes beside them against the signed checkpoint.

    Args:
        expected: its checkpoint is used.
        ranges: first leaf and the one behind the last, of each; they ascend and do not touch.
        nodes: the hashes of the complete nodes that fill the tree beside them, left to right; none is believed.
    """

    _MANY = 1024

    def __init__(self, expected: Expected, ranges: Sequence[tuple[int, int]], nodes: Sequence[bytes]) -> None:
        self._expected = expected
        self._ranges = list(ranges)
        self._nodes = list(nodes)
        self._tree = GrowingRoot()
        self._leaves: list[bytes] = []
        self._next = 0
        self._used = 0
        self._problem = ""

    def add(self, index: int, leaf: bytes) -> Iterator[Finding]:
        """Take the next leaf in."""
        if index != self._next:
            self._flush()
            self._fill(index)
        self._next = index + 1
        self._leaves.append(leaf)
        if len(self._leaves) >= self._MANY:
            self._flush()
        return iter(())

    def finish(self) -> Iterator[Finding]:
        """Compare the root that leaves and nodes make with the signed one."""
        checkpoint = self._expected.checkpoint
        if checkpoint is None:
            return
        self._flush()
        self._fill(checkpoint.size)
        if not self._problem and self._used != len(self._nodes):
            self._problem = "there are more nodes than the ranges need"
        # A tree of another size could not be told apart from this one by its root alone.
        if not self._problem and (self._tree.size, self._tree.root()) != (checkpoint.size, checkpoint.root):
            self._problem = f"its leaves do not make the root that the log signed at {checkpoint.size}"
        if self._problem:
            yield Finding(self._expected.origin, None, self._problem)

    def _flush(self) -> None:
        if not self._problem:
            self._tree.add_leaves(self._leaves)
        self._leaves = []

    def _fill(self, stop: int) -> None:
        """Fill a gap with the nodes that are given for it."""
        try:
            for place in cover(self._tree.size, stop):
                self._tree.add_node(place.level, self._nodes[self._used])
                self._used += 1
        except (IndexError, ProofError):
            self._problem = self._problem or f"the nodes before leaf {stop} are missing or malformed"


def _about(origin: str, first: int, last: int, text: str) -> Finding:
    """A finding about one entry, or about several that follow each other."""
    if first == last:
        return Finding(origin, first, text)
    return Finding(origin, None, f"{span(first, last)}: {text}")


def prove(expected: Expected, index: int, leaf: bytes) -> str:
    """Whether the signed checkpoint holds a leaf.

    Args:
        expected: its checkpoint and nodes are used; no node is believed.
        index: where the leaf stands.
        leaf: its bytes.

    Returns:
        Nothing, or why it does not.
    """
    checkpoint, nodes = expected.checkpoint, expected.nodes
    if checkpoint is None or nodes is None:
        return "there is no signed checkpoint, or no node, to prove it by"

    def read(ids: Sequence[NodeId]) -> Sequence[bytes]:
        return [nodes(place_of(node.level, node.index)) or b"" for node in ids]

    try:
        path = inclusion_proof(index, checkpoint.size, read)
        verify_inclusion(leaf_hash(leaf), index, checkpoint.size, path, checkpoint.root)
    except ProofError:
        return f"it is not proven to be in the log of {checkpoint.size} that was signed: its leaf or a node was altered"
    return ""
