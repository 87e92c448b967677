"""Who may suspend what: rules of suspension entries (DESIGN sections 1 and 7; Decree 809, article 27)."""

from exchange.core.errors import NameFormatError
from exchange.core.names import Party, is_officer
from exchange.core.signed import Signed
from exchange.core.state import MAX_TEXT, EntryError, State
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
    owner = _owner(state, said)
    if signed.signer.role != Role.ROLE_COORDINATOR and (
        signed.signer.role != Role.ROLE_DEPARTMENT or owner != signed.signer.party
    ):
        raise EntryError(f"{signed.signer.party} cannot suspend what is not its own")


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
