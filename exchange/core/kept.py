"""A state that begins with a snapshot: its bytes, whose records are opened as they are looked up (ADR 0009).

Whoever makes one proves the bytes first, by the digest of a snapshot entry that the log has.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Generic, TypeVar

from immutables import Map

from exchange.core.chunks import CHUNK, Chunk
from exchange.core.errors import DecodeError
from exchange.core.layered import Layered
from exchange.core.people import People, mandate_names, officer_names
from exchange.core.records import COLUMNS, WIDTHS, decode_chunk, decode_record, name_key
from exchange.core.state import KeyRecord, Other, Record, State, Version, genesis
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import DirectoryChunk, DirectoryState

SCANS = 16
"""Lookups in one column before its index is worth its time and memory: a command needs a few, a broker needs all."""

OPENED = 65_536
"""Records that stay open."""

K = TypeVar("K")
V = TypeVar("V")


class SnapshotBrokenError(Exception):
    """A snapshot that a broker signed contradicts itself: a fault of the program that made it. Nothing may go on."""


class KeptChunk(Chunk[Record]):
    """A chunk of a snapshot.

    Args:
        message: decoded; number: which one; size: of the state; digest: leaf hash of its bytes.
    """

    __slots__ = ("_number", "_opened", "_size", "message")

    def __init__(self, message: DirectoryChunk, number: int, size: int, digest: bytes) -> None:
        super().__init__(digest)
        self.message, self._number, self._size = message, number, size
        self._opened = self.record

    @property
    def records(self) -> tuple[Record, ...]:
        """All of them, by index; opened each time."""
        return decode_chunk(self.message, self._number, self._size)

    def record(self, place: int) -> Record:
        """One of them."""
        return decode_record(self.message.records[place], self._size)

    def at(self, index: int) -> Record | None:
        """What the entry of this index left, if it left anything."""
        place = bisect_left(range(len(self.message.records)), index, key=lambda place: self._opened(place).index)
        found = self._opened(place) if place < len(self.message.records) else None
        return found if found is not None and found.index == index else None

    def through(self, opened: "Callable[[int], Record]") -> None:
        """Open records by their places in the whole state from here on, through what keeps them open."""
        self._opened = lambda place: opened(self._number * CHUNK + place)

    def of_owner(self, owner: str) -> Iterator[Record]:
        """Those that the column of owners has under this name."""
        return map(self._opened, _places(self.message.owners, name_key(owner)))

    def encode(self) -> bytes:
        """The chunk's bytes."""
        return encode(self.message)


class Column:
    """The rows of one column in all chunks, searched as they are; once that has cost enough, through an index.

    Args:
        chunks: of the whole state.
        name: the column's.
    """

    def __init__(self, chunks: Sequence[KeptChunk], name: str) -> None:
        self._chunks = chunks
        self._name = name
        self._scans = 0
        self._index: dict[bytes, int | tuple[int, ...]] | None = None

    def places(self, key: bytes) -> tuple[int, ...]:
        """Where the records of a key are, in the order of their entries; a place is chunk × `CHUNK` + place in it."""
        if len(key) != WIDTHS[self._name]:
            # Bodies name what they like, and rows of another width would be read askew.
            return ()
        if self._index is None and self._scans < SCANS:
            self._scans += 1
            return tuple(self._scan(key))
        found = self.prepare().get(key, ())
        return found if isinstance(found, tuple) else (found,)

    def prepare(self) -> "dict[bytes, int | tuple[int, ...]]":
        """The index, made once."""
        if self._index is None:
            self._index = self._indexed(WIDTHS[self._name])
        return self._index

    def _scan(self, key: bytes) -> Iterator[int]:
        for number, chunk in enumerate(self._chunks):
            for place in _places(getattr(chunk.message, self._name), key):
                yield number * CHUNK + place

    def _indexed(self, width: int) -> dict[bytes, int | tuple[int, ...]]:
        index: dict[bytes, int | tuple[int, ...]] = {}
        step = width + 1
        for number, chunk in enumerate(self._chunks):
            rows: bytes = getattr(chunk.message, self._name)
            first = number * CHUNK
            keys = [rows[start : start + width] for start in range(0, len(rows), step)]
            if len(set(keys)) == len(keys) and index.keys().isdisjoint(keys):
                index.update(zip(keys, [first + place for place in rows[width::step]], strict=True))
                continue
            for key, place in zip(keys, rows[width::step], strict=True):
                before = index.get(key, ())
                index[key] = (*(before if isinstance(before, tuple) else (before,)), first + place)
        return index


class KeptTable(Mapping[K, V], Generic[K, V]):
    """A table of the state over the bytes of a snapshot.

    Args:
        find: the value of a key, or None.
        keys: all of them, each once.
    """

    def __init__(self, find: Callable[[K], V | None], keys: Callable[[], Iterator[K]]) -> None:
        self._find = find
        self._keys = keys

    def __getitem__(self, key: K) -> V:
        value = self._find(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[K]:
        return self._keys()

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Kept:
    """The tables over the bytes of a snapshot.

    Args:
        chunks: all of them, in order.
    """

    def __init__(self, chunks: Sequence[KeptChunk]) -> None:
        self._chunks = tuple(chunks)
        self._columns = {name: Column(self._chunks, name) for name in COLUMNS}
        self._record = lru_cache(maxsize=OPENED)(self._open)
        for chunk in self._chunks:
            chunk.through(self._record)

    def prepare(self) -> None:
        """Make the indexes that a process needs which looks much up, before it waits for them."""
        for name in ("keys", "parties", "entries", "objects", "officers"):
            self._columns[name].prepare()

    def state(self, head: DirectoryState) -> State:
        """The state, with the root key over it, and all that bars requests.

        Raises:
            CoreError: the head names as a guardrail or suspension what is none.
        """
        root = genesis(head.origin, head.root_key)
        chunks: dict[int, Chunk[Record]] = {
            number: chunk for number, chunk in enumerate(self._chunks) if chunk.message.records
        }
        state = State(
            head.origin,
            head.size,
            head.time,
            Layered(KeptTable(self._key, self._keys), _map(root.keys)),
            Layered(KeptTable(self._key_ids, self._names), _map(root.parties)),
            Layered(KeptTable(self._version, self._digests)),
            Layered(KeptTable(self._latest, self._objects)),
            Layered(KeptTable(self._purpose, self._codes)),
            Layered(KeptTable(self._history, self._historic)),
            Map(chunks),
            people=People(
                Layered(KeptTable(self._officer, self._officers)), Layered(KeptTable(self._mandates, self._auditors))
            ),
        )
        if not all(one < other for one, other in pairwise(head.bars)):
            raise DecodeError("the guardrails and suspensions of the state are out of order")
        for index in head.bars:
            state = state.with_bar(self._bar(index))
        return state

    def _bar(self, index: int) -> Version:
        """A guardrail or a suspension that stands; there are few, and each is opened at once."""
        chunk = self._chunks[index // CHUNK] if index // CHUNK < len(self._chunks) else None
        found = chunk.at(index) if chunk is not None else None
        if not isinstance(found, Version) or found.barring is None or found.ended_index is not None:
            raise DecodeError(f"entry {index} of the state is no guardrail or suspension that stands")
        return found

    def index_of(self, digest: bytes) -> int | None:
        """The place in the log of the valid entry of a message digest."""
        found = self._one("entries", digest)
        return found.index if found is not None else None

    def _open(self, place: int) -> Record:
        return self._chunks[place // CHUNK].record(place % CHUNK)

    def _found(self, column: str, key: bytes) -> Iterator[Record]:
        """Records by a column, which each have the key that their row says."""
        for place in self._columns[column].places(key):
            record = self._record(place)
            if key not in COLUMNS[column](record):
                raise SnapshotBrokenError(f"a row of the snapshot's {column} leads to another record")
            yield record

    def _one(self, column: str, key: bytes) -> Record | None:
        """The last of them."""
        places = self._columns[column].places(key)[-1:]
        for place in places:
            record = self._record(place)
            if key not in COLUMNS[column](record):
                raise SnapshotBrokenError(f"a row of the snapshot's {column} leads to another record")
            return record
        return None

    def _all(self) -> Iterator[Record]:
        for chunk in self._chunks:
            yield from chunk.records

    def _key(self, key: bytes) -> KeyRecord | None:
        found = self._one("keys", key)
        return found.key if isinstance(found, Other) else None

    def _keys(self) -> Iterator[bytes]:
        return (record.key.key_id for record in self._all() if isinstance(record, Other) and record.key is not None)

    def _key_ids(self, name: str) -> tuple[bytes, ...] | None:
        found = self._found("parties", name_key(name))
        return tuple(key for record in found for key in COLUMNS["keys"](record)) or None

    def _names(self) -> Iterator[str]:
        found = (str(record.key.party) for record in self._all() if isinstance(record, Other) and record.key)
        return iter(dict.fromkeys(found))

    def _version(self, digest: bytes) -> Version | None:
        found = self._one("entries", digest)
        return found if isinstance(found, Version) else None

    def _digests(self) -> Iterator[bytes]:
        return (record.digest for record in self._all() if isinstance(record, Version))

    def _latest(self, object_id: bytes) -> bytes | None:
        found = self._one("objects", object_id)
        return found.digest if found is not None else None

    def _objects(self) -> Iterator[bytes]:
        return iter(dict.fromkeys(key for record in self._all() for key in COLUMNS["objects"](record)))

    def _purpose(self, code: str) -> bytes | None:
        found = self._one("purposes", name_key(code))
        return found.digest if found is not None else None

    def _codes(self) -> Iterator[str]:
        return iter(dict.fromkeys(version.purpose.code for version in self._few("purposes") if version.purpose))

    def _history(self, object_id: bytes) -> tuple[bytes, ...] | None:
        return tuple(record.digest for record in self._found("histories", object_id)) or None

    def _historic(self) -> Iterator[bytes]:
        return iter(dict.fromkeys(version.object_id for version in self._few("histories")))

    def _officer(self, name: str) -> bytes | None:
        found = self._one("officers", name_key(name))
        return found.digest if found is not None else None

    def _officers(self) -> Iterator[str]:
        return iter(
            dict.fromkeys(name for one in self._few("officers") for name in officer_names(one.owner, one.named))
        )

    def _mandates(self, auditor: str) -> tuple[bytes, ...] | None:
        return tuple(record.digest for record in self._found("mandates", name_key(auditor))) or None

    def _auditors(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for version in self._few("mandates") for name in mandate_names(version.named)))

    def _few(self, column: str) -> Iterator[Version]:
        """The versions of a column that has few: chunks without any stay closed."""
        for chunk in self._chunks:
            if getattr(chunk.message, column):
                for record in chunk.records:
                    if isinstance(record, Version) and COLUMNS[column](record):
                        yield record


def _places(rows: bytes, key: bytes) -> Iterator[int]:
    """The places of a column's rows that have this key."""
    width, start = len(key), -1
    while (start := rows.find(key, start + 1)) >= 0:
        # Bytes of two rows next to each other may look like a key.
        if start % (width + 1) == 0:
            yield rows[start + width]


def _map(table: "Map[K, V] | Layered[K, V]") -> "Map[K, V]":
    return table if isinstance(table, Map) else Map(table)
