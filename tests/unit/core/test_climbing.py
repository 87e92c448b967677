"""Paths one after the other lead where each of them leads alone, or are refused alike."""

from collections.abc import Sequence
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import climbing
from exchange.core.climbing import Climber
from exchange.core.errors import ProofError
from exchange.core.merkle import leaf_hash, path_root, paths_of, root_of

MAX_TREE = 21
Place = tuple[bytes, int, int, tuple[bytes, ...]]
"""The arguments of `path_root`."""


def hashes_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d of %d" % (number, size)) for number in range(size)]


TREES = {size: (hashes := hashes_of(size), paths_of(hashes)) for size in range(1, MAX_TREE + 1)}
SPARE = [hash_ for hashes, paths in TREES.values() for hash_ in (*hashes, *paths[0])]


@st.composite
def places(draw: st.DrawFn) -> Place:
    """A leaf with its path, as it is or damaged: other hashes, other places, other lengths."""
    size = draw(st.integers(1, MAX_TREE))
    index = draw(st.integers(0, size - 1))
    hashes, paths = TREES[size]
    leaf, path = hashes[index], list(paths[index])
    damage = draw(st.sampled_from(("none", "none", "leaf", "index", "size", "hash", "swap", "cut", "more", "short")))
    at = draw(st.integers(0, max(0, len(path) - 1)))
    if damage == "leaf":
        leaf = draw(st.sampled_from(SPARE))
    elif damage == "index":
        index = draw(st.integers(-1, MAX_TREE))
    elif damage == "size":
        size = draw(st.integers(0, MAX_TREE))
    elif damage == "hash" and path:
        path[at] = draw(st.sampled_from(SPARE))
    elif damage == "swap" and path:
        leaf, path[at] = path[at], leaf
    elif damage == "cut":
        path = path[:at]
    elif damage == "more":
        path.append(draw(st.sampled_from(SPARE)))
    elif damage == "short" and path:
        path[at] = path[at][:31]
    return leaf, index, size, tuple(path)


def outcome(root: object, place: Place) -> object:
    try:
        return root(*place)  # type: ignore[operator]
    except ProofError as error:
        return str(error)


@given(st.lists(places(), max_size=12))
def test_each_of_many_paths_leads_where_it_leads_alone(given_places: list[Place]) -> None:
    climber = Climber()
    for place in given_places:
        assert outcome(climber.root, place) == outcome(path_root, place)


@given(st.integers(2, MAX_TREE), st.data())
def test_a_neighbour_is_believed_in_nothing(size: int, data: st.DataObject) -> None:
    """After a path that holds, whatever part of the next one differs, it leads elsewhere."""
    hashes, paths = TREES[size]
    first, second = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    path = list(paths[second])
    at = data.draw(st.integers(0, len(path) - 1))
    path[at] = data.draw(st.sampled_from(SPARE).filter(lambda other: other != path[at]))
    climber = Climber()
    assert climber.root(hashes[first], first, size, paths[first]) == root_of(hashes)
    found = climber.root(hashes[second], second, size, tuple(path))
    assert found == path_root(hashes[second], second, size, path) != root_of(hashes)


def test_a_list_that_its_owner_changes_later_is_not_remembered_so() -> None:
    hashes, paths = TREES[8]
    climber, path = Climber(), list(paths[0])
    climber.root(hashes[0], 0, 8, path)
    path[2] = bytes(32)
    assert climber.root(hashes[1], 1, 8, (*paths[1][:2], bytes(32))) != root_of(hashes)
    assert climber.root(hashes[1], 1, 8, paths[1]) == root_of(hashes)


@pytest.mark.parametrize("size", [2, 8, 16])
def test_a_batch_in_its_order_is_hashed_once(size: int) -> None:
    """One hash for each node of a full tree, and those of the way up from the first leaf: no more than they."""
    hashes, paths = TREES[size]
    climber = Climber()
    with patch.object(climbing, "sha256", wraps=climbing.sha256) as hashing:
        found = [
            climber.root(leaf, index, size, path) for index, (leaf, path) in enumerate(zip(hashes, paths, strict=True))
        ]
    assert found == [root_of(hashes)] * size
    levels = len(paths[0])
    assert hashing.call_count <= size - 1 + levels


def _all_pairs(sizes: Sequence[int]) -> list[tuple[int, int, int]]:
    return [(size, first, second) for size in sizes for first in range(size) for second in range(size)]


@pytest.mark.parametrize(("size", "first", "second"), _all_pairs([1, 2, 3, 5, 6, 7]))
def test_any_two_leaves_of_a_small_tree_lead_to_its_root(size: int, first: int, second: int) -> None:
    hashes, paths = TREES[size]
    climber = Climber()
    for index in (first, second):
        assert climber.root(hashes[index], index, size, paths[index]) == root_of(hashes)


@pytest.mark.parametrize(("size", "first", "second"), _all_pairs([4, 5, 8]))
def test_after_any_path_a_damaged_one_leads_elsewhere(size: int, first: int, second: int) -> None:
    """Its leaf, or any one hash of its path, is another: that of the neighbour, or of nobody."""
    hashes, paths = TREES[size]
    leaf, path = hashes[second], paths[second]
    others = (bytes(32), hashes[first], *paths[first])
    damaged = [(other, path) for other in others if other != leaf]
    damaged += [
        (leaf, (*path[:at], other, *path[at + 1 :])) for at in range(len(path)) for other in others if other != path[at]
    ]
    for changed, way in damaged:
        climber = Climber()
        assert climber.root(hashes[first], first, size, paths[first]) == root_of(hashes)
        assert climber.root(changed, second, size, way) == path_root(changed, second, size, way) != root_of(hashes)
