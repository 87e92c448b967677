"""Check 11: whether a response answers this request, from the system that the dataset names (DESIGN section 6)."""

from exchange.core.decision import Allow, Deny, check_attachments
from exchange.core.directory import Directory
from exchange.core.envelope import DIGEST, RESPONSE, Envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.signed import signing_record
from exchange.core.wire import decode
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.request_pb2 import ResponseHeader, Sealed


def read_response(envelope: Envelope) -> ResponseHeader:
    """Read the header of a response whose signature holds, and check its form and its attachment.

    Raises:
        DecodeError: another kind, a part is malformed, or the attachment is not the one that was signed.
    """
    if envelope.kind != RESPONSE:
        raise DecodeError("the answer is not a response")
    sealed = decode(Sealed, envelope.payload)
    header = decode(ResponseHeader, sealed.header)
    check_attachments(envelope, (sealed.ciphertext_sha256,))
    digests = (header.request_digest, header.agreement, header.ledger_previous, header.rows_sha256)
    if any(len(data) != DIGEST for data in (*digests, sealed.ciphertext_sha256)) or sealed.capsule_sha256:
        raise DecodeError("a digest in the response has an impossible length")
    if header.ledger_number < 1:
        raise DecodeError("a ledger is numbered from 1")
    return header


def check_response(
    directory: Directory, allow: Allow, response: Envelope, now: int, header: ResponseHeader | None = None
) -> ResponseHeader | Deny:
    """Check 11: signature, signer and binding.

    Args:
        directory: the snapshot to check under.
        allow: the request, as it was allowed.
        response: its frame checked, with or without the ciphertext.
        now: milliseconds.
        header: what `read_response` gave of this very envelope, where it was read before.
    """
    try:
        record = signing_record(directory.state, response, now)
        header = read_response(response) if header is None else header
    except CoreError as error:
        return Deny(11, Code.CODE_RESPONSE_INVALID, str(error))
    # The signer is the system named in the dataset, and says so.
    if record.party != allow.dataset.system or record.role != Role.ROLE_SYSTEM or header.provider != str(record.party):
        return Deny(11, Code.CODE_RESPONSE_INVALID, f"signed by {record.party}, which does not answer for the dataset")
    if header.request_digest != allow.asked.envelope.digest or header.agreement != allow.agreement.digest:
        return Deny(11, Code.CODE_RESPONSE_INVALID, "the response answers another request")
    return header
