"""The protocol a second time, from docs/protocol.md alone: it shows that the document is enough.

Nothing here is of exchange.core, of a protobuf library or of an HPKE library.
"""

import base64
import hashlib
import hmac
import struct
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FieldValue = int | str | bytes | Sequence[int] | Sequence[str] | Sequence[bytes]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# Protobuf, "Canonical form".


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def message(*fields: tuple[int, FieldValue]) -> bytes:
    """Fields in ascending order; what is zero, empty or an empty list is left out; lists of numbers are packed."""
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: FieldValue) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return present(number, value) if value else b""
    if value and isinstance(value[0], int):
        return present(number, b"".join(varint(int(item)) for item in value))
    return b"".join(present(number, item.encode() if isinstance(item, str) else bytes(item)) for item in value)


def present(number: int, data: bytes) -> bytes:
    """A length-delimited field that is written even when it is empty: an item of a list, a member of a oneof."""
    return varint(number << 3 | 2) + varint(len(data)) + data


# Envelopes.


def pae(kind: str, payload: bytes) -> bytes:
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def prefixed(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def digest_of(kind: str, payload: bytes) -> bytes:
    return sha256(b"\x00", pae(kind, payload))


def statement_of(origin: str, key_id: bytes, size: int, root: bytes) -> bytes:
    return pae("exchange.v1/batch", prefixed(origin) + key_id + struct.pack(">Q", size) + root)


def frame_of(
    key_id: bytes,
    kind: str,
    payload: bytes,
    signature: bytes,
    place: tuple[int, int, Sequence[bytes]] = (1, 0, ()),
    attachments: Sequence[bytes] = (),
) -> bytes:
    size, index, path = place
    return message(
        (1, key_id), (2, kind), (3, payload), (4, size), (5, index), (6, path), (7, signature), (8, attachments)
    )


class Signer:
    """A P-256 key; signatures with the nonces of RFC 6979, so that they come out the same every time."""

    def __init__(self, private: bytes) -> None:
        self._private = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
        self.spki = self._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = sha256(self.spki)

    def sign(self, data: bytes) -> bytes:
        return self._private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


# Merkle trees, by the recursive definitions of RFC 9162 section 2.1.


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00", leaf)


def root_of(hashes_: Sequence[bytes]) -> bytes:
    if not hashes_:
        return sha256()
    if len(hashes_) == 1:
        return hashes_[0]
    cut = _cut(len(hashes_))
    return sha256(b"\x01", root_of(hashes_[:cut]), root_of(hashes_[cut:]))


def inclusion(index: int, hashes_: Sequence[bytes]) -> list[bytes]:
    if len(hashes_) == 1:
        return []
    cut = _cut(len(hashes_))
    if index < cut:
        return [*inclusion(index, hashes_[:cut]), root_of(hashes_[cut:])]
    return [*inclusion(index - cut, hashes_[cut:]), root_of(hashes_[:cut])]


def consistency(old: int, hashes_: Sequence[bytes], whole: bool = True) -> list[bytes]:
    if old == len(hashes_):
        return [] if whole else [root_of(hashes_)]
    cut = _cut(len(hashes_))
    if old <= cut:
        return [*consistency(old, hashes_[:cut], whole), root_of(hashes_[cut:])]
    return [*consistency(old - cut, hashes_[cut:], False), root_of(hashes_[:cut])]


def _cut(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


# Notes.


def note_key_hash(name: str, public: bytes) -> bytes:
    return sha256(name.encode(), b"\n\x01", public)[:4]


def vkey_of(name: str, public: bytes) -> str:
    key = base64.b64encode(b"\x01" + public).decode()
    return f"{name}+{note_key_hash(name, public).hex()}+{key}"


def checkpoint_text(name: str, size: int, root: bytes) -> str:
    return f"{name}\n{size}\n{base64.b64encode(root).decode()}\n"


def signed_note(text: str, name: str, private: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(private)
    public = key.public_key().public_bytes_raw()
    signature = base64.b64encode(note_key_hash(name, public) + key.sign(text.encode())).decode()
    return f"{text}\n\N{EM DASH} {name} {signature}\n".encode()


def note_public(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


# Sealing.


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3."""
    out = block = b""
    for counter in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out += block
    return out[:size]


def padded(body: bytes) -> bytes:
    size = len(body) + 1
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    target = max(1024, -(-size >> low_bits) << low_bits)
    return (body + b"\x80").ljust(target, b"\x00")


def sealed(key: bytes, nonce: bytes, body: bytes) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, padded(body), None)


class SealingKey:
    """ML-KEM-768 and X25519, from the 96 private bytes."""

    def __init__(self, private: bytes) -> None:
        self._kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:64])
        self._curve = x25519.X25519PrivateKey.from_private_bytes(private[64:])
        self._curve_public = self._curve.public_key().public_bytes_raw()
        self.public = self._kem.public_key().public_bytes_raw() + self._curve_public

    def open(self, capsule: bytes, info: bytes) -> bytes:
        """The channel secret of a capsule: document, section 7."""
        kem_part, curve_part, sealed_part = capsule[:1088], capsule[1088:1120], capsule[1120:]
        kem_secret = self._kem.decapsulate(kem_part)
        curve_secret = self._curve.exchange(x25519.X25519PublicKey.from_public_bytes(curve_part))
        key, nonce = _schedule(kem_secret + curve_secret + curve_part + self._curve_public, info)
        return AESGCM(key).decrypt(nonce, sealed_part, b"")


def seal_capsule(channel: bytes, public: bytes, info: bytes) -> bytes:
    """A capsule for a sealing public key: document, section 7."""
    kem_secret, kem_part = mlkem.MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    fresh = x25519.X25519PrivateKey.generate()
    curve_part = fresh.public_key().public_bytes_raw()
    curve_secret = fresh.exchange(x25519.X25519PublicKey.from_public_bytes(public[1184:]))
    key, nonce = _schedule(kem_secret + curve_secret + curve_part + public[1184:], info)
    return kem_part + curve_part + AESGCM(key).encrypt(nonce, channel, b"")


def _schedule(secrets_and_keys: bytes, info: bytes) -> tuple[bytes, bytes]:
    """X-Wing's combiner, then the key schedule of HPKE base mode (RFC 9180 section 5.1): key and nonce."""
    shared = hashlib.sha3_256(secrets_and_keys + b"\\.//^\\").digest()
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0002)

    def extract(salt: bytes, label: bytes, data: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + data, "sha256")

    def labelled(label: bytes, size: int) -> bytes:
        return expand(secret, struct.pack(">H", size) + b"HPKE-v1" + suite + label + context, size)

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return labelled(b"key", 32), labelled(b"base_nonce", 12)
