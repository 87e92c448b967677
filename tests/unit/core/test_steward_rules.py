"""A steward's key signs in its department's place: what it may, and nothing else."""

from collections.abc import Callable

import pytest

from exchange.core.entries import (
    ObjectVersion,
    body_entry,
    erased_entry,
    officer_entry,
    revocation_entry,
    suspension_entry,
)
from exchange.core.envelope import Draft
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.v1.directory_pb2 import Dataset, Erased, Field, FieldType, Role
from exchange.v1.guardrail_pb2 import Suspension
from exchange.v1.people_pb2 import OfficerStanding
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
