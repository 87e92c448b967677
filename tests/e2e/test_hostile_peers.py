"""Peers that have a valid certificate and mean harm: each may refuse its own service, and nobody else's."""

import asyncio
import hashlib
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from exchange.client import ExchangeError, sealer
from exchange.client.calls import GrpcTransport, call
from exchange.core import entries
from exchange.core.envelope import ENTRY, REQUEST, RESPONSE, Draft, Envelope, decode_envelope, sign
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.transport import ACCESS_READ, ACCESS_SYNC, APPEND, ATTACH, SUBMIT, open_channel
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.directory_pb2 import DirectoryLeaf, Role
from exchange.v1.gateway_pb2 import AdapterFrame, AttachRequest, AttachResponse, Hello, Offer, Ready, Reply
from exchange.v1.log_pb2 import (
    AppendRequest,
    AppendResponse,
    LogServiceSyncRequest,
    LogServiceSyncResponse,
    ReadRequest,
    ReadResponse,
)
from exchange.v1.relay_pb2 import SubmitRequest
from exchange.v1.request_pb2 import RequestHeader, ResponseHeader, Sealed
from tests.e2e.asking import ask, prepare
from tests.e2e.city import City
from tests.e2e.founding import (
    APPLICATIONS,
    AUDITOR,
    CIVIL,
    CIVIL_AFFAIRS,
    HOUSING,
    REGISTRY,
)

MAX_FRAME = 4 * 1024 * 1024


def rubbish(kind: str, size: int) -> Envelope:
    """An envelope that nobody signed."""
    return Envelope(secrets.token_bytes(32), kind, secrets.token_bytes(size), 1, 0, (), b"x" * 70)


async def attached(city: City, channel: grpc.aio.Channel, *, ready: bool = False) -> Any:
    """A tunnel spoken by hand."""
    stream: Any = channel.stream_stream(ATTACH, None, None)()
    frames = [AdapterFrame(hello=Hello(format=1, directory_size=0))]
    # Where it is refused at once, the write fails, and the stream's code says why.
    with suppress(grpc.RpcError):
        await stream.write(encode(AttachRequest(frames=[*frames, *([AdapterFrame(ready=Ready())] if ready else [])])))
    return stream


async def ended(stream: Any, code: grpc.StatusCode) -> None:
    """Wait until the broker has ended a tunnel, with this status."""
    async with asyncio.timeout(5):
        with suppress(grpc.RpcError):
            await _read_for_ever(stream)
        assert await stream.code() == code


def offer(request: Envelope, response: Envelope) -> bytes:
    """One offer as a message."""
    frame = Offer(request=request.encode(), response=response.encode())
    return encode(AttachRequest(frames=[AdapterFrame(offer=frame)]))


def rss(pid: int) -> int:
    """Resident memory, MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) // 1024


async def test_one_offer_cannot_keep_the_auditor_from_the_log(city: City) -> None:
    before = len(city.access_log())
    async with open_channel(city.address, city.home(APPLICATIONS).tls_identity()) as channel:
        stream = await attached(city, channel)
        await stream.write(offer(rubbish(REQUEST, 1), rubbish(RESPONSE, MAX_FRAME - 500)))
        await ended(stream, grpc.StatusCode.INVALID_ARGUMENT)
    assert len(city.access_log()) == before
    async with city.session(AUDITOR) as session:
        request = LogServiceSyncRequest(start=before)
        await call(session.transport, ACCESS_SYNC, request, LogServiceSyncResponse, 20)


async def test_what_no_provider_signed_is_not_logged_as_an_answer(city: City) -> None:
    async with city.client() as client:
        answer = await ask(client)
    city.wait_settled()
    before = len(city.access_log())
    async with open_channel(city.address, city.home(CIVIL).tls_identity()) as channel:
        stream = await attached(city, channel)
        await stream.write(offer(answer.request.bare(), rubbish(RESPONSE, 50)))
        await ended(stream, grpc.StatusCode.INVALID_ARGUMENT)
    assert len(city.access_log()) == before


async def test_one_system_cannot_stop_the_broker_with_tiny_frames(city: City) -> None:
    async with city.client() as client, open_channel(city.address, city.home(CIVIL).tls_identity()) as channel:
        await ask(client)
        stream = await attached(city, channel)
        one = encode(AttachRequest(frames=[AdapterFrame(ready=Ready())]))
        await stream.write(one * (MAX_FRAME // len(one) - 10))
        started = time.monotonic()
        await ended(stream, grpc.StatusCode.INVALID_ARGUMENT)
        await ask(client)
        assert time.monotonic() - started < 1


async def test_a_system_has_so_many_tunnels(city: City) -> None:
    async with open_channel(city.address, city.home(CIVIL).tls_identity()) as channel:
        streams = [await attached(city, channel) for _ in range(16)]
        # Each is attached once it is told how large the directory is.
        await asyncio.gather(*(stream.read() for stream in streams))
        await ended(await attached(city, channel), grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_flights_whose_time_is_over_are_forgotten(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    city.registry.stop()
    seal = sealer.seal_body
    monkeypatch.setattr(sealer, "seal_body", lambda *a: seal(*a) + secrets.token_bytes(900_000))
    async with city.client() as client, open_channel(city.address, city.home(REGISTRY).tls_identity()) as channel:
        stream = await attached(city, channel, ready=True)
        reading = asyncio.create_task(_read_for_ever(stream))
        await client.session.sync()

        async def once() -> None:
            frame = encode(SubmitRequest(envelope=(await prepare(client)).envelope.encode()))
            with suppress(ExchangeError):
                await client.session.transport.unary(SUBMIT, frame, 0.35)

        # What the process needs for so many at once it keeps; only what comes on top was not forgotten.
        for _ in range(3):
            await asyncio.gather(*(once() for _ in range(8)))
        before = rss(city.broker.pid)
        for _ in range(8):
            await asyncio.gather(*(once() for _ in range(8)))
        reading.cancel()
        assert rss(city.broker.pid) - before < 30, "64 requests of 0.9 MB that nobody waits for stay in memory"


async def _read_for_ever(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass


async def test_only_the_signer_of_an_entry_gets_its_certificate_again(city: City, tmp_path: Path) -> None:
    index, csr = await _admit_second_system(city, tmp_path)
    async with city.session(CIVIL_AFFAIRS) as session:
        await session.sync()
        leaf = session.mirror._file.load(index).entries[0].leaf
        public = decode_envelope(decode(DirectoryLeaf, leaf).envelope)
        unsigned = Envelope(key_id(session.signer.public_key), ENTRY, public.payload, 1, 0, (), bytes(64), (csr,))
        request = AppendRequest(envelope=unsigned.encode())
        with pytest.raises(ExchangeError):
            await call(session.transport, APPEND, request, AppendResponse, 10)


async def _admit_second_system(city: City, path: Path) -> tuple[int, bytes]:
    home = Home.create(path / "second", Party.parse("exchange://city.test/housing/second"), "system")
    home.new_private_key("signing")
    csr, now = home.new_tls_request(), time.time_ns() // 1_000_000
    validity = (now - 1000, now + 10**9)
    statement = entries.signing_key_statement(
        "city.test", home.party, Role.ROLE_SYSTEM, home.signer(), validity, csr=csr
    )
    async with city.session(HOUSING) as session:
        await session.sync()
        draft = entries.key_entry(session.party, secrets.token_bytes(16), statement, csr)
        return (await session.append(session.sign(draft))).index, csr


async def test_a_stolen_certificate_dies_with_the_key_it_came_with(city: City, tmp_path: Path) -> None:
    async with city.client() as client:
        await ask(client)
    party, stolen = city.party(APPLICATIONS), city.home(APPLICATIONS).tls_identity()
    fresh = Home.create(tmp_path / "fresh", party, "system")
    fresh.new_private_key("signing")
    csr, now = fresh.new_tls_request(), time.time_ns() // 1_000_000
    async with city.session(HOUSING) as session:
        [old] = (await session.sync()).state.keys_of(party)
        revocation = entries.revocation_entry(session.party, secrets.token_bytes(16), old.key_id, "stolen")
        await session.append(session.sign(revocation))
        validity = (now - 1000, now + 10**9)
        statement = entries.signing_key_statement(
            "city.test", party, Role.ROLE_SYSTEM, fresh.signer(), validity, csr=csr
        )
        await session.append(session.sign(entries.key_entry(session.party, secrets.token_bytes(16), statement, csr)))
    thief = GrpcTransport([city.address], stolen)
    try:
        with pytest.raises(ExchangeError):
            await call(thief, ACCESS_READ, ReadRequest(start=0), ReadResponse, 10)
    finally:
        await thief.close()


async def test_an_answer_that_cannot_be_delivered_is_not_released(city: City) -> None:
    city.registry.stop()
    async with city.client() as client, open_channel(city.address, city.home(REGISTRY).tls_identity()) as channel:
        serving = asyncio.create_task(_answer_with(city, await attached(city, channel, ready=True), MAX_FRAME - 700))
        with pytest.raises(ExchangeError):
            await ask(client)
        serving.cancel()
    found = [(leaf.kind, leaf.code) for leaf in city.access_log() if leaf.response_digest]
    assert found == [(AccessKind.ACCESS_KIND_UNRELEASED, Code.CODE_RESPONSE_INVALID)]


async def _answer_with(city: City, stream: Any, size: int) -> None:
    while (data := await stream.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        for frame in decode(AttachResponse, data).frames:
            if not frame.HasField("delivery"):
                continue
            asked, ciphertext = decode_envelope(frame.delivery.envelope), bytes(size)
            header = ResponseHeader(
                format=1,
                provider=str(city.party(REGISTRY)),
                request_digest=asked.digest,
                agreement=decode(RequestHeader, decode(Sealed, asked.payload).header).agreement,
                ledger_number=1,
                ledger_previous=bytes(32),
                directory_size=1,
                rows_sha256=bytes(32),
                answered_at=1,
            )
            sealed = Sealed(header=encode(header), ciphertext_sha256=hashlib.sha256(ciphertext).digest())
            draft = Draft(RESPONSE, encode(sealed), (ciphertext,))
            answer = sign(city.home(REGISTRY).signer(), "city.test", draft)
            reply = Reply(flight=frame.delivery.flight, envelope=answer.encode())
            await stream.write(encode(AttachRequest(frames=[AdapterFrame(reply=reply)])))
