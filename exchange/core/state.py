"""What the directory knows: keys, versions of objects, purposes (DESIGN section 7). Values, never changed in place."""

import hashlib
from dataclasses import dataclass

from immutables import Map

from exchange.core.bars import Barring, Bars, StandingSuspension, suspended_target
from exchange.core.envelope import DIGEST, Envelope, verify_signature
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.v1.directory_pb2 import Entry, EntryKind, Purpose, Role, Suite
from exchange.v1.guardrail_pb2 import Guardrail
from exchange.v1.procedure_pb2 import Rules

MAX_ENTRY = 32 * 1024
OBJECT_ID = 16
MAX_TEXT = 2000

RULES_OBJECT = hashlib.sha256(b"exchange.v1/rules").digest()[:OBJECT_ID]
"""The object id of the rules: there is one such object, whose latest version holds."""

_NO_RULES = Rules()


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


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a purpose, dataset, application, agreement, guardrail, suspension or of the rules; or a step.

    `barring` is what a guardrail or a suspension says.
    """

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

    def stood_at(self, size: int) -> bool:
        """Whether a directory of this size held this version, neither superseded nor revoked."""
        return self.index < size and (self.ended_index is None or self.ended_index >= size)


@dataclass(frozen=True, slots=True)
class State:
    """What the leaves of the directory log say, up to `size`."""

    origin: str
    size: int
    time: int
    keys: Map[bytes, KeyRecord]
    parties: Map[str, tuple[bytes, ...]]
    versions: Map[bytes, Version]
    objects: Map[bytes, bytes]
    purposes: Map[str, bytes]
    bars: Bars = Bars()  # noqa: RUF009 - an immutable value

    def moved(self, size: int, time: int) -> "State":
        """What stands here, at another size and time of the last entry, milliseconds."""
        # Written out: every entry of every fold comes this way, and `replace` takes ten times as long.
        return State(
            self.origin, size, time, self.keys, self.parties, self.versions, self.objects, self.purposes, self.bars
        )

    def bars_after(self, version: Version) -> Bars:
        """What bars requests once a version of a guardrail or a suspension has come, or has ended; this state has it.

        Raises:
            CoreError: the guardrail is not in its form, another one has its code, or nobody knows what is suspended.
        """
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

    def keys_of(self, party: Party) -> tuple[KeyRecord, ...]:
        """All keys that ever stood under a name, oldest first."""
        return tuple(self.keys[key] for key in self.parties.get(str(party), ()))

    def role_of(self, party: Party, now: int) -> "Role.ValueType | None":
        """The role that a valid, unrevoked signing key gives a party now."""
        for record in self.keys_of(party):
            if is_signing(record) and record.revoked_index is None and record.is_valid(now):
                return record.role
        return None

    @property
    def rules(self) -> Rules:
        """What the coordinator asks for in procedures: nothing, while there are no rules or they are revoked."""
        return self.rules_at(self.size)

    def rules_at(self, size: int) -> Rules:
        """The same, in a directory of this size, to which the latest rules here belong."""
        digest = self.objects.get(RULES_OBJECT)
        version = self.versions[digest] if digest is not None else None
        return version.rules if version is not None and version.rules and version.stood_at(size) else _NO_RULES

    def purpose(self, code: str) -> Purpose | None:
        """The registered purpose of this code, unless it is revoked."""
        digest = self.purposes.get(code)
        version = self.versions[digest] if digest is not None else None
        return version.purpose if version is not None and version.ended_index is None else None


@dataclass(frozen=True, slots=True)
class Signed:
    """An entry whose leaf and frame could be read: what a rule judges."""

    index: int
    time: int
    envelope: Envelope
    entry: Entry
    signer: KeyRecord


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
    )


def is_signing(record: KeyRecord) -> bool:
    """Whether a key signs, rather than seals."""
    return record.suite == Suite.SUITE_ECDSA_P256_SHA256


def signing_record(state: State, envelope: Envelope, now: int) -> KeyRecord:
    """The directory's record of the key that signed an envelope, which is valid and not revoked.

    Raises:
        EntryError: unknown, sealing, outside its validity, or revoked.
        SignatureError: the signature does not verify.
    """
    record = state.keys.get(envelope.key_id)
    if record is None or not is_signing(record):
        raise EntryError("the signing key is not in the directory")
    verify_signature(envelope, state.origin, record.public_key)
    if record.revoked_index is not None:
        raise EntryError(f"the signing key of {record.party} is revoked")
    if not record.is_valid(now):
        raise EntryError(f"the signing key of {record.party} is not valid at this time")
    return record


def is_digest(data: bytes) -> bool:
    """Whether `data` has the length of a SHA-256."""
    return len(data) == DIGEST
