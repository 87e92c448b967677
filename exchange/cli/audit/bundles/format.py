"""What an offline bundle holds: everything that proves some entries of the access log, and nothing to be believed.

    bundle                 the exchange, the sizes of both logs, the ranges of access entries
    policy                 the witness policy of whoever made it, for information
    directory/checkpoint   signed, and cosigned where witnesses are known
    directory/leaves/0     256 leaves, each behind its length (uint32, big-endian), and so on from 256
    directory/bodies/0     their bodies
    access/checkpoint
    access/nodes           the hashes of the complete nodes beside the ranges, 32 bytes each, left to right
    access/leaves/1000     the leaves of a range, in steps of 256 from its first
    access/bodies/1000

Names and order follow from the first member, so an unknown, missing, repeated or misplaced one is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from exchange.cli.audit.bundles.archive import Archive, ArchiveWriter
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.client.errors import EvidenceError
from exchange.core.errors import CoreError
from exchange.core.merkle import MAX_SIZE
from exchange.core.note import MAX_NOTE
from exchange.core.policy import MAX_POLICY
from exchange.core.ranges import check_ranges

CHUNK: Final = 256
MAX_LEAF: Final = 0xFFFF
MAX_BODY: Final = 1 << 18
MAX_RANGES: Final = 1 << 16

_LENGTH: Final = 4
_MAX_NODES: Final = 32 * 64 * (MAX_RANGES + 1)
_MAX_MANIFEST: Final = 64 * MAX_RANGES
_FIRST: Final = "exchange-audit bundle v1"
_NUMBER: Final = "(0|[1-9][0-9]{0,18})"
_HEAD: Final = re.compile(rf"{_FIRST}\n([^\n]{{1,255}})\ndirectory {_NUMBER}\naccess {_NUMBER}\n")
_RANGE: Final = re.compile(rf"range {_NUMBER}:{_NUMBER}\n")

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says that it holds.

    Args:
        exchange: its name.
        directory, access: entries of the logs that its checkpoints sign.
        ranges: of access entries, first and the one behind the last; they ascend and do not touch.
    """

    exchange: str
    directory: int
    access: int
    ranges: Ranges

    def encode(self) -> bytes:
        """The first member."""
        ranges = "".join(f"range {first}:{stop}\n" for first, stop in self.ranges)
        return f"{_FIRST}\n{self.exchange}\ndirectory {self.directory}\naccess {self.access}\n{ranges}".encode()

    @property
    def names(self) -> Iterator[str]:
        """Every member's name, in order."""
        yield from ("bundle", "policy", "directory/checkpoint")
        yield from _chunk_names("directory", ((0, self.directory),))
        yield from ("access/checkpoint", "access/nodes")
        yield from _chunk_names("access", self.ranges)


def parse_manifest(data: bytes) -> Manifest:
    """Read the one encoding of a manifest.

    Raises:
        EvidenceError: not one.
    """
    text = data.decode("utf-8", "replace")
    head = _HEAD.match(text)
    if head is None:
        raise EvidenceError("this is no bundle of `exchange-audit bundle`")
    ranges = tuple((int(item[1]), int(item[2])) for item in _RANGE.finditer(text, head.end()))
    manifest = Manifest(head[1], int(head[2]), int(head[3]), ranges)
    if manifest.encode() != data or len(ranges) > MAX_RANGES or manifest.directory > MAX_SIZE:
        raise EvidenceError("the bundle's first member is malformed")
    try:
        check_ranges(ranges, manifest.access)
    except CoreError as error:
        raise EvidenceError(f"the bundle's first member is malformed: {error}") from error
    return manifest


class BundleWriter:
    """Writes a bundle's members in their order.

    Args:
        file: open for writing, empty.
        manifest: what it will hold.
        policy: the text of a witness policy, or empty.
    """

    def __init__(self, file: BinaryIO, manifest: Manifest, policy: str) -> None:
        self._archive = ArchiveWriter(file)
        self._archive.add("bundle", manifest.encode())
        self._archive.add("policy", policy.encode())

    def log(self, log: str, checkpoint: bytes, nodes: Sequence[bytes] | None = None) -> None:
        """Begin with a log: its signed checkpoint, and the access log's nodes beside the ranges."""
        self._archive.add(f"{log}/checkpoint", checkpoint)
        if nodes is not None:
            self._archive.add(f"{log}/nodes", b"".join(nodes))

    def chunk(self, log: str, entries: Sequence[LoggedEntry]) -> None:
        """Write the next entries: as many as `CHUNK`, fewer only at the end of a range.

        Raises:
            EvidenceError: one is too long for a bundle.
        """
        first = entries[0].index
        self._archive.add(f"{log}/leaves/{first}", _framed([entry.leaf for entry in entries], MAX_LEAF))
        self._archive.add(f"{log}/bodies/{first}", _framed([entry.body for entry in entries], MAX_BODY))

    def finish(self) -> None:
        """Write the end."""
        self._archive.finish()


class BundleReader:
    """A bundle, open for reading; nothing of it is verified but its form.

    Args:
        file: open for reading.

    Raises:
        EvidenceError: it is not in its one form.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._archive = Archive(file)
        self.manifest = parse_manifest(self._archive.read("bundle", _MAX_MANIFEST))
        names = iter(self._archive.members)
        for wanted in self.manifest.names:
            found = next(names, None)
            if found != wanted:
                raise EvidenceError(f"the bundle has {found or 'nothing'} where {wanted} belongs")
        if (extra := next(names, None)) is not None:
            raise EvidenceError(f"the bundle has {extra}, which does not belong there")

    @property
    def policy(self) -> str:
        """The policy of whoever made it: for information, never to verify by."""
        return self._archive.read("policy", MAX_POLICY).decode("utf-8", "replace")

    def checkpoint(self, log: str) -> bytes:
        """The signed checkpoint of `directory` or `access`."""
        return self._archive.read(f"{log}/checkpoint", MAX_NOTE)

    def nodes(self) -> list[bytes]:
        """The hashes beside the ranges of the access log."""
        data = self._archive.read("access/nodes", _MAX_NODES)
        return [data[start : start + 32] for start in range(0, len(data), 32)]

    def ranges(self, log: str) -> Ranges:
        """The ranges of a log that are here."""
        return self.manifest.ranges if log == "access" else ((0, self.manifest.directory),)

    def leaves(self, log: str) -> Iterator[tuple[int, list[bytes]]]:
        """The leaves of a log chunk by chunk, each with the index of its first."""
        for first, count in _chunks(self.ranges(log)):
            yield first, self._chunk(f"{log}/leaves/{first}", count, MAX_LEAF)

    def rows(self, log: str) -> Iterator[LoggedEntry]:
        """The entries of a log."""
        for first, leaves in self.leaves(log):
            bodies = self._chunk(f"{log}/bodies/{first}", len(leaves), MAX_BODY)
            for index, (leaf, body) in enumerate(zip(leaves, bodies, strict=True), first):
                yield LoggedEntry(index, leaf, body)

    def _chunk(self, name: str, count: int, limit: int) -> list[bytes]:
        data = self._archive.read(name, count * (limit + _LENGTH))
        parts: list[bytes] = []
        position = 0
        for _ in range(count):
            begin = position + _LENGTH
            position = begin + int.from_bytes(data[position:begin])
            parts.append(data[begin:position])
        # A length that reaches past the end leaves `position` there; one that is too short leaves bytes behind.
        if position != len(data) or any(len(part) > limit for part in parts):
            raise EvidenceError(f"{name} does not hold {count} entries")
        return parts


def _framed(parts: Sequence[bytes], limit: int) -> bytes:
    for part in parts:
        if len(part) > limit:
            raise EvidenceError(f"an entry of {len(part)} bytes is too long for a bundle")
    return b"".join(len(part).to_bytes(_LENGTH) + part for part in parts)


def _chunk_names(log: str, ranges: Ranges) -> Iterator[str]:
    for first, _ in _chunks(ranges):
        yield f"{log}/leaves/{first}"
        yield f"{log}/bodies/{first}"


def _chunks(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """Each chunk's first index, and how many entries it has."""
    for start, stop in ranges:
        for first in range(start, stop, CHUNK):
            yield first, min(CHUNK, stop - first)
