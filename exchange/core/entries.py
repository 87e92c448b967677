"""How directory entries are written: payloads, bodies with their salt, key statements (DESIGN section 7)."""

import hashlib
from dataclasses import dataclass

from exchange.core.envelope import ENTRY, Draft, Envelope
from exchange.core.errors import DecodeError
from exchange.core.key_rules import possession_statement, succession_statement
from exchange.core.keys import Signer
from exchange.core.names import Party
from exchange.core.state import RULES_OBJECT
from exchange.core.successions import BREAKS_OBJECT
from exchange.core.terms import SALT
from exchange.core.wire import FORMAT, encode
from exchange.v1.directory_pb2 import (
    Agreement,
    Application,
    Dataset,
    DirectoryLeaf,
    Entry,
    EntryKind,
    Erased,
    Key,
    KeyStatement,
    Purpose,
    Revocation,
    Role,
    Snapshot,
    Successor,
    Suite,
)
from exchange.v1.guardrail_pb2 import Guardrail, Suspension
from exchange.v1.people_pb2 import Mandate, OfficerStanding, Stewardship
from exchange.v1.procedure_pb2 import Rules, StandingApproval, Step

Body = Dataset | Application | Agreement | Step | StandingApproval

_BODY_KINDS: dict[type[Body], "EntryKind.ValueType"] = {
    Dataset: EntryKind.ENTRY_KIND_DATASET,
    Application: EntryKind.ENTRY_KIND_APPLICATION,
    Agreement: EntryKind.ENTRY_KIND_AGREEMENT,
    Step: EntryKind.ENTRY_KIND_STEP,
    StandingApproval: EntryKind.ENTRY_KIND_STANDING_APPROVAL,
}


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Which object an entry is a version of: its id, 16 random bytes, and the digest of the version before."""

    object_id: bytes
    supersedes: bytes = b""


def body_entry(owner: Party, version: ObjectVersion, body: Body, salt: bytes) -> Draft:
    """An unsigned dataset, application, agreement, step or standing approval.

    Args:
        owner: the department that signs.
        version: a new object, or the next version of one.
        body: what it says.
        salt: 32 random bytes, so that the leaf does not give the body away.
    """
    if len(salt) != SALT:
        raise DecodeError(f"the salt has {SALT} bytes")
    attachment = salt + encode(body)
    entry = _entry(owner, version, _BODY_KINDS[type(body)])
    entry.body_sha256 = hashlib.sha256(attachment).digest()
    return Draft(ENTRY, encode(entry), (attachment,))


def purpose_entry(owner: Party, version: ObjectVersion, purpose: Purpose) -> Draft:
    """An unsigned purpose, for the coordinator to sign."""
    entry = _entry(owner, version, EntryKind.ENTRY_KIND_PURPOSE)
    entry.purpose.CopyFrom(purpose)
    return Draft(ENTRY, encode(entry))


def rules_entry(owner: Party, rules: Rules, supersedes: bytes = b"") -> Draft:
    """Unsigned rules of procedures, for the coordinator to sign; `supersedes` is the digest of those before."""
    entry = _entry(owner, ObjectVersion(RULES_OBJECT, supersedes), EntryKind.ENTRY_KIND_RULES)
    entry.rules.CopyFrom(rules)
    return Draft(ENTRY, encode(entry))


def revocation_entry(owner: Party, object_id: bytes, target: bytes, reason: str, since: int = 0) -> Draft:
    """An unsigned revocation of a version (by message digest) or a key (by key id).

    Args:
        owner: who revokes.
        object_id: 16 random bytes.
        target: 32 bytes; reason: everybody can read it.
        since: of a key, from when on its owner does not vouch for what it signed, milliseconds; 0 for no such word.
    """
    entry = _entry(owner, ObjectVersion(object_id), EntryKind.ENTRY_KIND_REVOCATION)
    entry.revocation.CopyFrom(Revocation(target=target, reason=reason, since=since))
    return Draft(ENTRY, encode(entry))


def guardrail_entry(owner: Party, version: ObjectVersion, guardrail: Guardrail) -> Draft:
    """An unsigned guardrail, for the coordinator to sign."""
    entry = _entry(owner, version, EntryKind.ENTRY_KIND_GUARDRAIL)
    entry.guardrail.CopyFrom(guardrail)
    return Draft(ENTRY, encode(entry))


def suspension_entry(owner: Party, object_id: bytes, suspension: Suspension) -> Draft:
    """An unsigned suspension, for the coordinator, or the department whose it is, to sign."""
    entry = _entry(owner, ObjectVersion(object_id), EntryKind.ENTRY_KIND_SUSPENSION)
    entry.suspension.CopyFrom(suspension)
    return Draft(ENTRY, encode(entry))


def officer_entry(owner: Party, version: ObjectVersion, officer: OfficerStanding) -> Draft:
    """An unsigned registration or removal of an officer, for the department to sign."""
    entry = _entry(owner, version, EntryKind.ENTRY_KIND_OFFICER)
    entry.officer.CopyFrom(officer)
    return Draft(ENTRY, encode(entry))


def stewardship_entry(owner: Party, version: ObjectVersion, needed: int) -> Draft:
    """An unsigned word of a department on how many stewards it needs, 1 or 2."""
    entry = _entry(owner, version, EntryKind.ENTRY_KIND_STEWARDSHIP)
    entry.stewardship.CopyFrom(Stewardship(needed=needed))
    return Draft(ENTRY, encode(entry))


def mandate_entry(owner: Party, object_id: bytes, mandate: Mandate) -> Draft:
    """An unsigned mandate of an auditor, for the coordinator to sign."""
    entry = _entry(owner, ObjectVersion(object_id), EntryKind.ENTRY_KIND_MANDATE)
    entry.mandate.CopyFrom(mandate)
    return Draft(ENTRY, encode(entry))


def successor_entry(owner: Party, successor: Successor, supersedes: bytes = b"") -> Draft:
    """An unsigned declaration that the access log lost its end, for the root; `supersedes` names the one before."""
    entry = _entry(owner, ObjectVersion(BREAKS_OBJECT, supersedes), EntryKind.ENTRY_KIND_SUCCESSOR)
    entry.successor.CopyFrom(successor)
    return Draft(ENTRY, encode(entry))


def erased_entry(owner: Party, object_id: bytes, erased: Erased) -> Draft:
    """An unsigned erasure of a body, or of bodies of the access log."""
    entry = _entry(owner, ObjectVersion(object_id), EntryKind.ENTRY_KIND_ERASED)
    entry.erased.CopyFrom(erased)
    return Draft(ENTRY, encode(entry))


def snapshot_entry(broker: Party, object_id: bytes, size: int, state_sha256: bytes) -> Draft:
    """An unsigned snapshot: what the directory of this size folds to."""
    entry = _entry(broker, ObjectVersion(object_id), EntryKind.ENTRY_KIND_SNAPSHOT)
    entry.snapshot.CopyFrom(Snapshot(size=size, state_sha256=state_sha256))
    return Draft(ENTRY, encode(entry))


def key_entry(owner: Party, object_id: bytes, statement: KeyStatement, csr: bytes = b"") -> Draft:
    """An unsigned key statement, for the parent to sign; the certificate request travels beside it."""
    entry = _entry(owner, ObjectVersion(object_id), EntryKind.ENTRY_KIND_KEY)
    entry.key.CopyFrom(statement)
    return Draft(ENTRY, encode(entry), (csr,) if csr else ())


def signing_key_statement(
    origin: str,
    party: Party,
    role: "Role.ValueType",
    signer: Signer,
    validity: tuple[int, int],
    *,
    csr: bytes = b"",
    predecessor: Signer | None = None,
) -> KeyStatement:
    """The statement of a new signing key, with proof of possession.

    Args:
        origin: the exchange's name.
        party: whose key; role: its one role.
        signer: holds the new key.
        validity: not before and not after, milliseconds.
        csr: PKCS #10, DER, for the party's TLS certificate; empty without one.
        predecessor: an earlier key of the same party, which spares a later one its 72 hours.
    """
    key = Key(
        format=FORMAT,
        party=str(party),
        role=role,
        suite=Suite.SUITE_ECDSA_P256_SHA256,
        public_key=signer.public_key,
        not_before=validity[0],
        not_after=validity[1],
    )
    statement = encode(key)
    return KeyStatement(
        statement=statement,
        possession=signer.sign(possession_statement(origin, statement)),
        succession=predecessor.sign(succession_statement(origin, statement)) if predecessor else b"",
        csr_sha256=hashlib.sha256(csr).digest() if csr else b"",
    )


def sealing_key_statement(system: Party, public_key: bytes, validity: tuple[int, int]) -> KeyStatement:
    """The statement of a system's sealing key, which the system's signing key signs."""
    key = Key(
        format=FORMAT,
        party=str(system),
        role=Role.ROLE_SYSTEM,
        suite=Suite.SUITE_MLKEM768_X25519,
        public_key=public_key,
        not_before=validity[0],
        not_after=validity[1],
    )
    return KeyStatement(statement=encode(key))


def directory_leaf(envelope: Envelope, time: int) -> bytes:
    """The leaf of a signed entry: format, the broker's time in milliseconds, the envelope without attachments."""
    return encode(DirectoryLeaf(format=FORMAT, time=time, envelope=envelope.bare().encode()))


def _entry(owner: Party, version: ObjectVersion, kind: "EntryKind.ValueType") -> Entry:
    return Entry(
        format=FORMAT,
        kind=kind,
        owner=str(owner),
        object_id=version.object_id,
        supersedes=version.supersedes,
    )
