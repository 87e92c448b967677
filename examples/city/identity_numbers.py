"""Resident identity numbers after GB 11643-1999: compose one, check one, read the birth date and sex back."""

import re
from datetime import date
from typing import Literal

Sex = Literal["male", "female"]

# GB 11643-1999 section 3.4: ISO 7064 MOD 11-2 over the first 17 digits.
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_CHARACTERS = "10X98765432"
_SHAPE = re.compile(r"[1-9][0-9]{16}[0-9X]")


def check_character(body: str) -> str:
    """Return the 18th character for a body of 17 digits."""
    total = sum(int(digit) * weight for digit, weight in zip(body, _WEIGHTS, strict=True))
    return _CHECK_CHARACTERS[total % 11]


def identity_number(region: str, born: date, sequence: int) -> str:
    """Compose an identity number.

    Args:
        region: six digits of the administrative division.
        born: the date of birth.
        sequence: 1 to 999; odd for a man, even for a woman.
    """
    body = f"{region}{born:%Y%m%d}{sequence:03d}"
    return body + check_character(body)


def is_identity_number(text: str) -> bool:
    """Tell whether a text has the shape, a real birth date and the right check character."""
    if not _SHAPE.fullmatch(text) or text[14:17] == "000":
        return False
    try:
        birth_date(text)
    except ValueError:
        return False
    return check_character(text[:17]) == text[17]


def birth_date(number: str) -> date:
    """Read the date of birth.

    Raises:
        ValueError: the eight digits are no date.
    """
    return date(int(number[6:10]), int(number[10:12]), int(number[12:14]))


def sex(number: str) -> Sex:
    """Read the sex from the parity of the sequence."""
    return "male" if int(number[16]) % 2 else "female"
