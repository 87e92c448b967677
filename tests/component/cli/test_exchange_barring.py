"""Guardrails, suspensions, an agreement's terms and its dry run, as people type them."""

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.agreements import terms as terms_file
from exchange.cli.governing import guardrail_file
from exchange.core.terms import AgreementTerms
from exchange.v1.terms_pb2 import Hours, Limits
from tests.component.cli.test_exchange_directory import RESIDENTS, apply, homes, run, waiting, world
from tests.world import APPLICATIONS, HOUSING, POPULATION, PURPOSE, World

__all__ = ["homes", "waiting", "world"]

RULE = """\
code = "no-bulk"
label = "不得批量查询"
label_en = "No bulk queries"

[test]
all_of = [
  { operation = "QUERY" },
  { not = { any_of = [{ purpose = "tax.relief" }, { dataset = "population/residents" }] } },
  { sensitivity = 3 },
]
"""


def write(homes: Path, text: str, name: str = "rule.toml") -> Path:
    path = homes / name
    path.write_text(text)
    return path


# --- guardrails ---------------------------------------------------------------------------------------------


def test_a_guardrail_is_added_replaced_shown_and_revoked(world: World, homes: Path) -> None:
    first = run(homes / "data-bureau", "guardrail", "add", write(homes, RULE))
    assert first.stdout.startswith("Added the guardrail no-bulk: entry ")
    second = run(homes / "data-bureau", "guardrail", "add", write(homes, RULE), "--json")
    assert json.loads(second.stdout)["replaced"] is True
    assert "不得批量查询" in run(homes / "housing", "guardrail", "list").stdout
    shown = run(homes / "housing", "guardrail", "show", "no-bulk").stdout
    lines = [line.removeprefix("forbids").strip() for line in shown.splitlines()]
    assert "all of these:" in lines
    assert "the dataset is population/residents" in lines
    assert "a field is asked for of sensitivity 3 or above" in lines
    described = json.loads(run(homes / "housing", "guardrail", "list", "--json").stdout)
    assert [item["code"] for item in described] == ["no-bulk"]
    assert run(homes / "data-bureau", "guardrail", "revoke", "no-bulk", "--reason", "repealed").exit_code == 0
    assert "No guardrail stands" in run(homes / "housing", "guardrail", "list").stdout
    assert run(homes / "housing", "guardrail", "show", "no-bulk").exit_code == 2


def test_the_template_is_a_guardrail(world: World, homes: Path) -> None:
    path = write(homes, run(homes, "guardrail", "template").stdout or guardrail_file.TEMPLATE)
    assert run(homes / "data-bureau", "guardrail", "add", write(homes, guardrail_file.TEMPLATE)).exit_code == 0
    assert path.exists()


def test_only_a_coordinator_adds_and_revokes(world: World, homes: Path) -> None:
    for arguments in (("add", write(homes, RULE)), ("revoke", "no-bulk", "--reason", "x")):
        result = run(homes / "housing", "guardrail", *arguments)
        assert result.exit_code == 2
        assert "only a coordinator signs guardrails" in result.stderr


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"no-bulk"', '"No Bulk"', "a guardrail has a code"),
        ("label_en =", "labels =", "rule.toml:3: labels: is not known here"),
        ('"No bulk queries"', "1", "rule.toml:3: label_en: is a text"),
        ('"QUERY"', '"QUERRY"', "rule.toml:7: operation: QUERRY is no operation"),
        ("purpose =", "purposes =", "rule.toml:8: purposes: is not a condition"),
        ('"tax.relief"', '"Tax"', "rule.toml:8: purpose: a purpose is named by its code"),
        ("population/residents", "population/resident", "rule.toml:8: dataset: no dataset"),
        ("sensitivity = 3", "sensitivity = 5", "rule.toml:9: sensitivity: is 1 to 4"),
        ("sensitivity = 3", "sensitivity = true", "rule.toml:9: sensitivity: is 1 to 4"),
        ("sensitivity = 3", 'requester = "housing"', "rule.toml:9: requester: not a party's name"),
        ("{ sensitivity = 3 }", "{ sensitivity = 3, operation = 'LOOKUP' }", "rule.toml:6: all_of: is one condition"),
        ('all_of = [\n  { operation = "QUERY" },', "all_of = [", "expected"),
        ("[test]", "[test", "rule.toml:5"),
    ],
    ids=lambda text: text.strip()[:20],
)
def test_an_error_names_the_file_the_line_and_the_key(
    world: World, homes: Path, before: str, after: str, problem: str
) -> None:
    assert before in RULE
    size = world.directory.size
    result = run(homes / "data-bureau", "guardrail", "add", write(homes, RULE.replace(before, after)))
    if problem == "expected":
        # Fewer conditions are a guardrail, too.
        assert result.exit_code == 0
        return
    assert (result.exit_code, world.directory.size) == (2, size)
    assert problem in result.stderr


# --- suspensions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("home", "target", "text"),
    [
        ("population", RESIDENTS, f"dataset {RESIDENTS}"),
        ("housing", "officer-7@housing", f"officer officer-7@{HOUSING}"),
        ("housing", str(APPLICATIONS), str(APPLICATIONS)),
        ("data-bureau", str(HOUSING), str(HOUSING)),
        ("population", "AGREEMENT", "agreement "),
    ],
    ids=str,
)
def test_what_is_suspended_is_listed_and_resumed(world: World, homes: Path, home: str, target: str, text: str) -> None:
    target = world.agreement.digest.hex()[:12] if target == "AGREEMENT" else target
    done = run(homes / home, "suspend", target, "--reason", "under inquiry")
    assert done.stdout.startswith(f"Suspended {text}"), done.stderr
    assert "until it is lifted." in done.stdout
    listed = json.loads(run(homes / "housing", "suspensions", "--json").stdout)
    assert [(item["suspended"].startswith(text), item["reason"]) for item in listed] == [(True, "under inquiry")]
    assert "under inquiry" in run(homes / "housing", "suspensions").stdout
    resumed = run(homes / home, "resume", target)
    assert "is no longer suspended by it." in resumed.stdout
    assert run(homes / "housing", "suspensions").stdout == "Nothing is suspended.\n"
    assert run(homes / home, "resume", target).exit_code == 2


def test_a_suspension_may_have_a_last_day(world: World, homes: Path) -> None:
    done = run(homes / "population", "suspend", RESIDENTS, "--reason", "x", "--until", "2027-02-28")
    assert "until 2027-02-28." in done.stdout
    assert "2027-02-28" in run(homes / "housing", "suspensions").stdout


def test_a_department_lifts_its_own_and_the_coordinator_any(world: World, homes: Path) -> None:
    run(homes / "data-bureau", "suspend", RESIDENTS, "--reason", "by the bureau")
    run(homes / "population", "suspend", RESIDENTS, "--reason", "by the owner")
    half = run(homes / "population", "resume", RESIDENTS)
    assert half.stdout.startswith("Lifted ")
    assert "is still suspended by exchange://city.example/data-bureau" in half.stderr
    refused = run(homes / "population", "resume", RESIDENTS)
    assert refused.exit_code == 1
    assert "whoever suspended it lifts it, or the coordinator" in refused.stderr
    [left] = json.loads(run(homes / "housing", "suspensions", "--json").stdout)
    assert run(homes / "data-bureau", "resume", left["id"][:12], "--reason", "put right").exit_code == 0


def test_nobody_suspends_what_is_not_its_own(world: World, homes: Path) -> None:
    refused = run(homes / "housing", "suspend", RESIDENTS, "--reason", "x")
    assert refused.exit_code == 1
    assert "cannot suspend what is not its own" in refused.stderr
    assert run(homes / "applications", "suspend", RESIDENTS, "--reason", "x").exit_code == 2


@pytest.mark.parametrize("target", ["population/nothing", "王芳@housing", "exchange://", "ffffffff", "x"])
def test_nothing_that_there_is_cannot_be_suspended(world: World, homes: Path, target: str) -> None:
    assert run(homes / "data-bureau", "suspend", target, "--reason", "x").exit_code in (1, 2)


# --- terms ----------------------------------------------------------------------------------------------------


TERMS = """\
[masks]
name = "first 1"
address = "hash"

[use]
officers = ["officer-7", "officer-8"]
hours = "Mon-Wed, Fri 08:30-17:30 Asia/Shanghai"
per_minute = 60
per_day = 2000
in_total = 100000
rows = 50

[review]
by = 2027-06-30
retention_days = 30
"""


def sign(homes: Path, application: Any, *more: object) -> Any:
    return run(homes / "population", "agreement", "sign", application.version.digest.hex()[:12], *more)


def newest(world: World) -> AgreementTerms:
    return max(world.directory.terms.agreements.values(), key=lambda terms: terms.version.index)


def test_an_agreement_is_signed_on_terms_and_shows_them_in_words(world: World, homes: Path, waiting: Any) -> None:
    signed = sign(homes, waiting, "--terms", write(homes, TERMS, "terms.toml"))
    assert signed.exit_code == 0, signed.stderr
    agreement = newest(world)
    assert agreement.hours == Hours(zone="Asia/Shanghai", weekdays=[1, 2, 3, 5], opens=510, closes=1050)
    assert agreement.limits == Limits(per_minute=60, per_day=2000, in_total=100000, rows=50)
    assert (agreement.officers, agreement.retention_days) == (frozenset({"officer-7", "officer-8"}), 30)
    assert (agreement.masks["name"].first, agreement.masks["address"].WhichOneof("rule")) == (1, "hash")
    shown = run(homes / "housing", "agreement", "show", agreement.digest.hex()[:12]).stdout
    for words in (
        "name: the first character",
        "address: a keyed hash",
        "officer-7, officer-8",
        "Mon–Wed, Fri 08:30–17:30 Asia/Shanghai",
        "60 a minute, 2,000 a day (UTC), 100,000 in all",
        "50 at most",
        "2027-06-30",
        "30 days",
    ):
        assert words in shown
    described = json.loads(run(homes / "housing", "agreement", "show", agreement.digest.hex()[:12], "--json").stdout)
    assert (described["per_day"], described["masks"]["name"]) == (2000, "the first character")


def test_a_next_version_without_terms_keeps_what_was_withheld(world: World, homes: Path, waiting: Any) -> None:
    sign(homes, waiting, "--terms", write(homes, TERMS, "terms.toml"))
    before = newest(world)
    again = sign(homes, waiting, "--supersedes", before.digest.hex()[:12], "--fields", "name")
    assert again.exit_code == 0, again.stderr
    after = newest(world)
    assert (set(after.masks), after.officers, after.hours, after.limits) == (
        {"name"},
        before.officers,
        before.hours,
        before.limits,
    )
    assert after.review_at == 0


def test_the_template_of_terms_is_read(world: World, homes: Path) -> None:
    application = apply(homes, "--json", fields="id_number,name")
    waits = world.directory.terms.applications[bytes.fromhex(json.loads(application.stdout)["id"])]
    assert sign(homes, waits, "--terms", write(homes, terms_file.TEMPLATE, "terms.toml")).exit_code == 0


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"first 1"', '"first 0"', "terms.toml:2: name: is no mask"),
        ('"first 1"', '"first 65"', "terms.toml:2: name: a mask shows 1 to 64"),
        ('"first 1"', '"year"', "terms.toml:2: name: the mask of name does not fit"),
        ("name =", "area_m2 =", "terms.toml:2: area_m2: is not a field that the agreement grants"),
        ('["officer-7", "officer-8"]', '["王芳"]', "terms.toml:6: officers:"),
        ('["officer-7", "officer-8"]', "[]", "terms.toml:6: officers: is a list of pseudonyms"),
        ("Mon-Wed", "Wed-Mon", "terms.toml:7: hours: are not in their form"),
        ("08:30", "08:75", "terms.toml:7: hours: are not in their form"),
        ("17:30", "08:30", "terms.toml:7: hours: hours open before they close"),
        ("Asia/Shanghai", "Asia/Shanghi", "terms.toml:7: hours: no time zone is called Asia/Shanghi"),
        ("per_minute = 60", "per_minute = 0", "terms.toml:8: per_minute: is a number from 1"),
        ("per_minute = 60", 'per_minute = "60"', "terms.toml:8: per_minute: is a number from 1"),
        ("per_day", "per_dya", "terms.toml:9: per_dya: is not known here"),
        ("2027-06-30", '"2027-06-30"', "terms.toml:14: by: is a day, without quotes"),
        ("2027-06-30", "2026-06-30", "2026-06-30 is over"),
        ("[review]", "[reviews]", "terms.toml:13: reviews: is not a table of terms"),
    ],
    ids=lambda text: text.strip()[:24],
)
def test_wrong_terms_are_refused_with_their_place(
    world: World, homes: Path, waiting: Any, before: str, after: str, problem: str
) -> None:
    assert before in TERMS
    size = world.directory.size
    result = sign(homes, waiting, "--terms", write(homes, TERMS.replace(before, after, 1), "terms.toml"))
    assert (result.exit_code, world.directory.size) == (2, size)
    assert problem in result.stderr


def test_terms_that_cannot_be_read_are_refused(world: World, homes: Path, waiting: Any) -> None:
    assert "cannot be read" in sign(homes, waiting, "--terms", homes / "none.toml").stderr


# --- explain ----------------------------------------------------------------------------------------------------


def explain(homes: Path, *more: str, fields: str = "name,address", purpose: str = PURPOSE) -> Any:
    arguments = ("--fields", fields, "--purpose", purpose, "--officer", "officer-7", *more)
    return run(homes / "applications", "agreement", "explain", RESIDENTS, *arguments)


def test_what_would_be_answered_is_said_to_be(world: World, homes: Path) -> None:
    result = explain(homes)
    assert result.exit_code == 0
    assert result.stdout.startswith("It would be answered, under the agreement ")
    assert json.loads(explain(homes, "--json").stdout)["answered"] is True


def test_what_would_be_refused_is_said_with_its_check_and_the_smallest_change(world: World, homes: Path) -> None:
    result = explain(homes, fields="name,birth_date")
    assert result.exit_code == 1
    assert "6, FIELD_NOT_GRANTED" in result.stdout
    assert "leave out the field birth_date" in result.stdout
    described = json.loads(explain(homes, "--json", fields="name,birth_date").stdout)
    assert (described["code"], described["instead"][0]["fields"]) == ("FIELD_NOT_GRANTED", ["name"])


def test_each_kind_of_change_has_its_words(world: World, homes: Path, waiting: Any) -> None:
    old = world.agreement
    sign(homes, waiting, "--terms", write(homes, TERMS.replace('"officer-7", ', ""), "terms.toml"))
    digest = newest(world).digest.hex()[:12]
    words = explain(homes, "--agreement", digest, "--at", "2027-01-16T12:00+08:00").stdout
    assert "ask under another agreement of yours: --agreement " in words
    world.revoke(old.digest, POPULATION)
    words = explain(homes, "--at", "2027-01-16T12:00+08:00").stdout
    assert "let officer-8 ask, whom it names" in words
    assert "ask within Mon–Wed, Fri 08:30–17:30 Asia/Shanghai, next at " in words


def test_where_no_change_helps_it_says_who_does(world: World, homes: Path) -> None:
    run(homes / "population", "suspend", RESIDENTS, "--reason", "x")
    assert "whoever has suspended it lifts it" in explain(homes).stdout
    run(homes / "population", "resume", RESIDENTS)
    run(homes / "data-bureau", "guardrail", "add", write(homes, 'code = "x"\nlabel = "x"\ntest = { sensitivity = 1 }'))
    assert "no agreement can allow it" in explain(homes).stdout
    assert "apply for it: exchange agreement apply" in explain(homes, fields="birth_date").stdout


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--at", "noon"), "not a time"),
        (("--operation", "EXPLODE"), "known are LOOKUP, QUERY"),
        (("--officer", "王芳"), "is no pseudonym"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_wrong_usage(world: World, homes: Path, more: tuple[str, ...], problem: str) -> None:
    result = explain(homes, *more)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_department_does_not_ask(world: World, homes: Path) -> None:
    arguments = ("--fields", "name", "--purpose", PURPOSE, "--officer", "officer-7")
    assert run(homes / "housing", "agreement", "explain", RESIDENTS, *arguments).exit_code == 2
