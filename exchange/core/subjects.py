"""A person asks who saw their data: the office's signed request, and each owner's answer, sealed to that office.

An answer is sealed as requests are (DESIGN section 5): a capsule to the key that was made for this request, and a
message key out of the header, so that the header is bound without being hidden.
"""

import hashlib
from typing import Final

from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from exchange.core.directory import Directory
from exchange.core.envelope import DIGEST, SUBJECT_ANSWER, SUBJECT_REQUEST, Draft, Envelope
from exchange.core.errors import DecodeError
from exchange.core.keys import key_id, sealing_public_key
from exchange.core.sealing import capsule_info, message_key, open_body, open_capsule, seal_body, seal_capsule
from exchange.core.signed import signing_record
from exchange.core.state import OBJECT_ID, KeyRecord
from exchange.core.wire import MAX_TIME, decode, encode
from exchange.v1.directory_pb2 import Role
from exchange.v1.request_pb2 import Sealed
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure, SubjectRequest

MAX_SUBJECT: Final = 256
MAX_REASON: Final = 2_000
ASKERS: Final = frozenset({Role.ROLE_AUDITOR, Role.ROLE_COORDINATOR, Role.ROLE_DEPARTMENT})
"""Who may ask in a person's name."""

_DIRECTION: Final = b"subject-answer"


def request_draft(request: SubjectRequest) -> Draft:
    """An unsigned request."""
    return Draft(SUBJECT_REQUEST, encode(request))


def read_subject_request(envelope: Envelope) -> SubjectRequest:
    """Read a request whose signature holds.

    Raises:
        CoreError: another kind, or a part is malformed.
    """
    if envelope.kind != SUBJECT_REQUEST or envelope.attachments:
        raise DecodeError("not a subject request")
    request = decode(SubjectRequest, envelope.payload)
    if not 1 <= len(request.subject) <= MAX_SUBJECT or not 1 <= len(request.reason) <= MAX_REASON:
        raise DecodeError("a subject request names a person and a reason")
    if len(request.request_id) != OBJECT_ID or max(request.since, request.until, request.asked_at) > MAX_TIME:
        raise DecodeError("a part of the subject request has an impossible size")
    sealing_public_key(request.answer_key)
    return request


def verify_subject_request(directory: Directory, envelope: Envelope, now: int) -> SubjectRequest:
    """Check who asks: an office whose key stands, in its own name.

    Args:
        directory: as it is now.
        envelope: its frame checked.
        now: milliseconds.

    Raises:
        CoreError: malformed, not signed by a key that stands, or by somebody who may not ask.
    """
    record = signing_record(directory.state, envelope, now)
    request = read_subject_request(envelope)
    if record.role not in ASKERS:
        raise DecodeError(f"{record.party} is neither an auditor, a coordinator nor a department")
    if request.asked_by != str(record.party):
        raise DecodeError("the subject request is signed by another office than the one that it names")
    return request


def answer_draft(
    origin: str,
    request: SubjectRequest,
    header: SubjectAnswerHeader,
    disclosure: SubjectDisclosure,
    answerer_key: bytes,
    secrets: tuple[bytes, bytes],
) -> Draft:
    """An unsigned answer, sealed to the office that asked.

    Args:
        origin: the exchange's name.
        request: what is answered.
        header: clear; disclosure: sealed.
        answerer_key: id of the key that will sign, 32 bytes.
        secrets: a channel secret of 32 random bytes, and a nonce of 12.

    Raises:
        SealError: the request's key cannot be used.
    """
    channel, nonce = secrets
    clear = encode(header)
    info = _info(origin, header.answerer, answerer_key, request)
    capsule = seal_capsule(channel, request.answer_key, info)
    ciphertext = seal_body(message_key(channel, _DIRECTION, clear), nonce, encode(disclosure))
    sealed = Sealed(header=clear, capsule_sha256=_sha256(capsule), ciphertext_sha256=_sha256(ciphertext))
    return Draft(SUBJECT_ANSWER, encode(sealed), (capsule, ciphertext))


def verify_answer(
    directory: Directory, envelope: Envelope, request_digest: bytes
) -> tuple[KeyRecord, SubjectAnswerHeader]:
    """Check who answers: a system whose key stood at that time, to this request.

    Args:
        directory: as it is now.
        envelope: its frame checked.
        request_digest: message digest of the request, 32 bytes.

    Raises:
        CoreError: malformed, altered, to another request, or not signed by the system that it names.
    """
    if envelope.kind != SUBJECT_ANSWER or len(envelope.attachments) != len(("capsule", "ciphertext")):
        raise DecodeError("not a subject answer")
    sealed = decode(Sealed, envelope.payload)
    header = decode(SubjectAnswerHeader, sealed.header)
    record = signing_record(directory.state, envelope, header.answered_at)
    digests = tuple(_sha256(attachment) for attachment in envelope.attachments)
    if digests != (sealed.capsule_sha256, sealed.ciphertext_sha256):
        raise DecodeError("the sealed part of the answer is not the one that was signed")
    if record.role != Role.ROLE_SYSTEM or header.answerer != str(record.party):
        raise DecodeError(f"signed by {record.party}, which is not the system that the answer names")
    if header.request_digest != request_digest:
        raise DecodeError("it answers another request")
    return record, header


def open_answer(
    origin: str, envelope: Envelope, request: SubjectRequest, private_key: MLKEM768X25519PrivateKey
) -> SubjectDisclosure:
    """Open an answer that `verify_answer` accepted.

    Args:
        origin: the exchange's name.
        envelope: with its attachments.
        request: what it answers.
        private_key: of `request.answer_key`.

    Raises:
        CoreError: it does not open, or what is inside is malformed.
    """
    clear = decode(Sealed, envelope.payload).header
    header = decode(SubjectAnswerHeader, clear)
    capsule, ciphertext = envelope.attachments
    channel = open_capsule(capsule, private_key, _info(origin, header.answerer, envelope.key_id, request))
    disclosure = decode(SubjectDisclosure, open_body(message_key(channel, _DIRECTION, clear), ciphertext))
    chains = (disclosure.last_previous, disclosure.last_chain)
    if {len(chain) for chain in chains} != {DIGEST if disclosure.last_number else 0}:
        raise DecodeError("a chain hash has an impossible length")
    numbers = [row.number for row in disclosure.rows]
    if numbers != sorted(set(numbers)) or any(not 1 <= number <= disclosure.last_number for number in numbers):
        raise DecodeError("the answer's rows are not those of the ledger that it claims to cover")
    return disclosure


def _info(origin: str, answerer: str, answerer_key: bytes, request: SubjectRequest) -> bytes:
    """What the capsule is bound to: both offices, the signer's key and the key that it is sealed to."""
    return capsule_info(origin, answerer, answerer_key, request.asked_by, key_id(request.answer_key))


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
