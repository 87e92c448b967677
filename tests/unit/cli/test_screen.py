"""Whatever there is to say, it fits one screen, and what was left out says so."""

from hypothesis import given
from hypothesis import strategies as st

from exchange.cli.frame.screen import COLUMNS, LINES, on_one_screen, packed

WORDS = st.text("abcdefgh ", min_size=1, max_size=200).filter(str.strip)
NAMES = st.text("abcdefgh", min_size=1, max_size=20)


@given(st.dictionaries(NAMES, st.lists(WORDS, max_size=12), max_size=14), st.lists(WORDS, max_size=2))
def test_it_always_fits(pairs: dict[str, list[str]], notes: list[str]) -> None:
    lines = on_one_screen(pairs, notes)
    assert len(lines) < LINES
    assert all(len(line) <= COLUMNS for line in lines)
    # No name is left out: what is wrong has a line at least.
    assert [line.split(" ")[0] for line in lines if line[:1].strip() and line[0] != "!"] == list(pairs)


def test_what_is_left_out_says_so() -> None:
    lines = on_one_screen({"to do": [f"duty {number}" for number in range(40)]}, ())
    assert len(lines) == LINES - 1
    assert lines[-1].endswith("… (--json)")


def test_what_is_kept_stays_whole() -> None:
    lines = on_one_screen({"key": ["a", "b", "c"], "to do": [str(number) for number in range(40)]}, (), ("key",))
    assert [line.split()[-1] for line in lines[:3]] == ["a", "b", "c"]


def test_items_are_packed_whole() -> None:
    assert packed(["one, 0 s", "two, 1 s", "three, 2 s"], 20) == ["one, 0 s; two, 1 s", "three, 2 s"]
    assert packed([], 20) == []
