"""Who registers officers and gives mandates; each rule refuses the entry that breaks exactly it."""

from typing import Any

import pytest

from exchange.core.entries import ObjectVersion, mandate_entry, officer_entry, revocation_entry
from exchange.core.envelope import Draft
from exchange.core.names import Party
from exchange.core.officers import officer_problem
from exchange.core.snapshot import encode_state, open_state
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import Role
from exchange.v1.people_pb2 import Mandate, OfficerStanding
from tests.drafts import accepted, refused
from tests.world import APPLICATIONS, AUDITOR, COORDINATOR, DAY, HOUSING, ORIGIN, POPULATION, World


@pytest.fixture
def world() -> World:
    return World.standard()


def officer(
    world: World, owner: Party = HOUSING, pseudonym: str = "officer-1", after: bytes = b"", removed: bool = False
) -> Draft:
    before = world.directory.state.versions.get(after)
    version = ObjectVersion(before.object_id, after) if before is not None else ObjectVersion(world.fresh(16))
    return officer_entry(owner, version, OfficerStanding(pseudonym=pseudonym, removed=removed))


def mandate(world: World, owner: Party = COORDINATOR, **changes: Any) -> Draft:
    said = Mandate(**({"auditor": str(AUDITOR), "not_after": world.now + DAY} | changes))
    return mandate_entry(owner, world.fresh(16), said)


def problem(world: World, pseudonym: str, department: Party = HOUSING) -> str:
    """What the rule says, and that it says the same of a state that was kept."""
    state = world.directory.state
    said = officer_problem(state, department, pseudonym)
    assert officer_problem(open_state(list(encode_state(state))).state, department, pseudonym) == said
    return said


# --- officers -----------------------------------------------------------------------------------------


def test_a_department_that_registers_nobody_answers_for_its_officers(world: World) -> None:
    assert problem(world, "officer-1") == ""


def test_a_department_registers_removes_and_registers_an_officer_again(world: World) -> None:
    first = accepted(world, officer(world), HOUSING).digest
    assert problem(world, "officer-1") == ""
    assert "not among them" in problem(world, "officer-2")
    assert problem(world, "officer-2", POPULATION) == ""
    second = accepted(world, officer(world, after=first, removed=True), HOUSING).digest
    assert "has removed this officer" in problem(world, "officer-1")
    accepted(world, officer(world, after=second), HOUSING)
    assert problem(world, "officer-1") == ""


def test_an_officer_whose_entry_is_revoked_is_removed(world: World) -> None:
    digest = accepted(world, officer(world), HOUSING).digest
    accepted(world, revocation_entry(HOUSING, world.fresh(16), digest, "left"), HOUSING)
    assert "has removed this officer" in problem(world, "officer-1")
    accepted(world, officer(world, after=digest), HOUSING)
    assert problem(world, "officer-1") == ""


@pytest.mark.parametrize("party", [APPLICATIONS, COORDINATOR, AUDITOR])
def test_only_departments_register_officers(world: World, party: Party) -> None:
    refused(world, officer(world, party), party, "departments register their own")


def test_a_name_is_no_pseudonym(world: World) -> None:
    refused(world, officer(world, pseudonym="王芳"), HOUSING, "by pseudonym")


def test_an_officer_has_one_object(world: World) -> None:
    first = accepted(world, officer(world), HOUSING).digest
    refused(world, officer(world), HOUSING, "does not follow")
    second = accepted(world, officer(world, after=first, removed=True), HOUSING).digest
    refused(world, officer(world), HOUSING, "does not follow")
    refused(world, officer(world, after=first), HOUSING, "does not follow")
    refused(world, officer(world, pseudonym="officer-2", after=second), HOUSING, "does not follow")


def test_nobody_is_removed_who_was_not_registered(world: World) -> None:
    refused(world, officer(world, removed=True), HOUSING, "is not registered")


# --- mandates -----------------------------------------------------------------------------------------


def test_a_coordinator_gives_an_auditor_a_mandate_and_ends_it(world: World) -> None:
    [standing] = world.directory.state.people.mandates[str(AUDITOR)]
    full = accepted(world, mandate(world), COORDINATOR).digest
    narrow = mandate(
        world,
        departments=[str(HOUSING), str(POPULATION)],
        datasets=[world.dataset.object_id],
        since=1,
        until=1,
    )
    digest = accepted(world, narrow, COORDINATOR).digest
    assert world.directory.state.people.mandates[str(AUDITOR)] == (standing, full, digest)
    accepted(world, revocation_entry(COORDINATOR, world.fresh(16), digest, "done"), COORDINATOR)
    assert world.directory.state.versions[digest].ended_index is not None


@pytest.mark.parametrize("party", [HOUSING, APPLICATIONS, AUDITOR])
def test_only_coordinators_give_mandates(world: World, party: Party) -> None:
    refused(world, mandate(world, party), party, "a coordinator does")


def test_only_the_coordinator_who_gave_it_ends_a_mandate(world: World) -> None:
    digest = accepted(world, mandate(world), COORDINATOR).digest
    for party in (AUDITOR, HOUSING):
        draft = revocation_entry(party, world.fresh(16), digest, "no")
        refused(world, draft, party, "cannot revoke")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"auditor": str(HOUSING)}, "is no auditor"),
        ({"auditor": str(Party(ORIGIN, "nobody"))}, "is no auditor"),
        ({"auditor": "exchange://city.example/Auditor"}, "name"),
        ({"departments": [str(APPLICATIONS)]}, "is no department"),
        ({"departments": [str(AUDITOR)]}, "is no department"),
        ({"departments": [str(POPULATION), str(HOUSING)]}, "in ascending order"),
        ({"departments": [str(HOUSING), str(HOUSING)]}, "in ascending order"),
        ({"datasets": [bytes(16)]}, "datasets of the directory"),
        ({"datasets": [b""]}, "datasets of the directory"),
        ({"since": 2, "until": 1}, "ends before it begins"),
        ({"since": MAX_TIME + 1}, "after the year 9999"),
        ({"until": MAX_TIME + 1}, "after the year 9999"),
        ({"not_after": 0}, "ends after it is given"),
        ({"not_after": MAX_TIME + 1}, "before the year 9999"),
    ],
)
def test_refuses_a_mandate_that_is_not_in_its_form(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, mandate(world, **changes), COORDINATOR, reason)


def test_a_mandate_is_not_changed_but_ended(world: World) -> None:
    digest = accepted(world, mandate(world), COORDINATOR).digest
    version = world.directory.state.versions[digest]
    said = Mandate(auditor=str(AUDITOR), not_after=world.now + 2 * DAY)
    draft = mandate_entry(COORDINATOR, version.object_id, said)
    refused(world, draft, COORDINATOR, "in use")


def test_a_mandate_outlives_the_key_of_its_auditor_but_not_the_role(world: World) -> None:
    accepted(world, mandate(world), COORDINATOR)
    assert world.directory.state.role_of(AUDITOR, world.now) == Role.ROLE_AUDITOR
