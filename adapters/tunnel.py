"""One tunnel: the adapter dials, offers what is unsettled, and answers what is delivered (DESIGN section 8)."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog

from adapters.answering import Answerer, DenyError
from adapters.ledger import Ledger, LedgerError, LedgerFatalError, Stored
from adapters.orders import OrdersError
from adapters.settling import Settler
from exchange.batching import Batcher, ClosedError, split
from exchange.client.errors import BrokenLogError, ExchangeError
from exchange.client.session import Session
from exchange.core.access import code_name
from exchange.core.decision import Deny
from exchange.core.envelope import decode_envelope
from exchange.core.errors import CoreError
from exchange.core.protocol import SILENT, Announcement, agreed
from exchange.core.wire import FORMAT, decode_open, encode
from exchange.transport import ATTACH, announced, announcement_in, open_channel, own_announcement
from exchange.v1.access_pb2 import Code
from exchange.v1.gateway_pb2 import (
    AdapterFrame,
    AttachRequest,
    AttachResponse,
    BrokerFrame,
    Delivery,
    Hello,
    Leaving,
    Offer,
    Ready,
    Reply,
    Settlement,
)

MESSAGE_BYTES = 1024 * 1024
MOST_OWED = 1000
LONGEST_OWED = 5.0
GIVE_UP = 15.0
STRAY = 5.0
LEAVE_SECONDS = 10.0

logger = structlog.get_logger("exchange.adapter")

# The stubs leave it out.
_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]

_CANNOT = Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the provider cannot answer now")


class Tunnel:
    """One attachment to one broker, from hello to end.

    Args:
        address: HOST:PORT of the broker.
        session: the system's open home.
        answerer: answers deliveries; settler: takes receipts.
        ledger: says what is owed.
        ready: called with the address once everything owed is settled, and requests may come.
        elsewhere: whether another broker, through a tunnel that stands, is about to settle an answer.
    """

    def __init__(
        self,
        address: str,
        session: Session,
        answerer: Answerer,
        settler: Settler,
        ledger: Ledger,
        ready: Callable[[str], None],
        elsewhere: Callable[[bytes], bool] = lambda _digest: False,
    ) -> None:
        self.address = address
        self._session = session
        self._answerer = answerer
        self._settler = settler
        self._ledger = ledger
        self._owed: dict[bytes, float] = {}
        self._answering = 0
        self._offered: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._receipted, self._ended, self._left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.attached = asyncio.Event()
        self._receipted.set()
        self._call: Any = None
        self._broker: Announcement = SILENT
        self._frames: Batcher[AdapterFrame, None] = Batcher(self._send)
        self._ready = ready
        self._elsewhere = elsewhere
        self.is_ready = False
        self.was_ready = False
        self.is_leaving = False

    async def run(self) -> None:
        """Serve one attachment until it ends.

        Raises:
            grpc.RpcError: the broker cannot be reached, or ended the tunnel.
            BrokenLogError: the log contradicts itself: answer nothing more.
            LedgerFatalError: the disk failed: the process must stop.
        """
        self._failed = asyncio.get_running_loop().create_future()
        async with open_channel(self.address, self._session.home.tls_identity()) as channel:
            method: Any = channel.stream_stream
            self._call = method(ATTACH)(metadata=announced())
            reading = asyncio.create_task(self._read())
            watching = asyncio.create_task(self._watch())
            try:
                done, _ = await asyncio.wait((reading, watching, self._failed), return_when=asyncio.FIRST_COMPLETED)
                for ended in done:
                    ended.result()
            finally:
                self._call.cancel()
                await self._end(reading, watching)

    @property
    def offered(self) -> int:
        """How many unsettled answers were offered when it attached, and are not settled yet."""
        return len(self._offered)

    def is_owed(self, response_digest: bytes) -> bool:
        """Whether this broker, attached and ready, owes the receipt of an answer that was given through it."""
        stands = self.is_ready or (self.is_leaving and not self._ended.is_set())
        return stands and response_digest in self._owed

    async def leave(self) -> None:
        """Let another tunnel take over: answer until the broker says that it delivers nothing more, then drain."""
        self._post(AdapterFrame(leaving=Leaving()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._left.wait()
        await self.drain()

    async def drain(self) -> None:
        """Finish what was delivered, send it, and see it arrive: each answer's receipt says so."""
        self.is_leaving = True
        self.is_ready = False
        if self._tasks:
            # What is delivered from now on is refused.
            await asyncio.wait(tuple(self._tasks))
        await self._receipted.wait()
        await self._frames.close()
        if self._call is not None:
            # Not cancelled: the broker would throw away the refusals that it has not read yet.
            await self._call.done_writing()
            await self._ended.wait()

    async def _end(self, *tasks: "asyncio.Task[None]") -> None:
        # What it owed is no longer its own to settle: any other may be offered it.
        self.is_ready = False
        self._receipted.set()
        self._ended.set()
        self._left.set()
        for task in (*tasks, *self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        if self._failed is not None and self._failed.done() and not self._failed.cancelled():
            self._failed.exception()

    async def _read(self) -> None:
        hello = Hello(format=FORMAT, directory_size=self._session.directory.size)
        await self._frames.submit(AdapterFrame(hello=hello))
        self._broker = announcement_in(await self._call.initial_metadata())
        agreed(own_announcement(), self._broker, ("this adapter", f"the broker {self.address}"))
        await self._offer()
        while True:
            data = await self._call.read()
            if data is _END:
                await self._raise_status()
                return
            for frame in decode_open(AttachResponse, data).frames:
                await self._take(frame)

    async def _raise_status(self) -> None:
        if await self._call.code() != grpc.StatusCode.OK:
            raise ExchangeError(f"{self.address} ended the tunnel: {await self._call.details()}")

    async def _offer(self) -> None:
        """Offer every unsettled answer, without its ciphertext; nothing new is answered until all are settled."""
        for stored in await asyncio.to_thread(self._ledger.owed):
            # Offered here, it would be logged as unreleased while the other broker releases it.
            if not self._elsewhere(stored.response_digest):
                self._offered.add(stored.response_digest)
                self._post_offer(stored)
        if self._offered:
            logger.info("unsettled answers are offered", broker=self.address, answers=len(self._offered))
        self._ready_if_settled()

    def _post_offer(self, stored: Stored) -> None:
        self._owe(stored.response_digest)
        self._post(AdapterFrame(offer=Offer(request=stored.request, response=stored.response)))

    async def _offer_strays(self) -> None:
        """Offer what was committed when the tunnel that it was asked through had gone: nobody else will."""
        latest = self._session.clock() - STRAY * 1000
        if self._ledger.oldest_owed is None or self._ledger.oldest_owed > latest:
            return
        for stored in await asyncio.to_thread(self._ledger.owed):
            if stored.time <= latest and stored.response_digest not in self._owed:
                self._post_offer(stored)

    def _owe(self, response_digest: bytes) -> None:
        # A retry makes a debt no younger: else one request, sent again and again, would hide how old all others are.
        self._owed.setdefault(response_digest, asyncio.get_running_loop().time())
        self._receipted.clear()

    def _ready_if_settled(self) -> None:
        if not self._offered and not self.is_ready and not self.is_leaving:
            self.is_ready = self.was_ready = True
            self.attached.set()
            self._post(AdapterFrame(ready=Ready()))
            release, protocol = self._broker.package, self._broker.spoken
            logger.info("attached", broker=self.address, release=release, protocol=protocol)
            self._ready(self.address)

    async def _take(self, frame: BrokerFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "delivery":
            self._spawn(self._deliver(frame.delivery))
        elif kind == "leaving":
            self._left.set()
        elif kind == "settlement":
            self._spawn(self._settle(frame.settlement))
        elif kind == "directory_head" and frame.directory_head.size > self._session.directory.size:
            self._spawn(self._sync(frame.directory_head.size))

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            if self.is_leaving:
                raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the provider's adapter is stopping"))
            if self._owes_too_much():
                reason = "this broker owes the provider receipts: nothing new is answered through it"
                raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, reason))
            response = await self._answer(delivery.envelope)
        except DenyError as error:
            logger.info("refused", code=code_name(error.deny.code), check=error.deny.check)
            response = self._refusal(delivery, error.deny)
        except (BrokenLogError, LedgerFatalError, OrdersError):
            raise
        except (ExchangeError, LedgerError) as error:
            logger.error("a request could not be answered", reason=str(error))
            response = self._refusal(delivery, _CANNOT)
        except Exception as error:  # noqa: BLE001 - one request that nobody foresaw must not end the adapter
            # Its text may hold a value of the query.
            logger.error("a request could not be answered", error=type(error).__name__)
            response = self._refusal(delivery, _CANNOT)
        self._post(AdapterFrame(reply=Reply(flight=delivery.flight, envelope=response)))

    async def _answer(self, frame: bytes) -> bytes:
        # Counted from the start: a broker that delivers everything at once gets no more on credit.
        self._answering += 1
        try:
            _, response = await self._answerer.answer(frame)
        finally:
            self._answering -= 1
        self._owe(decode_envelope(response).digest)
        return response

    def _refusal(self, delivery: Delivery, deny: Deny) -> bytes:
        try:
            digest = decode_envelope(delivery.envelope).digest
        except CoreError:
            digest = hashlib.sha256(delivery.envelope).digest()
        return self._answerer.refusal(deny, digest).encode()

    async def _settle(self, settlement: Settlement) -> None:
        if not await self._settler.settle(settlement):
            return
        self._owed.pop(settlement.response_digest, None)
        if not self._owed:
            self._receipted.set()
        self._offered.discard(settlement.response_digest)
        self._ready_if_settled()

    async def _sync(self, size: int) -> None:
        try:
            await self._session.sync(size)
        except BrokenLogError:
            raise
        except ExchangeError as error:
            logger.warning("the directory cannot be read", reason=str(error))

    def _owes_too_much(self) -> bool:
        """DESIGN section 2: over 1,000 receipts owed, or one for longer than 5 seconds."""
        if not self.is_ready or len(self._owed) + self._answering > MOST_OWED:
            return True
        return self._longest_owed() > LONGEST_OWED

    def _longest_owed(self) -> float:
        oldest = next(iter(self._owed.values()), None)
        return asyncio.get_running_loop().time() - oldest if oldest is not None else 0.0

    async def _watch(self) -> None:
        """Attach anew where receipts stay out: what is owed is offered again."""
        while (age := self._longest_owed()) < GIVE_UP:
            # An answer sent from now on cannot be owed that long before this has passed.
            await asyncio.sleep(min(GIVE_UP - age, STRAY))
            if self.is_ready:
                await self._offer_strays()
        raise ExchangeError(f"{self.address} withholds receipts: attaching again")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _post(self, frame: AdapterFrame) -> None:
        try:
            future = self._frames.submit(frame)
        except ClosedError:
            return
        future.add_done_callback(self._sent)

    def _sent(self, future: "asyncio.Future[None]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            self._fail(error)

    async def _send(self, frames: Sequence[AdapterFrame]) -> Sequence[None]:
        for part in split(frames, AdapterFrame.ByteSize, MESSAGE_BYTES):
            try:
                await self._call.write(encode(AttachRequest(frames=part)))
            except asyncio.InvalidStateError as error:
                # So gRPC says that the call has ended meanwhile.
                raise ExchangeError(f"{self.address} ended the tunnel") from error
        return [None] * len(frames)
