"""Cosignatures of witnesses, version 1 (C2SP tlog-cosignature): "as of this time, this is the log I have seen".

A witness signs the checkpoint's text under a header that says when:

    cosignature/v1
    time 1679315147
    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

and its line in the note carries that time, 8 bytes big-endian, before the 64 bytes of the Ed25519 signature.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from exchange.core.errors import NoteError
from exchange.core.note import NoteSignature, Verifier, is_signed

COSIGNATURE_V1: Final = b"\x04"
MAX_SECONDS: Final = (1 << 63) - 1

_TIMESTAMP: Final = 8
_SIZE: Final = _TIMESTAMP + 64


@dataclass(frozen=True, slots=True)
class CosignatureVerifier(Verifier):
    """A witness's key, written `NAME+HASH+BASE64` with signature type 0x04 (C2SP tlog-cosignature, "Format")."""

    algorithm: ClassVar[bytes] = COSIGNATURE_V1

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tells whether `signature` is this witness's cosignature of `text`, at whatever time."""
        return self.cosigned_at(text, signature) is not None

    def cosigned_at(self, text: bytes, signature: bytes) -> int | None:
        """Says when this witness cosigned.

        Args:
            text: the checkpoint's text in UTF-8, with its final newline.
            signature: the bytes after the key ID, 72 if it is a cosignature.

        Returns:
            Seconds since 1970; None where it is not this witness's cosignature of this text.
        """
        time = int.from_bytes(signature[:_TIMESTAMP])
        # C2SP tlog-cosignature, "Format": the timestamp MUST NOT exceed 2^63 - 1.
        if len(signature) != _SIZE or time > MAX_SECONDS:
            return None
        return time if is_signed(self.public_key, _message(text, time), signature[_TIMESTAMP:]) else None


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's named Ed25519 private key, used for cosignatures alone.

    Args:
        name: the key's name, by custom a URL without scheme.
        private_key: never shown.

    Raises:
        NoteError: the name is malformed.
    """

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _ = self.verifier

    @property
    def verifier(self) -> CosignatureVerifier:
        """The public half, to be given to those who verify."""
        return CosignatureVerifier.of(self.name, self.private_key.public_key().public_bytes_raw())

    def cosign(self, text: bytes, time: int) -> NoteSignature:
        """Cosigns a checkpoint, which the caller has found consistent with all that it cosigned before.

        Args:
            text: the checkpoint's text in UTF-8, with its final newline.
            time: seconds since 1970.

        Raises:
            NoteError: the time is out of range.
        """
        if not 0 <= time <= MAX_SECONDS:
            raise NoteError(f"cosignature time {time} is out of range")
        signature = self.private_key.sign(_message(text, time))
        return NoteSignature(self.name, self.verifier.key_hash, time.to_bytes(_TIMESTAMP) + signature)


def _message(text: bytes, time: int) -> bytes:
    """C2SP tlog-cosignature, "Ed25519 signed message"."""
    return b"cosignature/v1\ntime %d\n" % time + text
