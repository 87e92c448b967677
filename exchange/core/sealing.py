"""Capsules, message keys and padded bodies: what keeps the broker blind (DESIGN section 5)."""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from exchange.core.envelope import prefixed
from exchange.core.errors import SealError
from exchange.core.keys import sealing_public_key

CHANNEL = 32
CAPSULE = 1168
NONCE = 12
TAG = 16
SMALLEST = 1024
TO_PROVIDER = b"request"
TO_REQUESTER = b"response"

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def capsule_info(origin: str, requester: str, requester_key: bytes, provider: str, sealing_key: bytes) -> bytes:
    """What a capsule is bound to, as HPKE `info` (RFC 9180 section 5.1).

    Args:
        origin: the exchange's name.
        requester: the asking system; requester_key: its signing key's id, 32 bytes.
        provider: the answering system; sealing_key: SHA-256 of its sealing public key, 32 bytes.
    """
    return prefixed(origin) + prefixed(requester) + requester_key + prefixed(provider) + sealing_key


def seal_capsule(channel: bytes, provider_public: bytes, info: bytes) -> bytes:
    """Encrypt a 32-byte channel secret to a provider: 1,168 bytes.

    Raises:
        SealError: the public key cannot be used.
    """
    return _SUITE.encrypt(channel, sealing_public_key(provider_public), info)


def open_capsule(capsule: bytes, private_key: MLKEM768X25519PrivateKey, info: bytes) -> bytes:
    """Decrypt a capsule to its channel secret, 32 bytes.

    Raises:
        SealError: not sealed to this key, or bound to other names.
    """
    if len(capsule) != CAPSULE:
        raise SealError(f"a capsule has {CAPSULE:,} bytes")
    try:
        channel = _SUITE.decrypt(capsule, private_key, info)
    except (InvalidTag, ValueError) as error:
        raise SealError("the capsule does not open") from error
    if len(channel) != CHANNEL:
        raise SealError("the capsule holds no channel secret")
    return channel


def message_key(channel: bytes, direction: bytes, header: bytes) -> bytes:
    """One message's AES-256 key: HKDF-Expand(channel, direction ‖ SHA-256(header)), RFC 5869 section 2.3."""
    info = direction + hashlib.sha256(header).digest()
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(channel)


def seal_body(key: bytes, nonce: bytes, body: bytes) -> bytes:
    """Pad and encrypt a body: nonce (12 bytes) ‖ AES-256-GCM (NIST SP 800-38D)."""
    return nonce + AESGCM(key).encrypt(nonce, pad(body), None)


def open_body(key: bytes, ciphertext: bytes) -> bytes:
    """Decrypt and unpad what `seal_body` made.

    Raises:
        SealError: altered, cut, or sealed under another key.
    """
    if len(ciphertext) < NONCE + TAG:
        raise SealError("the ciphertext is too short")
    try:
        padded = AESGCM(key).decrypt(ciphertext[:NONCE], ciphertext[NONCE:], None)
    except InvalidTag as error:
        raise SealError("the ciphertext does not open") from error
    return unpad(padded)


def padded_size(size: int) -> int:
    """The Padmé size for `size` bytes ("Reducing Metadata Leakage", PoPETs 2019, section 4), but at least 1,024.

    Padmé adds at most 12%; the floor keeps "nobody of this name" as long as one person's row.
    """
    if size <= SMALLEST:
        return SMALLEST
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (size + mask) & ~mask


def pad(body: bytes) -> bytes:
    """body ‖ 0x80 ‖ zeros, up to the Padmé size (ISO/IEC 7816-4 padding)."""
    return (body + b"\x80").ljust(padded_size(len(body) + 1), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo `pad`.

    Raises:
        SealError: not padded, or not to the size that `pad` gives.
    """
    body = padded.rstrip(b"\0")
    if not body.endswith(b"\x80") or padded_size(len(body)) != len(padded):
        raise SealError("the body is not padded")
    return body[:-1]
