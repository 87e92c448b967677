"""The directory as everyone folds it: the state of the leaves with the terms of the bodies (DESIGN section 7)."""

from collections.abc import Iterator
from dataclasses import dataclass

from exchange.core.bars import dataset_target
from exchange.core.belongings import Belongings, Bodies
from exchange.core.case import Case
from exchange.core.cases import open_body, stands, tell
from exchange.core.errors import CoreError
from exchange.core.fold import Applied, apply
from exchange.core.names import Party
from exchange.core.reopening import reopened_terms
from exchange.core.state import KeyRecord, State, Version, genesis
from exchange.core.suspending import holding_up, suspension_problem
from exchange.core.terms import AgreementTerms, DatasetTerms, Terms
from exchange.core.values import quick, replace
from exchange.v1.directory_pb2 import EntryKind, Erased, Role, Suite

_STEP = EntryKind.ENTRY_KIND_STEP
_FOR_ALL = frozenset({EntryKind.ENTRY_KIND_DATASET, EntryKind.ENTRY_KIND_STANDING_APPROVAL})


@quick
@dataclass(frozen=True, slots=True)
class Directory:
    """A snapshot: growing it gives a new one, so a decision keeps the one that it began with."""

    state: State
    terms: Terms

    @classmethod
    def genesis(cls, origin: str, root_public_key: bytes) -> "Directory":
        """The directory before entry 0, out of the trust file: the exchange's name, the root's SubjectPublicKeyInfo."""
        return cls(genesis(origin, root_public_key), Terms())

    @classmethod
    def reopened(cls, state: State, bodies: Bodies, belongings: Belongings | None = None) -> "Directory":
        """The directory of a state that was kept.

        Args:
            state: that of the leaves.
            bodies: those at hand; each is opened when it is looked up.
            belongings: what each of them is about; without it, the first lookup reads them all to find that out.
        """
        return cls(state, reopened_terms(state, bodies, belongings))

    @property
    def origin(self) -> str:
        """The exchange's name."""
        return self.state.origin

    @property
    def size(self) -> int:
        """Entries folded in."""
        return self.state.size

    def apply(self, leaf: bytes, body: bytes) -> "tuple[Directory, Applied]":
        """Fold one leaf, and open its body where it is at hand.

        Args:
            leaf: a serialised DirectoryLeaf.
            body: the entry's first attachment, or empty where this mirror may not see it.

        Returns:
            The grown directory, and what became of the entry: a body that breaks a rule gives no rights, and its
            `reason` says why; the fold of the leaves is the same with and without it. So it is with a suspension of
            what a standing approval gave, by somebody whose it is not. Nothing is raised but what `Bodies` raises,
            where an earlier body has to be opened for it.
        """
        state, applied = apply(self.state, leaf)
        version = state.versions.get(applied.digest)
        if version is not None and version.barring is not None:
            return Directory(state, self.terms), replace(applied, reason=suspension_problem(state, self.terms, version))
        if version is None or not version.body_sha256 or not body:
            return Directory(state, self.terms), applied
        try:
            return Directory(state, open_body(state, self.terms, version, body)), applied
        except CoreError as error:
            return Directory(state, self.terms), replace(applied, reason=str(error))

    def dataset(self, object_id: bytes) -> DatasetTerms | None:
        """The latest version of a dataset, unless it is revoked or its body is not known."""
        terms = self.terms.datasets.get(object_id)
        if terms is None or self.state.objects.get(object_id) != terms.version.digest:
            return None
        return terms if self.state.versions[terms.version.digest].ended_index is None else None

    def dataset_named(self, owner: str, code: str) -> DatasetTerms | None:
        """The dataset that a department publishes under a code."""
        object_id = self.terms.codes.get((owner, code))
        return self.dataset(object_id) if object_id is not None else None

    def agreement(self, digest: bytes) -> AgreementTerms | None:
        """An agreement by its message digest, ended or not."""
        return self.terms.agreements.get(digest)

    def agreements_of(self, party: Party, dataset: bytes, now: int) -> tuple[AgreementTerms, ...]:
        """The agreements in force that grant a dataset to this party or one above it, newest first."""
        described = self.terms.datasets.get(dataset)
        if described is None:
            return ()
        found = (
            terms
            for terms in (*self._agreements_of(described.version.owner), *self._approved_for(party.own_department))
            if terms.dataset == dataset
            and terms.grantee.covers(party)
            and self.stands(terms)
            and terms.not_before <= now <= terms.not_after
        )
        return tuple(sorted(found, key=lambda terms: terms.version.index, reverse=True))

    def _agreements_of(self, owner: Party) -> "Iterator[AgreementTerms]":
        """Those that an owner signed: an agreement's owner is its dataset's."""
        for version in self.state.versions_of(owner):
            terms = self.terms.agreements.get(version.digest)
            if terms is not None and not terms.approval:
                yield terms

    def _approved_for(self, department: Party) -> "Iterator[AgreementTerms]":
        """Those that a standing approval gave to a department or its systems: it signed what applies for them."""
        for version in self.state.versions_of(department) if self.terms.approvals else ():
            terms = self.terms.agreements.get(version.digest)
            if terms is not None and terms.approval:
                yield terms

    def stands(self, agreement: AgreementTerms) -> bool:
        """Whether an agreement is neither revoked nor superseded, nor ended by its case."""
        return stands(self.state, self.terms, agreement)

    def is_suspended(self, agreement: bytes, now: int) -> bool:
        """Whether an agreement is held up: it or its dataset is suspended, or its review date has come.

        Args:
            agreement: its message digest; now: milliseconds.
        """
        terms = self.agreement(agreement)
        if terms is None:
            return False
        held = holding_up(self.state, terms, now) or self.state.bars.holding(dataset_target(terms.dataset), now)
        return held is not None or 0 < terms.review_at <= now

    def case(self, application: bytes) -> Case | None:
        """The case of an application by its object id; None where its body is not known."""
        return tell(self.state, self.terms, application)

    def role_of(self, party: Party, now: int) -> "Role.ValueType | None":
        """The role of a party with a valid, unrevoked signing key."""
        return self.state.role_of(party, now)

    def sealing_key(self, system: Party, now: int) -> KeyRecord | None:
        """The newest valid sealing key of a system."""
        for record in reversed(self.state.keys_of(system)):
            if record.suite == Suite.SUITE_MLKEM768_X25519 and self.is_usable(record, now):
                return record
        return None

    def is_usable(self, record: KeyRecord, now: int) -> bool:
        """Whether a key is valid now and not revoked."""
        return record.revoked_index is None and record.is_valid(now)

    def erasure_problem(self, erased: Erased) -> str:
        """Why bodies that the leaves let go must stay; else empty.

        Without its dataset and its application nobody can open an agreement: a mirror made later would give other
        rights, and an auditor could not judge what was answered under it.
        """
        version = self.state.versions.get(erased.digest)
        if erased.WhichOneof("target") != "digest" or version is None:
            return ""
        objects = self.state.objects
        for terms in self._agreements_about(version):
            application = self.state.versions[terms.application].object_id
            is_kept = objects.get(terms.version.object_id) in self.state.versions
            if is_kept and version.object_id in (terms.dataset, application):
                return f"the agreement {terms.digest.hex()[:12]} needs it: erase that first"
        return self._approval_problem(version)

    def _approval_problem(self, version: Version) -> str:
        """Why a body must stay that a standing approval, or an application under one, cannot be read without."""
        versions, objects = self.state.versions, self.state.objects
        for approval in self.terms.approvals.values():
            if approval.dataset == version.object_id and objects.get(approval.version.object_id) in versions:
                return f"the standing approval {approval.version.digest.hex()[:12]} needs it: erase that first"
        if version.kind == EntryKind.ENTRY_KIND_STANDING_APPROVAL:
            for terms in self.terms.applications.values():
                named = versions.get(terms.standing_approval)
                is_kept = objects.get(terms.version.object_id) in versions
                if is_kept and named is not None and named.object_id == version.object_id:
                    return f"the application {terms.version.digest.hex()[:12]} needs it: erase that first"
        return ""

    def _agreements_about(self, version: Version) -> "Iterator[AgreementTerms]":
        """The agreements that may need an object: those of the owner of the dataset that it is, or is about."""
        if version.kind == EntryKind.ENTRY_KIND_AGREEMENT:
            return
        owners = {version.owner}
        if version.kind == EntryKind.ENTRY_KIND_APPLICATION:
            asked = (self.terms.applications.get(v.digest) for v in self._versions_of_object(version))
            about = (self.terms.datasets.get(terms.dataset) for terms in asked if terms is not None)
            owners = {dataset.version.owner for dataset in about if dataset is not None}
        for owner in owners:
            yield from self._agreements_of(owner)

    def _versions_of_object(self, version: Version) -> "Iterator[Version]":
        return (other for other in self.state.versions_of(version.owner) if other.object_id == version.object_id)

    def lacks_body(self, department: Party) -> bool:
        """Whether the body of a standing object of this department is not known here."""
        return any(self._lacking(self.state.versions_of(department)))

    def bodies_lacking(self, owner: Party) -> "Iterator[Version]":
        """The standing versions of an owner whose bodies are not known here."""
        return self._lacking(self.state.versions_of(owner))

    def datasets_lacking(self) -> "Iterator[Version]":
        """The standing versions of datasets and standing approvals, of any owner, whose bodies are not known here."""
        return self._lacking(version for version in self.state.historic() if version.kind in _FOR_ALL)

    def steps_lacking(self) -> "Iterator[Version]":
        """The steps, of anybody, whose bodies are not known here."""
        return self._lacking(version for version in self.state.historic() if version.kind == _STEP)

    def applications_lacking(self) -> "Iterator[Version]":
        """The standing applications, of any owner, whose bodies are not known here; this opens the whole state."""
        versions = (record for record in self.state.records() if isinstance(record, Version))
        return self._lacking(version for version in versions if version.kind == EntryKind.ENTRY_KIND_APPLICATION)

    def _lacking(self, versions: "Iterator[Version]") -> "Iterator[Version]":
        return (
            version
            for version in versions
            if version.ended_index is None and version.body_sha256 and not self._is_known(version)
        )

    def _is_known(self, version: Version) -> bool:
        if version.kind == EntryKind.ENTRY_KIND_DATASET:
            terms = self.terms.datasets.get(version.object_id)
            return terms is not None and terms.version.digest == version.digest
        opened = self.terms
        known = (opened.applications, opened.agreements, opened.approvals, opened.steps)
        return any(version.digest in group for group in known)
