"""Chinese words as programmers type them: in pinyin (`xingming`), or by its initials (`xm`)."""

from functools import cache

from pypinyin import lazy_pinyin

Spellings = tuple[str, str]
"""The initials, and all letters."""

NONE: Spellings = ("", "")


def spelled_as_words(text: str) -> Spellings:
    """How a Chinese phrase is spelled, each character as in the words that it is part of: 行 is hang in 银行."""
    parts = lazy_pinyin(text, errors="ignore", v_to_u=False)
    return _joined(parts) if len(parts) == len(text) else NONE


def spelled_by_character(text: str) -> Spellings:
    """How a Chinese text is most likely spelled, each character by itself: fast, for any number of labels."""
    parts = [_character(character) for character in text]
    return _joined(parts) if all(parts) else NONE


@cache
def _character(character: str) -> str:
    return "".join(lazy_pinyin(character, errors="ignore", v_to_u=False))


def _joined(parts: list[str]) -> Spellings:
    return "".join(part[0] for part in parts), "".join(parts)
