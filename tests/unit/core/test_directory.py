"""A directory answers from what stands at its size, and an earlier snapshot keeps its answers."""

from typing import Any

import pytest

from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import KeyRecord, Version
from exchange.v1.directory_pb2 import Role, Suite
from tests.drafts import entry_draft
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
    PURPOSE,
    REGISTRY,
    START,
    YEAR,
    World,
)


@pytest.fixture
def world() -> World:
    return World.standard()


def mirrored(world: World, without: bytes = b"") -> Directory:
    """A mirror of the log that lacks the body of one entry."""
    directory = Directory.genesis(ORIGIN, signer("root").public_key)
    for leaf, body, entry in zip(world.directory_log.leaves, world.directory_log.bodies, world.entries, strict=True):
        directory, _ = directory.apply(leaf, b"" if entry.digest == without else body)
    return directory


def test_every_mirror_reaches_the_same_directory(world: World) -> None:
    assert mirrored(world) == world.directory
    assert (world.directory.origin, world.directory.size) == (ORIGIN, world.directory_log.size)


def test_an_empty_directory_holds_the_root_and_nothing_else() -> None:
    directory = Directory.genesis(ORIGIN, signer("root").public_key)
    assert (directory.size, directory.origin) == (0, ORIGIN)
    root = KeyRecord(
        key_id(signer("root").public_key),
        EXCHANGE,
        Role.ROLE_ROOT,
        Suite.SUITE_ECDSA_P256_SHA256,
        signer("root").public_key,
        0,
        2**63 - 1,
        -1,
    )
    assert directory.state.keys_of(EXCHANGE) == (root,)
    assert (directory.state.size, directory.state.time) == (0, 0)
    assert root.stood_at(0)
    assert directory.role_of(EXCHANGE, START) == Role.ROLE_ROOT
    assert directory.role_of(POPULATION, START) is None
    assert directory.dataset(bytes(16)) is None
    assert directory.dataset_named(str(POPULATION), "residents") is None
    assert directory.agreement(bytes(32)) is None
    assert not directory.lacks_body(POPULATION)


ROLES = {
    COORDINATOR: Role.ROLE_COORDINATOR,
    AUDITOR: Role.ROLE_AUDITOR,
    BROKER: Role.ROLE_BROKER,
    POPULATION: Role.ROLE_DEPARTMENT,
    REGISTRY: Role.ROLE_SYSTEM,
}


@pytest.mark.parametrize(("party", "role"), ROLES.items(), ids=str)
def test_a_party_has_the_role_of_its_valid_key(world: World, party: Party, role: Role.ValueType) -> None:
    assert world.directory.role_of(party, START) == role
    assert world.directory.role_of(party, START - DAY) == role
    assert world.directory.role_of(party, START + 10 * YEAR) == role
    assert world.directory.role_of(party, START - DAY - 1) is None
    assert world.directory.role_of(party, START + 10 * YEAR + 1) is None
    world.revoke(key_id(world.keys[party].public_key), EXCHANGE)
    assert world.directory.role_of(party, START) is None


def test_a_sealing_key_gives_no_role(world: World) -> None:
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    assert world.directory.sealing_key(REGISTRY, START) is not None
    assert world.directory.role_of(REGISTRY, START) is None


def test_the_newest_valid_sealing_key_is_used(world: World) -> None:
    first = world.directory.sealing_key(REGISTRY, START)
    world.now = START + 20 * DAY
    world.give_sealing_key(REGISTRY, "later")
    second = world.directory.sealing_key(REGISTRY, world.now)
    assert first is not None
    assert second is not None
    assert (first.key_id, second.key_id) == (key_id(sealing_public(str(REGISTRY))), key_id(sealing_public("later")))
    assert world.directory.sealing_key(REGISTRY, world.now - 1) == first
    assert world.directory.sealing_key(REGISTRY, START + 50 * DAY) == second
    assert world.directory.sealing_key(REGISTRY, START + 50 * DAY + 1) is None
    world.revoke(second.key_id, REGISTRY)
    assert world.directory.sealing_key(REGISTRY, world.now) == first


@pytest.mark.parametrize("party", [POPULATION, Party(ORIGIN, "population", "other"), BROKER], ids=str)
def test_a_party_without_a_sealing_key_has_none(world: World, party: Party) -> None:
    assert world.directory.sealing_key(party, START) is None


def test_agreements_of_a_party_are_those_in_force_newest_first(world: World) -> None:
    object_id, first = world.dataset.object_id, world.agreement
    above = world.grant(world.apply_for(world.dataset, HOUSING))
    world.grant(world.apply_for(world.dataset, MARRIAGE))
    world.grant(world.apply_for(world.publish("households")))
    asked = world.directory.terms.applications[first.application]
    soon = world.grant(asked, not_before=START + 1)

    def agreements_of(party: Party, now: int) -> list[bytes]:
        return [terms.digest for terms in world.directory.agreements_of(party, object_id, now)]

    assert agreements_of(APPLICATIONS, START) == [above.digest, first.digest]
    assert agreements_of(APPLICATIONS, START + 1) == [soon.digest, above.digest, first.digest]
    assert agreements_of(HOUSING, START) == [above.digest]
    assert agreements_of(APPLICATIONS, START + YEAR) == [soon.digest, above.digest, first.digest]
    assert agreements_of(APPLICATIONS, START + YEAR + 1) == []
    world.revoke(above.digest, POPULATION)
    assert agreements_of(APPLICATIONS, START) == [first.digest]
    assert agreements_of(REGISTRY, START) == []


def test_an_agreement_that_ended_is_still_known(world: World) -> None:
    agreement = world.agreement
    world.revoke(agreement.digest, REGISTRY)
    assert world.directory.agreement(agreement.digest) == agreement
    assert not world.directory.stands(agreement)


def test_an_earlier_snapshot_keeps_its_answers(world: World) -> None:
    before, agreement = world.directory, world.agreement
    world.revoke(agreement.digest, REGISTRY)
    assert before.stands(agreement)
    assert before.size + 1 == world.directory.size


def test_a_revoked_dataset_is_gone_under_every_name(world: World) -> None:
    dataset = world.dataset
    world.revoke(dataset.version.digest, POPULATION)
    assert world.directory.dataset(dataset.object_id) is None
    assert world.directory.dataset_named(str(POPULATION), "residents") is None


@pytest.mark.parametrize("what", ["dataset", "application", "agreement"])
def test_a_department_knows_when_it_lacks_a_body_of_its_own(world: World, what: str) -> None:
    digests = {
        "dataset": world.dataset.version.digest,
        "application": world.agreement.application,
        "agreement": world.agreement.digest,
    }
    blind = mirrored(world, without=digests[what])
    owner = HOUSING if what == "application" else POPULATION
    assert blind.lacks_body(owner)
    assert not blind.lacks_body(COORDINATOR)
    assert not world.directory.lacks_body(owner)


def test_a_body_that_ended_is_not_missed(world: World) -> None:
    digest = world.agreement.digest
    world.revoke(digest, POPULATION)
    assert not mirrored(world, without=digest).lacks_body(POPULATION)


def test_the_body_of_a_superseded_dataset_is_not_missed() -> None:
    world = World.founded()
    before = world.publish()
    world.publish(version=ObjectVersion(before.object_id, before.version.digest), title="v2")
    blind = mirrored(world, without=before.version.digest)
    assert blind.dataset(before.object_id) == world.dataset
    assert not blind.lacks_body(POPULATION)


def test_a_body_given_for_an_entry_without_one_changes_nothing(world: World) -> None:
    before = world.directory
    for draft, party in (
        (entry_draft(world, COORDINATOR, "PURPOSE", purpose={"code": "a.b", "label": "a"}), COORDINATOR),
        (entry_draft(world, POPULATION, "REVOCATION", revocation={"target": world.agreement.digest}), POPULATION),
    ):
        assert not world.append(draft, party).reason
        directory, applied = before.apply(world.directory_log.leaves[-1], b"body")
        assert not applied.reason
        assert directory.terms == before.terms


def test_is_usable_only_while_valid_and_not_revoked(world: World) -> None:
    record = world.directory.state.keys[key_id(world.keys[REGISTRY].public_key)]
    assert world.directory.is_usable(record, START)
    assert not world.directory.is_usable(record, record.not_after + 1)
    world.revoke(record.key_id, REGISTRY)
    assert not world.directory.is_usable(world.directory.state.keys[record.key_id], START)


def _stood(value: KeyRecord | Version) -> dict[int, bool]:
    return {size: value.stood_at(size) for size in range(5, 12)}


@pytest.mark.parametrize("ended", [None, 8, 9])
def test_what_stood_at_a_size_is_what_the_entries_before_it_say(ended: int | None) -> None:
    """Entry 6 begins it, entry `ended` ends it: a directory of size n holds the entries below n."""
    key: dict[str, Any] = {"party": REGISTRY, "role": 0, "suite": 0, "public_key": b"", "not_before": 0, "not_after": 0}
    expected = {size: size > 6 and (ended is None or size <= ended) for size in range(5, 12)}
    assert _stood(KeyRecord(key_id=b"", index=6, revoked_index=ended, **key)) == expected
    assert _stood(Version(b"", 0, b"", REGISTRY, 6, 0, b"", ended_index=ended)) == expected


def test_a_registered_purpose_is_known_by_its_code(world: World) -> None:
    state = world.directory.state
    purpose = state.purpose(PURPOSE)
    assert purpose is not None
    assert purpose.code == PURPOSE
    assert state.purpose("housing.sale") is None
