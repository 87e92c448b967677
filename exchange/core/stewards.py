"""What a steward's own key signs for its department (DESIGN section 3: a data steward holds a department's key)."""

from dataclasses import replace

from exchange.core.names import Party
from exchange.core.state import EntryError, KeyRecord, State
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import Entry, EntryKind, Key, Role

SIGNS = frozenset(
    {
        EntryKind.ENTRY_KIND_KEY,
        EntryKind.ENTRY_KIND_DATASET,
        EntryKind.ENTRY_KIND_APPLICATION,
        EntryKind.ENTRY_KIND_AGREEMENT,
        EntryKind.ENTRY_KIND_STANDING_APPROVAL,
        EntryKind.ENTRY_KIND_STEP,
        EntryKind.ENTRY_KIND_REVOCATION,
        EntryKind.ENTRY_KIND_SUSPENSION,
        EntryKind.ENTRY_KIND_OFFICER,
    }
)
"""The kinds of entries that a steward signs for its department; a body is erased with the department's own key."""


def acts_for(signer: KeyRecord, owner: str) -> Party | None:
    """The department that a steward's key signs an entry for, by its owner; None where it signs for nobody else."""
    department = signer.party.parent
    is_for = signer.role == Role.ROLE_STEWARD and department is not None and str(department) == owner
    return department if is_for else None


def standing_in(state: State, signer: KeyRecord, entry: Entry) -> KeyRecord:
    """The signer as the rules of entries see it: a steward's key in the place of its department's, where it may be.

    Raises:
        EntryError: this key does not sign for the owner, or not this.
    """
    # DESIGN section 4: the key belongs to the payload's party.
    if str(signer.party) == entry.owner and signer.role != Role.ROLE_STEWARD:
        return signer
    department = acts_for(signer, entry.owner)
    if department is None:
        raise EntryError(f"signed by {signer.party}, but owned by {entry.owner}")
    if entry.kind not in SIGNS:
        kind = EntryKind.Name(entry.kind).removeprefix("ENTRY_KIND_").lower()
        raise EntryError(f"{signer.party} is a steward, and signs no {kind}: {department} does, with its own key")
    _check_key(state, signer, entry)
    return replace(signer, party=department, role=Role.ROLE_DEPARTMENT)


def _check_key(state: State, signer: KeyRecord, entry: Entry) -> None:
    """A steward admits and revokes systems alone: else one of them could remove the others, or the department's key."""
    role: Role.ValueType = Role.ROLE_SYSTEM
    if entry.WhichOneof("body") == "key":
        role = decode(Key, entry.key.statement).role
    elif entry.WhichOneof("body") == "revocation" and entry.revocation.target in state.keys:
        role = state.keys[entry.revocation.target].role
    if role != Role.ROLE_SYSTEM:
        raise EntryError(f"{signer.party} is a steward: only keys of systems are its to sign, or to revoke")
