"""A signed entry as rules judge it, and the key behind a signature (DESIGN section 4)."""

from dataclasses import dataclass

from exchange.core.envelope import Envelope, verify_signature
from exchange.core.lifetimes import utc
from exchange.core.names import Party
from exchange.core.state import EntryError, KeyRecord, State, is_signing
from exchange.core.values import quick
from exchange.v1.directory_pb2 import Entry


@quick
@dataclass(frozen=True, slots=True)
class Signed:
    """An entry whose leaf and frame could be read: what a rule judges."""

    index: int
    time: int
    envelope: Envelope
    entry: Entry
    signer: KeyRecord


def signing_record(state: State, envelope: Envelope, now: int) -> KeyRecord:
    """The directory's record of the key that signed an envelope, which is valid and not revoked.

    Raises:
        EntryError: unknown, sealing, outside its validity, or revoked.
        SignatureError: the signature does not verify.
    """
    record = state.keys.get(envelope.key_id)
    if record is None or not is_signing(record):
        raise EntryError("the signing key is not in the directory")
    verify_signature(envelope, state.origin, record.public_key)
    if record.revoked_index is not None:
        raise EntryError(f"the signing key of {record.party} is revoked")
    if not record.is_valid(now):
        raise EntryError(f"the signing key of {record.party} is not valid at this time{_from(record, now)}")
    return record


def no_valid_key(state: State, party: Party, now: int) -> str:
    """That no signing key of a party is in force; and from when on one is, where one waits in public view."""
    found = (record for record in state.keys_of(party) if is_signing(record) and record.revoked_index is None)
    waiting = next((record for record in found if now < record.not_before), None)
    wait = f"; the one that waits takes effect on {utc(waiting.not_before)}" if waiting is not None else ""
    return f"{party} has no valid key in the directory{wait}"


def _from(record: KeyRecord, now: int) -> str:
    """From when on a key counts that does not count yet; whoever waits for it wants to know."""
    return f": it takes effect on {utc(record.not_before)}" if now < record.not_before else ""
