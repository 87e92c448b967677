"""Every message of a batch stands alone as evidence, for one exchange, under one key."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.envelope import (
    ENTRY,
    KINDS,
    REFUSAL,
    REQUEST,
    RESPONSE,
    Draft,
    Envelope,
    batch_statement,
    decode_envelope,
    message_digest,
    pae,
    prefixed,
    sign,
    sign_batch,
    verify_signature,
)
from exchange.core.errors import DecodeError, SignatureError
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash, node_hash
from exchange.core.wire import encode
from exchange.v1.envelope_pb2 import Envelope as EnvelopeMessage
from tests.corruption import anything
from tests.memory import signer
from tests.world import ORIGIN

KEY = signer("envelope")
KEY_ID = key_id(KEY.public_key)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def batch(size: int, kind: str = REQUEST) -> tuple[Envelope, ...]:
    """As many envelopes as the size, under one signature."""
    return sign_batch(KEY, ORIGIN, [Draft(kind, b"message %d" % number) for number in range(size)])


def verify(envelope: Envelope, origin: str = ORIGIN) -> None:
    verify_signature(envelope, origin, KEY.public_key)


def refused(envelope: Envelope, reason: str, origin: str = ORIGIN) -> None:
    """The signature does not hold."""
    with pytest.raises(SignatureError, match=reason):
        verify(envelope, origin)


# --- what is signed ----------------------------------------------------------------------------------


def test_the_pre_authentication_encoding_is_that_of_dsse() -> None:
    # github.com/secure-systems-lab/dsse, protocol.md, "Test vectors".
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("字", b"") == b"DSSEv1 3 \xe5\xad\x97 0 "


def test_a_digest_covers_kind_and_payload() -> None:
    assert message_digest(REQUEST, b"x") == leaf_hash(b"DSSEv1 19 exchange.v1/request 1 x")
    assert len({message_digest(kind, payload) for kind in KINDS for payload in (b"", b"x")}) == 2 * len(KINDS)


@given(st.text(max_size=30), st.binary(max_size=300))
def test_a_digest_is_the_leaf_hash_of_the_pre_authentication_encoding(kind: str, payload: bytes) -> None:
    name = kind.encode()
    encoded = b" ".join((b"DSSEv1", str(len(name)).encode(), name, str(len(payload)).encode(), payload))
    assert pae(kind, payload) == encoded
    assert message_digest(kind, payload) == leaf_hash(encoded)


def test_a_batch_statement_names_origin_key_size_and_root() -> None:
    origin, root = "city.example", bytes(range(32))
    body = b"\x00\x0ccity.example" + KEY_ID + b"\0\0\0\0\0\x01\0\0" + root
    assert batch_statement(origin, KEY_ID, 65_536, root) == b"DSSEv1 17 exchange.v1/batch %d " % len(body) + body


def test_names_are_prefixed_with_their_length_in_bytes() -> None:
    assert prefixed("字") == b"\x00\x03\xe5\xad\x97"
    assert prefixed("a" * 256)[:2] == b"\x01\x00"


def test_a_message_alone_is_a_tree_of_one() -> None:
    envelope = sign(KEY, ORIGIN, Draft(ENTRY, b"alone"))
    assert (envelope.tree_size, envelope.leaf_index, envelope.path) == (1, 0, ())
    assert envelope == sign_batch(KEY, ORIGIN, [Draft(ENTRY, b"alone")])[0]
    statement = batch_statement(ORIGIN, KEY_ID, 1, envelope.digest)
    assert envelope.signature == KEY.sign(statement)
    verify(envelope)


def test_two_messages_meet_in_one_node() -> None:
    left, right = batch(2)
    root = node_hash(left.digest, right.digest)
    assert left.signature == right.signature == KEY.sign(batch_statement(ORIGIN, KEY_ID, 2, root))
    assert (left.path, right.path) == ((right.digest,), (left.digest,))


# --- what verifies -----------------------------------------------------------------------------------


def test_every_message_of_a_batch_stands_alone() -> None:
    for size in range(2, 71):
        envelopes = batch(size)
        assert len({envelope.signature for envelope in envelopes}) == 1
        for envelope in envelopes:
            verify(decode_envelope(envelope.encode()))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 70])
def test_a_path_of_another_length_is_refused(size: int) -> None:
    for envelope in batch(size):
        refused(replace(envelope, path=(*envelope.path, bytes(32))), "path does not fit")
        if envelope.path:
            refused(replace(envelope, path=envelope.path[:-1]), "path does not fit")


@pytest.mark.parametrize("size", [2, 5, 70])
def test_a_message_in_anothers_place_is_refused(size: int) -> None:
    first, second = batch(size)[:2]
    refused(replace(first, leaf_index=1), "does not verify")
    refused(replace(first, path=second.path), "does not verify")
    refused(replace(first, payload=second.payload), "does not verify")
    refused(replace(first, leaf_index=size), "path does not fit")
    refused(replace(first, leaf_index=-1), "path does not fit")


def test_a_size_that_leads_to_the_same_root_is_refused() -> None:
    # Index 0 of 3 and of 4 have paths of one length, and with three messages the same root could be claimed.
    first = batch(3)[0]
    refused(replace(first, tree_size=4), "does not verify")


def test_a_hash_of_another_length_is_refused() -> None:
    first = batch(2)[0]
    for path in ((first.path[0][:31],), (first.path[0] + b"\0",), (b"",)):
        refused(replace(first, path=path), "path does not fit")


CHANGES: list[dict[str, Any]] = [
    {"payload": b"other"},
    {"payload": b""},
    {"kind": RESPONSE},
    {"kind": "exchange.v1/requests"},
    {"signature": b""},
    {"signature": bytes(72)},
    {"signature": b"\x30\x06\x02\x01\x00\x02\x01\x00"},
    {"signature": b"\x30\x06\x02\x01\x01\x02\x01\x01"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_an_altered_message_is_refused(changes: dict[str, Any]) -> None:
    refused(replace(batch(3)[1], **changes), "does not verify")


def test_a_signature_is_for_one_exchange() -> None:
    for origin in ("town.example", "", "city.example.", "CITY.example"):
        refused(batch(1)[0], "does not verify", origin)


def test_a_signature_is_of_the_named_key() -> None:
    envelope, other = batch(1)[0], signer("other")
    with pytest.raises(SignatureError, match="names another key"):
        verify_signature(envelope, ORIGIN, other.public_key)
    claimed = replace(envelope, key_id=key_id(other.public_key))
    with pytest.raises(SignatureError, match="does not verify"):
        verify_signature(claimed, ORIGIN, other.public_key)
    refused(claimed, "names another key")


def test_a_key_that_is_none_is_refused() -> None:
    envelope = replace(batch(1)[0], key_id=key_id(b"no key"))
    with pytest.raises(SignatureError, match="cannot be read"):
        verify_signature(envelope, ORIGIN, b"no key")


def malleated(envelope: Envelope) -> Envelope:
    """The same message under ECDSA's other signature for the same root, (r, n - s)."""
    r, s = decode_dss_signature(envelope.signature)
    return replace(envelope, signature=encode_dss_signature(r, P256_ORDER - s))


def test_a_malleated_signature_is_the_same_message() -> None:
    for envelope in batch(3):
        other = malleated(envelope)
        verify(other)
        assert other.signature != envelope.signature
        assert other.encode() != envelope.encode()
        assert other.digest == envelope.digest


def test_the_same_message_in_two_batches_is_the_same_message() -> None:
    draft = Draft(REQUEST, b"message 0")
    alone = sign(KEY, ORIGIN, draft)
    assert {envelope.digest for envelope in (alone, batch(2)[0], batch(70)[0])} == {alone.digest}


@given(st.data())
def test_no_change_of_a_place_in_a_batch_verifies(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 9))
    envelope = data.draw(st.sampled_from(batch(size)))
    hashes = st.sampled_from([bytes(32), envelope.digest, *envelope.path])
    claimed = replace(
        envelope,
        tree_size=data.draw(st.integers(1, 10)),
        leaf_index=data.draw(st.integers(0, 10)),
        path=tuple(data.draw(st.lists(hashes, max_size=5))),
    )
    try:
        verify(claimed)
    except SignatureError:
        assert claimed != envelope
        return
    assert claimed == envelope


# --- the frame ---------------------------------------------------------------------------------------

VALID = [batch(3)[1].encode(), replace(batch(1)[0], attachments=(b"", b"ciphertext")).encode()]


@given(anything(*VALID))
def test_any_bytes_are_one_envelopes_only_frame_or_refused(data: bytes) -> None:
    try:
        envelope = decode_envelope(data)
    except DecodeError:
        return
    assert envelope.encode() == data
    assert 0 <= envelope.leaf_index < envelope.tree_size <= 65_536


@given(
    st.sampled_from(sorted(KINDS)),
    st.binary(),
    st.lists(st.binary(min_size=32, max_size=32)),
    st.lists(st.binary(max_size=4)),
)
def test_an_envelope_reads_back_as_written(
    kind: str, payload: bytes, path: list[bytes], attachments: list[bytes]
) -> None:
    envelope = Envelope(KEY_ID, kind, payload, 5, 4, tuple(path), b"s" * 70, tuple(attachments))
    assert decode_envelope(envelope.encode()) == envelope
    assert decode_envelope(envelope.encode(), kind) == envelope


FRAMES: list[tuple[str, dict[str, Any], str]] = [
    ("no kind", {"kind": ""}, "kind is not known"),
    ("an unknown kind", {"kind": "exchange.v1/batch"}, "kind is not known"),
    ("a kind of a later version", {"kind": "exchange.v2/request"}, "kind is not known"),
    ("a short key id", {"key_id": bytes(31)}, "impossible length"),
    ("a long key id", {"key_id": bytes(33)}, "impossible length"),
    ("no signature", {"signature": b""}, "impossible length"),
    ("a signature of 73 bytes", {"signature": bytes(73)}, "impossible length"),
    ("an empty batch", {"tree_size": 0, "leaf_index": 0}, "place in its batch"),
    ("an index that is the size", {"tree_size": 5, "leaf_index": 5}, "place in its batch"),
    ("an index beyond the size", {"tree_size": 5, "leaf_index": 6}, "place in its batch"),
    ("a batch of 65,537", {"tree_size": 65_537, "leaf_index": 0}, "place in its batch"),
    ("a batch of 2**32 - 1", {"tree_size": 2**32 - 1, "leaf_index": 65_536}, "place in its batch"),
]


def frame(**changes: Any) -> bytes:
    """A serialised envelope, right but for the changes."""
    fields = {"key_id": KEY_ID, "kind": REQUEST, "payload": b"p", "tree_size": 1, "signature": b"s"}
    return encode(EnvelopeMessage(**(fields | changes)))


@pytest.mark.parametrize(("changes", "reason"), [f[1:] for f in FRAMES], ids=[f[0] for f in FRAMES])
def test_refuses_a_frame_with(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_envelope(frame(**changes))


def test_reads_a_frame_at_its_limits() -> None:
    envelope = decode_envelope(frame(tree_size=65_536, leaf_index=65_535, signature=bytes(72)))
    assert (envelope.tree_size, envelope.leaf_index) == (65_536, 65_535)


@pytest.mark.parametrize("kind", [RESPONSE, REFUSAL, ENTRY])
def test_a_frame_of_another_kind_than_asked_for_is_refused(kind: str) -> None:
    with pytest.raises(DecodeError, match=r"is not exchange\.v1/request"):
        decode_envelope(batch(1, kind)[0].encode(), REQUEST)


def test_a_frame_over_its_limit_is_refused() -> None:
    data = frame(attachments=[bytes(1000)])
    assert decode_envelope(data, REQUEST, len(data))
    with pytest.raises(DecodeError, match="are allowed"):
        decode_envelope(data, REQUEST, len(data) - 1)
    with pytest.raises(DecodeError, match="4,194,304 are allowed"):
        decode_envelope(frame(attachments=[bytes(4 * 1024 * 1024)]))


@pytest.mark.parametrize("change", [bytes, lambda data: data[:-1], lambda data: data + b"\0"])
def test_a_frames_payload_stays_closed(change: Callable[[bytes], bytes]) -> None:
    envelope = replace(batch(1)[0], payload=change(b"\xff\xfe"))
    assert decode_envelope(envelope.encode()).payload == envelope.payload


def test_bare_is_the_same_message_without_attachments() -> None:
    envelope = sign(KEY, ORIGIN, Draft(REQUEST, b"p", (b"a",)))
    assert envelope.attachments == (b"a",)
    bare = envelope.bare()
    assert (bare.attachments, bare.digest) == ((), envelope.digest)
    assert bare.bare() is bare
    verify(bare)
