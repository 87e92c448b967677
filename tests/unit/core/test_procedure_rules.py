"""The rules of steps, of what the coordinator adopts, of declared breaks, and of what a revocation says since when."""

from typing import Any

import pytest

from exchange.core.entries import mandate_entry, revocation_entry, rules_entry, successor_entry
from exchange.core.envelope import Draft
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.state import RULES_OBJECT
from exchange.v1.directory_pb2 import Successor
from exchange.v1.people_pb2 import Mandate
from exchange.v1.procedure_pb2 import Rules
from tests.drafts import accepted, entry_draft, refused
from tests.memory import MemoryLog, fixed
from tests.world import (
    AUDITOR,
    BROKER,
    COORDINATOR,
    DAY,
    EXCHANGE,
    HOUSING,
    ORIGIN,
    POPULATION,
    POPULATION_HEAD,
    REGISTRY,
    World,
)


@pytest.fixture
def world() -> World:
    return World.standard()


# --- steps -------------------------------------------------------------------------------------------


def step(world: World, party: Party = HOUSING, **changes: Any) -> Draft:
    """A step whose body only its parties have."""
    return entry_draft(world, party, "STEP", **({"body_sha256": fixed("a body")} | changes))


def test_a_step_is_known_by_the_digest_of_its_body(world: World) -> None:
    applied = accepted(world, step(world), HOUSING)
    assert world.directory.state.versions[applied.digest].body_sha256 == fixed("a body")


@pytest.mark.parametrize("party", [EXCHANGE, AUDITOR, BROKER], ids=str)
def test_who_has_no_part_in_procedures_takes_no_step(world: World, party: Party) -> None:
    refused(world, step(world, party), party, "takes no steps in procedures")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_refuses_a_step_without_the_digest_of_a_body(world: World, size: int) -> None:
    refused(world, step(world, body_sha256=bytes(size)), HOUSING, "a step has a digest of its body")


def test_a_step_supersedes_nothing(world: World) -> None:
    before = accepted(world, step(world, object_id=bytes(16)), HOUSING).digest
    refused(world, step(world, object_id=bytes(16), supersedes=before), HOUSING, "and supersedes nothing")


def test_a_step_is_not_revoked(world: World) -> None:
    target = accepted(world, step(world), HOUSING).digest
    refused(world, revocation_entry(HOUSING, world.fresh(16), target, ""), HOUSING, "a step is done")


# --- the rules of procedures ----------------------------------------------------------------------------


def rules(**changes: Any) -> Rules:
    return Rules(**({"format": 1, "jurisdiction": "cn-national", "rules_sha256": bytes(32)} | changes))


def test_the_coordinator_adopts_rules_and_changes_them(world: World) -> None:
    first = accepted(world, rules_entry(COORDINATOR, rules()), COORDINATOR)
    assert world.directory.state.rules == rules()
    changed = rules(jurisdiction="cn-shanxi")
    accepted(world, rules_entry(COORDINATOR, changed, first.digest), COORDINATOR)
    assert world.directory.state.rules == changed


@pytest.mark.parametrize("party", [EXCHANGE, POPULATION, AUDITOR], ids=str)
def test_only_a_coordinator_adopts_rules(world: World, party: Party) -> None:
    refused(world, rules_entry(party, rules()), party, "is not a coordinator")


def test_rules_are_one_object(world: World) -> None:
    refused(world, entry_draft(world, COORDINATOR, "RULES", rules=rules()), COORDINATOR, "have one object id")


def test_nothing_else_takes_the_object_of_the_rules(world: World) -> None:
    refused(world, step(world, object_id=RULES_OBJECT), HOUSING, "the object id is in use")


@pytest.mark.parametrize(
    "changes",
    [{"jurisdiction": ""}, {"jurisdiction": "China"}, {"rules_sha256": b""}, {"rules_sha256": bytes(33)}],
    ids=str,
)
def test_refuses_rules_that_name_no_file(world: World, changes: dict[str, Any]) -> None:
    refused(world, rules_entry(COORDINATOR, rules(**changes)), COORDINATOR, "the rules name a jurisdiction")


# --- revocations -----------------------------------------------------------------------------------------


def test_a_revocation_says_since_when_nobody_vouches_for_a_key(world: World) -> None:
    target = key_id(world.keys[REGISTRY].public_key)
    late = revocation_entry(POPULATION, world.fresh(16), target, "", since=world.now + 1)
    refused(world, late, POPULATION, "and of no time to come")
    accepted(world, revocation_entry(POPULATION, world.fresh(16), target, "", since=world.now), POPULATION)


def test_of_what_is_no_key_a_revocation_does_not_say_since_when(world: World) -> None:
    target = world.agreement.digest
    dated = revocation_entry(POPULATION, world.fresh(16), target, "", since=world.now)
    refused(world, dated, POPULATION, "says since when of a key alone")
    accepted(world, revocation_entry(POPULATION, world.fresh(16), target, ""), POPULATION)


# --- declared breaks ---------------------------------------------------------------------------------------


def test_declared_breaks_are_one_object(world: World) -> None:
    log = MemoryLog(f"{ORIGIN}/access")
    for number in range(3):
        log.append(bytes([number]))
    said = Successor(lost_checkpoint=log.checkpoint(), first_checkpoint=log.checkpoint(1), reason="a disk failed")
    other = entry_draft(world, EXCHANGE, "SUCCESSOR", successor=said)
    refused(world, other, EXCHANGE, "declared breaks have one object id")
    accepted(world, successor_entry(EXCHANGE, said), EXCHANGE)


# --- what is of its owner alone -----------------------------------------------------------------------------


def test_a_head_revokes_no_agreement(world: World) -> None:
    world.admit_heads()
    draft = revocation_entry(POPULATION_HEAD, world.fresh(16), world.agreement.digest, "")
    refused(world, draft, POPULATION_HEAD, "cannot revoke what")


def test_a_mandate_has_no_later_version(world: World) -> None:
    said = Mandate(auditor=str(AUDITOR), not_after=world.now + DAY)
    given = accepted(world, mandate_entry(COORDINATOR, bytes(16), said), COORDINATOR)
    later = entry_draft(world, COORDINATOR, "MANDATE", mandate=said, object_id=bytes(16), supersedes=given.digest)
    refused(world, later, COORDINATOR, "supersedes nothing")
