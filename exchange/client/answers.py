"""Answers: nothing is handed over before the provider's signature, the receipt and the salted hash hold (section 6)."""

import asyncio
from dataclasses import dataclass

from exchange.client.calls import check_length
from exchange.client.errors import EvidenceError, ResponseInvalidError
from exchange.client.refusals import knows_signer
from exchange.client.sealer import Prepared, open_response
from exchange.client.session import Session
from exchange.core.access import Proven, verify_release
from exchange.core.decision import Deny
from exchange.core.envelope import RESPONSE, Envelope, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.response import check_response
from exchange.core.tlog_proof import encode_proof, receipt_proof
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.relay_pb2 import SubmitResponse
from exchange.v1.request_pb2 import ResponseHeader


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows, and the proof of how they came: signed by the provider, and released by an entry of the access log.

    Args:
        rows: JSON objects; decimals, dates and times are strings.
        truncated: more rows match than the limit let through.
        request_id: UUIDv7, 16 bytes.
        index: the entry's place in the access log.
        proven: the entry.
        response, request: as they were signed.
        receipt: the proof of the entry, for a third party.
    """

    rows: tuple[dict[str, object], ...]
    truncated: bool
    request_id: bytes
    index: int
    proven: Proven
    response: Envelope
    request: Envelope
    receipt: Receipt

    @property
    def proof(self) -> bytes:
        """The receipt as a .tlog-proof file, for whoever has the access log's key (C2SP tlog-proof)."""
        return encode_proof(receipt_proof(self.receipt))


async def check_answer(session: Session, prepared: Prepared, response: SubmitResponse) -> Answer:
    """Verify an answer, and open it.

    Args:
        session: whose mirror and evidence it is checked against.
        prepared: the request.
        response: as the broker sent it.

    Raises:
        ResponseInvalidError: the provider's key, signature, binding, seal or salted hash does not hold.
        EvidenceError: the receipt does not prove that the log names exactly this answer to this request.
        BrokenLogError: a log contradicts what it signed before; sticky.
        StaleError, UnavailableError: the directory that it was decided under cannot be had, or the log's promise or
            the record of its use not be kept on disk.
    """
    envelope = _envelope(response.envelope)
    # The mirror may be older than the provider's key.
    if not knows_signer(session.directory, envelope):
        await session.sync()
    header = _check(session, prepared, envelope)
    proven = _prove(session, prepared, envelope, response)
    needed = max(header.directory_size, proven.leaf.directory_size)
    if needed > session.directory.size:
        # What broker and provider knew when they decided may have ended the provider's key.
        await session.sync(needed)
        header = _check(session, prepared, envelope)
    opened = open_response(prepared, envelope, header.rows_sha256)
    # Kept before a row is handed over: a process that dies now still holds the log to what it has signed, and has
    # recorded what it was told. Both are written at once.
    kept = await asyncio.gather(
        session.evidence.keep(response.receipt.checkpoint),
        session.receipts.keep(response.receipt),
        session.use.keep(prepared, proven.index, len(opened.rows)),
        return_exceptions=True,
    )
    for failure in kept:
        if isinstance(failure, BaseException):
            raise failure
    return Answer(
        opened.rows,
        opened.truncated,
        prepared.header.request_id,
        proven.index,
        proven,
        envelope,
        prepared.envelope,
        response.receipt,
    )


def _envelope(data: bytes) -> Envelope:
    try:
        return decode_envelope(data, RESPONSE)
    except CoreError as error:
        raise ResponseInvalidError(f"the response is malformed: {error}") from error


def _check(session: Session, prepared: Prepared, envelope: Envelope) -> ResponseHeader:
    checked = check_response(session.directory, prepared.allow, envelope, session.clock())
    if isinstance(checked, Deny):
        raise ResponseInvalidError(checked.reason)
    return checked


def _prove(session: Session, prepared: Prepared, envelope: Envelope, response: SubmitResponse) -> Proven:
    if not response.HasField("receipt"):
        raise EvidenceError("the broker gave an answer without a receipt")
    try:
        check_length(response.receipt.checkpoint)
        proven = verify_release(response.receipt, session.trust.access_log, prepared.envelope.digest, envelope.digest)
    except CoreError as error:
        raise EvidenceError(f"the receipt does not hold: {error}") from error
    leaf, header = proven.leaf, prepared.header
    # Each party reads its own entries by these names: under others the access would be hidden from it.
    named = (leaf.requester, leaf.provider, leaf.request_id)
    if named != (header.requester, str(prepared.dataset.system), header.request_id):
        raise EvidenceError("the receipt's entry names other parties or another request")
    return proven
