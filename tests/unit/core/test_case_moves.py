"""Every step in every state by everybody, done where the hand-written table says so and refused elsewhere."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exchange.core.case import Case, Event, waits_for
from exchange.core.case_moves import ProcedureError, begin, perform
from exchange.core.names import Party
from exchange.core.procedure import ENDS, TABLE, Act, Stage, Timer, Who
from exchange.v1.procedure_pb2 import Action, Outcome, Step
from tests.unit.core.test_cases import answer, body_digest
from tests.unit.core.test_procedure import by_hand
from tests.world import (
    COORDINATOR,
    DAY,
    HOUSING,
    HOUSING_HEAD,
    POPULATION,
    POPULATION_HEAD,
    PURPOSE,
    REGISTRY,
    World,
)

APPLICATION, AGREEMENT, ANSWER = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
CLOCK = "application.answer.conditional"

OUTCOMES = {
    Act.SETTLE_CONTINUE: Outcome.OUTCOME_CONTINUE,
    Act.SETTLE_AMEND: Outcome.OUTCOME_AMEND,
    Act.SETTLE_END: Outcome.OUTCOME_END,
    Act.SETTLE_AGREE: Outcome.OUTCOME_AGREE,
}
WITHOUT_AGREEMENT = {Act.WITHDRAW, Act.SETTLE_AGREE}


def event(act: Act, who: Who = Who.APPLICANT, time: int = DAY, **fields: object) -> Event:
    """A step that has all that any step needs."""
    step = Step(
        digest=AGREEMENT if act == Act.SUPPLY else APPLICATION,
        text="because",
        missing=["a paper"],
        clock=CLOCK,
        rating=3,
        outcome=OUTCOMES.get(act, Outcome.OUTCOME_UNSPECIFIED),
    )
    party = COORDINATOR if who == Who.COORDINATOR else HOUSING
    made = Event(act, party, who, 1, time, bytes(32), body_sha256=ANSWER, step=step, consent=True, clock=CLOCK)
    return replace(made, **fields)  # type: ignore[arg-type]


def case_at(stage: Stage, act: Act, level: int = 1) -> Case:
    """A case in a state, so that nothing but the table is in the way of a step."""
    asked = replace(event(Act.APPLY, digest=APPLICATION), index=0)
    case = replace(
        begin(asked),
        stage=stage,
        consented=APPLICATION,
        answers=frozenset({ANSWER}),
        standing=frozenset() if act in WITHOUT_AGREEMENT else frozenset({AGREEMENT}),
        outcome=Outcome.OUTCOME_AMEND if act == Act.AMEND else Outcome.OUTCOME_AGREE,
        before=Stage.REFUSED if stage == Stage.DISPUTED else None,
        opener=Who.APPLICANT,
        level=level,
    )
    started = event(Act.SUBMIT, digest=APPLICATION)
    running = perform(replace(case, stage=Stage.CONSENTED), started).runs
    return replace(case, runs=running)


HELD_UP = {Act.SUSPEND, Act.RESUME}
AT_THE_COORDINATOR = set(OUTCOMES)


@pytest.mark.parametrize("act", sorted(set(Act) - HELD_UP))
@pytest.mark.parametrize("stage", Stage)
def test_a_step_is_done_by_those_whom_the_table_names_and_refused_to_all_others(stage: Stage, act: Act) -> None:
    line = by_hand().get((stage, act))
    for who in Who:
        case, step = case_at(stage, act), event(act, who)
        may = line is not None and who in line.who
        if may and act in AT_THE_COORDINATOR:
            may = who == Who.COORDINATOR
        if not may:
            with pytest.raises(ProcedureError):
                perform(case, step)
            continue
        assert line is not None
        done = perform(case, step)
        assert done.stage == (line.next or Stage.REFUSED)
        assert done.history[-1] == step


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("act", sorted(HELD_UP))
def test_suspensions_are_entries_of_their_own_and_no_steps(stage: Stage, act: Act) -> None:
    for who in Who:
        with pytest.raises(ProcedureError):
            perform(case_at(stage, act), event(act, who))


def test_a_refusal_says_what_can_be_done_and_by_whom() -> None:
    with pytest.raises(ProcedureError, match=r"the case is withdrawn.*possible are: apply \(the applicant's steward\)"):
        perform(case_at(Stage.WITHDRAWN, Act.SUBMIT), event(Act.SUBMIT))


def test_a_clock_is_started_held_up_goes_on_and_is_stopped() -> None:
    case = case_at(Stage.SUBMITTED, Act.RETURN)
    returned = perform(case, event(Act.RETURN, Who.OWNER, 2 * DAY))
    again = perform(returned, event(Act.SUBMIT, time=5 * DAY))
    agreed = perform(again, event(Act.AGREE, Who.OWNER, 6 * DAY))
    answer_run, supply_run = agreed.runs
    assert (answer_run.started, answer_run.pauses, answer_run.stopped) == (DAY, ((2 * DAY, 5 * DAY),), 6 * DAY)
    assert (supply_run.timer, supply_run.started, supply_run.stopped) == (Timer.SUPPLY, 6 * DAY, None)


def test_a_new_version_voids_the_clock_of_the_one_before() -> None:
    case = perform(case_at(Stage.SUBMITTED, Act.APPLY), event(Act.APPLY))
    assert case.runs == ()


@pytest.mark.parametrize("stage", set(Stage) - ENDS - {Stage.SUPPLIED, Stage.AMENDED, Stage.SUSPENDED})
def test_somebody_is_waited_for_wherever_something_is_due(stage: Stage) -> None:
    for option in waits_for(case_at(stage, Act.SETTLE_CONTINUE)):
        assert all(who in TABLE[stage, option.act].who for who in option.who)
    assert waits_for(case_at(stage, Act.SETTLE_CONTINUE))


@pytest.mark.parametrize("stage", sorted(ENDS))
def test_nobody_is_waited_for_at_an_end(stage: Stage) -> None:
    assert waits_for(case_at(stage, Act.APPLY)) == ()


# Any steps by anybody.

PARTIES = (HOUSING, HOUSING_HEAD, POPULATION, POPULATION_HEAD, REGISTRY, COORDINATOR)
SUBJECTS = ("application", "dispute")
# Those that lead somewhere come more often.
MOVES = st.one_of(
    st.sampled_from(
        [
            (HOUSING_HEAD, Action.ACTION_CONSENT, "application"),
            (HOUSING, Action.ACTION_SUBMIT, "application"),
            (POPULATION_HEAD, Action.ACTION_CONSENT_ANSWER, "application"),
            (POPULATION, "agree", "application"),
        ]
    ),
    st.tuples(
        st.sampled_from(PARTIES),
        st.sampled_from([*Action.values(), "agree", "revoke"]),
        st.sampled_from(SUBJECTS),
    ),
)


def founded() -> World:
    world = World.founded()
    world.register(PURPOSE)
    world.admit_heads()
    world.publish()
    world.adopt(consent=True)
    return world


TO_THE_END = [
    (HOUSING_HEAD, Action.ACTION_CONSENT, "application"),
    (HOUSING, Action.ACTION_SUBMIT, "application"),
    (POPULATION_HEAD, Action.ACTION_CONSENT_ANSWER, "application"),
    (POPULATION, "agree", "application"),
    (HOUSING, Action.ACTION_OPEN_DISPUTE, "dispute"),
    (POPULATION, Action.ACTION_ESCALATE, "dispute"),
    (COORDINATOR, Action.ACTION_SETTLE, "dispute"),
]


@example(TO_THE_END, Outcome.OUTCOME_END)
@settings(max_examples=40, deadline=None)
@given(st.lists(MOVES, max_size=14), st.sampled_from(list(Outcome.values())))
def test_no_steps_of_anybody_give_rights_without_the_consents(
    moves: list[tuple[Party, int | str, str]], outcome: Outcome.ValueType
) -> None:
    world = founded()
    application = world.apply_for(world.dataset)
    dispute = world.fresh(16)
    draft = answer(world, application)
    for party, action, subject in moves:
        if action == "agree":
            world.append(draft if party == POPULATION else world.body_draft(party, world.dataset.descriptor), party)
            draft = answer(world, application)
        elif action == "revoke":
            for agreement in list(world.directory.terms.agreements.values()):
                if world.directory.state.versions[agreement.digest].ended_index is None:
                    world.revoke(agreement.digest, POPULATION)
        else:
            assert isinstance(action, int)
            digest = body_digest(world, draft) if party == POPULATION_HEAD else application.version.digest
            fields = fields_of(action, digest, outcome)
            if action == Action.ACTION_OPEN_DISPUTE:
                fields["about"] = application.version.object_id
            about = dispute if subject == "dispute" else application.version.object_id
            world.step(party, action, about, **fields)
        case = world.case(application.version.object_id)
        assert case.stage in {stage for stage, _ in by_hand()}
        check_consents(world)


def fields_of(action: int, digest: bytes, outcome: Outcome.ValueType) -> dict[str, object]:
    fields: dict[str, object] = {"text": "because"}
    if action in {Action.ACTION_CONSENT, Action.ACTION_SUBMIT, Action.ACTION_CONSENT_ANSWER, Action.ACTION_SUPPLY}:
        fields["digest"] = digest
    if action == Action.ACTION_RETURN:
        fields["missing"] = ["a paper"]
    if action == Action.ACTION_RATE:
        fields["rating"] = 3
    if action == Action.ACTION_EXTEND:
        fields["clock"] = CLOCK
    if action == Action.ACTION_SETTLE:
        fields["outcome"] = outcome
    return fields


def check_consents(world: World) -> None:
    """Each agreement had the consent of both heads to just what was submitted and answered, before it came."""
    steps = list(world.directory.terms.steps.values())
    for agreement in world.directory.terms.agreements.values():
        asked = (
            (HOUSING_HEAD, Action.ACTION_CONSENT, agreement.application),
            (HOUSING, Action.ACTION_SUBMIT, agreement.application),
            (POPULATION_HEAD, Action.ACTION_CONSENT_ANSWER, agreement.version.body_sha256),
        )
        for party, action, digest in asked:
            assert any(
                (taken.version.owner, taken.step.action, taken.step.digest) == (party, action, digest)
                and taken.version.index < agreement.version.index
                for taken in steps
            )
