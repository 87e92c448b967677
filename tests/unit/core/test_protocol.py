"""Versions: one form of an announcement, and who understands whom, from either side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import DecodeError, VersionError
from exchange.core.protocol import OLDEST, PROTOCOL, SILENT, Announcement, Version, agreed, announcement
from exchange.core.protocol import parse_announcement as parse

NUMBERS = st.integers(0, 9999)
US = ("this broker", "the caller")


def program(major: int, minor: int) -> Announcement:
    """What a program of that version announces: its own minor version and the one before."""
    return Announcement(f"{major}.{minor}.0", Version(major, max(0, minor - 1)), Version(major, minor))


def outcome(ours: Announcement, theirs: Announcement) -> Version | None:
    try:
        return agreed(ours, theirs, US)
    except VersionError:
        return None


@given(NUMBERS, NUMBERS, st.from_regex(r"[0-9A-Za-z.+!-]{1,40}", fullmatch=True))
def test_an_announcement_reads_back_as_written(major: int, minor: int, package: str) -> None:
    said = Announcement(package, Version(major, max(0, minor - 1)), Version(major, minor))
    assert parse(str(said)) == said


@given(st.one_of(st.text(max_size=30), st.from_regex(r"[0-9.]{1,5} [0-9]{1,5}\.[0-9]{1,5}-[0-9]{1,5}\.[0-9]{1,5}")))
def test_there_is_one_form_of_each(text: str) -> None:
    try:
        assert str(parse(text)) == text
    except DecodeError:
        return


@pytest.mark.parametrize(
    "text",
    ["", "0.1.0", "0.1.0 1.0", "0.1.0 01.0-1.0", "0.1.0  1.0-1.0", "0.1.0 1.1-1.0", "0.1.0 1.0-2.0", "x 1.0-1.0\n"],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse(text)


@given(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(0, 6))
def test_one_minor_version_apart_is_understood_and_nothing_else(a: int, b: int, c: int, d: int) -> None:
    ours, theirs = program(a, b), program(c, d)
    expected = Version(a, min(b, d)) if a == c and abs(b - d) <= 1 else None
    assert outcome(ours, theirs) == outcome(theirs, ours) == expected


@given(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(0, 6))
def test_both_sides_blame_the_same_program(a: int, b: int, c: int, d: int) -> None:
    ours, theirs = program(a, b), program(c, d)
    if outcome(ours, theirs) is not None:
        return
    older, newer = sorted((ours, theirs), key=lambda said: said.newest)
    for first, second in ((ours, theirs), (theirs, ours)):
        with pytest.raises(VersionError) as caught:
            agreed(first, second, US)
        name = US[0] if first == older else US[1]
        assert str(caught.value).endswith(f"{name} is too old, and needs a release that speaks {newer.oldest}")


def test_this_program_speaks_its_own_minor_version_and_the_one_before() -> None:
    assert announcement("0.1.0") == Announcement("0.1.0", OLDEST, PROTOCOL)
    assert OLDEST.major == PROTOCOL.major
    assert PROTOCOL.minor - OLDEST.minor == min(1, PROTOCOL.minor)


def test_who_says_nothing_speaks_the_first_version() -> None:
    assert SILENT.oldest == SILENT.newest == Version(1, 0)
