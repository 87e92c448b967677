"""A reader of tlog-tiles trees, written from c2sp.org/tlog-tiles, tlog-checkpoint and signed-note alone.

Nothing here is of exchange: it shows that a stranger's tool can read what `exchange-audit tiles` writes.
"""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class TileReader:
    """One log in a folder, read through its checkpoint."""

    def __init__(self, folder: Path, verifier_key: str) -> None:
        self.folder = folder
        text, _, signatures = (folder / "checkpoint").read_text().rpartition("\n\n")
        name, key_id, key = verifier_key.split("+", 2)
        lines = [line.split(" ") for line in signatures.splitlines()]
        signature = next(base64.b64decode(line[2]) for line in lines if line[:2] == ["—", name])
        assert signature[:4].hex() == key_id
        # Raises where it does not verify.
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(signature[4:], (text + "\n").encode())
        self.origin, size, root = text.split("\n")[:3]
        self.size, self.root = int(size), base64.b64decode(root)

    def entry(self, index: int) -> bytes:
        """One entry out of its bundle."""
        data, entries = self._file("entries", index // 256, self.size), []
        while data:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2 : 2 + length])
            data = data[2 + length :]
        return entries[index % 256]

    def tree_hash(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end]) of RFC 6962, for any subtree of the log."""
        length = end - begin
        level = (length.bit_length() - 1) // 8
        if length == 256**level:
            index = begin >> 8 * level
            tile = self._file(str(level), index // 256, self.size >> 8 * level)
            return tile[index % 256 * 32 :][:32]
        middle = begin + split(length)
        left, right = self.tree_hash(begin, middle), self.tree_hash(middle, end)
        return hashlib.sha256(b"\x01" + left + right).digest()

    def inclusion(self, index: int) -> list[bytes]:
        """PATH(m, D[n]) of RFC 6962 section 2.1.1."""

        def path(at: int, begin: int, end: int) -> list[bytes]:
            if end - begin == 1:
                return []
            middle = begin + split(end - begin)
            if at < middle:
                return [*path(at, begin, middle), self.tree_hash(middle, end)]
            return [*path(at, middle, end), self.tree_hash(begin, middle)]

        return path(index, 0, self.size)

    def consistency(self, old: int) -> list[bytes]:
        """PROOF(m, D[n]) of RFC 6962 section 2.1.2."""

        def proof(size: int, begin: int, end: int, whole: bool) -> list[bytes]:
            if size == end - begin:
                return [] if whole else [self.tree_hash(begin, end)]
            middle = split(end - begin)
            if size <= middle:
                return [*proof(size, begin, begin + middle, whole), self.tree_hash(begin + middle, end)]
            return [*proof(size - middle, begin + middle, end, False), self.tree_hash(begin, begin + middle)]

        return proof(old, 0, self.size, True)

    def _file(self, kind: str, number: int, count: int) -> bytes:
        path, rest = f"{number % 1000:03}", number // 1000
        while rest:
            path, rest = f"x{rest % 1000:03}/{path}", rest // 1000
        if number == count // 256:
            path += f".p/{count % 256}"
        data = (self.folder / "tile" / kind / path).read_bytes()
        assert kind == "entries" or len(data) == 32 * (256 if number < count // 256 else count % 256)
        return data


def split(size: int) -> int:
    """The largest power of two smaller than a size."""
    return 1 << (size - 1).bit_length() - 1


def included(reader: TileReader, index: int) -> bool:
    """Whether an entry's path leads to the root of the checkpoint (RFC 6962 section 2.1.1)."""
    result = _climb(hashlib.sha256(b"\x00" + reader.entry(index)).digest(), index, reader.size, reader.inclusion(index))
    return result == reader.root


def _climb(hash_: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    if size == 1:
        return hash_
    middle, below, beside = split(size), path[:-1], path[-1]
    if index < middle:
        return hashlib.sha256(b"\x01" + _climb(hash_, index, middle, below) + beside).digest()
    return hashlib.sha256(b"\x01" + beside + _climb(hash_, index - middle, size - middle, below)).digest()


def consistent(proof: list[bytes], old: int, old_root: bytes, size: int, root: bytes) -> bool:
    """Whether a proof leads from an old root to a new one (RFC 6962 section 2.1.2, read backwards)."""
    rest = list(proof)

    def roots(old: int, size: int, whole: bool) -> tuple[bytes, bytes]:
        if old == size:
            known = old_root if whole else rest.pop(0)
            return known, known
        middle = split(size)
        if old <= middle:
            before, after = roots(old, middle, whole)
            return before, node(after, rest.pop(0))
        before, after = roots(old - middle, size - middle, False)
        beside = rest.pop(0)
        return node(beside, before), node(beside, after)

    node: Callable[[bytes, bytes], bytes] = lambda left, right: hashlib.sha256(b"\x01" + left + right).digest()  # noqa: E731
    return roots(old, size, True) == (old_root, root) and not rest
