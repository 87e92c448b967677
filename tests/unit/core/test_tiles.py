"""Tiles are those of C2SP tlog-tiles: one path for each place, one encoding for each file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.merkle import MAX_SIZE, Frontier, NodeId, leaf_hash, root_of
from exchange.core.tiles import (
    Bundle,
    Tile,
    TileError,
    bundles_of,
    encode_bundle,
    encode_tile,
    parse_bundle,
    parse_path,
    parse_tile,
    tiles_of,
)

WIDTHS = st.integers(1, 256)
INDEXES = st.integers(0, 2**40) | st.sampled_from([0, 9, 10, 999, 1000, 999_999, 1_000_000])
PLACES = st.builds(Tile, st.integers(0, 1), INDEXES, WIDTHS) | st.builds(Bundle, INDEXES, WIDTHS)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 1234067), "tile/1/x001/x234/067"),
        (Tile(2, 0, 1), "tile/2/000.p/1"),
        (Bundle(273, 112), "tile/entries/273.p/112"),
        (Bundle(1000), "tile/entries/x001/000"),
    ],
)
def test_a_path_is_the_specs(place: Tile | Bundle, path: str) -> None:
    assert place.path == path
    assert parse_path(path) == place


@given(PLACES)
def test_a_path_reads_back_as_written(place: Tile | Bundle) -> None:
    assert parse_path(place.path) == place


@given(
    st.text("tile/entsx019.p", max_size=24)
    | st.lists(
        st.sampled_from(["tile/", "entries/", "0/", "x000/", "x001/", "000", "067", ".p/", "256", "1", "0"])
    ).map("".join)
)
def test_any_path_is_one_places_only_path_or_refused(path: str) -> None:
    try:
        place = parse_path(path)
    except TileError:
        return
    assert place.path == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/0/00",
        "tile/00/000",
        "tile/64/000",
        "tile/8/000",
        "tile/0/x000/001",
        "tile/0/1000",
        "tile/0/001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/٠٠٠",
        "tile/0/000\n",
        "tile/entries/../000",
        "tile/0/" + "x999/" * 7 + "999",
    ],
)
def test_refuses_every_other_path(path: str) -> None:
    with pytest.raises(TileError):
        parse_path(path)


@pytest.mark.parametrize("place", [(-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257), (8, 0, 1), (0, 2**55, 1)])
def test_no_tree_has_such_a_tile(place: tuple[int, int, int]) -> None:
    with pytest.raises(TileError):
        Tile(*place)


def test_a_tree_of_70000_has_the_tiles_that_the_spec_counts() -> None:
    tiles = list(tiles_of(70_000))
    full = [tile for tile in tiles if tile.width == 256]
    assert [sum(tile.level == level for tile in full) for level in (0, 1, 2)] == [273, 1, 0]
    assert [tile for tile in tiles if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]


def test_a_tree_of_256_has_one_hash_a_level_up() -> None:
    assert list(tiles_of(256)) == [Tile(0, 0), Tile(1, 0, 1)]
    assert list(tiles_of(0)) == list(bundles_of(0)) == []


@given(st.integers(0, 140_000), st.integers(0, 140_000))
def test_what_grew_is_what_the_larger_tree_has_and_the_smaller_has_not(one: int, other: int) -> None:
    old, size = sorted((one, other))
    assert set(tiles_of(size, old)) == set(tiles_of(size)) - set(tiles_of(old))
    assert set(bundles_of(size, old)) == set(bundles_of(size)) - set(bundles_of(old))


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_bundles_that_grew_hold_every_new_entry(one: int, other: int) -> None:
    old, size = sorted((one, other))
    held = {bundle.first + number for bundle in bundles_of(size, old) for number in range(bundle.width)}
    assert set(range(old, size)) <= held <= set(range(size))


def test_a_tree_cannot_shrink_nor_pass_its_limit() -> None:
    for size, old in ((1, 2), (MAX_SIZE + 1, 0), (-1, -1)):
        with pytest.raises(TileError):
            list(tiles_of(size, old))
        with pytest.raises(TileError):
            list(bundles_of(size, old))


def test_a_tiles_nodes_are_those_that_the_tree_completes() -> None:
    leaves = [leaf_hash(bytes([number & 255, number >> 8])) for number in range(600)]
    _, nodes = Frontier().extend(leaves)
    stored = {NodeId(node.level, node.index): node.hash for node in nodes}
    for tile in tiles_of(600):
        assert all(node in stored for node in tile.nodes)
    # Each hash of level 1 is the root of a full tile below.
    above = [stored[node] for node in Tile(1, 0, 2).nodes]
    assert above == [root_of([stored[node] for node in Tile(0, index).nodes]) for index in range(2)]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=8))
def test_a_tile_reads_back_as_written(hashes: list[bytes]) -> None:
    assert parse_tile(Tile(0, 0, len(hashes)), encode_tile(hashes)) == tuple(hashes)


@pytest.mark.parametrize("hashes", [[], [bytes(31)], [bytes(32)] * 257])
def test_refuses_to_write_what_is_no_tile(hashes: list[bytes]) -> None:
    with pytest.raises(TileError):
        encode_tile(hashes)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_refuses_a_tile_of_another_length(length: int) -> None:
    with pytest.raises(TileError, match="bytes, not 32"):
        parse_tile(Tile(0, 0, 1), bytes(length))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_a_bundle_reads_back_as_written(entries: list[bytes]) -> None:
    assert parse_bundle(Bundle(0, len(entries)), encode_bundle(entries)) == tuple(entries)


@given(st.binary(max_size=40), st.integers(1, 4))
def test_any_bytes_are_one_bundles_only_encoding_or_refused(data: bytes, width: int) -> None:
    try:
        entries = parse_bundle(Bundle(0, width), data)
    except TileError:
        return
    assert encode_bundle(entries) == data


def test_a_bundle_holds_the_longest_entry_and_none_longer() -> None:
    longest = bytes(65_535)
    assert parse_bundle(Bundle(0, 1), encode_bundle([longest])) == (longest,)
    for entries in ([], [b""] * 257, [longest + b"\0"]):
        with pytest.raises(TileError):
            encode_bundle(entries)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1", b"\0\1ab", b"\0\1a\0\1b"])
def test_refuses_a_bundle_that_is_cut_or_too_long(data: bytes) -> None:
    with pytest.raises(TileError):
        parse_bundle(Bundle(0, 1), data)
