"""Who may suspend what: rules of suspension entries (DESIGN sections 1 and 7; Decree 809, article 27).

What a standing approval gave is suspended by naming the application that it answered. Whose dataset that is about
stands in bodies: leaves let every department name an application, and who may is decided where the bodies are known.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

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
from exchange.core.signed import Signed
from exchange.core.state import MAX_TEXT, EntryError, State, Version
from exchange.core.terms import AgreementTerms, DatasetTerms, Terms
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import EntryKind, Role
from exchange.v1.guardrail_pb2 import Suspension

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


class Concerned(NamedTuple):
    """What a request is about: each of these may be held up.

    Args:
        agreement, dataset: that it names; requester: the system that asks; officer: for whom, by pseudonym.
    """

    agreement: AgreementTerms
    dataset: DatasetTerms
    requester: Party
    officer: str


def suspended(state: State, concerned: Concerned, now: int) -> str:
    """What of a request is held up, by whom and why, in words; empty where nothing is.

    Args:
        now: milliseconds.
    """
    # Of most kinds nothing is suspended: what could be is not even named.
    for kind in sorted(state.bars.kinds):
        for target in _TARGETS[kind](state, concerned):
            held = _holding(state, concerned.agreement, target, now)
            if held is not None:
                what = str(target[1]) if kind == PARTY else f"the {kind}"
                return f"{what} is suspended by {held.by}: {held.said.reason}"
    return ""


def suspension_target(state: State, agreement: AgreementTerms) -> Target:
    """Under what an agreement is suspended: itself, or the application that a standing approval has answered."""
    if not agreement.approval:
        return agreement_target(agreement.object_id)
    return agreement_target(state.versions[agreement.application].object_id)


def holding_up(state: State, agreement: AgreementTerms, now: int) -> StandingSuspension | None:
    """The first suspension that holds up an agreement itself: its owner's, or a coordinator's.

    Args:
        now: milliseconds.
    """
    return _holding(state, agreement, suspension_target(state, agreement), now)


def suspension_problem(state: State, terms: Terms, version: Version) -> str:
    """Why a suspension that the leaves allow holds up nothing, as far as bodies are known; else empty.

    Args:
        state: with `version` folded in; terms: of every entry before.
        version: of a suspension, or of anything else that bars requests.
    """
    said = version.barring
    application = terms.applications.get(said.agreement) if isinstance(said, Suspension) else None
    if application is None:
        return ""
    dataset = terms.datasets.get(application.dataset)
    if dataset is None:
        return ""
    # To everybody else an application that was answered looks as any other one.
    if dataset.version.owner != version.owner and not _coordinates(state, version.owner):
        return f"{version.owner} cannot suspend what is not its own"
    events = terms.events.get(application.version.object_id, ())
    found = (terms.agreements.get(event.digest) for event in events)
    if not any(agreement is not None and agreement.approval for agreement in found):
        return "what is to be suspended is no agreement of the directory"
    return ""


def _holding(state: State, agreement: AgreementTerms, target: Target, now: int) -> StandingSuspension | None:
    for held in state.bars.suspensions.get(target, ()):
        # Of all else the leaves tell who may suspend it.
        may = target[0] != AGREEMENT or held.by == agreement.version.owner or _coordinates(state, held.by)
        if may and held.is_due(now):
            return held
    return None


def _agreement_targets(state: State, concerned: Concerned) -> tuple[Target, ...]:
    return (suspension_target(state, concerned.agreement),)


def _dataset_targets(_state: State, concerned: Concerned) -> tuple[Target, ...]:
    return (dataset_target(concerned.dataset.object_id),)


def _party_targets(_state: State, concerned: Concerned) -> tuple[Target, ...]:
    dataset, requester = concerned.dataset, concerned.requester
    parties = (requester.own_department, requester, dataset.version.owner, dataset.system)
    return tuple(party_target(party) for party in parties)


def _officer_targets(_state: State, concerned: Concerned) -> tuple[Target, ...]:
    return (officer_target(concerned.requester.own_department, concerned.officer),)


_TARGETS: Mapping[str, Callable[[State, Concerned], tuple[Target, ...]]] = MappingProxyType(
    {
        AGREEMENT: _agreement_targets,
        DATASET: _dataset_targets,
        PARTY: _party_targets,
        OFFICER: _officer_targets,
    }
)


def _names_application(state: State, said: Suspension) -> bool:
    # What names no agreement has no digest there.
    version = state.versions.get(said.agreement)
    return version is not None and version.kind == EntryKind.ENTRY_KIND_APPLICATION


def _coordinates(state: State, party: Party) -> bool:
    return Role.ROLE_COORDINATOR in {record.role for record in state.keys_of(party)}


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
