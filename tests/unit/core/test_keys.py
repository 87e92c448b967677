"""Keys have one encoding each, and only P-256 signs."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import SealError, SignatureError
from exchange.core.keys import (
    EcdsaSigner,
    is_signed,
    key_id,
    sealing_private_key,
    sealing_public_bytes,
    sealing_public_key,
    signing_key,
)
from tests.corruption import anything
from tests.memory import fixed, sealing_private, sealing_public, signer

KEY = signer("keys")
SPKI, POINT = PublicFormat.SubjectPublicKeyInfo, Encoding.X962


def _der(public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> bytes:
    return public_key.public_bytes(Encoding.DER, SPKI)


def _compressed(key: EcdsaSigner) -> bytes:
    point = key.private_key.public_key().public_bytes(POINT, PublicFormat.CompressedPoint)
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


OTHERS: dict[str, Callable[[], bytes]] = {
    "P-384": lambda: _der(ec.derive_private_key(7, ec.SECP384R1()).public_key()),
    "secp256k1": lambda: _der(ec.derive_private_key(7, ec.SECP256K1()).public_key()),
    "Ed25519": lambda: _der(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()),
    "RSA": lambda: _der(rsa.RSAPublicNumbers(65537, (1 << 2047) + 9).public_key()),
    "a compressed point": lambda: _compressed(KEY),
    "the point alone": lambda: KEY.private_key.public_key().public_bytes(POINT, PublicFormat.UncompressedPoint),
    "PEM": lambda: KEY.private_key.public_key().public_bytes(Encoding.PEM, SPKI),
    "more behind it": lambda: KEY.public_key + b"\0",
    "less": lambda: KEY.public_key[:-1],
    "a point off the curve": lambda: KEY.public_key[:-1] + bytes([KEY.public_key[-1] ^ 1]),
    "a sealing key": lambda: sealing_public("keys"),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
def test_only_a_canonical_p256_key_signs(other: Callable[[], bytes]) -> None:
    with pytest.raises(SignatureError, match="public key"):
        signing_key(other())
    with pytest.raises(SignatureError, match="public key"):
        is_signed(other(), b"data", KEY.sign(b"data"))


@given(anything(KEY.public_key, _compressed(KEY)))
def test_any_bytes_are_one_keys_only_encoding_or_refused(data: bytes) -> None:
    try:
        key = signing_key(data)
    except SignatureError:
        return
    assert _der(key) == data


@given(anything(KEY.sign(b"data")))
def test_any_bytes_are_a_signature_or_not(signature: bytes) -> None:
    if is_signed(KEY.public_key, b"data", signature):
        assert decode_dss_signature(signature)[0] == decode_dss_signature(KEY.sign(b"data"))[0]


def test_signatures_are_deterministic_and_of_at_most_72_bytes() -> None:
    signatures = [KEY.sign(b"%d" % number) for number in range(64)]
    assert signatures == [KEY.sign(b"%d" % number) for number in range(64)]
    assert all(is_signed(KEY.public_key, b"%d" % number, data) for number, data in enumerate(signatures))
    assert max(len(data) for data in signatures) <= 72


def test_a_signature_is_of_one_key_over_one_text() -> None:
    signature = KEY.sign(b"data")
    assert not is_signed(KEY.public_key, b"date", signature)
    assert not is_signed(signer("other").public_key, b"data", signature)


def test_a_key_id_is_the_hash_of_the_encoding() -> None:
    assert key_id(KEY.public_key) == hashlib.sha256(KEY.public_key).digest()


def test_a_signers_private_key_is_not_shown() -> None:
    assert repr(KEY) == f"EcdsaSigner({key_id(KEY.public_key).hex()[:16]})"


def test_a_sealing_key_has_one_public_encoding() -> None:
    public = sealing_public_bytes(sealing_private("keys"))
    assert len(public) == 1216
    assert sealing_public_key(public)
    assert sealing_private_key(sealing_private("keys"))
    assert public != sealing_public_bytes(sealing_private("other"))


@pytest.mark.parametrize("size", [0, 64, 95, 97])
def test_a_sealing_private_key_of_another_length_is_refused(size: int) -> None:
    for load in (sealing_private_key, sealing_public_bytes):
        with pytest.raises(SealError, match="96 bytes"):
            load(bytes(size))


@pytest.mark.parametrize("size", [0, 1184, 1215, 1217])
def test_a_sealing_public_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(SealError, match="1,216 bytes"):
        sealing_public_key(bytes(size))


def test_a_sealing_public_key_out_of_range_is_refused() -> None:
    with pytest.raises(SealError, match="cannot be read"):
        sealing_public_key(b"\xff" * 1216)


@given(st.binary(min_size=1216, max_size=1216) | anything(sealing_public("keys")))
def test_any_bytes_are_a_sealing_key_or_refused(data: bytes) -> None:
    try:
        sealing_public_key(data)
    except SealError:
        return
    assert len(data) == 1216


def test_keys_of_tests_are_always_the_same() -> None:
    assert signer("keys") is KEY
    assert fixed("a") == fixed("a") != fixed("b")
