"""Each rule of the directory refuses the entry that breaks exactly it, and leaves everything as it was."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from exchange.core.entries import ObjectVersion, purpose_entry, revocation_entry
from exchange.core.envelope import ENTRY, Draft
from exchange.core.fold import Applied
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.names import Party
from exchange.core.rules import possession_statement, succession_statement
from exchange.core.state import KeyRecord
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import Entry, EntryKind, Key, KeyStatement, Purpose, Role, Suite
from tests.memory import fixed, sealing_public, signer
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    CIVIL_AFFAIRS,
    COORDINATOR,
    DAY,
    EXCHANGE,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    PURPOSE,
    REGISTRY,
    START,
    YEAR,
    World,
)

ROOT_ROLES = ["DEPARTMENT", "COORDINATOR", "AUDITOR", "BROKER", "WITNESS"]
TRANSPORT = Party(ORIGIN, "transport")
NEW = signer("new")
HOURS_72 = 259_200_000
DAYS_30 = 2_592_000_000


def role(name: str) -> Role.ValueType:
    return Role.Value(f"ROLE_{name}")


def key_draft(
    world: World,
    party: Party | str,
    name: str,
    parent: Party,
    *,
    key: EcdsaSigner = NEW,
    succession: EcdsaSigner | None = None,
    entry: dict[str, Any] | None = None,
    statement: dict[str, Any] | None = None,
    **changes: Any,
) -> Draft:
    """A signing key's entry, right but for the changes of its key, its statement and its entry."""
    fields: dict[str, Any] = {
        "format": 1,
        "party": str(party),
        "role": role(name),
        "suite": Suite.SUITE_ECDSA_P256_SHA256,
        "public_key": key.public_key,
        "not_before": world.now - DAY,
        "not_after": world.now + YEAR,
    }
    data = encode(Key(**(fields | changes)))
    stated: dict[str, Any] = {
        "statement": data,
        "possession": key.sign(possession_statement(ORIGIN, data)),
        "succession": succession.sign(succession_statement(ORIGIN, data)) if succession else b"",
    }
    body = KeyStatement(**(stated | (statement or {})))
    return entry_draft(world, parent, "KEY", key=body, **(entry or {}))


def sealing_draft(world: World, system: Party = REGISTRY, parent: Party = REGISTRY, **changes: Any) -> Draft:
    """A sealing key's entry, right but for the changes."""
    fields = {
        "suite": Suite.SUITE_MLKEM768_X25519,
        "public_key": sealing_public("new"),
        "not_before": world.now,
        "not_after": world.now + DAYS_30,
    }
    statement = {"possession": b""} | changes.pop("statement", {})
    name = changes.pop("name", "SYSTEM")
    return key_draft(world, system, name, parent, statement=statement, **(fields | changes))


def entry_draft(world: World, owner: Party, kind: str, **changes: Any) -> Draft:
    """An entry of any kind, with any body."""
    fields = {"format": 1, "kind": EntryKind.Value(f"ENTRY_KIND_{kind}"), "owner": str(owner)}
    return Draft(ENTRY, encode(Entry(**(fields | {"object_id": world.fresh(16)} | changes))))


def refused(world: World, draft: Draft, party: Party, reason: str) -> None:
    """The entry is refused for this reason, and nothing but the size has changed."""
    before = world.directory
    applied = world.append(draft, party)
    assert reason in applied.reason
    assert world.directory.terms == before.terms
    assert world.directory.state == replace(before.state, size=before.state.size + 1)


def accepted(world: World, draft: Draft, party: Party) -> Applied:
    """The entry holds."""
    applied = world.append(draft, party)
    assert not applied.reason
    return applied


def record_of(world: World, key: EcdsaSigner = NEW) -> KeyRecord:
    """What the directory knows of a key."""
    return world.directory.state.keys[key_id(key.public_key)]


@pytest.fixture
def world() -> World:
    return World.standard()


# --- keys: who signs whose ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROOT_ROLES)
def test_the_root_gives_each_role_of_a_department(world: World, name: str) -> None:
    accepted(world, key_draft(world, TRANSPORT, name, EXCHANGE), EXCHANGE)
    record = record_of(world)
    assert (record.party, record.role, record.suite) == (TRANSPORT, role(name), Suite.SUITE_ECDSA_P256_SHA256)
    assert (record.not_before, record.not_after) == (START - DAY, START + YEAR)
    assert (record.index, record.revoked_index) == (world.directory.size - 1, None)
    assert world.directory.role_of(TRANSPORT, START) == role(name)


@pytest.mark.parametrize("name", ["UNSPECIFIED", "ROOT", "SYSTEM"])
def test_the_root_gives_no_other_role(world: World, name: str) -> None:
    refused(world, key_draft(world, TRANSPORT, name, EXCHANGE), EXCHANGE, "this role")


@pytest.mark.parametrize("name", ["DEPARTMENT", "ROOT", "SYSTEM"])
def test_the_root_signs_no_other_root(world: World, name: str) -> None:
    refused(world, key_draft(world, EXCHANGE, name, EXCHANGE), EXCHANGE, "this role")


@pytest.mark.parametrize("name", [*ROOT_ROLES, "SYSTEM"])
def test_the_root_signs_no_system(world: World, name: str) -> None:
    system = Party(ORIGIN, "population", "new")
    refused(world, key_draft(world, system, name, EXCHANGE), EXCHANGE, "this role")


def test_a_department_signs_its_systems(world: World) -> None:
    system = Party(ORIGIN, "population", "new")
    accepted(world, key_draft(world, system, "SYSTEM", POPULATION), POPULATION)
    assert record_of(world).role == Role.ROLE_SYSTEM


@pytest.mark.parametrize("name", ["UNSPECIFIED", "ROOT", *ROOT_ROLES])
def test_a_department_gives_its_systems_no_other_role(world: World, name: str) -> None:
    system = Party(ORIGIN, "population", "new")
    refused(world, key_draft(world, system, name, POPULATION), POPULATION, "this role")


@pytest.mark.parametrize("name", ["DEPARTMENT", "SYSTEM", "COORDINATOR"])
def test_a_department_signs_no_key_of_its_own_name(world: World, name: str) -> None:
    refused(world, key_draft(world, POPULATION, name, POPULATION), POPULATION, "this role")


@pytest.mark.parametrize(
    "party",
    [
        EXCHANGE,
        HOUSING,
        APPLICATIONS,
        Party(ORIGIN, "population-2"),
        Party(ORIGIN, "population-2", "registry"),
        Party(ORIGIN, "popul"),
        Party("town.example", "population", "registry"),
        Party("example", "population", "registry"),
    ],
    ids=str,
)
def test_a_department_signs_neither_above_nor_beside_its_own_name(world: World, party: Party) -> None:
    refused(world, key_draft(world, party, "SYSTEM", POPULATION), POPULATION, f"cannot sign a key of {party}")


def test_the_root_signs_nothing_of_another_exchange(world: World) -> None:
    stranger = Party("town.example", "transport")
    refused(world, key_draft(world, stranger, "DEPARTMENT", EXCHANGE), EXCHANGE, "cannot sign a key of")


@pytest.mark.parametrize("parent", [COORDINATOR, AUDITOR, BROKER, REGISTRY], ids=str)
def test_only_departments_sign_systems(world: World, parent: Party) -> None:
    below = parent if parent.is_system else Party(ORIGIN, parent.department, "new")
    refused(world, key_draft(world, below, "SYSTEM", parent), parent, "this role")


def test_a_name_keeps_its_one_role(world: World) -> None:
    refused(world, key_draft(world, POPULATION, "AUDITOR", EXCHANGE), EXCHANGE, "another role already")
    world.revoke(key_id(world.keys[AUDITOR].public_key), EXCHANGE)
    refused(world, key_draft(world, AUDITOR, "BROKER", EXCHANGE), EXCHANGE, "another role already")


def test_a_sealing_key_does_not_count_as_a_role(world: World) -> None:
    accepted(world, key_draft(world, REGISTRY, "SYSTEM", POPULATION), POPULATION)
    assert len(world.directory.state.keys_of(REGISTRY)) == 3


# --- keys: what a statement holds --------------------------------------------------------------------


def _p384() -> bytes:
    return (
        ec.derive_private_key(7, ec.SECP384R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def _compressed() -> bytes:
    point = NEW.private_key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    return header + point


KEY_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("validity that ends as it begins", {"not_before": START, "not_after": START}, "validity is empty"),
    ("validity that ends before", {"not_before": START, "not_after": START - 1}, "validity is empty"),
    ("no suite", {"suite": Suite.SUITE_UNSPECIFIED}, "suite is not known"),
    ("a later suite", {"suite": 3}, "number that this version does not know"),
    ("a later role", {"role": 8}, "number that this version does not know"),
    ("a later format", {"format": 2}, "format 2"),
    ("a name of another form", {"party": "exchange://city.example/Transport"}, "name segment"),
    ("a key that is none", {"public_key": b"key"}, "cannot be read"),
    ("a key on another curve", {"public_key": _p384()}, "not on P-256"),
    ("a key in another encoding", {"public_key": _compressed()}, "canonical encoding"),
    ("another's key", {"public_key": signer("stranger").public_key}, "does not prove its possession"),
    ("a key of the directory", {"public_key": signer(str(HOUSING)).public_key}, "in the directory already"),
    ("no proof", {"statement": {"possession": b""}}, "does not prove its possession"),
    ("a proof that is no signature", {"statement": {"possession": bytes(72)}}, "does not prove its possession"),
    ("a statement that is none", {"statement": {"statement": b"\xff"}}, "Key cannot be parsed"),
    ("a short digest", {"statement": {"csr_sha256": bytes(31)}}, "digest has an impossible length"),
    ("a long digest", {"statement": {"csr_sha256": bytes(33)}}, "digest has an impossible length"),
    ("the version before", {"entry": {"supersedes": bytes(32)}}, "supersedes nothing"),
    ("a succession of nothing", {"succession": signer("stranger")}, "only a later key"),
]


@pytest.mark.parametrize(("changes", "reason"), [fault[1:] for fault in KEY_FAULTS], ids=[f[0] for f in KEY_FAULTS])
def test_refuses_a_key_with(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, **changes), EXCHANGE, reason)


def test_a_key_may_be_valid_for_one_millisecond(world: World) -> None:
    accepted(
        world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, not_before=START, not_after=START + 1), EXCHANGE
    )


def test_a_key_statement_may_name_a_certificate_request(world: World) -> None:
    draft = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, statement={"csr_sha256": bytes(32)})
    accepted(world, draft, EXCHANGE)


@pytest.mark.parametrize("origin", ["town.example", "city.example/directory", ""])
def test_a_proof_of_possession_is_for_one_exchange(world: World, origin: str) -> None:
    draft = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE)
    statement = Entry.FromString(draft.payload).key.statement
    proof = NEW.sign(possession_statement(origin, statement))
    fault = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, statement={"possession": proof})
    refused(world, fault, EXCHANGE, "does not prove its possession")


def test_a_succession_is_no_proof_of_possession(world: World) -> None:
    draft = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE)
    statement = Entry.FromString(draft.payload).key.statement
    proof = NEW.sign(succession_statement(ORIGIN, statement))
    fault = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, statement={"possession": proof})
    refused(world, fault, EXCHANGE, "does not prove its possession")


def test_a_key_stays_in_the_directory_when_it_is_revoked(world: World) -> None:
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    again = key_draft(world, REGISTRY, "SYSTEM", POPULATION, key=world.keys[REGISTRY])
    refused(world, again, POPULATION, "in the directory already")


def test_the_object_id_of_a_key_cannot_be_used_again(world: World) -> None:
    taken = {"object_id": world.dataset.object_id}
    refused(world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, entry=taken), EXCHANGE, "object id is in use")
    mine = {"object_id": bytes(16)}
    accepted(world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, entry=mine), EXCHANGE)
    other = key_draft(world, Party(ORIGIN, "x"), "DEPARTMENT", EXCHANGE, key=signer("x"), entry=mine)
    refused(world, other, EXCHANGE, "object id is in use")


# --- keys: the later ones ----------------------------------------------------------------------------


def later(world: World, **changes: Any) -> Draft:
    """One more key for the department of housing."""
    return key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE, **changes)


def test_the_first_key_of_a_name_is_immediate(world: World) -> None:
    accepted(world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, not_before=0), EXCHANGE)
    assert record_of(world).not_before == 0


def test_a_departments_later_key_waits_72_hours_in_public_view(world: World) -> None:
    accepted(world, later(world), EXCHANGE)
    begins = START + HOURS_72
    assert record_of(world).not_before == begins
    world.keys[HOUSING] = NEW
    draft = revocation_entry(HOUSING, world.fresh(16), key_id(signer(str(HOUSING)).public_key), "lost")
    world.now = begins - 1
    refused(world, draft, HOUSING, "not valid at this time")
    world.now = begins
    accepted(world, draft, HOUSING)


def test_a_later_key_may_begin_after_its_72_hours(world: World) -> None:
    accepted(world, later(world, not_before=START + HOURS_72 + 1), EXCHANGE)
    assert record_of(world).not_before == START + HOURS_72 + 1


def test_a_key_that_the_old_one_vouches_for_is_immediate(world: World) -> None:
    accepted(world, later(world, succession=world.keys[HOUSING]), EXCHANGE)
    assert record_of(world).not_before == START - DAY


def test_any_standing_key_of_the_party_vouches(world: World) -> None:
    accepted(world, later(world, succession=world.keys[HOUSING]), EXCHANGE)
    third = signer("third")
    accepted(world, later(world, key=third, succession=world.keys[HOUSING]), EXCHANGE)
    accepted(world, later(world, key=signer("fourth"), succession=third), EXCHANGE)


@pytest.mark.parametrize("label", ["stranger", str(POPULATION), str(APPLICATIONS), str(EXCHANGE), "new", "root"])
def test_a_succession_by_a_key_of_nobody_elses_is_refused(world: World, label: str) -> None:
    refused(world, later(world, succession=signer(label)), EXCHANGE, "no valid earlier key")


def test_a_revoked_key_vouches_for_nobody(world: World) -> None:
    world.revoke(key_id(world.keys[HOUSING].public_key), EXCHANGE)
    refused(world, later(world, succession=world.keys[HOUSING]), EXCHANGE, "no valid earlier key")
    accepted(world, later(world), EXCHANGE)
    assert record_of(world).not_before == START + HOURS_72


def test_an_expired_key_vouches_for_nobody(world: World) -> None:
    brief = signer("brief")
    first = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, key=brief, not_after=START + DAY)
    accepted(world, first, EXCHANGE)
    next_key = key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, succession=brief)
    world.now = START + DAY + 1
    refused(world, next_key, EXCHANGE, "no valid earlier key")
    world.directory_log.leaves.pop()
    twin = World.standard()
    twin.append(first, EXCHANGE)
    twin.now = START + DAY
    accepted(twin, next_key, EXCHANGE)


def test_a_key_in_its_72_hours_vouches_for_nobody(world: World) -> None:
    accepted(world, later(world), EXCHANGE)
    refused(world, later(world, key=signer("third"), succession=NEW), EXCHANGE, "no valid earlier key")


def test_a_possession_proof_is_no_succession(world: World) -> None:
    statement = Entry.FromString(later(world).payload).key.statement
    proof = world.keys[HOUSING].sign(possession_statement(ORIGIN, statement))
    refused(world, later(world, statement={"succession": proof}), EXCHANGE, "no valid earlier key")


def test_a_systems_later_key_is_immediate(world: World) -> None:
    accepted(world, key_draft(world, REGISTRY, "SYSTEM", POPULATION), POPULATION)
    assert record_of(world).not_before == START - DAY


def test_a_systems_later_key_carries_no_succession(world: World) -> None:
    draft = key_draft(world, REGISTRY, "SYSTEM", POPULATION, succession=world.keys[REGISTRY])
    refused(world, draft, POPULATION, "only a later key")


# --- sealing keys ------------------------------------------------------------------------------------


def test_a_system_signs_its_own_sealing_key(world: World) -> None:
    accepted(world, sealing_draft(world), REGISTRY)
    record = world.directory.state.keys[key_id(sealing_public("new"))]
    assert (record.not_before, record.not_after) == (START, START + DAYS_30)
    assert world.directory.sealing_key(REGISTRY, START) == record


SEALING_FAULTS: list[tuple[str, Party, dict[str, Any], str]] = [
    ("signed by its department", POPULATION, {"parent": POPULATION}, "signed by its own system"),
    ("signed by a neighbour", MARRIAGE, {"parent": MARRIAGE}, "cannot sign a key of"),
    ("of a department", POPULATION, {"system": POPULATION, "parent": POPULATION}, "signed by its own system"),
    ("with another role", REGISTRY, {"name": "DEPARTMENT"}, "signed by its own system"),
    ("for 30 days and a millisecond", REGISTRY, {"not_after": START + DAYS_30 + 1}, "at most 30 days"),
    ("with a proof", REGISTRY, {"statement": {"possession": b"p"}}, "carries no proof"),
    ("with a succession", REGISTRY, {"statement": {"succession": b"s"}}, "carries no proof"),
    ("with a certificate request", REGISTRY, {"statement": {"csr_sha256": bytes(32)}}, "carries no proof"),
    ("of another length", REGISTRY, {"public_key": bytes(1215)}, "1,216 bytes"),
    ("that is no ML-KEM key", REGISTRY, {"public_key": b"\xff" * 1216}, "cannot be read"),
    ("in the directory", REGISTRY, {"public_key": sealing_public(str(REGISTRY))}, "in the directory already"),
]


@pytest.mark.parametrize(
    ("party", "changes", "reason"), [f[1:] for f in SEALING_FAULTS], ids=[f[0] for f in SEALING_FAULTS]
)
def test_refuses_a_sealing_key(world: World, party: Party, changes: dict[str, Any], reason: str) -> None:
    refused(world, sealing_draft(world, **changes), party, reason)


def test_a_sealing_key_signs_nothing(world: World) -> None:
    envelope = replace(world.sign(sealing_draft(world), REGISTRY), key_id=world.sealing_key())
    assert "not in the directory" in world.append_envelope(envelope).reason


# --- purposes ----------------------------------------------------------------------------------------


def purpose(world: World, owner: Party = COORDINATOR, version: ObjectVersion | None = None, **changes: Any) -> Draft:
    """A purpose, right but for the changes."""
    fields: dict[str, Any] = {"code": "housing.repair", "label": "维修"}
    return purpose_entry(owner, version or ObjectVersion(world.fresh(16)), Purpose(**(fields | changes)))


@pytest.mark.parametrize("party", [EXCHANGE, AUDITOR, BROKER, POPULATION, REGISTRY], ids=str)
def test_only_a_coordinator_registers_purposes(world: World, party: Party) -> None:
    refused(world, purpose(world, party), party, "is not a coordinator")


@pytest.mark.parametrize(
    "changes",
    [{"code": ""}, {"code": "Housing"}, {"code": "any purpose"}, {"label": ""}]
    + [{name: "字" * 2001} for name in ("label", "label_en", "legal_basis")],
    ids=lambda changes: next(iter(changes)),
)
def test_refuses_a_purpose_that_is_not_in_its_form(world: World, changes: dict[str, str]) -> None:
    refused(world, purpose(world, **changes), COORDINATOR, "a purpose has a code")


def test_a_purposes_texts_have_up_to_2000_characters(world: World) -> None:
    long = "字" * 2000
    accepted(world, purpose(world, label=long, label_en=long, legal_basis=long), COORDINATOR)
    registered = world.directory.state.purpose("housing.repair")
    assert registered is not None
    assert registered.legal_basis == long


def test_a_purposes_code_is_registered_once(world: World) -> None:
    refused(world, purpose(world, code=PURPOSE), COORDINATOR, "registered already")
    world.revoke(world.directory.state.purposes[PURPOSE], COORDINATOR)
    assert world.directory.state.purpose(PURPOSE) is None
    refused(world, purpose(world, code=PURPOSE), COORDINATOR, "registered already")


def test_a_purpose_is_changed_by_its_next_version(world: World) -> None:
    state = world.directory.state
    before = state.versions[state.purposes[PURPOSE]]
    draft = purpose(world, version=ObjectVersion(before.object_id, before.digest), code=PURPOSE, label="分配")
    after = accepted(world, draft, COORDINATOR)
    state = world.directory.state
    assert state.purpose(PURPOSE) == Purpose(code=PURPOSE, label="分配")
    assert state.versions[before.digest] == replace(before, ended_index=after.index, superseded_by=after.digest)


# --- objects and their versions ----------------------------------------------------------------------


KINDS = ["DATASET", "APPLICATION", "AGREEMENT"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_described_object_is_known_by_the_digest_of_its_body(world: World, kind: str) -> None:
    applied = accepted(world, entry_draft(world, POPULATION, kind, body_sha256=bytes(32)), POPULATION)
    version = world.directory.state.versions[applied.digest]
    assert (version.kind, version.owner) == (EntryKind.Value(f"ENTRY_KIND_{kind}"), POPULATION)
    assert (version.index, version.time, version.body_sha256) == (applied.index, START, bytes(32))
    assert (version.purpose, version.ended_index, version.superseded_by) == (None, None, None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("party", [EXCHANGE, COORDINATOR, AUDITOR, BROKER, REGISTRY], ids=str)
def test_only_departments_publish_apply_and_grant(world: World, kind: str, party: Party) -> None:
    refused(world, entry_draft(world, party, kind, body_sha256=bytes(32)), party, "is not a department")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 31, 33])
def test_refuses_a_body_digest_of_another_length(world: World, kind: str, size: int) -> None:
    refused(world, entry_draft(world, POPULATION, kind, body_sha256=bytes(size)), POPULATION, "impossible length")


@pytest.mark.parametrize("kind", ["KEY", "PURPOSE", *KINDS, "REVOCATION"])
def test_refuses_a_body_of_another_kind(world: World, kind: str) -> None:
    bodies: dict[str, Any] = {"purpose": Purpose(code="a")} if kind in KINDS else {"body_sha256": bytes(32)}
    refused(world, entry_draft(world, POPULATION, kind, **bodies), POPULATION, "does not fit its kind")
    refused(world, entry_draft(world, POPULATION, kind), POPULATION, "does not fit its kind")


def test_refuses_an_entry_of_no_kind(world: World) -> None:
    refused(world, entry_draft(world, POPULATION, "UNSPECIFIED", body_sha256=bytes(32)), POPULATION, "has no rules")


def test_refuses_an_entry_of_a_later_kind(world: World) -> None:
    draft = entry_draft(world, POPULATION, "DATASET", body_sha256=bytes(32), kind=7)
    refused(world, draft, POPULATION, "number that this version does not know")


def _next(world: World, owner: Party = POPULATION, kind: str = "DATASET", **changes: Any) -> Draft:
    version = world.dataset.version
    fields = {"object_id": version.object_id, "supersedes": version.digest, "body_sha256": bytes(32)}
    return entry_draft(world, owner, kind, **(fields | changes))


VERSION_FAULTS: list[tuple[str, Callable[[World], Draft], Party, str]] = [
    ("another department's object", lambda world: _next(world, HOUSING), HOUSING, "another owner or kind"),
    ("an object of another kind", lambda w: _next(w, kind="AGREEMENT"), POPULATION, "another owner or kind"),
    ("an unknown version", lambda w: _next(w, supersedes=bytes(32)), POPULATION, "latest version"),
    ("another object's version", lambda w: _next(w, object_id=bytes(16)), POPULATION, "latest version"),
    ("nothing, under an id in use", lambda w: _next(w, supersedes=b""), POPULATION, "object id is in use"),
]


@pytest.mark.parametrize(
    ("draft", "party", "reason"), [f[1:] for f in VERSION_FAULTS], ids=[f[0] for f in VERSION_FAULTS]
)
def test_refuses_a_version_that_supersedes(
    world: World, draft: Callable[[World], Draft], party: Party, reason: str
) -> None:
    refused(world, draft(world), party, reason)


def test_a_key_is_not_superseded_as_an_object(world: World) -> None:
    applied = accepted(
        world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, entry={"object_id": bytes(16)}), EXCHANGE
    )
    draft = entry_draft(
        world, POPULATION, "DATASET", object_id=bytes(16), supersedes=applied.digest, body_sha256=bytes(32)
    )
    refused(world, draft, POPULATION, "latest version")


def test_only_the_latest_version_is_superseded(world: World) -> None:
    old = world.dataset.version
    draft = _next(world, body_sha256=fixed("other"))
    accepted(world, _next(world), POPULATION)
    refused(world, draft, POPULATION, "latest version")
    assert world.directory.state.versions[old.digest].ended_index == world.directory.size - 2


def test_superseding_a_revoked_version_does_not_move_its_end(world: World) -> None:
    version = world.dataset.version
    draft = _next(world)
    ended = world.revoke(version.digest, POPULATION).index
    after = accepted(world, draft, POPULATION)
    assert world.directory.state.versions[version.digest] == replace(
        version, ended_index=ended, superseded_by=after.digest
    )
    assert world.directory.state.objects[version.object_id] == after.digest


# --- revocations -------------------------------------------------------------------------------------


def revocation(world: World, owner: Party, target: bytes, reason: str = "no longer needed") -> Draft:
    return revocation_entry(owner, world.fresh(16), target, reason)


@pytest.mark.parametrize("party", [EXCHANGE, POPULATION, REGISTRY], ids=str)
def test_a_key_is_revoked_by_its_party_and_those_above(world: World, party: Party) -> None:
    target = key_id(world.keys[REGISTRY].public_key)
    applied = accepted(world, revocation(world, party, target), party)
    assert world.directory.state.keys[target].revoked_index == applied.index


@pytest.mark.parametrize("party", [HOUSING, MARRIAGE, COORDINATOR, AUDITOR, BROKER], ids=str)
def test_a_key_is_revoked_by_nobody_else(world: World, party: Party) -> None:
    target = key_id(world.keys[REGISTRY].public_key)
    refused(world, revocation(world, party, target), party, "cannot revoke a key of")


def test_a_system_does_not_revoke_its_departments_key(world: World) -> None:
    target = key_id(world.keys[POPULATION].public_key)
    refused(world, revocation(world, REGISTRY, target), REGISTRY, "cannot revoke a key of")


def test_the_root_key_cannot_be_revoked(world: World) -> None:
    target = key_id(world.keys[EXCHANGE].public_key)
    refused(world, revocation(world, EXCHANGE, target), EXCHANGE, "cannot revoke a key of")


def test_a_sealing_key_is_revoked_by_its_system(world: World) -> None:
    accepted(world, revocation(world, REGISTRY, world.sealing_key()), REGISTRY)
    assert world.directory.sealing_key(REGISTRY, START) is None


def test_a_key_is_revoked_once(world: World) -> None:
    target = key_id(world.keys[REGISTRY].public_key)
    accepted(world, revocation(world, POPULATION, target), POPULATION)
    refused(world, revocation(world, POPULATION, target), POPULATION, "the key is revoked already")


@pytest.mark.parametrize("party", [POPULATION, REGISTRY], ids=str)
def test_an_agreement_is_revoked_by_its_owner_or_a_system_of_the_owner(world: World, party: Party) -> None:
    target = world.agreement.digest
    applied = accepted(world, revocation(world, party, target), party)
    assert world.directory.state.versions[target].ended_index == applied.index


@pytest.mark.parametrize("party", [EXCHANGE, COORDINATOR, CIVIL_AFFAIRS, MARRIAGE, HOUSING, APPLICATIONS], ids=str)
def test_an_agreement_is_revoked_by_nobody_else(world: World, party: Party) -> None:
    refused(world, revocation(world, party, world.agreement.digest), party, "cannot revoke what")


def test_a_system_revokes_nothing_but_agreements(world: World) -> None:
    state = world.directory.state
    application = world.agreement.application
    for target, party in ((world.dataset.version.digest, REGISTRY), (application, APPLICATIONS)):
        refused(world, revocation(world, party, target), party, "cannot revoke what")
    refused(world, revocation(world, BROKER, state.purposes[PURPOSE]), BROKER, "cannot revoke what")


def test_a_version_is_revoked_once(world: World) -> None:
    target = world.agreement.digest
    accepted(world, revocation(world, POPULATION, target), POPULATION)
    refused(world, revocation(world, REGISTRY, target), REGISTRY, "revoked or superseded already")


def test_a_superseded_version_is_not_revoked(world: World) -> None:
    target = world.dataset.version.digest
    accepted(world, _next(world), POPULATION)
    refused(world, revocation(world, POPULATION, target), POPULATION, "revoked or superseded already")


@pytest.mark.parametrize("target", [b"", bytes(32), bytes(31)])
def test_only_what_the_directory_holds_is_revoked(world: World, target: bytes) -> None:
    refused(world, revocation(world, POPULATION, target), POPULATION, "not in the directory")


def test_a_revocation_is_not_revoked(world: World) -> None:
    digest = accepted(world, revocation(world, POPULATION, world.agreement.digest), POPULATION).digest
    refused(world, revocation(world, POPULATION, digest), POPULATION, "not in the directory")


def test_a_reason_has_up_to_2000_characters(world: World) -> None:
    target = world.agreement.digest
    refused(world, revocation(world, POPULATION, target, "字" * 2001), POPULATION, "2,000 characters")
    accepted(world, revocation(world, POPULATION, target, "字" * 2000), POPULATION)


def test_a_revocation_is_an_object_of_its_own(world: World) -> None:
    target, other = world.agreement.digest, world.dataset.version.digest
    draft = revocation_entry(POPULATION, world.dataset.object_id, target, "")
    refused(world, draft, POPULATION, "object id is in use")
    versioned = entry_draft(world, POPULATION, "REVOCATION", revocation={"target": target}, supersedes=bytes(32))
    refused(world, versioned, POPULATION, "supersedes nothing")
    accepted(world, revocation_entry(POPULATION, bytes(16), target, ""), POPULATION)
    refused(world, revocation_entry(POPULATION, bytes(16), other, ""), POPULATION, "object id is in use")
