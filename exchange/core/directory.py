"""The directory as everyone folds it: the state of the leaves with the terms of the bodies (DESIGN section 7)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from exchange.core.bars import agreement_target, dataset_target
from exchange.core.case import Case
from exchange.core.cases import open_body, stands, tell
from exchange.core.errors import CoreError
from exchange.core.fold import Applied, apply
from exchange.core.names import Party
from exchange.core.reopening import reopen_terms
from exchange.core.state import KeyRecord, State, genesis
from exchange.core.terms import AgreementTerms, DatasetTerms, Terms
from exchange.v1.directory_pb2 import Erased, Role, Suite


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
    def reopened(cls, state: State, bodies: Iterable[tuple[int, bytes]]) -> "Directory":
        """The directory of a state that was kept.

        Args:
            state: that of the leaves.
            bodies: those at hand, by the index of their entry, ascending.
        """
        return cls(state, reopen_terms(state, bodies))

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
            `reason` says why; the fold of the leaves is the same with and without it. Never raises.
        """
        state, applied = apply(self.state, leaf)
        version = state.versions.get(applied.digest)
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
        found = (
            terms
            for terms in self.terms.agreements.values()
            if terms.dataset == dataset
            and terms.grantee.covers(party)
            and self.stands(terms)
            and terms.not_before <= now <= terms.not_after
        )
        return tuple(sorted(found, key=lambda terms: terms.version.index, reverse=True))

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
        targets = (agreement_target(terms.version.object_id), dataset_target(terms.dataset))
        held = any(self.state.bars.holding(target, now) is not None for target in targets)
        return held or 0 < terms.review_at <= now

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
        for terms in self.terms.agreements.values():
            application = self.state.versions[terms.application].object_id
            is_kept = objects.get(terms.version.object_id) in self.state.versions
            needed = (terms.dataset, application)
            if terms.approval:
                needed = (terms.dataset, self.state.versions[terms.approval].object_id)
            if is_kept and version.object_id in needed:
                return f"the agreement {terms.digest.hex()[:12]} needs it: erase that first"
        return ""

    def lacks_body(self, department: Party) -> bool:
        """Whether the body of a standing object of this department is not known here."""
        terms = self.terms
        known = (terms.agreements, terms.applications, terms.approvals, terms.steps)
        datasets = {item.version.digest for item in terms.datasets.values()}
        return any(
            version.owner.own_department == department
            and version.ended_index is None
            and version.body_sha256
            and digest not in datasets
            and not any(digest in group for group in known)
            for digest, version in self.state.versions.items()
        )
