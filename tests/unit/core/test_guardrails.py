"""A guardrail is read strictly and within bounds, and holds for just what its tree says (DESIGN section 6, check 7)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.bars import Bars
from exchange.core.guardrails import (
    MAX_DEPTH,
    MAX_NODES,
    AllOf,
    Case,
    GuardrailError,
    Negation,
    PurposeIs,
    read_guardrail,
)
from exchange.core.names import Party
from exchange.v1.guardrail_pb2 import Guardrail
from exchange.v1.guardrail_pb2 import Test as Node
from exchange.v1.guardrail_pb2 import Tests as Nodes
from exchange.v1.request_pb2 import Operation
from tests.world import APPLICATIONS, HOUSING, MARRIAGE, ORIGIN, POPULATION, PURPOSE

LOOKUP, QUERY = Operation.OPERATION_LOOKUP, Operation.OPERATION_QUERY
CASE = Case(APPLICATIONS, POPULATION, bytes(range(16)), 3, PURPOSE, LOOKUP)


def guardrail(test: Node, **changes: Any) -> Guardrail:
    return Guardrail(**({"format": 1, "code": "no-exports", "label": "禁止", "test": test} | changes))


def all_of(*tests: Node) -> Node:
    return Node(all_of=Nodes(tests=tests))


def any_of(*tests: Node) -> Node:
    return Node(any_of=Nodes(tests=tests))


def negation(test: Node) -> Node:
    return Node(negation=test)


def forbids(test: Node, case: Case = CASE) -> bool:
    return read_guardrail(guardrail(test)).holds(case)


# --- what holds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        (Node(requester=str(APPLICATIONS)), True),
        (Node(requester=str(HOUSING)), True),
        (Node(requester=f"exchange://{ORIGIN}"), True),
        (Node(requester=f"exchange://{ORIGIN}/hous"), False),
        (Node(requester=f"{APPLICATIONS}-2"), False),
        (Node(requester=str(POPULATION)), False),
        (Node(provider=str(POPULATION)), True),
        (Node(provider=f"exchange://{ORIGIN}"), True),
        (Node(provider=f"{POPULATION}/registry"), False),
        (Node(provider=str(HOUSING)), False),
        (Node(dataset=CASE.dataset), True),
        (Node(dataset=bytes(16)), False),
        (Node(sensitivity=2), True),
        (Node(sensitivity=3), True),
        (Node(sensitivity=4), False),
        (Node(purpose=PURPOSE), True),
        (Node(purpose="housing"), False),
        (Node(operation=LOOKUP), True),
        (Node(operation=QUERY), False),
    ],
    ids=str,
)
def test_a_condition_holds_for_just_what_it_names(test: Node, holds: bool) -> None:
    assert forbids(test) is holds
    assert forbids(negation(test)) is not holds


YES, NO = Node(purpose=PURPOSE), Node(purpose="other")


@pytest.mark.parametrize(
    ("test", "holds"),
    [
        (all_of(YES), True),
        (all_of(YES, YES), True),
        (all_of(YES, NO), False),
        (all_of(NO, YES), False),
        (any_of(NO), False),
        (any_of(NO, YES), True),
        (any_of(YES, NO), True),
        (any_of(NO, NO), False),
        (all_of(any_of(NO, YES), negation(NO)), True),
        (any_of(all_of(NO, YES), negation(YES)), False),
    ],
    ids=str,
)
def test_conditions_are_combined(test: Node, holds: bool) -> None:
    assert forbids(test) is holds


def naive(test: Node, case: Case) -> bool:
    """The meaning of a tree, straight out of the contract."""
    kind = test.WhichOneof("node")
    if kind in {"all_of", "any_of"}:
        answers = [naive(child, case) for child in getattr(test, kind).tests]
        return all(answers) if kind == "all_of" else any(answers)
    if kind == "negation":
        return not naive(test.negation, case)
    if kind in {"requester", "provider"}:
        name, asked = getattr(test, kind), str(getattr(case, kind))
        return asked == name or asked.startswith(name + "/")
    if kind == "sensitivity":
        return case.sensitivity >= test.sensitivity
    return bool(getattr(test, kind or "") == getattr(case, kind or ""))


PARTIES = st.sampled_from([APPLICATIONS, HOUSING, MARRIAGE, POPULATION, Party(ORIGIN)])
LEAVES = st.one_of(
    PARTIES.map(lambda party: Node(requester=str(party))),
    PARTIES.map(lambda party: Node(provider=str(party))),
    st.sampled_from([CASE.dataset, bytes(16)]).map(lambda name: Node(dataset=name)),
    st.integers(1, 4).map(lambda level: Node(sensitivity=level)),
    st.sampled_from([PURPOSE, "other"]).map(lambda code: Node(purpose=code)),
    st.sampled_from([LOOKUP, QUERY]).map(lambda operation: Node(operation=operation)),
)
TREES = st.recursive(
    LEAVES,
    lambda trees: st.one_of(
        st.lists(trees, min_size=1, max_size=3).map(lambda tests: all_of(*tests)),
        st.lists(trees, min_size=1, max_size=3).map(lambda tests: any_of(*tests)),
        trees.map(negation),
    ),
    max_leaves=8,
)


def size(test: Node) -> tuple[int, int]:
    """Nodes and levels of a tree."""
    kind = test.WhichOneof("node")
    children = list(getattr(test, kind).tests) if kind in {"all_of", "any_of"} else []
    children += [test.negation] if kind == "negation" else []
    sizes = [size(child) for child in children]
    return 1 + sum(nodes for nodes, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)


@given(test=TREES, requester=PARTIES, provider=PARTIES, level=st.integers(1, 4))
def test_any_tree_within_its_bounds_means_what_the_contract_says(
    test: Node, requester: Party, provider: Party, level: int
) -> None:
    case = replace(CASE, requester=requester, provider=provider, sensitivity=level)
    nodes, depth = size(test)
    if nodes <= MAX_NODES and depth <= MAX_DEPTH:
        assert forbids(test, case) is naive(test, case)
    else:
        with pytest.raises(GuardrailError):
            read_guardrail(guardrail(test))


# --- form -----------------------------------------------------------------------------------------------


def deep(levels: int) -> Node:
    test = YES
    for _ in range(levels - 1):
        test = negation(test)
    return test


def test_a_tree_has_up_to_8_levels_and_64_nodes() -> None:
    read_guardrail(guardrail(deep(8)))
    with pytest.raises(GuardrailError, match="more than 8 levels"):
        read_guardrail(guardrail(deep(9)))
    read_guardrail(guardrail(any_of(*[NO] * 63)))
    with pytest.raises(GuardrailError, match="more than 64 nodes"):
        read_guardrail(guardrail(any_of(*[NO] * 64)))
    with pytest.raises(GuardrailError, match="more than 64 nodes"):
        read_guardrail(guardrail(any_of(*[all_of(NO)] * 32)))


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (Node(), "node 1 of the test is empty"),
        (all_of(), "node 1 of the test combines nothing"),
        (any_of(), "node 1 of the test combines nothing"),
        (all_of(YES, any_of()), "node 3 of the test combines nothing"),
        (negation(Node()), "node 2 of the test is empty"),
        (all_of(negation(YES), Node()), "node 4 of the test is empty"),
        (Node(requester="housing"), "node 1 of the test: not a party's name"),
        (all_of(Node(provider="")), "node 2 of the test: not a party's name"),
        (Node(dataset=bytes(15)), "node 1 of the test: a dataset's object id has 16 bytes"),
        (Node(dataset=bytes(17)), "node 1 of the test: a dataset's object id has 16 bytes"),
        (Node(sensitivity=0), "node 1 of the test: a sensitivity is 1 to 4"),
        (Node(sensitivity=5), "node 1 of the test: a sensitivity is 1 to 4"),
        (Node(purpose=""), "node 1 of the test: a purpose is named by its code"),
        (Node(operation=Operation.OPERATION_UNSPECIFIED), "node 1 of the test: an operation is named"),
    ],
    ids=str,
)
def test_refuses_a_tree_that_is_not_in_its_form(test: Node, reason: str) -> None:
    with pytest.raises(GuardrailError) as caught:
        read_guardrail(guardrail(test))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize("level", [1, 4])
def test_a_sensitivity_is_1_to_4(level: int) -> None:
    assert forbids(Node(sensitivity=level), replace(CASE, sensitivity=4))


@pytest.mark.parametrize(
    "changes",
    [{"code": ""}, {"code": "No exports"}, {"label": ""}]
    + [{name: "字" * 2001} for name in ("label", "label_en", "legal_basis")],
    ids=lambda changes: next(iter(changes)),
)
def test_refuses_a_guardrail_without_code_or_label_or_with_endless_texts(changes: dict[str, str]) -> None:
    with pytest.raises(GuardrailError, match="a code, a label"):
        read_guardrail(guardrail(YES, **changes))


def test_texts_have_up_to_2000_characters() -> None:
    long = "字" * 2000
    assert read_guardrail(guardrail(YES, label=long, label_en=long, legal_basis=long)) == PurposeIs(PURPOSE)


@pytest.mark.parametrize("number", [0, 2])
def test_refuses_another_format(number: int) -> None:
    with pytest.raises(GuardrailError, match="format 1"):
        read_guardrail(guardrail(YES, format=number))


def test_a_tree_is_read_into_values_that_are_equal_where_it_is() -> None:
    test = all_of(negation(NO), YES)
    assert read_guardrail(guardrail(test)) == AllOf((Negation(PurposeIs("other")), PurposeIs(PURPOSE)))


# --- several --------------------------------------------------------------------------------------------


def test_the_first_guardrail_that_forbids_is_named() -> None:
    bars = Bars().with_guardrail(b"1", guardrail(NO, code="one"))
    bars = bars.with_guardrail(b"2", guardrail(YES, code="two")).with_guardrail(b"3", guardrail(YES, code="three"))
    found = bars.forbidding(CASE)
    assert found is not None
    assert found.said.code == "two"
    assert bars.without(b"2").without(b"3").forbidding(CASE) is None


def test_a_code_is_one_guardrails_among_those_that_stand() -> None:
    bars = Bars().with_guardrail(b"1", guardrail(NO, code="one"))
    with pytest.raises(GuardrailError, match="another guardrail has the code one"):
        bars.with_guardrail(b"2", guardrail(YES, code="one"))
    bars.without(b"1").with_guardrail(b"2", guardrail(YES, code="one"))
