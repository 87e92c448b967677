"""A tar archive with one encoding (POSIX.1-1988 ustar): any tar reads it, and only what this writes is accepted.

Names, sizes and nothing else vary: no owners, times, links, devices or compression. So nothing can be unpacked to
somewhere else, nothing is larger than it looks, and the same content is the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final

from exchange.client.errors import EvidenceError

MAX_MEMBERS: Final = 1 << 18

_BLOCK: Final = 512
_MAX_SIZE: Final = 8**11 - 1
_NAME: Final = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+){0,3}", re.ASCII)
_MAX_NAME: Final = 99


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's bytes are in the file."""

    offset: int
    size: int


class ArchiveWriter:
    """Writes members in the order they are added.

    Args:
        file: open for writing, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, name: str, data: bytes) -> None:
        """Write a member.

        Raises:
            ValueError: the name is not of lower case letters, digits and slashes.
        """
        self._file.write(_header(name, len(data)))
        self._file.write(data)
        self._file.write(bytes(-len(data) % _BLOCK))

    def finish(self) -> None:
        """Write the end."""
        self._file.write(bytes(2 * _BLOCK))


class Archive:
    """An archive, open for reading.

    Args:
        file: open for reading; all of its headers are read at once, its members when they are asked for.

    Raises:
        EvidenceError: it is not exactly as `ArchiveWriter` writes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, 2)
        self._members = self._index()

    @property
    def members(self) -> Mapping[str, Member]:
        """The members in their order."""
        return MappingProxyType(self._members)

    def read(self, name: str, limit: int) -> bytes:
        """One member.

        Args:
            name: of the member; limit: the most bytes that it may have.

        Raises:
            EvidenceError: there is none, or it is larger.
        """
        member = self._members.get(name)
        if member is None:
            raise EvidenceError(f"the archive has no {name}")
        if member.size > limit:
            raise EvidenceError(f"{name} is {member.size} bytes, and may have {limit}")
        self._file.seek(member.offset)
        data = self._file.read(member.size)
        if len(data) != member.size:
            raise EvidenceError(f"the archive ends within {name}")
        return data

    def _index(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        position = 0
        while any(header := self._block(position)):
            name, size = _read_header(header)
            if name in members:
                raise EvidenceError(f"the archive has {name} twice")
            if len(members) >= MAX_MEMBERS:
                raise EvidenceError(f"the archive has more than {MAX_MEMBERS} members")
            members[name] = Member(position + _BLOCK, size)
            end = position + _BLOCK + size
            position = end + -size % _BLOCK
            if position > self._end:
                raise EvidenceError(f"the archive ends within {name}")
            self._file.seek(end)
            if any(self._file.read(position - end)):
                raise EvidenceError(f"there is something behind {name}")
        if any(self._block(position + _BLOCK)) or self._end != position + 2 * _BLOCK:
            raise EvidenceError("there is something behind the archive's end")
        return members

    def _block(self, position: int) -> bytes:
        self._file.seek(position)
        block = self._file.read(_BLOCK)
        if len(block) != _BLOCK:
            raise EvidenceError("the archive is cut off")
        return block


def _read_header(block: bytes) -> tuple[str, int]:
    name = block[:100].rstrip(b"\0").decode("latin-1")
    size = block[124:135]
    # Every other field is fixed: whatever differs from what we would write is refused.
    if not _NAME.fullmatch(name) or not re.fullmatch(rb"[0-7]{11}", size) or _header(name, int(size, 8)) != block:
        raise EvidenceError(f"not a member as bundles have them: {name[:80]!r}")
    return name, int(size, 8)


def _header(name: str, size: int) -> bytes:
    """POSIX.1-1988 ustar: a plain file of mode 0644, owned by 0, of the beginning of time."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"not a member's name or size: {name[:80]!r}")
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0%011o\0" % (size, 0),
        b" " * 8,
        b"0" + bytes(100),
        b"ustar\x0000" + bytes(64),
        b"0000000\0" * 2,
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
