"""`exchange clocks`: what people see of the time limits, and how a due date was counted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.frame.times import SECOND
from exchange.cli.governing import clocks
from exchange.cli.main import app

ANSWER = "application.answer.conditional"
NOW = 1_798_678_800 * SECOND  # 2026-12-31T09:00 in Shanghai


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXCHANGE_RULES", raising=False)
    monkeypatch.setattr(clocks, "now", lambda: NOW)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["clocks", *args])


def test_lists_every_clock_with_length_extension_and_article() -> None:
    result = run("list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert "10 working days" in rows[ANSWER]
    assert "10 working days, coordinator" in rows[ANSWER]
    assert "Decree 809, art. 21" in rows[ANSWER]
    assert "at least 3 years" in rows["use.records.retention"]
    assert "known for 2025, 2026; provisional, because nobody has announced them yet: 2027, 2028." in rows["China"]


def test_lists_them_as_json() -> None:
    found = json.loads(run("list", "--json").stdout)
    assert (found["rules"], found["zone"], found["provisional_years"]) == ("cn-national", "Asia/Shanghai", [2027, 2028])
    answer = next(clock for clock in found["clocks"] if clock["code"] == ANSWER)
    assert answer["extension"] == {"at_most": 10, "consent": "coordinator"}
    assert (answer["length"], answer["unit"], answer["label"]) == (10, "working days", "答复有条件共享数据的申请")


def test_shows_which_days_count() -> None:
    result = run("due", ANSWER, "--from", "2026-09-18")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "due 2026-10-09 (Friday), 24:00 Asia/Shanghai" in lines
    assert "now overdue by 60 working days, due 2026-10-09" in lines
    assert "goes to upper-level" in lines
    table = lines[lines.index("DAYS COUNT") + 1 :]
    assert table == [
        "2026-09-19 weekend -",
        "2026-09-20 working weekend 1",
        "2026-09-21 to 2026-09-24 working day 2 to 5",
        "2026-09-25 to 2026-09-27 holiday -",
        "2026-09-28 to 2026-09-30 working day 6 to 8",
        "2026-10-01 to 2026-10-07 holiday -",
        "2026-10-08 to 2026-10-09 working day 9 to 10",
    ]


def test_says_that_a_year_is_provisional() -> None:
    result = run("due", ANSWER, "--from", "2026-12-21")
    assert "due 2027-01-05, 2 working days left; provisional: no calendar for 2027" in result.stdout


def test_an_extension_counts_on_top() -> None:
    found = json.loads(run("due", ANSWER, "--from", "2026-12-21", "--extended", "10", "--json").stdout)
    assert found["due_day"] == "2027-01-19"
    assert found["due"] == "2027-01-19T15:59:59Z"
    assert sum(day["counts"] for day in found["days"]) == 20
    assert found["provisional_years"] == [2027]
    assert "extended to 20 working days" in run("due", ANSWER, "--from", "2026-12-21", "--extended", "10").stdout


@pytest.mark.parametrize(
    "started",
    ["2026-12-21", "2026-12-21T00:00", "2026-12-21T23:59:59", "2026-12-20T16:00:00Z", "2026-12-21T01:00+02:00"],
)
def test_the_event_is_a_day_or_a_time(started: str) -> None:
    assert json.loads(run("due", ANSWER, "--from", started, "--json").stdout)["due_day"] == "2027-01-05"


def test_what_is_kept_is_shown_without_counting_days() -> None:
    result = run("due", "use.records.retention", "--from", "2026-12-21")
    assert "kept until  2029-12-21 (Friday), 24:00 Asia/Shanghai" in result.stdout
    assert "to be kept until 2029-12-21, 1,086 days left" in result.stdout
    assert "COUNT" not in result.stdout


def test_rules_come_from_the_option_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.toml"
    text = f'extends = "cn-shanxi"\nlabel = "某市"\nlabel_en = "X"\n[clocks."{ANSWER}"]\nlength = "3 working days"\n'
    own.write_text(text, encoding="utf-8")
    for rules, day in (("cn-shanxi", "2026-12-28"), (str(own), "2026-12-24")):
        by_option = run("due", ANSWER, "--from", "2026-12-21", "--rules", rules, "--json")
        monkeypatch.setenv("EXCHANGE_RULES", rules)
        by_environment = run("due", ANSWER, "--from", "2026-12-21", "--json")
        assert json.loads(by_option.stdout)["due_day"] == json.loads(by_environment.stdout)["due_day"] == day


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("due", "nothing", "--from", "2026-12-21"), 2, "cn-national has no clock nothing"),
        (("due", ANSWER, "--from", "21.12.2026"), 2, "--from: not a time: 21.12.2026"),
        (("due", ANSWER, "--from", "2026-12-32"), 2, "--from: not a time: 2026-12-32"),
        (("due", ANSWER, "--from", "9999-12-31"), 2, "--from: not a time: 9999-12-31"),
        (("due", ANSWER, "--from", "2026-12-21", "--extended", "11"), 2, "can be extended by 10 at most, not by 11"),
        (("due", ANSWER, "--from", "2028-12-21"), 3, "cn-national: calendar.years names no file for 2029"),
        (("due", ANSWER, "--from", "2023-12-21"), 3, "cn-national: calendar.years names no file for 2023"),
        (("list", "--rules", "cn-nowhere"), 2, "there are no rules 'cn-nowhere'"),
        (("list", "--rules", "nowhere.toml"), 2, "nowhere.toml: cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_counted_is_said_in_words(args: tuple[str, ...], code: int, says: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("exchange: error: ")
    assert says in result.stderr.splitlines()[0]
