"""What values look like: recognised in samples, and in the patterns and formats that schemas declare."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date
from types import MappingProxyType

# GB 11643-1999 section 3.4: ISO 7064 MOD 11-2 over the first 17 digits.
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_IDENTITY_CHECKS = "10X98765432"
_IDENTITY = re.compile(r"[1-9][0-9]{16}[0-9X]")
# GB 32100-2015 appendix A: modulo 31 over this alphabet, which leaves out I, O, S, V and Z.
_CODE_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_CODE = re.compile(rf"[{_CODE_ALPHABET}]{{2}}[0-9]{{6}}[{_CODE_ALPHABET}]{{10}}")
_MOBILE = re.compile(r"(?:\+?86[- ]?)?1[3-9][0-9]{9}")
_LANDLINE = re.compile(r"0[0-9]{2,3}-?[0-9]{7,8}")
_DATE = re.compile(r"([12][0-9]{3})[-/.年]?([0-9]{1,2})[-/.月]?([0-9]{1,2})日?(?:[ T].*)?")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,}")
_PLATE = re.compile(
    r"[京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新][A-Z]·?[A-HJ-NP-Z0-9]{4,5}[A-HJ-NP-Z0-9挂学警]"
)
_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{17}")
_SIX_DIGITS = re.compile(r"[0-9]{6}")
_AMOUNT = re.compile(r"-?[0-9]{1,12}\.[0-9]{2}")
# GB/T 2260-2007: the first two digits name a province.
_PROVINCES = frozenset(
    f"{area}{number}"
    for area, numbers in (
        ("1", "12345"),
        ("2", "123"),
        ("3", "1234567"),
        ("4", "123456"),
        ("5", "01234"),
        ("6", "12345"),
    )
    for number in numbers
) | {"71", "81", "82"}
_ENOUGH = 0.8
"""The part of the samples that must fit: people mistype."""


def is_identity_number(text: str) -> bool:
    """Whether a text is a resident identity number with a real birth date and the right check character (GB 11643)."""
    if not _IDENTITY.fullmatch(text) or text[:2] not in _PROVINCES or not _is_day(text[6:10], text[10:12], text[12:14]):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text[:17], _IDENTITY_WEIGHTS, strict=True))
    return _IDENTITY_CHECKS[total % 11] == text[17]


def is_social_credit_code(text: str) -> bool:
    """Whether a text is a unified social credit code with the right check character (GB 32100)."""
    if not _CODE.fullmatch(text):
        return False
    total = sum(
        _CODE_ALPHABET.index(character) * weight for character, weight in zip(text[:17], _CODE_WEIGHTS, strict=True)
    )
    return _CODE_ALPHABET[-total % 31] == text[17]


def is_date(text: str) -> bool:
    """Whether a text begins with a real day: 2026-03-01, 2026/3/1, 20260301, 2026年3月1日."""
    found = _DATE.fullmatch(text)
    return found is not None and _is_day(found[1], found[2], found[3])


def _is_day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _fits(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


PATTERNS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "identity_number": is_identity_number,
        "uscc": is_social_credit_code,
        "mobile": _fits(_MOBILE),
        "landline": _fits(_LANDLINE),
        "date": is_date,
        "email": _fits(_EMAIL),
        "plate": _fits(_PLATE),
        "vin": lambda text: _VIN.fullmatch(text) is not None and not text.isdigit(),
        "division_code": lambda text: _SIX_DIGITS.fullmatch(text) is not None and text[:2] in _PROVINCES,
        "postal_code": _fits(_SIX_DIGITS),
        "amount": _fits(_AMOUNT),
    }
)
"""How each kind of value is recognised, by name."""

NAMING = frozenset({"identity_number", "uscc", "mobile", "email", "plate"})
"""Kinds that nothing else looks like: values alone say what the field is."""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "identity_number": "resident identity numbers",
        "uscc": "unified social credit codes",
        "mobile": "mobile numbers",
        "landline": "telephone numbers",
        "date": "dates",
        "email": "e-mail addresses",
        "plate": "vehicle plates",
        "vin": "vehicle identification numbers",
        "division_code": "division codes",
        "postal_code": "postal codes",
        "amount": "amounts",
    }
)
"""What people call the values."""

# A declared expression is looked at, never run: it came with somebody's file.
_DECLARED: Mapping[str, str] = MappingProxyType(
    {
        r"\d{17}": "identity_number",
        r"\d{16}": "identity_number",
        r"1[3-9]\d{9}": "mobile",
        r"1[3456789]\d{9}": "mobile",
        r"1\d{10}": "mobile",
        r"[0-9A-HJ-NPQRTUWXY]{2}\d{6}": "uscc",
        "[0-9A-HJ-NP-RT-UW-Y]{18}": "uscc",
        "[0-9A-HJ-NPQRTUWXY]{18}": "uscc",
        r"\d{4}-\d{2}-\d{2}": "date",
    }
)
_FORMATS: Mapping[str, str] = MappingProxyType({"date": "date", "date-time": "date", "email": "email"})


def recognise(samples: Collection[str]) -> frozenset[str]:
    """The kinds of value that a column's samples are.

    Args:
        samples: values; empty ones say nothing.

    Returns:
        Names in `PATTERNS`: none, or several where a text may be either.
    """
    values = [text for text in (sample.strip().upper() for sample in samples) if text]
    if not values:
        return frozenset()
    needed = _ENOUGH * len(values)
    return frozenset(name for name, fits in PATTERNS.items() if sum(map(fits, values)) >= needed)


def declared(pattern: str = "", format: str = "") -> frozenset[str]:
    """The kinds of value that a JSON Schema's `pattern` and `format` speak of."""
    plain = pattern.replace("[0-9]", r"\d")
    found = {name for text, name in _DECLARED.items() if text in plain}
    if format in _FORMATS:
        found.add(_FORMATS[format])
    return frozenset(found)


def value_type(samples: Collection[str]) -> str:
    """The type that all samples of a column have: integer, decimal, date, or text; empty where there is none."""
    values = [text for text in (sample.strip() for sample in samples) if text]
    if not values:
        return ""
    if all(map(is_date, values)):
        return "date"
    if all(re.fullmatch(r"-?(?:0|[1-9][0-9]{0,9})", text) for text in values):
        return "integer"
    if all(re.fullmatch(r"-?[0-9]+\.[0-9]+|-?(?:0|[1-9][0-9]{0,9})", text) for text in values):
        return "decimal"
    return "text"
