"""Each rule of keys refuses the entry that breaks exactly it, and changes nothing."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from exchange.core.entries import revocation_entry
from exchange.core.envelope import Draft
from exchange.core.key_rules import possession_statement, succession_statement
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import Entry, Role, Suite
from tests.drafts import DAYS_30, NEW, accepted, key_draft, record_of, refused, role, sealing_draft
from tests.memory import sealing_public, signer
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    COORDINATOR,
    DAY,
    EXCHANGE,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    REGISTRY,
    START,
    YEAR,
    World,
)

ROOT_ROLES = ["DEPARTMENT", "COORDINATOR", "AUDITOR", "BROKER", "WITNESS"]
TRANSPORT = Party(ORIGIN, "transport")
HOURS_72 = 259_200_000


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


@pytest.mark.parametrize("parent", [COORDINATOR, AUDITOR, BROKER], ids=str)
def test_only_departments_sign_systems(world: World, parent: Party) -> None:
    below = Party(ORIGIN, parent.department, "new")
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
    ("validity beyond the calendar", {"not_before": START, "not_after": MAX_TIME + 1}, "beyond the year 9999"),
    ("no suite", {"suite": Suite.SUITE_UNSPECIFIED}, "suite is not known"),
    ("a later suite", {"suite": 3}, "number that this version does not know"),
    ("a later role", {"role": 99}, "number that this version does not know"),
    ("a later format", {"format": 2}, "format 2"),
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


@pytest.mark.parametrize("name", ["", "transport", "exchange://city.example/Transport", "exchange://city.example//a"])
def test_refuses_a_key_of_a_name_in_another_form(world: World, name: str) -> None:
    refused(world, key_draft(world, name, "DEPARTMENT", EXCHANGE), EXCHANGE, "not a")


def test_a_key_may_be_valid_to_the_end_of_the_calendar(world: World) -> None:
    accepted(world, key_draft(world, TRANSPORT, "DEPARTMENT", EXCHANGE, not_after=MAX_TIME), EXCHANGE)


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
    refused(world, draft, HOUSING, "not valid at this time: it takes effect on 2027-01-18 08:00:00 UTC")
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
