"""A signed entry as rules judge it, and the key behind a signature (DESIGN section 4)."""

from dataclasses import dataclass

from exchange.core.envelope import Envelope, verify_signature
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
        raise EntryError(f"the signing key of {record.party} is not valid at this time")
    return record
