"""The folded state of the directory as bytes: snapshot entries have its digest, mirrors keep it (DESIGN section 7).

A state has one encoding: a serialised DirectoryState, made and read in parts that follow each other, so that memory
does not hold it twice. A part ends between two records, wherever that is: the digest is of all of them together.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from immutables import Map

from exchange.core.envelope import DIGEST
from exchange.core.errors import DecodeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, KeyRecord, State, Version, genesis, is_digest
from exchange.core.wire import FORMAT, encode
from exchange.v1.directory_pb2 import (
    DirectoryState,
    EntryKind,
    KeyState,
    ObjectState,
    Role,
    Suite,
    VersionState,
)
from exchange.v1.guardrail_pb2 import Guardrail, Suspension

EVERY = 10_000
"""Entries from one snapshot to the next."""

PART = 1000
"""Records in one part."""

_ROLES, _SUITES, _KINDS = (frozenset(kind.values()) - {0} for kind in (Role, Suite, EntryKind))

T = TypeVar("T")


def encode_state(state: State) -> Iterator[bytes]:
    """The one encoding of a state, in parts.

    Args:
        state: of any size.
    """
    root = next(record for record in state.keys.values() if record.index < 0)
    head = DirectoryState(
        format=FORMAT, origin=state.origin, size=state.size, time=state.time, root_key=root.public_key
    )
    yield encode(head)
    keys = sorted((record for record in state.keys.values() if record.index >= 0), key=lambda record: record.index)
    versions = sorted(state.versions.values(), key=lambda version: version.index)
    objects = sorted(item for item in state.objects.items() if item[1] not in state.versions)
    for some_keys in _parts(keys):
        yield encode(DirectoryState(keys=map(_key_state, some_keys)))
    for some_versions in _parts(versions):
        yield encode(DirectoryState(versions=map(_version_state, some_versions)))
    for some_objects in _parts(objects):
        described = [ObjectState(object_id=name, digest=digest) for name, digest in some_objects]
        yield encode(DirectoryState(objects=described))


def digest_of(parts: Iterable[bytes]) -> bytes:
    """SHA-256 of an encoding, 32 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def state_digest(state: State) -> bytes:
    """SHA-256 of a state's encoding, 32 bytes: what a snapshot entry says of it.

    The last one is remembered: a broker asks for it twice, and a mirror that read a state has it already.
    """
    known, digest = _last[0]
    if known is not state:
        digest = digest_of(encode_state(state))
        _last[0] = (state, digest)
    return digest


_last: list[tuple[State | None, bytes]] = [(None, b"")]


def decode_state(parts: Iterable[bytes]) -> State:
    """The state of an encoding.

    Args:
        parts: as `encode_state` gave them.

    Raises:
        DecodeError: no state has this encoding.
    """
    digest = hashlib.sha256()
    reading: _Reading | None = None
    for part in parts:
        digest.update(part)
        message = _parsed(part)
        if reading is None:
            reading = _Reading(message)
        reading.take(message)
    if reading is None:
        raise DecodeError("the state is empty")
    state = reading.state()
    _last[0] = (state, digest.digest())
    return state


@dataclass(slots=True)
class _Reading:
    """A state that is being read: records so far, and the parties' names, each parsed once."""

    head: DirectoryState
    keys: dict[bytes, KeyRecord] = field(default_factory=dict)
    parties: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    versions: dict[bytes, Version] = field(default_factory=dict)
    objects: dict[bytes, bytes] = field(default_factory=dict)
    purposes: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, Party] = field(default_factory=dict)
    last: tuple[int, int | bytes] = (0, -1)

    def take(self, part: DirectoryState) -> None:
        """Add the records of a part, which follow those before it."""
        if part is not self.head and (part.format or part.origin or part.size or part.time or part.root_key):
            raise DecodeError("a state begins once")
        self._follow(0, [record.index for record in part.keys])
        self._follow(1, [record.index for record in part.versions])
        self._follow(2, [record.object_id for record in part.objects])
        for key in part.keys:
            self._add_key(key)
        for version in part.versions:
            self._add_version(version)
        for item in part.objects:
            if len(item.object_id) != OBJECT_ID or not is_digest(item.digest) or item.digest in self.versions:
                raise DecodeError("an object of the state is impossible")
            self.objects[item.object_id] = item.digest

    def state(self) -> State:
        """All of it."""
        head = self.head
        if head.format != FORMAT or not head.root_key:
            raise DecodeError(f"the state has no root key, or format {head.format}; this version reads {FORMAT}")
        start = genesis(head.origin, head.root_key)
        state = State(
            head.origin,
            head.size,
            head.time,
            Map({**start.keys, **self.keys}),
            Map({**start.parties, **self.parties}),
            Map(self.versions),
            Map(self.objects),
            Map(self.purposes),
        )
        # By index, as the versions came.
        for version in self.versions.values():
            if version.barring is not None and version.ended_index is None:
                state = replace(state, bars=state.bars_after(version))
        return state

    def _follow(self, group: int, places: Sequence[int] | Sequence[bytes]) -> None:
        """Records come by group, and in each group by their place, each once."""
        if not places:
            return
        before: tuple[int, int | bytes] = self.last if self.last[0] == group else (group, b"" if group == 2 else -1)
        inside = all(one < other for one, other in pairwise((before[1], *places)))
        if self.last[0] > group or not inside:
            raise DecodeError("the records of the state are out of order")
        if isinstance(places[-1], int) and places[-1] >= self.head.size:
            raise DecodeError("a record of the state is of an entry past its size")
        self.last = (group, places[-1])

    def _party(self, name: str) -> Party:
        known = self.names.get(name)
        if known is None:
            known = self.names[name] = Party.parse(name)
        return known

    def _ended(self, index: int, ended: int) -> int | None:
        if ended and not index < ended < self.head.size:
            raise DecodeError("a record of the state ended when it could not")
        return ended or None

    def _add_key(self, key: KeyState) -> None:
        _check_known(_ROLES, key.role)
        _check_known(_SUITES, key.suite)
        record = KeyRecord(
            key_id(key.public_key),
            self._party(key.party),
            key.role,
            key.suite,
            key.public_key,
            key.not_before,
            key.not_after,
            key.index,
            self._ended(key.index, key.revoked_index),
        )
        if record.key_id in self.keys or record.party.is_exchange:
            raise DecodeError("a key of the state is there twice, or is a second root")
        self.keys[record.key_id] = record
        self.parties[key.party] = (*self.parties.get(key.party, ()), record.key_id)

    def _add_version(self, said: VersionState) -> None:
        _check_known(_KINDS, said.kind)
        if not is_digest(said.digest) or said.digest in self.versions or len(said.object_id) != OBJECT_ID:
            raise DecodeError("a version of the state is there twice, or has an impossible name")
        if len(said.body_sha256) not in (0, DIGEST) or len(said.superseded_by) not in (0, DIGEST):
            raise DecodeError("a version of the state has a digest of an impossible length")
        version = Version(
            said.digest,
            said.kind,
            said.object_id,
            self._party(said.owner),
            said.index,
            said.time,
            said.body_sha256,
            said.purpose if said.HasField("purpose") else None,
            self._ended(said.index, said.ended_index),
            said.superseded_by or None,
            said.guardrail if said.HasField("guardrail") else said.suspension if said.HasField("suspension") else None,
            rules=said.rules if said.HasField("rules") else None,
        )
        self.versions[version.digest] = version
        self.objects[version.object_id] = version.digest
        if version.purpose is not None:
            self.purposes[version.purpose.code] = version.digest


def _parsed(part: bytes) -> DirectoryState:
    # Not `decode`: its bound on parts is for messages from outside, and each record is checked as it is taken.
    message = DirectoryState()
    try:
        message.ParseFromString(part)
    except (ProtobufDecodeError, ValueError) as error:
        raise DecodeError("the state cannot be parsed") from error
    message.DiscardUnknownFields()
    if encode(message) != part:
        raise DecodeError("the state is not in its canonical form: unknown fields or another order")
    return message


def _check_known(known: frozenset[int], number: int) -> None:
    if number not in known:
        raise DecodeError("a record of the state has a number that this version does not know")


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PART] for start in range(0, len(items), PART))


def _key_state(record: KeyRecord) -> KeyState:
    return KeyState(
        party=str(record.party),
        role=record.role,
        suite=record.suite,
        public_key=record.public_key,
        not_before=record.not_before,
        not_after=record.not_after,
        index=record.index,
        revoked_index=record.revoked_index or 0,
    )


def _version_state(version: Version) -> VersionState:
    return VersionState(
        digest=version.digest,
        kind=version.kind,
        object_id=version.object_id,
        owner=str(version.owner),
        index=version.index,
        time=version.time,
        body_sha256=version.body_sha256,
        purpose=version.purpose,
        ended_index=version.ended_index or 0,
        superseded_by=version.superseded_by or b"",
        guardrail=version.barring if isinstance(version.barring, Guardrail) else None,
        suspension=version.barring if isinstance(version.barring, Suspension) else None,
        rules=version.rules,
    )
