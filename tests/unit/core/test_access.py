"""A receipt proves one entry of the access log, and no other entry passes for it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from exchange.core.access import (
    access_body,
    code_name,
    kind_name,
    read_access_leaf,
    read_refusal,
    refusal_draft,
    verify_receipt,
    verify_release,
    verify_settlement,
)
from exchange.core.decision import Deny
from exchange.core.envelope import REFUSAL, Draft, decode_envelope
from exchange.core.errors import CoreError, DecodeError, NoteError, ProofError
from exchange.core.merkle import leaf_hash
from exchange.core.wire import MAX_TIME, decode, encode
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf, Code, Refusal
from exchange.v1.envelope_pb2 import Receipt
from tests.corruption import anything
from tests.memory import MemoryLog
from tests.world import APPLICATIONS, BROKER, ORIGIN, REGISTRY, START, World

WORLD = World.standard()
REQUEST = WORLD.request()
RESPONSE = WORLD.respond(REQUEST)
WITHHELD = WORLD.withhold(REQUEST, RESPONSE)
RECEIPT = WORLD.release(REQUEST, RESPONSE)
DENY = Deny(5, Code.CODE_NO_AGREEMENT, "no such agreement")
REFUSED, REFUSED_RECEIPT = WORLD.refuse(REQUEST, DENY)
VERIFIER = WORLD.access_log.signer.verifier


def receipt(**changes: Any) -> Receipt:
    """The receipt of the release, right but for the changes."""
    copy = Receipt.FromString(encode(RECEIPT))
    for name, value in changes.items():
        copy.ClearField(name)
        copy.MergeFrom(Receipt(**{name: value}))
    return copy


# --- leaves and bodies -------------------------------------------------------------------------------


@given(anything(*WORLD.access_log.leaves))
def test_any_bytes_are_one_leafs_only_encoding_or_refused(data: bytes) -> None:
    try:
        leaf = read_access_leaf(data)
    except DecodeError:
        return
    assert encode(leaf) == data
    codeless = (AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_REFUSALS, AccessKind.ACCESS_KIND_READ)
    assert (leaf.kind in codeless) == (leaf.code == 0)


@pytest.mark.parametrize("kind", sorted(set(AccessKind.keys()) - {"ACCESS_KIND_REFUSALS", "ACCESS_KIND_READ"}))
@pytest.mark.parametrize("code", ["CODE_UNSPECIFIED", "CODE_EXPIRED"])
def test_a_leaf_names_a_code_exactly_where_nothing_was_released(kind: str, code: str) -> None:
    data = encode(AccessLeaf(format=1, kind=AccessKind.Value(kind), code=Code.Value(code)))
    fits = (kind.endswith("_RELEASED"), code.endswith("UNSPECIFIED"))
    if kind != "ACCESS_KIND_UNSPECIFIED" and fits in {(True, True), (False, False)}:
        assert read_access_leaf(data).kind == AccessKind.Value(kind)
        return
    with pytest.raises(DecodeError, match="has a kind, and a code"):
        read_access_leaf(data)


def test_a_leaf_has_at_most_4_kib() -> None:
    with pytest.raises(DecodeError, match="at most 4,096 are allowed"):
        read_access_leaf(bytes(4097))


def test_a_leaf_holds_names_and_digests_but_no_query_or_row() -> None:
    leaf = read_access_leaf(RECEIPT.leaf)
    assert (leaf.requester, leaf.provider, leaf.time) == (str(APPLICATIONS), str(REGISTRY), START)
    assert (leaf.request_digest, leaf.response_digest) == (REQUEST.digest, RESPONSE.digest)
    assert leaf.directory_size == WORLD.directory.size


def test_a_body_holds_the_envelopes_without_attachments() -> None:
    assert REQUEST.attachments
    body = decode(AccessBody, access_body(REQUEST, RESPONSE))
    assert decode_envelope(body.request) == REQUEST.bare()
    assert decode_envelope(body.response) == RESPONSE.bare()
    assert body.refusal == b""
    refused = decode(AccessBody, access_body(None, refusal=REFUSED))
    assert (refused.request, refused.response, decode_envelope(refused.refusal)) == (b"", b"", REFUSED)


def test_codes_and_kinds_have_names_for_people() -> None:
    assert code_name(Code.CODE_NO_AGREEMENT) == "NO_AGREEMENT"
    assert kind_name(AccessKind.ACCESS_KIND_UNRELEASED) == "unreleased"


# --- refusals ----------------------------------------------------------------------------------------


def test_a_refusal_says_what_was_refused_and_why() -> None:
    refusal = read_refusal(REFUSED)
    assert (refusal.check, refusal.code, refusal.reason) == (5, Code.CODE_NO_AGREEMENT, "no such agreement")
    assert (refusal.refuser, refusal.request_digest) == (str(BROKER), REQUEST.digest)
    assert (refusal.directory_size, refusal.refused_at) == (WORLD.directory.size, START)


def test_a_refusals_envelope_stays_under_4_kib() -> None:
    deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "字" * 10_000)
    draft = refusal_draft(deny, str(BROKER), REQUEST.digest, 2**64 - 1, 2**64 - 1)
    envelope = WORLD.sign(draft, BROKER)
    assert len(envelope.encode()) <= 4096
    assert read_refusal(envelope).reason == "字" * 500


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("no code", {"code": 0}, "names a code and a request"),
    ("a later code", {"code": 99}, "does not know"),
    ("no digest", {"request_digest": b""}, "names a code and a request"),
    ("a short digest", {"request_digest": bytes(31)}, "names a code and a request"),
    ("a later format", {"format": 2}, "format 2"),
    ("4 KiB of reason", {"reason": "a" * 4096}, "at most 4,096 are allowed"),
]


@pytest.mark.parametrize(("changes", "reason"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_refuses_a_refusal_with(changes: dict[str, Any], reason: str) -> None:
    fields = {"format": 1, "code": 8, "request_digest": bytes(32)}
    envelope = WORLD.sign(Draft(REFUSAL, encode(Refusal(**(fields | changes)))), BROKER)
    with pytest.raises(DecodeError, match=reason):
        read_refusal(envelope)


def test_nothing_of_another_kind_is_a_refusal() -> None:
    for envelope in (REQUEST, RESPONSE, replace(REFUSED, kind="exchange.v1/entry")):
        with pytest.raises(DecodeError, match="not a refusal"):
            read_refusal(envelope)


@given(anything(REFUSED.payload))
def test_any_payload_is_one_refusal_or_refused(payload: bytes) -> None:
    try:
        refusal = read_refusal(replace(REFUSED, payload=payload))
    except DecodeError:
        return
    assert encode(refusal) == payload


# --- receipts ----------------------------------------------------------------------------------------


def test_a_receipt_proves_the_release() -> None:
    proven = verify_release(RECEIPT, VERIFIER, REQUEST.digest, RESPONSE.digest)
    assert (proven.index, proven.leaf_hash) == (1, leaf_hash(RECEIPT.leaf))
    assert proven.checkpoint.size == 2
    assert proven.leaf.kind == AccessKind.ACCESS_KIND_RELEASED


def test_a_receipt_holds_under_every_later_checkpoint() -> None:
    for index in range(WORLD.access_log.size):
        for size in range(index + 1, WORLD.access_log.size + 1):
            assert verify_receipt(WORLD.access_log.receipt(index, size), VERIFIER).index == index


def test_a_receipt_is_of_one_request_and_one_response() -> None:
    for digests in ((bytes(32), RESPONSE.digest), (REQUEST.digest, bytes(32)), (RESPONSE.digest, REQUEST.digest)):
        with pytest.raises(ProofError, match="another request or response"):
            verify_release(RECEIPT, VERIFIER, *digests)


@pytest.mark.parametrize("other", [WITHHELD, REFUSED_RECEIPT], ids=["unreleased", "refused"])
def test_only_a_release_is_a_release(other: Receipt) -> None:
    with pytest.raises(ProofError, match="not a release"):
        verify_release(other, VERIFIER, REQUEST.digest, RESPONSE.digest)


def test_released_and_unreleased_both_settle_an_answer() -> None:
    for settled in (RECEIPT, WITHHELD):
        assert verify_settlement(settled, VERIFIER, RESPONSE.digest).leaf.response_digest == RESPONSE.digest
        with pytest.raises(ProofError, match="settles another answer"):
            verify_settlement(settled, VERIFIER, bytes(32))


@pytest.mark.parametrize("digest", [RESPONSE.digest, b""], ids=["the answer's", "none"])
def test_a_refusal_settles_no_answer(digest: bytes) -> None:
    with pytest.raises(ProofError, match="settles another answer"):
        verify_settlement(REFUSED_RECEIPT, VERIFIER, digest)


def test_a_leaf_that_is_not_in_the_tree_proves_nothing() -> None:
    forged = read_access_leaf(RECEIPT.leaf)
    forged.requester = str(BROKER)
    for changed in ({"leaf": encode(forged)}, {"leaf": b""}, {"leaf": RECEIPT.leaf + b"\0"}):
        with pytest.raises(ProofError, match="root"):
            verify_release(receipt(**changed), VERIFIER, REQUEST.digest, RESPONSE.digest)


@pytest.mark.parametrize("path", [[], [bytes(32)], [*RECEIPT.path, bytes(32)], [RECEIPT.path[0][:31]]])
def test_another_path_proves_nothing(path: list[bytes]) -> None:
    with pytest.raises(ProofError):
        verify_receipt(receipt(path=path), VERIFIER)


@pytest.mark.parametrize("index", [0, 2, 2**63, 2**64 - 1])
def test_another_index_proves_nothing(index: int) -> None:
    with pytest.raises(ProofError):
        verify_receipt(receipt(index=index), VERIFIER)


def test_a_checkpoint_of_the_other_log_or_another_exchange_proves_nothing() -> None:
    town = MemoryLog("town.example/access")
    impostor = MemoryLog(f"{ORIGIN}/access")
    impostor.signer = replace(impostor.signer, private_key=town.signer.private_key)
    for log in (town, impostor, WORLD.directory_log.copy()):
        forged = log.copy() if log.size else log
        if not forged.size:
            forged.append(WITHHELD.leaf)
            forged.append(RECEIPT.leaf)
        with pytest.raises(NoteError):
            verify_receipt(receipt(checkpoint=forged.checkpoint(2)), VERIFIER)


def test_a_checkpoint_without_the_entry_proves_nothing() -> None:
    with pytest.raises(ProofError):
        verify_receipt(receipt(checkpoint=WORLD.access_log.checkpoint(1)), VERIFIER)
    with pytest.raises(ProofError):
        verify_receipt(receipt(checkpoint=WORLD.access_log.checkpoint(0)), VERIFIER)


@given(anything(encode(RECEIPT)))
def test_any_bytes_are_the_receipt_or_prove_nothing(data: bytes) -> None:
    try:
        proven = verify_receipt(decode(Receipt, data), VERIFIER)
    except CoreError:
        return
    assert proven.leaf == read_access_leaf(WORLD.access_log.leaves[proven.index])


def test_a_leafs_time_ends_with_the_calendar() -> None:
    """A time that no calendar has would stop every program that shows it: the auditor's above all."""
    leaf = AccessLeaf(format=1, time=MAX_TIME, kind=AccessKind.ACCESS_KIND_RELEASED)
    assert read_access_leaf(encode(leaf)).time == MAX_TIME
    leaf.time += 1
    with pytest.raises(DecodeError, match="beyond the year 9999"):
        read_access_leaf(encode(leaf))
