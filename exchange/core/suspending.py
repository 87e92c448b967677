"""Who may suspend what: rules of suspension entries (DESIGN sections 1 and 7; Decree 809, article 27).

What a standing approval gave is suspended by naming the application that it answered. Whose dataset that is about
stands in bodies: leaves let every department name an application, and who may is decided where the bodies are known.
"""

from typing import TYPE_CHECKING

from exchange.core.bars import (
    AGREEMENT,
    DATASET,
    OFFICER,
    PARTY,
    StandingSuspension,
    Target,
    agreement_target,
    dataset_target,
    officer_target,
    party_target,
)
from exchange.core.errors import NameFormatError
from exchange.core.names import Party, is_officer
from exchange.core.state import MAX_TEXT, EntryError, Signed, State, Version
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import EntryKind, Role
from exchange.v1.guardrail_pb2 import Suspension

if TYPE_CHECKING:
    from exchange.core.terms import AgreementTerms, DatasetTerms, Terms

_NAMED = (Role.ROLE_DEPARTMENT, Role.ROLE_SYSTEM)


def check_suspension(state: State, signed: Signed, said: Suspension) -> None:
    """Check the form of a suspension, and that it is for its signer to sign.

    A coordinator suspends anything; a department what it owns: an agreement, a dataset, a system, an officer.

    Raises:
        EntryError: a rule is broken; the text says which.
    """
    if not 0 < len(said.reason) <= MAX_TEXT:
        raise EntryError("a suspension has a reason, of at most 2,000 characters")
    if said.until and not signed.time < said.until <= MAX_TIME:
        raise EntryError("a suspension ends after it began, and before the year 9999 is over")
    owner = signed.signer.party if _names_application(state, said) else _owner(state, said)
    if signed.signer.role != Role.ROLE_COORDINATOR and (
        signed.signer.role != Role.ROLE_DEPARTMENT or owner != signed.signer.party
    ):
        raise EntryError(f"{signed.signer.party} cannot suspend what is not its own")


def suspension_target(state: State, agreement: "AgreementTerms") -> Target:
    """Under what an agreement is suspended: itself, or the application that a standing approval has answered."""
    if not agreement.approval:
        return agreement_target(agreement.object_id)
    return agreement_target(state.versions[agreement.application].object_id)


def holding_up(state: State, agreement: "AgreementTerms", now: int) -> StandingSuspension | None:
    """The first suspension that holds up an agreement itself: its owner's, or a coordinator's.

    Args:
        now: milliseconds.
    """
    for held in state.bars.suspensions.get(suspension_target(state, agreement), ()):
        if held.is_due(now) and (held.by == agreement.version.owner or _coordinates(state, held.by)):
            return held
    return None


def suspended(
    state: State, agreement: "AgreementTerms", dataset: "DatasetTerms", requester: Party, officer: str, now: int
) -> str:
    """What of a request is held up, by whom and why, in words; empty where nothing is.

    Args:
        agreement, dataset: that it is about; requester: the system that asks; officer: for whom, by pseudonym.
        now: milliseconds.
    """
    kinds = state.bars.kinds
    own = holding_up(state, agreement, now) if AGREEMENT in kinds else None
    if own is not None:
        return f"the agreement is suspended by {own.by}: {own.said.reason}"
    for target in _other_targets(kinds, dataset, requester, officer):
        held = state.bars.holding(target, now)
        if held is not None:
            kind, name = target
            what = str(name) if kind == PARTY else f"the {kind}"
            return f"{what} is suspended by {held.by}: {held.said.reason}"
    return ""


def _other_targets(kinds: frozenset[str], dataset: "DatasetTerms", requester: Party, officer: str) -> list[Target]:
    """What could be held up of a request beside its agreement, of the kinds that anything of is."""
    department = requester.own_department
    targets: list[Target] = []
    if DATASET in kinds:
        targets.append(dataset_target(dataset.object_id))
    if PARTY in kinds:
        parties = (department, requester, dataset.version.owner, dataset.system)
        targets.extend(party_target(party) for party in parties)
    if OFFICER in kinds:
        targets.append(officer_target(department, officer))
    return targets


def suspension_problem(state: State, terms: "Terms", version: Version) -> str:
    """Why a suspension that the leaves allow holds up nothing, as far as bodies are known; else empty.

    Args:
        state: with `version` folded in; terms: of every entry before.
        version: of a suspension.
    """
    said = version.barring
    if not isinstance(said, Suspension) or not _names_application(state, said):
        return ""
    application = terms.applications.get(said.agreement)
    dataset = terms.datasets.get(application.dataset) if application is not None else None
    if application is None or dataset is None:
        return ""
    # To everybody else an application that was answered looks as any other one.
    if dataset.version.owner != version.owner and not _coordinates(state, version.owner):
        return f"{version.owner} cannot suspend what is not its own"
    events = terms.events.get(application.version.object_id, ())
    found = (terms.agreements.get(event.digest) for event in events)
    if not any(agreement is not None and agreement.approval for agreement in found):
        return "what is to be suspended is no agreement of the directory"
    return ""


def _names_application(state: State, said: Suspension) -> bool:
    version = state.versions.get(said.agreement) if said.WhichOneof("target") == "agreement" else None
    return version is not None and version.kind == EntryKind.ENTRY_KIND_APPLICATION


def _coordinates(state: State, party: Party) -> bool:
    # All keys of a party have one role.
    return state.keys_of(party)[0].role == Role.ROLE_COORDINATOR


def _owner(state: State, said: Suspension) -> Party | None:
    """The department that owns what is to be suspended; the exchange, of a department."""
    kind = said.WhichOneof("target")
    if kind == "agreement":
        version = state.versions.get(said.agreement)
        if version is None or version.kind != EntryKind.ENTRY_KIND_AGREEMENT:
            raise EntryError("what is to be suspended is no agreement of the directory")
        return version.owner
    if kind == "dataset":
        latest = state.versions.get(state.objects.get(said.dataset, b""))
        if latest is None or latest.kind != EntryKind.ENTRY_KIND_DATASET:
            raise EntryError("what is to be suspended is no dataset of the directory")
        return latest.owner
    if kind == "party":
        return _party_owner(state, said.party)
    if kind == "officer":
        return _officer_owner(state, said.officer.department, said.officer.pseudonym)
    raise EntryError("a suspension names an agreement, a dataset, a party or an officer")


def _party_owner(state: State, name: str) -> Party | None:
    party = _named(name)
    if not any(record.role in _NAMED for record in state.keys_of(party)):
        raise EntryError(f"{party} is no department or system of the directory")
    return party.parent


def _officer_owner(state: State, name: str, pseudonym: str) -> Party:
    department = _named(name)
    if not any(record.role == Role.ROLE_DEPARTMENT for record in state.keys_of(department)):
        raise EntryError(f"{department} is no department of the directory")
    if not is_officer(pseudonym):
        raise EntryError("an officer is named by pseudonym")
    return department


def _named(name: str) -> Party:
    try:
        return Party.parse(name)
    except NameFormatError as error:
        raise EntryError(str(error)) from error
