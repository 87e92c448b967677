"""Who may name officers and give mandates: rules of their entries (DESIGN sections 1 and 7)."""

from collections.abc import Sequence
from itertools import pairwise

from exchange.core.errors import NameFormatError
from exchange.core.names import Party, is_officer
from exchange.core.people import officer_name, stewardship_name
from exchange.core.signed import Signed
from exchange.core.state import EntryError, State
from exchange.core.wire import MAX_TIME
from exchange.v1.directory_pb2 import EntryKind, Role
from exchange.v1.people_pb2 import Mandate, OfficerStanding, Stewardship

MOST_STEWARDS = 2


def check_officer(state: State, signed: Signed, said: OfficerStanding) -> None:
    """Check the form of an officer's entry, and that its department signs it.

    Raises:
        EntryError: a rule is broken; the text says which.
    """
    if signed.signer.role != Role.ROLE_DEPARTMENT:
        raise EntryError(f"{signed.signer.party} has no officers: departments register their own")
    if not is_officer(said.pseudonym):
        raise EntryError("an officer is named by pseudonym")
    latest = state.people.officers.get(officer_name(signed.signer.party, said.pseudonym), b"")
    # One object an officer: whoever was removed cannot come in again beside the entry that says so.
    if latest != signed.entry.supersedes:
        raise EntryError(f"the entry does not follow the latest one about officer {said.pseudonym}")
    if said.removed and not latest:
        raise EntryError(f"officer {said.pseudonym} is not registered")


def check_stewardship(state: State, signed: Signed, said: Stewardship) -> None:
    """Check that a department says how many stewards it needs, and that the entry follows what it said before.

    Raises:
        EntryError: a rule is broken; the text says which.
    """
    if signed.signer.role != Role.ROLE_DEPARTMENT:
        raise EntryError(f"{signed.signer.party} has no stewards: departments do")
    if said.needed not in (1, MOST_STEWARDS):
        raise EntryError("one steward signs, or two")
    if state.people.officers.get(stewardship_name(signed.signer.party), b"") != signed.entry.supersedes:
        raise EntryError("the entry does not follow the latest one about how many stewards are needed")


def check_mandate(state: State, signed: Signed, said: Mandate) -> None:
    """Check the form of a mandate, that its auditor exists, and that a coordinator gives it.

    Raises:
        EntryError: a rule is broken; the text says which.
    """
    if signed.signer.role != Role.ROLE_COORDINATOR:
        raise EntryError(f"{signed.signer.party} gives no mandates: a coordinator does")
    _require_role(state, said.auditor, Role.ROLE_AUDITOR)
    _check_sorted(said.departments)
    _check_sorted(said.datasets)
    for name in said.departments:
        _require_role(state, name, Role.ROLE_DEPARTMENT)
    for object_id in said.datasets:
        latest = state.versions.get(state.objects.get(object_id, b""))
        if latest is None or latest.kind != EntryKind.ENTRY_KIND_DATASET:
            raise EntryError("a mandate names datasets of the directory")
    if max(said.since, said.until) > MAX_TIME or (said.until and said.until < said.since):
        raise EntryError("the period of a mandate ends before it begins, or after the year 9999")
    if not signed.time < said.not_after <= MAX_TIME:
        raise EntryError("a mandate ends after it is given, and before the year 9999 is over")


def _require_role(state: State, name: str, role: "Role.ValueType") -> None:
    try:
        party = Party.parse(name)
    except NameFormatError as error:
        raise EntryError(str(error)) from error
    if not any(record.role == role for record in state.keys_of(party)):
        raise EntryError(f"{party} is no {Role.Name(role).removeprefix('ROLE_').lower()} of the directory")


def _check_sorted(items: "Sequence[str] | Sequence[bytes]") -> None:
    if any(one >= other for one, other in pairwise(items)):  # type: ignore[operator]
        raise EntryError("a mandate names each once, in ascending order")
