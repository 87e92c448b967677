"""A system's key gives its successor, once; revocations say since when; the old key cancels one in public view."""

import pytest

from exchange.core.entries import revocation_entry
from exchange.core.envelope import Draft
from exchange.core.keys import EcdsaSigner, key_id
from exchange.core.lifetimes import HEAD_START, SYSTEM_KEY
from exchange.core.names import Party
from exchange.v1.directory_pb2 import Role
from tests.drafts import NEW, accepted, key_draft, record_of, refused
from tests.memory import signer
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    DAY,
    EXCHANGE,
    HOUSING,
    ORIGIN,
    POPULATION,
    POPULATION_HEAD,
    REGISTRY,
    START,
    World,
)

SECOND, THIRD = signer("second"), signer("third")
HOURS_72 = 259_200_000


@pytest.fixture
def world() -> World:
    return World.standard()


def renewal(
    world: World, key: EcdsaSigner = NEW, party: Party = REGISTRY, by: Party = REGISTRY, **changes: int
) -> Draft:
    """A system's next key, for its present one to sign."""
    validity = {"not_before": world.now, "not_after": world.now + SYSTEM_KEY} | changes
    return key_draft(world, party, "SYSTEM", by, key=key, **validity)


def revocation(world: World, party: Party, key: EcdsaSigner, since: int = 0) -> Draft:
    return revocation_entry(party, world.fresh(16), key_id(key.public_key), "stolen", since)


# --- a system renews its own key ---------------------------------------------------------------------


def test_a_systems_key_gives_its_successor_at_once(world: World) -> None:
    accepted(world, renewal(world), REGISTRY)
    assert (record_of(world).not_before, record_of(world).role) == (START, Role.ROLE_SYSTEM)
    # Both stand until the old one ends.
    old = world.directory.state.keys[key_id(world.keys[REGISTRY].public_key)]
    assert world.directory.is_usable(old, START)


def test_each_successor_gives_the_next_one(world: World) -> None:
    for key in (NEW, SECOND, THIRD):
        accepted(world, renewal(world, key), REGISTRY)
        world.keys[REGISTRY] = key


def test_a_key_gives_one_successor_so_that_a_thiefs_shows(world: World) -> None:
    accepted(world, renewal(world, signer("thief")), REGISTRY)
    refused(world, renewal(world), REGISTRY, "has a later key already")


def test_a_key_whose_successor_was_revoked_gives_no_other(world: World) -> None:
    accepted(world, renewal(world, signer("thief")), REGISTRY)
    accepted(world, revocation(world, POPULATION, signer("thief")), POPULATION)
    refused(world, renewal(world), REGISTRY, "has a later key already")


def test_a_key_that_its_department_has_replaced_gives_none(world: World) -> None:
    accepted(world, renewal(world, SECOND, by=POPULATION), POPULATION)
    refused(world, renewal(world), REGISTRY, "has a later key already")
    world.keys[REGISTRY] = SECOND
    accepted(world, renewal(world), REGISTRY)


def test_sealing_keys_are_no_successors(world: World) -> None:
    world.give_sealing_key(REGISTRY, "another")
    accepted(world, renewal(world), REGISTRY)


def test_a_revoked_key_cannot_renew_itself(world: World) -> None:
    accepted(world, revocation(world, POPULATION, world.keys[REGISTRY]), POPULATION)
    refused(world, renewal(world), REGISTRY, "is revoked")


def test_an_expired_key_cannot_renew_itself(world: World) -> None:
    world.now = world.directory.state.keys[key_id(world.keys[REGISTRY].public_key)].not_after + 1
    refused(world, renewal(world), REGISTRY, "not valid at this time")


@pytest.mark.parametrize("party", [APPLICATIONS, Party(ORIGIN, "population", "new"), POPULATION], ids=str)
def test_a_system_gives_a_key_to_nobody_else(world: World, party: Party) -> None:
    refused(world, renewal(world, party=party), REGISTRY, f"cannot sign a key of {party}")


@pytest.mark.parametrize("name", ["DEPARTMENT", "HEAD", "COORDINATOR", "ROOT", "BROKER"])
def test_a_system_gives_itself_no_other_role(world: World, name: str) -> None:
    refused(world, key_draft(world, REGISTRY, name, REGISTRY), REGISTRY, "this role")


def test_a_head_gives_itself_no_key(world: World) -> None:
    world.admit_heads()
    draft = key_draft(world, POPULATION_HEAD, "HEAD", POPULATION_HEAD)
    refused(world, draft, POPULATION_HEAD, f"{POPULATION_HEAD} cannot give {POPULATION_HEAD} this role")


def test_a_renewed_key_proves_its_possession(world: World) -> None:
    draft = key_draft(
        world, REGISTRY, "SYSTEM", REGISTRY, not_before=START, not_after=START + DAY, statement={"possession": b""}
    )
    refused(world, draft, REGISTRY, "does not prove its possession")


@pytest.mark.parametrize(
    "changes",
    [
        {"not_after": START + SYSTEM_KEY + HEAD_START + 1},
        {"not_before": START + HEAD_START + 1},
    ],
    ids=["ends too late", "begins later"],
)
def test_a_renewal_with_the_clock_ahead_is_refused_and_says_so(world: World, changes: dict[str, int]) -> None:
    refused(
        world, renewal(world, **changes), REGISTRY, "is the clock of exchange://city.example/population/registry right?"
    )


def test_a_renewal_may_be_five_minutes_ahead(world: World) -> None:
    ahead = {"not_before": START + HEAD_START, "not_after": START + SYSTEM_KEY + HEAD_START}
    accepted(world, renewal(world, **ahead), REGISTRY)


# --- since when ---------------------------------------------------------------------------------------


def test_a_revocation_says_since_when_and_ends_the_key_from_its_entry_on(world: World) -> None:
    before = world.directory.size
    accepted(world, revocation(world, POPULATION, world.keys[REGISTRY], START - DAY), POPULATION)
    record = world.directory.state.keys[key_id(world.keys[REGISTRY].public_key)]
    # What was decided before stays decided: a directory of that size still holds the key.
    assert record.stood_at(before)
    assert record.revoked_index == before
    assert not record.stood_at(before + 1)


def test_a_revocation_is_of_no_time_to_come(world: World) -> None:
    refused(world, revocation(world, POPULATION, world.keys[REGISTRY], START + 1), POPULATION, "no time to come")
    accepted(world, revocation(world, POPULATION, world.keys[REGISTRY], START), POPULATION)


def test_only_a_keys_revocation_says_since_when(world: World) -> None:
    target = world.agreement.digest
    draft = revocation_entry(POPULATION, world.fresh(16), target, "ended", START - 1)
    refused(world, draft, POPULATION, "of a key alone")


# --- a key that stands in public view -----------------------------------------------------------------


def recovered(world: World) -> None:
    """The root gives housing a key without its old one's word."""
    accepted(world, key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE), EXCHANGE)
    assert record_of(world).not_before == START + HOURS_72


def test_the_old_key_cancels_a_key_in_public_view(world: World) -> None:
    recovered(world)
    accepted(world, revocation(world, HOUSING, NEW), HOUSING)
    old, world.keys[HOUSING] = world.keys[HOUSING], NEW
    world.now = START + HOURS_72
    refused(world, revocation(world, HOUSING, old), HOUSING, "is revoked")


@pytest.mark.parametrize("party", [POPULATION, COORDINATOR, APPLICATIONS], ids=str)
def test_nobody_else_cancels_a_key_in_public_view(world: World, party: Party) -> None:
    recovered(world)
    refused(world, revocation(world, party, NEW), party, "cannot revoke a key of")


def test_a_key_in_public_view_revokes_nothing_meanwhile(world: World) -> None:
    recovered(world)
    old, world.keys[HOUSING] = world.keys[HOUSING], NEW
    refused(world, revocation(world, HOUSING, old), HOUSING, "not valid at this time")


def test_a_stolen_old_key_that_the_root_revoked_cancels_nothing(world: World) -> None:
    accepted(world, revocation(world, EXCHANGE, world.keys[HOUSING]), EXCHANGE)
    recovered(world)
    refused(world, revocation(world, HOUSING, NEW), HOUSING, "is revoked")
