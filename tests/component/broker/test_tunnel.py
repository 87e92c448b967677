import asyncio

import pytest

from exchange.broker.tunnel import MAX_FLIGHTS, MESSAGE_BYTES, Tunnel, TunnelFullError, TunnelLostError, Tunnels
from exchange.core.decision import Allow, decide
from exchange.core.wire import MAX_FRAME, decode
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.gateway_pb2 import AttachResponse, BrokerFrame, Reply
from tests.world import APPLICATIONS, MARRIAGE, REGISTRY, World


class Stream:
    """Where a tunnel writes: it keeps every message, and waits while its gate is shut."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(data)
        await self.gate.wait()

    @property
    def frames(self) -> list[list[BrokerFrame]]:
        return [list(decode(AttachResponse, data).frames) for data in self.messages]


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def tunnel(stream: Stream) -> Tunnel:
    return Tunnel(REGISTRY, stream)


@pytest.fixture
def allow(world: World) -> Allow:
    allowed = decide(world.directory, world.request(), world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allowed, Allow)
    return allowed


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_arrives_during_a_write_goes_out_with_the_next(tunnel: Tunnel, stream: Stream, allow: Allow) -> None:
    stream.gate.clear()
    tunnel.deliver(allow, 1000)
    await settled()
    for number in range(5):
        tunnel.settle(bytes([number]) * 32, Receipt())
    tunnel.announce(7)
    await settled()
    assert len(stream.messages) == 1
    stream.gate.set()
    await settled()
    assert [len(frames) for frames in stream.frames] == [1, 6]
    assert stream.frames[1][-1].directory_head.size == 7


async def test_a_message_stays_within_its_bound(tunnel: Tunnel, stream: Stream) -> None:
    receipt = Receipt(leaf=bytes(MESSAGE_BYTES // 3))
    for _ in range(8):
        tunnel.settle(bytes(32), receipt)
    await settled()
    assert sum(len(frames) for frames in stream.frames) == 8
    assert len(stream.messages) == 4
    assert max(map(len, stream.messages)) < MAX_FRAME


async def test_each_delivery_has_a_number_of_its_own(tunnel: Tunnel, stream: Stream, allow: Allow) -> None:
    for _ in range(3):
        tunnel.deliver(allow, 1234)
    await settled()
    deliveries = [frame.delivery for frames in stream.frames for frame in frames]
    assert [delivery.flight for delivery in deliveries] == [1, 2, 3]
    assert {delivery.timeout for delivery in deliveries} == {1234}


async def test_a_reply_lands_with_its_own_flight(tunnel: Tunnel, allow: Allow) -> None:
    flights = [tunnel.deliver(allow, 1000) for _ in range(2)]
    assert tunnel.land(Reply(flight=2, envelope=b"second")) is None
    assert not flights[0].reply.done()
    assert flights[1].reply.result() == b"second"


async def test_a_reply_that_nobody_waits_for_gives_its_flight_back_once(tunnel: Tunnel, allow: Allow) -> None:
    flight = tunnel.deliver(allow, 1000)
    flight.reply.cancel()
    assert tunnel.land(Reply(flight=1, envelope=b"late")) is flight
    assert tunnel.land(Reply(flight=1, envelope=b"again")) is None


async def test_what_nobody_waits_for_keeps_only_what_settles_it_and_not_for_ever(tunnel: Tunnel, allow: Allow) -> None:
    flights = [tunnel.deliver(allow, 1000) for _ in range(2)]
    for flight, seconds in zip(flights, (30.0, -1.0), strict=True):
        flight.reply.cancel()
        tunnel.keep_for_settlement(flight, seconds)
    await asyncio.sleep(0.01)
    assert flights[0].request == allow.asked.envelope.bare()
    assert tunnel.land(Reply(flight=2, envelope=b"late")) is None
    assert tunnel.land(Reply(flight=1, envelope=b"late")) is flights[0]


async def test_a_tunnel_has_room_for_so_many_flights(tunnel: Tunnel, allow: Allow) -> None:
    flights = [tunnel.deliver(allow, 1000) for _ in range(MAX_FLIGHTS)]
    with pytest.raises(TunnelFullError):
        tunnel.deliver(allow, 1000)
    # A flight whose waiter has gone counts until its reply comes.
    flights[0].reply.cancel()
    with pytest.raises(TunnelFullError):
        tunnel.deliver(allow, 1000)
    tunnel.land(Reply(flight=1, envelope=b"late"))
    tunnel.deliver(allow, 1000)


async def test_a_tunnel_holds_so_many_bytes(
    tunnel: Tunnel, stream: Stream, allow: Allow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.broker.tunnel.MAX_HELD", 2 * len(allow.asked.envelope.encode()))
    stream.gate.clear()
    tunnel.deliver(allow, 1000)
    tunnel.deliver(allow, 1000)
    with pytest.raises(TunnelFullError):
        tunnel.deliver(allow, 1000)
    # Answered, or given up, but still not sent.
    for flight in tuple(tunnel._flights.values()):
        flight.reply.cancel()
    await settled()
    with pytest.raises(TunnelFullError):
        tunnel.deliver(allow, 1000)
    stream.gate.set()
    await settled()
    tunnel.deliver(allow, 1000)


async def test_a_closed_tunnel_takes_no_deliveries(tunnel: Tunnel, allow: Allow) -> None:
    flight = tunnel.deliver(allow, 1000)
    tunnel.close()
    tunnel.close()
    with pytest.raises(TunnelLostError):
        await flight.reply
    with pytest.raises(TunnelLostError):
        tunnel.deliver(allow, 1000)
    with pytest.raises(TunnelLostError):
        tunnel.announce(1)
    # A settlement that gets lost is given again at the next attachment.
    tunnel.settle(bytes(32), Receipt())
    assert tunnel.land(Reply(flight=1, envelope=b"late")) is None


async def test_a_write_that_fails_closes_the_tunnel(tunnel: Tunnel, stream: Stream, allow: Allow) -> None:
    stream.error = ConnectionResetError()
    tunnel.is_ready = True
    flight = tunnel.deliver(allow, 1000)
    with pytest.raises(TunnelLostError):
        await flight.reply
    assert tunnel.closed.is_set()
    assert not tunnel.is_ready


async def test_only_a_ready_tunnel_of_the_system_is_chosen(stream: Stream) -> None:
    tunnels = Tunnels()
    mine, other = Tunnel(REGISTRY, stream), Tunnel(MARRIAGE, stream)
    for tunnel in (mine, other):
        tunnels.attach(tunnel)
    other.is_ready = True
    assert tunnels.ready(REGISTRY) is None
    mine.is_ready = True
    assert tunnels.ready(REGISTRY) is mine


async def test_ready_tunnels_take_turns(stream: Stream) -> None:
    tunnels = Tunnels()
    attached = [Tunnel(REGISTRY, stream) for _ in range(3)]
    for tunnel in attached:
        tunnels.attach(tunnel)
        tunnel.is_ready = True
    attached[1].is_ready = False
    turns = [tunnels.ready(REGISTRY) for _ in range(4)]
    assert turns == [attached[0], attached[2], attached[0], attached[2]]


async def test_a_detached_tunnel_is_closed_and_forgotten(stream: Stream) -> None:
    tunnels = Tunnels()
    one, two = Tunnel(REGISTRY, stream), Tunnel(REGISTRY, stream)
    for tunnel in (one, two):
        tunnels.attach(tunnel)
        tunnel.is_ready = True
    tunnels.detach(one)
    tunnels.detach(one)
    assert one.closed.is_set()
    assert list(tunnels) == [two]
    tunnels.detach(two)
    assert tunnels.ready(REGISTRY) is None
    assert list(tunnels) == []
