"""Proofs are those of C2SP tlog-proof: one encoding, and nothing believed but the log's key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.errors import CoreError, NoteError, ProofError
from exchange.core.merkle import MAX_SIZE, leaf_hash, paths_of, root_of
from exchange.core.note import NoteSigner, encode_base64
from exchange.core.tlog_proof import MAX_EXTRA, MAX_PROOF, TlogProof, encode_proof, parse_proof, verify_proof

LOG = NoteSigner("gov.example/access", Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
OTHER = NoteSigner("gov.example/access", Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)))
LEAVES = [b"zero", b"one", b"two"]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
NOTE = sign_checkpoint(Checkpoint(LOG.name, 3, root_of(HASHES)), LOG)
PROOF = TlogProof(1, paths_of(HASHES)[1], NOTE, b"one")
TEXT = encode_proof(PROOF)

PROOFS = st.builds(
    TlogProof,
    st.integers(0, MAX_SIZE - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple),
    st.binary(min_size=1, max_size=40) | st.just(b"\n\n"),
    st.binary(max_size=8),
)


def test_is_written_as_the_spec_shows_it() -> None:
    zero, two = encode_base64(HASHES[0]), encode_base64(HASHES[2])
    head = f"c2sp.org/tlog-proof@v1\nextra b25l\nindex 1\n{zero}\n{two}\n\ngov.example/access\n3\n"
    assert TEXT.startswith(head.encode())
    assert TEXT.endswith(NOTE)
    assert encode_proof(TlogProof(0, (), NOTE)) == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + NOTE


@given(PROOFS)
def test_a_proof_reads_back_as_written(proof: TlogProof) -> None:
    assert parse_proof(encode_proof(proof)) == proof


@given(
    st.binary(max_size=80)
    | st.lists(
        st.sampled_from(
            [
                "c2sp.org/tlog-proof@v1",
                "extra YQ==",
                "extra ",
                "extra YR==",
                "index 0",
                "index 01",
                encode_base64(bytes(32)),
            ]
        )
        | st.text(max_size=3)
    ).map(lambda lines: "\n".join([*lines, "", "a\n"]).encode())
)
def test_any_bytes_are_one_proofs_only_encoding_or_refused(data: bytes) -> None:
    try:
        proof = parse_proof(data)
    except ProofError:
        return
    assert encode_proof(proof) == data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"c2sp", b" c2sp"),
        (b"extra b25l", b"extra "),
        (b"extra b25l", b"extra b25l="),
        (b"extra b25l", b"extra  b25l"),
        (b"extra b25l\n", b"extra b25l\nextra b25l\n"),
        (b"extra b25l\nindex 1", b"index 1\nextra b25l"),
        (b"index 1\n", b""),
        (b"index 1", b"index"),
        (b"index 1", b"index 01"),
        (b"index 1", b"index +1"),
        (b"index 1", b"index \xd9\xa1"),
        (b"index 1", b"index 9223372036854775807"),
        (b"index 1", b"index 1\r"),
        (b"index 1\n", b"index 1\n\n"),
        (b"index 1\n", b"index 1\nQUJD\n"),
        (b"=\n\n", b"= \n\n"),
        (NOTE, b""),
        (b"\n\n" + NOTE, b"\n" + NOTE),
    ],
)
def test_refuses_every_other_encoding(old: bytes, new: bytes) -> None:
    assert old in TEXT
    with pytest.raises(CoreError):
        verify_proof(parse_proof(TEXT.replace(old, new, 1)), b"one", LOG.verifier)


def test_refuses_what_is_too_long() -> None:
    with pytest.raises(ProofError, match="at most"):
        parse_proof(bytes(MAX_PROOF + 1))
    for change in ({"extra": bytes(MAX_EXTRA + 1)}, {"path": (bytes(32),) * 64}, {"path": (bytes(31),)}, {"index": -1}):
        with pytest.raises(ProofError):
            TlogProof(**({"index": 0, "path": (), "checkpoint": NOTE} | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("index", range(3))
def test_proves_each_entry_of_a_log(index: int) -> None:
    proof = TlogProof(index, paths_of(HASHES)[index], NOTE)
    assert verify_proof(parse_proof(encode_proof(proof)), LEAVES[index], LOG.verifier).size == 3


def test_refuses_another_leaf_index_or_path() -> None:
    for proof, leaf in (
        (PROOF, b"two"),
        (TlogProof(0, PROOF.path, NOTE), b"one"),
        (TlogProof(1, PROOF.path[::-1], NOTE), b"one"),
        (TlogProof(1, PROOF.path[:1], NOTE), b"one"),
        (TlogProof(1, (*PROOF.path, bytes(32)), NOTE), b"one"),
    ):
        with pytest.raises(ProofError):
            verify_proof(proof, leaf, LOG.verifier)


def test_refuses_a_checkpoint_by_another_key_or_of_another_log() -> None:
    forged = sign_checkpoint(Checkpoint(OTHER.name, 3, root_of(HASHES)), OTHER)
    named = NoteSigner("gov.example/directory", LOG.private_key)
    other = sign_checkpoint(Checkpoint(named.name, 3, root_of(HASHES)), named)
    for note in (forged, other, NOTE[:-2], b"x"):
        with pytest.raises(NoteError):
            verify_proof(TlogProof(1, PROOF.path, note), b"one", LOG.verifier)
