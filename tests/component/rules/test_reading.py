"""Files of rules of one's own: what they may leave out, and what is said where they are wrong."""

import os
from datetime import date
from pathlib import Path

import pytest

from exchange.core.clocks import Jurisdiction, Role
from exchange.rules.reading import load_rules
from exchange.rules.tables import RulesError, parse_length

WHOLE = """
label = "某市"
label_en = "Some City"
[calendar]
zone = "Europe/Berlin"
years = ["2026.toml"]
[escalation]
coordinator = 3
head = 1
[clocks."a.b"]
label = "答复"
label_en = "answer"
due_from = "provider"
length = "3 working days"
extension = 2
consent = "head"
article = "art. 1"
"""
YEAR = """
year = 2026
source = "a notice"
working_weekends = [2026-10-10]
[holidays]
"国庆节" = [2026-10-01, 2026-10-07]
"""
OWN = 'extends = "city.toml"\nlabel = "某区"\nlabel_en = "Some District"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "city.toml").write_text(WHOLE, encoding="utf-8")
    (tmp_path / "2026.toml").write_text(YEAR, encoding="utf-8")
    return tmp_path


def load(folder: Path, text: str, name: str = "own.toml") -> Jurisdiction:
    (folder / name).write_text(text, encoding="utf-8")
    return load_rules(str(folder / name))


def test_a_file_of_ones_own_stands_alone(folder: Path) -> None:
    city = load_rules(str(folder / "city.toml"))
    assert (city.name, city.label, city.label_en) == ("city", "某市", "Some City")
    assert [clock.code for clock in city.clocks] == ["a.b"]
    assert str(city.clock("a.b").length) == "3 working days"
    assert city.calendar.covers == {2026}
    assert str(city.calendar.zone) == "Europe/Berlin"
    assert not city.calendar.is_working_day(date(2026, 10, 5))
    assert city.calendar.is_working_day(date(2026, 10, 10))
    assert [(step.after, step.to) for step in city.escalations] == [(1, Role.HEAD), (3, Role.COORDINATOR)]


def test_only_what_differs_is_written(folder: Path) -> None:
    city = load_rules(str(folder / "city.toml"))
    own = load(folder, OWN + '[escalation]\nhead = 9\n[clocks."a.b"]\nlength = "1 working day"\n')
    assert str(own.clock("a.b").length) == "1 working day"
    assert own.clock("a.b").extension == city.clock("a.b").extension
    assert own.clock("a.b").label == city.clock("a.b").label
    assert [(step.after, step.to) for step in own.escalations] == [(3, Role.COORDINATOR), (9, Role.HEAD)]
    assert own.calendar.holidays == city.calendar.holidays


def test_an_extension_is_taken_away_with_none(folder: Path) -> None:
    own = load(folder, OWN + '[clocks."a.b"]\nextension = 0\n')
    assert own.clock("a.b").extension is None


def test_an_announced_year_takes_the_place_of_a_provisional_one(folder: Path) -> None:
    year = YEAR.replace("2026", "2027").replace("2027-10-10", "2027-10-09")
    (folder / "2027.toml").write_text(year, encoding="utf-8")
    text = 'extends = "cn-national"\nlabel = "某市"\nlabel_en = "Some City"\n[calendar]\nyears = ["2027.toml"]\n'
    own = load(folder, text).calendar
    assert own.covers == load_rules().calendar.covers
    assert own.provisional == {2028}
    assert own.is_working_day(date(2027, 1, 1))
    assert not own.is_working_day(date(2027, 10, 7))


def test_a_path_is_relative_to_where_the_command_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_rules("city.toml").name == "city"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("label = \nlabel_en = 1\n", "own.toml:1: Invalid value"),
        ('label = "a"\nlabel_en = "b"\n', "own.toml: calendar.zone: missing: a time zone says when a day ends"),
        ('extends = "city.toml"\nlabel = "a"\n', "own.toml: label_en: Field required"),
        (OWN + "colour = 1\n", "own.toml:4: colour: Extra inputs are not permitted"),
        (OWN.replace("city.toml", "nowhere"), "own.toml:1: extends: there are no rules 'nowhere'"),
        (OWN.replace("city.toml", "nowhere.toml"), "nowhere.toml: cannot be read: No such file"),
        (OWN.replace("city.toml", "own.toml"), "own.toml:1: extends: more than 8 files extend each other"),
        (OWN + '[clocks."A b"]\n', "own.toml:4: clocks.A b: not a code"),
        (OWN + '[clocks."x"]\nlabel = "a"\n', "own.toml:4: clocks.x.label_en: missing"),
        (OWN + '[clocks."a.b"]\nlength = "3"\n', 'own.toml:5: clocks.a.b.length: write a length as "1 working day"'),
        (OWN + '[clocks."a.b"]\nlength = 3\n', "own.toml:5: clocks.a.b.length: Input should be a valid string"),
        (OWN + '[clocks."a.b"]\nextension = -1\n', "own.toml:5: clocks.a.b.extension: Input should be greater"),
        (OWN + '[clocks."a.b"]\nextension = 9999\n', "own.toml:5: clocks.a.b.extension: with it, the time is longer"),
        (OWN + '[clocks."a.b"]\nextension = true\n', "own.toml:5: clocks.a.b.extension: Input should be a valid int"),
        (OWN + '[clocks."a.b"]\nat_least = true\n', "own.toml:4: clocks.a.b.extension: what is kept"),
        (OWN + '[clocks."a.b"]\ndue_from = "mayor"\n', "own.toml:5: clocks.a.b.due_from: Input should be"),
        (OWN + '[clocks."a.b"]\nconsent = "mayor"\n', "own.toml:5: clocks.a.b.consent: Input should be"),
        (OWN + "[escalation]\nmayor = 3\n", "own.toml:5: escalation.mayor: Input should be"),
        (OWN + "[escalation]\nhead = -3\n", "own.toml:5: escalation.head: Input should be greater"),
        (OWN + '[calendar]\nzone = "Asia/Nowhere"\n', "own.toml:5: calendar.zone: no time zone of this name"),
        (OWN + '[calendar]\nzone = "../x"\n', "own.toml:5: calendar.zone: no time zone of this name"),
        (OWN + '[calendar]\nyears = ["cn-national"]\n', "own.toml:5: calendar.years.0: the path of a file"),
        (OWN + '[calendar]\nyears = ["a\\u0000.toml"]\n', "own.toml:5: calendar.years.0: there are no rules"),
        (OWN + '[calendar]\nyears = ["2026.toml", "2026.toml"]\n', "own.toml:5: calendar.years.1: a second file"),
    ],
)
def test_what_is_wrong_in_rules_is_named(folder: Path, text: str, says: str) -> None:
    with pytest.raises(RulesError) as caught:
        load(folder, text)
    assert f"{folder}{os.sep}{says}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_clock_that_is_extended_names_who_consents(folder: Path) -> None:
    with pytest.raises(RulesError, match=r"city\.toml:10: clocks\.a\.b\.consent: missing: who consents"):
        load(folder, WHOLE.replace('consent = "head"\n', ""), "city.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("year = 2026\n", "2026.toml: source: Field required"),
        (YEAR.replace("2026\n", '"2026"\n', 1), "2026.toml:2: year: Input should be a valid integer"),
        (YEAR.replace("[2026-10-10]", "[2026-10-12]"), "2026.toml:4: working_weekends: 2026-10-12 is no Saturday"),
        (YEAR.replace("[2026-10-10]", "[2026-10-03]"), "2026.toml:4: working_weekends: 2026-10-03 is no Saturday"),
        (YEAR.replace("[2026-10-10]", "[2027-10-09]"), "2026.toml:4: working_weekends: 2027-10-09 is no Saturday"),
        (YEAR.replace("[2026-10-10]", '["2026-10-10"]'), "2026.toml:4: working_weekends.0: Input should be a valid"),
        (YEAR.replace("2026-10-07", "2026-09-30"), "2026.toml:6: holidays.国庆节: write its first day and its last"),
        (YEAR.replace("2026-10-07", "2026-12-30"), "2026.toml:6: holidays.国庆节: write its first day and its last"),
        (YEAR.replace("-10-01, 2026-10-07", "-12-31, 2027-01-02"), "2026.toml:6: holidays.国庆节: not in 2026"),
        (YEAR.replace(", 2026-10-07", ""), "2026.toml:6: holidays.国庆节.1: Field required"),
        (YEAR.replace("2026-10-07", "2026-10-07T00:00:00"), "2026.toml:6: holidays.国庆节.1: Input should be a valid"),
        (YEAR + "provisional = 1\n", "2026.toml:7: holidays.provisional: Input should be a valid tuple"),
    ],
)
def test_what_is_wrong_in_a_year_is_named(folder: Path, text: str, says: str) -> None:
    (folder / "2026.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RulesError) as caught:
        load_rules(str(folder / "city.toml"))
    assert f"{folder}{os.sep}{says}" in str(caught.value)


def test_a_file_that_is_not_utf_8_is_named(folder: Path) -> None:
    (folder / "city.toml").write_bytes(WHOLE.encode("gbk"))
    with pytest.raises(RulesError, match=r"city\.toml: is not UTF-8"):
        load_rules(str(folder / "city.toml"))


@pytest.mark.parametrize("name", ["nowhere", "", "../cn-national", "calendars/cn-2026", "CN-NATIONAL"])
def test_rules_that_do_not_exist_are_told_with_those_that_do(name: str) -> None:
    with pytest.raises(RulesError) as caught:
        load_rules(name)
    assert "cn-national" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["1 working day", "2 working days", "1 day", "90 days", "6 months", "3 years", "1 year"]
)
def test_a_length_is_read_as_it_is_written(text: str) -> None:
    assert str(parse_length(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "1", "1 working days", "2 working day", "0 days", "02 days", "-1 days", "1.5 years", "9 weeks", "２ days"],
)
def test_a_length_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="write a length as"):
        parse_length(text)
