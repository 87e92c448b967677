"""Suspensions as people handle them: what is held up, found by its name or by the beginning of an id."""

import re
from dataclasses import dataclass

from exchange.cli.agreements.grants import SHORTEST_ID, SHOWN_ID, Grant, find_agreement
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.times import day_of, iso, now
from exchange.client.datasets import dataset_name, find_dataset
from exchange.core.bars import StandingSuspension, Target, suspended_target
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.names import SCHEME, Party, is_officer
from exchange.core.suspending import suspension_problem, suspension_target
from exchange.core.terms import AgreementTerms
from exchange.v1.guardrail_pb2 import Officer, Suspension

TARGET_HELP = (
    "A party in full (exchange://…), a dataset (DEPARTMENT/CODE), an agreement's id, or an officer (NAME@DEPARTMENT)."
)
_ID = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Suspended:
    """One suspension that was not lifted, with what it holds up."""

    target: Target
    standing: StandingSuspension

    @property
    def id(self) -> str:
        """Its message digest, in hex."""
        return self.standing.digest.hex()

    def row(self, directory: Directory) -> tuple[object, ...]:
        """A line of the table."""
        said = self.standing.said
        until = day_of(said.until) if said.until else "lifted"
        return self.id[:SHOWN_ID], target_text(directory, self.target), self.standing.by, until, said.reason

    def described(self, directory: Directory) -> dict[str, object]:
        """The same for programs."""
        said, version = self.standing.said, directory.state.versions[self.standing.digest]
        return {
            "id": self.id,
            "suspended": target_text(directory, self.target),
            "by": str(self.standing.by),
            "until": iso(said.until) if said.until else None,
            "reason": said.reason,
            "signed_at": iso(version.time),
            "index": version.index,
        }


def suspensions(directory: Directory, moment: int) -> list[Suspended]:
    """All that hold anything up at a time, the newest first."""
    state, terms = directory.state, directory.terms
    found = [
        Suspended(target, standing)
        for target, standing in state.bars.all_suspensions()
        if standing.is_due(moment) and not suspension_problem(state, terms, state.versions[standing.digest])
    ]
    return sorted(found, key=lambda item: directory.state.versions[item.standing.digest].index, reverse=True)


def read_target(directory: Directory, typed: str) -> Suspension:
    """A suspension of what was typed, still without its reason.

    Raises:
        WrongUsageError, UsageError: nothing of that name is known here.
    """
    if typed.startswith(SCHEME):
        return Suspension(party=str(_party(typed)))
    if "@" in typed:
        pseudonym, _, department = typed.partition("@")
        if not is_officer(pseudonym):
            raise WrongUsageError(f"{pseudonym!r} is not an officer's pseudonym", "write NAME@DEPARTMENT")
        name = department if department.startswith(SCHEME) else f"{SCHEME}{directory.origin}/{department}"
        return Suspension(officer=Officer(department=str(_party(name)), pseudonym=pseudonym))
    if _ID.fullmatch(typed.lower()):
        return Suspension(agreement=_named_agreement(find_agreement(directory, typed, now()).grant))
    return Suspension(dataset=find_dataset(directory, typed).object_id)


def find_suspensions(directory: Directory, typed: str) -> list[Suspended]:
    """The suspensions of a target, or the one whose id begins with what was typed.

    Raises:
        WrongUsageError, UsageError: there is none.
    """
    found = suspensions(directory, 0)
    if _ID.fullmatch(typed.lower()) and (named := [item for item in found if item.id.startswith(typed.lower())]):
        return named
    target = suspended_target(read_target(directory, typed), lambda digest: directory.state.versions[digest].object_id)
    held = [item for item in found if item.target == target]
    if not held:
        raise WrongUsageError(f"{typed} is not suspended", "`exchange suspensions` shows what is")
    return held


def target_text(directory: Directory, target: Target) -> str:
    """What is held up, in words."""
    kind, name = target
    if isinstance(name, str):
        return name if kind == "party" else "officer " + "@".join(reversed(name.split(" ")))
    if kind == "dataset":
        dataset = directory.terms.datasets.get(name)
        return f"dataset {dataset_name(dataset) if dataset is not None else name.hex()}"
    terms = directory.terms.agreements.values()
    given = (item.digest for item in terms if suspension_target(directory.state, item) == target and item.approval)
    return f"agreement {next(given, directory.state.objects[name]).hex()[:SHOWN_ID]}"


def _named_agreement(grant: Grant) -> bytes:
    """The digest under which an agreement is suspended: under a standing approval, that of its application."""
    if isinstance(grant, AgreementTerms) and grant.approval:
        return grant.application
    return grant.version.digest


def _party(name: str) -> Party:
    try:
        return Party.parse(name)
    except CoreError as error:
        raise WrongUsageError(
            str(error), f"an id has at least {SHORTEST_ID} digits; a party is named in full"
        ) from error
