"""Sealing and signing requests, and opening their responses (DESIGN sections 4 and 5)."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from exchange.batching import Batcher
from exchange.client.errors import ResponseInvalidError
from exchange.core.decision import Allow, Asked
from exchange.core.envelope import REQUEST, Draft, Envelope, sign_batch
from exchange.core.errors import CoreError
from exchange.core.keys import Signer
from exchange.core.sealing import (
    CHANNEL,
    NONCE,
    TO_PROVIDER,
    TO_REQUESTER,
    capsule_info,
    message_key,
    open_body,
    seal_body,
    seal_capsule,
)
from exchange.core.state import KeyRecord
from exchange.core.terms import SALT, AgreementTerms, DatasetTerms
from exchange.core.wire import decode, encode
from exchange.v1.request_pb2 import Answer as SealedAnswer
from exchange.v1.request_pb2 import Query, RequestHeader, Sealed

REUSE = 600_000
"""How long a channel is reused, milliseconds (DESIGN section 5)."""


@dataclass(frozen=True, slots=True)
class SealedChannel:
    """A secret that a requester and a provider share, and the capsule that carries it."""

    secret: bytes = field(repr=False)
    capsule: bytes = field(repr=False)
    made_at: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is sealed and signed: it may be submitted again, with the same bytes, until it expires.

    Args:
        envelope: what is sent.
        header: what the broker sees of it.
        allow: the agreement and dataset that it was made under.
        channel: opens the response; keep it to this process.
    """

    envelope: Envelope
    header: RequestHeader
    allow: Allow
    channel: SealedChannel = field(repr=False)

    @property
    def dataset(self) -> DatasetTerms:
        """The dataset asked."""
        return self.allow.dataset

    @property
    def agreement(self) -> AgreementTerms:
        """The agreement asked under."""
        return self.allow.agreement


@dataclass(frozen=True, slots=True)
class Opened:
    """What a response held: its rows match the hash that the provider signed."""

    rows: tuple[dict[str, object], ...]
    truncated: bool


class Sealer:
    """Seals, and signs what has queued with one signature.

    Args:
        origin: the exchange's name.
        signer: the requester's signing key.
        key: the directory's record of it.
    """

    def __init__(self, origin: str, signer: Signer, key: KeyRecord) -> None:
        self._origin = origin
        self._signer = signer
        self.key = key
        self._channels: dict[tuple[str, bytes], SealedChannel] = {}
        self._batcher: Batcher[Draft, Envelope] = Batcher(self._sign)

    async def seal(
        self, header: RequestHeader, query: Query, terms: tuple[AgreementTerms, DatasetTerms], provider: KeyRecord
    ) -> Prepared:
        """Seal a query under its header, and sign it.

        Args:
            header: complete; `issued_at` is now.
            query: what is asked.
            terms: what the header names.
            provider: the answering system's sealing key.
        """
        channel = self.channel(provider, header.issued_at)
        clear = encode(header)
        key = message_key(channel.secret, TO_PROVIDER, clear)
        ciphertext = seal_body(key, secrets.token_bytes(NONCE), encode(query))
        sealed = Sealed(
            header=clear,
            capsule_sha256=hashlib.sha256(channel.capsule).digest(),
            ciphertext_sha256=hashlib.sha256(ciphertext).digest(),
        )
        envelope = await self._batcher.submit(Draft(REQUEST, encode(sealed), (channel.capsule, ciphertext)))
        agreement, dataset = terms
        return Prepared(
            envelope, header, Allow(Asked(envelope, header, self.key.party, self.key), agreement, dataset), channel
        )

    def channel(self, provider: KeyRecord, now: int) -> SealedChannel:
        """The channel to a system under one sealing key, made anew every 10 minutes."""
        place = (str(provider.party), provider.key_id)
        found = self._channels.get(place)
        if found is not None and 0 <= now - found.made_at < REUSE:
            return found
        self._channels = {name: kept for name, kept in self._channels.items() if now - kept.made_at < REUSE}
        info = capsule_info(self._origin, str(self.key.party), self.key.key_id, str(provider.party), provider.key_id)
        secret = secrets.token_bytes(CHANNEL)
        self._channels[place] = SealedChannel(secret, seal_capsule(secret, provider.public_key, info), now)
        return self._channels[place]

    async def close(self) -> None:
        """Sign what is queued, and forget the channels."""
        await self._batcher.close()
        self._channels.clear()

    async def _sign(self, drafts: Sequence[Draft]) -> Sequence[Envelope]:
        return await asyncio.to_thread(sign_batch, self._signer, self._origin, drafts)


def open_response(prepared: Prepared, response: Envelope, rows_sha256: bytes) -> Opened:
    """Open a response whose signature, signer and binding hold.

    Args:
        prepared: the request.
        response: with its ciphertext, which its signed payload names.
        rows_sha256: from the response's header.

    Raises:
        ResponseInvalidError: it does not open, or its rows are not those that the provider signed for.
    """
    if len(response.attachments) != 1:
        raise ResponseInvalidError("the response came without its rows")
    try:
        clear = decode(Sealed, response.payload).header
        key = message_key(prepared.channel.secret, TO_REQUESTER, clear)
        answer = decode(SealedAnswer, open_body(key, response.attachments[0]))
    except CoreError as error:
        raise ResponseInvalidError(f"the response does not open: {error}") from error
    if len(answer.salt) != SALT:
        raise ResponseInvalidError(f"the salt of the rows has {SALT} bytes")
    # DESIGN section 5: the salted hash in the clear header is what settles a disputed answer.
    if hashlib.sha256(answer.salt + answer.rows).digest() != rows_sha256:
        raise ResponseInvalidError("the rows are not those whose hash the provider signed")
    return Opened(_rows(answer.rows), answer.truncated)


def _rows(data: bytes) -> tuple[dict[str, object], ...]:
    try:
        rows = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ResponseInvalidError("the rows are not JSON") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ResponseInvalidError("the rows are not a list of objects")
    return tuple(rows)


def request_id(now: int, random: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """A UUIDv7 (RFC 9562 section 5.7), 16 bytes.

    Args:
        now: milliseconds.
        random: so many random bytes.
    """
    tail = bytearray(random(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return now.to_bytes(6, "big") + bytes(tail)
