import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.catalogue.pinyin import spelled_as_words, spelled_by_character
from exchange.catalogue.wording import normalised, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("idCardNo", ("id", "card", "no")),
        ("ID card number", ("id", "card", "number")),
        ("HTTPPort2", ("http", "port", "2")),
        ("spouse_id_numbers", ("spouse", "id", "number")),
        ("Legal representative's address", ("legal", "representative", "address")),
        ("身份证号", ("身", "份", "证", "号")),
        ("ＩＤ号", ("id", "号")),
        ("注册资本（万元）", ("注", "册", "资", "本")),
        ("（必填）", ("必", "填")),
        ("…", ()),
    ],
)
def test_cuts_a_text_into_units(text: str, expected: tuple[str, ...]) -> None:
    assert units(text) == expected


@given(st.text(max_size=60))
def test_any_text_has_one_writing(text: str) -> None:
    assert all(unit == unit.lower() and unit for unit in units(text))
    assert units(normalised(text)) == units(normalised(normalised(text))) or "(" in normalised(text)


def test_pinyin_reads_words_as_words() -> None:
    assert spelled_as_words("银行账号") == ("yhzh", "yinhangzhanghao")
    assert spelled_as_words("a字") == ("", "")


def test_pinyin_reads_labels_character_by_character() -> None:
    assert spelled_by_character("出生日期") == ("csrq", "chushengriqi")
    assert spelled_by_character("a字") == spelled_by_character("") == ("", "")
