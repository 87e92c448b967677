"""A steward's key signs in its department's place: what it may, and nothing else."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from exchange.core.entries import (
    ObjectVersion,
    body_entry,
    erased_entry,
    officer_entry,
    revocation_entry,
    stewardship_entry,
    suspension_entry,
)
from exchange.core.envelope import Draft
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.people import stewardship_name
from exchange.core.snapshot import encode_state, open_state, state_digest
from exchange.core.stewards import needs_second, second_statement
from exchange.core.wire import decode, encode
from exchange.v1.directory_pb2 import Agreement, Dataset, Entry, EntryKind, Erased, Field, FieldType, Role
from exchange.v1.guardrail_pb2 import Suspension
from exchange.v1.people_pb2 import OfficerStanding, Second
from tests.drafts import accepted, key_draft, refused
from tests.memory import signer
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    HOUSING,
    LOOKUP,
    ORIGIN,
    POPULATION,
    PURPOSE,
    REGISTRY,
    World,
)

STEWARD = Party(ORIGIN, "population", "steward-1")
SECOND = Party(ORIGIN, "population", "steward-2")


@pytest.fixture
def world() -> World:
    world = World.standard()
    world.admit(STEWARD, Role.ROLE_STEWARD)
    world.admit(SECOND, Role.ROLE_STEWARD)
    return world


def dataset(world: World, owner: Party = POPULATION) -> Draft:
    body = Dataset(
        format=1,
        code="births",
        title="births",
        system=str(REGISTRY),
        fields=[Field(name="id_number", label="id", type=FieldType.FIELD_TYPE_TEXT)],
        key="id_number",
        operations=[LOOKUP],
    )
    return body_entry(owner, ObjectVersion(world.fresh(16)), body, world.fresh(32))


SIGNS: dict[str, Callable[[World], Draft]] = {
    "a dataset": dataset,
    "a revocation of an agreement": lambda world: revocation_entry(
        POPULATION, world.fresh(16), world.agreement.digest, "misuse"
    ),
    "a revocation of a system's key": lambda world: revocation_entry(
        POPULATION, world.fresh(16), key_id(world.keys[REGISTRY].public_key), "stolen"
    ),
    "a suspension": lambda world: suspension_entry(
        POPULATION, world.fresh(16), Suspension(agreement=world.agreement.digest, reason="misuse")
    ),
    "an officer": lambda world: officer_entry(
        POPULATION, ObjectVersion(world.fresh(16)), OfficerStanding(pseudonym="officer-1")
    ),
    "a system": lambda world: key_draft(world, Party(ORIGIN, "population", "archive"), "SYSTEM", POPULATION),
}
SIGNS_NOT: dict[str, Callable[[World], Draft]] = {
    "a head": lambda world: key_draft(world, Party(ORIGIN, "population", "head"), "HEAD", POPULATION),
    "a steward": lambda world: key_draft(world, Party(ORIGIN, "population", "steward-3"), "STEWARD", POPULATION),
    "a revocation of another steward's key": lambda world: revocation_entry(
        POPULATION, world.fresh(16), key_id(world.keys[SECOND].public_key), "a quarrel"
    ),
    "a revocation of the department's key": lambda world: revocation_entry(
        POPULATION, world.fresh(16), key_id(world.keys[POPULATION].public_key), "a quarrel"
    ),
    "an erasure": lambda world: erased_entry(
        POPULATION, world.fresh(16), Erased(digest=world.agreement.digest, reason="x", legal_basis="y")
    ),
}


@pytest.mark.parametrize("what", SIGNS)
def test_a_steward_signs_for_its_department(world: World, what: str) -> None:
    digest = accepted(world, SIGNS[what](world), STEWARD).digest
    version = world.directory.state.versions.get(digest)
    # What it signs is the department's.
    assert version is None or version.owner == POPULATION


@pytest.mark.parametrize("what", SIGNS_NOT)
def test_a_steward_signs_nothing_that_the_department_keeps_for_its_own_key(world: World, what: str) -> None:
    refused(world, SIGNS_NOT[what](world), STEWARD, "is a steward")


@pytest.mark.parametrize("owner", [HOUSING, STEWARD, COORDINATOR, REGISTRY])
def test_a_steward_signs_for_nobody_else(world: World, owner: Party) -> None:
    refused(world, dataset(world, owner), STEWARD, "but owned by")


def test_what_one_steward_signed_another_goes_on_with(world: World) -> None:
    digest = accepted(world, dataset(world), STEWARD).digest
    accepted(world, revocation_entry(POPULATION, world.fresh(16), digest, "withdrawn"), SECOND)


def test_a_removed_stewards_signature_is_refused_and_what_it_signed_stands(world: World) -> None:
    digest = accepted(world, dataset(world), STEWARD).digest
    key = key_id(world.keys[STEWARD].public_key)
    accepted(world, revocation_entry(POPULATION, world.fresh(16), key, "left"), POPULATION)
    draft = revocation_entry(POPULATION, world.fresh(16), world.agreement.digest, "revenge")
    refused(world, draft, STEWARD, "is revoked")
    assert world.directory.state.versions[digest].ended_index is None


@pytest.mark.parametrize("parent", [REGISTRY, HOUSING])
def test_only_the_department_admits_its_stewards(world: World, parent: Party) -> None:
    draft = key_draft(world, Party(ORIGIN, "population", "steward-3"), "STEWARD", parent)
    assert world.append(draft, parent).reason


def test_a_steward_is_named_below_its_department(world: World) -> None:
    draft = key_draft(world, Party(ORIGIN, "stewards"), "STEWARD", Party(ORIGIN), key=signer("another"))
    assert world.append(draft, Party(ORIGIN)).reason


def test_a_stewards_key_asks_nothing(world: World) -> None:
    """It signs entries; requests are a system's."""
    assert world.directory.state.role_of(STEWARD, world.now) == Role.ROLE_STEWARD
    assert world.directory.state.role_of(APPLICATIONS, world.now) == Role.ROLE_SYSTEM
    assert world.directory.state.purpose(PURPOSE) is not None


# --- two of them ------------------------------------------------------------------------------------------------


def asked_for(world: World, needed: int = 2) -> None:
    """The department says how many stewards it needs."""
    latest = world.directory.state.people.officers.get(stewardship_name(POPULATION))
    version = ObjectVersion(world.fresh(16))
    if latest is not None:
        version = ObjectVersion(world.directory.state.versions[latest].object_id, latest)
    accepted(world, stewardship_entry(POPULATION, version, needed), POPULATION)


def seconded(world: World, draft: Draft, party: Party = SECOND, **changes: bytes) -> Draft:
    """The same, with the word of a second one."""
    entry = decode(Entry, draft.payload)
    key = world.keys[party]
    said = {"key_id": key_id(key.public_key), "signature": key.sign(second_statement(ORIGIN, entry))} | changes
    entry.second.CopyFrom(Second(**said))
    return replace(draft, payload=encode(entry))


SHARES = {name: SIGNS[name] for name in ("a dataset", "a system")}


@pytest.mark.parametrize("what", SHARES)
def test_what_shares_data_needs_a_second_steward_where_the_department_asks_for_two(world: World, what: str) -> None:
    draft = SHARES[what](world)
    asked_for(world)
    refused(world, draft, STEWARD, "asks for two stewards")
    accepted(world, seconded(world, draft), STEWARD)


@pytest.mark.parametrize("what", sorted(set(SIGNS) - set(SHARES)))
def test_what_ends_or_holds_up_needs_one(world: World, what: str) -> None:
    asked_for(world)
    accepted(world, SIGNS[what](world), STEWARD)


def test_an_agreement_needs_both(world: World) -> None:
    asked_for(world)
    application = world.apply_for(world.dataset)
    body = Agreement(
        format=1,
        dataset=application.dataset,
        grantee=str(application.grantee),
        application=application.version.digest,
        operations=sorted(application.operations),
        fields=application.fields,
        purposes=sorted(application.purposes),
        not_before=world.now,
        not_after=application.not_after,
    )
    draft = body_entry(POPULATION, ObjectVersion(world.fresh(16)), body, world.fresh(32))
    refused(world, draft, STEWARD, "asks for two stewards")
    accepted(world, seconded(world, draft), STEWARD)


def test_the_departments_own_key_needs_nobody(world: World) -> None:
    asked_for(world)
    accepted(world, dataset(world), POPULATION)


def test_nobody_else_carries_a_second_word(world: World) -> None:
    refused(world, seconded(world, dataset(world)), STEWARD, "needs no second")
    refused(world, seconded(world, dataset(world)), POPULATION, "needs no second")
    asked_for(world)
    refused(world, seconded(world, dataset(world)), POPULATION, "needs no second")
    refused(world, seconded(world, SIGNS["an officer"](world)), STEWARD, "needs no second")


def test_the_second_is_another_steward_of_the_same_department_with_a_key_that_holds(world: World) -> None:
    asked_for(world)
    stranger = Party(ORIGIN, "housing", "steward-1")
    world.admit(stranger, Role.ROLE_STEWARD)
    for party, problem in (
        (STEWARD, "cannot be the second one to what it signs"),
        (stranger, "is no steward's of"),
        (POPULATION, "is no steward's of"),
        (REGISTRY, "is no steward's of"),
    ):
        refused(world, seconded(world, dataset(world), party), STEWARD, problem)
    refused(world, seconded(world, dataset(world), key_id=bytes(32)), STEWARD, "is no steward's of")
    world.revoke(key_id(world.keys[SECOND].public_key), POPULATION)
    refused(world, seconded(world, dataset(world)), STEWARD, "is revoked, or not valid")


def test_the_second_signs_exactly_this_entry(world: World) -> None:
    asked_for(world)
    other = seconded(world, dataset(world))
    word = decode(Entry, other.payload).second
    draft = seconded(world, dataset(world), signature=word.signature)
    refused(world, draft, STEWARD, "did not sign exactly this entry")
    refused(world, seconded(world, dataset(world), signature=b""), STEWARD, "did not sign exactly this entry")


def test_the_department_goes_back_to_one_and_no_steward_does(world: World) -> None:
    asked_for(world)
    latest = world.directory.state.people.officers[stewardship_name(POPULATION)]
    version = ObjectVersion(world.directory.state.versions[latest].object_id, latest)
    refused(world, stewardship_entry(POPULATION, version, 1), STEWARD, "signs no stewardship")
    revocation = revocation_entry(POPULATION, world.fresh(16), latest, "too slow")
    for party in (STEWARD, POPULATION):
        refused(world, revocation, party, "is not revoked")
    asked_for(world, 1)
    accepted(world, dataset(world), STEWARD)


@pytest.mark.parametrize("needed", [0, 3])
def test_one_or_two_are_asked_for(world: World, needed: int) -> None:
    draft = stewardship_entry(POPULATION, ObjectVersion(world.fresh(16)), needed)
    refused(world, draft, POPULATION, "one steward signs, or two")


def test_only_a_department_says_how_many(world: World) -> None:
    draft = stewardship_entry(REGISTRY, ObjectVersion(world.fresh(16)), 2)
    refused(world, draft, REGISTRY, "has no stewards")


def test_there_is_one_word_on_it(world: World) -> None:
    asked_for(world)
    draft = stewardship_entry(POPULATION, ObjectVersion(world.fresh(16)), 1)
    refused(world, draft, POPULATION, "does not follow the latest one")


def test_a_kept_state_asks_for_two_as_well(world: World) -> None:
    asked_for(world)
    state = open_state(list(encode_state(world.directory.state))).state
    assert needs_second(state, POPULATION, EntryKind.ENTRY_KIND_AGREEMENT)
    assert not needs_second(state, POPULATION, EntryKind.ENTRY_KIND_REVOCATION)
    assert not needs_second(state, Party(ORIGIN, "housing"), EntryKind.ENTRY_KIND_AGREEMENT)
    assert state_digest(state) == state_digest(world.directory.state)
