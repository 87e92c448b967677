"""The nodes of a tree whose leaves alone are stored: computed by reading the leaves again, and never all at once."""

from collections.abc import Callable, Iterator
from typing import Final

from exchange.core.merkle import HASH_SIZE, NodeId
from exchange.core.ranges import GrowingRoot

LEVEL: Final = 10
"""Of the nodes that are remembered, each over 1,024 leaves: 32 bytes for that many entries, 320 KB for ten million."""


class StreamedNodes:
    """Complete nodes by their places; nothing of it is believed.

    Args:
        read: gives the leaves from one position to before another, as they are stored.
        size: leaves of the tree.
    """

    def __init__(self, read: Callable[[int, int], Iterator[bytes]], size: int) -> None:
        self._read = read
        self._size = size
        self._blocks = bytearray()

    def hash(self, node: NodeId) -> bytes:
        """The hash of a complete node; another one where leaves are missing."""
        first, stop = node.index << node.level, (node.index + 1) << node.level
        if node.level < LEVEL:
            return self._hashed(first, stop)
        tree = GrowingRoot()
        for block in range(first >> LEVEL, stop >> LEVEL):
            tree.add_node(LEVEL, self._block(block))
        return tree.root()

    def _block(self, index: int) -> bytes:
        """The node over 1,024 leaves; the first time, all those of the tree are computed in one reading."""
        if not self._blocks:
            for first in range(0, self._size >> LEVEL << LEVEL, 1 << LEVEL):
                self._blocks += self._hashed(first, first + (1 << LEVEL))
        return bytes(self._blocks[index * HASH_SIZE : (index + 1) * HASH_SIZE])

    def _hashed(self, first: int, stop: int) -> bytes:
        tree = GrowingRoot()
        tree.add_leaves(list(self._read(first, stop)))
        return tree.root()
