"""A quick value is the frozen dataclass that it was, but for the time that it takes."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, make_dataclass
from dataclasses import replace as plain_replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.values import quick, replace


@dataclass(frozen=True, slots=True)
class Plain:
    """The one to compare with."""

    first: int
    second: str
    third: tuple[int, ...] = ()
    fourth: list[int] = field(default_factory=list)
    fifth: int = field(default=5, repr=False, compare=False)
    made: str = field(init=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("below zero")
        object.__setattr__(self, "made", f"{self.second}{self.first}")


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    """The same, quick."""

    first: int
    second: str
    third: tuple[int, ...] = ()
    fourth: list[int] = field(default_factory=list)
    fifth: int = field(default=5, repr=False, compare=False)
    made: str = field(init=False)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("below zero")
        object.__setattr__(self, "made", f"{self.second}{self.first}")


VALUES = {
    "first": st.integers(-1, 3),
    "second": st.text(max_size=2),
    "third": st.tuples(st.integers(0, 2)),
    "fourth": st.lists(st.integers(0, 2), max_size=2),
    "fifth": st.integers(0, 2),
    "made": st.text(max_size=1),
    "sixth": st.integers(),
}
CHANGES = st.fixed_dictionaries({}, optional=VALUES)
ARGUMENTS = st.tuples(st.tuples() | st.tuples(VALUES["first"]) | st.tuples(VALUES["first"], VALUES["second"]), CHANGES)


def told(work: Any) -> object:
    """All that there is to see of a value, or the kind of error there was."""
    try:
        value = work()
    except (TypeError, ValueError) as error:
        return ValueError if "below zero" in str(error) else TypeError
    return [getattr(value, one.name) for one in fields(value)], repr(value).replace("Plain", "Quick")


@given(ARGUMENTS)
def test_it_is_made_of_the_same_arguments(given_arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    arguments, named = given_arguments
    assert told(lambda: Quick(*arguments, **named)) == told(lambda: Plain(*arguments, **named))


@given(VALUES["fourth"], CHANGES)
def test_it_is_replaced_alike(fourth: list[int], changes: dict[str, Any]) -> None:
    quickly = told(lambda: replace(Quick(1, "a", fourth=fourth), **changes))
    assert quickly == told(lambda: plain_replace(Plain(1, "a", fourth=fourth), **changes))
    assert quickly == told(lambda: plain_replace(Quick(1, "a", fourth=fourth), **changes))


@given(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1))
def test_equal_values_are_equal(first: int, other: int, fifth: int, another: int) -> None:
    is_equal = Quick(first, "a", fifth=fifth) == Quick(other, "a", fifth=another)
    assert is_equal == (Plain(first, "a", fifth=fifth) == Plain(other, "a", fifth=another)) == (first == other)


def test_a_list_of_its_own_is_made_for_each() -> None:
    one, other = Quick(1, "a"), Quick(1, "a")
    assert one.fourth == other.fourth == []
    assert one.fourth is not other.fourth


@pytest.mark.parametrize(
    "make", [lambda one: one, copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_nobody_changes_it(make: Any) -> None:
    value = make(Quick(1, "a"))
    assert type(value) is Quick
    assert value == Quick(1, "a")
    with pytest.raises(FrozenInstanceError):
        value.first = 2
    with pytest.raises(FrozenInstanceError):
        del value.first
    # Of any other name, the dataclass of Python 3.11 with slots says this.
    for name, other in (("other", 1), ("__class__", Plain)):
        with pytest.raises((FrozenInstanceError, TypeError)):
            setattr(value, name, other)
    assert value == Quick(1, "a")


def test_fields_may_have_any_names() -> None:
    names = ("missing", "frozen", "plain", "become", "default_missing", "kind", "value", "changes")
    kind = quick(make_dataclass("Named", names, frozen=True, slots=True))
    value = kind(*names)
    assert [getattr(value, name) for name in names] == [*names]
    for name in names:
        assert replace(value, **{name: 1}) == kind(*(1 if other == name else other for other in names))


def test_values_of_two_kinds_are_not_equal() -> None:
    assert Quick(1, "a") != Plain(1, "a")
