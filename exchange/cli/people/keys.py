"""Keys of people below a department, its heads and stewards: how they are named, listed and revoked."""

import secrets

from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.times import iso, now
from exchange.client.session import Session
from exchange.core.entries import revocation_entry
from exchange.core.errors import CoreError
from exchange.core.names import Party
from exchange.core.state import OBJECT_ID, KeyRecord
from exchange.v1.directory_pb2 import Role


def parsed(text: str) -> Party:
    """A person's party, as typed.

    Raises:
        WrongUsageError: not a party's name.
    """
    try:
        return Party.parse(text)
    except CoreError as error:
        raise WrongUsageError(str(error), "write it in full: exchange://DOMAIN/DEPARTMENT/NAME") from error


def keys_in(session: Session, role: "Role.ValueType", *, everybody: bool = False) -> list[KeyRecord]:
    """The keys of a role, of one's own department or of everybody."""
    department = session.party.own_department
    return [
        record
        for record in session.directory.state.keys.values()
        if record.role == role and (everybody or record.party.own_department == department)
    ]


def standing_keys(session: Session, party: Party, role: "Role.ValueType") -> list[KeyRecord]:
    """The keys of somebody below this department that are not revoked.

    Raises:
        CommandError: there is none.
    """
    keys = [record for record in session.directory.state.keys_of(party) if record.revoked_index is None]
    if party.parent != session.party or not keys or keys[-1].role != role:
        name = Role.Name(role).removeprefix("ROLE_").lower()
        raise CommandError(f"{party} is no {name} of {session.party} with a key", f"`exchange {name} list` shows them")
    return keys


async def revoke_all(session: Session, party: Party, role: "Role.ValueType", reason: str) -> int:
    """Revoke every key of somebody; the last entry's index.

    Raises:
        CommandError: there is none.
    """
    index = 0
    for record in standing_keys(session, party, role):
        draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), record.key_id, reason)
        index = (await session.append(session.sign(draft))).index
    return index


def state_of(record: KeyRecord) -> str:
    """Whether a key holds, in a word or two."""
    if record.revoked_index is not None:
        return "removed"
    return "valid" if record.is_valid(now()) else "not valid now"


def described_key(record: KeyRecord) -> dict[str, object]:
    """A key, for programs."""
    return {
        "party": str(record.party),
        "state": state_of(record),
        "not_after": iso(record.not_after),
        "fingerprint": record.key_id,
        "index": record.index,
    }
