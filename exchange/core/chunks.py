"""What entries left in the state, by their places in the log: only chunks that changed are hashed again (ADR 0009)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

CHUNK = 64
"""Entries of the log to a chunk: one that changes is encoded again whole, and each costs a hash at every opening."""


class Placed(Protocol):
    """Anything that an entry left."""

    @property
    def index(self) -> int:
        """The entry's place in the log."""
        ...


R = TypeVar("R", bound=Placed)


class Chunk(ABC, Generic[R]):
    """The records of up to `CHUNK` entries that follow each other in the log; an immutable value.

    `digest` is no part of the value: it remembers what was computed from it, and is empty until somebody has.
    """

    __slots__ = ("digest",)

    def __init__(self, digest: bytes = b"") -> None:
        self.digest = digest

    @property
    @abstractmethod
    def records(self) -> tuple[R, ...]:
        """All of them, by index."""

    def of_owner(self, owner: str) -> Iterable[R]:
        """Those that a party of this name owns, and maybe others."""
        return self.records

    def at(self, index: int) -> R | None:
        """What the entry of this index left, if it left anything."""
        return next((record for record in self.records if record.index == index), None)

    def with_record(self, record: R) -> "Folded[R]":
        """The chunk with one record more, or with this one in the place of what the same entry left before."""
        records = self.records
        if not records or records[-1].index < record.index:
            return Folded((*records, record))
        others = (other for other in records if other.index != record.index)
        return Folded(tuple(sorted((*others, record), key=lambda placed: placed.index)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chunk) and self.records == other.records

    def __hash__(self) -> int:
        return hash(self.records)


class Folded(Chunk[R]):
    """A chunk whose records are in memory."""

    __slots__ = ("_records",)

    def __init__(self, records: tuple[R, ...] = ()) -> None:
        # Written out, as one is made for every entry.
        self.digest = b""
        self._records = records

    @property
    def records(self) -> tuple[R, ...]:
        """All of them, by index."""
        return self._records

    def with_record(self, record: R) -> "Folded[R]":
        """As of any chunk; what comes next, as nearly all do, is put behind the others at once."""
        records = self._records
        if records and records[-1].index >= record.index:
            return super().with_record(record)
        return Folded((*records, record))


def record_at(chunks: Mapping[int, Chunk[R]], index: int) -> R | None:
    """What the entry of an index left, if it left anything.

    Args:
        chunks: by their numbers.
    """
    chunk = chunks.get(index // CHUNK)
    return chunk.at(index) if chunk is not None else None
