"""holds.toml: what an incident needs stays, and a file that cannot be read holds everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.holds import Hold, HoldError, held, parse_holds

TEXT = """
[[hold]]
name = "HS-2026-118"
first = 1200
end = 1350
opened = 2026-11-20

[[hold]]
name = "HS-2026-119"
first = 0
end = 1
"""


def test_reads_holds_and_leaves_what_else_they_say_to_people() -> None:
    assert parse_holds(TEXT) == (Hold("HS-2026-118", 1200, 1350), Hold("HS-2026-119", 0, 1))
    assert parse_holds("") == ()


@pytest.mark.parametrize(
    ("first", "end", "name"),
    [(0, 1, "HS-2026-119"), (1, 1200, None), (1199, 1201, "HS-2026-118"), (1349, 2000, "HS-2026-118"), (1350, 9, None)],
)
def test_finds_a_hold_on_any_of_the_entries(first: int, end: int, name: str | None) -> None:
    found = held(parse_holds(TEXT), first, end)
    assert (found.name if found is not None else None) == name


@given(*(st.integers(0, 30) for _ in range(4)))
def test_a_hold_keeps_exactly_the_ranges_that_share_an_entry_with_it(a: int, b: int, c: int, d: int) -> None:
    assert Hold("x", a, b).keeps(c, d) == bool(set(range(a, b)) & set(range(c, d))) or a >= b or c >= d


WRONG = [
    "hold",
    "hold = 1",
    "hold = [1]",
    "[hold]\nname = 'a'\nfirst = 0\nend = 1",
    "[[hold]]\nfirst = 0\nend = 1",
    "[[hold]]\nname = ''\nfirst = 0\nend = 1",
    f"[[hold]]\nname = '{'a' * 201}'\nfirst = 0\nend = 1",
    "[[hold]]\nname = 1\nfirst = 0\nend = 1",
    "[[hold]]\nname = 'a'\nend = 1",
    "[[hold]]\nname = 'a'\nfirst = 0",
    "[[hold]]\nname = 'a'\nfirst = 1\nend = 1",
    "[[hold]]\nname = 'a'\nfirst = -1\nend = 1",
    "[[hold]]\nname = 'a'\nfirst = false\nend = true",
    "[[hold]]\nname = 'a'\nfirst = 0.0\nend = 1.0",
    "[[hold]]\nname = 'a'\nfirst = 0\nend = 9223372036854775808",
]


@pytest.mark.parametrize("text", WRONG)
def test_refuses_what_is_no_list_of_holds(text: str) -> None:
    with pytest.raises(HoldError):
        parse_holds(text)
