"""Entries of the access log, refusals, and the receipts that prove an entry (DESIGN sections 6 and 7)."""

from dataclasses import dataclass

from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.decision import Deny
from exchange.core.envelope import DIGEST, REFUSAL, REQUEST, RESPONSE, Draft, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError, NameFormatError, ProofError
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.note import Verifier
from exchange.core.reads import check_read
from exchange.core.summary import check_summary
from exchange.core.wire import FORMAT, MAX_TIME, decode, encode
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf, Code, Refusal
from exchange.v1.envelope_pb2 import Receipt

MAX_REFUSAL = 4 * 1024
MAX_LEAF = 4 * 1024
MAX_REASON = 500

_CODELESS = frozenset({AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_REFUSALS, AccessKind.ACCESS_KIND_READ})


def code_name(code: "Code.ValueType") -> str:
    """A code as people and `google.rpc.ErrorInfo` read it: NO_AGREEMENT."""
    return Code.Name(code).removeprefix("CODE_")


def kind_name(kind: "AccessKind.ValueType") -> str:
    """A kind of access entry as people read it: released."""
    return AccessKind.Name(kind).removeprefix("ACCESS_KIND_").lower()


def refusal_draft(
    deny: Deny, refuser: str, request_digest: bytes, directory_size: int, now: int, summed_up: int = 0
) -> Draft:
    """An unsigned refusal.

    Args:
        deny: which check, code and reason.
        refuser: the party that will sign.
        request_digest: the request's message digest, or the SHA-256 of what could not be parsed.
        directory_size: entries folded when it was decided; now: milliseconds.
        summed_up: its place in the summary that stands for it; 0 where it has an entry of its own.
    """
    refusal = Refusal(
        format=FORMAT,
        code=deny.code,
        refuser=refuser,
        request_digest=request_digest,
        check=deny.check,
        reason=deny.reason[:MAX_REASON],
        directory_size=directory_size,
        refused_at=now,
        summed_up=summed_up,
    )
    return Draft(REFUSAL, encode(refusal))


def read_refusal(envelope: Envelope) -> Refusal:
    """Read a refusal whose signature holds.

    Raises:
        DecodeError: another kind, or malformed.
    """
    if envelope.kind != REFUSAL:
        raise DecodeError("not a refusal")
    refusal = decode(Refusal, envelope.payload, MAX_REFUSAL)
    if refusal.code == Code.CODE_UNSPECIFIED or len(refusal.request_digest) != DIGEST:
        raise DecodeError("a refusal names a code and a request")
    return refusal


def access_body(request: Envelope | None, response: Envelope | None = None, refusal: Envelope | None = None) -> bytes:
    """The body beside an access leaf: envelopes without attachments."""
    parts = (envelope.bare().encode() if envelope else b"" for envelope in (request, response, refusal))
    return encode(AccessBody(**dict(zip(("request", "response", "refusal"), parts, strict=True))))


def read_access_leaf(data: bytes) -> AccessLeaf:
    """Read one leaf of the access log.

    Raises:
        DecodeError: malformed, or its kind and its other fields do not fit together.
    """
    leaf = decode(AccessLeaf, data, MAX_LEAF)
    if leaf.time > MAX_TIME:
        raise DecodeError("an access entry's time is beyond the year 9999")
    if leaf.kind == AccessKind.ACCESS_KIND_UNSPECIFIED or (leaf.kind in _CODELESS) != (
        leaf.code == Code.CODE_UNSPECIFIED
    ):
        raise DecodeError("an access entry has a kind, and a code exactly where one thing was not released")
    try:
        check_summary(leaf)
        check_read(leaf)
    except NameFormatError as error:
        raise DecodeError(str(error)) from error
    return leaf


def body_problem(leaf: AccessLeaf, body: bytes) -> str:
    """What is wrong with a body, which holds just the envelopes that the leaf names; empty where nothing is."""
    try:
        parts = decode(AccessBody, body)
        named = (
            (parts.request, REQUEST, leaf.request_digest),
            (parts.response, RESPONSE, leaf.response_digest),
            (parts.refusal, REFUSAL, leaf.refusal_digest),
        )
        for data, kind, digest in named:
            if data and decode_envelope(data, kind).digest != digest:
                return "its body is not the one that its leaf names"
        # A refusal's request may have been none; what was answered, or refused, is always there.
        if (leaf.response_digest and not parts.response) or (leaf.refusal_digest and not parts.refusal):
            return "its body is missing"
    except CoreError as error:
        return f"its body cannot be read: {error}"
    return ""


@dataclass(frozen=True, slots=True)
class Proven:
    """An access entry that a receipt proves."""

    index: int
    leaf: AccessLeaf
    leaf_hash: bytes
    checkpoint: Checkpoint


def verify_receipt(receipt: Receipt, verifier: Verifier) -> Proven:
    """Check that the access log holds an entry.

    Args:
        receipt: index, leaf, path and checkpoint.
        verifier: the access log's note key, out of the trust file.

    Raises:
        CoreError: the checkpoint is not the log's, or does not hold the entry.
    """
    checkpoint = open_checkpoint(receipt.checkpoint, verifier)
    digest = leaf_hash(receipt.leaf)
    verify_inclusion(digest, receipt.index, checkpoint.size, tuple(receipt.path), checkpoint.root)
    return Proven(receipt.index, read_access_leaf(receipt.leaf), digest, checkpoint)


def verify_release(receipt: Receipt, verifier: Verifier, request_digest: bytes, response_digest: bytes) -> Proven:
    """Check that the access log says this answer to this request was released.

    Raises:
        CoreError: `verify_receipt` failed, or the entry is about something else.
    """
    proven = verify_receipt(receipt, verifier)
    leaf = proven.leaf
    if leaf.kind != AccessKind.ACCESS_KIND_RELEASED:
        raise ProofError("the receipt's entry is not a release")
    if leaf.request_digest != request_digest or leaf.response_digest != response_digest:
        raise ProofError("the receipt's entry names another request or response")
    return proven


def verify_settlement(receipt: Receipt, verifier: Verifier, response_digest: bytes) -> Proven:
    """Check that the access log settles this answer, as released or unreleased.

    Raises:
        CoreError: `verify_receipt` failed, or the entry is about something else.
    """
    proven = verify_receipt(receipt, verifier)
    kinds = (AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_UNRELEASED)
    if proven.leaf.kind not in kinds or proven.leaf.response_digest != response_digest:
        raise ProofError("the receipt's entry settles another answer")
    return proven
