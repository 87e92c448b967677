"""Signed notes with Ed25519 keys (C2SP signed-note): the form in which a log's checkpoints are signed.

A note is text, an empty line, and one line for each signature:

    If you think cryptography is the answer to your problem,
    then you don't know what your problem is.

    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUg...

One parser and one encoder: `sign_note` gives out nothing that `open_note` would refuse.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from exchange.core.errors import NoteError, UnsignedError

MAX_NOTE = 1 << 20
MAX_SIGNATURES = 100
KEY_HASH_SIZE = 4
PUBLIC_KEY_SIZE = 32
ED25519 = b"\x01"

_SIGNATURE_PREFIX = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


# A checkpoint has some 150 bytes.
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that may sign notes, written `NAME+HASH+BASE64` (C2SP signed-note, "Signatures").

    Args:
        name: the key's name, non-empty, without spaces, plus signs or control characters.
        key_hash: the 4-byte key ID, SHA-256(name || 0x0A || algorithm || public_key)[:4].
        public_key: the 32-byte Ed25519 public key (RFC 8032 section 5.1.5).

    Raises:
        NoteError: the name is malformed, or the key ID is not that of the name and key.
    """

    name: str
    key_hash: bytes
    public_key: bytes

    algorithm: ClassVar[bytes] = ED25519
    """The signature type (C2SP signed-note, "Signature types")."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != PUBLIC_KEY_SIZE:
            raise NoteError(f"an Ed25519 public key is {PUBLIC_KEY_SIZE} bytes, not {len(self.public_key)}")
        if self.key_hash != _key_hash(self.name, self.algorithm, self.public_key):
            raise NoteError(f"the key hash does not fit the key of {self.name!r}")

    @classmethod
    def of(cls, name: str, public_key: bytes) -> Self:
        """Names a public key, computing its key ID.

        Args:
            name: the key's name.
            public_key: the 32-byte Ed25519 public key.

        Raises:
            NoteError: the name or key is malformed.
        """
        _check_name(name)
        return cls(name, _key_hash(name, cls.algorithm, public_key), public_key)

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Reads a verifier key, the inverse of `str` (golang.org/x/mod/sumdb/note, NewVerifier).

        Raises:
            NoteError: the text is not exactly one verifier key of this algorithm.
        """
        # Base64 has plus signs of its own, so only the first two separate.
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise NoteError("a verifier key is NAME+HASH+BASE64")
        key = decode_base64(parts[2])
        if key[:1] != cls.algorithm:
            raise NoteError(f"the verifier key is not of signature type 0x{cls.algorithm.hex()}")
        verifier = cls.of(parts[0], key[1:])
        if str(verifier) != vkey:
            raise NoteError(f"the key hash does not fit the key of {verifier.name!r}")
        return verifier

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{encode_base64(self.algorithm + self.public_key)}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tells whether `signature` is this key's over `text` (RFC 8032 section 5.1.7).

        Args:
            text: the note's text in UTF-8, with its final newline.
            signature: the bytes after the key ID, 64 if it is an Ed25519 signature.
        """
        return is_signed(self.public_key, text, signature)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, by whatever key and algorithm (C2SP signed-note, "Format").

    Args:
        name: the key's name as the line claims it.
        key_hash: the 4-byte key ID as the line claims it.
        signature: the bytes after the key ID, at least one.

    Raises:
        NoteError: the name or the lengths are malformed.
    """

    name: str
    key_hash: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_hash) != KEY_HASH_SIZE or not self.signature:
            raise NoteError(f"malformed signature by {self.name!r}")

    def __str__(self) -> str:
        return f"{_SIGNATURE_PREFIX}{self.name} {encode_base64(self.key_hash + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that at least one known key has signed.

    Args:
        text: the signed text, with its final newline.
        signatures: verified, at most one for each known key, in the note's order.
        unverified: by keys not known here, to be passed on but never relied on.
    """

    text: str
    signatures: tuple[NoteSignature, ...]
    unverified: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A named Ed25519 private key.

    Args:
        name: the key's name.
        private_key: never shown.

    Raises:
        NoteError: the name is malformed.
    """

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def verifier(self) -> Verifier:
        """The public half, to be given to those who verify."""
        return Verifier.of(self.name, self.private_key.public_key().public_bytes_raw())

    def sign(self, text: bytes) -> NoteSignature:
        """Signs a note's text (RFC 8032 section 5.1.6).

        Args:
            text: the text in UTF-8, with its final newline.
        """
        return NoteSignature(self.name, self.verifier.key_hash, self.private_key.sign(text))


def sign_note(text: str, signers: Sequence[NoteSigner], existing: Sequence[NoteSignature] = ()) -> bytes:
    """Encodes a note with new signatures after those it already has (golang.org/x/mod/sumdb/note, Sign).

    Args:
        text: what to sign, ending in a newline.
        signers: keys that sign now, in this order.
        existing: signatures to keep; one by a signer's own key is replaced.

    Raises:
        NoteError: the text is malformed, nobody signs, or the note passes the limits of `open_note`.
    """
    signed = encode_text(text)
    fresh = [signer.sign(signed) for signer in signers]
    replaced = {(signature.name, signature.key_hash) for signature in fresh}
    kept = [signature for signature in existing if (signature.name, signature.key_hash) not in replaced]
    lines = "".join(str(signature) for signature in (*kept, *fresh))
    note = signed + b"\n" + lines.encode()
    _parse(note)
    return note


def open_note(note: bytes, verifiers: Sequence[Verifier]) -> Note:
    """Parses a note and verifies every signature by a known key (C2SP signed-note, "Signatures").

    Args:
        note: at most 1 MiB and 100 signature lines.
        verifiers: the known keys; two different ones under one name and key ID are refused.

    Raises:
        NoteError: the note is malformed, a known key's signature fails, or no known key signed.
    """
    known = _by_name_and_hash(verifiers)
    text, signatures = _parse(note)
    signed = text.encode()
    verified: dict[Verifier, NoteSignature] = {}
    unverified: dict[NoteSignature, None] = {}
    for signature in signatures:
        verifier = known.get((signature.name, signature.key_hash))
        if verifier is None:
            unverified[signature] = None
            continue
        # C2SP signed-note, "Signatures": a known key's signature MUST be verified, a second one too, and a
        # failure rejects the whole note: somebody has changed the text or forged the line.
        if not verifier.verifies(signed, signature.signature):
            raise UnsignedError(f"invalid signature by {signature.name!r}")
        verified.setdefault(verifier, signature)
    # Same section: with no verified signature the text MUST be ignored.
    if not verified:
        raise UnsignedError("the note is not signed by a known key")
    return Note(text, tuple(verified.values()), tuple(unverified))


def is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tells whether an Ed25519 signature verifies (RFC 8032 section 5.1.7).

    Args:
        public_key: 32 bytes.
        message: of any length; that of a short one is remembered.
        signature: 64 bytes, if it is one.
    """
    # Long notes are verified each time: a memory of them would be a broker's to fill.
    check = _is_signed if len(message) <= REMEMBERED else _is_signed.__wrapped__
    return check(public_key, message, signature)


def encode_text(text: str) -> bytes:
    """Encodes a note's text, refusing what a note cannot carry (C2SP signed-note, "Format").

    Raises:
        NoteError: no final newline, an ASCII control character other than newline, or a lone surrogate.
    """
    _check_text(text)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NoteError("the note is not valid Unicode") from error


def encode_base64(data: bytes) -> str:
    """Encodes bytes in standard Base64 (RFC 4648 section 4)."""
    return b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Decodes the one standard Base64 encoding of some bytes (RFC 4648 sections 3.5 and 4).

    Raises:
        NoteError: foreign characters, wrong padding, or bits set beyond the last byte.
    """
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError("malformed Base64") from error
    # RFC 4648 section 3.5: unused bits must be zero, or one value would have several encodings.
    if encode_base64(data) != text:
        raise NoteError("Base64 is not canonical")
    return data


def _parse(note: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    """Splits a note into its text and signatures, of which none is verified yet."""
    if len(note) > MAX_NOTE:
        raise NoteError(f"the note is larger than {MAX_NOTE} bytes")
    try:
        document = note.decode()
    except UnicodeDecodeError as error:
        raise NoteError("the note is not valid UTF-8") from error
    _check_text(document)
    # C2SP signed-note, "Format": the last empty line separates, as the text may have empty lines too.
    text, separator, lines = document.rpartition("\n\n")
    if not separator or not lines:
        raise NoteError("the note has no signatures")
    if lines.count("\n") > MAX_SIGNATURES:
        raise NoteError(f"the note has more than {MAX_SIGNATURES} signatures")
    return text + "\n", tuple(_parse_signature(line) for line in lines[:-1].split("\n"))


def _parse_signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not separator:
        raise NoteError("malformed signature line")
    data = decode_base64(encoded)
    return NoteSignature(name, data[:KEY_HASH_SIZE], data[KEY_HASH_SIZE:])


def _by_name_and_hash(verifiers: Sequence[Verifier]) -> dict[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        # A 32-bit key ID is easy to collide; taking either key would let one stand in for the other.
        if known.setdefault((verifier.name, verifier.key_hash), verifier) != verifier:
            raise NoteError(f"two keys share {verifier.name!r} and {verifier.key_hash.hex()}")
    return known


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("the note does not end in a newline")
    if _CONTROL.search(text):
        raise NoteError("the note has a control character")


def _check_name(name: str) -> None:
    # C2SP signed-note, "Format": spaces and plus signs delimit; the encoding check keeps lone surrogates out.
    if not name or "+" in name or any(character.isspace() for character in name) or _CONTROL.search(name):
        raise NoteError(f"not a key name: {name[:80]!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise NoteError("a key name is not valid Unicode") from error


def _key_hash(name: str, algorithm: bytes, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + algorithm + public_key).digest()[:KEY_HASH_SIZE]


@lru_cache(maxsize=1024)
def _is_signed(public_key: bytes, text: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature verifies; remembered, since the receipts of one batch share their checkpoint."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True
