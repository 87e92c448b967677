"""One attachment: unsettled answers first, deliveries only when nothing is owed, and never too much on credit."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from adapters import tunnel as module
from adapters.ledger import LedgerFatalError
from adapters.orders import OrdersError
from adapters.settling import Settler
from adapters.tunnel import GIVE_UP, LONGEST_OWED, MESSAGE_BYTES, MOST_OWED, STRAY, Tunnel
from exchange.client.errors import BrokenLogError, ExchangeError, ForkError
from exchange.core.access import read_refusal
from exchange.core.envelope import REFUSAL, RESPONSE, Envelope, decode_envelope
from exchange.core.errors import DecodeError, VersionError
from exchange.core.protocol import PROTOCOL
from exchange.core.wire import decode, encode
from exchange.transport import ATTACH, DIRECTORY_SYNC, VERSIONS, TlsIdentity, announced, own_announcement
from exchange.v1.access_pb2 import Code
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.gateway_pb2 import (
    AdapterFrame,
    AttachRequest,
    AttachResponse,
    BrokerFrame,
    Delivery,
    DirectoryHead,
    Leaving,
    Settlement,
)
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.growing import grown
from tests.world import World, lookup

ADDRESS = "broker.city.example:7443"


class FakeCall:
    """The broker's end of a tunnel, as gRPC gives it to the adapter."""

    def __init__(self) -> None:
        self.frames: list[AdapterFrame] = []
        self.messages: list[bytes] = []
        self.status = grpc.StatusCode.OK
        self.cancelled = False
        self.finished = False
        self.error: BaseException | None = None
        self.encode: Callable[[AttachResponse], bytes] = encode
        self.versions: tuple[str, ...] = (str(own_announcement()),)
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._news = asyncio.Event()

    # What the adapter calls.

    async def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(data)
        self.frames.extend(decode(AttachRequest, data).frames)
        self._news.set()

    async def read(self) -> Any:
        return await self._sent.get()

    async def done_writing(self) -> None:
        self.finished = True
        self.end()

    def cancel(self) -> None:
        self.cancelled = True

    async def initial_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple((VERSIONS, version) for version in self.versions)

    async def code(self) -> grpc.StatusCode:
        return self.status

    async def details(self) -> str:
        return "because"

    # What the test does.

    def send(self, *frames: BrokerFrame) -> None:
        self._sent.put_nowait(self.encode(AttachResponse(frames=frames)))

    def send_bytes(self, data: bytes) -> None:
        self._sent.put_nowait(data)

    def deliver(self, request: Envelope | bytes, flight: int = 1) -> None:
        frame = request if isinstance(request, bytes) else request.encode()
        self.send(BrokerFrame(delivery=Delivery(flight=flight, envelope=frame, timeout=1000)))

    def settle(self, response_digest: bytes, receipt: Receipt) -> None:
        self.send(BrokerFrame(settlement=Settlement(response_digest=response_digest, receipt=receipt)))

    def end(self, status: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.status = status
        self._sent.put_nowait(module._END)

    def kinds(self) -> list[str | None]:
        return [frame.WhichOneof("frame") for frame in self.frames]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def reply(self, flight: int = 1) -> Envelope:
        """Wait for the reply to a flight."""

        def found() -> list[AdapterFrame]:
            return [frame for frame in self.frames if frame.HasField("reply") and frame.reply.flight == flight]

        await self.until(lambda: bool(found()))
        return decode_envelope(found()[-1].reply.envelope)


class Attached:
    """A tunnel at work, and the broker's end of it."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.world: World = provider.world
        self.call = FakeCall()
        self.ready: list[str] = []
        self.settler = Settler(provider.session, provider.ledger)
        self.tunnel = Tunnel(
            ADDRESS, provider.session, provider.answerer, self.settler, provider.ledger, self.ready.append
        )

    def start(self) -> "asyncio.Task[None]":
        self.task = asyncio.create_task(self.tunnel.run())
        return self.task

    async def attached(self) -> None:
        await self.call.until(lambda: "ready" in self.call.kinds())

    async def answered(self, request: Envelope, flight: int = 1) -> Envelope:
        self.call.deliver(request, flight)
        return await self.call.reply(flight)

    async def settled(self, request: Envelope, response: Envelope) -> None:
        self.call.settle(response.digest, self.world.release(request, response))
        await until(lambda: not self.tunnel._tasks and response.digest not in self.tunnel._owed)

    async def code(self, flight: int) -> Code.ValueType:
        """Why a delivery was refused."""
        envelope = await self.call.reply(flight)
        assert envelope.kind == REFUSAL
        return read_refusal(envelope).code


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for happens in a thread
            await asyncio.sleep(0.001)


class FakeTime:
    """The loop's clock, moved by hand; it runs on beside, so that nothing hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        loop = asyncio.get_running_loop()
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + self._ahead)

    def pass_by(self, seconds: float) -> None:
        self._ahead += seconds


@asynccontextmanager
async def attaching(path: Path, monkeypatch: pytest.MonkeyPatch, world: World | None = None) -> AsyncIterator[Attached]:
    async with provider_at(path, world) as provider:
        attached = Attached(provider)

        @asynccontextmanager
        async def open_channel(address: str, identity: object) -> AsyncIterator[Any]:
            assert address == ADDRESS
            yield type(
                "Channel", (), {"stream_stream": lambda _self, method: lambda metadata: check(method, metadata)}
            )()

        def check(method: str, metadata: object) -> FakeCall:
            assert method == ATTACH
            assert metadata == announced()
            return attached.call

        monkeypatch.setattr(module, "open_channel", open_channel)
        monkeypatch.setattr(type(provider.session.home), "tls_identity", lambda _self: TlsIdentity(b"", b"", b""))
        yield attached
        attached.task.cancel()
        await asyncio.wait([attached.task])
        if not attached.task.cancelled():
            attached.task.exception()
        await attached.settler.close()


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Attached]:
    """Not started yet."""
    async with attaching(tmp_path, monkeypatch) as attached:
        yield attached


@pytest.fixture
async def attached(fresh: Attached) -> Attached:
    fresh.start()
    await fresh.attached()
    return fresh


@pytest.fixture
def world(fresh: Attached) -> World:
    return fresh.world


# --- from hello to ready ------------------------------------------------------------------------------


async def test_a_tunnel_begins_with_hello_and_is_ready_where_nothing_is_owed(attached: Attached, world: World) -> None:
    assert attached.call.kinds() == ["hello", "ready"]
    assert attached.call.frames[0].hello.directory_size == world.directory.size
    assert attached.call.frames[0].hello.format == 1
    assert attached.ready == [ADDRESS]
    assert attached.tunnel.is_ready
    assert attached.tunnel.was_ready


async def test_a_broker_of_another_version_is_told_apart_and_gets_nothing_more(fresh: Attached) -> None:
    fresh.call.versions = ("9.0.0 9.0-9.1",)
    with pytest.raises(VersionError, match=r"this adapter is too old, and needs a release that speaks 9\.0"):
        await fresh.start()
    assert fresh.call.kinds() == ["hello"]
    assert not fresh.ready


@pytest.mark.parametrize("versions", [(), ("0.2.0 1.0-1.1",)], ids=["silent", "the next minor version"])
async def test_a_broker_of_a_version_that_is_spoken_here_is_served(fresh: Attached, versions: tuple[str, ...]) -> None:
    fresh.call.versions = versions
    fresh.start()
    await fresh.attached()
    assert fresh.ready == [ADDRESS]


async def test_unsettled_answers_are_offered_first_without_ciphertext(fresh: Attached, world: World) -> None:
    requests = [world.request() for _ in range(3)]
    responses = [await fresh.provider.answer(request) for request in requests]
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 4)
    assert fresh.call.kinds() == ["hello", "offer", "offer", "offer"]
    offers = [frame.offer for frame in fresh.call.frames[1:]]
    assert [decode_envelope(offer.request) for offer in offers] == [request.bare() for request in requests]
    assert [decode_envelope(offer.response) for offer in offers] == [response.bare() for response in responses]
    assert not fresh.tunnel.is_ready


async def test_it_is_ready_only_once_every_offer_is_settled(fresh: Attached, world: World) -> None:
    requests = [world.request() for _ in range(3)]
    responses = [await fresh.provider.answer(request) for request in requests]
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 4)
    for request, response in zip(requests, responses, strict=True):
        assert not fresh.ready
        await fresh.settled(request, response)
    await fresh.attached()
    assert fresh.ready == [ADDRESS]
    assert fresh.provider.ledger.owed_count == 0


async def test_what_is_delivered_before_it_is_ready_is_refused(fresh: Attached, world: World) -> None:
    await fresh.provider.answer(world.request())
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 2)
    fresh.call.deliver(world.request())
    assert await fresh.code(1) == Code.CODE_PROVIDER_UNAVAILABLE
    assert len(fresh.provider.sources.questions) == 1


async def test_a_forged_settlement_settles_no_offer(fresh: Attached, world: World) -> None:
    request = world.request()
    response = await fresh.provider.answer(request)
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 2)
    stranger = World.standard()
    other = stranger.request(case_id="OTHER")
    forged = stranger.release(other, stranger.respond(other))
    fresh.call.settle(response.digest, forged)
    await until(lambda: not fresh.tunnel._tasks)
    assert not fresh.tunnel.is_ready
    await fresh.settled(request, response)
    await fresh.attached()


async def test_many_offers_go_out_in_messages_of_bounded_size(fresh: Attached, world: World) -> None:
    keys = [f"{number:018d}" for number in range(900)]
    requests = [world.request(lookup(*keys)) for _ in range(5)]
    for request in requests:
        await fresh.provider.answer(request)
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 6)
    assert max(map(len, fresh.call.messages)) <= MESSAGE_BYTES


# --- deliveries ---------------------------------------------------------------------------------------


async def test_a_delivery_is_answered_under_its_flight(attached: Attached, world: World) -> None:
    request = world.request()
    response = await attached.answered(request, 7)
    assert response.kind == RESPONSE
    await attached.settled(request, response)
    assert attached.provider.ledger.owed_count == 0


async def test_a_broker_of_the_next_minor_version_is_answered(fresh: Attached, world: World) -> None:
    """Its frames have fields that this adapter does not know."""
    owed = world.request()
    stored = await fresh.provider.answer(owed)
    fresh.call.encode = grown
    fresh.call.versions = (f"0.9.0 {PROTOCOL}-{PROTOCOL.major}.{PROTOCOL.minor + 1}",)
    fresh.start()
    await fresh.call.until(lambda: len(fresh.call.frames) == 2)
    fresh.call.settle(stored.digest, world.release(owed, stored))
    await fresh.attached()
    response = await fresh.answered(world.request(), 7)
    assert response.kind == RESPONSE
    fresh.call.send(BrokerFrame(directory_head=DirectoryHead(size=world.directory.size)))
    await fresh.answered(world.request(), 8)


async def test_a_refusal_names_the_request_it_is_about(attached: Attached, world: World) -> None:
    request = world.request(agreement=bytes(32))
    attached.call.deliver(request, 1)
    refusal = read_refusal(await attached.call.reply(1))
    assert (refusal.code, refusal.check) == (Code.CODE_NO_AGREEMENT, 5)
    assert refusal.request_digest == request.digest
    attached.call.deliver(b"\xff", 2)
    refusal = read_refusal(await attached.call.reply(2))
    assert (refusal.code, refusal.check) == (Code.CODE_MALFORMED, 1)
    assert refusal.request_digest == hashlib.sha256(b"\xff").digest()
    assert not attached.tunnel._owed


async def test_deliveries_are_answered_beside_each_other(attached: Attached, world: World) -> None:
    sources = attached.provider.sources
    sources.gate.clear()
    attached.call.deliver(world.request(), 1)
    await sources.asked.wait()
    attached.call.deliver(world.request(agreement=bytes(32)), 2)
    assert await attached.code(2) == Code.CODE_NO_AGREEMENT
    sources.gate.set()
    assert (await attached.call.reply(1)).kind == RESPONSE


async def test_news_of_the_directory_is_fetched(attached: Attached, world: World) -> None:
    world.register("tax.refund")
    attached.call.send(BrokerFrame(directory_head=DirectoryHead(size=world.directory.size)))
    await until(lambda: attached.provider.session.directory.size == world.directory.size)
    calls = attached.provider.simulator.count(DIRECTORY_SYNC)
    attached.call.send(BrokerFrame(directory_head=DirectoryHead(size=world.directory.size)))
    await attached.answered(world.request())
    assert attached.provider.simulator.count(DIRECTORY_SYNC) == calls


async def test_a_directory_that_cannot_be_read_just_now_does_not_end_the_tunnel(
    attached: Attached, world: World
) -> None:
    attached.provider.simulator.down = 10
    attached.call.send(BrokerFrame(directory_head=DirectoryHead(size=world.directory.size + 1)))
    await until(lambda: not attached.tunnel._tasks and attached.provider.simulator.down < 10)
    attached.provider.simulator.down = 0
    assert (await attached.answered(world.request())).kind == RESPONSE


# --- what is owed -------------------------------------------------------------------------------------


def owe(attached: Attached, count: int) -> None:
    for number in range(count):
        attached.tunnel._owe(number.to_bytes(32, "big"))


async def test_a_broker_that_owes_too_many_receipts_gets_nothing_new(attached: Attached, world: World) -> None:
    owe(attached, MOST_OWED)
    request = world.request()
    response = await attached.answered(request, 1)
    assert response.kind == RESPONSE
    attached.call.deliver(world.request(), 2)
    assert await attached.code(2) == Code.CODE_PROVIDER_UNAVAILABLE
    await attached.settled(request, response)
    assert (await attached.answered(world.request(), 3)).kind == RESPONSE


async def test_what_is_being_answered_counts_as_owed(
    attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a broker that delivers everything at once gets it all on credit."""
    monkeypatch.setattr(module, "MOST_OWED", 4)
    attached.provider.sources.gate.clear()
    for flight in range(1, 9):
        attached.call.deliver(world.request(), flight)
    refused = [await attached.code(flight) for flight in range(6, 9)]
    assert set(refused) == {Code.CODE_PROVIDER_UNAVAILABLE}
    attached.provider.sources.gate.set()
    for flight in range(1, 6):
        assert (await attached.call.reply(flight)).kind == RESPONSE
    assert len(attached.provider.sources.questions) == 5


async def test_a_receipt_owed_for_too_long_stops_new_answers(
    attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = FakeTime(monkeypatch)
    request = world.request()
    response = await attached.answered(request, 1)
    time.pass_by(LONGEST_OWED - 1)
    later = world.request()
    assert (await attached.answered(later, 2)).kind == RESPONSE
    time.pass_by(1.5)
    attached.call.deliver(world.request(), 3)
    assert await attached.code(3) == Code.CODE_PROVIDER_UNAVAILABLE
    # A receipt, however late, opens it again.
    await attached.settled(request, response)
    assert (await attached.answered(world.request(), 4)).kind == RESPONSE


async def test_a_debt_does_not_grow_young_when_its_request_comes_again(
    attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a broker keeps back every receipt, and delivers the first request once more every few seconds."""
    time = FakeTime(monkeypatch)
    request = world.request()
    await attached.answered(request, 1)
    time.pass_by(LONGEST_OWED - 1)
    assert (await attached.answered(request, 2)).kind == RESPONSE
    time.pass_by(2)
    attached.call.deliver(world.request(), 3)
    assert await attached.code(3) == Code.CODE_PROVIDER_UNAVAILABLE


async def test_refusals_are_owed_nothing(attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeTime(monkeypatch)
    attached.call.deliver(world.request(agreement=bytes(32)), 1)
    await attached.code(1)
    time.pass_by(60)
    assert (await attached.answered(world.request(), 2)).kind == RESPONSE


async def test_a_broker_that_withholds_receipts_is_attached_to_anew(
    fresh: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it owes is offered again then."""
    monkeypatch.setattr(module, "STRAY", 0.001)
    time = FakeTime(monkeypatch)
    fresh.start()
    await fresh.attached()
    await fresh.answered(world.request())
    time.pass_by(GIVE_UP - 1)
    await asyncio.sleep(0.01)
    assert not fresh.task.done()
    time.pass_by(1)
    error = await ending(fresh)
    assert isinstance(error, ExchangeError)
    assert "withholds receipts" in str(error)


async def test_an_answer_whose_tunnel_has_gone_is_offered_through_another(
    attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed when nobody was left to send it to; no attachment would ever offer it."""
    stray = world.request()
    response = await attached.provider.answer(stray)
    await attached.tunnel._offer_strays()
    assert "offer" not in attached.call.kinds()
    world.now += int(STRAY * 1000)
    await attached.tunnel._offer_strays()
    await attached.call.until(lambda: "offer" in attached.call.kinds())
    offered = [frame.offer for frame in attached.call.frames if frame.HasField("offer")]
    assert [decode_envelope(offer.response) for offer in offered] == [response.bare()]
    # Once is enough.
    await attached.tunnel._offer_strays()
    await attached.settled(stray, response)
    assert attached.call.kinds().count("offer") == 1


async def test_what_another_broker_is_about_to_settle_is_not_offered_at_once(
    fresh: Attached, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be logged as unreleased while the other releases it."""
    theirs, lost = world.request(), world.request()
    flying, owed = await fresh.provider.answer(theirs), await fresh.provider.answer(lost)
    monkeypatch.setattr(fresh.tunnel, "_elsewhere", lambda digest: digest == flying.digest)
    fresh.start()
    await fresh.call.until(lambda: "offer" in fresh.call.kinds())
    await fresh.settled(lost, owed)
    await fresh.attached()
    assert fresh.call.kinds() == ["hello", "offer", "ready"]
    # Where the other does not, it is offered in the end.
    world.now += int(STRAY * 1000)
    await fresh.tunnel._offer_strays()
    await fresh.call.until(lambda: fresh.call.kinds().count("offer") == 2)


async def test_a_broker_owes_what_was_answered_through_it_until_it_settles_or_goes(
    attached: Attached, world: World
) -> None:
    settled, open_ = world.request(), world.request()
    first = await attached.answered(settled, 1)
    second = await attached.answered(open_, 2)
    assert attached.tunnel.is_owed(first.digest)
    await attached.settled(settled, first)
    assert not attached.tunnel.is_owed(first.digest)
    assert attached.tunnel.is_owed(second.digest)
    attached.call.end()
    await ending(attached)
    assert not attached.tunnel.is_owed(second.digest)


# --- ends ---------------------------------------------------------------------------------------------


async def ending(attached: Attached) -> BaseException | None:
    await asyncio.wait([attached.task], timeout=5)
    return attached.task.exception()


async def test_a_broker_that_ends_the_tunnel_in_order_ends_it(attached: Attached) -> None:
    attached.call.end()
    assert await ending(attached) is None
    assert attached.call.cancelled


async def test_a_broker_that_refuses_the_tunnel_says_why(attached: Attached) -> None:
    attached.call.end(grpc.StatusCode.PERMISSION_DENIED)
    error = await ending(attached)
    assert isinstance(error, ExchangeError)
    assert "because" in str(error)


async def test_bytes_that_are_no_frames_end_the_tunnel(attached: Attached) -> None:
    attached.call.send_bytes(b"\xff")
    assert isinstance(await ending(attached), DecodeError)


async def test_a_write_that_fails_ends_the_tunnel(attached: Attached, world: World) -> None:
    attached.call.error = asyncio.InvalidStateError("RPC already finished")
    attached.call.deliver(world.request())
    assert isinstance(await ending(attached), ExchangeError)


@pytest.mark.parametrize(
    "error",
    [LedgerFatalError("fsync failed"), ForkError("two histories"), OrdersError("replaced")],
    ids=lambda error: type(error).__name__,
)
async def test_what_must_stop_the_process_ends_the_tunnel_with_it(
    attached: Attached, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(_frame: bytes) -> Any:
        raise error

    monkeypatch.setattr(attached.provider.answerer, "answer", fail)
    attached.call.deliver(world.request())
    assert await ending(attached) is error
    assert "reply" not in attached.call.kinds()


async def test_a_settlement_of_a_forked_log_ends_the_tunnel(attached: Attached, world: World) -> None:
    requests = [world.request() for _ in range(2)]
    responses = [await attached.answered(request, flight) for flight, request in enumerate(requests, 1)]
    fork = world.copy()
    fork.now += 1
    attached.call.settle(responses[0].digest, world.release(requests[0], responses[0]))
    await until(lambda: not attached.tunnel._tasks)
    attached.call.settle(responses[1].digest, fork.release(requests[1], responses[1]))
    assert isinstance(await ending(attached), BrokenLogError)


async def test_draining_finishes_what_was_delivered_and_refuses_what_comes_after(
    attached: Attached, world: World
) -> None:
    request = world.request()
    attached.provider.sources.gate.clear()
    attached.call.deliver(request, 1)
    await attached.provider.sources.asked.wait()
    draining = asyncio.create_task(attached.tunnel.drain())
    await asyncio.sleep(0)
    attached.call.deliver(world.request(), 2)
    assert await attached.code(2) == Code.CODE_PROVIDER_UNAVAILABLE
    attached.provider.sources.gate.set()
    response = await attached.call.reply(1)
    assert not draining.done()
    attached.call.settle(response.digest, world.release(request, response))
    await draining
    assert attached.call.finished
    assert attached.provider.ledger.owed_count == 0


async def test_a_tunnel_that_is_left_answers_until_the_broker_delivers_nothing_more(
    attached: Attached, world: World
) -> None:
    leaving = asyncio.create_task(attached.tunnel.leave())
    await attached.call.until(lambda: attached.call.kinds()[-1] == "leaving")
    # Delivered before the broker read it: answered, not refused.
    request = world.request()
    response = await attached.answered(request, 1)
    assert response.kind == RESPONSE
    assert attached.tunnel.is_owed(response.digest)
    assert not leaving.done()
    attached.call.send(BrokerFrame(leaving=Leaving()))
    await until(lambda: attached.tunnel.is_leaving)
    # It waits for what is owed; meanwhile no other tunnel offers it.
    assert attached.tunnel.is_owed(response.digest)
    assert not leaving.done()
    attached.call.settle(response.digest, world.release(request, response))
    await leaving
    assert attached.call.finished
    assert attached.provider.ledger.owed_count == 0


async def test_a_broker_that_knows_no_leaving_is_left_all_the_same(
    attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.01)
    await attached.tunnel.leave()
    assert attached.call.finished


async def test_a_tunnel_that_is_lost_while_it_is_left_ends_at_once(attached: Attached) -> None:
    leaving = asyncio.create_task(attached.tunnel.leave())
    await attached.call.until(lambda: attached.call.kinds()[-1] == "leaving")
    attached.call.end(grpc.StatusCode.UNAVAILABLE)
    await asyncio.wait_for(leaving, 5)


async def test_a_draining_tunnel_does_not_become_ready_again(attached: Attached, world: World) -> None:
    request = world.request()
    response = await attached.answered(request)
    draining = asyncio.create_task(attached.tunnel.drain())
    await asyncio.sleep(0)
    attached.call.settle(response.digest, world.release(request, response))
    await draining
    assert not attached.tunnel.is_ready
    assert attached.call.kinds().count("ready") == len(attached.ready) == 1
