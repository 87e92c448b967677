"""Applications, steps and agreements as the directory folds them: who may do what when, and which rights follow."""

import hashlib

import pytest

from exchange.core import case_moves
from exchange.core.case import Case, actors
from exchange.core.decision import Allow, Deny, decide
from exchange.core.directory import Directory
from exchange.core.entries import (
    Body,
    ObjectVersion,
    key_entry,
    revocation_entry,
    rules_entry,
    signing_key_statement,
    suspension_entry,
)
from exchange.core.envelope import Draft
from exchange.core.fold import Applied
from exchange.core.names import Party
from exchange.core.procedure import Stage, Timer, Who
from exchange.core.response import check_response
from exchange.core.snapshot import encode_state, open_state
from exchange.core.state import RULES_OBJECT
from exchange.core.terms import ApplicationTerms
from exchange.v1.access_pb2 import Code
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from exchange.v1.directory_pb2 import Agreement, Role
from exchange.v1.guardrail_pb2 import Suspension
from exchange.v1.procedure_pb2 import Action, Outcome, Rules, StandingApproval, Step
from exchange.v1.request_pb2 import Operation
from exchange.v1.terms_pb2 import Limits, Mask
from tests.memory import LoggedBodies, signer
from tests.world import (
    APPLICATIONS,
    AUDITOR,
    CIVIL_AFFAIRS,
    COORDINATOR,
    DAY,
    GRANTED,
    HOUSING,
    HOUSING_HEAD,
    ORIGIN,
    POPULATION,
    POPULATION_HEAD,
    PURPOSE,
    REGISTRY,
    YEAR,
    World,
)

UNCONDITIONAL = Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL)
CONSENT, SUBMIT = Action.ACTION_CONSENT, Action.ACTION_SUBMIT
RETURN, REFUSE, SUPPLY = Action.ACTION_RETURN, Action.ACTION_REFUSE, Action.ACTION_SUPPLY
DISPUTE, ESCALATE, SETTLE = Action.ACTION_OPEN_DISPUTE, Action.ACTION_ESCALATE, Action.ACTION_SETTLE


@pytest.fixture
def world() -> World:
    """A dataset that is shared with everybody, and heads of both offices; nothing is asked of procedures."""
    world = World.founded()
    world.register(PURPOSE)
    world.admit_heads()
    world.publish(sharing=UNCONDITIONAL)
    return world


@pytest.fixture
def strict(world: World) -> World:
    """The same, where heads consent."""
    world.adopt(consent=True)
    return world


def case_of(world: World, application: ApplicationTerms) -> Case:
    return world.case(application.version.object_id)


def submitted(world: World, **changes: object) -> ApplicationTerms:
    """An application with the consent of its head, submitted."""
    application = world.apply_for(world.dataset, **changes)
    world.do(HOUSING_HEAD, CONSENT, application.version.object_id, digest=application.version.digest)
    world.do(HOUSING, SUBMIT, application.version.object_id, digest=application.version.digest)
    return application


def answer(world: World, application: ApplicationTerms, **changes: object) -> Draft:
    """The owner's agreement, unsigned, so that its head can see it first."""
    body = Agreement(
        format=1,
        dataset=application.dataset,
        grantee=str(application.grantee),
        application=application.version.digest,
        operations=sorted(application.operations),
        fields=application.fields,
        filterable=sorted(application.filterable),
        purposes=sorted(application.purposes),
        not_before=world.now,
        not_after=world.now + YEAR,
        **changes,
    )
    return world.body_draft(POPULATION, body)


def body_digest(world: World, draft: Draft) -> bytes:
    return hashlib.sha256(draft.attachments[0]).digest()


def agreed(world: World) -> tuple[ApplicationTerms, Applied]:
    """An application that both heads consented to, agreed."""
    application = submitted(world)
    draft = answer(world, application)
    world.do(
        POPULATION_HEAD,
        Action.ACTION_CONSENT_ANSWER,
        application.version.object_id,
        digest=body_digest(world, draft),
    )
    applied = world.append(draft, POPULATION)
    assert not applied.reason, applied.reason
    return application, applied


# Without rules everything is as it was before there were any.


def test_without_rules_a_signed_application_is_submitted(world: World) -> None:
    case = case_of(world, world.apply_for(world.dataset))
    assert case.stage == Stage.SUBMITTED
    run = case.running(Timer.ANSWER)
    assert run is not None
    assert (run.code, run.started) == ("application.answer.unconditional", world.now)


def test_without_rules_an_agreement_needs_nobodys_consent(world: World) -> None:
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    case = case_of(world, application)
    assert (case.stage, case.standing) == (Stage.AGREED, {agreement.digest})
    assert world.directory.stands(agreement)


def test_a_dataset_with_conditions_has_the_longer_clock(world: World) -> None:
    conditional = SharingClass.SHARING_CLASS_CONDITIONAL
    sharing = Sharing(sharing_class=conditional, conditions=["within the city"], purposes=[PURPOSE])
    dataset = world.publish("conditional", sharing=sharing)
    run = case_of(world, world.apply_for(dataset)).running(Timer.ANSWER)
    assert run is not None
    assert run.code == "application.answer.conditional"


# Rules.


def test_the_latest_rules_hold_until_they_are_revoked(world: World) -> None:
    world.adopt(consent=True)
    world.adopt(consent=True, review=True)
    assert world.directory.state.rules.review
    world.revoke(world.directory.state.objects[RULES_OBJECT], COORDINATOR)
    assert not world.directory.state.rules.consent


def test_only_the_coordinator_adopts_rules_under_their_one_object_id(world: World) -> None:
    rules = Rules(format=1, jurisdiction="cn-national", rules_sha256=bytes(32))
    assert "not a coordinator" in world.append(rules_entry(POPULATION, rules), POPULATION).reason
    malformed = Rules(format=1, jurisdiction="No Code", rules_sha256=bytes(32))
    assert "jurisdiction" in world.append(rules_entry(COORDINATOR, malformed), COORDINATOR).reason
    world.adopt()
    assert "in use" in world.append(rules_entry(COORDINATOR, rules), COORDINATOR).reason


def test_nothing_else_takes_the_object_id_of_the_rules(world: World) -> None:
    draft = world.body_draft(POPULATION, world.dataset.descriptor, ObjectVersion(RULES_OBJECT))
    assert "in use" in world.append(draft, POPULATION).reason


# Heads.


def test_a_head_is_admitted_by_its_department_alone(world: World) -> None:
    name = Party(ORIGIN, "housing", "deputy")
    statement = signing_key_statement(ORIGIN, name, Role.ROLE_HEAD, signer("deputy"), (world.now, world.now + YEAR))
    assert "cannot sign a key" in world.append(key_entry(POPULATION, world.fresh(16), statement), POPULATION).reason
    assert not world.append(key_entry(HOUSING, world.fresh(16), statement), HOUSING).reason


def test_a_head_can_neither_sign_objects_nor_revoke_agreements(world: World) -> None:
    agreement = world.grant(world.apply_for(world.dataset))
    draft = world.body_draft(POPULATION_HEAD, world.dataset.descriptor)
    assert "not a department" in world.append(draft, POPULATION_HEAD).reason
    revocation = revocation_entry(POPULATION_HEAD, world.fresh(16), agreement.digest, "no")
    assert "cannot revoke" in world.append(revocation, POPULATION_HEAD).reason
    assert world.directory.stands(agreement)


# Consents.


def test_with_rules_an_application_waits_for_its_head(strict: World) -> None:
    application = strict.apply_for(strict.dataset)
    assert case_of(strict, application).stage == Stage.DRAFTED
    early = strict.step(HOUSING, SUBMIT, application.version.object_id, digest=application.version.digest)
    assert "the head of the applicant's office consents to this version first" in early.reason
    assert not case_of(strict, application).runs


def test_the_clock_of_the_answer_starts_with_the_submission(strict: World) -> None:
    application = strict.apply_for(strict.dataset)
    strict.do(HOUSING_HEAD, CONSENT, application.version.object_id, digest=application.version.digest)
    strict.now += DAY
    strict.do(HOUSING, SUBMIT, application.version.object_id, digest=application.version.digest)
    run = case_of(strict, application).running(Timer.ANSWER)
    assert run is not None
    assert run.started == strict.now


@pytest.mark.parametrize("party", [HOUSING, POPULATION_HEAD, COORDINATOR, APPLICATIONS, CIVIL_AFFAIRS])
def test_nobody_but_the_applicants_head_consents(strict: World, party: Party) -> None:
    application = strict.apply_for(strict.dataset)
    fields = {"digest": application.version.digest}
    assert strict.step(party, CONSENT, application.version.object_id, **fields).reason
    assert case_of(strict, application).stage == Stage.DRAFTED


def test_an_auditor_takes_no_step(strict: World) -> None:
    application = strict.apply_for(strict.dataset)
    applied = strict.step(AUDITOR, CONSENT, application.version.object_id, digest=application.version.digest)
    assert applied.reason == f"{AUDITOR} takes no steps in procedures"


def test_a_consent_is_to_one_version_and_a_new_one_needs_its_own(strict: World) -> None:
    application = strict.apply_for(strict.dataset)
    object_id, digest = application.version.object_id, application.version.digest
    strict.do(HOUSING_HEAD, CONSENT, object_id, digest=digest)
    later = strict.apply_for(strict.dataset, version=ObjectVersion(object_id, digest), fields=["name"])
    assert case_of(strict, later).stage == Stage.DRAFTED
    assert "another version" in strict.step(HOUSING_HEAD, CONSENT, object_id, digest=digest).reason


def test_no_agreement_opens_before_the_application_is_submitted(strict: World) -> None:
    application = strict.apply_for(strict.dataset)
    applied = strict.append(answer(strict, application), POPULATION)
    assert "the case is drafted, so nobody can agree now" in applied.reason
    assert "consent (the head of the applicant's office)" in applied.reason
    assert applied.digest not in strict.directory.terms.agreements


def test_no_agreement_opens_without_the_consent_of_the_owners_head(strict: World) -> None:
    application = submitted(strict)
    applied = strict.append(answer(strict, application), POPULATION)
    assert "the head of the owner's office consents to exactly this answer first" in applied.reason
    assert strict.directory.agreement(applied.digest) is None


def test_the_owners_head_consents_to_exactly_one_body(strict: World) -> None:
    application = submitted(strict)
    wide, narrow = answer(strict, application), answer(strict, application, retention_days=30)
    consent = Action.ACTION_CONSENT_ANSWER
    strict.do(POPULATION_HEAD, consent, application.version.object_id, digest=body_digest(strict, narrow))
    assert strict.append(wide, POPULATION).reason
    applied = strict.append(narrow, POPULATION)
    assert not applied.reason
    agreement = strict.directory.agreement(applied.digest)
    assert agreement is not None
    assert strict.directory.stands(agreement)


def test_a_refusal_is_consented_to_as_any_other_answer(strict: World) -> None:
    application = submitted(strict)
    step = Step(format=1, action=REFUSE, subject=application.version.object_id, text="another register has it")
    draft = strict.body_draft(POPULATION, step)
    assert "consents to exactly this answer first" in strict.append(draft, POPULATION).reason
    draft = strict.body_draft(POPULATION, step)
    consent = Action.ACTION_CONSENT_ANSWER
    strict.do(POPULATION_HEAD, consent, application.version.object_id, digest=body_digest(strict, draft))
    assert not strict.append(draft, POPULATION).reason
    assert case_of(strict, application).stage == Stage.REFUSED


def test_rules_that_come_later_leave_earlier_agreements_alone(world: World) -> None:
    agreement = world.grant(world.apply_for(world.dataset))
    world.adopt(consent=True)
    assert world.directory.stands(agreement)


# Answers.


def test_missing_papers_are_told_once_and_the_clock_stands_still_meanwhile(world: World) -> None:
    application = world.apply_for(world.dataset)
    object_id, digest = application.version.object_id, application.version.digest
    returned = world.now + DAY
    world.now = returned
    world.do(POPULATION, RETURN, object_id, missing=["the decision of the council"])
    run = case_of(world, application).running(Timer.ANSWER)
    assert run is not None
    assert run.pauses == ((returned, None),)
    world.now += DAY
    world.do(HOUSING, SUBMIT, object_id, digest=digest, text="the decision is attached to the file")
    run = case_of(world, application).running(Timer.ANSWER)
    assert run is not None
    assert run.pauses == ((returned, world.now),)
    again = world.step(POPULATION, RETURN, object_id, missing=["a stamp"])
    assert "told once, and completely" in again.reason


def test_a_new_version_of_what_was_returned_keeps_its_one_return(world: World) -> None:
    application = world.apply_for(world.dataset)
    object_id, digest = application.version.object_id, application.version.digest
    world.do(POPULATION, RETURN, object_id, missing=["a narrower list of fields"])
    later = world.apply_for(world.dataset, version=ObjectVersion(object_id, digest), fields=["name"])
    case = case_of(world, later)
    assert case.stage == Stage.SUBMITTED
    assert [len(run.pauses) for run in case.runs] == [1]
    assert "told once" in world.step(POPULATION, RETURN, object_id, missing=["more"]).reason


@pytest.mark.parametrize(
    ("action", "fields", "reason"),
    [
        (RETURN, {}, "a return lists what is missing"),
        (RETURN, {"missing": [""]}, "a return lists what is missing"),
        (REFUSE, {}, "reasons are given"),
        (REFUSE, {"text": "  "}, "reasons are given"),
        (SUPPLY, {"digest": bytes(32)}, "nobody can supply now"),
        (REFUSE, {"text": "no", "rating": 3}, "rating does not go with ACTION_REFUSE"),
        (SUPPLY, {"digest": b"short"}, "impossible length"),
        (Action.ACTION_PUBLISH, {"digest": bytes(32)}, "the dataset is not known here"),
    ],
)
def test_a_step_that_lacks_something_is_refused(
    world: World, action: Action.ValueType, fields: dict[str, object], reason: str
) -> None:
    application = world.apply_for(world.dataset)
    applied = world.step(POPULATION, action, application.version.object_id, **fields)
    assert reason in applied.reason
    assert case_of(world, application).stage == Stage.SUBMITTED


def test_a_refused_application_can_be_agreed_to_after_all(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.do(POPULATION, REFUSE, application.version.object_id, text="no legal basis")
    assert not case_of(world, application).is_open
    world.grant(application)
    assert case_of(world, application).stage == Stage.AGREED


def test_only_the_coordinator_extends_and_only_once(world: World) -> None:
    application = world.apply_for(world.dataset)
    object_id, clock = application.version.object_id, "application.answer.unconditional"
    extend = Action.ACTION_EXTEND
    assert "is for the coordinator to do" in world.step(POPULATION, extend, object_id, clock=clock).reason
    assert "the clock that runs is" in world.step(COORDINATOR, extend, object_id, clock="application.supply").reason
    world.do(COORDINATOR, extend, object_id, clock=clock)
    run = case_of(world, application).running(Timer.ANSWER)
    assert run is not None
    assert run.extended
    assert "extended before" in world.step(COORDINATOR, extend, object_id, clock=clock).reason


def test_supplying_stops_its_clock_and_the_owners_system_may_say_so(world: World) -> None:
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    assert case_of(world, application).running(Timer.SUPPLY) is not None
    world.do(REGISTRY, SUPPLY, application.version.object_id, digest=agreement.digest)
    case = case_of(world, application)
    assert case.stage == Stage.SUPPLIED
    assert case.running(Timer.SUPPLY) is None


def test_a_case_of_very_many_events_can_only_be_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case_moves, "MAX_EVENTS", 4)
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    rate, about = Action.ACTION_RATE, application.version.object_id
    for rating in (4, 5):
        world.do(HOUSING, rate, about, rating=rating)
    assert "has 4 events already: it can only be ended" in world.step(HOUSING, rate, about, rating=3).reason
    assert case_of(world, application).rating == 5
    assert world.directory.stands(agreement)
    world.do(POPULATION, Action.ACTION_END, about, text="enough")
    assert not world.directory.stands(agreement)


def test_the_applicant_rates_what_it_got(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.grant(application)
    rate = Action.ACTION_RATE
    assert "1 to 5" in world.step(HOUSING, rate, application.version.object_id, rating=6).reason
    world.do(HOUSING, rate, application.version.object_id, rating=4, text="quick")
    assert case_of(world, application).rating == 4
    assert (
        "is for the applicant's steward" in world.step(POPULATION, rate, application.version.object_id, rating=5).reason
    )


# Ends.


def test_a_withdrawn_application_cannot_be_agreed_to(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.do(HOUSING, Action.ACTION_WITHDRAW, application.version.object_id)
    assert case_of(world, application).stage == Stage.WITHDRAWN
    applied = world.append(answer(world, application), POPULATION)
    assert "the case is withdrawn, so nobody can agree now; possible are: apply" in applied.reason


def test_a_revoked_application_is_withdrawn_too(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.revoke(application.version.digest, HOUSING)
    assert case_of(world, application).stage == Stage.WITHDRAWN


def test_a_revoked_agreement_ends_its_case_and_its_owner_may_agree_again(world: World) -> None:
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    world.revoke(agreement.digest, REGISTRY)
    assert case_of(world, application).stage == Stage.ENDED
    version = ObjectVersion(agreement.version.object_id, agreement.digest)
    world.grant(application, version)
    assert case_of(world, application).stage == Stage.AMENDED


@pytest.mark.parametrize("party", [HOUSING, POPULATION, REGISTRY])
def test_either_side_ends_an_agreement_by_a_step(world: World, party: Party) -> None:
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    world.do(party, Action.ACTION_END, application.version.object_id, text="the purpose is met")
    assert not world.directory.stands(agreement)
    assert world.directory.agreements_of(APPLICATIONS, world.dataset.object_id, world.now) == ()
    assert case_of(world, application).stage == Stage.ENDED
    later = world.grant(application)
    assert world.directory.stands(later)
    assert not world.directory.stands(agreement)


def test_a_later_version_amends(world: World) -> None:
    application = world.apply_for(world.dataset)
    first = world.grant(application)
    second = world.grant(application, ObjectVersion(first.version.object_id, first.digest), fields=["name"])
    case = case_of(world, application)
    assert (case.stage, case.standing) == (Stage.AMENDED, {second.digest})


def test_an_agreement_that_moves_to_another_application_ends_the_first_case(world: World) -> None:
    first, second = world.apply_for(world.dataset), world.apply_for(world.dataset)
    old = world.grant(first)
    world.grant(second, ObjectVersion(old.version.object_id, old.digest))
    assert case_of(world, first).stage == Stage.ENDED
    assert case_of(world, second).stage == Stage.AGREED


def test_what_is_answered_is_not_applied_for_again_by_another_version(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.grant(application)
    version = ObjectVersion(application.version.object_id, application.version.digest)
    draft = world.body_draft(HOUSING, world.application_body(world.dataset), version)
    assert "the case is agreed, so nobody can apply now" in world.append(draft, HOUSING).reason


def test_a_step_is_never_revoked(world: World) -> None:
    application = world.apply_for(world.dataset)
    step = world.do(HOUSING, Action.ACTION_WITHDRAW, application.version.object_id)
    applied = world.append(revocation_entry(HOUSING, world.fresh(16), step.digest, "sorry"), HOUSING)
    assert applied.reason == "a step is done: it cannot be revoked"


# Disputes.


def disputed(world: World, opener: Party = HOUSING, *, refused: bool = False) -> tuple[ApplicationTerms, bytes]:
    application = world.apply_for(world.dataset)
    if refused:
        world.do(POPULATION, REFUSE, application.version.object_id, text="no")
    else:
        world.grant(application)
    dispute = world.fresh(16)
    world.do(opener, DISPUTE, dispute, about=application.version.object_id, text="the law says otherwise")
    return application, dispute


def test_the_parties_can_only_give_way(world: World) -> None:
    application, dispute = disputed(world)
    outcome = {"outcome": Outcome.OUTCOME_CONTINUE, "text": "agreed by telephone"}
    assert "drops the dispute" in world.step(POPULATION, SETTLE, dispute, **outcome).reason
    assert "drops the dispute" in world.step(COORDINATOR, SETTLE, dispute, **outcome).reason
    world.do(HOUSING, SETTLE, dispute, **outcome)
    assert case_of(world, application).stage == Stage.AGREED


def test_once_escalated_only_the_coordinator_settles(world: World) -> None:
    application, dispute = disputed(world, POPULATION)
    world.do(POPULATION, ESCALATE, dispute, text="no agreement was found")
    outcome = {"outcome": Outcome.OUTCOME_END, "text": "the data was passed on"}
    assert "who settles it" in world.step(HOUSING, SETTLE, dispute, **outcome).reason
    world.do(COORDINATOR, SETTLE, dispute, **outcome)
    assert case_of(world, application).stage == Stage.ENDED


def test_a_dispute_goes_up_to_the_level_above_and_no_further(world: World) -> None:
    application, dispute = disputed(world)
    world.do(HOUSING, ESCALATE, dispute, text="to the coordinator")
    world.do(COORDINATOR, ESCALATE, dispute, text="to the government")
    assert "with the level above already" in world.step(COORDINATOR, ESCALATE, dispute, text="further").reason
    assert case_of(world, application).level == 2


def test_a_settlement_ends_an_agreement_for_good(world: World) -> None:
    application, dispute = disputed(world)
    agreement = world.agreement
    world.do(HOUSING, ESCALATE, dispute, text="no agreement was found")
    world.do(COORDINATOR, SETTLE, dispute, outcome=Outcome.OUTCOME_END, text="passed on")
    assert not world.directory.stands(agreement)
    applied = world.append(answer(world, application), POPULATION)
    assert "only a new application" in applied.reason
    assert world.directory.agreement(applied.digest) is None


def test_a_settlement_opens_a_refused_application_for_the_owner_to_agree_to(world: World) -> None:
    application, dispute = disputed(world, refused=True)
    world.do(HOUSING, ESCALATE, dispute, text="no agreement was found")
    unfit = world.step(COORDINATOR, SETTLE, dispute, outcome=Outcome.OUTCOME_AMEND, text="amend")
    assert "this outcome does not fit" in unfit.reason
    world.do(COORDINATOR, SETTLE, dispute, outcome=Outcome.OUTCOME_AGREE, text="the basis holds")
    case = case_of(world, application)
    assert case.stage == Stage.SETTLED
    assert case.running(Timer.ANSWER) is not None
    assert "nobody can refuse now" in world.step(POPULATION, REFUSE, application.version.object_id, text="no").reason
    world.grant(application)
    assert case_of(world, application).stage == Stage.AGREED


def test_a_settlement_to_amend_is_met_by_a_later_version_alone(world: World) -> None:
    application, dispute = disputed(world)
    world.do(POPULATION, SETTLE, dispute, outcome=Outcome.OUTCOME_AMEND, text="one more field")
    applied = world.append(answer(world, application), POPULATION)
    assert "binds the owner's steward to amend" in applied.reason
    old = world.agreement
    world.grant(application, ObjectVersion(old.version.object_id, old.digest))
    assert case_of(world, application).stage == Stage.AMENDED


def test_a_step_of_another_dispute_is_refused(world: World) -> None:
    application, first = disputed(world)
    world.do(HOUSING, SETTLE, first, outcome=Outcome.OUTCOME_CONTINUE, text="over")
    second = world.fresh(16)
    world.do(HOUSING, DISPUTE, second, about=application.version.object_id, text="again")
    assert "not the one that is open" in world.step(HOUSING, ESCALATE, first, text="up").reason
    reused = world.step(HOUSING, DISPUTE, first, about=application.version.object_id, text="once more")
    assert "in use" in reused.reason
    assert "not known here" in world.step(HOUSING, ESCALATE, world.fresh(16), text="up").reason


# Suspensions.


def test_what_is_suspended_is_shown_as_such_and_goes_on_as_before(world: World) -> None:
    application = world.apply_for(world.dataset)
    agreement = world.grant(application)
    suspension = world.suspend(COORDINATOR, agreement=agreement.digest)
    assert world.directory.is_suspended(agreement.digest, world.now)
    case = case_of(world, application)
    assert case.shown(suspended=True) == Stage.SUSPENDED
    world.do(HOUSING, Action.ACTION_RATE, application.version.object_id, rating=1)
    world.revoke(suspension.digest, COORDINATOR)
    assert not world.directory.is_suspended(agreement.digest, world.now)
    assert case_of(world, application).shown(suspended=False) == Stage.AGREED


def test_a_review_date_that_has_come_and_a_suspended_dataset_hold_up_the_agreement(world: World) -> None:
    application = world.apply_for(world.dataset)
    reviewed = world.grant(application, review_at=world.now + DAY)
    assert not world.directory.is_suspended(reviewed.digest, world.now)
    assert world.directory.is_suspended(reviewed.digest, world.now + DAY)
    world.suspend(POPULATION, dataset=world.dataset.object_id)
    assert world.directory.is_suspended(reviewed.digest, world.now)
    assert not world.directory.is_suspended(bytes(32), world.now)


def test_a_refused_application_is_not_shown_as_suspended(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.do(POPULATION, REFUSE, application.version.object_id, text="no")
    assert case_of(world, application).shown(suspended=True) == Stage.REFUSED


# Standing approvals.


def test_a_fitting_application_is_answered_at_once(world: World) -> None:
    masks = [Mask(field="name", first=1), Mask(field="address", last=2)]
    approval = world.approve_standing(world.dataset, masks=masks, limits=Limits(per_day=100))
    application = world.apply_for(world.dataset, standing_approval=approval, fields=["name"], filterable=[])
    agreement = world.directory.agreement(application.version.digest)
    assert agreement is not None
    assert world.directory.agreements_of(APPLICATIONS, world.dataset.object_id, world.now) == (agreement,)
    assert agreement.version.owner == POPULATION
    assert (set(agreement.masks), agreement.limits.per_day, agreement.approval) == ({"name"}, 100, approval)
    assert case_of(world, application).stage == Stage.AGREED


def test_with_consents_it_is_answered_when_it_is_submitted(strict: World) -> None:
    terms = strict.body_draft(POPULATION, approval_body(strict))
    assert "consents to exactly this standing approval first" in strict.append(terms, POPULATION).reason
    terms = strict.body_draft(POPULATION, approval_body(strict))
    consent, dataset = Action.ACTION_CONSENT_ANSWER, strict.dataset.object_id
    digest = body_digest(strict, terms)
    assert "is not the head of the owner's office" in strict.step(HOUSING_HEAD, consent, dataset, digest=digest).reason
    strict.do(POPULATION_HEAD, consent, dataset, digest=digest)
    approval = strict.append(terms, POPULATION)
    assert not approval.reason
    application = strict.apply_for(strict.dataset, standing_approval=approval.digest)
    object_id, digest = application.version.object_id, application.version.digest
    strict.do(HOUSING_HEAD, CONSENT, object_id, digest=digest)
    assert strict.directory.agreements_of(APPLICATIONS, strict.dataset.object_id, strict.now) == ()
    step = strict.do(HOUSING, SUBMIT, object_id, digest=digest)
    (agreement,) = strict.directory.agreements_of(APPLICATIONS, strict.dataset.object_id, strict.now)
    assert agreement.digest == step.digest
    strict.suspend(POPULATION, agreement=application.version.digest)
    assert strict.directory.is_suspended(agreement.digest, strict.now)
    assert "no agreement of the directory" in suspended_by_name(strict, step.digest)


def suspended_by_name(world: World, digest: bytes) -> str:
    """Why what has this digest cannot be suspended."""
    draft = suspension_entry(POPULATION, world.fresh(16), Suspension(agreement=digest, reason="misused"))
    return world.append(draft, POPULATION).reason


def approval_body(world: World, **changes: object) -> Body:
    defaults: dict[str, object] = {
        "dataset": world.dataset.object_id,
        "grantees": [f"exchange://{ORIGIN}"],
        "operations": [Operation.OPERATION_LOOKUP, Operation.OPERATION_QUERY],
        "fields": GRANTED,
        "filterable": ["area_m2"],
        "purposes": [PURPOSE],
        "days": 400,
        "not_after": world.now + 2 * YEAR,
    }
    return StandingApproval(format=1, **(defaults | changes))


@pytest.mark.parametrize(
    ("approved", "asked", "reason"),
    [
        ({"grantees": [str(CIVIL_AFFAIRS)]}, {}, "is not for exchange://city.example/housing/applications"),
        ({"fields": ["name"]}, {}, "does not give every field"),
        ({"operations": [Operation.OPERATION_LOOKUP]}, {}, "does not give every operation"),
        ({"filterable": []}, {}, "does not give every filterable field"),
        ({"days": 30}, {}, "asks for another term"),
        ({}, {"not_after": 1}, "asks for another term"),
        ({}, {"standing_approval": bytes(32)}, "does not stand"),
    ],
)
def test_an_application_outside_the_standing_approval_is_refused(
    world: World, approved: dict[str, object], asked: dict[str, object], reason: str
) -> None:
    approval = world.approve_standing(world.dataset, **approved)
    named = {"standing_approval": approval} | asked
    body = world.application_body(world.dataset, **named)
    applied = world.append(world.body_draft(HOUSING, body), HOUSING)
    assert reason in applied.reason
    assert world.directory.agreement(applied.digest) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grantees": []}, "names grantees"),
        ({"grantees": ["housing"]}, "not a party's name"),
        ({"days": 0}, "the longest term is"),
        ({"not_after": 1}, "the longest term is"),
        ({"fields": ["salary"]}, "has no field"),
        ({"purposes": ["unknown"]}, "is not registered"),
        ({"masks": [Mask(field="name", first=0)]}, "a mask shows"),
        ({"dataset": bytes(16)}, "not known"),
    ],
)
def test_a_malformed_standing_approval_gives_nothing(world: World, changes: dict[str, object], reason: str) -> None:
    applied = world.append(world.body_draft(POPULATION, approval_body(world, **changes)), POPULATION)
    assert reason in applied.reason
    assert applied.digest not in world.directory.terms.approvals


def test_only_the_owner_of_unconditional_data_approves_for_all(world: World) -> None:
    assert "does not own" in world.append(world.body_draft(HOUSING, approval_body(world)), HOUSING).reason
    dataset = world.publish("other")
    body = approval_body(world, dataset=dataset.object_id)
    assert "unconditional" in world.append(world.body_draft(POPULATION, body), POPULATION).reason


@pytest.mark.parametrize("ends", ["approval", "application"])
def test_rights_under_a_standing_approval_end_with_it_or_with_the_application(world: World, ends: str) -> None:
    approval = world.approve_standing(world.dataset)
    application = world.apply_for(world.dataset, standing_approval=approval)
    agreement = world.directory.agreement(application.version.digest)
    assert agreement is not None
    if ends == "approval":
        world.revoke(approval, POPULATION)
    else:
        world.revoke(application.version.digest, HOUSING)
    assert not world.directory.stands(agreement)
    assert case_of(world, application).stage == Stage.ENDED


def test_the_owner_ends_what_one_party_has_under_a_standing_approval(world: World) -> None:
    application = world.apply_for(world.dataset, standing_approval=world.approve_standing(world.dataset))
    agreement = world.directory.agreement(application.version.digest)
    assert agreement is not None
    world.do(POPULATION, Action.ACTION_END, application.version.object_id, text="misused")
    assert not world.directory.stands(agreement)


# Mirrors.


def again(world: World, *without: int) -> Directory:
    """The directory of a state that was kept, some bodies of which are not at hand."""
    state = open_state(list(encode_state(world.directory.state))).state
    return Directory.reopened(state, LoggedBodies(world.directory_log, *without))


def test_a_directory_opened_again_tells_the_same_cases(strict: World) -> None:
    application, _ = agreed(strict)
    strict.do(HOUSING, Action.ACTION_RATE, application.version.object_id, rating=5)
    strict.adopt(consent=False)
    kept = again(strict)
    assert kept.terms == strict.directory.terms
    assert kept.case(application.version.object_id) == case_of(strict, application)


def test_a_mirror_without_the_bodies_of_steps_gives_no_rights(strict: World) -> None:
    application, applied = agreed(strict)
    steps = {terms.version.index for terms in strict.directory.terms.steps.values()}
    mirror = again(strict, *steps)
    case = mirror.case(application.version.object_id)
    assert case is not None
    assert case.stage == Stage.DRAFTED
    assert mirror.agreement(applied.digest) is None
    assert mirror.lacks_body(POPULATION)


def test_without_procedures_cases_are_told_from_what_is_opened_when_it_is_asked_for(world: World) -> None:
    first = world.apply_for(world.dataset)
    agreement = world.grant(first)
    world.grant(first, ObjectVersion(agreement.version.object_id, agreement.digest), fields=["name"])
    second = world.apply_for(world.dataset)
    later = world.apply_for(
        world.dataset, version=ObjectVersion(second.version.object_id, second.version.digest), fields=["name"]
    )
    world.revoke(world.grant(later).digest, POPULATION)
    kept = again(world)
    for application in (first, second):
        assert kept.case(application.version.object_id) == case_of(world, application)
    assert kept.terms == world.directory.terms
    assert kept.case(world.dataset.object_id) is None


def test_a_directory_opened_again_goes_on_with_its_cases(world: World) -> None:
    application = world.apply_for(world.dataset)
    world.directory = again(world)
    agreement = world.grant(application)
    world.do(POPULATION, Action.ACTION_END, application.version.object_id, text="over")
    assert not world.directory.stands(agreement)
    world.directory = again(world)
    assert case_of(world, application).stage == Stage.ENDED
    assert not world.directory.stands(agreement)


def test_a_department_that_has_every_body_lacks_none(strict: World) -> None:
    agreed(strict)
    assert not strict.directory.lacks_body(POPULATION)


def test_who_acts_in_which_part() -> None:
    assert actors(HOUSING, POPULATION, HOUSING, "department") == {Who.APPLICANT}
    assert actors(HOUSING, POPULATION, POPULATION_HEAD, "head") == {Who.OWNER_HEAD}
    assert actors(HOUSING, POPULATION, APPLICATIONS, "system") == frozenset()
    assert actors(HOUSING, HOUSING, HOUSING, "department") == {Who.APPLICANT, Who.OWNER}
    assert actors(HOUSING, POPULATION, CIVIL_AFFAIRS, "department") == frozenset()


# Heads ask and answer nothing.


def test_a_head_cannot_ask_for_records(world: World) -> None:
    agreement = world.grant(world.apply_for(world.dataset, HOUSING))
    request = world.request(party=HOUSING_HEAD, agreement=agreement.digest)
    decided = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=HOUSING_HEAD)
    assert isinstance(decided, Deny)
    assert (decided.check, decided.code) == (3, Code.CODE_SIGNATURE_INVALID)
    assert "is no system's, and asks nothing" in decided.reason


def test_a_head_cannot_answer_though_a_dataset_names_it(world: World) -> None:
    world.publish("by-head", POPULATION_HEAD)
    dataset = world.directory.dataset_named(str(POPULATION), "by-head")
    assert dataset is not None
    agreement = world.grant(world.apply_for(dataset))
    request = world.request(dataset=dataset.object_id, agreement=agreement.digest)
    allow = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allow, Allow)
    response = world.respond(request, party=POPULATION_HEAD)
    assert isinstance(check_response(world.directory, allow, response, world.now), Deny)


def test_a_request_under_a_standing_approval_is_allowed_until_its_case_ends(world: World) -> None:
    application = world.apply_for(world.dataset, standing_approval=world.approve_standing(world.dataset))
    request = world.request(agreement=application.version.digest)
    assert isinstance(
        decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS), Allow
    )
    world.do(HOUSING, Action.ACTION_END, application.version.object_id, text="the purpose is met")
    decided = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(decided, Deny)
    assert decided.code == Code.CODE_AGREEMENT_ENDED
