"""What a whole file or dataset is about: a bare 电话 or 状态 means nothing without it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.lexicon import CONCEPT, TERM, lexicon
from exchange.catalogue.meaning import ORGANISATION, PERSON, Meaning, in_context, read_meaning, read_pinyin
from exchange.catalogue.wording import units

# How many times as many fields must be a person's as an organisation's, or the other way round.
_MANY = 3
# Names read as pinyin before two letters are: xb alone may be anything.
_PINYIN_NAMES = 3
# What descriptors call the subject of a record.
_SUBJECTS = {"person": PERSON, "company": ORGANISATION}
# Families of concepts that records of every kind have.
_EVERYWHERE = frozenset({"person", "organisation", "record", "money"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A field with what it says where it stands.

    Args:
        field: as it was read.
        meanings: one, or each reading of a name that has several; never empty.
        pinyin: the meanings are guesses from a name in pinyin.
        words: the text that was read, for reasons.
        patterns: what its values look like, seen or known of the concept.
        type: declared, or known of the concept.
    """

    field: FieldProfile
    meanings: tuple[Meaning, ...]
    pinyin: bool
    words: str
    patterns: frozenset[str]
    type: str

    @property
    def needs_record(self) -> bool:
        """Whether what the record is about decides what it means."""
        return any(meaning.generic for meaning in self.meanings)


@dataclass(frozen=True, slots=True)
class Context:
    """A profile, read.

    Args:
        fields: in the profile's order.
        holder: whom the record is about: person, organisation, or empty for neither or both.
        themes: what it is about: ids of terms, and families of concepts.
    """

    fields: tuple[Seen, ...]
    holder: str
    themes: frozenset[str]


def read_context(profile: Profile) -> Context:
    """Read a profile's fields, each in the light of all."""
    readings = [
        _readings(field.label, field.label_en, field.name, field.element, field.group) for field in profile.fields
    ]
    if sum(1 for _, meanings, pinyin in readings if pinyin and meanings) < _PINYIN_NAMES:
        readings = [_without_short(field, reading) for field, reading in zip(profile.fields, readings, strict=True)]
    sure = [meanings[0] for _, meanings, pinyin in readings if not pinyin]
    holder = _SUBJECTS.get(profile.subject_type) or _holder([meanings[0] for _, meanings, _ in readings])
    fields = tuple(
        _seen(field, words, tuple(in_context(meaning, holder) for meaning in meanings), pinyin)
        for field, (words, meanings, pinyin) in zip(profile.fields, readings, strict=True)
    )
    return Context(fields, holder, _themes([read_meaning(profile.title), *sure]))


Reading = tuple[str, tuple[Meaning, ...], bool]


@lru_cache(maxsize=200_000)
def _readings(label: str, label_en: str, name: str, element: str, group: str) -> Reading:
    """The text of a field that says most: its label, then its English label, its code, its name, its name in pinyin."""
    texts = [text for text in (label, label_en, name) if text]
    if element.lower() in lexicon().codes:
        texts.append(element)
    for text in texts:
        meaning = read_meaning(text)
        if meaning.is_known:
            return text, (_within(meaning, group),), False
    if name and not label:
        meanings = read_pinyin(name)
        if meanings:
            return name, meanings, True
    text = texts[0] if texts else ""
    return text, (_within(read_meaning(text), group),), False


def _without_short(field: FieldProfile, reading: Reading) -> Reading:
    words, _, pinyin = reading
    if not pinyin or len(units(field.name)) > 1 or len(words) > 2:
        return reading
    return words, (read_meaning(words),), False


def _within(meaning: Meaning, group: str) -> Meaning:
    """The meaning of a field of a block: in the block `spouse`, `name` is the spouse's."""
    if not group or meaning.roles or meaning.subject:
        return meaning
    block = read_meaning(group)
    if not block.roles and not block.subject:
        return meaning
    role = next(iter(sorted(block.roles)), block.subject)
    of = lexicon().words["role", role].of
    owned = Meaning(
        meaning.concept,
        meaning.generic,
        block.roles,
        block.subject,
        meaning.holder or of,
        meaning.modifiers,
    )
    named = in_context(Meaning(meaning.concept, meaning.generic, modifiers=meaning.modifiers), of)
    if named.concept == owned.concept:
        return owned
    return Meaning(named.concept, named.generic, block.roles, block.subject, of, meaning.modifiers)


def _holder(meanings: Sequence[Meaning]) -> str:
    votes = [_vote(meaning) for meaning in meanings]
    persons, organisations = votes.count(PERSON), votes.count(ORGANISATION)
    if persons >= _MANY * organisations and persons:
        return PERSON
    return ORGANISATION if organisations >= _MANY * persons and organisations else ""


def _vote(meaning: Meaning) -> str:
    word = lexicon().meaning_word(meaning.concept)
    return word.of if word is not None and not meaning.roles else ""


def _themes(meanings: Iterable[Meaning]) -> frozenset[str]:
    words = lexicon()
    found: set[str] = set()
    for meaning in meanings:
        if meaning.is_known and not meaning.generic:
            found.add(meaning.concept.partition(".")[0])
        found |= {name for name in meaning.modifiers if is_strong(name)}
    return frozenset(name for name in found - _EVERYWHERE if (CONCEPT, name) not in words.words)


def is_strong(modifier: str) -> bool:
    """Whether a modifier is a word of the lexicon that tells records apart."""
    word = lexicon().words.get((TERM, modifier))
    return word is not None and not word.weak


def is_weak(modifier: str) -> bool:
    """Whether a modifier is a word of the lexicon that says nothing without the record that it stands in."""
    word = lexicon().words.get((TERM, modifier))
    return word is not None and word.weak


def _seen(field: FieldProfile, words: str, meanings: tuple[Meaning, ...], pinyin: bool) -> Seen:
    word = lexicon().meaning_word(meanings[0].concept) if len(meanings) == 1 else None
    patterns, type = field.patterns, field.type
    if word is not None:
        patterns = patterns or frozenset(filter(None, (word.pattern,)))
        type = type or word.type
    return Seen(field, meanings, pinyin, words, patterns, type)
