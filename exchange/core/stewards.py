"""What a steward's own key signs for its department (DESIGN section 3: a data steward holds a department's key)."""

from dataclasses import replace

from exchange.core.envelope import pae, prefixed
from exchange.core.keys import is_signed
from exchange.core.names import Party
from exchange.core.people import stewardship_name
from exchange.core.state import EntryError, KeyRecord, State
from exchange.core.wire import decode, encode
from exchange.v1.directory_pb2 import Entry, EntryKind, Key, Role
from exchange.v1.people_pb2 import Stewardship

# An enum's attribute costs more than a hash, and every entry asks for it.
_STEWARD = Role.ROLE_STEWARD

SECOND = "exchange.v1/second"

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


NEEDS_SECOND = frozenset(
    {
        EntryKind.ENTRY_KIND_KEY,
        EntryKind.ENTRY_KIND_DATASET,
        EntryKind.ENTRY_KIND_AGREEMENT,
        EntryKind.ENTRY_KIND_STANDING_APPROVAL,
    }
)
"""What two stewards sign where their department asks for two: what shares data. What ends sharing, one does alone."""


def acts_for(signer: KeyRecord, owner: str) -> Party | None:
    """The department that a steward's key signs an entry for, by its owner; None where it signs for nobody else."""
    department = signer.party.parent
    is_for = signer.role == Role.ROLE_STEWARD and department is not None and str(department) == owner
    return department if is_for else None


def needs_second(state: State, department: Party, kind: "EntryKind.ValueType") -> bool:
    """Whether a department asks for two stewards for entries of this kind; its own key always signs alone."""
    if kind not in NEEDS_SECOND:
        return False
    digest = state.people.officers.get(stewardship_name(department))
    named = state.versions[digest].named if digest is not None else None
    return isinstance(named, Stewardship) and named.needed > 1


def second_statement(origin: str, entry: Entry) -> bytes:
    """What a second steward signs: PAE("exchange.v1/second", uint16 length ‖ origin ‖ the entry without its second)."""
    bare = Entry()
    bare.CopyFrom(entry)
    bare.ClearField("second")
    return pae(SECOND, prefixed(origin) + encode(bare))


def standing_in(state: State, signer: KeyRecord, entry: Entry, now: int) -> KeyRecord:
    """The signer as the rules of entries see it: a steward's key in the place of its department's, where it may be.

    Args:
        state: before the entry; signer: the key that signed it.
        entry: as it was signed; now: its time, milliseconds.

    Raises:
        EntryError: this key does not sign for the owner, or not this, or not alone.
    """
    has_second = entry.HasField("second")
    # DESIGN section 4: the key belongs to the payload's party.
    if str(signer.party) == entry.owner and signer.role != _STEWARD:
        if has_second:
            raise EntryError("this entry needs no second steward's word")
        return signer
    department = acts_for(signer, entry.owner)
    if department is None:
        raise EntryError(f"signed by {signer.party}, but owned by {entry.owner}")
    if entry.kind not in SIGNS:
        kind = EntryKind.Name(entry.kind).removeprefix("ENTRY_KIND_").lower()
        raise EntryError(f"{signer.party} is a steward, and signs no {kind}: {department} does, with its own key")
    _check_key(state, signer, entry)
    if needs_second(state, department, entry.kind):
        check_second(state, signer, entry, now)
    elif has_second:
        raise EntryError("this entry needs no second steward's word")
    return replace(signer, party=department, role=Role.ROLE_DEPARTMENT)


def check_second(state: State, signer: KeyRecord, entry: Entry, now: int) -> None:
    """Check that another steward of the same department stands by an entry.

    Args:
        state: before the entry; signer: the steward's key that signs it, or is to.
        entry: with the second's word; now: milliseconds.

    Raises:
        EntryError: nobody does, or not with a key that holds.
    """
    if not entry.HasField("second"):
        raise EntryError(f"{signer.party.parent} asks for two stewards: a second one signs this too")
    second = state.keys.get(entry.second.key_id)
    if second is None or second.role != Role.ROLE_STEWARD or second.party.parent != signer.party.parent:
        raise EntryError(f"the second key is no steward's of {signer.party.parent}")
    if second.party == signer.party:
        raise EntryError(f"{second.party} cannot be the second one to what it signs")
    if second.revoked_index is not None or not second.is_valid(now):
        raise EntryError(f"the key of {second.party} is revoked, or not valid at this time")
    if not is_signed(second.public_key, second_statement(state.origin, entry), entry.second.signature):
        raise EntryError(f"{second.party} did not sign exactly this entry")


def _check_key(state: State, signer: KeyRecord, entry: Entry) -> None:
    """A steward admits and revokes systems alone: else one of them could remove the others, or the department's key."""
    role: Role.ValueType = Role.ROLE_SYSTEM
    if entry.WhichOneof("body") == "key":
        role = decode(Key, entry.key.statement).role
    elif entry.WhichOneof("body") == "revocation" and entry.revocation.target in state.keys:
        role = state.keys[entry.revocation.target].role
    if role != Role.ROLE_SYSTEM:
        raise EntryError(f"{signer.party} is a steward: only keys of systems are its to sign, or to revoke")
