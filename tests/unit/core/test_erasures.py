"""An erasure names what may be blanked; it closes the object, and changes nothing else of the fold."""

from typing import Any

import pytest

from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, erased_entry
from exchange.core.erasures import Erasures
from exchange.core.fold import Applied
from exchange.core.names import Party
from exchange.core.snapshot import encode_state, open_state
from exchange.v1.directory_pb2 import EntryRange, Erased
from tests.memory import LoggedBodies
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
    assert open_state(list(encode_state(after))).state == after


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


def test_a_range_may_reach_to_the_largest_log(world: World) -> None:
    assert erase(world, COORDINATOR, access=EntryRange(first=2**63 - 2, end=2**63 - 1)).reason == ""


def test_an_erasure_without_a_target_is_none(world: World) -> None:
    assert "entries of the access log" in erase(world, COORDINATOR).reason


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", ["", "a" * 2001])
def test_an_erasure_gives_its_reason_and_legal_basis(world: World, name: str, text: str) -> None:
    assert "a reason and a legal basis" in erase(world, COORDINATOR, access=EntryRange(end=1), **{name: text}).reason
    for fits in ("a", "a" * 2000):
        assert erase(world, COORDINATOR, access=EntryRange(end=1), **{name: fits}).reason == ""


def test_an_erasure_takes_an_object_id_of_its_own(world: World) -> None:
    erased = Erased(access=EntryRange(end=1), **TEXTS)
    draft = erased_entry(COORDINATOR, bytes(16), erased)
    assert world.append(draft, COORDINATOR).reason == ""
    assert "object id is in use" in world.append(draft, COORDINATOR).reason


# --- what was erased ---------------------------------------------------------------------------------


def test_remembers_which_entry_erased_what(world: World) -> None:
    digest, erasures = world.agreement.digest, Erasures()
    world.revoke(digest, POPULATION)
    first = erase(world, COORDINATOR, access=EntryRange(first=5, end=10))
    body = erase(world, POPULATION, digest=digest)
    second = erase(world, COORDINATOR, access=EntryRange(first=0, end=7))
    refused = erase(world, POPULATION, access=EntryRange(first=20, end=30))
    for applied in (first, body, second, refused):
        erasures.add(applied, world.directory.state)
    numbers = [erasures.of_access(index) for index in (0, 4, 5, 6, 7, 9, 10, 25)]
    assert numbers == [second.index] * 2 + [first.index] * 4 + [None] * 2
    object_id = world.directory.state.versions[digest].object_id
    assert (erasures.of_object(object_id), erasures.of_object(bytes(16))) == (body.index, None)
    assert list(erasures.ranges()) == [(0, 7), (5, 10)]


# --- what only the bodies say ------------------------------------------------------------------------


def test_what_an_agreement_names_stays_as_long_as_the_agreement_does(world: World) -> None:
    agreement, dataset = world.agreement, world.dataset.version.digest
    for digest, owner in ((agreement.application, HOUSING), (dataset, POPULATION), (agreement.digest, POPULATION)):
        world.revoke(digest, owner)
    needed = [Erased(digest=digest, **TEXTS) for digest in (agreement.application, dataset)]
    text = f"the agreement {agreement.digest.hex()[:12]} needs it"
    assert all(text in world.directory.erasure_problem(erased) for erased in needed)
    assert erase(world, POPULATION, digest=agreement.digest).reason == ""
    assert [world.directory.erasure_problem(erased) for erased in needed] == ["", ""]


def test_nothing_else_is_needed(world: World) -> None:
    for erased in (Erased(digest=world.agreement.digest), Erased(access=EntryRange(end=1)), Erased(digest=bytes(32))):
        assert world.directory.erasure_problem(erased) == ""


def test_a_mirror_that_never_had_an_erased_body_has_the_same_rights(world: World) -> None:
    """A dataset is erased with all that it was granted by: what stands afterwards never needed it."""
    dataset, agreement = world.dataset, world.agreement
    for digest in (agreement.digest, dataset.version.digest):
        world.revoke(digest, POPULATION)
        assert erase(world, POPULATION, digest=digest).reason == ""
    bodies = LoggedBodies(world.directory_log, dataset.version.index, agreement.version.index)
    again = Directory.reopened(world.directory.state, bodies)
    assert again.state == world.directory.state
    assert again.dataset(dataset.object_id) is world.directory.dataset(dataset.object_id) is None
