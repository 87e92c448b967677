"""A range is proven by its leaves and the fewest nodes beside it, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import ProofError
from exchange.core.merkle import EMPTY_ROOT, MAX_SIZE, Frontier, NodeId, leaf_hash, root_of
from exchange.core.ranges import GrowingRoot, check_ranges, cover, gap_nodes

LEAVES = [bytes([number & 255, number >> 8]) for number in range(1200)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
NODES = {NodeId(node.level, node.index): node.hash for node in Frontier().extend(HASHES)[1]}

Ranges = list[tuple[int, int]]


@st.composite
def trees(draw: st.DrawFn) -> tuple[Ranges, int]:
    size = draw(st.integers(0, len(LEAVES)))
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=8)))
    return list(zip(cuts[::2], cuts[1::2], strict=False)), size


def root_with(ranges: Ranges, size: int, leaves: list[bytes], nodes: list[bytes]) -> bytes:
    tree, rest = GrowingRoot(), iter(nodes)
    for first, stop in (*ranges, (size, size)):
        for node in cover(tree.size, first):
            tree.add_node(node.level, next(rest))
        tree.add_leaves(leaves[first:stop])
    assert (tree.size, next(rest, None)) == (size, None)
    return tree.root()


@given(trees())
def test_ranges_and_the_nodes_beside_them_make_the_root(tree: tuple[Ranges, int]) -> None:
    ranges, size = tree
    nodes = [NODES[node] for node in gap_nodes(ranges, size)]
    assert root_with(ranges, size, LEAVES, nodes) == root_of(HASHES[:size])


@given(trees(), st.data())
def test_no_other_leaf_and_no_other_node_makes_it(tree: tuple[Ranges, int], data: st.DataObject) -> None:
    ranges, size = tree
    nodes = [NODES[node] for node in gap_nodes(ranges, size)]
    held = [index for first, stop in ranges for index in range(first, stop)]
    leaves = list(LEAVES)
    places = [("leaf", index) for index in held[:3] + held[-3:]] + [("node", number) for number in range(len(nodes))]
    if not places:
        return
    what, place = data.draw(st.sampled_from(places))
    if what == "leaf":
        leaves[place] += b"\0"
    else:
        nodes[place] = bytes(32)
    assert root_with(ranges, size, leaves, nodes) != root_of(HASHES[:size])


@given(st.integers(0, MAX_SIZE), st.integers(0, MAX_SIZE))
def test_a_cover_is_complete_nodes_that_follow_each_other(one: int, other: int) -> None:
    first, stop = sorted((one, other))
    position = first
    nodes = list(cover(first, stop))
    for node in nodes:
        assert node.index << node.level == position
        position += 1 << node.level
    assert position == stop
    assert len(nodes) <= 2 * 63


def test_an_empty_tree_has_the_empty_root() -> None:
    assert GrowingRoot().root() == EMPTY_ROOT
    assert list(gap_nodes([], 0)) == []


@pytest.mark.parametrize(
    "ranges", [[(1, 1)], [(2, 1)], [(0, 2), (1, 3)], [(0, 2), (2, 3)], [(3, 4), (0, 1)], [(0, 11)]]
)
def test_a_set_of_leaves_has_one_form(ranges: Ranges) -> None:
    with pytest.raises(ProofError):
        check_ranges(ranges, 10)


def test_a_node_stands_only_where_it_can_be_complete() -> None:
    tree = GrowingRoot()
    tree.add_leaves([b"a"])
    with pytest.raises(ProofError, match="begins at leaf 1"):
        tree.add_node(1, bytes(32))
    with pytest.raises(ProofError, match="31 bytes"):
        tree.add_node(0, bytes(31))
    with pytest.raises(ProofError, match="begins at leaf"):
        GrowingRoot().add_node(63, bytes(32))
