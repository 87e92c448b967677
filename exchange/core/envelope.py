"""The one signed thing: envelopes, message digests, batch signatures (DESIGN section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256

from exchange.core.climbing import Climber
from exchange.core.errors import DecodeError, ProofError, SignatureError
from exchange.core.keys import MAX_SIGNATURE, Signer, is_signed, key_id
from exchange.core.merkle import paths_of, root_of
from exchange.core.values import quick
from exchange.core.wire import MAX_FRAME, decode, encode
from exchange.v1.envelope_pb2 import Envelope as EnvelopeMessage

REQUEST = "exchange.v1/request"
RESPONSE = "exchange.v1/response"
REFUSAL = "exchange.v1/refusal"
ENTRY = "exchange.v1/entry"
KINDS = frozenset({REQUEST, RESPONSE, REFUSAL, ENTRY})
"""What travels between parties and brokers."""

REPORT = "exchange.v1/report"
SUBJECT_REQUEST = "exchange.v1/subject-request"
SUBJECT_ANSWER = "exchange.v1/subject-answer"
USE_REPORT = "exchange.v1/use-report"
BACKUP = "exchange.v1/backup"
LEDGER_BREAK = "exchange.v1/ledger-break"
FILES = frozenset({REPORT, SUBJECT_REQUEST, SUBJECT_ANSWER, USE_REPORT, BACKUP, LEDGER_BREAK})
"""What offices sign of their own; it is in a file, and nobody takes it who has not asked for it by name."""

BATCH = "exchange.v1/batch"
MAX_BATCH = 65_536
DIGEST = 32


def pae(kind: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding of a payload under its type."""
    return b"DSSEv1 %b %d %b" % (_counted(kind), len(payload), payload)


@lru_cache(maxsize=256)
def _counted(kind: str) -> bytes:
    name = kind.encode()
    return b"%d %b" % (len(name), name)


def message_digest(kind: str, payload: bytes) -> bytes:
    """A message's identity: SHA-256(0x00 ‖ PAE(kind, payload)), 32 bytes."""
    # Written out, as `pae` and `leaf_hash` have it: everything that is signed comes this way.
    return sha256(b"\x00DSSEv1 %b %d %b" % (_counted(kind), len(payload), payload)).digest()


def prefixed(text: str) -> bytes:
    """UTF-8 with its length before it as uint16, big-endian: how names stand in signed bytes."""
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def batch_statement(origin: str, signer_key: bytes, size: int, root: bytes) -> bytes:
    """What is signed for a batch: PAE("exchange.v1/batch", origin ‖ key_id ‖ uint64 size ‖ root)."""
    return pae(BATCH, prefixed(origin) + signer_key + size.to_bytes(8, "big") + root)


@quick
@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its signature; `digest` identifies it, the signature never does.

    Args:
        key_id: 32 bytes, SHA-256 of the signer's SubjectPublicKeyInfo.
        kind: one of `KINDS`, or of `FILES`.
        payload: the exact bytes signed.
        tree_size: messages in the signed batch, 1 to 65,536.
        leaf_index: place of this message in the batch.
        path: inclusion path, 32 bytes each (RFC 6962 section 2.1.1).
        signature: ECDSA, DER, at most 72 bytes.
        attachments: not signed; the payload carries their digests.
    """

    key_id: bytes
    kind: str
    payload: bytes
    tree_size: int
    leaf_index: int
    path: tuple[bytes, ...]
    signature: bytes
    attachments: tuple[bytes, ...] = ()
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", message_digest(self.kind, self.payload))

    def bare(self) -> "Envelope":
        """The same without attachments: what logs keep."""
        return replace(self, attachments=()) if self.attachments else self

    def encode(self) -> bytes:
        """The envelope's only serialisation."""
        return encode(
            EnvelopeMessage(
                key_id=self.key_id,
                kind=self.kind,
                payload=self.payload,
                tree_size=self.tree_size,
                leaf_index=self.leaf_index,
                path=self.path,
                signature=self.signature,
                attachments=self.attachments,
            )
        )


def decode_envelope(data: bytes, kind: str | None = None, max_bytes: int = MAX_FRAME) -> Envelope:
    """Parse the frame of an envelope; its payload stays closed.

    Args:
        data: a serialised Envelope.
        kind: the only kind to accept, or None for any of `KINDS`.
        max_bytes: refuse longer frames.

    Raises:
        DecodeError: not a canonical frame, an unknown or another kind, or a part of impossible size.
    """
    message = decode(EnvelopeMessage, data, max_bytes)
    # Each field once: reading one out of a message makes a new value.
    named, signer_key, signature = message.kind, message.key_id, message.signature
    if named not in KINDS if kind is None else named != kind:
        raise DecodeError(f"the envelope's kind is not {kind or 'known'}")
    if len(signer_key) != DIGEST or not 0 < len(signature) <= MAX_SIGNATURE:
        raise DecodeError("the envelope's key id or signature has an impossible length")
    size, index = message.tree_size, message.leaf_index
    # DESIGN section 4: index < size ≤ 65,536; the exact path length is checked with the root.
    if not index < size <= MAX_BATCH:
        raise DecodeError("the envelope's place in its batch is impossible")
    # A slice takes half as long as going through them.
    path, attachments = tuple(message.path[:]), tuple(message.attachments[:])
    return Envelope(signer_key, named, message.payload, size, index, path, signature, attachments)


def verify_signature(envelope: Envelope, origin: str, public_key: bytes) -> None:
    """Check that a key signed an envelope for this exchange.

    Whether the key was valid, and belongs to the payload's party, is the directory's to say.

    Args:
        envelope: with any payload.
        origin: the exchange's name.
        public_key: SubjectPublicKeyInfo of the key that `envelope.key_id` names.

    Raises:
        SignatureError: another key, a wrong path, or a signature that does not verify.
    """
    if _key_id(public_key) != envelope.key_id:
        raise SignatureError("the envelope names another key")
    try:
        root = _CLIMBER.root(envelope.digest, envelope.leaf_index, envelope.tree_size, envelope.path)
    except ProofError as error:
        raise SignatureError("the envelope's path does not fit its batch") from error
    if not _is_batch_signed(public_key, envelope.signature, origin, envelope.key_id, envelope.tree_size, root):
        raise SignatureError("the signature does not verify")


_CLIMBER = Climber()
"""The entries of one batch mostly come one after the other."""

_key_id = lru_cache(maxsize=4096)(key_id)


@lru_cache(maxsize=1)
def _is_batch_signed(
    public_key: bytes, signature: bytes, origin: str, signer_key: bytes, size: int, root: bytes
) -> bool:
    # The last one alone: `is_signed` remembers the others, by a statement that takes longer to write.
    return is_signed(public_key, batch_statement(origin, signer_key, size, root), signature)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that waits for its signature."""

    kind: str
    payload: bytes
    attachments: tuple[bytes, ...] = ()


def sign_batch(signer: Signer, origin: str, drafts: Sequence[Draft]) -> tuple[Envelope, ...]:
    """Sign one root for all drafts; each envelope stands alone as evidence.

    Args:
        signer: one signing operation is asked of it.
        origin: the exchange's name.
        drafts: 1 to 65,536.
    """
    signer_key = key_id(signer.public_key)
    hashes = [message_digest(draft.kind, draft.payload) for draft in drafts]
    signature = signer.sign(batch_statement(origin, signer_key, len(drafts), root_of(hashes)))
    return tuple(
        Envelope(signer_key, draft.kind, draft.payload, len(drafts), index, path, signature, draft.attachments)
        for index, (draft, path) in enumerate(zip(drafts, paths_of(hashes), strict=True))
    )


def sign(signer: Signer, origin: str, draft: Draft) -> Envelope:
    """Sign one message: a batch of one."""
    return sign_batch(signer, origin, (draft,))[0]
