import pytest

from exchange.catalogue.patterns import (
    PATTERNS,
    TITLES,
    declared,
    is_date,
    is_identity_number,
    is_social_credit_code,
    recognise,
    value_type,
)


def test_knows_the_identity_number_of_the_standards_own_example() -> None:
    # GB 11643-1999, appendix A.
    assert is_identity_number("11010519491231002X")
    assert is_identity_number("440524188001010014")


@pytest.mark.parametrize(
    "text",
    ["110105194912310021", "11010519491331002X", "00010519491231002X", "11010519491231002", "11010519491231002x", ""],
    ids=["check", "month", "province", "length", "small letter", "empty"],
)
def test_no_other_text_is_an_identity_number(text: str) -> None:
    assert not is_identity_number(text)


def test_knows_a_social_credit_code_by_its_check_character() -> None:
    code = "91350100M000100Y43"  # GB 32100-2015, appendix A
    assert is_social_credit_code(code)
    assert not any(
        is_social_credit_code(code[:-1] + other) for other in "0123456789ABCDEFGHJKLMNPQRTUWXY" if other != "3"
    )
    assert not is_social_credit_code("91350100M000100O43")


@pytest.mark.parametrize("text", ["2026-03-01", "2026/3/1", "20260301", "2026年3月1日", "2026-03-01 12:00:00"])
def test_knows_days_as_people_write_them(text: str) -> None:
    assert is_date(text)


@pytest.mark.parametrize("text", ["2026-02-30", "20261301", "13800001111", "2026", ""])
def test_no_other_text_is_a_day(text: str) -> None:
    assert not is_date(text)


@pytest.mark.parametrize(
    ("samples", "patterns"),
    [
        (["13800001111", "+86 13900002222"], {"mobile"}),
        (["0571-86001234"], {"landline"}),
        (["浙A12345", "浙AD12345", "京A·12345"], {"plate"}),
        (["a@b.cn"], {"email"}),
        (["330102", "110000"], {"division_code", "postal_code"}),
        (["999999"], {"postal_code"}),
        (["12.50", "-3.00"], {"amount"}),
        (["LSVAA4182E2123456"], {"vin"}),
        (["", " "], set()),
        ([], set()),
        (["张三", "李四"], set()),
    ],
)
def test_recognises_values(samples: list[str], patterns: set[str]) -> None:
    assert recognise(samples) == patterns


def test_one_mistyped_value_in_five_does_not_hide_the_others() -> None:
    assert recognise(["13800001111"] * 4 + ["?"]) == {"mobile"}
    assert recognise(["13800001111"] * 3 + ["?"]) == frozenset()


def test_every_kind_of_value_has_a_title() -> None:
    assert set(PATTERNS) == set(TITLES)


@pytest.mark.parametrize(
    ("pattern", "format", "found"),
    [
        (r"^[1-9]\d{5}\d{4}\d{2}\d{2}\d{3}[\dX]$", "", set()),
        (r"^\d{17}[\dXx]$", "", {"identity_number"}),
        ("^1[3-9][0-9]{9}$", "", {"mobile"}),
        ("", "email", {"email"}),
        ("", "date-time", {"date"}),
        ("(a+)+$", "uri", set()),
    ],
)
def test_reads_what_a_schema_declares(pattern: str, format: str, found: set[str]) -> None:
    assert declared(pattern, format) == found


@pytest.mark.parametrize(
    ("samples", "type"),
    [
        (["1", "0", "-5"], "integer"),
        (["1.5", "2"], "decimal"),
        (["2026-01-01", ""], "date"),
        (["007", "008"], "text"),
        (["110105194912310021"], "text"),
        (["a", "1"], "text"),
        ([""], ""),
    ],
)
def test_tells_the_type_of_a_column(samples: list[str], type: str) -> None:
    assert value_type(samples) == type
