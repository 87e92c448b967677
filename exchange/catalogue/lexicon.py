"""The words of government data, from `lexicon.toml`: concepts, heads, roles, terms, and words without weight."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from exchange.catalogue.pinyin import spelled_as_words
from exchange.catalogue.wording import units

CONCEPT, HEAD, ROLE, TERM, STOP = "concept", "head", "role", "term", "stop"
_SHORTEST = 2
# How many words a run of initials may stand for before it says nothing.
_READINGS = 3


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its synonyms.

    Args:
        kind: concept, head, role, term or stop.
        id: unique among its kind.
        of: whose value it is: person, organisation, or empty.
        type: of its values, where they have but one.
        pattern: of its values (`patterns.PATTERNS`).
        broader: the concept or head that it is a kind of.
        subject: a role that is whoever the record is about.
        anyone: such a role that is not of one group of people alone.
        members: a role that the record's subject stands in, and that is an organisation of its own.
        weak: a term that says nothing without the record it stands in.
        record: a concept that any record has: no record provides another's.
    """

    kind: str
    id: str
    of: str = ""
    type: str = ""
    pattern: str = ""
    broader: str = ""
    subject: bool = False
    anyone: bool = False
    members: bool = False
    weak: bool = False
    record: bool = False


@dataclass(frozen=True, slots=True)
class Lexicon:
    """All words, found by what is written.

    Args:
        words: by kind and id.
        phrases: by units (`wording.units`).
        codes: by the code of an indicator or data element, small letters.
        pinyin: by initials, and by the whole pinyin: of each word's first synonym, else of the others.
        lengths: of the phrases that begin with a unit, the longest first.
    """

    words: Mapping[tuple[str, str], Word]
    phrases: Mapping[tuple[str, ...], Word]
    codes: Mapping[str, Word]
    pinyin: Mapping[str, tuple[Word, ...]]
    lengths: Mapping[str, tuple[int, ...]]

    def meaning_word(self, id: str) -> Word | None:
        """The concept or head of this id."""
        return self.words.get((CONCEPT, id)) or self.words.get((HEAD, id))

    def broader(self, id: str) -> tuple[str, ...]:
        """The concepts and heads that one is a kind of, nearest first."""
        found: list[str] = []
        word = self.meaning_word(id)
        while word is not None and word.broader:
            found.append(word.broader)
            word = self.meaning_word(word.broader)
        return tuple(found)


@cache
def lexicon() -> Lexicon:
    """The lexicon, read once."""
    values = tomllib.loads(files("exchange.catalogue").joinpath("lexicon.toml").read_text("utf-8"))
    words: dict[tuple[str, str], Word] = {}
    phrases: dict[tuple[str, ...], Word] = {}
    codes: dict[str, Word] = {}
    first: dict[str, list[Word]] = {}
    others: dict[str, list[Word]] = {}
    for word, entry in _entries(values):
        words[word.kind, word.id] = word
        chinese = str(entry.get("zh", "")).split()
        english = [part.strip() for part in str(entry.get("en", "")).split(",") if part.strip()]
        for phrase in (*chinese, *english):
            phrases.setdefault(units(phrase), word)
        for code in str(entry.get("codes", "")).lower().split():
            codes[code] = word
        if word.kind != STOP:
            _add_pinyin(first, word, chinese[:1])
            _add_pinyin(others, word, chinese[1:])
    spelt = {text: tuple(found) for text, found in (others | first).items() if len(found) <= _READINGS}
    lengths: dict[str, set[int]] = {}
    for parts in phrases:
        lengths.setdefault(parts[0], set()).add(len(parts))
    sorted_lengths = {unit: tuple(sorted(found, reverse=True)) for unit, found in lengths.items()}
    return Lexicon(
        MappingProxyType(words),
        MappingProxyType(phrases),
        MappingProxyType(codes),
        MappingProxyType(spelt),
        MappingProxyType(sorted_lengths),
    )


def _entries(values: Mapping[str, object]) -> Iterable[tuple[Word, Mapping[str, object]]]:
    for kind in (CONCEPT, HEAD, ROLE, TERM):
        entries = values[kind]
        assert isinstance(entries, list)  # noqa: S101 - the file is ours
        for entry in entries:
            yield Word(kind, **{key: value for key, value in entry.items() if key not in ("zh", "en", "codes")}), entry
    stop = values[STOP]
    assert isinstance(stop, dict)  # noqa: S101
    # Each by itself: "of the" is two of them.
    yield Word(STOP, STOP), stop


def _add_pinyin(pinyin: dict[str, list[Word]], word: Word, chinese: Iterable[str]) -> None:
    for phrase in chinese:
        for text in set(spelled_as_words(phrase)):
            if len(text) >= _SHORTEST and word not in pinyin.setdefault(text, []):
                pinyin[text].append(word)
