"""Signing and sealing keys: their ids, their encodings, one operation each (DESIGN section 3)."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from exchange.core.errors import SealError, SignatureError

MLKEM_SEED, MLKEM_PUBLIC, X25519_SIZE = 64, 1184, 32
SEALING_PRIVATE = MLKEM_SEED + X25519_SIZE
SEALING_PUBLIC = MLKEM_PUBLIC + X25519_SIZE
MAX_SIGNATURE = 72

_ECDSA = ec.ECDSA(hashes.SHA256())
_ANY_X25519 = x25519.X25519PrivateKey.from_private_bytes(bytes(range(X25519_SIZE)))


def key_id(public_key: bytes) -> bytes:
    """SHA-256 of a public key's encoding: a SubjectPublicKeyInfo, or ML-KEM ‖ X25519; 32 bytes."""
    return hashlib.sha256(public_key).digest()


class Signer(Protocol):
    """Something that holds one signing key, in a file or in a hardware module."""

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo, DER (RFC 5280 section 4.1)."""
        ...

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over `data`, DER (RFC 3279 section 2.2.3)."""
        ...


@dataclass(frozen=True, slots=True)
class EcdsaSigner:
    """A `Signer` over a private key in memory; deterministic nonces (RFC 6979)."""

    private_key: ec.EllipticCurvePrivateKey
    public_key: bytes

    @classmethod
    def of(cls, private_key: ec.EllipticCurvePrivateKey) -> "EcdsaSigner":
        """The signer of a P-256 private key."""
        public = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(private_key, public)

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over `data`, DER."""
        return self.private_key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def __repr__(self) -> str:
        return f"EcdsaSigner({key_id(self.public_key).hex()[:16]})"


@lru_cache(maxsize=4096)
def signing_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    """Load a P-256 SubjectPublicKeyInfo in its canonical encoding.

    Raises:
        SignatureError: not such a key.
    """
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError("the public key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("the public key is not on P-256")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public_key:
        raise SignatureError("the public key is not in its canonical encoding")
    return key


@lru_cache(maxsize=16_384)
def is_signed(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether an ECDSA P-256 signature over `data` verifies.

    Remembered by its arguments: the messages of one batch share their root's signature.

    Raises:
        SignatureError: the key itself cannot be used.
    """
    key = signing_key(public_key)
    try:
        key.verify(signature, data, _ECDSA)
    except InvalidSignature:
        return False
    return True


def sealing_private_key(data: bytes) -> MLKEM768X25519PrivateKey:
    """Load a sealing private key: ML-KEM-768 seed (64 bytes) ‖ X25519 (32 bytes).

    Raises:
        SealError: wrong length.
    """
    if len(data) != SEALING_PRIVATE:
        raise SealError(f"a sealing private key has {SEALING_PRIVATE} bytes")
    seed, scalar = data[:MLKEM_SEED], data[MLKEM_SEED:]
    return MLKEM768X25519PrivateKey(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(seed), x25519.X25519PrivateKey.from_private_bytes(scalar)
    )


@lru_cache(maxsize=1024)
def sealing_public_key(data: bytes) -> MLKEM768X25519PublicKey:
    """Load a sealing public key: ML-KEM-768 (1,184 bytes) ‖ X25519 (32 bytes).

    Raises:
        SealError: wrong length, or not a key.
    """
    if len(data) != SEALING_PUBLIC:
        raise SealError(f"a sealing public key has {SEALING_PUBLIC:,} bytes")
    try:
        curve = x25519.X25519PublicKey.from_public_bytes(data[MLKEM_PUBLIC:])
        # A point of small order makes no secret with any key (RFC 7748 section 6.1): this raises.
        _ANY_X25519.exchange(curve)
        return MLKEM768X25519PublicKey(mlkem.MLKEM768PublicKey.from_public_bytes(data[:MLKEM_PUBLIC]), curve)
    except ValueError as error:
        raise SealError("the sealing public key cannot be read") from error


def sealing_public_bytes(private: bytes) -> bytes:
    """The public encoding, 1,216 bytes, that belongs to a 96-byte sealing private key.

    Raises:
        SealError: wrong length.
    """
    if len(private) != SEALING_PRIVATE:
        raise SealError(f"a sealing private key has {SEALING_PRIVATE} bytes")
    kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:MLKEM_SEED])
    curve = x25519.X25519PrivateKey.from_private_bytes(private[MLKEM_SEED:])
    return kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
