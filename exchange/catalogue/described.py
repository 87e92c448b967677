"""All of a field that a comparison looks at, in one writing, and the keys under which such fields are found."""

from collections.abc import Iterator
from typing import Any

import orjson

from exchange.catalogue.context import Seen, is_weak
from exchange.catalogue.fields import FieldProfile
from exchange.catalogue.lexicon import lexicon
from exchange.catalogue.meaning import ORGANISATION, Meaning
from exchange.catalogue.patterns import NAMING
from exchange.catalogue.pinyin import spelled_by_character
from exchange.catalogue.wording import units


def write_seen(seen: Seen) -> bytes:
    """A field as a comparison sees it: fields that are described alike are written alike, wherever they stand."""
    field = seen.field
    return orjson.dumps(
        (
            "" if field.label else field.name,
            field.label,
            field.element,
            sorted(field.patterns),
            [_write_meaning(meaning) for meaning in seen.meanings],
            seen.pinyin,
            seen.words,
            sorted(seen.patterns),
            seen.type,
        )
    )


def read_seen(data: bytes) -> Seen:
    """The field again; nothing but what a comparison looks at is in it."""
    name, label, element, patterns, meanings, pinyin, words, known, type = orjson.loads(data)
    field = FieldProfile("", name, label, element=element, patterns=frozenset(patterns))
    return Seen(field, tuple(map(_read_meaning, meanings)), pinyin, words, frozenset(known), type)


def keys(seen: Seen) -> Iterator[str]:
    """Under what a dataset's field is found: a pair that shares no key has nothing in common that would count."""
    for meaning in filter(lambda said: said.is_known, seen.meanings):
        whose = _whose(meaning.roles)
        modifiers = [name for name in meaning.modifiers if not is_weak(name)] if meaning.generic else []
        for concept in (meaning.concept, *lexicon().broader(meaning.concept)):
            yield from (f"concept {concept}{whose} {name}" for name in modifiers or [""])
    yield from _other_keys(seen)


def asked(seen: Seen, themes: frozenset[str]) -> Iterator[str]:
    """Under what those are looked for that may provide a field: the record it stands in may say what they say."""
    members = [word.id for word in lexicon().words.values() if word.members]
    for meaning in filter(lambda said: said.is_known, seen.meanings):
        # One's company may be an employer to a register of persons.
        others = members if meaning.holder == ORGANISATION else []
        owners = [meaning.roles, *(meaning.roles | {role} for role in others)]
        modifiers = ("", *sorted(meaning.modifiers | themes))
        for concept in (meaning.concept, *lexicon().broader(meaning.concept)):
            yield from (f"concept {concept}{whose} {name}" for whose in map(_whose, owners) for name in modifiers)
    yield from _other_keys(seen)


def _write_meaning(meaning: Meaning) -> tuple[object, ...]:
    roles, modifiers = sorted(meaning.roles), sorted(meaning.modifiers)
    return meaning.concept, meaning.generic, roles, meaning.subject, meaning.holder, modifiers


def _read_meaning(written: list[Any]) -> Meaning:
    concept, generic, roles, subject, holder, modifiers = written
    return Meaning(concept, generic, frozenset(roles), subject, holder, frozenset(modifiers))


def _whose(roles: frozenset[str]) -> str:
    return "".join(f" of {role}" for role in sorted(roles))


def _other_keys(seen: Seen) -> Iterator[str]:
    for meaning in seen.meanings:
        if not meaning.is_known:
            yield from (f"word {piece}" for name in meaning.modifiers for piece in _grams(name))
    if seen.field.element:
        yield f"element {seen.field.element.casefold()}"
    # Values tell what a field is, never whose: only the subject's own are found by them.
    if not any(meaning.roles for meaning in seen.meanings):
        yield from (f"values {name}" for name in seen.patterns & NAMING)
    yield from (f"spelt {text}" for text in _spellings(seen.field))


def _grams(name: str) -> Iterator[str]:
    if name.isascii():
        yield name
        return
    yield from (name[start : start + 2] for start in range(max(1, len(name) - 1)))


def _spellings(field: FieldProfile) -> set[str]:
    if not field.label:
        return {"".join(units(field.name))}
    chinese = "".join(units(field.label))
    return set(spelled_by_character(chinese)) - {""}
