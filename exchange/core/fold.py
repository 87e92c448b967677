"""`apply` folds the leaves of the directory log into its state, and reads nothing else (DESIGN section 7).

It is pure and total. An entry that breaks a rule changes nothing but the size, and says why; a broker
refuses to append one. Rules are frozen for their entry format.
"""

from dataclasses import dataclass

from exchange.core.envelope import ENTRY, decode_envelope, verify_signature
from exchange.core.errors import CoreError
from exchange.core.rules import judge
from exchange.core.signed import Signed, signing_record
from exchange.core.state import MAX_ENTRY, OBJECT_ID, EntryError, SnapshotDiffersError, State
from exchange.core.stewards import standing_in
from exchange.core.values import quick
from exchange.core.wire import MAX_TIME, decode
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, EntryKind, Key


@quick
@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` made of one leaf; `reason` is empty exactly when the entry holds.

    Whoever finds that it `differs` stops: a broker signed that the entries before fold to another state.
    """

    index: int
    digest: bytes = b""
    entry: Entry | None = None
    reason: str = ""
    differs: bool = False


def apply(state: State, leaf: bytes) -> tuple[State, Applied]:
    """Fold one leaf into the state.

    Args:
        state: of size n.
        leaf: the bytes of entry n, a serialised DirectoryLeaf.

    Returns:
        The state of size n + 1, and what became of the entry. Never raises.
    """
    index = state.size
    try:
        signed = read_leaf(state, leaf)
        judged = judge(state, signed)
    except CoreError as error:
        differs = isinstance(error, SnapshotDiffersError)
        return state.moved(index + 1, state.time), Applied(index, reason=str(error), differs=differs)
    return judged.moved(index + 1, signed.time), Applied(index, signed.envelope.digest, signed.entry)


def read_key_entry(leaf: bytes, origin: str, root_public_key: bytes) -> Key:
    """Read a key that the root itself gave, out of its leaf alone: nothing else of the directory is needed.

    Whether it was revoked, or superseded, is for those to say who have the directory.

    Args:
        leaf: a serialised DirectoryLeaf.
        origin: the exchange's name.
        root_public_key: the root's SubjectPublicKeyInfo, out of the trust file.

    Raises:
        CoreError: it is malformed, not signed by the root, or no key.
    """
    frame = decode(DirectoryLeaf, leaf, MAX_ENTRY)
    envelope = decode_envelope(frame.envelope, ENTRY, MAX_ENTRY)
    verify_signature(envelope, origin, root_public_key)
    entry = decode(Entry, envelope.payload, MAX_ENTRY)
    if entry.kind != EntryKind.ENTRY_KIND_KEY:
        raise EntryError("the entry gives no key")
    return decode(Key, entry.key.statement, MAX_ENTRY)


def read_leaf(state: State, leaf: bytes) -> Signed:
    """Read a leaf and check what holds for every kind of entry: form, order, signature, signer, ownership.

    Raises:
        CoreError: a rule is broken; the text says which.
    """
    frame = decode(DirectoryLeaf, leaf, MAX_ENTRY)
    if frame.time < state.time:
        raise EntryError("the entry's time runs backwards")
    if frame.time > MAX_TIME:
        raise EntryError("the entry's time is beyond the year 9999")
    envelope = decode_envelope(frame.envelope, ENTRY, MAX_ENTRY)
    if envelope.attachments:
        raise EntryError("a leaf carries no attachments")
    signer = signing_record(state, envelope, frame.time)
    entry = decode(Entry, envelope.payload, MAX_ENTRY)
    signer = standing_in(state, signer, entry, frame.time)
    if len(entry.object_id) != OBJECT_ID:
        raise EntryError(f"an object id has {OBJECT_ID} bytes")
    return Signed(state.size, frame.time, envelope, entry, signer)
