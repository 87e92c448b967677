"""Merkle trees as RFC 6962 section 2.1 and RFC 9162 section 2.1 define them, over SHA-256.

A node (level, index) is *complete* when all 2**level leaves from index * 2**level on exist: its hash never
changes, so a log stores it once. Everything here works from complete nodes: a `Frontier` grows a tree,
`inclusion_proof` and `consistency_proof` read O(log n) of them in one call, and the `verify_*` functions
need none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from exchange.core.errors import ProofError

HASH_SIZE = 32
_SIZES = frozenset((HASH_SIZE,))
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class NodeId:
    """The place of a complete node: level 0 holds the leaf hashes, index counts from the left."""

    level: int
    index: int


@dataclass(frozen=True, slots=True)
class Node:
    """A complete node with its 32-byte hash: a row to store."""

    level: int
    index: int
    hash: bytes


ReadNodes = Callable[[Sequence[NodeId]], Sequence[bytes]]
"""Fetches the hashes of stored complete nodes, in the order asked for."""


def leaf_hash(data: bytes) -> bytes:
    """Hashes one entry: SHA-256(0x00 || data), 32 bytes (RFC 9162 section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hashes two 32-byte children: SHA-256(0x01 || left || right) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x01%b%b" % (left, right)).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """Computes the root of a tree held in memory (RFC 9162 section 2.1.1).

    Args:
        leaf_hashes: any number of 32-byte leaf hashes, left to right.

    Raises:
        ProofError: a hash is not 32 bytes.
    """
    return _levels(leaf_hashes)[-1][0] if leaf_hashes else EMPTY_ROOT


def paths_of(leaf_hashes: Sequence[bytes]) -> tuple[tuple[bytes, ...], ...]:
    """Computes the inclusion path of every leaf of a tree held in memory (RFC 9162 section 2.1.3.1).

    The root follows from any of them: `path_root(leaf_hashes[0], 0, len(leaf_hashes), paths[0])`.

    Args:
        leaf_hashes: any number of 32-byte leaf hashes, left to right; one path is returned for each.

    Raises:
        ProofError: a hash is not 32 bytes.
    """
    if not leaf_hashes:
        return ()
    # From the root down, so that a node's path is built once for all the leaves under it.
    paths: list[tuple[bytes, ...]] = [()]
    for level in reversed(_levels(leaf_hashes)[:-1]):
        paths = [
            (level[index ^ 1], *paths[index >> 1]) if index ^ 1 < len(level) else paths[index >> 1]
            for index in range(len(level))
        ]
    return tuple(paths)


def _levels(leaf_hashes: Sequence[bytes]) -> list[list[bytes]]:
    """All levels of a non-empty tree; a last node without a sibling moves up as it is."""
    _check_hashes(leaf_hashes)
    levels = [list(leaf_hashes)]
    while len(level := levels[-1]) > 1:
        above = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        levels.append(above + level[len(above) * 2 :])
    return levels


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree, from which it can grow: the roots of its complete subtrees.

    Args:
        size: number of leaves, 0 to 2**63 - 1.
        hashes: 32-byte hashes of the complete subtrees left to right, one for each bit set in size; their
            places are `frontier_nodes(size)`.

    Raises:
        ProofError: the number or length of the hashes does not fit the size.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.size)
        if len(self.hashes) != self.size.bit_count():
            raise ProofError(f"{len(self.hashes)} subtrees do not make a tree of {self.size}")
        _check_hashes(self.hashes)

    def root(self) -> bytes:
        """Computes the tree's root, 32 bytes (RFC 9162 section 2.1.1)."""
        return _join(self.hashes) if self.hashes else EMPTY_ROOT

    def extend(self, leaf_hashes: Sequence[bytes]) -> "tuple[Frontier, tuple[Node, ...]]":
        """Appends leaves and returns the new frontier with every node that became complete, leaves included.

        Args:
            leaf_hashes: 32-byte leaf hashes, in the order they are appended.

        Raises:
            ProofError: a hash is not 32 bytes, or the tree would pass 2**63 - 1 leaves.
        """
        _check_hashes(leaf_hashes)
        edge, complete = list(self.hashes), list[Node]()
        for position, leaf in enumerate(leaf_hashes, self.size):
            node = Node(0, position, leaf)
            complete.append(node)
            while node.index & 1:
                node = Node(node.level + 1, node.index >> 1, node_hash(edge.pop(), node.hash))
                complete.append(node)
            edge.append(node.hash)
        return Frontier(self.size + len(leaf_hashes), tuple(edge)), tuple(complete)


def frontier_nodes(size: int) -> tuple[NodeId, ...]:
    """Names the stored nodes whose hashes make up `Frontier(size, ...)`, left to right.

    Args:
        size: number of leaves, 0 to 2**63 - 1.

    Raises:
        ProofError: the size is out of range.
    """
    _check_size(size)
    return _cover(0, size)


def inclusion_nodes(index: int, size: int) -> tuple[NodeId, ...]:
    """Names the stored nodes that `inclusion_proof(index, size, ...)` reads.

    Args:
        index: the leaf's index, from 0.
        size: number of leaves, 1 to 2**63 - 1.

    Raises:
        ProofError: the index is not in the tree, or the size is out of range.
    """
    _check_index(index, size)
    return tuple(node for begin, end in _inclusion_ranges(index, size) for node in _cover(begin, end))


def inclusion_proof(index: int, size: int, read: ReadNodes) -> tuple[bytes, ...]:
    """Builds the inclusion path of a leaf from stored nodes (RFC 9162 section 2.1.3.1).

    Args:
        index: the leaf's index, from 0.
        size: number of leaves, 1 to 2**63 - 1.
        read: fetches stored nodes; called once, or not at all for a tree of one leaf.

    Raises:
        ProofError: the index is not in the tree, or `read` did not return a hash for each node.
    """
    _check_index(index, size)
    return _prove(_inclusion_ranges(index, size), read)


def consistency_proof(old: int, new: int, read: ReadNodes) -> tuple[bytes, ...]:
    """Builds the proof that a tree grew only at its end, from stored nodes (RFC 9162 section 2.1.4.1).

    Args:
        old: earlier number of leaves; from 0, or when the sizes are equal, the proof is empty.
        new: later number of leaves, up to 2**63 - 1.
        read: fetches stored nodes; called once, or not at all for an empty proof.

    Raises:
        ProofError: the sizes are out of order or range, or `read` did not return a hash for each node.
    """
    _check_growth(old, new)
    return _prove(_consistency_ranges(old, new), read) if 0 < old < new else ()


def _inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """PATH of RFC 9162 section 2.1.3.1, as ranges of leaves."""
    return _beside(index, index + 1, size)


def _consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """SUBPROOF of RFC 9162 section 2.1.4.1, as ranges of leaves; it starts at the old tree's last subtree."""
    start = old - (old & -old)
    beside = _beside(start, old, new)
    # From 0 on it is the whole old tree, whose root the verifier has.
    return [(start, old), *beside] if start else beside


def _beside(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """The ranges of leaves beside the way from the root to the subtree [start, stop), nearest first."""
    begin, end = 0, size
    beside: list[tuple[int, int]] = []
    while (begin, end) != (start, stop):
        middle = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if start < middle:
            beside.append((middle, end))
            end = middle
        else:
            beside.append((begin, middle))
            begin = middle
    return beside[::-1]


def _cover(begin: int, end: int) -> tuple[NodeId, ...]:
    """The complete nodes that make up a range of leaves of one subtree, left to right."""
    nodes: list[NodeId] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append(NodeId(level, begin >> level))
        begin += 1 << level
    return tuple(nodes)


def _prove(ranges: Sequence[tuple[int, int]], read: ReadNodes) -> tuple[bytes, ...]:
    """Reads the nodes under all ranges at once and joins those of each range to its hash."""
    covers = [_cover(begin, end) for begin, end in ranges]
    wanted = tuple(node for cover in covers for node in cover)
    hashes = tuple(read(wanted)) if wanted else ()
    if len(hashes) != len(wanted):
        raise ProofError(f"asked for {len(wanted)} nodes, got {len(hashes)}")
    _check_hashes(hashes)
    rest = iter(hashes)
    return tuple(_join([next(rest) for _ in cover]) for cover in covers)


def _join(hashes: Sequence[bytes]) -> bytes:
    """The root above complete subtrees that get smaller from left to right."""
    root = hashes[-1]
    for left in hashes[-2::-1]:
        root = node_hash(left, root)
    return root


def path_root(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Computes the root that an inclusion path leads to (RFC 9162 section 2.1.3.2).

    Args:
        leaf_hash: the leaf's 32-byte hash.
        index: the leaf's index, from 0.
        size: number of leaves, 1 to 2**63 - 1.
        path: 32-byte hashes, the leaf's sibling first; exactly as many as (index, size) asks for.

    Raises:
        ProofError: the index is not in the tree, or the path's length or a hash's is wrong.
    """
    turns = path_turns(leaf_hash, index, size, path)
    root = leaf_hash
    for sibling in path:
        root = node_hash(sibling, root) if turns & 1 else node_hash(root, sibling)
        turns >>= 1
    return root


def path_turns(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> int:
    """On which side the hashes of a path stand: bit n is set where its hash n is the left one of its pair.

    Args and raises: as `path_root`.
    """
    _check_index(index, size)
    inner = (index ^ (size - 1)).bit_length()
    outer = (index >> inner).bit_count()
    # RFC 9162 section 2.1.3.2: a path too long or too short for (index, size) fails, whatever it hashes to.
    if len(path) != inner + outer:
        raise ProofError(f"wrong path length {len(path)} for leaf {index} of {size}")
    _check_hashes((leaf_hash, *path))
    below = (1 << inner) - 1
    return index & below | ((1 << outer) - 1) << inner


def verify_inclusion(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Verifies that a leaf is in the tree with this root (RFC 9162 section 2.1.3.2).

    Args:
        leaf_hash: the leaf's 32-byte hash.
        index: the leaf's index, from 0.
        size: number of leaves, 1 to 2**63 - 1.
        path: 32-byte hashes, the leaf's sibling first.
        root: the tree's 32-byte root, from a source already trusted.

    Raises:
        ProofError: the path does not lead to the root, or an argument is malformed.
    """
    if path_root(leaf_hash, index, size, path) != root:
        raise ProofError(f"the path of leaf {index} does not lead to the root of {size}")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Verifies that the new tree begins with all leaves of the old one (RFC 9162 section 2.1.4.2).

    Args:
        old_size: earlier number of leaves; 0 needs EMPTY_ROOT and an empty path.
        old_root: its 32-byte root.
        new_size: later number of leaves, up to 2**63 - 1; if equal, the roots are equal and the path empty.
        new_root: its 32-byte root.
        path: 32-byte hashes as `consistency_proof` gives them.

    Raises:
        ProofError: the path does not lead to both roots, or an argument is malformed.
    """
    _check_growth(old_size, new_size)
    _check_hashes((old_root, new_root, *path))
    if old_size in (0, new_size):
        _verify_without_path(old_size, old_root, new_size, new_root, path)
        return
    old, new = _grown_roots(old_size, old_root, new_size, path)
    if old != old_root:
        raise ProofError(f"the consistency path does not lead to the root of {old_size}")
    if new != new_root:
        raise ProofError(f"the consistency path does not lead to the root of {new_size}")


def _verify_without_path(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """The two cases that RFC 9162 section 2.1.4 leaves out: growth from nothing, and no growth."""
    if path:
        raise ProofError(f"the consistency path from {old_size} to {new_size} must be empty")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ProofError("the root of an empty tree is not SHA-256 of nothing")
    if old_size == new_size and old_root != new_root:
        raise ProofError(f"two roots for one size {old_size}")


def _grown_roots(old_size: int, old_root: bytes, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots as the path gives them, for 0 < old_size < new_size."""
    # RFC 9162 section 2.1.4.2 step 2: a whole subtree's root is not sent, the verifier has it.
    path = (old_root, *path) if old_size.bit_count() == 1 else path
    level = (old_size & -old_size).bit_length() - 1
    index, last = (old_size - 1) >> level, (new_size - 1) >> level
    inner = (index ^ last).bit_length()
    if len(path) != 1 + inner + (index >> inner).bit_count():
        raise ProofError(f"wrong consistency path length from {old_size} to {new_size}")
    old = new = path[0]
    for height, sibling in enumerate(path[1:]):
        if height < inner and not index >> height & 1:
            new = node_hash(new, sibling)
        else:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
    return old, new


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_SIZE:
        raise ProofError(f"tree size {size} is out of range")


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofError(f"index {index} is not in a tree of {size}")


def _check_growth(old: int, new: int) -> None:
    if not 0 <= old <= new <= MAX_SIZE:
        raise ProofError(f"a tree cannot grow from {old} to {new}")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    # Without a fixed length, node_hash(left, right) would also stand for other splits of the same 64 bytes.
    if set(map(len, hashes)) - _SIZES:
        wrong = next(len(hash_) for hash_ in hashes if len(hash_) != HASH_SIZE)
        raise ProofError(f"a hash is {wrong} bytes, not {HASH_SIZE}")
