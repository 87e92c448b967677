"""Checkpoints are those of C2SP tlog-checkpoint, signed by the log asked for."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.checkpoint import (
    Checkpoint,
    encode_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
)
from exchange.core.errors import NoteError
from exchange.core.merkle import EMPTY_ROOT, MAX_SIZE
from exchange.core.note import NoteSigner, decode_base64, encode_base64, open_note, sign_note

# The example of C2SP tlog-checkpoint.
EXAMPLE = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ROOT = decode_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=")

ACCESS = NoteSigner("gov.example/access", Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
DIRECTORY = NoteSigner("gov.example/directory", Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)))
CHECKPOINT = Checkpoint("gov.example/access", 20852163, ROOT)

LINES = st.text("ab/ —\u2028", min_size=1, max_size=5)
CHECKPOINTS = st.builds(
    Checkpoint,
    LINES,
    st.integers(1, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(LINES).map(tuple),
)


def test_reads_and_writes_the_published_example() -> None:
    checkpoint = Checkpoint("example.com/behind-the-sofa", 20852163, ROOT)
    assert parse_checkpoint(EXAMPLE) == checkpoint
    assert encode_checkpoint(checkpoint) == EXAMPLE


@given(CHECKPOINTS)
def test_a_checkpoint_reads_back_as_written(checkpoint: Checkpoint) -> None:
    assert parse_checkpoint(encode_checkpoint(checkpoint)) == checkpoint


@given(
    st.text(st.characters())
    | st.lists(
        st.sampled_from(["a", "0", "1", "01", "٣", encode_base64(ROOT), encode_base64(EMPTY_ROOT), "\n", " "])
        | st.text(max_size=3)
    ).map("\n".join)
)
def test_any_text_is_one_checkpoints_only_encoding_or_refused(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except NoteError:
        return
    assert encode_checkpoint(checkpoint) == text


@pytest.mark.parametrize(
    "size",
    [
        "",
        "-1",
        "+1",
        "01",
        "00",
        "1 ",
        " 1",
        "1_0",
        "1.0",
        "1e3",
        "0x1",
        "٣",
        "３",
        "²",
        str(MAX_SIZE + 1),
        "9" * 5000,
    ],
)
def test_refuses_malformed_size(size: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(EXAMPLE.replace("20852163", size))


def test_accepts_sizes_up_to_the_limit() -> None:
    assert parse_checkpoint(EXAMPLE.replace("20852163", str(MAX_SIZE))).size == MAX_SIZE


@pytest.mark.parametrize(
    "root",
    [
        "",
        encode_base64(ROOT[:31]),
        encode_base64(ROOT + b"\0"),
        encode_base64(ROOT).rstrip("="),
        encode_base64(ROOT) + "=",
        encode_base64(ROOT).replace("2I=", "2J="),
        encode_base64(ROOT).replace("/", "_"),
        " " + encode_base64(ROOT),
        ROOT.hex(),
    ],
)
def test_refuses_malformed_root(root: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(f"gov.example/access\n20852163\n{root}\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        EXAMPLE[:-1],
        EXAMPLE + "\n",
        EXAMPLE + "extension",
        EXAMPLE + "\nextension\n",
        EXAMPLE + "extension\n\n",
        EXAMPLE + "exten\tsion\n",
        EXAMPLE + "exten\udc80sion\n",
        EXAMPLE.replace("\n", "\r\n"),
        EXAMPLE.replace("\n", "\u2028"),
        "\n" + EXAMPLE,
        EXAMPLE.removeprefix("example.com/behind-the-sofa"),
        EXAMPLE.removeprefix("example.com/behind-the-sofa\n"),
    ],
)
def test_refuses_malformed_checkpoint(text: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        ("a\tb", 1, ROOT, ()),
        ("\udc80", 1, ROOT, ()),
        ("a", -1, ROOT, ()),
        ("a", MAX_SIZE + 1, ROOT, ()),
        ("a", 1, ROOT[:31], ()),
        ("a", 1, ROOT, ("",)),
        ("a", 1, ROOT, ("b\nc",)),
    ],
)
def test_refuses_a_checkpoint_that_cannot_be_written(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(NoteError):
        Checkpoint(origin, size, root, extensions)


def test_an_empty_log_has_the_empty_root() -> None:
    empty = Checkpoint("gov.example/access", 0, EMPTY_ROOT)
    assert parse_checkpoint(encode_checkpoint(empty)) == empty
    with pytest.raises(NoteError):
        Checkpoint("gov.example/access", 0, ROOT)


def test_opens_what_its_log_signed() -> None:
    signed = sign_checkpoint(CHECKPOINT, ACCESS)
    assert open_checkpoint(signed, ACCESS.verifier) == CHECKPOINT


def test_keeps_extension_lines_and_ignores_other_signatures() -> None:
    extended = Checkpoint("gov.example/access", 7, ROOT, ("one", "two three"))
    cosigned = sign_note(encode_checkpoint(extended), [ACCESS, DIRECTORY])
    assert open_checkpoint(cosigned, ACCESS.verifier) == extended


def test_rejects_the_checkpoint_of_another_log() -> None:
    with pytest.raises(NoteError):
        open_checkpoint(sign_checkpoint(CHECKPOINT, ACCESS), DIRECTORY.verifier)


def test_rejects_another_logs_origin_under_the_logs_own_key() -> None:
    signed = sign_note(encode_checkpoint(CHECKPOINT), [DIRECTORY])
    assert open_note(signed, [DIRECTORY.verifier]).text == encode_checkpoint(CHECKPOINT)
    with pytest.raises(NoteError):
        open_checkpoint(signed, DIRECTORY.verifier)
    with pytest.raises(NoteError):
        sign_checkpoint(CHECKPOINT, DIRECTORY)


def test_rejects_a_logs_name_with_anothers_key() -> None:
    impostor = NoteSigner(ACCESS.name, DIRECTORY.private_key)
    with pytest.raises(NoteError):
        open_checkpoint(sign_checkpoint(CHECKPOINT, impostor), ACCESS.verifier)


def test_rejects_a_signed_note_that_is_no_checkpoint() -> None:
    with pytest.raises(NoteError):
        open_checkpoint(sign_note("gov.example/access\nhello\n", [ACCESS]), ACCESS.verifier)


def test_rejects_every_flipped_bit_of_a_signed_checkpoint() -> None:
    signed = sign_checkpoint(CHECKPOINT, ACCESS)
    for place in range(len(signed)):
        for bit in range(8):
            with pytest.raises(NoteError):
                open_checkpoint(
                    signed[:place] + bytes([signed[place] ^ 1 << bit]) + signed[place + 1 :], ACCESS.verifier
                )
