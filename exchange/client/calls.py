"""Calls to a broker: the transport seam, gRPC behind it, and strict coding."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from exchange.client.call_errors import UPDATE, error_of_call
from exchange.client.errors import ExchangeError, ResponseInvalidError, UnavailableError
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError, DecodeError, NoteError
from exchange.core.note import Verifier
from exchange.core.protocol import Announcement, agreed
from exchange.core.wire import decode_open, encode
from exchange.transport import (
    TlsIdentity,
    announced,
    announcement_in,
    open_channel,
    own_announcement,
)

M = TypeVar("M", bound=Message)
T = TypeVar("T")
P = ParamSpec("P")

FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0
"""The longest wait before the first and before any later retry, seconds."""

MAX_CHECKPOINT = 16 * 1024
"""Bytes of a signed checkpoint: dozens of cosignatures fit, and a broker cannot fill this party's memory with it."""

# What a broker that stops, has lost its database or hangs answers, or leaves to the connection to say.
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


class Transport(Protocol):
    """The way to a broker. Calls may run at the same time; bytes are not looked into."""

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        """One call.

        Args:
            method: its path, from `exchange.transport`.
            request: a serialised message.
            timeout: seconds.

        Raises:
            RefusedError: a refusal came back, signed or not; nothing in it is verified.
            UnavailableError: no answer; `retry` says whether the same bytes may be sent again.
        """
        ...

    async def close(self) -> None:
        """Give up the connections."""
        ...


class GrpcTransport:
    """gRPC with mutual TLS to the first broker that can be reached; create and use it on one event loop.

    Args:
        brokers: addresses, HOST:PORT, of which the trust file has at least one.
        identity: this party's TLS key and certificate.
    """

    def __init__(self, brokers: Sequence[str], identity: TlsIdentity) -> None:
        self._brokers = tuple(brokers)
        self._current = 0
        self._channels = _Channels(identity)
        self._old: list[_Channels] = []
        self._announced: dict[str, Announcement] = {}

    def announced(self, broker: str) -> Announcement | None:
        """What a broker said of itself with its last answer; None before it gave one."""
        return self._announced.get(broker)

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        """One call; another broker is tried only where the connection never stood, so nothing is sent twice."""
        with self._channels.used() as channels:
            return await self._unary(channels, method, request, timeout)

    async def _unary(self, channels: "_Channels", method: str, request: bytes, timeout: float) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        problems: list[ExchangeError] = []
        for step in range(len(self._brokers)):
            index = (self._current + step) % len(self._brokers)
            broker = self._brokers[index]
            channel = channels.to(broker)
            # An equal share for each broker left, so that one that swallows packets does not use all the time up.
            state = await _connect(channel, (deadline - loop.time()) / (len(self._brokers) - step))
            if state is None:
                problems.append(UnavailableError(f"{broker}: no connection in time"))
                continue
            try:
                # Where the connection failed, the call does so at once, and says why.
                remaining = max(deadline - loop.time(), 0.001)
                sent = channel.unary_unary(method, None, None)(request, timeout=remaining, metadata=announced())
                answer: bytes = await sent
                self._keep_announced(broker, await sent.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                problems.append(error_of_call(error, broker))
                if state == grpc.ChannelConnectivity.READY or error.code() != grpc.StatusCode.UNAVAILABLE:
                    if error.code() in _GONE:
                        # Whoever sends the same again, as only the caller may, gets another broker.
                        self._current = (index + 1) % len(self._brokers)
                    raise problems[-1] from error
            else:
                self._current = index
                return answer
        reasons = "; ".join(map(str, problems))
        raise UnavailableError(f"no broker can be reached: {reasons}", status="UNAVAILABLE", retry=True)

    def renew(self, identity: TlsIdentity) -> None:
        """Show another certificate from the next call on; calls under way end on the connections that they have.

        Args:
            identity: this party's renewed TLS key and certificate.
        """
        self._old = [*(old for old in self._old if not old.is_closed), self._channels]
        self._channels.retire()
        self._channels = _Channels(identity)

    async def close(self) -> None:
        """Close every channel."""
        old, self._old = self._old, []
        await asyncio.gather(*(channels.close() for channels in (self._channels, *old)))

    def _keep_announced(self, broker: str, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """What a broker says of itself.

        Raises:
            UnavailableError: it cannot be read, or the two speak no common version.
        """
        try:
            found = self._announced[broker] = announcement_in(metadata)
            agreed(own_announcement(), found, ("this program", f"the broker {broker}"))
        except CoreError as error:
            raise UnavailableError(str(error), UPDATE, status="FAILED_PRECONDITION") from error


class _Channels:
    """The channels that show one certificate: closed once it is renewed and no call uses them any more."""

    def __init__(self, identity: TlsIdentity) -> None:
        self._identity = identity
        self._open: dict[str, grpc.aio.Channel] = {}
        self._calls = 0
        self._is_retired = False
        self._closing: asyncio.Task[None] | None = None

    def to(self, broker: str) -> grpc.aio.Channel:
        """The one to a broker."""
        if broker not in self._open:
            self._open[broker] = open_channel(broker, self._identity)
        return self._open[broker]

    @contextmanager
    def used(self) -> "Iterator[_Channels]":
        """These channels for one call: a channel that is closed fails whoever waits for its connection."""
        self._calls += 1
        try:
            yield self
        finally:
            self._calls -= 1
            self._close_if_unused()

    @property
    def is_closed(self) -> bool:
        """Whether nothing is left of them."""
        return self._closing is not None and self._closing.done()

    async def close(self) -> None:
        """Close them all."""
        channels = tuple(self._open.values())
        self._open.clear()
        await asyncio.gather(*(channel.close(None) for channel in channels))

    def retire(self) -> None:
        """Take no more calls."""
        self._is_retired = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_retired and not self._calls:
            # Held here until it is done: the event loop alone would let it go.
            self._closing = asyncio.create_task(self.close())


async def call(transport: Transport, method: str, message: Message, response_type: type[M], timeout: float) -> M:
    """One call with its messages encoded and decoded strictly.

    Args:
        timeout: seconds.

    Raises:
        RefusedError, UnavailableError: as `Transport.unary`.
        ResponseInvalidError: what came back is not a canonical message of this type.
    """
    data = await transport.unary(method, encode(message), timeout)
    try:
        return decode_open(response_type, data)
    except DecodeError as error:
        raise ResponseInvalidError(f"the broker's answer is malformed: {error}") from error


async def call_until(transport: Transport, method: str, message: Message, response_type: type[M], deadline: float) -> M:
    """The same call, with the same bytes, until an answer or a refusal comes back.

    Only for calls that may come twice: a request by its digest, an entry by its own (DESIGN section 6).

    Args:
        deadline: seconds, by the event loop's clock.

    Raises:
        RefusedError, UnavailableError, ResponseInvalidError: as `call`; a refusal is never tried again.
    """
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE
    while True:
        try:
            return await call(transport, method, message, response_type, max(deadline - loop.time(), 0.001))
        except UnavailableError as error:
            # Anything up to the whole pause, or all the clients of a broker that restarts come back at once.
            delay = random.uniform(0, pause)  # noqa: S311 - spreads load, guards nothing
            if not error.retry or loop.time() + delay >= deadline:
                raise
        await asyncio.sleep(delay)
        pause = min(2 * pause, LAST_PAUSE)


@dataclass(slots=True)
class _Flight:
    """Work under way, and how many callers wait for it."""

    task: asyncio.Task[None]
    waiters: int = 0


class Shared:
    """Work that callers at the same moment share; it is cancelled when the last of them has gone."""

    def __init__(self) -> None:
        self._flight: _Flight | None = None

    async def join(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the work under way, or begin it."""
        while self._flight is not None and self._flight.task.cancelling():
            # Nobody waits for it, and it ends as soon as its thread is done.
            await asyncio.wait([self._flight.task])
        if self._flight is None:
            self._flight = _Flight(asyncio.create_task(work()))
            self._flight.task.add_done_callback(self._land)
        flight = self._flight
        flight.waiters += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters:
                flight.task.cancel()

    async def close(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        if self._flight is not None:
            self._flight.task.cancel()
            await asyncio.wait([self._flight.task])

    def _land(self, task: "asyncio.Task[None]") -> None:
        self._flight = None
        # Read, so that nothing is logged where every caller has gone.
        if not task.cancelled():
            task.exception()


async def whole(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run work in a thread; a caller that is cancelled leaves when the thread is done, so that no two work at once."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()
        raise


def check_length(note: bytes) -> None:
    """Refuse a checkpoint that is too long, before anything else is done with it.

    Raises:
        NoteError: it is.
    """
    if len(note) > MAX_CHECKPOINT:
        raise NoteError(f"a checkpoint of {len(note)} bytes: the most is {MAX_CHECKPOINT}")


def brokers_checkpoint(note: bytes, verifier: Verifier) -> Checkpoint:
    """A checkpoint as a broker gave it.

    Raises:
        NoteError: too long, or as `open_checkpoint`.
    """
    check_length(note)
    return open_checkpoint(note, verifier)


async def _connect(channel: grpc.aio.Channel, timeout: float) -> grpc.ChannelConnectivity | None:
    """The state that the connection settles in, or None if it does not within `timeout` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            state = channel.get_state(try_to_connect=True)
            while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
            return state
    return None
