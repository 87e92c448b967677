"""The rules of directory entries, one function a kind (DESIGN sections 3 and 7); deny by default."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from exchange.core.appointing import check_mandate, check_officer, check_stewardship
from exchange.core.bars import Barring
from exchange.core.key_rules import new_key
from exchange.core.merkle import MAX_SIZE
from exchange.core.names import is_code
from exchange.core.people import Named
from exchange.core.signed import Signed
from exchange.core.snapshot import state_digest
from exchange.core.state import (
    MAX_TEXT,
    RULES_OBJECT,
    EntryError,
    KeyRecord,
    SnapshotDiffersError,
    State,
    Version,
    is_digest,
)
from exchange.core.successions import BREAKS_OBJECT, check_successor
from exchange.core.suspending import check_suspension
from exchange.v1.directory_pb2 import Entry, EntryKind, Purpose, Role
from exchange.v1.procedure_pb2 import Rules

# An enum's attribute costs more than a hash, and every entry asks for it.
_DEPARTMENT = Role.ROLE_DEPARTMENT

Rule = Callable[[State, Signed], State]

_RESERVED = {RULES_OBJECT: EntryKind.ENTRY_KIND_RULES, BREAKS_OBJECT: EntryKind.ENTRY_KIND_SUCCESSOR}

# Who takes steps in procedures; which ones, the procedure says.
STEPPING = frozenset({Role.ROLE_DEPARTMENT, Role.ROLE_HEAD, Role.ROLE_COORDINATOR, Role.ROLE_SYSTEM})


def judge(state: State, signed: Signed) -> State:
    """Fold an entry that `read_leaf` accepted.

    Raises:
        CoreError: the rule of its kind is broken; the text says which.
    """
    rule = _RULES.get(signed.entry.kind)
    if rule is None:
        raise EntryError("this kind of entry has no rules")
    return rule(state, signed)


def _key(state: State, signed: Signed) -> State:
    statement = _body(signed.entry, "key").key
    _new_object(state, signed.entry)
    record = new_key(state, signed, statement)
    return state.with_key(record, signed.entry.object_id, signed.envelope.digest)


def _purpose(state: State, signed: Signed) -> State:
    purpose = _body(signed.entry, "purpose").purpose
    _require_role(signed, Role.ROLE_COORDINATOR)
    texts = (purpose.label, purpose.label_en, purpose.legal_basis)
    if not is_code(purpose.code) or not purpose.label or any(len(text) > MAX_TEXT for text in texts):
        raise EntryError("a purpose has a code, a label and texts of at most 2,000 characters")
    registered = state.purposes.get(purpose.code)
    if registered is not None and state.versions[registered].object_id != signed.entry.object_id:
        raise EntryError(f"the purpose {purpose.code} is registered already")
    return _add_version(state, signed, purpose=purpose)


def _described(state: State, signed: Signed) -> State:
    """A dataset, application, agreement or standing approval: the leaf holds only the digest of its body."""
    body_sha256 = _body(signed.entry, "body_sha256").body_sha256
    _require_role(signed, _DEPARTMENT)
    if not is_digest(body_sha256):
        raise EntryError("the body's digest has an impossible length")
    return _add_version(state, signed, body_sha256)


def _step(state: State, signed: Signed) -> State:
    """Something that somebody does in a procedure: what, is in its body; whether it may come now, `open` says."""
    body_sha256 = _body(signed.entry, "body_sha256").body_sha256
    if signed.signer.role not in STEPPING:
        raise EntryError(f"{signed.signer.party} takes no steps in procedures")
    if not is_digest(body_sha256) or signed.entry.supersedes:
        raise EntryError(
            "a step has a digest of its body, and supersedes nothing: it is done, and the next one follows"
        )
    return _add_version(state, signed, body_sha256)


def _adopted(state: State, signed: Signed) -> State:
    """The rules of procedures: one object, whose id is the same in every exchange."""
    rules = _body(signed.entry, "rules").rules
    _require_role(signed, Role.ROLE_COORDINATOR)
    if signed.entry.object_id != RULES_OBJECT:
        raise EntryError("the rules have one object id, the same in every exchange")
    if not is_code(rules.jurisdiction) or not is_digest(rules.rules_sha256):
        raise EntryError("the rules name a jurisdiction, and the digest of its file")
    return _add_version(state, signed, rules=rules)


def _revocation(state: State, signed: Signed) -> State:
    revocation = _body(signed.entry, "revocation").revocation
    _new_object(state, signed.entry)
    if len(revocation.reason) > MAX_TEXT:
        raise EntryError("a reason has at most 2,000 characters")
    grown = _add_object(state, signed)
    key = state.keys.get(revocation.target)
    if revocation.since and (key is None or revocation.since > signed.time):
        raise EntryError("a revocation says since when of a key alone, and of no time to come")
    if key is not None:
        return _revoke_key(grown, signed, key)
    version = state.versions.get(revocation.target)
    if version is None:
        raise EntryError("what is to be revoked is not in the directory")
    return _revoke_version(grown, signed, version)


def _revoke_key(state: State, signed: Signed, key: KeyRecord) -> State:
    if key.role == Role.ROLE_ROOT or not signed.signer.party.covers(key.party):
        raise EntryError(f"{signed.signer.party} cannot revoke a key of {key.party}")
    if key.revoked_index is not None:
        raise EntryError("the key is revoked already")
    return state.with_changed_key(replace(key, revoked_index=signed.index))


def _revoke_version(state: State, signed: Signed, version: Version) -> State:
    owner, signer = version.owner, signed.signer.party
    # DESIGN section 7: a system may revoke its own department's agreements, never grant.
    is_system = signed.signer.role == Role.ROLE_SYSTEM
    own_system = version.kind == EntryKind.ENTRY_KIND_AGREEMENT and is_system and owner.covers(signer)
    if version.kind == EntryKind.ENTRY_KIND_STEP:
        raise EntryError("a step is done: it cannot be revoked")
    if version.kind == EntryKind.ENTRY_KIND_STEWARDSHIP:
        # Else one steward alone could end what asks for two.
        raise EntryError("how many stewards are needed is not revoked: the department says it anew, with its own key")
    # DESIGN section 1: the coordinator mediates; what anybody has suspended, it lifts.
    lifted = version.kind == EntryKind.ENTRY_KIND_SUSPENSION and signed.signer.role == Role.ROLE_COORDINATOR
    if signer != owner and not own_system and not lifted:
        raise EntryError(f"{signer} cannot revoke what {owner} owns")
    if version.ended_index is not None:
        raise EntryError("it is revoked or superseded already")
    return state.with_changed_version(replace(version, ended_index=signed.index))


def _erased(state: State, signed: Signed) -> State:
    """Which body may be blanked: DESIGN section 7, "Erasing a body never changes the fold"."""
    erased = _body(signed.entry, "erased").erased
    _new_object(state, signed.entry)
    if not all(0 < len(text) <= MAX_TEXT for text in (erased.reason, erased.legal_basis)):
        raise EntryError("an erasure has a reason and a legal basis, of at most 2,000 characters each")
    if erased.WhichOneof("target") == "digest":
        return _erase_version(state, signed, erased.digest)
    _require_role(signed, Role.ROLE_COORDINATOR)
    if not erased.access.first < erased.access.end <= MAX_SIZE:
        raise EntryError("an erasure names a body, or entries of the access log")
    return _add_object(state, signed)


def _erase_version(state: State, signed: Signed, digest: bytes) -> State:
    version = state.versions.get(digest)
    if version is None or not version.body_sha256:
        raise EntryError("what is to be erased is no body of the directory")
    if version.owner != signed.signer.party:
        raise EntryError(f"{signed.signer.party} cannot erase what {version.owner} owns")
    latest = state.versions.get(state.objects[version.object_id])
    if latest is not None and latest.ended_index is None:
        raise EntryError("the object still stands: revoke it first")
    # Closed for good: a later version would be opened by those alone who read the earlier ones in time.
    return _add_object(state, signed, closes=version.object_id)


def _snapshot(state: State, signed: Signed) -> State:
    snapshot = _body(signed.entry, "snapshot").snapshot
    _require_role(signed, Role.ROLE_BROKER)
    _new_object(state, signed.entry)
    if snapshot.size != state.size:
        raise EntryError("a snapshot is of the directory just before it")
    if snapshot.state_sha256 != state_digest(state):
        text = f"the directory of {state.size} entries folds to another state here than {signed.signer.party} signed"
        raise SnapshotDiffersError(text)
    return _add_object(state, signed)


def _add_object(state: State, signed: Signed, closes: bytes = b"") -> State:
    return state.with_object(signed.index, signed.entry.object_id, signed.envelope.digest, closes)


def _guardrail(state: State, signed: Signed) -> State:
    """An exchange-wide rule; its code is its own among those that stand."""
    said = _body(signed.entry, "guardrail").guardrail
    _require_role(signed, Role.ROLE_COORDINATOR)
    return _add_version(state, signed, barring=said)


def _suspension(state: State, signed: Signed) -> State:
    """Something is held up, until then or until it is lifted: a suspension has one version."""
    said = _body(signed.entry, "suspension").suspension
    _new_object(state, signed.entry)
    check_suspension(state, signed, said)
    return _add_version(state, signed, barring=said)


def _officer(state: State, signed: Signed) -> State:
    """An officer of the department that signs: one object each, whose latest version says whether it was removed."""
    said = _body(signed.entry, "officer").officer
    check_officer(state, signed, said)
    return _add_version(state, signed, named=said)


def _stewardship(state: State, signed: Signed) -> State:
    """How many stewards the department that signs needs: one object, whose latest version holds."""
    said = _body(signed.entry, "stewardship").stewardship
    check_stewardship(state, signed, said)
    return _add_version(state, signed, named=said)


def _mandate(state: State, signed: Signed) -> State:
    """What an auditor may read: a mandate has one version."""
    said = _body(signed.entry, "mandate").mandate
    _new_object(state, signed.entry)
    check_mandate(state, signed, said)
    return _add_version(state, signed, named=said)


def _successor(state: State, signed: Signed) -> State:
    """The access log's end was lost: the root says which, and from where the log goes on. It stands for good."""
    said = _body(signed.entry, "successor").successor
    _require_role(signed, Role.ROLE_ROOT)
    if signed.entry.object_id != BREAKS_OBJECT:
        raise EntryError("declared breaks have one object id, the same in every exchange")
    check_successor(state.origin, said)
    return _add_version(state, signed)


def _add_version(
    state: State,
    signed: Signed,
    body_sha256: bytes = b"",
    purpose: Purpose | None = None,
    rules: Rules | None = None,
    barring: Barring | None = None,
    named: Named | None = None,
) -> State:
    """One version more, with the digest of its body, or with what its entry says."""
    entry, digest = signed.entry, signed.envelope.digest
    if entry.supersedes:
        before = _superseded(state, signed)
        ended = signed.index if before.ended_index is None else before.ended_index
        state = state.with_changed_version(replace(before, ended_index=ended, superseded_by=digest))
    else:
        _new_object(state, entry)
    version = Version(
        digest,
        entry.kind,
        entry.object_id,
        signed.signer.party,
        signed.index,
        signed.time,
        body_sha256,
        purpose,
        rules=rules,
        barring=barring,
        named=named,
    )
    return state.with_version(version)


def _superseded(state: State, signed: Signed) -> Version:
    entry = signed.entry
    version = state.versions.get(entry.supersedes)
    if version is None or state.objects.get(entry.object_id) != entry.supersedes:
        raise EntryError("it does not supersede the object's latest version")
    if version.owner != signed.signer.party or version.kind != entry.kind:
        raise EntryError("it supersedes an object of another owner or kind")
    return version


def _new_object(state: State, entry: Entry) -> None:
    if entry.supersedes:
        raise EntryError("this entry supersedes nothing")
    object_id = entry.object_id
    # Whoever took it first would keep the coordinator from ever adopting rules.
    is_taken = _RESERVED.get(object_id, entry.kind) != entry.kind
    if is_taken or object_id in state.objects:
        raise EntryError("the object id is in use")


def _require_role(signed: Signed, role: "Role.ValueType") -> None:
    if signed.signer.role != role:
        raise EntryError(f"{signed.signer.party} is not a {Role.Name(role).removeprefix('ROLE_').lower()}")


def _body(entry: Entry, name: str) -> Entry:
    if entry.WhichOneof("body") != name:
        raise EntryError("the entry's body does not fit its kind")
    return entry


_RULES: Mapping["EntryKind.ValueType", Rule] = MappingProxyType(
    {
        EntryKind.ENTRY_KIND_KEY: _key,
        EntryKind.ENTRY_KIND_PURPOSE: _purpose,
        EntryKind.ENTRY_KIND_DATASET: _described,
        EntryKind.ENTRY_KIND_APPLICATION: _described,
        EntryKind.ENTRY_KIND_AGREEMENT: _described,
        EntryKind.ENTRY_KIND_STANDING_APPROVAL: _described,
        EntryKind.ENTRY_KIND_STEP: _step,
        EntryKind.ENTRY_KIND_RULES: _adopted,
        EntryKind.ENTRY_KIND_REVOCATION: _revocation,
        EntryKind.ENTRY_KIND_SUSPENSION: _suspension,
        EntryKind.ENTRY_KIND_GUARDRAIL: _guardrail,
        EntryKind.ENTRY_KIND_OFFICER: _officer,
        EntryKind.ENTRY_KIND_MANDATE: _mandate,
        EntryKind.ENTRY_KIND_STEWARDSHIP: _stewardship,
        EntryKind.ENTRY_KIND_ERASED: _erased,
        EntryKind.ENTRY_KIND_SNAPSHOT: _snapshot,
        EntryKind.ENTRY_KIND_SUCCESSOR: _successor,
    }
)
