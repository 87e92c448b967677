"""Bodies that came before a snapshot, opened when they are looked up: each as it was when its entry came (ADR 0009)."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from exchange.core.belongings import (
    CASE,
    CATALOGUE_KEY,
    CORRECTION,
    DISPUTE,
    Belongings,
    Bodies,
    applied_key,
    keys_of,
    rows_since,
)
from exchange.core.cases import open_body
from exchange.core.chunks import record_at
from exchange.core.errors import CoreError
from exchange.core.kept import KeptTable
from exchange.core.layered import Layered, Table
from exchange.core.names import Party
from exchange.core.state import Other, State, Version
from exchange.core.terms import Terms
from exchange.v1.directory_pb2 import EntryKind

K = TypeVar("K")
V = TypeVar("V")


def reopened_terms(state: State, bodies: Bodies, belongings: Belongings | None = None) -> Terms:
    """The terms of a state that was kept, whose bodies stay closed until they are looked up.

    Args:
        state: with all of their entries folded in.
        bodies: those at hand; one that breaks a rule gives no rights. What is looked up stays as it was found.
        belongings: what every body at hand is about; without it, all are read at the first lookup to find that out.
    """
    opening = _Reopening(state, bodies, belongings)

    def catalogue(of: Callable[[Terms], Table[K, V]]) -> Layered[K, V]:
        return Layered(KeptTable(lambda key: of(opening.catalogue).get(key), lambda: iter(of(opening.catalogue))))

    def signed(of: Callable[[Terms], Table[bytes, V]]) -> Layered[bytes, V]:
        """By the message digest of an entry."""
        return Layered(KeptTable(lambda digest: of(opening.with_entry(digest)).get(digest), lambda: opening.all(of)))

    def named(kind: bytes, of: Callable[[Terms], Table[bytes, V]]) -> Layered[bytes, V]:
        """By the object id of what is opened together."""
        return Layered(KeptTable(lambda key: of(opening.group(kind + key)).get(key), lambda: opening.all(of, kind)))

    return Terms(
        catalogue(lambda terms: terms.datasets),
        signed(lambda terms: terms.applications),
        signed(lambda terms: terms.agreements),
        catalogue(lambda terms: terms.codes),
        catalogue(lambda terms: terms.approvals),
        signed(lambda terms: terms.steps),
        named(CASE, lambda terms: terms.events),
        named(CASE, lambda terms: terms.ends),
        named(DISPUTE, lambda terms: terms.disputes),
        catalogue(lambda terms: terms.consents),
        catalogue(lambda terms: terms.reviews),
        named(CORRECTION, lambda terms: terms.corrections),
        opening.granted(state.size),
    )


_NOTHING = Terms()
_GROUPED = frozenset({EntryKind.ENTRY_KIND_APPLICATION, EntryKind.ENTRY_KIND_AGREEMENT, EntryKind.ENTRY_KIND_STEP})


class _Reopening:
    """What was opened so far.

    All that is about datasets is opened at the first lookup, and how it stood after each body is remembered: there is
    little of it, and everything else depends on it. Cases and corrections are opened one by one, each whole and in the
    order of its entries. Cases that name the same dispute are opened together: only the first can have it.
    """

    def __init__(self, state: State, bodies: Bodies, belongings: Belongings | None) -> None:
        self._state = state
        self._bodies = bodies
        self._given = belongings
        self._read: dict[int, bytes] = {}
        self._groups: dict[bytes, Terms] = {}
        self._entries: dict[bytes, Terms] = {}

    @property
    def catalogue(self) -> Terms:
        """All that is about datasets."""
        return self._catalogues[1][-1]

    def with_entry(self, digest: bytes) -> Terms:
        """What was opened together with an entry, by its message digest."""
        found = self._entries.get(digest)
        if found is None:
            version = self._state.versions.get(digest)
            if version is None or version.kind not in _GROUPED or not self._at_hand[version.index]:
                return _NOTHING
            found = self._entries[digest] = self._with(version)
        return found

    def group(self, key: bytes) -> Terms:
        """A case, by its application or its dispute, or a correction."""
        found = self._groups.get(key)
        if found is not None:
            return found
        keys, indexes = self._together(key)
        if not indexes:
            return _NOTHING
        found = _NOTHING
        for index in sorted(indexes):
            found = self._opened(self._beside(found, index), index)
        self._groups.update(dict.fromkeys(keys, found))
        for table in (found.applications, found.agreements, found.steps):
            self._entries.update(dict.fromkeys(table, found))
        return found

    def granted(self, size: int) -> Layered[tuple[bytes, Party], bool]:
        """Whose departments had an agreement for a dataset in a directory of a size."""
        return Layered(KeptTable(lambda key: self._was_granted(*key, size), self._granted))

    def all(self, of: Callable[[Terms], Table[bytes, V]], *kinds: bytes) -> Iterator[bytes]:
        """Every key of a table, which opens all that it is of; without kinds, that is everything."""
        groups = (self.group(key) for kind in kinds or (CASE, CORRECTION) for key in self._index.keys(kind))
        found = dict.fromkeys(key for terms in groups for key in of(terms))
        return iter(found if kinds else dict.fromkeys([*of(self.catalogue), *found]))

    @cached_property
    def _index(self) -> Belongings:
        given = self._given
        return given if given is not None else Belongings.of(rows_since(self._state, self._bodies, 0))

    @cached_property
    def _at_hand(self) -> bytearray:
        return self._index.marks(self._state.size)

    @cached_property
    def _catalogues(self) -> tuple[list[int], list[Terms]]:
        indexes = self._index.about(CATALOGUE_KEY)
        found = [_NOTHING]
        for index in indexes:
            found.append(self._opened(found[-1], index))
        return indexes, found

    def _with(self, version: Version) -> Terms:
        indexes, _ = self._catalogues
        place = bisect_left(indexes, version.index)
        if place < len(indexes) and indexes[place] == version.index:
            return self.catalogue
        keys = self._keys_at(version)
        found = self.group(keys[0]) if keys else _NOTHING
        self._read.pop(version.index, None)
        return found

    def _together(self, key: bytes) -> tuple[set[bytes], set[int]]:
        """The keys and the indexes of all that cannot be opened without each other."""
        keys, indexes, rest = {key}, set[int](), [key]
        while rest:
            for index in self._index.about(rest.pop()):
                version = self._record(index) if index not in indexes else None
                indexes.add(index)
                if isinstance(version, Version) and version.kind == EntryKind.ENTRY_KIND_STEP:
                    more = set(self._keys_at(version)) - keys
                    keys |= more
                    rest += more
        return keys, indexes

    def _keys_at(self, version: Version) -> tuple[bytes, ...]:
        body = self._bodies.body(version)
        # Opened soon after, and it is not to be read twice.
        self._read[version.index] = body
        return keys_of(self._state, version, body)

    def _beside(self, terms: Terms, index: int) -> Terms:
        """A case or a correction, with all that it depends on as it was when an entry of this index came."""
        indexes, catalogues = self._catalogues
        then = catalogues[bisect_left(indexes, index)]
        return replace(
            terms,
            datasets=then.datasets,
            codes=then.codes,
            approvals=then.approvals,
            consents=then.consents,
            reviews=then.reviews,
            granted=self.granted(index),
        )

    def _opened(self, terms: Terms, index: int) -> Terms:
        """Terms with one body more, or as they are where it is not at hand or breaks a rule."""
        version = self._record(index)
        if not isinstance(version, Version):
            return terms
        read = self._read.pop(index, None)
        body = self._bodies.body(version) if read is None else read
        if body:
            with suppress(CoreError):
                # As its entry left it; what came later is in the state alone.
                version = replace(version, ended_index=None, superseded_by=None)
                return open_body(self._state_at(index), terms, version, body)
        return terms

    def _record(self, index: int) -> Version | Other | None:
        return record_at(self._state.chunks, index)

    def _state_at(self, index: int) -> State:
        """The state, with the objects alone that an entry of this index found, or brought."""
        state = self._state

        def latest(object_id: bytes) -> bytes | None:
            digest = state.objects.get(object_id)
            return digest if digest is not None and self._beginnings[object_id] <= index else None

        return replace(state, objects=Layered(KeptTable(latest, lambda: iter(()))))

    @cached_property
    def _beginnings(self) -> dict[bytes, int]:
        """The index of each object's first entry: asked for where the id of a dispute is that of an object."""
        found: dict[bytes, int] = {}
        for record in self._state.records():
            found.setdefault(record.object_id, record.index)
            if isinstance(record, Other) and record.closes:
                found.setdefault(record.closes, record.index)
        return found

    def _was_granted(self, dataset: bytes, department: Party, size: int) -> bool | None:
        for index in self._index.about(applied_key(dataset, department)):
            version = self._record(index) if index < size else None
            agreements = self.group(CASE + version.object_id).agreements if version is not None else None
            for agreement in agreements.values() if agreements is not None else ():
                is_theirs = (agreement.dataset, agreement.grantee.own_department) == (dataset, department)
                if is_theirs and agreement.version.index < size:
                    return True
        return None

    def _granted(self) -> Iterator[tuple[bytes, Party]]:
        """This opens every case."""
        cases = (self.group(key) for key in self._index.keys(CASE))
        found = (agreement for terms in cases for agreement in terms.agreements.values())
        return iter(dict.fromkeys((terms.dataset, terms.grantee.own_department) for terms in found))
