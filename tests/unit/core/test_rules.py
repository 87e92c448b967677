"""Each rule of purposes, objects and revocations refuses the entry that breaks exactly it, and changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exchange.core.entries import ObjectVersion, purpose_entry, revocation_entry
from exchange.core.envelope import ENTRY, Draft
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import Entry, EntryKind, Purpose
from tests.drafts import accepted, entry_draft, key_draft, refused
from tests.memory import fixed
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    CIVIL_AFFAIRS,
    COORDINATOR,
    EXCHANGE,
    HOUSING,
    MARRIAGE,
    ORIGIN,
    POPULATION,
    PURPOSE,
    REGISTRY,
    START,
    World,
)

TRANSPORT = Party(ORIGIN, "transport")


@pytest.fixture
def world() -> World:
    return World.standard()


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
    entry = Entry.FromString(entry_draft(world, POPULATION, "DATASET", body_sha256=bytes(32)).payload)
    entry.kind = 99
    refused(world, Draft(ENTRY, encode(entry)), POPULATION, "number that this version does not know")


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
