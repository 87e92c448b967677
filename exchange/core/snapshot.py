"""The folded state of the directory as bytes: snapshot entries have its digest, mirrors keep it (DESIGN section 7).

A state is encoded in parts: a head, then one for every `CHUNK` entries. Its digest is the root of the RFC 6962 tree
over them, so that only the chunks that changed since the last one are encoded and hashed again (ADR 0009).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exchange.core.chunks import CHUNK, Chunk, Folded
from exchange.core.envelope import ENTRY, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.kept import Kept, KeptChunk, SnapshotBrokenError
from exchange.core.merkle import leaf_hash, root_of
from exchange.core.records import MAX_CHUNK, encode_chunk
from exchange.core.state import MAX_ENTRY, Record, State
from exchange.core.wire import FORMAT, decode, encode
from exchange.v1.directory_pb2 import DirectoryChunk, DirectoryLeaf, DirectoryState, Entry, EntryKind

EVERY = 10_000
"""Entries from one snapshot to the next."""

_EMPTY: Folded[Record] = Folded()


def encode_state(state: State) -> Iterator[bytes]:
    """The one encoding of a state: its head, then every chunk.

    Args:
        state: of any size.
    """
    return (encode_part(state, number) for number in range(1 + _chunks(state.size)))


def encode_part(state: State, number: int) -> bytes:
    """One part of it: the head is number 0."""
    return _encoded(state.chunks.get(number - 1, _EMPTY)) if number else _head(state)


def part_hashes(state: State) -> list[bytes]:
    """The leaf hash of every part, 32 bytes each; those of chunks are computed once for each chunk."""
    hashes = [_digest(state.chunks.get(number, _EMPTY)) for number in range(_chunks(state.size))]
    return [leaf_hash(_head(state)), *hashes]


def state_digest(state: State) -> bytes:
    """What a snapshot entry says of a state, 32 bytes: the tree's root over its parts."""
    return root_of(part_hashes(state))


def digest_of(parts: Sequence[bytes]) -> bytes:
    """The digest of the state that these parts are of, 32 bytes."""
    return root_of([leaf_hash(part) for part in parts])


@dataclass(frozen=True, slots=True)
class Opened:
    """A state whose records are opened as they are looked up.

    Args:
        state: as it was when it was encoded.
        root_key: SubjectPublicKeyInfo of the root that it begins with.
        digest: of its parts, 32 bytes: nothing in `state` is to be used before this is what a snapshot entry says.
        kept: what the state is over.
    """

    state: State
    root_key: bytes
    digest: bytes
    kept: Kept


def open_state(parts: Sequence[bytes]) -> Opened:
    """The state of an encoding.

    Args:
        parts: as `encode_state` gave them.

    Raises:
        DecodeError: no state has this encoding, as far as that shows before its records are opened; each is checked
            when it is.
    """
    if not parts:
        raise DecodeError("the state is empty")
    head = decode(DirectoryState, parts[0], MAX_ENTRY)
    if not head.root_key or len(parts) != 1 + _chunks(head.size):
        raise DecodeError("the state has no root key, or another number of chunks than its size asks for")
    hashes = [leaf_hash(part) for part in parts]
    chunks = [
        KeptChunk(decode(DirectoryChunk, part, MAX_CHUNK), number, head.size, digest)
        for number, (part, digest) in enumerate(zip(parts[1:], hashes[1:], strict=True))
    ]
    kept = Kept(chunks)
    try:
        state = kept.state(head)
    except SnapshotBrokenError as error:
        raise DecodeError(str(error)) from error
    return Opened(state, head.root_key, root_of(hashes), kept)


def said_digest(leaf: bytes, size: int) -> bytes | None:
    """What a leaf says that a directory of a size folds to, if it is a snapshot entry; who signed it is asked apart.

    Args:
        leaf: a serialised DirectoryLeaf.
        size: its index.
    """
    try:
        frame = decode(DirectoryLeaf, leaf, MAX_ENTRY)
        entry = decode(Entry, decode_envelope(frame.envelope, ENTRY, MAX_ENTRY).payload, MAX_ENTRY)
    except CoreError:
        return None
    is_of_size = entry.kind == EntryKind.ENTRY_KIND_SNAPSHOT and entry.snapshot.size == size
    return entry.snapshot.state_sha256 if is_of_size else None


def _head(state: State) -> bytes:
    root = next(record for record in state.keys_of(state.root) if record.index < 0)
    return encode(
        DirectoryState(
            format=FORMAT,
            origin=state.origin,
            size=state.size,
            time=state.time,
            root_key=root.public_key,
            bars=sorted(state.versions[digest].index for digest in state.bars.digests()),
        )
    )


def _chunks(size: int) -> int:
    return -(-size // CHUNK)


def _encoded(chunk: Chunk[Record]) -> bytes:
    return chunk.encode() if isinstance(chunk, KeptChunk) else encode_chunk(chunk.records)


def _digest(chunk: Chunk[Record]) -> bytes:
    if not chunk.digest:
        chunk.digest = leaf_hash(_encoded(chunk))
    return chunk.digest
