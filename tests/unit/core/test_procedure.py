"""The table of procedures, against one that was written by hand from the articles of the law."""

from collections import deque

import pytest

from exchange.core.procedure import ENDS, TABLE, Act, Stage, Timer, Transition, Who, instead, options

WHO = {
    "A": Who.APPLICANT,
    "a": Who.APPLICANT_HEAD,
    "O": Who.OWNER,
    "o": Who.OWNER_HEAD,
    "s": Who.OWNER_SYSTEM,
    "C": Who.COORDINATOR,
}

# State, step, state after it (- is the one before), who: A applicant's steward, a their head, O owner's steward,
# o their head, s the owner's system, C coordinator; +, / and ~ start, stop and pause a clock.
BY_HAND = """
drafted    apply                  drafted    A
drafted    consent                consented  a
drafted    submit                 submitted  A    +answer
drafted    withdraw               withdrawn  A    /answer
consented  apply                  drafted    A
consented  submit                 submitted  A    +answer
consented  withdraw               withdrawn  A    /answer
submitted  apply                  drafted    A    /answer
submitted  return                 returned   O    ~answer
submitted  consent_to_the_answer  submitted  o
submitted  refuse                 refused    O    /answer
submitted  agree                  agreed     O    /answer +supply
submitted  extend                 submitted  C
submitted  withdraw               withdrawn  A    /answer
submitted  open_a_dispute         disputed   A
returned   apply                  drafted    A
returned   submit                 submitted  A    +answer
returned   consent_to_the_answer  returned   o
returned   agree                  agreed     O    /answer +supply
returned   withdraw               withdrawn  A    /answer
returned   open_a_dispute         disputed   A
agreed     agree                  agreed     O    /answer
agreed     consent_to_the_answer  agreed     o
agreed     supply                 supplied   Os   /supply
agreed     amend                  amended    O
agreed     rate                   agreed     A
agreed     suspend                suspended  OC
agreed     end                    ended      AOs  /supply
agreed     open_a_dispute         disputed   AO
supplied   agree                  supplied   O    /answer
supplied   consent_to_the_answer  supplied   o
supplied   supply                 supplied   Os   /supply
supplied   amend                  amended    O
supplied   rate                   supplied   A
supplied   suspend                suspended  OC
supplied   end                    ended      AOs  /supply
supplied   open_a_dispute         disputed   AO
amended    agree                  amended    O    /answer
amended    consent_to_the_answer  amended    o
amended    supply                 supplied   Os   /supply
amended    amend                  amended    O
amended    rate                   amended    A
amended    suspend                suspended  OC
amended    end                    ended      AOs  /supply
amended    open_a_dispute         disputed   AO
suspended  agree                  suspended  O    /answer
suspended  consent_to_the_answer  suspended  o
suspended  supply                 suspended  Os   /supply
suspended  amend                  suspended  O
suspended  rate                   suspended  A
suspended  resume                 -          OC
suspended  end                    ended      AOs  /supply
suspended  open_a_dispute         disputed   AO
refused    apply                  drafted    A
refused    consent_to_the_answer  refused    o
refused    agree                  agreed     O    +supply
refused    rate                   refused    A
refused    open_a_dispute         disputed   A
disputed   escalate               disputed   AOC
disputed   end                    disputed   AOs  /supply
disputed   settle:_continue       -          AOC
disputed   settle:_amend          settled    AOC
disputed   settle:_end            ended      AOC  /supply
disputed   settle:_agree          settled    AOC  /answer +answer
settled    consent_to_the_answer  settled    o
settled    agree                  agreed     O    /answer +supply
settled    amend                  amended    O
settled    extend                 settled    C
settled    rate                   settled    A
settled    withdraw               withdrawn  A    /answer
settled    end                    ended      AOs  /supply
settled    open_a_dispute         disputed   A
ended      consent_to_the_answer  ended      o
ended      agree                  agreed     O    +supply
ended      amend                  amended    O
ended      rate                   ended      A
ended      open_a_dispute         disputed   A
withdrawn  apply                  drafted    A
"""

TIMERS = {"answer": Timer.ANSWER, "supply": Timer.SUPPLY}


def by_hand() -> dict[tuple[Stage, Act], Transition]:
    lines = {}
    for line in BY_HAND.strip().splitlines():
        stage, act, after, who, *clocks = line.split()
        moves = {clock[0]: TIMERS[clock[1:]] for clock in clocks}
        lines[Stage(stage), Act(act.replace("_", " "))] = Transition(
            None if after == "-" else Stage(after),
            frozenset(WHO[letter] for letter in who),
            moves.get("+"),
            moves.get("/"),
            moves.get("~"),
        )
    return lines


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("act", Act)
def test_the_table_has_this_line_or_none_as_the_hand_written_one(stage: Stage, act: Act) -> None:
    assert TABLE.get((stage, act)) == by_hand().get((stage, act))


def test_every_state_and_every_act_occurs() -> None:
    assert {stage for stage, _ in TABLE} == set(Stage)
    assert {act for _, act in TABLE} == set(Act)


@pytest.mark.parametrize("stage", set(Stage) - ENDS)
def test_from_every_state_there_is_a_way_to_an_end_and_somebody_who_must_go_it(stage: Stage) -> None:
    reached, waiting = {stage}, deque([stage])
    while waiting:
        at = waiting.popleft()
        for (here, _), line in TABLE.items():
            if here == at and line.next is not None and line.next not in reached:
                assert line.who
                reached.add(line.next)
                waiting.append(line.next)
    assert reached & ENDS


@pytest.mark.parametrize("stage", Stage)
def test_every_state_is_reached(stage: Stage) -> None:
    assert stage == Stage.DRAFTED or any(line.next == stage for line in TABLE.values())


@pytest.mark.parametrize("stage", Stage)
def test_what_can_be_done_instead_names_acts_and_people(stage: Stage) -> None:
    found = options(stage)
    assert found
    assert all(option.who for option in found)
    assert all(str(option) in instead(stage) for option in found)


def test_a_head_does_nothing_but_consent() -> None:
    heads = {Who.APPLICANT_HEAD, Who.OWNER_HEAD}
    assert {act for (_, act), line in TABLE.items() if line.who & heads} == {Act.CONSENT, Act.CONSENT_ANSWER}


def test_the_coordinator_never_grants() -> None:
    granting = {Act.AGREE, Act.AMEND, Act.SUPPLY, Act.CONSENT, Act.CONSENT_ANSWER, Act.SUBMIT}
    assert not any(Who.COORDINATOR in line.who for (_, act), line in TABLE.items() if act in granting)
