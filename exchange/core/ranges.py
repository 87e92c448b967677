"""Ranges of leaves proven at once (RFC 9162 section 2.1): what lies between them is given as complete nodes.

One proof for each leaf costs a path each. A whole range needs no path inside it: its leaves are hashed up, the gaps
before, between and behind the ranges are filled with as few complete nodes as there are, and the root must come out.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from exchange.core.errors import ProofError
from exchange.core.merkle import EMPTY_ROOT, HASH_SIZE, MAX_SIZE, NodeId, node_hash

_BLOCK = 8


def check_ranges(ranges: Sequence[tuple[int, int]], size: int) -> None:
    """Demand ranges in the one form that a set of leaves has: ascending, not empty, never touching.

    Args:
        ranges: first leaf and the one behind the last, of each.
        size: leaves of the tree.

    Raises:
        ProofError: they are in another form, or reach past the tree.
    """
    end = -1
    for first, stop in ranges:
        if not end < first < stop:
            raise ProofError("ranges ascend, are not empty, and do not touch")
        end = stop
    if end > size or not 0 <= size <= MAX_SIZE:
        raise ProofError(f"the ranges reach past a tree of {size}")


def gap_nodes(ranges: Sequence[tuple[int, int]], size: int) -> Iterator[NodeId]:
    """Name the complete nodes that fill a tree beside some ranges of its leaves, left to right.

    Args:
        ranges: as `check_ranges` demands them.
        size: leaves of the tree.

    Raises:
        ProofError: the ranges are not in their form.
    """
    check_ranges(ranges, size)
    position = 0
    for first, stop in (*ranges, (size, size)):
        yield from cover(position, first)
        position = stop


def cover(first: int, stop: int) -> Iterator[NodeId]:
    """Name the fewest complete nodes over the leaves from `first` to before `stop`, left to right."""
    while first < stop:
        level = (stop - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield NodeId(level, first >> level)
        first += 1 << level


class GrowingRoot:
    """A tree that grows at its right by leaves and by whole complete nodes; only its edge is kept."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def add_node(self, level: int, hash_: bytes) -> None:
        """Append the 2**level leaves under a complete node.

        Raises:
            ProofError: no complete node of this level can stand here, or the hash is not 32 bytes.
        """
        if self.size & ((1 << level) - 1) or self.size + (1 << level) > MAX_SIZE:
            raise ProofError(f"no complete node of level {level} begins at leaf {self.size}")
        if len(hash_) != HASH_SIZE:
            raise ProofError(f"a hash is {len(hash_)} bytes, not {HASH_SIZE}")
        self._push(level, hash_)

    def add_leaves(self, leaves: Sequence[bytes]) -> None:
        """Append leaves: their bytes, not their hashes."""
        # As `leaf_hash`, without a call for each: half the time of a large verification is spent here.
        self.add_hashes([sha256(b"\x00" + leaf).digest() for leaf in leaves])

    def add_hashes(self, hashes: Sequence[bytes]) -> None:
        """Append leaves by their 32-byte hashes, which the caller has computed."""
        width = 1 << _BLOCK
        start = min(-self.size % width, len(hashes))
        for leaf in hashes[:start]:
            self._push(0, leaf)
        while start + width <= len(hashes):
            self._push(_BLOCK, _block_root(hashes[start : start + width]))
            start += width
        for leaf in hashes[start:]:
            self._push(0, leaf)

    def root(self) -> bytes:
        """The root of the tree so far, 32 bytes."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in self._edge[-2::-1]:
            root = node_hash(left, root)
        return root

    def _push(self, level: int, hash_: bytes) -> None:
        grown = self.size + (1 << level)
        while self.size >> level & 1:
            hash_ = node_hash(self._edge.pop(), hash_)
            level += 1
        self._edge.append(hash_)
        self.size = grown


def _block_root(hashes: Sequence[bytes]) -> bytes:
    """The root over a power of two of leaves: the inner loop of a large verification."""
    while len(hashes) > 1:
        # As `node_hash`, for the same reason; a hash of another length would not make the root.
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
    return hashes[0]
