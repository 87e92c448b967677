"""Trees, paths and proofs agree with the recursive definitions of RFC 9162, and nothing else verifies."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import ProofError
from exchange.core.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    Frontier,
    NodeId,
    consistency_proof,
    frontier_nodes,
    inclusion_nodes,
    inclusion_proof,
    leaf_hash,
    node_hash,
    path_root,
    paths_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZES = range(131)
LEAVES = tuple(leaf_hash(b"%d" % index) for index in SIZES)
STORED = {NodeId(node.level, node.index): node.hash for node in Frontier().extend(LEAVES)[1]}


def read(nodes: Sequence[NodeId]) -> list[bytes]:
    return [STORED[node] for node in nodes]


# The definitions of RFC 9162, word for word; a range of leaves is [begin, end).


def split(begin: int, end: int) -> int:
    width = 1
    while width * 2 < end - begin:
        width *= 2
    return begin + width


@cache
def mth(begin: int, end: int) -> bytes:
    if begin == end:
        return EMPTY_ROOT
    if end - begin == 1:
        return LEAVES[begin]
    middle = split(begin, end)
    return node_hash(mth(begin, middle), mth(middle, end))


def path(leaf: int, begin: int, end: int) -> tuple[bytes, ...]:
    if end - begin == 1:
        return ()
    middle = split(begin, end)
    if leaf < middle:
        return (*path(leaf, begin, middle), mth(middle, end))
    return (*path(leaf, middle, end), mth(begin, middle))


def subproof(old: int, begin: int, end: int, known: bool) -> tuple[bytes, ...]:
    if old == end:
        return () if known else (mth(begin, end),)
    middle = split(begin, end)
    if old <= middle:
        return (*subproof(old, begin, middle, known), mth(middle, end))
    return (*subproof(old, middle, end, False), mth(begin, middle))


# Published vectors: transparency-dev/merkle, testonly/constants.go and proof/verify_test.go.

VECTOR_INPUTS = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
VECTOR_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
VECTOR_LEAVES = [leaf_hash(bytes.fromhex(data)) for data in VECTOR_INPUTS]
H0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
H1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
H4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
H6 = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
H01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
H23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
H45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
H67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
H0123 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
H4567 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
VECTOR_PATHS = [
    (0, 1, []),
    (0, 8, [H1, H23, H4567]),
    (5, 8, [H4, H67, H0123]),
    (2, 3, [H01]),
    (1, 5, [H0, H23, H4]),
]
VECTOR_CONSISTENCY = [
    (1, 1, []),
    (1, 8, [H1, H23, H4567]),
    (6, 8, [H45, H67, H0123]),
    (2, 5, [H23, H4]),
    (6, 7, [H45, H6, H0123]),
]


def unhex(hashes: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(hash_) for hash_ in hashes)


def test_roots_match_the_published_vectors() -> None:
    roots = [root_of(VECTOR_LEAVES[:size]).hex() for size in range(9)]
    assert roots == VECTOR_ROOTS
    assert EMPTY_ROOT.hex() == VECTOR_ROOTS[0]


@pytest.mark.parametrize(("index", "size", "hashes"), VECTOR_PATHS)
def test_inclusion_paths_match_the_published_vectors(index: int, size: int, hashes: list[str]) -> None:
    assert paths_of(VECTOR_LEAVES[:size])[index] == unhex(hashes)
    verify_inclusion(VECTOR_LEAVES[index], index, size, unhex(hashes), bytes.fromhex(VECTOR_ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "hashes"), VECTOR_CONSISTENCY)
def test_consistency_proofs_match_the_published_vectors(old: int, new: int, hashes: list[str]) -> None:
    old_root, new_root = unhex([VECTOR_ROOTS[old], VECTOR_ROOTS[new]])
    verify_consistency(old, old_root, new, new_root, unhex(hashes))


# Agreement with the definitions, exhaustively.


def test_roots_agree_with_the_definition() -> None:
    assert [root_of(LEAVES[:size]) for size in SIZES] == [mth(0, size) for size in SIZES]


def test_inclusion_proofs_agree_with_the_definition_and_verify() -> None:
    for size in SIZES:
        paths = paths_of(LEAVES[:size])
        assert len(paths) == size
        for index in range(size):
            expected = path(index, 0, size)
            assert inclusion_proof(index, size, read) == paths[index] == expected
            verify_inclusion(LEAVES[index], index, size, expected, mth(0, size))


def test_consistency_proofs_agree_with_the_definition_and_verify() -> None:
    for new in SIZES:
        for old in range(1, new + 1):
            proof = consistency_proof(old, new, read)
            assert proof == subproof(old, 0, new, True)
            verify_consistency(old, mth(0, old), new, mth(0, new), proof)


def test_proofs_read_few_complete_nodes_in_one_call() -> None:
    calls: list[Sequence[NodeId]] = []

    def counting_read(nodes: Sequence[NodeId]) -> list[bytes]:
        calls.append(nodes)
        return [bytes(32)] * len(nodes)

    size = MAX_SIZE - 12345
    inclusion_proof(987654321, size, counting_read)
    consistency_proof(987654321, size, counting_read)
    assert len(calls) == 2
    for nodes in calls:
        assert len(nodes) <= 126
        assert all((node.index + 1) << node.level <= size for node in nodes)


def test_an_inclusion_proof_reads_exactly_the_nodes_it_names() -> None:
    asked: list[NodeId] = []

    def recording_read(nodes: Sequence[NodeId]) -> list[bytes]:
        asked[:] = nodes
        return read(nodes)

    for size in range(2, 33):
        for index in range(size):
            inclusion_proof(index, size, recording_read)
            assert tuple(asked) == inclusion_nodes(index, size)


def test_an_empty_proof_reads_nothing() -> None:
    def refuse(nodes: Sequence[NodeId]) -> list[bytes]:
        raise AssertionError(nodes)

    assert inclusion_proof(0, 1, refuse) == ()
    assert consistency_proof(0, 7, refuse) == consistency_proof(7, 7, refuse) == ()


@pytest.mark.parametrize("broken", [lambda got: got[1:], lambda got: [*got, got[0]], lambda got: [b"", *got[1:]]])
def test_a_store_that_lost_a_node_is_noticed(broken: Callable[[list[bytes]], list[bytes]]) -> None:
    with pytest.raises(ProofError):
        inclusion_proof(3, 11, lambda nodes: broken(read(nodes)))
    with pytest.raises(ProofError):
        consistency_proof(3, 11, lambda nodes: broken(read(nodes)))


# Growth.


def test_a_frontier_grows_to_the_same_tree_in_batches_of_any_size() -> None:
    for size in SIZES:
        first, before = Frontier().extend(LEAVES[: size // 3])
        whole, after = first.extend(LEAVES[size // 3 : size])
        assert whole.root() == mth(0, size)
        assert (whole, before + after) == Frontier().extend(LEAVES[:size])


def test_growth_yields_every_complete_node_once() -> None:
    for size in SIZES:
        nodes = Frontier().extend(LEAVES[:size])[1]
        expected = {
            (level, index): mth(index << level, index + 1 << level)
            for level in range(8)
            for index in range(size >> level)
        }
        assert len(nodes) == len(expected)
        assert {(node.level, node.index): node.hash for node in nodes} == expected


def test_a_frontier_loads_from_the_nodes_it_names() -> None:
    for size in SIZES:
        assert Frontier(size, tuple(read(frontier_nodes(size)))) == Frontier().extend(LEAVES[:size])[0]


def test_a_frontier_must_fit_its_size() -> None:
    for size, hashes in [
        (0, (LEAVES[0],)),
        (3, (LEAVES[0],)),
        (1, (b"short",)),
        (-1, ()),
        (MAX_SIZE + 1, LEAVES[:1]),
    ]:
        with pytest.raises(ProofError):
            Frontier(size, hashes)


def test_a_tree_never_passes_the_size_limit() -> None:
    full = Frontier(MAX_SIZE, LEAVES[:63])
    assert full.extend(()) == (full, ())
    with pytest.raises(ProofError):
        full.extend(LEAVES[:1])


def test_refuses_leaf_hashes_of_another_length() -> None:
    for build in (root_of, paths_of, Frontier().extend):
        with pytest.raises(ProofError):
            build((LEAVES[0], LEAVES[1] + b"\0"))


# Whatever is changed, verification fails.


def changed(hash_: bytes) -> Iterator[bytes]:
    """Every flip of one bit, and some other lengths."""
    for bit in range(256):
        yield (int.from_bytes(hash_, "big") ^ (1 << bit)).to_bytes(32, "big")
    yield from (b"", hash_[:-1], hash_[1:], hash_ + b"\0", b"\0" + hash_, hash_ * 2)


def mutations(hashes: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    """Every change of one hash, and the path with a hash lost, repeated, added or swapped with the next."""
    for place, hash_ in enumerate(hashes):
        before, after = hashes[:place], hashes[place + 1 :]
        yield from ((*before, other, *after) for other in changed(hash_))
        yield before + after
        yield (*before, hash_, hash_, *after)
    for extra in (b"", bytes(32), EMPTY_ROOT, LEAVES[0]):
        yield (extra, *hashes)
        yield (*hashes, extra)
    for place, (one, next_) in enumerate(pairwise(hashes)):
        yield (*hashes[:place], next_, one, *hashes[place + 2 :])


def assert_refused(verify: Callable[..., object], *arguments: object) -> None:
    try:
        verify(*arguments)
    except ProofError:
        return
    raise AssertionError(f"verified: {arguments}")


def test_rejects_every_mutation_of_an_inclusion_path() -> None:
    for size in (1, 2, 3, 6, 7, 11, 130):
        for index in {0, size // 2, size - 1}:
            root, proof = mth(0, size), path(index, 0, size)
            for mutant in mutations(proof):
                assert_refused(verify_inclusion, LEAVES[index], index, size, mutant, root)
            for other in changed(root):
                assert_refused(verify_inclusion, LEAVES[index], index, size, proof, other)
            for other in changed(LEAVES[index]):
                assert_refused(verify_inclusion, other, index, size, proof, root)


def test_rejects_every_mutation_of_a_consistency_proof() -> None:
    for old, new in [(1, 2), (2, 3), (3, 4), (4, 7), (6, 7), (5, 8), (7, 13), (64, 130), (129, 130)]:
        old_root, new_root, proof = mth(0, old), mth(0, new), subproof(old, 0, new, True)
        for mutant in mutations(proof):
            assert_refused(verify_consistency, old, old_root, new, new_root, mutant)
        for other in changed(old_root):
            assert_refused(verify_consistency, old, other, new, new_root, proof)
        for other in changed(new_root):
            assert_refused(verify_consistency, old, old_root, new, other, proof)


def test_rejects_the_same_bytes_split_elsewhere() -> None:
    both = LEAVES[0] + LEAVES[1]
    for place in (0, 31, 33, 64):
        assert_refused(verify_inclusion, both[:place], 0, 2, (both[place:],), mth(0, 2))
    assert_refused(verify_inclusion, both, 0, 1, (), both)


def test_rejects_a_path_at_any_other_index() -> None:
    for size in range(1, 34):
        for index in range(size):
            for other in {*range(-1, size + 2)} - {index}:
                assert_refused(verify_inclusion, LEAVES[index], other, size, path(index, 0, size), mth(0, size))


def test_rejects_growth_of_a_tree_whose_history_was_rewritten() -> None:
    for new in range(2, 34):
        for old in range(1, new):
            forged = root_of([*LEAVES[: old - 1], LEAVES[130]])
            assert_refused(verify_consistency, old, forged, new, mth(0, new), subproof(old, 0, new, True))


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (1, 1), (-1, 1), (0, -1), (5, 4), (0, MAX_SIZE + 1), (2**200, 2**201)]
)
def test_refuses_a_position_outside_the_tree(index: int, size: int) -> None:
    for use in (
        lambda: path_root(LEAVES[0], index, size, ()),
        lambda: inclusion_nodes(index, size),
        lambda: inclusion_proof(index, size, read),
    ):
        with pytest.raises(ProofError):
            use()


@pytest.mark.parametrize(("old", "new"), [(1, 0), (5, 4), (-1, 4), (-2, -1), (1, MAX_SIZE + 1)])
def test_refuses_a_tree_that_shrinks_or_is_out_of_range(old: int, new: int) -> None:
    assert_refused(verify_consistency, old, LEAVES[0], new, LEAVES[0], ())
    with pytest.raises(ProofError):
        consistency_proof(old, new, read)


def test_refuses_the_frontier_of_a_size_out_of_range() -> None:
    for size in (-1, MAX_SIZE + 1):
        with pytest.raises(ProofError):
            frontier_nodes(size)


def test_growth_from_nothing_needs_the_empty_root_and_an_empty_path() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
    verify_consistency(0, EMPTY_ROOT, 7, mth(0, 7), ())
    assert_refused(verify_consistency, 0, LEAVES[0], 0, LEAVES[0], ())
    assert_refused(verify_consistency, 0, LEAVES[0], 7, mth(0, 7), ())
    assert_refused(verify_consistency, 0, EMPTY_ROOT, 0, LEAVES[0], ())
    assert_refused(verify_consistency, 0, EMPTY_ROOT, 7, b"", ())
    assert_refused(verify_consistency, 0, EMPTY_ROOT, 7, mth(0, 7), (mth(0, 7),))


def test_no_growth_needs_one_root_and_an_empty_path() -> None:
    verify_consistency(7, mth(0, 7), 7, mth(0, 7), ())
    assert_refused(verify_consistency, 7, mth(0, 7), 7, mth(0, 6), ())
    assert_refused(verify_consistency, 7, mth(0, 7), 7, mth(0, 7), (mth(0, 7),))
    assert_refused(verify_consistency, 7, b"", 7, b"", ())


@given(st.integers(-2, 2**64), st.integers(-2, 2**64), st.lists(st.binary(max_size=40), max_size=70))
def test_hostile_proofs_meet_a_proof_error(one: int, other: int, hashes: list[bytes]) -> None:
    assert_refused(verify_inclusion, LEAVES[0], one, other, hashes, bytes(32))
    assert_refused(verify_consistency, one, bytes(32), other, LEAVES[0], hashes)


@given(st.data(), st.integers(1, MAX_SIZE))
def test_exact_paths_of_the_largest_trees_are_followed(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, lambda nodes: [leaf_hash(repr(node).encode()) for node in nodes])
    assert len(proof) <= 63
    assert len(path_root(LEAVES[0], index, size, proof)) == 32
    assert_refused(path_root, LEAVES[0], index, size, (*proof, LEAVES[0]))
