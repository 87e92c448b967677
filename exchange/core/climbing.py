"""The roots of paths that follow each other: what two of them have in common is hashed once."""

from collections.abc import Sequence
from hashlib import sha256

from exchange.core.merkle import path_turns


class Climber:
    """`path_root` for the leaves of a tree one after the other: half of the hashes of its nodes, or fewer.

    It remembers the last path, with the hashes on the way up from its leaf. Two ways that turn alike from some level on
    come to the same root, where that level has the same node: then the rest is not hashed again. Which paths are
    accepted, and what they lead to, is as without it.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        # Turns, path, hashes from the leaf up. One value, so that threads see all of it or none.
        self._last: tuple[int, tuple[bytes, ...], list[bytes]] = (0, (), [])

    def root(self, leaf_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
        """Args, returns and raises: as `path_root`."""
        turns = path_turns(leaf_hash, index, size, path)
        last_turns, last_path, last_climbed = self._last
        # From the level above this one on all turns are the same; at this one, each way has the other's node beside it.
        meeting = (turns ^ last_turns).bit_length() - 1 if len(path) == len(last_path) else -1
        node, climbed = leaf_hash, [leaf_hash]
        for level, sibling in enumerate(path):
            if (
                level == meeting
                and node == last_path[level]
                and sibling == last_climbed[level]
                and path[level + 1 :] == last_path[level + 1 :]
            ):
                climbed += last_climbed[level + 1 :]
                break
            node = sha256(b"\x01" + (sibling + node if turns >> level & 1 else node + sibling)).digest()
            climbed.append(node)
        self._last = turns, tuple(path), climbed
        return climbed[-1]
