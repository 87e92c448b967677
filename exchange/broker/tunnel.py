"""The tunnels that adapters dial: deliveries out, replies and offers in (DESIGN section 8)."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exchange.batching import Batcher, ClosedError, split
from exchange.core.decision import Allow, Deny
from exchange.core.envelope import Envelope
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.gateway_pb2 import AttachResponse, BrokerFrame, Delivery, DirectoryHead, Leaving, Reply, Settlement

MESSAGE_BYTES = 1024 * 1024
# Requests that one tunnel may owe a reply to, and the bytes of those that are not sent or still waited for.
MAX_FLIGHTS = 1024
MAX_HELD = 64 * 1024 * 1024

Write = Callable[[bytes], Awaitable[None]]


class TunnelLostError(Exception):
    """The tunnel ended before the reply came."""


class TunnelFullError(Exception):
    """Too many requests wait for this tunnel's replies."""


class FlightCutError(Exception):
    """The request may no longer be answered.

    Args:
        deny: why.
    """

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.reason)
        self.deny = deny


@dataclass(eq=False, slots=True)
class Flight:
    """A request on its way to a provider and back; without its attachments once nobody waits for the reply."""

    number: int
    request: Envelope
    reply: "asyncio.Future[bytes]"

    def cut(self, deny: Deny) -> None:
        """Tell whoever waits for the reply that it may not have it; nothing where nobody waits any more."""
        self.fail(FlightCutError(deny))

    def fail(self, error: Exception) -> None:
        """Tell whoever waits for the reply why there will be none."""
        if not self.reply.done():
            self.reply.set_exception(error)
            # The waiter may have gone; then nobody else asks for this exception.
            self.reply.exception()


class Tunnel:
    """One attached adapter.

    Args:
        system: whom TLS authenticated.
        write: sends one serialised AttachResponse.
    """

    def __init__(self, system: Party, write: Write) -> None:
        self.system = system
        self.is_ready = False
        self.closed = asyncio.Event()
        self._write = write
        self._numbers = itertools.count(1)
        self._flights: dict[int, Flight] = {}
        self._held = 0
        self._frames: Batcher[BrokerFrame, None] = Batcher(self._send)

    def deliver(self, allow: Allow, timeout: int) -> Flight:
        """Send a request to the adapter.

        Args:
            allow: the request, as checks 2 to 8 allowed it.
            timeout: what is left of the requester's deadline, milliseconds.

        Raises:
            TunnelLostError: the tunnel has ended.
            TunnelFullError: too many requests wait already.
        """
        request = allow.asked.envelope
        frame = Delivery(flight=next(self._numbers), envelope=request.encode(), timeout=timeout)
        size = len(frame.envelope)
        if len(self._flights) >= MAX_FLIGHTS or self._held + size > MAX_HELD:
            raise TunnelFullError("too many requests wait for this tunnel's replies")
        sent = self._post(BrokerFrame(delivery=frame))
        flight = Flight(frame.flight, request, asyncio.get_running_loop().create_future())
        self._flights[flight.number] = flight
        self._hold(size, sent, flight.reply)
        return flight

    def keep_for_settlement(self, flight: Flight, seconds: float) -> None:
        """Nobody waits for a flight any more: keep what settles a late reply, and for a time only."""
        flight.request = flight.request.bare()
        asyncio.get_running_loop().call_later(max(0.0, seconds), self._flights.pop, flight.number, None)

    def settle(self, response_digest: bytes, receipt: Receipt) -> None:
        """Send the access entry that settles an answer; a lost tunnel is told again when it attaches again."""
        frame = Settlement(response_digest=response_digest, receipt=receipt)
        try:
            self._post(BrokerFrame(settlement=frame))
        except TunnelLostError:
            return

    def announce(self, size: int) -> None:
        """Say that the directory has moved."""
        self._post(BrokerFrame(directory_head=DirectoryHead(size=size)))

    def leave(self) -> None:
        """Deliver nothing more, and say so: another tunnel of the adapter has taken over."""
        self.is_ready = False
        self._post(BrokerFrame(leaving=Leaving()))

    def land(self, reply: Reply) -> Flight | None:
        """Match a reply to its flight; None for a flight that this tunnel does not know, or that has landed."""
        flight = self._flights.pop(reply.flight, None)
        if flight is not None and not flight.reply.done():
            flight.reply.set_result(reply.envelope)
            return None
        return flight

    def flights(self) -> tuple[Flight, ...]:
        """Those whose reply somebody waits for."""
        return tuple(flight for flight in self._flights.values() if not flight.reply.done())

    async def drain(self) -> None:
        """Send what is queued, then end the tunnel."""
        await self._frames.close()
        self.close()

    def close(self) -> None:
        """End the tunnel: what is in flight is lost, and comes back as an offer or a retry."""
        self.is_ready = False
        self.closed.set()
        for flight in self._flights.values():
            flight.fail(TunnelLostError("the provider's tunnel was lost"))
        self._flights.clear()

    def _hold(self, size: int, *ends: "asyncio.Future[Any]") -> None:
        """Count bytes until everything that holds them has ended."""
        remaining = set(ends)
        self._held += size

        def ended(future: "asyncio.Future[Any]") -> None:
            remaining.discard(future)
            if not remaining:
                self._held -= size

        for end in ends:
            end.add_done_callback(ended)

    def _post(self, frame: BrokerFrame) -> "asyncio.Future[None]":
        if self.closed.is_set():
            raise TunnelLostError("the provider's tunnel was lost")
        try:
            future = self._frames.submit(frame)
        except ClosedError as error:
            raise TunnelLostError("the provider's tunnel was lost") from error
        future.add_done_callback(self._sent)
        return future

    def _sent(self, future: "asyncio.Future[None]") -> None:
        if future.cancelled() or future.exception() is not None:
            self.close()

    async def _send(self, frames: Sequence[BrokerFrame]) -> Sequence[None]:
        for part in split(frames, BrokerFrame.ByteSize, MESSAGE_BYTES):
            await self._write(encode(AttachResponse(frames=part)))
        return [None] * len(frames)


class Tunnels:
    """The adapters attached to this broker."""

    def __init__(self) -> None:
        self._attached: dict[Party, list[Tunnel]] = {}

    def __iter__(self) -> Iterator[Tunnel]:
        return iter([tunnel for tunnels in self._attached.values() for tunnel in tunnels])

    @property
    def systems(self) -> int:
        """How many systems have a tunnel that takes requests."""
        return sum(any(tunnel.is_ready for tunnel in tunnels) for tunnels in self._attached.values())

    def count(self, system: Party) -> int:
        """How many tunnels of this system are attached."""
        return len(self._attached.get(system, ()))

    def attach(self, tunnel: Tunnel) -> None:
        """Add a tunnel; it takes deliveries once it is ready."""
        self._attached.setdefault(tunnel.system, []).append(tunnel)

    def detach(self, tunnel: Tunnel) -> None:
        """End a tunnel and forget it."""
        tunnel.close()
        remaining = [other for other in self._attached.get(tunnel.system, ()) if other is not tunnel]
        if remaining:
            self._attached[tunnel.system] = remaining
        else:
            self._attached.pop(tunnel.system, None)

    def ready(self, system: Party) -> Tunnel | None:
        """A tunnel of this system that is owed nothing from before; in turn, where there are several."""
        tunnels = self._attached.get(system, [])
        for tunnel in tunnels:
            if tunnel.is_ready:
                tunnels.append(tunnels.pop(tunnels.index(tunnel)))
                return tunnel
        return None
