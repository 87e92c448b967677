"""What departments already provide of a profile: candidates from an index, scored one by one, the best sources first.

Many datasets describe the same field in the same words: it is scored once.
"""

import heapq
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from exchange.catalogue.context import Context, Seen, is_weak, read_context
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.lexicon import lexicon
from exchange.catalogue.meaning import ORGANISATION
from exchange.catalogue.patterns import NAMING
from exchange.catalogue.pinyin import spelled_by_character
from exchange.catalogue.scoring import THRESHOLD, Evidence, compare
from exchange.catalogue.wording import units

__all__ = ["THRESHOLD", "Catalogue", "Coverage", "FieldMatches", "Match", "Similar", "Source"]

SOURCES = 20
"""How many sources are told for one field, and how many datasets in all, unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset that provides.

    Args:
        name: what people call it: DEPARTMENT/CODE.
        profile: its fields.
        shared: whether one can apply for it; a dataset that is not shared is a duplicate all the same.
    """

    name: str
    profile: Profile
    shared: bool = True


@dataclass(frozen=True, slots=True)
class Match:
    """A field that a dataset provides.

    Args:
        source: the dataset.
        field: of the dataset.
        score: 0 to 1.
        reasons: why, the most important first.
    """

    source: Source
    field: FieldProfile
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FieldMatches:
    """A field of the profile, and who provides it, the best first; the first is the source to name."""

    field: FieldProfile
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """A dataset, and how much of the profile it provides.

    Args:
        source: the dataset.
        provided: fields of the profile, each with its match.
    """

    source: Source
    provided: tuple[tuple[FieldProfile, Match], ...]


@dataclass(frozen=True, slots=True)
class Similar:
    """What was found.

    Args:
        fields: every field of the profile, in its order.
        datasets: those that provide any of it, the most covering first.
    """

    fields: tuple[FieldMatches, ...]
    datasets: tuple[Coverage, ...]

    @property
    def provided(self) -> int:
        """How many fields of the profile somebody provides."""
        return sum(1 for field in self.fields if field.matches)


Found = tuple[float, int, Evidence]
"""The score, the number of the dataset's field, and the evidence."""

# A place is a dataset's number and a field's, in one integer.
_FIELD_BITS = 13


class Catalogue:
    """Datasets to look in.

    Args:
        sources: published datasets; those that should not be named are left out by the caller.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources: list[Source] = []
        self._themes: list[frozenset[str]] = []
        # Fields that some datasets describe alike, and where.
        self._described: list[Seen] = []
        self._places: list[array[int]] = []
        self._numbers: dict[Hashable, int] = {}
        self._postings: dict[str, list[int]] = {}
        for source in sources:
            self._add(source)

    def similar(self, profile: Profile, minimum: float = THRESHOLD, limit: int | None = SOURCES) -> Similar:
        """Find who provides a profile's fields.

        Args:
            profile: what somebody is about to build or collect.
            minimum: the score from which a field counts as provided, 0 to 1.
            limit: at most so many sources of a field, and datasets; None for all.
        """
        context = read_context(profile)
        found = [self._find(seen, context, minimum) for seen in context.fields]
        covering: dict[int, float] = {}
        for places in found:
            for source, (score, _, _) in places.items():
                covering[source] = covering.get(source, 0.0) + 1 + score / 1_000
        fields = tuple(
            FieldMatches(field, self._best(places, covering, limit))
            for field, places in zip(profile.fields, found, strict=True)
        )
        return Similar(fields, self._coverage(profile, found, covering, limit))

    def _add(self, source: Source) -> None:
        number = len(self._sources)
        self._sources.append(source)
        context = read_context(source.profile)
        self._themes.append(context.themes)
        for place, seen in enumerate(context.fields):
            alike = self._numbers.setdefault(_likeness(seen), len(self._described))
            if alike == len(self._described):
                self._described.append(seen)
                self._places.append(array("Q"))
                for key in set(_keys(seen)):
                    self._postings.setdefault(key, []).append(alike)
            self._places[alike].append(number << _FIELD_BITS | place)

    def _find(self, seen: Seen, context: Context, minimum: float) -> dict[int, Found]:
        """The best field of each dataset that provides one."""
        best: dict[int, Found] = {}
        keys = set(_asked(seen, context.themes))
        for alike in sorted({number for key in keys for number in self._postings.get(key, ())}):
            for place, evidence in self._evidence(seen, context, alike, minimum):
                source, field = place >> _FIELD_BITS, place & (1 << _FIELD_BITS) - 1
                known = best.get(source)
                if known is None or evidence.score > known[0]:
                    best[source] = (evidence.score, field, evidence)
        return best

    def _evidence(self, seen: Seen, context: Context, alike: int, minimum: float) -> Iterator[tuple[int, Evidence]]:
        """Where fields are that are described alike, with what speaks for each; none that is under the minimum."""
        described, places = self._described[alike], self._places[alike]
        if not (seen.needs_record and described.needs_record):
            evidence = compare(seen, described, context.themes, frozenset())
            if evidence.score >= minimum:
                yield from ((place, evidence) for place in places)
            return
        # Of a record's themes only those count that the other one asks for: few are left to tell apart.
        asked = context.themes.union(*(meaning.modifiers for meaning in seen.meanings))
        known: dict[frozenset[str], Evidence] = {}
        for place in places:
            themes = self._themes[place >> _FIELD_BITS] & asked
            found = known.get(themes)
            if found is None:
                found = known[themes] = compare(seen, described, context.themes, themes)
            if found.score >= minimum:
                yield place, found

    def _best(self, places: Mapping[int, Found], covering: Mapping[int, float], limit: int | None) -> tuple[Match, ...]:
        """Where scores are close, whoever provides more of the profile is the better source."""

        def rank(source: int) -> tuple[float, float, float]:
            return (-round(places[source][0], 1), -covering[source], -places[source][0])

        chosen = heapq.nsmallest(len(places) if limit is None else limit, places, key=rank)
        return tuple(self._match(source, *places[source]) for source in chosen)

    def _coverage(
        self,
        profile: Profile,
        found: list[dict[int, Found]],
        covering: Mapping[int, float],
        limit: int | None,
    ) -> tuple[Coverage, ...]:
        chosen = heapq.nsmallest(
            len(covering) if limit is None else limit,
            covering,
            key=lambda source: (-covering[source], self._sources[source].name),
        )
        return tuple(
            Coverage(
                self._sources[source],
                tuple(
                    (field, self._match(source, *places[source]))
                    for field, places in zip(profile.fields, found, strict=True)
                    if source in places
                ),
            )
            for source in chosen
        )

    def _match(self, source: int, score: float, field: int, evidence: Evidence) -> Match:
        named = self._sources[source]
        return Match(named, named.profile.fields[field], round(score, 3), evidence.reasons)


def _likeness(seen: Seen) -> Hashable:
    """All of a field that a comparison looks at."""
    field = seen.field
    name = "" if field.label else field.name
    return (name, field.label, field.element, field.patterns, seen.words, seen.meanings, seen.pinyin, seen.type)


def _keys(seen: Seen) -> Iterator[str]:
    """Under what a dataset's field is found: a pair that shares no key has nothing in common that would count."""
    for meaning in filter(lambda said: said.is_known, seen.meanings):
        whose = _whose(meaning.roles)
        modifiers = [name for name in meaning.modifiers if not is_weak(name)] if meaning.generic else []
        for concept in (meaning.concept, *lexicon().broader(meaning.concept)):
            yield from (f"concept {concept}{whose} {name}" for name in modifiers or [""])
    yield from _other_keys(seen)


def _asked(seen: Seen, themes: frozenset[str]) -> Iterator[str]:
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
