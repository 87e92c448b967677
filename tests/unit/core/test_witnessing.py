"""Requests to a witness are those of C2SP tlog-witness, and a checkpoint is cosigned only where it goes on."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.checkpoint import Checkpoint, encode_checkpoint, sign_checkpoint
from exchange.core.errors import DecodeError
from exchange.core.merkle import EMPTY_ROOT, MAX_SIZE, Frontier, NodeId, consistency_proof, leaf_hash
from exchange.core.note import NoteSigner, decode_base64, encode_base64, sign_note
from exchange.core.witnessing import (
    MAX_NOTE,
    MAX_PROOF,
    MAX_REQUEST,
    AddCheckpoint,
    Rejected,
    Submission,
    encode_add_checkpoint,
    encode_size,
    judge,
    open_submission,
    parse_add_checkpoint,
    parse_size,
)

# The example of C2SP tlog-witness.
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()  # noqa: E501

ACCESS = NoteSigner("gov.example/access", Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)))
STRANGER = NoteSigner("gov.example/access", Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)))
LOGS = {ACCESS.name: ACCESS.verifier}
HASHES = [leaf_hash(bytes([number])) for number in range(16)]

REQUESTS = st.builds(
    AddCheckpoint,
    st.integers(0, MAX_SIZE),
    st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF).map(tuple),
    st.binary(min_size=1, max_size=300),
)


def root(size: int) -> bytes:
    return Frontier().extend(HASHES[:size])[0].root()


def note(size: int, *, signer: NoteSigner = ACCESS, of: bytes | None = None) -> bytes:
    return sign_checkpoint(Checkpoint(ACCESS.name, size, root(size) if of is None else of), signer)


def proof(old: int, new: int) -> tuple[bytes, ...]:
    _, nodes = Frontier().extend(HASHES[:new])
    known = {NodeId(node.level, node.index): node.hash for node in nodes}
    return consistency_proof(old, new, lambda ids: [known[node] for node in ids])


def body(old: int, new: int, *, path: tuple[bytes, ...] | None = None, signed: bytes | None = None) -> bytes:
    path = proof(old, new) if path is None else path
    return encode_add_checkpoint(AddCheckpoint(old, path, note(new) if signed is None else signed))


def opened(data: bytes) -> Submission:
    submission = open_submission(data, LOGS)
    assert isinstance(submission, Submission), submission
    return submission


def latest(size: int) -> Checkpoint:
    return Checkpoint(ACCESS.name, size, root(size))


def status(found: object) -> int:
    assert isinstance(found, Rejected), found
    return found.status


# --- the wire


def test_reads_and_writes_the_published_example() -> None:
    request = parse_add_checkpoint(EXAMPLE)
    assert (request.old_size, len(request.proof)) == (20852014, 4)
    assert request.proof[0] == decode_base64("PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=")
    assert request.note.startswith(b"example.com/behind-the-sofa\n20852163\n")
    assert request.origin == "example.com/behind-the-sofa"
    assert encode_add_checkpoint(request) == EXAMPLE


@given(REQUESTS)
def test_a_request_reads_back_as_written(request: AddCheckpoint) -> None:
    assert parse_add_checkpoint(encode_add_checkpoint(request)) == request


@given(
    st.binary()
    | st.lists(
        st.sampled_from([b"old ", b"0", b"1", b"\n", b"\n\n", b" ", encode_base64(HASHES[0]).encode(), b"note\n"])
    ).map(b"".join)
)
def test_any_bytes_are_one_requests_only_encoding_or_refused(data: bytes) -> None:
    try:
        request = parse_add_checkpoint(data)
    except DecodeError:
        return
    assert encode_add_checkpoint(request) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 1\n",
        b"old 1\n\n",
        b"old 01\n\nnote\n",
        b"old -1\n\nnote\n",
        b"old +1\n\nnote\n",
        b"old  1\n\nnote\n",
        b"Old 1\n\nnote\n",
        b"old 1 \n\nnote\n",
        b"old 1\r\n\r\nnote\n",
        b"\nold 1\n\nnote\n",
        b"old " + str(MAX_SIZE + 1).encode() + b"\n\nnote\n",
        "old ٣\n\nnote\n".encode(),
        b"old 1\nAAAA\n\nnote\n",
        b"old 1\n" + encode_base64(HASHES[0]).encode().rstrip(b"=") + b"\n\nnote\n",
        b"old 1\n" + encode_base64(bytes(32)).encode() * 2 + b"\n\nnote\n",
        b"old 1\n" + (encode_base64(bytes(32)).encode() + b"\n") * (MAX_PROOF + 1) + b"\nnote\n",
        b"old 1\n\n" + bytes(MAX_NOTE + 1),
        b"old 1\n\n" + bytes(MAX_REQUEST),
    ],
)
def test_refuses_malformed_request(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_add_checkpoint(data)
    assert status(open_submission(data, LOGS)) == 400


@pytest.mark.parametrize("data", [b"", b"1", b"01\n", b"-1\n", b"1\n\n", b" 1\n", b"9223372036854775808\n"])
def test_refuses_malformed_size(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_size(data)


@given(st.integers(0, MAX_SIZE))
def test_a_size_reads_back_as_written(size: int) -> None:
    assert parse_size(encode_size(size)) == size


# --- what needs no memory


def test_unknown_log_is_not_found() -> None:
    assert status(open_submission(body(0, 3), {})) == 404


def test_checkpoint_that_only_a_stranger_signed_is_forbidden() -> None:
    assert status(open_submission(body(0, 3, signed=note(3, signer=STRANGER)), LOGS)) == 403


def test_signature_over_another_text_is_forbidden() -> None:
    assert status(open_submission(body(0, 3, signed=note(3).replace(b"\n3\n", b"\n4\n")), LOGS)) == 403


def test_signed_text_that_is_no_checkpoint_is_bad() -> None:
    signed = sign_note(f"{ACCESS.name}\nthree\n", (ACCESS,))
    assert status(open_submission(body(0, 3, signed=signed), LOGS)) == 400


def test_unsigned_checkpoint_is_bad() -> None:
    text = encode_checkpoint(latest(3)).encode()
    assert status(open_submission(body(0, 3, signed=text), LOGS)) == 400


def test_old_size_above_the_checkpoints_is_bad() -> None:
    assert status(open_submission(body(4, 3, path=()), LOGS)) == 400


def test_further_signatures_are_passed_over() -> None:
    both = sign_note(encode_checkpoint(latest(3)), (STRANGER, ACCESS))
    assert opened(body(0, 3, signed=both)).checkpoint == latest(3)


# --- what the witness remembers


def test_first_checkpoint_needs_no_proof() -> None:
    assert judge(opened(body(0, 5)), None) is None


@given(st.integers(0, 16), st.integers(0, 16))
def test_a_log_that_grew_is_cosigned(one: int, other: int) -> None:
    old, new = sorted((one, other))
    assert judge(opened(body(old, new)), latest(old)) is None


def test_the_same_checkpoint_is_cosigned_again() -> None:
    assert judge(opened(body(5, 5)), latest(5)) is None


@pytest.mark.parametrize("old", [0, 4, 6])
def test_another_old_size_conflicts_and_names_the_size(old: int) -> None:
    found = judge(opened(body(old, 7)), latest(5))
    assert isinstance(found, Rejected)
    assert (found.status, found.size) == (409, 5)


def test_old_size_without_a_memory_of_the_log_conflicts_with_zero() -> None:
    found = judge(opened(body(3, 5)), None)
    assert isinstance(found, Rejected)
    assert (found.status, found.size) == (409, 0)


def test_second_root_of_one_size_conflicts() -> None:
    other = note(5, of=leaf_hash(b"another history"))
    assert status(judge(opened(body(5, 5, signed=other)), latest(5))) == 409


def test_history_that_does_not_go_on_is_unprocessable() -> None:
    other = note(7, of=leaf_hash(b"another history"))
    assert status(judge(opened(body(5, 7, signed=other)), latest(5))) == 422


@pytest.mark.parametrize(
    "path",
    [(), proof(5, 7)[:-1], (*proof(5, 7), HASHES[0]), tuple(reversed(proof(5, 7)))],
    ids=["none", "short", "long", "reversed"],
)
def test_wrong_proof_is_unprocessable(path: tuple[bytes, ...]) -> None:
    assert status(judge(opened(body(5, 7, path=path)), latest(5))) == 422


def test_proof_from_nothing_must_be_empty() -> None:
    assert status(judge(opened(body(0, 7, path=(HASHES[0],))), None)) == 422


def test_checkpoint_of_an_empty_log_is_cosigned() -> None:
    assert judge(opened(body(0, 0)), None) is None
    assert root(0) == EMPTY_ROOT
