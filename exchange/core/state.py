"""What the directory knows: keys, versions of objects, purposes (DESIGN section 7). Values, never changed in place."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from immutables import Map

from exchange.core.bars import Barring, Bars, StandingSuspension, suspended_target
from exchange.core.chunks import CHUNK, Chunk, Folded
from exchange.core.envelope import DIGEST
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.layered import Table
from exchange.core.names import Party
from exchange.core.people import Named, People
from exchange.core.values import quick
from exchange.v1.directory_pb2 import EntryKind, Purpose, Role, Suite
from exchange.v1.guardrail_pb2 import Guardrail
from exchange.v1.procedure_pb2 import Rules

MAX_ENTRY = 32 * 1024
OBJECT_ID = 16
# An enum's attribute costs more than a hash, and every entry asks for it.
_SIGNING = Suite.SUITE_ECDSA_P256_SHA256
MAX_TEXT = 2000
_OF_BODIES = (EntryKind.ENTRY_KIND_DATASET, EntryKind.ENTRY_KIND_STEP, EntryKind.ENTRY_KIND_STANDING_APPROVAL)
_NAMED = (EntryKind.ENTRY_KIND_PURPOSE, EntryKind.ENTRY_KIND_RULES, EntryKind.ENTRY_KIND_SUCCESSOR)
HISTORIC = frozenset({*_NAMED, *_OF_BODIES})
"""The kinds that are found by their object: bodies are read by what stood when they came."""

RULES_OBJECT = hashlib.sha256(b"exchange.v1/rules").digest()[:OBJECT_ID]
"""The object id of the rules: there is one such object, whose latest version holds."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as the directory knows it. Times are milliseconds; indexes are places in the directory log."""

    key_id: bytes
    party: Party
    role: "Role.ValueType"
    suite: "Suite.ValueType"
    public_key: bytes
    not_before: int
    not_after: int
    index: int
    revoked_index: int | None = None

    def is_valid(self, now: int) -> bool:
        """Whether `now` lies in the key's validity; revocation is asked apart."""
        return self.not_before <= now <= self.not_after

    def stood_at(self, size: int) -> bool:
        """Whether a directory of this size held the key, unrevoked."""
        return self.index < size and (self.revoked_index is None or self.revoked_index >= size)


@quick
@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object that is no key: a purpose, a dataset, an agreement, an officer, say; or a step."""

    digest: bytes
    kind: "EntryKind.ValueType"
    object_id: bytes
    owner: Party
    index: int
    time: int
    body_sha256: bytes
    purpose: Purpose | None = None
    ended_index: int | None = None
    superseded_by: bytes | None = None
    barring: Barring | None = None
    rules: Rules | None = None
    named: Named | None = None

    def stood_at(self, size: int) -> bool:
        """Whether a directory of this size held this version, neither superseded nor revoked."""
        return self.index < size and (self.ended_index is None or self.ended_index >= size)


@quick
@dataclass(frozen=True, slots=True)
class Other:
    """What a valid entry left that gives no version: a key, or only its object id.

    Args:
        index: of the entry; object_id, digest: its own.
        key: that it gave; else None.
        closes: the object whose later versions an erasure shuts out; else empty.
    """

    index: int
    object_id: bytes
    digest: bytes
    key: KeyRecord | None = None
    closes: bytes = b""


Record: TypeAlias = Version | Other
"""What one valid entry left. Every one of them has its index, its object id and its message digest."""

_EMPTY: Folded[Record] = Folded()


@quick
@dataclass(frozen=True, slots=True)
class State:
    """What the leaves of the directory log say, up to `size`.

    Every valid entry leaves one record, which `chunks` has by its place; the tables are the ways to look it up. A rule
    changes both at once through the methods `with_…`. Where a state begins with a snapshot, `core/kept.py` has a table
    for each of these, over the same records.

    Args:
        origin: the exchange's name; size: entries folded; time: of the last valid one, milliseconds.
        keys: by key id; parties: key ids by name, oldest first.
        versions: by message digest; objects: the message digest of each object's latest entry.
        purposes: the latest version by code.
        histories: the versions of each object of a kind in `HISTORIC`, by object id, oldest first.
        chunks: records by the number of their chunk; where there are none, no entry.
        bars: the guardrails and suspensions that stand; people: officers and mandates.
    """

    origin: str
    size: int
    time: int
    keys: Table[bytes, KeyRecord]
    parties: Table[str, tuple[bytes, ...]]
    versions: Table[bytes, Version]
    objects: Table[bytes, bytes]
    purposes: Table[str, bytes]
    histories: Table[bytes, tuple[bytes, ...]]
    chunks: "Map[int, Chunk[Record]]"
    bars: Bars = Bars()  # noqa: RUF009 - an immutable value
    people: People = People()  # noqa: RUF009 - an immutable value

    # Written out, not `replace`, which takes ten times as long: every entry of every fold comes this way.

    def moved(self, size: int, time: int) -> "State":
        """What stands here, at another size and time of the last entry, milliseconds."""
        return State(
            self.origin,
            size,
            time,
            self.keys,
            self.parties,
            self.versions,
            self.objects,
            self.purposes,
            self.histories,
            self.chunks,
            self.bars,
            self.people,
        )

    def with_key(self, key: KeyRecord, object_id: bytes, digest: bytes) -> "State":
        """One key more, which the entry of this object id and message digest gave."""
        name = str(key.party)
        return State(
            self.origin,
            self.size,
            self.time,
            self.keys.set(key.key_id, key),
            self.parties.set(name, (*self.parties.get(name, ()), key.key_id)),
            self.versions,
            self.objects.set(object_id, digest),
            self.purposes,
            self.histories,
            self._recorded(Other(key.index, object_id, digest, key)),
            self.bars,
            self.people,
        )

    def with_version(self, version: Version) -> "State":
        """One version more, the latest of its object."""
        purposes, histories = self.purposes, self.histories
        if version.purpose is not None:
            purposes = purposes.set(version.purpose.code, version.digest)
        if version.kind in HISTORIC:
            before = histories.get(version.object_id, ())
            histories = histories.set(version.object_id, (*before, version.digest))
        return State(
            self.origin,
            self.size,
            self.time,
            self.keys,
            self.parties,
            self.versions.set(version.digest, version),
            self.objects.set(version.object_id, version.digest),
            purposes,
            histories,
            self._recorded(version),
            self._bars_after(version),
            self.people.with_version(version.owner, version.named, version.digest),
        )

    def with_object(self, index: int, object_id: bytes, digest: bytes, closes: bytes = b"") -> "State":
        """One object id more that is in use; `closes` is an object that has no later version either."""
        objects = self.objects.set(object_id, digest)
        return State(
            self.origin,
            self.size,
            self.time,
            self.keys,
            self.parties,
            self.versions,
            objects.set(closes, digest) if closes else objects,
            self.purposes,
            self.histories,
            self._recorded(Other(index, object_id, digest, closes=closes)),
            self.bars,
            self.people,
        )

    def with_changed_key(self, key: KeyRecord) -> "State":
        """A key that is here already, otherwise: revoked, say."""
        chunk = self.chunks[key.index // CHUNK]
        entry = next(record for record in chunk.records if record.index == key.index)
        return State(
            self.origin,
            self.size,
            self.time,
            self.keys.set(key.key_id, key),
            self.parties,
            self.versions,
            self.objects,
            self.purposes,
            self.histories,
            self._recorded(Other(key.index, entry.object_id, entry.digest, key)),
            self.bars,
            self.people,
        )

    def with_changed_version(self, version: Version) -> "State":
        """A version that is here already, otherwise: ended, say."""
        return State(
            self.origin,
            self.size,
            self.time,
            self.keys,
            self.parties,
            self.versions.set(version.digest, version),
            self.objects,
            self.purposes,
            self.histories,
            self._recorded(version),
            self._bars_after(version),
            self.people,
        )

    def _recorded(self, record: Record) -> "Map[int, Chunk[Record]]":
        number = record.index // CHUNK
        return self.chunks.set(number, self.chunks.get(number, _EMPTY).with_record(record))

    def with_bar(self, version: Version) -> "State":
        """A guardrail or a suspension that is here already, among those that stand."""
        return replace(self, bars=self._bars_after(version))

    def _bars_after(self, version: Version) -> Bars:
        """What bars requests once a version has come, or has ended; a CoreError where it cannot come."""
        said = version.barring
        if said is None:
            return self.bars
        if version.ended_index is not None:
            return self.bars.without(version.digest)
        if isinstance(said, Guardrail):
            return self.bars.with_guardrail(version.digest, said)
        target = suspended_target(said, self._object_of)
        return self.bars.with_suspension(target, StandingSuspension(version.digest, version.owner, said))

    def _object_of(self, digest: bytes) -> bytes:
        version = self.versions.get(digest)
        if version is None:
            raise EntryError("what is suspended is not in the directory")
        return version.object_id

    def records(self) -> "Iterator[Record]":
        """What every valid entry left, by index. It opens all of a snapshot."""
        for number in sorted(self.chunks):
            yield from self.chunks[number].records

    @property
    def rules(self) -> Rules:
        """The rules that stand."""
        return self.rules_at(self.size)

    def historic(self) -> "Iterator[Version]":
        """The latest version of every object of a kind in `HISTORIC`, in no order."""
        return (self.versions[self.histories[object_id][-1]] for object_id in self.histories)

    def versions_of(self, owner: Party) -> "Iterator[Version]":
        """Every version that a party owns, by index, without opening what others own."""
        name = str(owner)
        for number in sorted(self.chunks):
            for record in self.chunks[number].of_owner(name):
                if isinstance(record, Version) and record.owner == owner:
                    yield record

    def purpose_at(self, code: str, size: int) -> "Version | None":
        """The latest registration of a code in a directory of an earlier size, whether or not it stands."""
        latest = self.purposes.get(code)
        if latest is None:
            return None
        # DESIGN section 7: a code belongs to one object, whose versions may have other codes.
        for digest in reversed(self.histories[self.versions[latest].object_id]):
            version = self.versions[digest]
            if version.index < size and version.purpose is not None and version.purpose.code == code:
                return version
        return None

    @property
    def root(self) -> Party:
        """The exchange itself, whose key is out of the trust file."""
        return Party(self.origin)

    def keys_of(self, party: Party) -> tuple[KeyRecord, ...]:
        """All keys that ever stood under a name, oldest first."""
        return tuple(self.keys[key] for key in self.parties.get(str(party), ()))

    def role_of(self, party: Party, now: int) -> "Role.ValueType | None":
        """The role that a valid, unrevoked signing key gives a party now."""
        for record in self.keys_of(party):
            if is_signing(record) and record.revoked_index is None and record.is_valid(now):
                return record.role
        return None

    def rules_at(self, size: int) -> Rules:
        """What the coordinator asked for in procedures in a directory of an earlier size: nothing without rules."""
        for digest in self.histories.get(RULES_OBJECT, ()):
            version = self.versions[digest]
            if version.rules and version.stood_at(size):
                return version.rules
        return Rules()

    def purpose(self, code: str) -> Purpose | None:
        """The registered purpose of this code, unless it is revoked."""
        digest = self.purposes.get(code)
        version = self.versions[digest] if digest is not None else None
        return version.purpose if version is not None and version.ended_index is None else None


class EntryError(CoreError):
    """An entry breaks a rule of the directory."""


class SnapshotDiffersError(EntryError):
    """A broker signed another state than this program folds: one of the two is wrong, and nothing may go on."""


def genesis(origin: str, root_public_key: bytes) -> State:
    """The state before entry 0: nothing but the root key out of the trust file."""
    root = Party(origin)
    record = KeyRecord(
        key_id(root_public_key),
        root,
        Role.ROLE_ROOT,
        Suite.SUITE_ECDSA_P256_SHA256,
        root_public_key,
        0,
        (1 << 63) - 1,
        index=-1,
    )
    return State(
        origin,
        0,
        0,
        Map({record.key_id: record}),
        Map({str(root): (record.key_id,)}),
        Map(),
        Map(),
        Map(),
        Map(),
        Map(),
    )


def is_signing(record: KeyRecord) -> bool:
    """Whether a key signs, rather than seals."""
    return record.suite == _SIGNING


def is_digest(data: bytes) -> bool:
    """Whether `data` has the length of a SHA-256."""
    return len(data) == DIGEST
