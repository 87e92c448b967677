"""Confirmed flaws, each as a test that fails until it is mended; see the security review's report for the numbers."""

import asyncio
import hashlib
import os
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

import exchange.client.mirror as mirror_module
from adapters.tunnel import Tunnel
from exchange.broker.genesis import log_signers
from exchange.broker.proofs import load_frontier
from exchange.client import ExchangeError, sealer
from exchange.client.calls import GrpcTransport, call
from exchange.core import entries
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.envelope import ENTRY, REFUSAL, REQUEST, RESPONSE, Draft, Envelope, decode_envelope, sign
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.store.ports import Batch, Head, Log, NewEntry
from exchange.store.sql import SqlLogStore
from exchange.transport import ACCESS_READ, ACCESS_SYNC, APPEND, ATTACH, SUBMIT, open_channel
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from exchange.v1.directory_pb2 import Application, DirectoryLeaf, Role
from exchange.v1.gateway_pb2 import AdapterFrame, AttachRequest, AttachResponse, Delivery, Hello, Offer, Ready, Reply
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
    BROKER,
    CIVIL,
    CIVIL_AFFAIRS,
    HOUSING,
    POPULATION,
    PURPOSE,
    REGISTRY,
)
from tests.e2e.processes import ROOT, Program

MAX_FRAME = 4 * 1024 * 1024


def rubbish(kind: str, size: int) -> Envelope:
    """An envelope that nobody signed."""
    return Envelope(secrets.token_bytes(32), kind, secrets.token_bytes(size), 1, 0, (), b"x" * 70)


async def attached(city: City, channel: grpc.aio.Channel, *, ready: bool = False) -> Any:
    """A tunnel spoken by hand."""
    stream: Any = channel.stream_stream(ATTACH, None, None)()
    frames = [AdapterFrame(hello=Hello(format=1, directory_size=0))]
    await stream.write(encode(AttachRequest(frames=[*frames, *([AdapterFrame(ready=Ready())] if ready else [])])))
    return stream


def offer(request: Envelope, response: Envelope) -> bytes:
    """One offer as a message."""
    frame = Offer(request=request.encode(), response=response.encode())
    return encode(AttachRequest(frames=[AdapterFrame(offer=frame)]))


def rss(pid: int) -> int:
    """Resident memory, MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) // 1024


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the project."""
    program = f"from {module} import app; app()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, cwd=ROOT
    )


@contextmanager
def forging(template: City, path: Path, mode: str) -> Any:
    """A city whose broker forges settlements; its adapter is the real one."""
    city = template.copy(path)
    arguments = ["-m", "tests.security_findings.forging", "run", "--home", str(city.path / BROKER)]
    broker = Program(arguments, city.path / "output" / "forging.log", "is ready on", {"FORGE": mode})
    try:
        broker.start()
        city.registry.start()
        yield city
    finally:
        broker.kill()
        city.close()


# 1
async def test_one_offer_cannot_keep_the_auditor_from_the_log(city: City) -> None:
    before = len(city.access_log())
    async with open_channel(city.address, city.home(APPLICATIONS).tls_identity()) as channel:
        stream = await attached(city, channel)
        await stream.write(offer(rubbish(REQUEST, 1), rubbish(RESPONSE, MAX_FRAME - 500)))
        await asyncio.sleep(2)
    async with city.session(AUDITOR) as session:
        request = LogServiceSyncRequest(start=before)
        await call(session.transport, ACCESS_SYNC, request, LogServiceSyncResponse, 20)


# 2
async def test_what_no_provider_signed_is_not_logged_as_an_answer(city: City) -> None:
    async with city.client() as client:
        answer = await ask(client)
    city.wait_settled()
    before = len(city.access_log())
    async with open_channel(city.address, city.home(CIVIL).tls_identity()) as channel:
        stream = await attached(city, channel)
        for _ in range(20):
            await stream.write(offer(answer.request.bare(), rubbish(RESPONSE, 50)))
        await asyncio.sleep(2)
    named = [leaf for leaf in city.access_log()[before:] if leaf.requester]
    assert not named, f"{len(named)} entries say that {named[0].requester} may have been told something"


# 3
async def test_a_provider_answers_nothing_new_while_consistency_is_not_proved(template: City, tmp_path: Path) -> None:
    with forging(template, tmp_path / "city", "logs") as city:
        async with city.client() as client:
            end = time.monotonic() + 12
            while time.monotonic() < end:
                with suppress(ExchangeError):
                    await ask(client)
                await asyncio.sleep(0.5)
        late = [row for row in city.ledger() if row.number > 16]
        assert not late, f"{len(late)} answers after 8 s, each settled by a log of its own that nothing proves"


# 4
async def test_a_settlement_that_names_others_is_no_receipt(template: City, tmp_path: Path) -> None:
    with forging(template, tmp_path / "city", "names") as city:
        async with city.client() as client:
            await ask(client)
        await asyncio.sleep(2)
        assert city.owed() == 1, "the entry names another requester, provider and request"


# 5
async def test_no_more_than_a_thousand_receipts_are_ever_owed() -> None:
    let_go, answered = asyncio.Event(), []

    class Answerer:
        async def answer(self, frame: bytes) -> tuple[None, bytes]:
            await let_go.wait()
            answered.append(frame)
            return None, rubbish(RESPONSE, 50).encode()

        def refusal(self, deny: Any, digest: bytes) -> Envelope:
            return rubbish(REFUSAL, 50)

    nothing: Any = None
    tunnel = Tunnel("broker", nothing, Answerer(), nothing, nothing, lambda _: None)  # type: ignore[arg-type]
    tunnel.is_ready = True
    tunnel._post = lambda _: None  # type: ignore[method-assign]
    waiting = [asyncio.create_task(tunnel._deliver(Delivery(flight=number))) for number in range(1500)]
    await asyncio.sleep(0.5)
    let_go.set()
    await asyncio.gather(*waiting)
    assert len(answered) <= 1001, f"{len(answered)} answers were given, and no receipt came"


# 6
async def test_the_broker_cannot_see_whether_anybody_was_found(city: City) -> None:
    async with city.client() as client:
        sizes = {len((await ask(client, number)).response.attachments[0]) for number in (1, 250, 5000)}
    assert len(sizes) == 1, f"one lookup of one key has {sorted(sizes)} bytes of ciphertext, the least for nobody"


# 7
async def test_one_system_cannot_stop_the_broker_with_tiny_frames(city: City) -> None:
    async with city.client() as client, open_channel(city.address, city.home(CIVIL).tls_identity()) as channel:
        await ask(client)
        stream = await attached(city, channel)
        one = encode(AttachRequest(frames=[AdapterFrame(ready=Ready())]))
        await stream.write(one * (MAX_FRAME // len(one) - 10))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await ask(client)
        assert time.monotonic() - started < 1


# 8
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
                await client.session.transport.unary(SUBMIT, frame, 0.6)

        await asyncio.gather(*(once() for _ in range(8)))
        before = rss(city.broker.pid)
        for _ in range(20):
            await asyncio.gather(*(once() for _ in range(8)))
        reading.cancel()
        assert rss(city.broker.pid) - before < 50, "160 requests of 0.9 MB that nobody waits for stay in memory"


async def _read_for_ever(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass


# 9
async def test_a_party_past_its_budget_cannot_flood_the_log(city: City) -> None:
    city.broker.stop()
    file = city.path / BROKER / "broker.toml"
    text = file.read_text().replace("requests_per_second = 2000", "requests_per_second = 1")
    file.write_text(text.replace("burst = 4000", "burst = 1"))
    city.broker.start()
    async with city.session(CIVIL) as session:
        before = len(city.access_log())
        calls = (session.transport.unary(SUBMIT, b"rubbish %d" % number, 30) for number in range(200))
        await asyncio.gather(*calls, return_exceptions=True)
    assert len(city.access_log()) - before < 20


# 10
async def test_only_the_signer_of_an_entry_gets_its_certificate_again(city: City, tmp_path: Path) -> None:
    index, csr = await _admit_second_system(city, tmp_path)
    async with city.session(CIVIL_AFFAIRS) as session:
        await session.sync()
        leaf = session.mirror._file.load(index).entries[0].leaf
        public = decode_envelope(decode(DirectoryLeaf, leaf).envelope)
        unsigned = Envelope(key_id(session.signer.public_key), ENTRY, public.payload, 1, 0, (), bytes(64), (csr,))
        request = AppendRequest(envelope=unsigned.encode())
        with pytest.raises(ExchangeError):
            response = await call(session.transport, APPEND, request, AppendResponse, 10)
            names = x509.load_pem_x509_certificate(response.certificate).extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            )
            pytest.fail(f"without a signature, {session.party} got a certificate of {names.value}")


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


# 11
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
            found = await call(thief, ACCESS_READ, ReadRequest(start=0), ReadResponse, 10)
            pytest.fail(f"the thief reads {len(found.records)} entries with officer and case")
    finally:
        await thief.close()


# 12
async def test_a_date_beyond_the_calendar_does_not_stop_the_owners_command(city: City) -> None:
    async with city.session(HOUSING) as session:
        directory = await session.sync()
        dataset = directory.dataset_named("exchange://city.test/population", "residents")
        assert dataset is not None
        application = Application(
            format=1,
            dataset=dataset.object_id,
            grantee=str(session.party),
            operations=[1],
            fields=["name"],
            purposes=[PURPOSE],
            not_after=2**64 - 1,
        )
        version = entries.ObjectVersion(secrets.token_bytes(16))
        draft = entries.body_entry(session.party, version, application, secrets.token_bytes(32))
        with suppress(ExchangeError):
            await session.append(session.sign(draft))
    done = command("exchange.cli.main", "agreement", "list", "--home", str(city.path / POPULATION))
    assert done.returncode == 0, done.stderr


# 13
async def test_a_time_beyond_the_database_does_not_stop_the_auditor(city: City) -> None:
    city.broker.stop()
    _append_leaf(city, AccessLeaf(format=1, time=2**64 - 1, kind=AccessKind.ACCESS_KIND_REFUSED, code=2))
    city.broker.start()
    done = command("exchange.cli.audit.main", "sync", "--home", str(city.path / AUDITOR))
    assert "unexpected" not in done.stderr, done.stderr


def _append_leaf(city: City, leaf: AccessLeaf) -> None:
    """What an operator with the log key can do."""
    store, signer = SqlLogStore.open(city.path / BROKER / "exchange.db"), log_signers(city.home(BROKER))[Log.ACCESS]
    try:
        head, data = store.head(Log.ACCESS), encode(leaf)
        frontier, nodes = load_frontier(store, Log.ACCESS, head.size).extend([leaf_hash(data)])
        note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
        after = Head(Log.ACCESS, frontier.size, note, head.time)
        with store.locked() as transaction:
            transaction.append(Batch(Log.ACCESS, head.size, (NewEntry(data, b"", None),), nodes, after))
    finally:
        store.close()


# 14
async def test_a_mirror_gets_the_bodies_that_a_broker_once_left_out(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    city.registry.stop()
    for file in (city.path / REGISTRY).glob("mirror.db*"):
        file.unlink()
    page = mirror_module.DirectoryMirror._page

    async def bare(self: Any, *arguments: Any) -> Any:
        records, checkpoint, note = await page(self, *arguments)
        for record in records:
            record.body = b""
        return records, checkpoint, note

    with monkeypatch.context() as patched:
        patched.setattr(mirror_module.DirectoryMirror, "_page", bare)
        async with city.session(REGISTRY) as session:
            await session.sync()
    city.registry.start()
    async with city.client() as client:
        await ask(client)


# 15
async def test_an_answer_that_cannot_be_delivered_is_not_released(city: City) -> None:
    city.registry.stop()
    async with city.client() as client, open_channel(city.address, city.home(REGISTRY).tls_identity()) as channel:
        serving = asyncio.create_task(_answer_with(city, await attached(city, channel, ready=True), MAX_FRAME - 700))
        with pytest.raises(ExchangeError):
            await ask(client)
        serving.cancel()
    kinds = [AccessKind.Name(leaf.kind) for leaf in city.access_log()]
    assert "ACCESS_KIND_RELEASED" not in kinds, "the log says that the requester has it; it never will"


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


# 16
async def test_a_checkpoint_outlives_the_process_that_was_given_it(city: City) -> None:
    program = f"""
import asyncio, os, signal
from pathlib import Path
from tests.e2e.asking import ask
from tests.e2e.city import City
async def main():
    async with City(Path({str(city.path)!r}), {city.address!r}).client() as client:
        assert (await ask(client)).rows
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(5)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == -15
    async with city.session(APPLICATIONS) as session:
        file = session.mirror._file
        assert file.head("access") or file.unchecked(), (
            "rows were handed over, and nothing is kept of the log's promise"
        )
