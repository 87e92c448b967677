"""Who may forbid and suspend what, and who lifts it; each rule refuses the entry that breaks exactly it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from exchange.core.bars import agreement_target, dataset_target, officer_target, party_target
from exchange.core.entries import ObjectVersion, directory_leaf, guardrail_entry, revocation_entry, suspension_entry
from exchange.core.envelope import Draft
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.snapshot import digest_of, encode_state, open_state
from exchange.core.suspending import Concerned, holding_up, suspended, suspension_problem, suspension_target
from exchange.core.terms import AgreementTerms, Terms
from exchange.core.wire import MAX_TIME, decode, encode
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import DirectoryState, EntryKind, Role
from exchange.v1.guardrail_pb2 import Guardrail, Officer, Suspension
from exchange.v1.guardrail_pb2 import Test as Node
from exchange.v1.procedure_pb2 import Action
from tests.drafts import accepted, entry_draft, refused
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
    World,
)

FORBIDDEN = Node(purpose=PURPOSE)
SECOND_COORDINATOR = Party(ORIGIN, "district-bureau")


@pytest.fixture
def world() -> World:
    return World.standard()


def guardrail(world: World, owner: Party = COORDINATOR, version: ObjectVersion | None = None, **changes: Any) -> Draft:
    said = Guardrail(**({"format": 1, "code": "no-exports", "label": "禁止", "test": FORBIDDEN} | changes))
    return guardrail_entry(owner, version or ObjectVersion(world.fresh(16)), said)


def suspension(world: World, owner: Party, **said: Any) -> Draft:
    return suspension_entry(owner, world.fresh(16), Suspension(**({"reason": "used for another purpose"} | said)))


def targets(world: World) -> set[Any]:
    return {target for target, _ in world.directory.state.bars.all_suspensions()}


def codes(world: World) -> list[str]:
    return [standing.said.code for standing in world.directory.state.bars.guardrails]


# --- guardrails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [EXCHANGE, AUDITOR, BROKER, POPULATION, REGISTRY], ids=str)
def test_only_a_coordinator_signs_guardrails(world: World, party: Party) -> None:
    refused(world, guardrail(world, party), party, "is not a coordinator")
    assert codes(world) == []


def test_a_guardrail_stands_until_it_is_revoked_or_superseded(world: World) -> None:
    digest = accepted(world, guardrail(world), COORDINATOR).digest
    version = ObjectVersion(world.directory.state.versions[digest].object_id, digest)
    second = accepted(world, guardrail(world, version=version, code="no-queries"), COORDINATOR).digest
    assert codes(world) == ["no-queries"]
    accepted(world, guardrail(world), COORDINATOR)
    assert codes(world) == ["no-queries", "no-exports"]
    world.revoke(second, COORDINATOR)
    assert codes(world) == ["no-exports"]


def test_a_revoked_guardrail_stands_again_in_its_next_version(world: World) -> None:
    digest = accepted(world, guardrail(world), COORDINATOR).digest
    world.revoke(digest, COORDINATOR)
    version = ObjectVersion(world.directory.state.versions[digest].object_id, digest)
    accepted(world, guardrail(world, version=version), COORDINATOR)
    assert codes(world) == ["no-exports"]


def test_a_code_belongs_to_one_guardrail_that_stands(world: World) -> None:
    digest = accepted(world, guardrail(world), COORDINATOR).digest
    refused(world, guardrail(world), COORDINATOR, "another guardrail has the code no-exports")
    world.revoke(digest, COORDINATOR)
    accepted(world, guardrail(world), COORDINATOR)
    old = ObjectVersion(world.directory.state.versions[digest].object_id, digest)
    refused(world, guardrail(world, version=old), COORDINATOR, "another guardrail has the code no-exports")
    assert codes(world) == ["no-exports"]


def test_a_guardrail_supersedes_its_owners_own(world: World) -> None:
    world.admit(SECOND_COORDINATOR, Role.ROLE_COORDINATOR)
    digest = accepted(world, guardrail(world), COORDINATOR).digest
    version = ObjectVersion(world.directory.state.versions[digest].object_id, digest)
    refused(world, guardrail(world, SECOND_COORDINATOR, version), SECOND_COORDINATOR, "another owner")
    draft = revocation_entry(SECOND_COORDINATOR, world.fresh(16), digest, "not needed")
    refused(world, draft, SECOND_COORDINATOR, "cannot revoke what")


def test_refuses_a_guardrail_that_is_not_in_its_form(world: World) -> None:
    refused(world, guardrail(world, test=Node()), COORDINATOR, "node 1 of the test is empty")
    refused(world, guardrail(world, code="No"), COORDINATOR, "a guardrail has a code")
    assert codes(world) == []


@pytest.mark.parametrize("kind", ["GUARDRAIL", "SUSPENSION"])
def test_refuses_another_body(world: World, kind: str) -> None:
    draft = entry_draft(world, COORDINATOR, kind, body_sha256=bytes(32))
    refused(world, draft, COORDINATOR, "does not fit its kind")


# --- who suspends what ------------------------------------------------------------------------------------


def said(world: World, what: str) -> dict[str, Any]:
    """What each kind of suspension names."""
    return {
        "agreement": {"agreement": world.agreement.digest},
        "dataset": {"dataset": world.dataset.object_id},
        "requesting department": {"party": str(HOUSING)},
        "requesting system": {"party": str(APPLICATIONS)},
        "providing department": {"party": str(POPULATION)},
        "providing system": {"party": str(REGISTRY)},
        "officer": {"officer": Officer(department=str(HOUSING), pseudonym="officer-7")},
    }[what]


OWNERS = {
    "agreement": POPULATION,
    "dataset": POPULATION,
    "requesting department": None,
    "requesting system": HOUSING,
    "providing department": None,
    "providing system": POPULATION,
    "officer": HOUSING,
}


@pytest.mark.parametrize("what", OWNERS)
@pytest.mark.parametrize("party", [COORDINATOR, POPULATION, HOUSING, CIVIL_AFFAIRS], ids=str)
def test_a_coordinator_suspends_anything_and_a_department_its_own(world: World, party: Party, what: str) -> None:
    draft = suspension(world, party, **said(world, what))
    if party in (COORDINATOR, OWNERS[what]):
        accepted(world, draft, party)
        assert len(targets(world)) == 1
    else:
        refused(world, draft, party, "cannot suspend what is not its own")
        assert targets(world) == set()


@pytest.mark.parametrize("what", OWNERS)
@pytest.mark.parametrize("party", [EXCHANGE, AUDITOR, BROKER, REGISTRY, APPLICATIONS, MARRIAGE], ids=str)
def test_nobody_else_suspends_anything(world: World, party: Party, what: str) -> None:
    refused(world, suspension(world, party, **said(world, what)), party, "cannot suspend what is not its own")


def test_what_is_suspended_is_found_by_its_object_or_its_name(world: World) -> None:
    for what in ("agreement", "dataset", "requesting system", "officer"):
        accepted(world, suspension(world, COORDINATOR, **said(world, what)), COORDINATOR)
    assert targets(world) == {
        agreement_target(world.agreement.object_id),
        dataset_target(world.dataset.object_id),
        party_target(APPLICATIONS),
        officer_target(HOUSING, "officer-7"),
    }


# --- form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "a suspension names an agreement"),
        ({"agreement": bytes(32)}, "no agreement of the directory"),
        ({"dataset": bytes(16)}, "no dataset of the directory"),
        ({"party": "housing"}, "not a party's name"),
        ({"party": f"exchange://{ORIGIN}"}, "no department or system"),
        ({"party": str(COORDINATOR)}, "no department or system"),
        ({"party": f"{HOUSING}/nobody"}, "no department or system"),
        ({"officer": Officer(department="housing", pseudonym="officer-7")}, "not a party's name"),
        ({"officer": Officer(department=str(APPLICATIONS), pseudonym="officer-7")}, "is no department"),
        ({"officer": Officer(department=f"exchange://{ORIGIN}/nobody", pseudonym="officer-7")}, "is no department"),
        ({"officer": Officer(department=str(BROKER), pseudonym="officer-7")}, "is no department"),
        ({"officer": Officer(department=str(HOUSING), pseudonym="")}, "by pseudonym"),
        ({"officer": Officer(department=str(HOUSING), pseudonym="王芳")}, "by pseudonym"),
    ],
    ids=str,
)
def test_refuses_a_suspension_of_nothing_that_there_is(world: World, changes: dict[str, Any], reason: str) -> None:
    refused(world, suspension(world, COORDINATOR, **changes), COORDINATOR, reason)


def test_a_dataset_is_no_agreement_and_an_agreement_no_dataset(world: World) -> None:
    refused(world, suspension(world, COORDINATOR, agreement=world.dataset.version.digest), COORDINATOR, "no agreement")
    refused(world, suspension(world, COORDINATOR, dataset=world.agreement.object_id), COORDINATOR, "no dataset")


def given(world: World) -> AgreementTerms:
    """What a standing approval of population gave to housing."""
    sharing = Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL)
    dataset = world.publish("open", sharing=sharing)
    application = world.apply_for(dataset, standing_approval=world.approve_standing(dataset))
    found = world.directory.agreement(application.version.digest)
    assert found is not None
    return found


def holder(world: World, agreement: AgreementTerms) -> Party | None:
    held = holding_up(world.directory.state, agreement, world.now)
    return held.by if held is not None else None


@pytest.mark.parametrize("party", [POPULATION, COORDINATOR], ids=str)
def test_what_a_standing_approval_gave_is_suspended_and_resumed(world: World, party: Party) -> None:
    agreement = given(world)
    digest = accepted(world, suspension(world, party, agreement=agreement.application), party).digest
    assert holder(world, agreement) == party
    assert world.directory.is_suspended(agreement.digest, world.now)
    assert holder(world, world.agreement) is None
    accepted(world, revocation_entry(party, world.fresh(16), digest, "put right"), party)
    assert holder(world, agreement) is None


def test_what_goes_on_in_the_case_does_not_keep_the_owner_from_suspending(world: World) -> None:
    agreement = given(world)
    world.do(HOUSING, Action.ACTION_RATE, world.directory.state.versions[agreement.application].object_id, rating=1)
    accepted(world, suspension(world, POPULATION, agreement=agreement.application), POPULATION)
    assert holder(world, agreement) == POPULATION


def test_what_was_submitted_after_a_consent_is_suspended_under_its_application(world: World) -> None:
    agreement = given(world)
    submitted = replace(agreement, version=world.agreement.version)
    target = suspension_target(world.directory.state, submitted)
    assert target == agreement_target(world.directory.state.versions[agreement.application].object_id)
    assert suspension_target(world.directory.state, world.agreement) == agreement_target(world.agreement.object_id)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("agreement", "the agreement"),
        ("dataset", "the dataset"),
        ("requesting department", str(HOUSING)),
        ("requesting system", str(APPLICATIONS)),
        ("providing department", str(POPULATION)),
        ("providing system", str(REGISTRY)),
        ("officer", "the officer"),
    ],
)
def test_what_is_held_up_of_a_request_is_told_in_words(world: World, what: str, text: str) -> None:
    concerned = Concerned(world.agreement, world.dataset, APPLICATIONS, "officer-7")
    assert suspended(world.directory.state, concerned, world.now) == ""
    until = world.now + 1
    accepted(world, suspension(world, COORDINATOR, until=until, **said(world, what)), COORDINATOR)
    told = suspended(world.directory.state, concerned, world.now)
    assert told == f"{text} is suspended by {COORDINATOR}: used for another purpose"
    assert suspended(world.directory.state, concerned, until) == ""


def test_what_holds_up_others_holds_up_no_request(world: World) -> None:
    concerned = Concerned(world.agreement, world.dataset, APPLICATIONS, "officer-8")
    accepted(world, suspension(world, COORDINATOR, **said(world, "officer")), COORDINATOR)
    accepted(world, suspension(world, COORDINATOR, party=str(MARRIAGE)), COORDINATOR)
    accepted(world, suspension(world, COORDINATOR, agreement=given(world).application), COORDINATOR)
    assert suspended(world.directory.state, concerned, world.now) == ""


def test_a_suspension_or_guardrail_that_may_stand_has_no_problem(world: World) -> None:
    world.forbid(FORBIDDEN)
    drafts = [(suspension(world, COORDINATOR, **said(world, what)), COORDINATOR) for what in OWNERS]
    drafts.append((suspension(world, POPULATION, agreement=given(world).application), POPULATION))
    digests = [accepted(world, draft, party).digest for draft, party in drafts]
    state, terms = world.directory.state, world.directory.terms
    digests.append(state.bars.guardrails[0].digest)
    for known in (terms, replace(terms, datasets=Map()), Terms()):
        assert [suspension_problem(state, known, state.versions[digest]) for digest in digests] == [""] * len(digests)


@pytest.mark.parametrize("what", ["requesting system", "officer"])
def test_a_requesters_department_holds_up_its_own_beside_the_owner(world: World, what: str) -> None:
    accepted(world, suspension(world, HOUSING, **said(world, what)), HOUSING)
    concerned = Concerned(world.agreement, world.dataset, APPLICATIONS, "officer-7")
    assert f"is suspended by {HOUSING}" in suspended(world.directory.state, concerned, world.now)


@pytest.mark.parametrize("party", [HOUSING, CIVIL_AFFAIRS], ids=str)
def test_nobody_else_holds_up_what_a_standing_approval_gave(world: World, party: Party) -> None:
    agreement = given(world)
    draft = suspension(world, party, agreement=agreement.application)
    assert "cannot suspend what is not its own" in world.append(draft, party).reason
    # The leaf alone does not tell; whoever knows the body does not count it, and one beside it counts.
    assert targets(world) == {agreement_target(agreement.object_id)}
    assert holder(world, agreement) is None
    accepted(world, suspension(world, POPULATION, agreement=agreement.application), POPULATION)
    assert holder(world, agreement) == POPULATION


@pytest.mark.parametrize("party", [EXCHANGE, AUDITOR, BROKER, REGISTRY, APPLICATIONS], ids=str)
def test_only_departments_and_coordinators_suspend_what_a_standing_approval_gave(world: World, party: Party) -> None:
    refused(world, suspension(world, party, agreement=given(world).application), party, "cannot suspend what is not")
    assert targets(world) == set()


def test_an_application_that_no_standing_approval_answered_is_not_suspended(world: World) -> None:
    application = world.apply_for(world.dataset)
    draft = suspension(world, POPULATION, agreement=application.version.digest)
    assert "no agreement of the directory" in world.append(draft, POPULATION).reason
    draft = suspension(world, CIVIL_AFFAIRS, agreement=application.version.digest)
    assert "cannot suspend what is not its own" in world.append(draft, CIVIL_AFFAIRS).reason
    draft = suspension(world, POPULATION, agreement=world.agreement.application)
    assert "no agreement of the directory" in world.append(draft, POPULATION).reason
    assert holder(world, world.agreement) is None


def test_a_mirror_that_does_not_know_the_application_folds_its_suspension_to_the_same_state(world: World) -> None:
    agreement = given(world)
    draft = suspension(world, POPULATION, agreement=agreement.application)
    leaf = directory_leaf(world.sign(draft, POPULATION), world.now)
    blind = replace(world.directory, terms=Terms())
    (seen, told), (unseen, untold) = world.directory.apply(leaf, b""), blind.apply(leaf, b"")
    assert (told.reason, untold.reason) == ("", "")
    assert digest_of(tuple(encode_state(seen.state))) == digest_of(tuple(encode_state(unseen.state)))


def test_a_suspension_has_a_reason_of_up_to_2000_characters(world: World) -> None:
    target = said(world, "dataset")
    for reason in ("字", "字" * 2000):
        accepted(world, suspension(world, POPULATION, reason=reason, **target), POPULATION)
    for reason in ("", "字" * 2001):
        refused(world, suspension(world, POPULATION, reason=reason, **target), POPULATION, "has a reason")


def test_a_suspension_ends_after_it_began(world: World) -> None:
    target = said(world, "dataset")
    accepted(world, suspension(world, POPULATION, until=world.now + 1, **target), POPULATION)
    accepted(world, suspension(world, POPULATION, until=MAX_TIME, **target), POPULATION)
    for until in (1, world.now, MAX_TIME + 1):
        refused(world, suspension(world, POPULATION, until=until, **target), POPULATION, "ends after it began")


def test_a_suspension_has_one_version(world: World) -> None:
    digest = accepted(world, suspension(world, POPULATION, **said(world, "dataset")), POPULATION).digest
    body = Suspension(reason="longer", dataset=world.dataset.object_id)
    draft = entry_draft(
        world,
        POPULATION,
        "SUSPENSION",
        object_id=world.directory.state.versions[digest].object_id,
        supersedes=digest,
        suspension=body,
    )
    refused(world, draft, POPULATION, "supersedes nothing")


# --- who lifts it -----------------------------------------------------------------------------------------


def test_whoever_signed_it_or_a_coordinator_lifts_a_suspension(world: World) -> None:
    world.admit(SECOND_COORDINATOR, Role.ROLE_COORDINATOR)
    target = said(world, "dataset")
    mine = accepted(world, suspension(world, POPULATION, **target), POPULATION).digest
    first = accepted(world, suspension(world, COORDINATOR, **target), COORDINATOR).digest
    third = accepted(world, suspension(world, POPULATION, **target), POPULATION).digest
    for party in (POPULATION, HOUSING, REGISTRY, AUDITOR):
        draft = revocation_entry(party, world.fresh(16), first, "put right")
        refused(world, draft, party, "cannot revoke what")
    world.revoke(mine, POPULATION)
    assert len(targets(world)) == 1
    world.revoke(first, SECOND_COORDINATOR)
    assert len(targets(world)) == 1
    world.revoke(third, COORDINATOR)
    assert targets(world) == set()
    refused(world, revocation_entry(COORDINATOR, world.fresh(16), third, ""), COORDINATOR, "revoked or superseded")


def test_a_coordinator_revokes_no_agreement_for_all_that(world: World) -> None:
    draft = revocation_entry(COORDINATOR, world.fresh(16), world.agreement.digest, "not its own")
    refused(world, draft, COORDINATOR, "cannot revoke what")


# --- snapshots ---------------------------------------------------------------------------------------------


def test_a_snapshot_has_what_stands_and_not_what_was_lifted(world: World) -> None:
    world.forbid(FORBIDDEN, "one")
    gone = world.forbid(FORBIDDEN, "two").digest
    for _ in range(2):
        world.suspend(POPULATION, agreement=world.agreement.digest)
    lifted = world.suspend(COORDINATOR, party=str(HOUSING)).digest
    world.revoke(gone, COORDINATOR)
    world.revoke(lifted, COORDINATOR)
    state, parts = world.directory.state, tuple(encode_state(world.directory.state))
    read = open_state(parts).state
    assert read.bars == state.bars
    assert [standing.said.code for standing in read.bars.guardrails] == ["one"]
    assert [len(held) for held in read.bars.suspensions.values()] == [2]
    assert digest_of(tuple(encode_state(read))) == digest_of(parts)
    ended = [read.versions[digest] for digest in (gone, lifted)]
    assert [version.kind for version in ended] == [EntryKind.ENTRY_KIND_GUARDRAIL, EntryKind.ENTRY_KIND_SUSPENSION]
    assert all(version.barring is not None and version.ended_index is not None for version in ended)


def test_a_state_that_was_read_goes_on_as_one_that_was_folded(world: World) -> None:
    standing = world.forbid(FORBIDDEN, "one").digest
    held = world.suspend(POPULATION, agreement=world.agreement.digest).digest
    world.directory = replace(world.directory, state=open_state(tuple(encode_state(world.directory.state))).state)
    world.forbid(FORBIDDEN, "two")
    world.suspend(COORDINATOR, agreement=world.agreement.digest)
    world.revoke(standing, COORDINATOR)
    world.revoke(held, COORDINATOR)
    assert codes(world) == ["two"]
    assert [suspension.by for _, suspension in world.directory.state.bars.all_suspensions()] == [COORDINATOR]


@pytest.mark.parametrize(
    "wrong",
    [lambda bars: bars[::-1], lambda bars: [bars[0], bars[0]], lambda bars: [0], lambda bars: [1 << 40]],
    ids=["out of order", "twice", "a key", "past the end"],
)
def test_refuses_a_head_that_names_as_a_bar_what_is_none(world: World, wrong: Callable[[list[int]], list[int]]) -> None:
    world.forbid(FORBIDDEN, "one")
    world.suspend(POPULATION, agreement=world.agreement.digest)
    first, *others = encode_state(world.directory.state)
    head = decode(DirectoryState, first)
    head.bars[:] = wrong(list(head.bars))
    with pytest.raises(CoreError):
        open_state((encode(head), *others))


def test_refuses_a_head_that_names_as_a_bar_what_was_lifted(world: World) -> None:
    digest = world.suspend(POPULATION, agreement=world.agreement.digest).digest
    world.revoke(digest, POPULATION)
    first, *others = encode_state(world.directory.state)
    head = decode(DirectoryState, first)
    head.bars.append(world.directory.state.versions[digest].index)
    with pytest.raises(CoreError, match="is no guardrail or suspension that stands"):
        open_state((encode(head), *others))
