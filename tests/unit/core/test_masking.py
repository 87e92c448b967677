"""Masks: what each leaves of a value, and that it leaves nothing else."""

import hashlib
import hmac
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.filters import Scalar
from exchange.core.masking import MaskError, Masking, can_be_masked, hash_key, keyed_hash, mask_value
from exchange.v1.terms_pb2 import KeyedHash, Mask, YearOnly

KEY = bytes(range(32))
YEAR_ONLY = Mask(field="f", year_only=YearOnly())
HASH = Mask(field="f", hash=KeyedHash())


def first(shown: int) -> Mask:
    return Mask(field="f", first=shown)


def last(shown: int) -> Mask:
    return Mask(field="f", last=shown)


@pytest.mark.parametrize(
    ("mask", "value", "seen"),
    [
        (first(6), "110101199003074610", "110101************"),
        (last(4), "110101199003074610", "**************4610"),
        (first(1), "王芳", "王*"),
        (last(1), "王小芳", "**芳"),
        (first(2), "王芳", "**"),
        (last(2), "王芳", "**"),
        (first(64), "王芳", "**"),
        (last(1), "王", "*"),
        (first(1), "", ""),
        (first(1), "👩‍👧x", "👩***"),
        (first(1), "*ab", "***"),
        (first(1), "a\0b", None),
        (YEAR_ONLY, date(1990, 3, 7), 1990),
        (YEAR_ONLY, date(1, 1, 1), 1),
    ],
)
def test_leaves_what_the_rule_says(mask: Mask, value: Scalar, seen: Scalar | None) -> None:
    assert mask_value(mask, value, b"") == seen


@pytest.mark.parametrize("mask", [first(1), last(1), YEAR_ONLY, HASH])
def test_null_stays_null(mask: Mask) -> None:
    assert mask_value(mask, None, KEY) is None


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80)


@given(text=TEXTS, other=TEXTS, shown=st.integers(1, 64))
def test_texts_that_differ_in_hidden_characters_look_alike(text: str, other: str, shown: int) -> None:
    hidden = len(text) - shown
    if hidden <= 0:
        changed = (other * (len(text) + 1))[: len(text)] if other else text
        assert mask_value(first(shown), text, b"") == mask_value(first(shown), changed, b"") == "*" * len(text)
        return
    noise = (other * (hidden + 1))[:hidden] if other else "x" * hidden
    assert mask_value(first(shown), text, b"") == mask_value(first(shown), text[:shown] + noise, b"")
    assert mask_value(last(shown), text, b"") == mask_value(last(shown), noise + text[hidden:], b"")


@given(text=TEXTS, shown=st.integers(1, 64))
def test_a_text_is_never_shown_whole_and_keeps_its_length(text: str, shown: int) -> None:
    for mask in (first(shown), last(shown)):
        seen = mask_value(mask, text, b"")
        assert isinstance(seen, str)
        assert len(seen) == len(text)
        assert seen != text or set(text[-1:] if mask.HasField("first") else text[:1]) <= {"*"}
        assert mask_value(mask, seen, b"") == seen
        assert can_be_masked(mask, seen)


def test_a_hash_is_the_one_that_the_protocol_names() -> None:
    key = hash_key(b"s" * 32, b"o" * 16)
    assert key == hmac.new(b"s" * 32, b"exchange.v1/mask" + b"o" * 16, hashlib.sha256).digest()
    seen = mask_value(HASH, "110101199003074610", key)
    assert seen == hmac.new(key, b"110101199003074610", hashlib.sha256).hexdigest()
    assert mask_value(HASH, date(1990, 3, 7), key) == hmac.new(key, b"1990-03-07", hashlib.sha256).hexdigest()
    assert mask_value(HASH, -7, key) == hmac.new(key, b"-7", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("one", "same"), [("60.50", "60.5"), ("60.00", "60"), ("-0.00", "0"), ("100", "100.0"), ("1E+2", "100")]
)
def test_equal_numbers_have_one_hash(one: str, same: str) -> None:
    assert keyed_hash(KEY, Decimal(one)) == keyed_hash(KEY, Decimal(same))


def test_long_numbers_are_not_rounded_before_they_are_hashed() -> None:
    digits = "123456789012345678901234567890.12345678901234"
    assert keyed_hash(KEY, Decimal(digits + "5")) != keyed_hash(KEY, Decimal(digits + "6"))


def test_every_secret_and_every_agreement_has_a_key_of_its_own() -> None:
    keys = {hash_key(secret * 32, agreement * 16) for secret in (b"s", b"t") for agreement in (b"o", b"p")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        (first(1), 7),
        (last(1), date(1990, 3, 7)),
        (YEAR_ONLY, "1990-03-07"),
        (HASH, True),
        (Mask(field="f"), "x"),
    ],
)
def test_a_mask_that_does_not_fit_leaves_nothing(mask: Mask, value: Scalar) -> None:
    with pytest.raises(MaskError) as caught:
        mask_value(mask, value, KEY)
    assert str(value) not in str(caught.value)


def test_without_its_key_a_hash_is_refused() -> None:
    with pytest.raises(MaskError):
        mask_value(HASH, "x", b"")


@pytest.mark.parametrize(
    ("mask", "value", "can"),
    [
        (first(2), "11****", True),
        (first(2), "1101", False),
        (first(2), "**", True),
        (first(2), "11", False),
        (last(2), "**01", True),
        (last(2), "1101", False),
        (last(2), "01", False),
        (HASH, "0" * 64, True),
        (HASH, "A" * 64, False),
        (HASH, "110101199003074610", False),
        (YEAR_ONLY, 1990, True),
    ],
)
def test_what_a_mask_can_leave(mask: Mask, value: Scalar, can: bool) -> None:
    assert can_be_masked(mask, value) is can


def test_a_row_is_masked_where_a_mask_is() -> None:
    masking = Masking({"name": Mask(field="name", first=1), "id": Mask(field="id", hash=KeyedHash())}, KEY)
    row: dict[str, Scalar | None] = {"name": "王芳", "id": "1", "area": Decimal("58.40"), "born": None}
    assert masking.row(row) == {"name": "王*", "id": keyed_hash(KEY, "1"), "area": Decimal("58.40"), "born": None}
    assert list(masking.row(row)) == list(row)
    assert masking.hashed == {"id"}
    assert Masking().row(row) == row


def test_the_key_is_not_shown_with_its_masks() -> None:
    assert KEY.hex() not in repr(Masking({}, KEY))
    assert repr(KEY) not in repr(Masking({}, KEY))
