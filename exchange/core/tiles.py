"""Tiled logs (C2SP tlog-tiles): a log's tree and entries as plain files that any reader of the format can fetch.

    tile/0/x001/x234/067       256 leaf hashes from leaf 1234067 * 256 on
    tile/1/000.p/17            17 hashes, each of a full tile of level 0
    tile/entries/000.p/3       the entries whose hashes tile/0/000.p/3 holds

A tile is eight levels of the tree in one file of 8,192 bytes; one at the right edge is partial, and shorter.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exchange.core.errors import CoreError
from exchange.core.merkle import HASH_SIZE, MAX_SIZE, NodeId

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
MAX_ENTRY: Final = 0xFFFF
"""Bytes of the longest entry that a bundle can hold."""

_LENGTH: Final = 2
_LEVELS: Final = 8
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII
)


class TileError(CoreError):
    """A tile, an entry bundle or the path of one is not in its one form."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of hashes, by its place (C2SP tlog-tiles, "Merkle Tree").

    Args:
        level: 0 holds leaf hashes; each hash above is the root of a full tile below.
        index: from the left, within the level.
        width: hashes, 1 to 256; below 256 it is partial.

    Raises:
        TileError: no tree has such a tile.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _check_place(self.level, self.index, self.width)

    @property
    def path(self) -> str:
        """Where it is served, without the prefix."""
        return f"tile/{self.level}/{_encode_place(self.index, self.width)}"

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The complete nodes whose hashes it holds, left to right."""
        first = self.index * WIDTH
        return tuple(NodeId(self.level * HEIGHT, first + number) for number in range(self.width))


@dataclass(frozen=True, slots=True)
class Bundle:
    """An entry bundle, by its place (C2SP tlog-tiles, "Log entries").

    Args:
        index: of the tile of level 0 with the hashes of the same entries.
        width: entries, 1 to 256; below 256 it is partial.

    Raises:
        TileError: no tree has such a bundle.
    """

    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        _check_place(0, self.index, self.width)

    @property
    def path(self) -> str:
        """Where it is served, without the prefix."""
        return f"tile/entries/{_encode_place(self.index, self.width)}"

    @property
    def first(self) -> int:
        """The index of its first entry."""
        return self.index * WIDTH


def parse_path(path: str) -> Tile | Bundle:
    """Read the one form of a tile's or bundle's path, the inverse of `path`.

    Raises:
        TileError: another form, or no tree has such a tile.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileError(f"not the path of a tile: {path[:80]!r}")
    index = int(match[2].replace("/", "").replace("x", ""))
    width = int(match[3] or WIDTH)
    found = Bundle(index, width) if match[1] == "entries" else Tile(int(match[1]), index, width)
    # One place has one path: no leading x000, and .p only where it is partial.
    if found.path != path:
        raise TileError(f"not the one path of a tile: {path[:80]!r}")
    return found


def tiles_of(size: int, old: int = 0) -> Iterator[Tile]:
    """The tiles of a tree, level by level; with `old`, those that a tree of that size does not have yet.

    Args:
        size: leaves of the tree.
        old: leaves that it had when its tiles were last written.

    Raises:
        TileError: the sizes are out of order or range.
    """
    _check_growth(old, size)
    for level in range(_LEVELS):
        for index, width in _grown(old >> level * HEIGHT, size >> level * HEIGHT):
            yield Tile(level, index, width)


def bundles_of(size: int, old: int = 0) -> Iterator[Bundle]:
    """The entry bundles of a tree; with `old`, those that a tree of that size does not have yet.

    Args:
        size: leaves of the tree.
        old: leaves that it had when its bundles were last written.

    Raises:
        TileError: the sizes are out of order or range.
    """
    _check_growth(old, size)
    for index, width in _grown(old, size):
        yield Bundle(index, width)


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """Write a tile's file.

    Args:
        hashes: 1 to 256 of 32 bytes, left to right.

    Raises:
        TileError: there are more or fewer, or one is not 32 bytes.
    """
    if not 1 <= len(hashes) <= WIDTH or any(len(item) != HASH_SIZE for item in hashes):
        raise TileError(f"a tile is 1 to {WIDTH} hashes of {HASH_SIZE} bytes")
    return b"".join(hashes)


def parse_tile(tile: Tile, data: bytes) -> tuple[bytes, ...]:
    """Read a tile's file; nothing proves yet that its hashes are the log's.

    Args:
        tile: the place it was read from.
        data: the file.

    Raises:
        TileError: it is not as long as the place demands.
    """
    if len(data) != tile.width * HASH_SIZE:
        raise TileError(f"{tile.path} is {len(data)} bytes, not {tile.width * HASH_SIZE}")
    return tuple(data[start : start + HASH_SIZE] for start in range(0, len(data), HASH_SIZE))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle's file: each entry behind its length, uint16, big-endian.

    Args:
        entries: 1 to 256 of at most 65,535 bytes, left to right.

    Raises:
        TileError: there are more or fewer, or one is too long for the format.
    """
    if not 1 <= len(entries) <= WIDTH or any(len(item) > MAX_ENTRY for item in entries):
        raise TileError(f"a bundle is 1 to {WIDTH} entries of at most {MAX_ENTRY} bytes")
    return b"".join(len(item).to_bytes(_LENGTH) + item for item in entries)


def parse_bundle(bundle: Bundle, data: bytes) -> tuple[bytes, ...]:
    """Read an entry bundle's file; nothing proves yet that its entries are the log's.

    Args:
        bundle: the place it was read from.
        data: the file.

    Raises:
        TileError: it does not hold exactly as many entries as the place demands.
    """
    entries: list[bytes] = []
    start = 0
    for _ in range(bundle.width):
        begin = start + _LENGTH
        end = begin + int.from_bytes(data[start:begin])
        if begin > len(data) or end > len(data):
            raise TileError(f"{bundle.path} ends within entry {bundle.first + len(entries)}")
        entries.append(data[begin:end])
        start = end
    if start != len(data):
        raise TileError(f"{bundle.path} has more than {bundle.width} entries")
    return tuple(entries)


def _grown(old: int, size: int) -> Iterator[tuple[int, int]]:
    """The tiles of one level that grew, as (index, width), when its hashes grew from `old` to `size`."""
    if old == size:
        return
    full, rest = divmod(size, WIDTH)
    for index in range(old // WIDTH, full):
        yield index, WIDTH
    if rest:
        yield full, rest


def _encode_place(index: int, width: int) -> str:
    """C2SP tlog-tiles: three digits to a path element, all but the last with an x before them."""
    last, rest = f"{index % 1000:03d}", index // 1000
    while rest:
        last, rest = f"x{rest % 1000:03d}/{last}", rest // 1000
    return last if width == WIDTH else f"{last}.p/{width}"


def _check_place(level: int, index: int, width: int) -> None:
    if level < 0 or index < 0 or not 1 <= width <= WIDTH:
        raise TileError("a tile has a level, an index from 0 on, and 1 to 256 hashes")
    # The format goes to level 63, but no log of 2**63 - 1 entries has a tile above level 7.
    if level >= _LEVELS or (index * WIDTH + width) << level * HEIGHT > MAX_SIZE:
        raise TileError(f"no log has a tile {index} of level {level} with {width} hashes")


def _check_growth(old: int, size: int) -> None:
    if not 0 <= old <= size <= MAX_SIZE:
        raise TileError(f"a tree cannot grow from {old} to {size}")
