import json

import pytest

from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.fingerprints import is_fingerprint
from exchange.cli.frame.output import clean, grouped, print_json, print_pairs, print_table
from exchange.cli.frame.times import age, day_of, days_left, end_of_day, iso, now


def test_a_table_is_aligned_text_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "N"), [("王芳", 1), ("x", None), ("y", True)])
    assert capsys.readouterr().out == "NAME  N\n王芳  1\nx     -\ny     true\n"


def test_a_table_is_ruled_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("NAME", "N"), [("[red]a[/red]", 1)])
    shown = capsys.readouterr().out
    assert "─" in shown
    assert "[red]a[/red]" in shown


def test_a_table_too_wide_for_its_terminal_becomes_blocks_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    long = "registry-office/household.registration"
    print_table(("DATASET", "TITLE"), [(long, "Household registration"), (long, "x")])
    assert capsys.readouterr().out.splitlines() == [
        f"DATASET  {long}",
        "TITLE    Household registration",
        "",
        f"DATASET  {long}",
        "TITLE    x",
    ]


def test_a_cell_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A",), [("\x1b]0;owned\x07",)])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\n", "\u202e", "\u2028", "\u200b"])
def test_steering_characters_are_shown_not_sent(char: str) -> None:
    assert clean(f"a{char}b") == f"a\\u{ord(char):04x}b"


def test_other_text_is_left_alone() -> None:
    assert clean("王芳, Ærø — 1 €") == "王芳, Ærø — 1 €"


def test_pairs_align_their_values_and_give_lists_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs({"a": 1, "name": ["x", "y"], "none": None})
    assert capsys.readouterr().out == "a     1\nname  x\n      y\nnone  -\n"


def test_json_writes_bytes_as_hex_and_keeps_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": b"\x01\xff", "b": "王"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": "01ff", "b": "王"}
    assert "王" in shown


def test_a_fingerprint_is_compared_however_it_was_written_down() -> None:
    digest = bytes(range(32))
    assert is_fingerprint(grouped(digest), digest)
    assert is_fingerprint(digest.hex(":").upper(), digest)
    assert not is_fingerprint("00" * 32, digest)


@pytest.mark.parametrize("typed", ["", "0001 0203", "zz" * 32, "00" * 33])
def test_a_part_of_a_fingerprint_is_not_enough(typed: str) -> None:
    with pytest.raises(WrongUsageError):
        is_fingerprint(typed, bytes(32))


def test_a_day_ends_with_its_last_millisecond() -> None:
    end = end_of_day("2070-12-31", "--until")
    assert day_of(end) == "2070-12-31"
    assert day_of(end + 1) == "2071-01-01"


@pytest.mark.parametrize("text", ["2020-01-01", "31.12.2099", "2099-13-01", ""])
def test_a_day_that_is_none_or_over_is_refused(text: str) -> None:
    with pytest.raises(WrongUsageError, match="--until"):
        end_of_day(text, "--until")


@pytest.mark.parametrize("moment", [2**62, 2**64 - 1, 10**30, 253_402_300_800_000])
def test_no_date_is_too_late_to_be_shown(moment: int) -> None:
    assert day_of(moment) == "after 9999" or day_of(moment).startswith("9999")
    assert iso(moment) == "9999-12-31T23:59:59Z"
    assert (day_of(-moment), iso(-(10**30))) == ("before 0001", "0001-01-01T00:00:00Z") or moment < 10**15


@pytest.mark.parametrize("text", ["9999-12-31", "2150-01-01", "0001-01-01"])
def test_a_day_out_of_all_proportion_is_refused(text: str) -> None:
    with pytest.raises(WrongUsageError, match="--until"):
        end_of_day(text, "--until")


def test_no_color_is_no_bold_either(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    print_table(("NAME", "N"), [("a", 1)])
    assert "\x1b" not in capsys.readouterr().out


def test_times_are_told_in_words() -> None:
    moment = now()
    assert days_left(moment + 3 * 86_400_000 + 5, moment) == "3 days left"
    assert days_left(moment, moment) == "expired"
    assert age(moment - 90_000, moment) == "90 seconds ago"
    assert age(moment - 7_200_000, moment) == "2 hours ago"
    assert iso(0) == "1970-01-01T00:00:00Z"
