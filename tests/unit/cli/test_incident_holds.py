"""A hold keeps every entry that it is for, in few ranges, and is written so that the broker's side reads it."""

import tomllib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.audit.incidents.holds import HeldRanges, hold_text
from exchange.core.holds import parse_holds


def held(indexes: list[int], most: int) -> HeldRanges:
    ranges = HeldRanges(most)
    for index in indexes:
        ranges.add(index)
    return ranges


def test_entries_that_follow_each_other_are_one_range() -> None:
    ranges = held([3, 4, 5, 9, 11, 12], 10)
    assert list(ranges) == [(3, 6), (9, 10), (11, 13)]
    assert ranges.count == 6


@given(st.sets(st.integers(min_value=0, max_value=5000), max_size=300), st.integers(min_value=1, max_value=20))
def test_no_entry_is_ever_left_out(indexes: set[int], most: int) -> None:
    ordered = sorted(indexes)
    ranges = list(held(ordered, most))
    assert len(ranges) <= most
    assert all(any(first <= index < end for first, end in ranges) for index in ordered)
    assert all(first < end for first, end in ranges)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    assert not ordered or (ranges[0][0], ranges[-1][1]) == (ordered[0], ordered[-1] + 1)


@pytest.mark.parametrize("name", ["HS-2026-118", '"]\n[[hold]]', "核查\\", "tab\there"])
def test_the_file_reads_back_as_it_was_meant(name: str) -> None:
    text = hold_text(held([1, 2, 7], 10), name, ["for the operator\n[[hold]]", "kept until told otherwise"])
    assert tomllib.loads(text) == {
        "hold": [{"name": name, "first": 1, "end": 3}, {"name": name, "first": 7, "end": 8}],
    }


@pytest.mark.parametrize("name", ["officer officer-17: no case", "x" * 500, '"]\n[[hold]]'])
def test_the_side_that_erases_reads_the_same_holds(name: str) -> None:
    ranges = held([1, 2, 7], 10)
    found = parse_holds(hold_text(ranges, name, ["for the operator"]))
    assert [(hold.first, hold.end) for hold in found] == list(ranges)
    assert {hold.name for hold in found} == {name[:200]}
