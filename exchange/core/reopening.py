"""Bodies that came before a snapshot, opened when they are looked up: each as it was when its entry came (ADR 0009)."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Protocol

from exchange.core.case import Event
from exchange.core.cases import follow, open_body
from exchange.core.errors import CoreError
from exchange.core.kept import KeptTable
from exchange.core.layered import Layered
from exchange.core.procedure_terms import ReviewEvent
from exchange.core.state import State, Version
from exchange.core.terms import AgreementTerms, ApplicationTerms, DatasetTerms, Terms, open_terms
from exchange.v1.directory_pb2 import EntryKind


class Bodies(Protocol):
    """Where the bodies of entries are kept."""

    def body(self, version: Version) -> bytes:
        """The body of a version, or empty where it is not at hand; what this raises, every lookup may raise."""
        ...


def reopened_terms(state: State, bodies: Bodies) -> Terms:
    """The terms of a state that was kept, whose bodies stay closed until they are looked up.

    Args:
        state: with all of their entries folded in.
        bodies: those at hand; one that breaks a rule gives no rights. What is looked up stays as it was found.
    """
    opening = _Opening(state, bodies)
    tables: dict[str, Any] = {field.name: opening.table(field.name) for field in fields(Terms)}
    return Terms(**tables)


class _Opening:
    """The terms behind the tables, in the way that fits the state; nothing of it is looked at before it is asked for.

    Where there are procedures, what a body may say depends on the steps before it, so all are opened, in their order.
    Elsewhere they are opened one by one.
    """

    def __init__(self, state: State, bodies: Bodies) -> None:
        self._state = state
        self._bodies = bodies
        self._terms: Terms | None = None

    def table(self, name: str) -> Layered[Any, Any]:
        """One of the tables of the terms."""
        return Layered(KeptTable(lambda key: self._table(name).get(key), lambda: iter(self._table(name))))

    def _table(self, name: str) -> Mapping[Any, Any]:
        if self._terms is None:
            procedural = any(version.kind in _PROCEDURAL for version in self._state.historic())
            self._terms = (_in_order if procedural else _one_by_one)(self._state, self._bodies)
        table: Mapping[Any, Any] = getattr(self._terms, name)
        return table


def _one_by_one(state: State, bodies: Bodies) -> Terms:
    reopening = _Reopening(state, bodies)
    return Terms(
        Layered(KeptTable(reopening.dataset, reopening.dataset_ids)),
        Layered(KeptTable(reopening.application, lambda: reopening.opened(_APPLICATION))),
        Layered(KeptTable(reopening.agreement, lambda: reopening.opened(_AGREEMENT))),
        Layered(KeptTable(reopening.code, reopening.codes)),
        events=Layered(KeptTable(reopening.events, reopening.cases)),
        reviews=Layered(KeptTable(reopening.reviews, reopening.dataset_ids)),
    )


def _in_order(state: State, bodies: Bodies) -> Terms:
    """All bodies, opened at once in the order of their entries: what one may say depends on the steps before it."""
    terms = Terms()
    for record in state.records():
        if isinstance(record, Version) and record.body_sha256:
            body = bodies.body(record)
            # As its entry left it; what came later is in the state alone.
            version = replace(record, ended_index=None, superseded_by=None)
            with suppress(CoreError):
                terms = open_body(state, terms, version, body) if body else terms
    return terms


_DATASET = EntryKind.ENTRY_KIND_DATASET
_APPLICATION = EntryKind.ENTRY_KIND_APPLICATION
_AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT
_PROCEDURAL = frozenset({EntryKind.ENTRY_KIND_STEP, EntryKind.ENTRY_KIND_RULES, EntryKind.ENTRY_KIND_STANDING_APPROVAL})


class _Reopening:
    """What was opened so far.

    All datasets are opened at the first lookup, in their order: which of them has a code, and what an agreement may
    grant, depends on those before. There are few of them. The others are opened one by one.
    """

    def __init__(self, state: State, bodies: Bodies) -> None:
        self._state = state
        self._bodies = bodies
        self._versions: dict[bytes, tuple[DatasetTerms, ...]] | None = None
        self._codes: dict[tuple[str, str], bytes] = {}
        self._applications: dict[bytes, ApplicationTerms | None] = {}
        self._agreements: dict[bytes, AgreementTerms | None] = {}

    def dataset(self, object_id: bytes) -> DatasetTerms | None:
        found = self._datasets().get(object_id)
        return found[-1] if found else None

    def reviews(self, object_id: bytes) -> tuple[ReviewEvent, ...] | None:
        """The versions of a dataset, of which nobody asked for a review."""
        versions = self._datasets().get(object_id)
        return tuple(ReviewEvent(terms.version) for terms in versions) if versions else None

    def dataset_ids(self) -> Iterator[bytes]:
        return iter(self._datasets())

    def code(self, name: tuple[str, str]) -> bytes | None:
        self._datasets()
        return self._codes.get(name)

    def codes(self) -> Iterator[tuple[str, str]]:
        self._datasets()
        return iter(self._codes)

    def application(self, digest: bytes) -> ApplicationTerms | None:
        if digest not in self._applications:
            terms = self._open(digest, _APPLICATION)
            found = terms.applications.get(digest) if terms is not None else None
            # There are no standing approvals here, so what names one was refused.
            self._applications[digest] = found if found is not None and not found.standing_approval else None
        return self._applications[digest]

    def agreement(self, digest: bytes) -> AgreementTerms | None:
        if digest not in self._agreements:
            terms = self._open(digest, _AGREEMENT)
            self._agreements[digest] = terms.agreements.get(digest) if terms is not None else None
        return self._agreements[digest]

    def events(self, object_id: bytes) -> tuple[Event, ...] | None:
        """What happened to an application: its versions, and the agreements that answer it."""
        state = self._state
        latest = state.versions.get(state.objects.get(object_id, b""))
        if latest is None or latest.kind != _APPLICATION:
            return None
        terms = Terms()
        for version in sorted(self._about(latest), key=lambda version: version.index):
            before = replace(self._before(version.index), events=terms.events)
            with suppress(CoreError):
                terms = follow(state, before, version)
        return terms.events.get(object_id)

    def cases(self) -> Iterator[bytes]:
        """The object ids of every application that gives a case: this opens them all."""
        versions = (self._state.versions[digest] for digest in self.opened(_APPLICATION))
        return iter(dict.fromkeys(version.object_id for version in versions))

    def _about(self, latest: Version) -> Iterator[Version]:
        """The versions of an application, and of the agreements that answer one of them."""
        state = self._state
        own = [item for item in state.versions_of(latest.owner) if item.object_id == latest.object_id]
        applied = [terms for item in own if (terms := self.application(item.digest)) is not None]
        yield from (terms.version for terms in applied)
        datasets = [found for terms in applied if (found := self.dataset(terms.dataset)) is not None]
        for owner in {dataset.version.owner for dataset in datasets}:
            for item in state.versions_of(owner):
                answer = self.agreement(item.digest) if item.kind == _AGREEMENT else None
                if answer is not None and state.versions[answer.application].object_id == latest.object_id:
                    yield item

    def opened(self, kind: "EntryKind.ValueType") -> Iterator[bytes]:
        """The digests of every body of a kind that gives rights: this opens them all."""
        find = self.application if kind == _APPLICATION else self.agreement
        for record in self._state.records():
            if isinstance(record, Version) and record.kind == kind and find(record.digest) is not None:
                yield record.digest

    def _open(self, digest: bytes, kind: "EntryKind.ValueType") -> Terms | None:
        version = self._state.versions.get(digest)
        if version is None or version.kind != kind:
            return None
        return self._with_body(self._before(version.index), version)

    def _before(self, index: int) -> Terms:
        """What an entry of this index was opened with. That its application came before it, `open_terms` checks."""

        def dataset(object_id: bytes) -> DatasetTerms | None:
            versions = self._datasets().get(object_id, ())
            return next((terms for terms in reversed(versions) if terms.version.index < index), None)

        return Terms(
            Layered(KeptTable(dataset, self.dataset_ids)),
            Layered(KeptTable(self.application, lambda: self.opened(_APPLICATION))),
            Layered(KeptTable(self.agreement, lambda: self.opened(_AGREEMENT))),
            reviews=Layered(KeptTable(self.reviews, self.dataset_ids)),
        )

    def _with_body(self, terms: Terms, version: Version) -> Terms | None:
        body = self._bodies.body(version)
        if not body:
            return None
        # As its entry left it; what came later is in the state alone.
        version = replace(version, ended_index=None, superseded_by=None)
        with suppress(CoreError):
            return open_terms(self._state, terms, version, body)
        return None

    def _datasets(self) -> Mapping[bytes, tuple[DatasetTerms, ...]]:
        if self._versions is None:
            self._versions, self._codes = self._open_datasets()
        return self._versions

    def _open_datasets(self) -> tuple[dict[bytes, tuple[DatasetTerms, ...]], dict[tuple[str, str], bytes]]:
        histories = self._state.histories
        versions = [self._state.versions[digest] for object_id in histories for digest in histories[object_id]]
        found: dict[bytes, tuple[DatasetTerms, ...]] = {}
        terms = Terms()
        for version in sorted(versions, key=lambda version: version.index):
            opened = self._with_body(terms, version) if version.kind == _DATASET else None
            if opened is not None:
                terms = opened
                dataset = opened.datasets[version.object_id]
                found[version.object_id] = (*found.get(version.object_id, ()), dataset)
        return found, dict(terms.codes.items())
