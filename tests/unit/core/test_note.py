"""Notes are those of C2SP signed-note and golang.org/x/mod/sumdb/note, and no other bytes open."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import NoteError
from exchange.core.note import (
    MAX_NOTE,
    Note,
    NoteSignature,
    NoteSigner,
    Verifier,
    decode_base64,
    encode_base64,
    open_note,
    sign_note,
)

# Published vectors: golang.org/x/mod/sumdb/note, note_test.go.
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_SEED = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)

PETER = Verifier.parse(PETER_VKEY)
ENOCH = Verifier.parse(ENOCH_VKEY)
SIGNER = NoteSigner("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETER_SEED))


def signature_of(line: str) -> NoteSignature:
    _, name, encoded = line.rstrip("\n").split(" ")
    data = b64decode(encoded)
    return NoteSignature(name, data[:4], data[4:])


PETER_SIGNATURE = signature_of(PETER_LINE)
ENOCH_SIGNATURE = signature_of(ENOCH_LINE)


def note_of(*lines: str, text: str = TEXT) -> bytes:
    return (text + "\n" + "".join(lines)).encode()


def assert_refused(note: bytes, *verifiers: Verifier) -> None:
    with pytest.raises(NoteError):
        open_note(note, verifiers)


# Verifier keys.


@pytest.mark.parametrize(
    "vkey",
    [PETER_VKEY, ENOCH_VKEY, "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"],
)
def test_a_verifier_key_reads_back_as_written(vkey: str) -> None:
    assert str(Verifier.parse(vkey)) == vkey


def test_a_signer_publishes_the_key_that_verifies_it() -> None:
    assert str(SIGNER.verifier) == PETER_VKEY


def test_refuses_every_part_and_every_changed_byte_of_a_verifier_key() -> None:
    parts = {PETER_VKEY[i:j] for i in range(len(PETER_VKEY)) for j in range(i, len(PETER_VKEY) + 1)}
    changed = {PETER_VKEY[:i] + chr(ord(PETER_VKEY[i]) + 1) + PETER_VKEY[i + 1 :] for i in range(len(PETER_VKEY))}
    for vkey in (parts | changed) - {PETER_VKEY}:
        with pytest.raises(NoteError):
            Verifier.parse(vkey)


@pytest.mark.parametrize(
    "vkey",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER_VKEY + "\n",
        PETER_VKEY + "=",
        " " + PETER_VKEY,
        PETER_VKEY.replace("PeterNeumann", "Peter Neumann"),
        "\udc80" + PETER_VKEY,
    ],
)
def test_refuses_malformed_verifier_key(vkey: str) -> None:
    with pytest.raises(NoteError):
        Verifier.parse(vkey)


@given(st.text("aé +\n\u2028\udc80", max_size=3), st.binary(max_size=34))
def test_a_key_has_one_spelling_or_is_refused(name: str, public_key: bytes) -> None:
    try:
        verifier = Verifier.of(name, public_key)
    except NoteError:
        return
    assert Verifier.parse(str(verifier)) == verifier


@pytest.mark.parametrize("size", [0, 31, 33])
def test_refuses_a_public_key_of_another_length(size: int) -> None:
    with pytest.raises(NoteError):
        Verifier.of("a", bytes(size))


def test_refuses_a_key_hash_that_is_not_the_keys() -> None:
    with pytest.raises(NoteError):
        Verifier(PETER.name, ENOCH.key_hash, PETER.public_key)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\u2028b", "a\u3000", "a\0", "\udc80"])
def test_refuses_malformed_key_name(name: str) -> None:
    for make in (
        lambda: Verifier.of(name, bytes(32)),
        lambda: NoteSignature(name, bytes(4), bytes(64)),
        lambda: NoteSigner(name, SIGNER.private_key),
    ):
        with pytest.raises(NoteError):
            make()


def test_a_private_key_is_never_shown() -> None:
    assert repr(SIGNER) == "NoteSigner(name='PeterNeumann')"


# Signing.


def test_signing_gives_the_published_note() -> None:
    assert sign_note(TEXT, [SIGNER]) == note_of(PETER_LINE)


def test_signing_keeps_other_signatures_and_replaces_its_own() -> None:
    stale = NoteSignature(PETER.name, PETER.key_hash, b"stale")
    assert sign_note(TEXT, [SIGNER], [stale, ENOCH_SIGNATURE]) == note_of(ENOCH_LINE, PETER_LINE)
    assert sign_note(TEXT, [], [PETER_SIGNATURE]) == note_of(PETER_LINE)


@pytest.mark.parametrize("text", ["", "abc", "a\tb\n", "a\r\n", "\0\n", "\x1f\n", "\udc80\n", "a" * MAX_NOTE + "\n"])
def test_refuses_to_sign_malformed_text(text: str) -> None:
    with pytest.raises(NoteError):
        sign_note(text, [SIGNER])


def test_refuses_to_write_a_note_that_nobody_signed_or_too_many() -> None:
    others = [NoteSignature("other", bytes([number] * 4), b"x") for number in range(100)]
    assert len(open_note(sign_note(TEXT, [SIGNER], others[:99]), [PETER]).unverified) == 99
    for signers, existing in [([], []), ([SIGNER], others)]:
        with pytest.raises(NoteError):
            sign_note(TEXT, signers, existing)


@pytest.mark.parametrize(("key_hash", "signature"), [(bytes(3), b"x"), (bytes(5), b"x"), (bytes(4), b"")])
def test_refuses_malformed_signature_values(key_hash: bytes, signature: bytes) -> None:
    with pytest.raises(NoteError):
        NoteSignature("a", key_hash, signature)


@given(st.text(st.characters()).map(lambda text: text + "\n") | st.text("\n— a\u2028\x85", max_size=9))
def test_what_is_signed_opens_unchanged_or_was_refused(text: str) -> None:
    try:
        note = sign_note(text, [SIGNER])
    except NoteError:
        return
    assert open_note(note, [PETER]) == Note(text, (signature_of(note.decode().split("\n")[-2]),), ())


# Opening.


def test_opens_with_any_of_the_known_keys() -> None:
    note = note_of(PETER_LINE, ENOCH_LINE)
    assert open_note(note, [PETER]) == Note(TEXT, (PETER_SIGNATURE,), (ENOCH_SIGNATURE,))
    assert open_note(note, [ENOCH]) == Note(TEXT, (ENOCH_SIGNATURE,), (PETER_SIGNATURE,))
    assert open_note(note, [ENOCH, PETER]) == Note(TEXT, (PETER_SIGNATURE, ENOCH_SIGNATURE), ())


def test_rejects_a_note_without_a_known_key() -> None:
    assert_refused(note_of(PETER_LINE, ENOCH_LINE))
    assert_refused(note_of(PETER_LINE), ENOCH)


def test_a_key_is_known_by_name_and_hash_together() -> None:
    same_name = PETER_LINE.replace("x08g", "x08h")
    same_hash = PETER_LINE.replace("PeterNeumann", "PeterNeuman")
    for line in (same_name, same_hash):
        assert_refused(note_of(line), PETER)
        assert open_note(note_of(line, PETER_LINE), [PETER]).unverified == (signature_of(line),)


def test_one_failing_known_signature_rejects_the_whole_note() -> None:
    forged = ENOCH_LINE.replace("rwz+eBzm", "rwz+eBzn")
    longer = ENOCH_LINE[:60] + "ABCD" + ENOCH_LINE[60:]
    for line in (forged, longer):
        assert open_note(note_of(PETER_LINE, line), [PETER]).unverified == (signature_of(line),)
        assert_refused(note_of(PETER_LINE, line), PETER, ENOCH)
        assert_refused(note_of(ENOCH_LINE, PETER_LINE, line), PETER, ENOCH)


def test_a_repeated_signature_counts_once() -> None:
    note = note_of(PETER_LINE, PETER_LINE, ENOCH_LINE, ENOCH_LINE)
    assert open_note(note, [PETER, PETER]) == Note(TEXT, (PETER_SIGNATURE,), (ENOCH_SIGNATURE,))


def test_refuses_two_keys_under_one_name_and_hash() -> None:
    # Found by counting up public keys until two key hashes met: a quarter of a second's work.
    one = Verifier.of("colliding", (129274).to_bytes(32, "big"))
    other = Verifier.of("colliding", (146375).to_bytes(32, "big"))
    assert one.key_hash == other.key_hash
    assert one != other
    assert_refused(note_of(PETER_LINE), PETER, one, other)
    assert open_note(note_of(PETER_LINE), [PETER, one, one]).text == TEXT


def test_text_may_hold_empty_lines_and_signature_lines() -> None:
    text = f"\n\nbefore\n\n{ENOCH_LINE}\n{ENOCH_LINE}\n"
    note = sign_note(text, [SIGNER])
    assert open_note(note, [PETER, ENOCH]).text == text


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        note_of(),
        note_of(PETER_LINE.rstrip("\n")),
        note_of(PETER_LINE, "\n"),
        (TEXT + PETER_LINE).encode(),
        b"\x01" + note_of(PETER_LINE),
        b"\xff" + note_of(PETER_LINE),
        b"\xed\xb2\x80" + note_of(PETER_LINE),
        note_of(PETER_LINE, "Unexpected line.\n"),
        note_of("— Bad Name " + PETER_LINE[15:], PETER_LINE),
        note_of(PETER_LINE.replace("—", "-"), PETER_LINE),
        note_of(PETER_LINE.replace("— ", "—\u00a0"), PETER_LINE),
        note_of(PETER_LINE.replace("— ", "—"), PETER_LINE),
        note_of(PETER_LINE.replace("\n", "\r\n")),
        note_of(PETER_LINE.replace("\n", " \n")),
        note_of(PETER_LINE.replace("=", "")),
        note_of(PETER_LINE.replace("=", "==")),
        note_of("— other AAAAAB==\n", PETER_LINE),
        note_of("— other \n", PETER_LINE),
        note_of("— other AAAAAH-_\n", PETER_LINE),
        note_of("— other AAAA\n", PETER_LINE),
        note_of("— other\n", PETER_LINE),
        note_of("—  AAAAAAAA\n", PETER_LINE),
        note_of("— a+b AAAAAAAA\n", PETER_LINE),
    ],
)
def test_refuses_malformed_note(note: bytes) -> None:
    assert_refused(note, PETER)


def test_refuses_a_note_over_the_limits() -> None:
    assert open_note(note_of(*[PETER_LINE] * 100), [PETER]).text == TEXT
    assert_refused(note_of(*[PETER_LINE] * 101), PETER)
    line = "— other " + b64encode(bytes(3 * (MAX_NOTE // 4))).decode() + "\n"
    assert_refused(note_of(PETER_LINE, line), PETER)


def test_rejects_every_flipped_bit_and_every_truncation() -> None:
    note = note_of(PETER_LINE)
    for place in range(len(note)):
        assert_refused(note[:place], PETER)
        for bit in range(8):
            assert_refused(note[:place] + bytes([note[place] ^ 1 << bit]) + note[place + 1 :], PETER)


@given(st.binary() | st.lists(st.sampled_from([TEXT, "\n", PETER_LINE, ENOCH_LINE, "— ", "a", " ", "AAAAAAAA"])))
def test_hostile_bytes_meet_a_note_error_or_open_as_signed(data: bytes | list[str]) -> None:
    note = data if isinstance(data, bytes) else "".join(data).encode()
    try:
        opened = open_note(note, [PETER])
    except NoteError:
        return
    assert opened.text == TEXT


@given(st.text() | st.binary().map(lambda data: b64encode(data).decode()) | st.text("AQgw=/+-_ \n", max_size=8))
def test_base64_has_one_spelling_or_is_refused(text: str) -> None:
    try:
        data = decode_base64(text)
    except NoteError:
        return
    assert encode_base64(data) == text
