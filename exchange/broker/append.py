"""Append: one signed directory entry, and the certificate that a key statement asks for (DESIGN section 7)."""

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from exchange.broker.authority import Authority, read_csr
from exchange.broker.following import Newcomers
from exchange.broker.logs import DirectoryProposal, EntryRefusedError, Logs
from exchange.broker.status import NotPermittedError
from exchange.core.envelope import ENTRY, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.signed import signing_record
from exchange.core.state import MAX_ENTRY
from exchange.core.stewards import acts_for
from exchange.core.wire import decode
from exchange.v1.directory_pb2 import Entry, EntryKind, Key
from exchange.v1.envelope_pb2 import Receipt

# The entry, its body, and a certificate request.
MAX_APPEND = 3 * MAX_ENTRY

logger = structlog.get_logger("exchange.broker")


@dataclass(frozen=True, slots=True)
class AppendedEntry:
    """A durable directory entry: its receipt, and a certificate chain (PEM) where one was asked for."""

    receipt: Receipt
    certificate: bytes


class AppendCommand:
    """Appends directory entries for authenticated peers.

    Args:
        logs: the append path.
        authority: issues TLS certificates.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, authority: Authority, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._authority = authority
        self._clock = clock
        self._newcomers = Newcomers(logs, clock)

    async def __call__(self, peer: Party, frame: bytes) -> AppendedEntry:
        """Append one entry; the same entry again gives its receipt again.

        Args:
            peer: whom TLS authenticated; it must be the signer.
            frame: a serialised Envelope of an Entry, with its body or certificate request attached.

        Raises:
            DecodeError: the frame, or what is attached, is malformed.
            NotPermittedError: the peer is not the signer.
            EntryRefusedError: a rule of the directory is broken.
            AuditUnavailableError: it could not be made durable.
        """
        envelope = decode_envelope(frame, ENTRY, MAX_APPEND)
        await self._newcomers.look_for(envelope.key_id, peer)
        signer = self._logs.directory.state.keys.get(envelope.key_id)
        if signer is None:
            raise EntryRefusedError("the signing key is not in the directory")
        if signer.party != peer:
            raise NotPermittedError(f"connected as {peer}, but the entry is signed by {signer.party}")
        entry = self._verified(peer, envelope)
        subject = _certificate_subject(entry, envelope)
        body = b"" if subject is not None else _body(entry, envelope)
        entered = await self._logs.append(DirectoryProposal(envelope, body))
        logger.info("entry appended", index=entered.receipt.index, kind=EntryKind.Name(entry.kind), owner=entry.owner)
        certificate = b""
        if subject is not None:
            key = self._standing_key(entry)
            now = datetime.datetime.fromtimestamp(self._clock() / 1000, datetime.UTC)
            certificate = self._authority.issue(envelope.attachments[0], subject, key, now)
        return AppendedEntry(entered.receipt, certificate)

    def _verified(self, peer: Party, envelope: Envelope) -> Entry:
        """The entry, once signature and owner hold: what the log has already is not folded again, but answered."""
        state = self._logs.directory.state
        try:
            signer = signing_record(state, envelope, self._clock())
        except CoreError as error:
            raise EntryRefusedError(str(error)) from error
        entry = decode(Entry, envelope.payload, MAX_ENTRY)
        if entry.owner != str(peer) and acts_for(signer, entry.owner) is None:
            raise EntryRefusedError(f"signed by {peer}, but owned by {entry.owner}")
        return entry

    def _standing_key(self, entry: Entry) -> bytes:
        """The id of the key that a certificate is for; the entry may be old, and the key revoked since gets none."""
        key = decode(Key, entry.key.statement, MAX_ENTRY)
        record = self._logs.directory.state.keys.get(key_id(key.public_key))
        if record is None or record.revoked_index is not None or self._clock() > record.not_after:
            raise EntryRefusedError("the key is revoked or expired: no certificate is issued for it")
        return record.key_id


def _certificate_subject(entry: Entry, envelope: Envelope) -> Party | None:
    """The party that a key statement asks a certificate for; its request is checked before anything is appended."""
    if entry.WhichOneof("body") != "key" or not entry.key.csr_sha256:
        return None
    if len(envelope.attachments) != 1:
        raise DecodeError("the certificate request that the statement names is not attached")
    csr = envelope.attachments[0]
    if hashlib.sha256(csr).digest() != entry.key.csr_sha256:
        raise DecodeError("the attached certificate request is not the one that was signed")
    party = Party.parse(decode(Key, entry.key.statement, MAX_ENTRY).party)
    read_csr(csr, party)
    return party


def _body(entry: Entry, envelope: Envelope) -> bytes:
    described = entry.WhichOneof("body") == "body_sha256"
    if len(envelope.attachments) != int(described):
        raise DecodeError("an entry with a body carries just that; any other carries no attachment")
    body = envelope.attachments[0] if described else b""
    if len(body) > MAX_ENTRY:
        raise DecodeError(f"a body has at most {MAX_ENTRY:,} bytes")
    if described and hashlib.sha256(body).digest() != entry.body_sha256:
        raise DecodeError("the attached body is not the one that was signed")
    return body
