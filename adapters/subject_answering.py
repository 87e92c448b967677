"""`exchange-adapter subject-answer`: what this ledger told of a person, sealed to the office that asks for them."""

import secrets
from contextlib import suppress
from pathlib import Path

from adapters.host import LEDGER
from adapters.ledger import Ledger, LedgerError, LedgerReader, Told
from exchange.client.errors import EvidenceError, UnavailableError
from exchange.client.session import Session
from exchange.core.envelope import SUBJECT_REQUEST, Envelope, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.sealing import CHANNEL, NONCE
from exchange.core.subjects import answer_draft, verify_subject_request
from exchange.core.wire import FORMAT, MAX_FRAME
from exchange.home import Home, HomeError
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure, SubjectRequest, SubjectRow


async def answer_subject(home: Home, request: bytes) -> tuple[SubjectRequest, Envelope, int]:
    """Answer a request out of a home's ledger, the adapter running or not.

    Args:
        home: of the system whose ledger it is.
        request: the file of `exchange-audit subject-request new`.

    Returns:
        What was asked, the signed and sealed answer, and how many rows are in it.

    Raises:
        AnchorError: the ledger is missing, or not the one that was here before.
        BrokenLogError: a log contradicts what it signed before.
        EvidenceError: nobody who may ask has signed the request.
        HomeError: no signing key, or the ledger cannot be read.
    """
    async with Session(home) as session:
        # Whether the key of who asks still stands is known best now; without a broker the mirror has to do.
        with suppress(UnavailableError):
            await session.sync()
        envelope, asked = _verified(session, request)
        disclosure = _disclosed(home, asked)
        header = SubjectAnswerHeader(
            format=FORMAT,
            request_digest=envelope.digest,
            answerer=str(session.party),
            answered_at=session.clock(),
        )
        fresh = (secrets.token_bytes(CHANNEL), secrets.token_bytes(NONCE))
        signer = key_id(session.signer.public_key)
        answer = session.sign(answer_draft(session.trust.name, asked, header, disclosure, signer, fresh))
    if len(answer.encode()) > MAX_FRAME:
        hint = "ask for a shorter period: `exchange-audit subject-request new --since … --until …`"
        raise HomeError(f"{len(disclosure.rows):,} answers do not fit into one file", hint)
    return asked, answer, len(disclosure.rows)


def _verified(session: Session, data: bytes) -> tuple[Envelope, SubjectRequest]:
    try:
        envelope = decode_envelope(data, SUBJECT_REQUEST)
        return envelope, verify_subject_request(session.directory, envelope, session.clock())
    except CoreError as error:
        raise EvidenceError(f"the request cannot be answered: {error}", "ask whoever sent it for a new one") from error


def _disclosed(home: Home, asked: SubjectRequest) -> SubjectDisclosure:
    path = home.path / LEDGER
    try:
        reader = Ledger.read(path)
        try:
            return _read(reader, asked)
        finally:
            reader.close()
    except LedgerError as error:
        raise HomeError(f"{path}: {error}", "is this the home of an adapter that has run?") from error


def _read(reader: LedgerReader, asked: SubjectRequest) -> SubjectDisclosure:
    head = reader.head
    found = [told for told in reader.told(asked.subject) if told.number <= head.number and _is_within(told, asked)]
    return SubjectDisclosure(
        format=FORMAT,
        last_number=head.number,
        last_previous=reader.at(head.number - 1).chain if head.number else b"",
        last_chain=head.chain if head.number else b"",
        rows=[_row(told) for told in found],
    )


def _is_within(told: Told, asked: SubjectRequest) -> bool:
    return asked.since <= told.time and (not asked.until or told.time <= asked.until)


def _row(told: Told) -> SubjectRow:
    return SubjectRow(
        number=told.number,
        time=told.time,
        requester=told.requester,
        request_digest=told.request_digest,
        response_digest=told.response_digest,
        officer=told.officer,
        purpose=told.purpose,
        case_id=told.case_id,
        dataset=told.dataset,
        fields=told.fields,
        asked=told.asked,
        told=told.told,
        entries=[settlement.index for settlement in told.settlements or ()],
    )


def read_request_file(path: Path) -> bytes:
    """The bytes of a request file, as far as one can be long.

    Raises:
        HomeError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FRAME)
    except OSError as error:
        raise HomeError(f"cannot read {path}: {error.strerror}") from error
