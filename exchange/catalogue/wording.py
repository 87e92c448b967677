"""Labels and names as units of comparison: a Chinese character is one, a Latin word or a number is one."""

import re
import unicodedata
from functools import lru_cache

# What stands in brackets is a unit, a mark or an alternative: （万元）, （必填）, （负责人）.
_BRACKETS = re.compile(r"[(\[{<【〔《「][^(\[{<【〔《「)\]}>】〕》」]*[)\]}>】〕》」]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_POSSESSIVE = re.compile(r"['’]s?\b")
_UNIT = re.compile(r"[㐀-鿿豈-﫿]|[a-z]+|[0-9]+")
LONGEST = 200
"""Characters of a label that are looked at: what is longer is no label."""

# Words that end in s and are no plurals.
_SINGULAR = ("ss", "us", "is")
_SHORT = 3


@lru_cache(maxsize=100_000)
def normalised(text: str) -> str:
    """A text in one writing: full width folded (Unicode NFKC), brackets and what is in them gone, unless all is."""
    folded = unicodedata.normalize("NFKC", text[:LONGEST]).strip()
    return _BRACKETS.sub(" ", folded).strip() or folded


@lru_cache(maxsize=100_000)
def units(text: str) -> tuple[str, ...]:
    """The units of a label or a name, small letters: `idCardNo` is id, card, no; `身份证` is its three characters."""
    split = _CAMEL.sub(" ", _POSSESSIVE.sub("", normalised(text)))
    return tuple(_singular(unit) for unit in _UNIT.findall(split.lower()))


def is_latin(parts: tuple[str, ...]) -> bool:
    """Whether there is nothing but Latin letters and numbers."""
    return bool(parts) and all(part.isascii() for part in parts)


def _singular(word: str) -> str:
    if len(word) <= _SHORT or not word.endswith("s") or word.endswith(_SINGULAR):
        return word
    return word[:-1]
