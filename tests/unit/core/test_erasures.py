"""An erasure names what may be blanked; it closes the object, and changes nothing else of the fold."""

from dataclasses import replace
from typing import Any

import pytest

from exchange.core.entries import ObjectVersion, erased_entry
from exchange.core.fold import Applied
from exchange.core.names import Party
from exchange.core.snapshot import decode_state, encode_state
from exchange.v1.directory_pb2 import EntryRange, Erased
from tests.world import AUDITOR, BROKER, COORDINATOR, HOUSING, POPULATION, REGISTRY, World

TEXTS = {"reason": "the retention is over", "legal_basis": "Archives Act, article 9"}


@pytest.fixture
def world() -> World:
    return World.standard()


def erase(world: World, party: Party, **target: Any) -> Applied:
    """What becomes of an erasure."""
    return world.append(erased_entry(party, world.fresh(16), Erased(**(TEXTS | target))), party)


def test_an_owner_erases_the_body_of_what_it_revoked(world: World) -> None:
    digest = world.agreement.digest
    world.revoke(digest, POPULATION)
    before = world.directory.state
    assert erase(world, POPULATION, digest=digest).reason == ""
    after = world.directory.state
    assert (after.keys, after.versions, after.purposes) == (before.keys, before.versions, before.purposes)
    assert decode_state(encode_state(after)) == after


def test_every_version_of_an_object_that_has_ended_can_be_erased(world: World) -> None:
    first = world.agreement
    application = world.directory.terms.applications[first.application]
    second = world.grant(application, ObjectVersion(first.version.object_id, first.digest), fields=["name"])
    assert "the object still stands" in erase(world, POPULATION, digest=first.digest).reason
    world.revoke(second.digest, POPULATION)
    for digest in (first.digest, second.digest):
        assert erase(world, POPULATION, digest=digest).reason == ""


def test_what_was_erased_has_no_later_version(world: World) -> None:
    agreement = world.agreement
    application = world.directory.terms.applications[agreement.application]
    world.revoke(agreement.digest, POPULATION)
    version = ObjectVersion(agreement.version.object_id, agreement.digest)
    assert world.copy().grant(application, version).digest
    erase(world, POPULATION, digest=agreement.digest)
    with pytest.raises(AssertionError, match="does not supersede the object's latest version"):
        world.grant(application, version)


def test_a_body_of_what_stands_stays(world: World) -> None:
    for digest, owner in ((world.agreement.digest, POPULATION), (world.dataset.version.digest, POPULATION)):
        assert "the object still stands" in erase(world, owner, digest=digest).reason


@pytest.mark.parametrize("party", [HOUSING, COORDINATOR, REGISTRY, AUDITOR])
def test_nobody_erases_what_another_owns(world: World, party: Party) -> None:
    digest = world.agreement.digest
    world.revoke(digest, POPULATION)
    assert "cannot erase what" in erase(world, party, digest=digest).reason


def test_what_has_no_body_is_not_erased(world: World) -> None:
    purpose = next(iter(world.directory.state.purposes.values()))
    world.revoke(purpose, COORDINATOR)
    for digest in (purpose, bytes(32), b""):
        assert "no body of the directory" in erase(world, COORDINATOR, digest=digest).reason


def test_a_coordinator_erases_entries_of_the_access_log(world: World) -> None:
    before = world.directory.state
    assert erase(world, COORDINATOR, access=EntryRange(first=0, end=10)).reason == ""
    assert world.directory.state.versions == before.versions


@pytest.mark.parametrize("party", [POPULATION, AUDITOR, BROKER, REGISTRY])
def test_nobody_else_erases_entries_of_the_access_log(world: World, party: Party) -> None:
    assert "is not a coordinator" in erase(world, party, access=EntryRange(first=0, end=10)).reason


@pytest.mark.parametrize(("first", "end"), [(0, 0), (5, 5), (5, 4), (0, 2**63), (2**63, 2**63 + 1)])
def test_a_range_holds_at_least_one_entry_that_a_log_can_have(world: World, first: int, end: int) -> None:
    assert "entries of the access log" in erase(world, COORDINATOR, access=EntryRange(first=first, end=end)).reason


def test_an_erasure_without_a_target_is_none(world: World) -> None:
    assert "entries of the access log" in erase(world, COORDINATOR).reason


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", ["", "a" * 2001])
def test_an_erasure_gives_its_reason_and_legal_basis(world: World, name: str, text: str) -> None:
    assert "a reason and a legal basis" in erase(world, COORDINATOR, access=EntryRange(end=1), **{name: text}).reason
    limit = {name: "a" * 2000}
    assert erase(world, COORDINATOR, access=EntryRange(end=1), **limit).reason == ""


def test_an_erasure_takes_an_object_id_of_its_own(world: World) -> None:
    erased = Erased(access=EntryRange(end=1), **TEXTS)
    draft = erased_entry(COORDINATOR, bytes(16), erased)
    assert world.append(draft, COORDINATOR).reason == ""
    assert "object id is in use" in world.append(draft, COORDINATOR).reason


# --- what only the bodies say ------------------------------------------------------------------------


def test_the_application_that_a_standing_agreement_answers_is_needed(world: World) -> None:
    agreement = world.agreement
    world.revoke(agreement.application, HOUSING)
    erased = Erased(digest=agreement.application, **TEXTS)
    assert "a standing agreement answers it" in world.directory.erasure_problem(erased)
    world.revoke(agreement.digest, POPULATION)
    assert world.directory.erasure_problem(erased) == ""


def test_nothing_else_is_needed(world: World) -> None:
    for erased in (Erased(digest=world.agreement.digest), Erased(access=EntryRange(end=1)), Erased(digest=bytes(32))):
        assert world.directory.erasure_problem(erased) == ""


def test_a_mirror_that_never_had_an_erased_body_has_the_same_rights(world: World) -> None:
    """A dataset is erased with all that it was granted by: what stands afterwards never needed it."""
    dataset, agreement = world.dataset, world.agreement
    for digest in (agreement.digest, dataset.version.digest):
        world.revoke(digest, POPULATION)
        assert erase(world, POPULATION, digest=digest).reason == ""
    bodies = [
        (index, body)
        for index, body in enumerate(world.directory_log.bodies)
        if body and index not in (dataset.version.index, agreement.version.index)
    ]
    again = replace(world.directory).reopened(world.directory.state, bodies)
    assert again.state == world.directory.state
    assert again.dataset(dataset.object_id) is world.directory.dataset(dataset.object_id) is None
