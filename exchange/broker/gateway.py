"""Attach: one adapter's tunnel, from its hello to its end (DESIGN sections 2 and 8)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from exchange.broker.logs import AuditUnavailableError, Logs
from exchange.broker.relay import Relay
from exchange.broker.settlement import MAX_BARE, check_bare
from exchange.broker.status import NotPermittedError, TooManyTunnelsError
from exchange.broker.tunnel import Tunnel, Tunnels
from exchange.core.bars import party_target
from exchange.core.decision import Deny
from exchange.core.envelope import REQUEST, RESPONSE, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.names import Party
from exchange.core.protocol import SILENT, Announcement
from exchange.core.wire import decode_open
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.gateway_pb2 import AdapterFrame, AttachRequest, Offer, Reply

MAX_TUNNELS = 16
MAX_FRAMES = 1024
# Field 1 of AttachRequest, length-delimited.
_FRAME_TAG = 0x0A
_MORE = 0x80

logger = structlog.get_logger("exchange.broker")


class Gateway:
    """Takes adapters' tunnels.

    Args:
        logs: says who is a system, and when the directory moves.
        tunnels: where a tunnel is attached.
        relay: settles what comes in without anybody waiting for it.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, tunnels: Tunnels, relay: Relay, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._tunnels = tunnels
        self._relay = relay
        self._clock = clock
        self._settling: set[asyncio.Task[None]] = set()

    async def attach(
        self,
        peer: Party,
        requests: AsyncIterator[bytes],
        write: Callable[[bytes], Awaitable[None]],
        check: Callable[[], object] = lambda: None,
        announced: Announcement = SILENT,
    ) -> None:
        """Serve one tunnel until it ends.

        Args:
            peer: whom TLS authenticated.
            requests: serialised AttachRequests.
            write: sends a serialised AttachResponse.
            check: raises once the directory has moved so that the peer may not stay.
            announced: which release the adapter is, and which versions of the protocol it speaks.

        Raises:
            NotPermittedError: the peer is not a system of the directory, or it is suspended.
            TooManyTunnelsError: the system has enough of them.
            CoreError: the adapter does not speak the protocol, or offers what is no evidence.
            AuditUnavailableError: an offer could not be settled; the adapter attaches again later.
        """
        if self._logs.directory.role_of(peer, self._clock()) != Role.ROLE_SYSTEM:
            raise NotPermittedError(f"{peer} is not a system with a valid key: only systems answer requests")
        self._check_suspended(peer)
        if self._tunnels.count(peer) >= MAX_TUNNELS:
            raise TooManyTunnelsError(f"{peer} has {MAX_TUNNELS} tunnels already")
        tunnel = Tunnel(peer, write)
        self._tunnels.attach(tunnel)
        logger.info("tunnel attached", system=str(peer), release=announced.package, protocol=announced.spoken)
        side: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._announce(tunnel, check)),
            asyncio.create_task(tunnel.closed.wait()),
        ]
        reading = asyncio.create_task(self._read(tunnel, requests))
        try:
            done, _ = await asyncio.wait((reading, *side), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._tunnels.detach(tunnel)
            for task in (reading, *side):
                task.cancel()
            await asyncio.gather(reading, *side, return_exceptions=True)
            logger.info("tunnel ended", system=str(peer))

    async def drain(self) -> None:
        """Wait until what came late is settled, and end every tunnel once its receipts are sent."""
        while self._settling:
            await asyncio.wait(tuple(self._settling))
        for tunnel in tuple(self._tunnels):
            await tunnel.drain()

    async def _announce(self, tunnel: Tunnel, check: Callable[[], object]) -> None:
        """Tell the adapter at once when the directory moves."""
        size = self._logs.directory.size
        while not tunnel.closed.is_set():
            check()
            self._end_suspended(tunnel)
            tunnel.announce(size)
            size = await self._logs.moved(size)

    def _end_suspended(self, tunnel: Tunnel) -> None:
        """Whoever waits is told why before the tunnel ends; what is owed is offered once it is resumed."""
        try:
            self._check_suspended(tunnel.system)
        except NotPermittedError as error:
            for flight in tunnel.flights():
                flight.cut(Deny(6, Code.CODE_SUSPENDED, str(error)))
            raise

    def _check_suspended(self, system: Party) -> None:
        bars = self._logs.directory.state.bars
        for party in (system.own_department, system):
            held = bars.holding(party_target(party), self._clock())
            if held is not None:
                raise NotPermittedError(f"{party} is suspended by {held.by}: {held.said.reason}")

    async def _read(self, tunnel: Tunnel, requests: AsyncIterator[bytes]) -> None:
        greeted = False
        async for data in requests:
            check_frames(data)
            offers = []
            for frame in decode_open(AttachRequest, data).frames:
                if frame.HasField("hello") == greeted:
                    raise DecodeError("a tunnel begins with one hello")
                greeted = True
                if frame.HasField("offer"):
                    offers.append(frame.offer)
                else:
                    self._take(tunnel, frame)
            # Together, so that they share a commit: after a restart there may be a thousand.
            settling = [asyncio.create_task(self._settle(tunnel, offer)) for offer in offers]
            try:
                await asyncio.gather(*settling)
            finally:
                for task in settling:
                    task.cancel()

    def _take(self, tunnel: Tunnel, frame: AdapterFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "ready":
            tunnel.is_ready = True
        elif kind == "reply":
            self._land(tunnel, frame.reply)
        elif kind == "leaving":
            tunnel.leave()
        elif kind is None:
            raise DecodeError("the frame is empty")

    async def _settle(self, tunnel: Tunnel, offer: Offer) -> None:
        request = decode_envelope(offer.request, REQUEST, MAX_BARE)
        answer = decode_envelope(offer.response, RESPONSE, MAX_BARE)
        await self._relay.settle_offer(tunnel, request, answer)

    def _land(self, tunnel: Tunnel, reply: Reply) -> None:
        flight = tunnel.land(reply)
        if flight is None:
            return
        # It came after its waiter had gone: the answer is settled all the same.
        try:
            answer = decode_envelope(reply.envelope, RESPONSE)
            check_bare(answer)
        except CoreError:
            return
        task = asyncio.create_task(self._settle_late(tunnel, flight.request, answer))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle_late(self, tunnel: Tunnel, request: Envelope, answer: Envelope) -> None:
        try:
            await self._relay.settle(tunnel, request, answer)
        except (AuditUnavailableError, CoreError):
            self._tunnels.detach(tunnel)


def check_frames(data: bytes) -> None:
    """Refuse a message of more frames than an adapter sends, before each of them costs anything.

    Raises:
        DecodeError: too many frames, or no frames.
    """
    position = frames = 0
    while position < len(data):
        frames += 1
        if frames > MAX_FRAMES:
            raise DecodeError(f"a message has at most {MAX_FRAMES:,} frames")
        if data[position] != _FRAME_TAG:
            raise DecodeError("an adapter sends frames, and nothing else")
        position += 1 + _skip(data, position + 1)


def _skip(data: bytes, start: int) -> int:
    """The size of a length-delimited value, its length (a base 128 varint) included."""
    length = 0
    for place, byte in enumerate(data[start : start + 5]):
        length |= (byte & ~_MORE) << (7 * place)
        if not byte & _MORE:
            return place + 1 + length
    raise DecodeError("a frame's length cannot be read")
