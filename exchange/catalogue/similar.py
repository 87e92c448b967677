"""What departments already provide of a profile: candidates from an index, scored one by one, the best sources first.

Many datasets describe the same field in the same words: it is scored once.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from exchange.catalogue.context import Context, Seen, read_context
from exchange.catalogue.described import asked
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.scoring import THRESHOLD, Evidence, compare
from exchange.catalogue.shelf import Shelf

__all__ = ["THRESHOLD", "Catalogue", "Coverage", "FieldMatches", "Match", "Similar", "Source", "Version"]

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
class Version:
    """A version of a dataset, which is read where nobody has read it before.

    Args:
        name: as the source's.
        digest: of this version and no other.
        read: gives what is in it.
    """

    name: str
    digest: bytes
    read: Callable[[], Source]


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


class Catalogue:
    """Datasets to look in.

    Args:
        path: of the index that keeps what was read; None for one in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._shelf = Shelf(path)
        self._versions: Mapping[str, Version] = {}

    @classmethod
    def of(cls, sources: Iterable[Source]) -> "Catalogue":
        """A catalogue in memory, of datasets whose names differ."""
        catalogue = cls()
        catalogue.refresh(map(_only_version, sources))
        return catalogue

    def close(self) -> None:
        """Close the index."""
        self._shelf.close()

    def refresh(self, versions: Iterable[Version], advance: Callable[[int, int], None] | None = None) -> None:
        """Say which datasets there are: new versions are read, what is no longer there goes.

        Args:
            versions: of the published datasets; what should not be named is left out.
            advance: told how many of how many new versions are read.
        """
        self._versions = {item.name: item for item in versions}
        wanted = {item.name: item.digest for item in self._versions.values()}
        if self._shelf.versions() == wanted:
            return
        with self._shelf.writing():
            known = self._shelf.versions()
            for name, digest in known.items():
                if wanted.get(name) != digest:
                    self._shelf.remove(name)
            new = [item for item in self._versions.values() if known.get(item.name) != item.digest]
            for done, item in enumerate(new, 1):
                self._shelf.add(item.name, item.digest, read_context(item.read().profile))
                if advance is not None:
                    advance(done, len(new))

    def similar(
        self,
        profile: Profile,
        minimum: float = THRESHOLD,
        limit: int | None = SOURCES,
        apart_from: str = "",
    ) -> Similar:
        """Find who provides a profile's fields.

        Args:
            profile: what somebody is about to build or collect.
            minimum: the score from which a field counts as provided, 0 to 1.
            limit: at most so many sources of a field, and datasets; None for all.
            apart_from: a department whose own datasets do not count.
        """
        with self._shelf.reading():
            return _Search(self._shelf, self._versions, apart_from).similar(profile, minimum, limit)


class _Search:
    """One search, in one state of the index: what it holds of other versions than ours is passed over."""

    def __init__(self, shelf: Shelf, versions: Mapping[str, Version], apart_from: str) -> None:
        self._shelf = shelf
        self._versions: dict[int, Version] = {}
        self._themes: dict[int, frozenset[str]] = {}
        self._seen: dict[int, Seen] = {}
        self._sources: dict[int, Source] = {}
        for number, name, digest, themes in shelf.datasets():
            version = versions.get(name)
            if version is not None and version.digest == digest and name.partition("/")[0] != apart_from:
                self._versions[number], self._themes[number] = version, themes

    def similar(self, profile: Profile, minimum: float, limit: int | None) -> Similar:
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

    def _find(self, seen: Seen, context: Context, minimum: float) -> dict[int, Found]:
        """The best field of each dataset that provides one; of the same, the first."""
        best: dict[int, Found] = {}
        numbers = self._shelf.found(set(asked(seen, context.themes)))
        self._seen |= self._shelf.seen(number for number in numbers if number not in self._seen)
        for number in numbers:
            for source, field, evidence in self._evidence(seen, context, number, minimum):
                known = best.get(source)
                if known is None or (evidence.score, -field) > (known[0], -known[1]):
                    best[source] = (evidence.score, field, evidence)
        return best

    def _evidence(
        self, seen: Seen, context: Context, number: int, minimum: float
    ) -> Iterator[tuple[int, int, Evidence]]:
        """Where fields are that are described alike, with what speaks for each; none that is under the minimum."""
        described = self._seen[number]
        if not (seen.needs_record and described.needs_record):
            evidence = compare(seen, described, context.themes, frozenset())
            if evidence.score >= minimum:
                yield from ((source, field, evidence) for source, field in self._places(number))
            return
        # Of a record's themes only those count that the other one asks for: few are left to tell apart.
        asked_for = context.themes.union(*(meaning.modifiers for meaning in seen.meanings))
        known: dict[frozenset[str], Evidence] = {}
        for source, field in self._places(number):
            themes = self._themes[source] & asked_for
            found = known.get(themes)
            if found is None:
                found = known[themes] = compare(seen, described, context.themes, themes)
            if found.score >= minimum:
                yield source, field, found

    def _places(self, number: int) -> Iterator[tuple[int, int]]:
        return (place for place in self._shelf.places(number) if place[0] in self._versions)

    def _best(self, places: Mapping[int, Found], covering: Mapping[int, float], limit: int | None) -> tuple[Match, ...]:
        """Where scores are close, whoever provides more of the profile is the better source."""

        def rank(source: int) -> tuple[float, float, float, str]:
            return (-round(places[source][0], 1), -covering[source], -places[source][0], self._versions[source].name)

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
            key=lambda source: (-covering[source], self._versions[source].name),
        )
        return tuple(
            Coverage(
                self._source(source),
                tuple(
                    (field, self._match(source, *places[source]))
                    for field, places in zip(profile.fields, found, strict=True)
                    if source in places
                ),
            )
            for source in chosen
        )

    def _match(self, source: int, score: float, field: int, evidence: Evidence) -> Match:
        named = self._source(source)
        return Match(named, named.profile.fields[field], round(score, 3), evidence.reasons)

    def _source(self, number: int) -> Source:
        if number not in self._sources:
            self._sources[number] = self._versions[number].read()
        return self._sources[number]


def _only_version(source: Source) -> Version:
    return Version(source.name, b"", lambda: source)
