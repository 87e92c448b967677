"""Cosignatures are those of C2SP tlog-cosignature: bound to a time, a text and a key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.cosignature import MAX_SECONDS, CosignatureVerifier, Cosigner
from exchange.core.errors import NoteError
from exchange.core.note import NoteSigner, Verifier, decode_base64, open_note, sign_note

# The published example of C2SP tlog-cosignature: its key is not published, so only the form is checked with it.
EXAMPLE = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
TEXT = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
TIME = 1679315147
COSIGNER = Cosigner("witness.example.com/w1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
VERIFIER = COSIGNER.verifier
SIGNATURE = COSIGNER.cosign(TEXT, TIME).signature


def test_the_line_has_the_form_of_the_published_example() -> None:
    published = decode_base64(EXAMPLE)[4:]
    assert len(SIGNATURE) == len(published) == 72
    assert SIGNATURE[:8] == published[:8] == TIME.to_bytes(8)


def test_the_signed_message_is_that_of_the_specification() -> None:
    message = b"cosignature/v1\ntime 1679315147\n" + TEXT
    COSIGNER.private_key.public_key().verify(SIGNATURE[8:], message)


def test_says_when_the_witness_cosigned() -> None:
    assert VERIFIER.cosigned_at(TEXT, SIGNATURE) == TIME


@given(st.integers(0, MAX_SECONDS))
def test_any_time_in_range_is_kept(time: int) -> None:
    assert VERIFIER.cosigned_at(TEXT, COSIGNER.cosign(TEXT, time).signature) == time


@pytest.mark.parametrize("time", [-1, MAX_SECONDS + 1])
def test_signs_no_time_out_of_range(time: int) -> None:
    with pytest.raises(NoteError, match="out of range"):
        COSIGNER.cosign(TEXT, time)


def test_refuses_a_time_beyond_the_range_although_it_is_signed() -> None:
    time = MAX_SECONDS + 1
    signed = COSIGNER.private_key.sign(b"cosignature/v1\ntime %d\n" % time + TEXT)
    assert VERIFIER.cosigned_at(TEXT, time.to_bytes(8) + signed) is None


def test_refuses_every_flipped_bit_and_every_other_length() -> None:
    flipped = [
        SIGNATURE[:i] + bytes([SIGNATURE[i] ^ 1 << bit]) + SIGNATURE[i + 1 :] for i in range(72) for bit in (0, 7)
    ]
    for signature in (*flipped, *(SIGNATURE[:size] for size in range(72)), SIGNATURE + b"\0"):
        assert not VERIFIER.verifies(TEXT, signature)


def test_a_cosignature_of_another_text_does_not_verify() -> None:
    assert VERIFIER.cosigned_at(TEXT.replace(b"20852163", b"20852164"), SIGNATURE) is None


def test_a_plain_signature_by_the_same_key_is_no_cosignature() -> None:
    """Domain separation: what the key signs as a log says nothing as a witness, and the other way round."""
    log = NoteSigner("witness.example.com/w1", COSIGNER.private_key)
    assert not VERIFIER.verifies(TEXT, log.sign(TEXT).signature)
    assert not log.verifier.verifies(TEXT, SIGNATURE)
    assert log.verifier.key_hash != VERIFIER.key_hash


def test_a_witness_key_reads_back_as_written_and_is_no_log_key() -> None:
    assert CosignatureVerifier.parse(str(VERIFIER)) == VERIFIER
    with pytest.raises(NoteError, match="signature type"):
        Verifier.parse(str(VERIFIER))
    with pytest.raises(NoteError, match="signature type"):
        CosignatureVerifier.parse(str(NoteSigner(COSIGNER.name, COSIGNER.private_key).verifier))


def test_a_note_opens_with_the_witness_among_its_signers() -> None:
    log = NoteSigner("example.com/behind-the-sofa", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    note = sign_note(TEXT.decode(), [log], [COSIGNER.cosign(TEXT, TIME)])
    opened = open_note(note, [log.verifier, VERIFIER])
    assert {signature.name for signature in opened.signatures} == {log.name, COSIGNER.name}


def test_a_cosigner_does_not_show_its_key() -> None:
    assert "private" not in repr(COSIGNER)


def test_refuses_a_malformed_name() -> None:
    with pytest.raises(NoteError, match="key name"):
        Cosigner("a name", COSIGNER.private_key)
