"""Nodes of a tree whose leaves alone are stored: the same as those of the tree, with few hashes in memory."""

from collections.abc import Iterator

import pytest

from exchange.cli.audit.mirror.nodes import LEVEL, StreamedNodes
from exchange.core.merkle import NodeId, leaf_hash, root_of

SIZE = (3 << LEVEL) + 77


class Leaves:
    """Counts what is read."""

    def __init__(self) -> None:
        self.leaves = [b"leaf %d" % number for number in range(SIZE)]
        self.read = 0

    def __call__(self, start: int, stop: int) -> Iterator[bytes]:
        for leaf in self.leaves[start:stop]:
            self.read += 1
            yield leaf


@pytest.fixture
def leaves() -> Leaves:
    return Leaves()


@pytest.mark.parametrize(
    "node",
    [
        NodeId(0, 0),
        NodeId(0, SIZE - 1),
        NodeId(3, 5),
        NodeId(LEVEL, 2),
        NodeId(LEVEL + 1, 0),
        NodeId(6, (SIZE >> 6) - 1),
    ],
)
def test_gives_each_complete_node(leaves: Leaves, node: NodeId) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves.leaves[node.index << node.level : (node.index + 1) << node.level]]
    assert StreamedNodes(leaves, SIZE).hash(node) == root_of(hashes)


def test_reads_the_tree_once_for_all_of_its_large_nodes(leaves: Leaves) -> None:
    nodes = StreamedNodes(leaves, SIZE)
    for node in (NodeId(LEVEL, 0), NodeId(LEVEL, 1), NodeId(LEVEL, 2), NodeId(LEVEL + 1, 0)):
        nodes.hash(node)
    assert leaves.read == 3 << LEVEL


def test_a_missing_leaf_makes_another_hash(leaves: Leaves) -> None:
    before = StreamedNodes(leaves, SIZE).hash(NodeId(LEVEL + 1, 0))
    del leaves.leaves[7]
    assert StreamedNodes(leaves, SIZE).hash(NodeId(LEVEL + 1, 0)) != before
