"""Applications and agreements as people handle them: found by the beginning of an id, in one of a few states."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from exchange.cli.agreements.terms import described_terms, term_pairs
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.filter_text import filter_text
from exchange.cli.frame.output import listed, print_pairs
from exchange.cli.frame.times import day_of, iso
from exchange.cli.frame.words import operation_names
from exchange.client.datasets import dataset_name
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.procedure import Stage
from exchange.core.terms import AgreementTerms, ApplicationTerms

SHORTEST_ID = 8
SHOWN_ID = 12

Grant = ApplicationTerms | AgreementTerms

_ID = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Shown:
    """One application or agreement with what the directory says of it.

    Args:
        grant: its terms.
        state: that of the case, where waiting is submitted and answered is agreed or more; not yet in force, in force,
            ended, revoked; superseded.
        dataset: DEPARTMENT/CODE, or the object id where the dataset is not known here.
        owner: of the dataset, or None.
    """

    grant: Grant
    state: str
    dataset: str
    owner: Party | None

    @property
    def kind(self) -> str:
        """What it is, in a word."""
        return "application" if isinstance(self.grant, ApplicationTerms) else "agreement"

    @property
    def id(self) -> str:
        """Its message digest, in hex."""
        return self.grant.version.digest.hex()

    @property
    def is_standing(self) -> bool:
        """Whether it is an agreement under which somebody can ask, now or later."""
        return self.kind == "agreement" and self.state in {"in force", "not yet in force"}

    def concerns(self, department: Party) -> bool:
        """Whether a department or one below it asked for this, or is asked."""
        return self.owner == department or department.covers(self.grant.grantee)

    def described(self) -> dict[str, object]:
        """The same for programs."""
        grant = self.grant
        record: dict[str, object] = {
            "kind": self.kind,
            "id": self.id,
            "state": self.state,
            "dataset": self.dataset,
            "owner": str(self.owner) if self.owner else None,
            "grantee": str(grant.grantee),
            "operations": operation_names(grant.operations),
            "fields": list(grant.fields),
            "filterable": sorted(grant.filterable),
            "purposes": sorted(grant.purposes),
            "not_after": iso(grant.not_after),
            "index": grant.version.index,
            "signed_at": iso(grant.version.time),
        }
        if isinstance(grant, ApplicationTerms):
            return record | {"legal_basis": grant.legal_basis, "scenario": grant.scenario}
        return record | {
            "application": grant.application,
            "not_before": iso(grant.not_before),
            "row_filter": filter_text(grant.row_filter) if grant.row_filter else None,
            **described_terms(grant),
        }


def show_all(directory: Directory, now: int) -> list[Shown]:
    """Every application and agreement that this party may see, the newest first."""
    terms = directory.terms
    grants: list[Grant] = [*terms.applications.values(), *terms.agreements.values()]
    return sorted(
        (show_one(directory, grant, now) for grant in grants), key=lambda item: item.grant.version.index, reverse=True
    )


def show_one(directory: Directory, grant: Grant, now: int) -> Shown:
    """One of them, with its state now."""
    dataset = directory.terms.datasets.get(grant.dataset)
    name = dataset_name(dataset) if dataset is not None else grant.dataset.hex()
    owner = dataset.version.owner if dataset is not None else None
    return Shown(grant, _state(directory, grant, now), name, owner)


def find_grant(directory: Directory, typed: str, now: int) -> Shown:
    """The one application or agreement whose id begins with what was typed."""
    return _one(show_all(directory, now), typed, "application or agreement")


def find_application(directory: Directory, typed: str, now: int) -> Shown:
    """The one application whose id begins with what was typed."""
    return _one((item for item in show_all(directory, now) if item.kind == "application"), typed, "application")


def find_agreement(directory: Directory, typed: str, now: int) -> Shown:
    """The one agreement whose id begins with what was typed."""
    return _one((item for item in show_all(directory, now) if item.kind == "agreement"), typed, "agreement")


def print_grant(item: Shown) -> None:
    """Print all that an application or agreement says."""
    grant = item.grant
    pairs: dict[str, object] = {
        item.kind: item.id,
        "state": item.state,
        "dataset": item.dataset,
        "owner": item.owner,
        "grantee": grant.grantee,
        "operations": listed(operation_names(grant.operations)),
        "fields": listed(grant.fields),
        "filterable": listed(sorted(grant.filterable)) or None,
        "purposes": listed(sorted(grant.purposes)),
    }
    if isinstance(grant, AgreementTerms):
        pairs["rows"] = filter_text(grant.row_filter) if grant.row_filter else "all"
        pairs |= term_pairs(grant)
        pairs["in force"] = f"{day_of(grant.not_before)} until {day_of(grant.not_after)}"
        pairs["application"] = grant.application.hex()
    else:
        pairs["until"] = day_of(grant.not_after)
        pairs["legal basis"] = grant.legal_basis
        pairs["scenario"] = grant.scenario
    pairs["signed"] = f"{day_of(grant.version.time)}, entry {grant.version.index} of the directory"
    print_pairs(pairs)


def _one(items: Iterable[Shown], typed: str, what: str) -> Shown:
    hint = "`exchange agreement list` shows them"
    if not _ID.fullmatch(typed.lower()):
        raise WrongUsageError(f"{typed!r} is not the id of an {what}", f"type at least its first {SHORTEST_ID} digits")
    found = [item for item in items if item.id.startswith(typed.lower())]
    if not found:
        raise WrongUsageError(f"no {what} {typed} is known here", hint)
    if len({item.id for item in found}) == 1:
        # Under a standing approval an agreement has the id of its application.
        return found[-1]
    if len(found) > 1:
        raise WrongUsageError(f"{typed} is the beginning of {len(found)} ids", f"type more of it; {hint}")
    return found[0]


_STATES = {
    Stage.SUBMITTED: "waiting",
    Stage.AGREED: "answered",
    Stage.SUPPLIED: "answered",
    Stage.AMENDED: "answered",
}


def _state(directory: Directory, grant: Grant, now: int) -> str:
    version = directory.state.versions[grant.version.digest]
    if version.superseded_by is not None:
        return "superseded"
    if isinstance(grant, ApplicationTerms):
        if version.ended_index is not None:
            return "withdrawn"
        case = directory.case(version.object_id)
        return _STATES.get(case.stage, str(case.stage)) if case is not None else "waiting"
    if version.ended_index is not None:
        return "revoked"
    if now > grant.not_after or not directory.stands(grant):
        return "ended"
    return "in force" if now >= grant.not_before else "not yet in force"
