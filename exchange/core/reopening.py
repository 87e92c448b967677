"""Bodies that came before a snapshot, opened when they are looked up: each as it was when its entry came (ADR 0009)."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from exchange.core.errors import CoreError
from exchange.core.kept import KeptTable
from exchange.core.layered import Layered
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
    reopening = _Reopening(state, bodies)
    return Terms(
        Layered(KeptTable(reopening.dataset, reopening.dataset_ids)),
        Layered(KeptTable(reopening.application, lambda: reopening.opened(_APPLICATION))),
        Layered(KeptTable(reopening.agreement, lambda: reopening.opened(_AGREEMENT))),
        Layered(KeptTable(reopening.code, reopening.codes)),
    )


_DATASET = EntryKind.ENTRY_KIND_DATASET
_APPLICATION = EntryKind.ENTRY_KIND_APPLICATION
_AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT


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
            self._applications[digest] = terms.applications.get(digest) if terms is not None else None
        return self._applications[digest]

    def agreement(self, digest: bytes) -> AgreementTerms | None:
        if digest not in self._agreements:
            terms = self._open(digest, _AGREEMENT)
            self._agreements[digest] = terms.agreements.get(digest) if terms is not None else None
        return self._agreements[digest]

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
