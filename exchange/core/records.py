"""What an entry left in the state as bytes: one encoding for each record, and for each chunk of them (ADR 0009).

A kind of entry that leaves more than its object id needs a field of `EntryState.left`, a record in `core/state.py` with
a table and a method `with_…` in `State`; a branch in `encode_record` and in `decode_record` here, and a column; and a
table over that column in `core/kept.py`. Everything else, the digest and what is kept included, follows.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

from exchange.core.bars import Barring
from exchange.core.chunks import CHUNK
from exchange.core.envelope import DIGEST
from exchange.core.errors import DecodeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.people import Named, mandate_names, officer_names
from exchange.core.state import HISTORIC, MAX_ENTRY, OBJECT_ID, KeyRecord, Other, Record, Version, is_digest
from exchange.core.wire import decode, encode
from exchange.v1.directory_pb2 import DirectoryChunk, EntryKind, EntryState, KeyState, Role, Suite, VersionState
from exchange.v1.guardrail_pb2 import Guardrail
from exchange.v1.people_pb2 import Mandate, Stewardship

MAX_CHUNK = 2 * CHUNK * MAX_ENTRY

_ROLES, _SUITES, _KINDS = (frozenset(kind.values()) - {0} for kind in (Role, Suite, EntryKind))


@lru_cache(maxsize=16_384)
def name_key(text: str) -> bytes:
    """How a name or a code stands in a row: SHA-256 of it, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


# --- one record ---------------------------------------------------------------------------------------


def encode_record(record: Record) -> bytes:
    """A record's only encoding: a serialised EntryState."""
    message = EntryState(index=record.index, object_id=record.object_id, digest=record.digest)
    if isinstance(record, Version):
        _set_version(message.version, record)
    elif record.key is not None:
        message.key.CopyFrom(_key_state(record.key))
    elif record.closes:
        message.closes = record.closes
    return encode(message)


def decode_record(data: bytes, size: int) -> Record:
    """The record of an encoding.

    Args:
        data: as `encode_record` gives it.
        size: of the state that it is of.

    Raises:
        CoreError: no record of a state of this size has this encoding.
    """
    said = decode(EntryState, data, 2 * MAX_ENTRY)
    if len(said.object_id) != OBJECT_ID or not is_digest(said.digest) or said.index >= size:
        raise DecodeError("a record of the state has an impossible name, or is of an entry past its size")
    left = said.WhichOneof("left")
    if left == "version":
        return _version(said, size)
    if left == "key":
        return Other(said.index, said.object_id, said.digest, _key(said.key, said.index, size))
    if left == "closes" and len(said.closes) != OBJECT_ID:
        raise DecodeError("a record of the state closes an object of an impossible name")
    return Other(said.index, said.object_id, said.digest, closes=said.closes)


def _key_state(record: KeyRecord) -> KeyState:
    return KeyState(
        party=str(record.party),
        role=record.role,
        suite=record.suite,
        public_key=record.public_key,
        not_before=record.not_before,
        not_after=record.not_after,
        revoked_index=record.revoked_index or 0,
    )


def _key(said: KeyState, index: int, size: int) -> KeyRecord:
    _check_known(_ROLES, said.role)
    _check_known(_SUITES, said.suite)
    party = _party(said.party)
    if party.is_exchange:
        raise DecodeError("a key of the state is a second root")
    return KeyRecord(
        key_id(said.public_key),
        party,
        said.role,
        said.suite,
        said.public_key,
        said.not_before,
        said.not_after,
        index,
        _ended(index, said.revoked_index, size),
    )


def _set_version(said: VersionState, version: Version) -> None:
    said.kind = version.kind
    said.owner = _text(version.owner)
    said.time = version.time
    said.body_sha256 = version.body_sha256
    if version.purpose is not None:
        said.purpose.CopyFrom(version.purpose)
    if version.rules is not None:
        said.rules.CopyFrom(version.rules)
    said.ended_index = version.ended_index or 0
    said.superseded_by = version.superseded_by or b""
    if isinstance(version.barring, Guardrail):
        said.guardrail.CopyFrom(version.barring)
    elif version.barring is not None:
        said.suspension.CopyFrom(version.barring)
    if isinstance(version.named, Mandate):
        said.mandate.CopyFrom(version.named)
    elif isinstance(version.named, Stewardship):
        said.stewardship.CopyFrom(version.named)
    elif version.named is not None:
        said.officer.CopyFrom(version.named)
    said.SetInParent()


def _version(said: EntryState, size: int) -> Version:
    version = said.version
    _check_known(_KINDS, version.kind)
    if len(version.body_sha256) not in (0, DIGEST) or len(version.superseded_by) not in (0, DIGEST):
        raise DecodeError("a version of the state has a digest of an impossible length")
    return Version(
        said.digest,
        version.kind,
        said.object_id,
        _party(version.owner),
        said.index,
        version.time,
        version.body_sha256,
        version.purpose if version.HasField("purpose") else None,
        _ended(said.index, version.ended_index, size),
        version.superseded_by or None,
        _barring(version),
        version.rules if version.HasField("rules") else None,
        _named(version),
    )


def _barring(version: VersionState) -> Barring | None:
    said = version.WhichOneof("barring")
    if said is None:
        return None
    return version.guardrail if said == "guardrail" else version.suspension


def _named(version: VersionState) -> Named | None:
    said = version.WhichOneof("named")
    named: Named | None = getattr(version, said) if said is not None else None
    return named


def _ended(index: int, ended: int, size: int) -> int | None:
    if ended and not index < ended < size:
        raise DecodeError("a record of the state ended when it could not")
    return ended or None


def _check_known(known: frozenset[int], number: int) -> None:
    if number not in known:
        raise DecodeError("a record of the state has a number that this version does not know")


@lru_cache(maxsize=16_384)
def _text(party: Party) -> str:
    return str(party)


@lru_cache(maxsize=16_384)
def _party(name: str) -> Party:
    return Party.parse(name)


# --- a chunk ------------------------------------------------------------------------------------------

Rows = Callable[[Record], tuple[bytes, ...]]
"""The keys under which a column of a chunk has a record."""


def _keys(record: Record) -> tuple[bytes, ...]:
    return (record.key.key_id,) if isinstance(record, Other) and record.key is not None else ()


def _parties(record: Record) -> tuple[bytes, ...]:
    return (name_key(_text(record.key.party)),) if isinstance(record, Other) and record.key is not None else ()


def _entries(record: Record) -> tuple[bytes, ...]:
    return (record.digest,)


def _objects(record: Record) -> tuple[bytes, ...]:
    closes = record.closes if isinstance(record, Other) else b""
    return (record.object_id, closes) if closes else (record.object_id,)


def _purposes(record: Record) -> tuple[bytes, ...]:
    is_purpose = isinstance(record, Version) and record.purpose is not None
    return (name_key(record.purpose.code),) if is_purpose else ()  # type: ignore[union-attr]


def _histories(record: Record) -> tuple[bytes, ...]:
    return (record.object_id,) if isinstance(record, Version) and record.kind in HISTORIC else ()


def _owners(record: Record) -> tuple[bytes, ...]:
    return (name_key(_text(record.owner)),) if isinstance(record, Version) else ()


def _officers(record: Record) -> tuple[bytes, ...]:
    names = officer_names(record.owner, record.named) if isinstance(record, Version) else ()
    return tuple(name_key(name) for name in names)


def _mandates(record: Record) -> tuple[bytes, ...]:
    return tuple(name_key(name) for name in mandate_names(record.named)) if isinstance(record, Version) else ()


COLUMNS: Mapping[str, Rows] = MappingProxyType(
    {
        "keys": _keys,
        "parties": _parties,
        "entries": _entries,
        "objects": _objects,
        "purposes": _purposes,
        "histories": _histories,
        "owners": _owners,
        "officers": _officers,
        "mandates": _mandates,
    }
)
"""The columns of a chunk, one for each way to look a record up: a row is a key, and a byte for the record's place."""


WIDTHS: Mapping[str, int] = MappingProxyType(
    {name: OBJECT_ID if name in {"objects", "histories"} else DIGEST for name in COLUMNS}
)
"""Bytes of the key in each row of a column."""


def encode_chunk(records: Sequence[Record]) -> bytes:
    """A chunk's only encoding: a serialised DirectoryChunk; nothing for no records."""
    return encode(chunk_message(records))


def chunk_message(records: Sequence[Record]) -> DirectoryChunk:
    """A chunk before it is serialised."""
    columns = {
        name: b"".join([key + bytes((place,)) for place, record in enumerate(records) for key in rows(record)])
        for name, rows in COLUMNS.items()
    }
    return DirectoryChunk(**columns, records=map(encode_record, records))


def decode_chunk(message: DirectoryChunk, number: int, size: int) -> tuple[Record, ...]:
    """All records of a chunk, with its columns checked against them.

    Args:
        message: as `chunk_message` gives it, decoded.
        number: which one it is.
        size: of the state that it is of.

    Raises:
        CoreError: no chunk of this number has this encoding.
    """
    records = tuple(decode_record(data, size) for data in message.records)
    places = [record.index for record in records]
    if places and not (number * CHUNK <= places[0] and places[-1] < (number + 1) * CHUNK):
        raise DecodeError("a record of the state is in another chunk than its own")
    if not all(one < other for one, other in pairwise(places)):
        raise DecodeError("the records of the state are out of order")
    if chunk_message(records) != message:
        raise DecodeError("the columns of a chunk are not those of its records")
    return records
