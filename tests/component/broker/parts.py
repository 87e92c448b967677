"""A broker's parts over an in-memory store, and an adapter at the other end of its tunnel that does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from exchange.broker.beginning import Beginning
from exchange.broker.gateway import Gateway
from exchange.broker.limits import TokenBuckets
from exchange.broker.logs import DirectoryProposal, Entered, Logs
from exchange.broker.peers import Peers
from exchange.broker.refusals import Refusals, RefusedError
from exchange.broker.relay import Relay, Released
from exchange.broker.taken import TakenIds
from exchange.broker.tunnel import Tunnels
from exchange.core.access import (
    MAX_REFUSAL,
    Proven,
    read_access_leaf,
    read_refusal,
    refusal_draft,
    verify_settlement,
)
from exchange.core.decision import Deny
from exchange.core.directory import Directory
from exchange.core.envelope import Envelope, decode_envelope, verify_signature
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.names import Party
from exchange.core.note import NoteSigner
from exchange.core.wire import decode, encode
from exchange.store.memory import MemoryLogStore
from exchange.store.ports import Batch, Head, Log, LogStore, NewEntry, StoreError
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf, Code
from exchange.v1.gateway_pb2 import (
    AdapterFrame,
    AttachRequest,
    AttachResponse,
    Delivery,
    Hello,
    Offer,
    Ready,
    Reply,
    Settlement,
)
from tests.world import APPLICATIONS, BROKER, ORIGIN, REGISTRY, World, signer

RELEASED = AccessKind.ACCESS_KIND_RELEASED
UNRELEASED = AccessKind.ACCESS_KIND_UNRELEASED
REFUSED = AccessKind.ACCESS_KIND_REFUSED


class FailingStore(MemoryLogStore):
    """A store that fails when it is told to.

    `before` is raised on taking the lock, `at_commit` instead of the commit, `after_commit` once it has happened,
    `on_read` by every read of nodes. Each stays until it is taken back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: StoreError | None = None
        self.at_commit: StoreError | None = None
        self.after_commit: StoreError | None = None
        self.on_read: StoreError | None = None
        self.transactions = 0
        self.under_lock: Callable[[], None] = lambda: None

    @contextmanager
    def locked(self) -> Iterator[Any]:
        self.transactions += 1
        if self.before is not None:
            raise self.before
        with super().locked() as transaction:
            self.under_lock()
            yield transaction
            if self.at_commit is not None:
                raise self.at_commit
        if self.after_commit is not None:
            raise self.after_commit

    def nodes(self, log: Log, ids: Any) -> tuple[bytes, ...]:
        if self.on_read is not None:
            raise self.on_read
        return super().nodes(log, ids)


def store_of(world: World) -> FailingStore:
    """The store of an exchange whose directory is the world's, and whose access log is still empty."""
    store = FailingStore()
    fill(store, world)
    store.transactions = 0
    return store


def fill(store: LogStore, world: World) -> None:
    """Append a world's directory to an empty store."""
    log = world.directory_log
    frontier, nodes = Frontier().extend([leaf_hash(leaf) for leaf in log.leaves])
    entries = tuple(NewEntry(leaf, body, None) for leaf, body in zip(log.leaves, log.bodies, strict=True))
    with store.locked() as transaction:
        head = Head(Log.DIRECTORY, frontier.size, log.checkpoint(), world.directory.state.time)
        transaction.append(Batch(Log.DIRECTORY, 0, entries, nodes, head))
        transaction.append(Batch(Log.ACCESS, 0, (), (), Head(Log.ACCESS, 0, world.access_log.checkpoint(0), 0)))


def note_signers(world: World) -> Mapping[Log, NoteSigner]:
    return {Log.DIRECTORY: world.directory_log.signer, Log.ACCESS: world.access_log.signer}


def logs_of(world: World, store: LogStore, directory: Directory | None = None) -> Logs:
    """A broker's logs over a store, another broker's where it has one already; folded from entry 0 unless told to."""
    start = directory or Directory.genesis(ORIGIN, signer("root").public_key)
    return Logs(store, note_signers(world), Beginning(start), lambda: world.now)


class Broker:
    """Everything between the gRPC services and the store."""

    def __init__(
        self,
        world: World,
        burst: float = 100,
        store: LogStore | None = None,
        forbidden: Callable[[], str] = str,
    ) -> None:
        self.world = world
        # Tests that make it fail leave the choice of it to this class.
        self.store: Any = store or store_of(world)
        # What is in the store is what the world has folded; another broker's store is folded from entry 0.
        self.logs = (
            logs_of(world, store)
            if store
            else Logs(self.store, note_signers(world), Beginning(world.directory), self.clock)
        )
        self.tunnels = Tunnels()
        self.taken = TakenIds()
        self.refusals = Refusals(self.logs, world.keys[BROKER], BROKER, self.clock)
        self.buckets = TokenBuckets(burst, burst)
        self.peers = Peers(self.logs, self.buckets, self.clock)
        self.relay = Relay(self.logs, self.tunnels, self.refusals, self.taken, self.buckets, self.clock, forbidden)
        self.gateway = Gateway(self.logs, self.tunnels, self.relay, self.clock)
        self.adapters: list[Adapter] = []

    def clock(self) -> int:
        return self.world.now

    async def close(self) -> None:
        for adapter in self.adapters:
            await adapter.leave()
        await self.relay.drain()
        await self.gateway.drain()
        await self.refusals.close()
        await self.logs.close()

    async def attach(self, system: Party = REGISTRY, *, ready: bool = True) -> "Adapter":
        """An adapter that has said hello, and answers every request as its world does."""
        adapter = Adapter(self, system)
        self.adapters.append(adapter)
        await adapter.say(AdapterFrame(hello=Hello(format=1)), *([AdapterFrame(ready=Ready())] if ready else []))
        return adapter

    async def submit(self, request: Envelope | bytes, peer: Party = APPLICATIONS, timeout: float = 5.0) -> Released:
        frame = request if isinstance(request, bytes) else request.encode()
        return await self.relay.submit(peer, frame, timeout)

    async def refused(self, request: Envelope | bytes, **changes: Any) -> RefusedError:
        """The refusal of a request that must not be answered."""
        try:
            await self.submit(request, **changes)
        except RefusedError as error:
            return error
        raise AssertionError("it was answered")

    async def publish(self) -> None:
        """Append to the broker's directory what the world's has beyond it."""
        for envelope in self.world.entries[self.logs.directory.size :]:
            await self.enter(envelope)

    async def enter(self, envelope: Envelope) -> Entered:
        body = envelope.attachments[0] if envelope.attachments else b""
        return await self.logs.append(DirectoryProposal(envelope, body))

    @property
    def size(self) -> int:
        """Entries of the access log."""
        return self.store.head(Log.ACCESS).size

    def leaf(self, index: int) -> AccessLeaf:
        """One entry of the access log, from the end where the index is negative."""
        return read_access_leaf(self._entry(index).leaf)

    def leaves(self) -> list[AccessLeaf]:
        return [self.leaf(index) for index in range(self.size)]

    def body(self, index: int) -> AccessBody:
        return decode(AccessBody, self._entry(index).body)

    def _entry(self, index: int) -> Any:
        entry = self.store.entry(Log.ACCESS, index if index >= 0 else self.size + index)
        assert entry is not None
        return entry

    def check_refusal(self, error: RefusedError, code: Code.ValueType, check: int, digest: bytes) -> None:
        """A refusal signed by this broker that says just this, and its entry, the log's last."""
        assert (Code.Name(error.code), error.code) == (Code.Name(code), code)
        verify_signature(error.refusal, ORIGIN, self.world.keys[BROKER].public_key)
        refusal = read_refusal(error.refusal)
        assert (refusal.code, refusal.check, refusal.refuser) == (code, check, str(BROKER))
        assert refusal.request_digest == digest
        assert refusal.directory_size == self.logs.directory.size
        assert len(error.refusal.encode()) <= MAX_REFUSAL
        leaf = self.leaf(-1)
        assert (leaf.kind, leaf.code, leaf.request_digest) == (REFUSED, code, digest)
        assert leaf.refusal_digest == error.refusal.digest
        assert leaf.response_digest == b""
        assert decode_envelope(self.body(-1).refusal) == error.refusal


class Adapter:
    """The far end of a tunnel. `respond` answers a delivery, with nothing where it is None."""

    def __init__(self, broker: Broker, system: Party) -> None:
        self.respond: Callable[[Envelope], Envelope | None] = broker.world.respond
        self.deliveries: list[Delivery] = []
        self.settled: dict[bytes, list[Settlement]] = {}
        self.heads: list[int] = []
        self.messages = 0
        self.broken = False
        self.is_left = False
        self.encode: Callable[[AttachRequest], bytes] = encode
        self._broker = broker
        self._requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._news = asyncio.Event()
        self.task = asyncio.create_task(broker.gateway.attach(system, self._read(), self._write))

    async def say(self, *frames: AdapterFrame) -> None:
        """Send frames in one message, and let the broker take them."""
        self._requests.put_nowait(self.encode(AttachRequest(frames=frames)))
        while not self._requests.empty() and not self.task.done():  # noqa: ASYNC110 - the broker reads when it likes
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def reply(self, delivery: Delivery, *answers: Envelope | bytes) -> None:
        """Answer one delivery, more than once where there are several answers."""
        frames = [answer if isinstance(answer, bytes) else answer.encode() for answer in answers]
        await self.say(*(AdapterFrame(reply=Reply(flight=delivery.flight, envelope=frame)) for frame in frames))

    async def offer(self, request: Envelope, *answers: Envelope) -> None:
        bare = request.bare().encode()
        await self.say(*(AdapterFrame(offer=Offer(request=bare, response=one.bare().encode())) for one in answers))

    async def delivered(self, count: int = 1) -> Delivery:
        """Wait for a delivery, the first unless told otherwise."""
        await self.until(lambda: len(self.deliveries) >= count)
        return self.deliveries[count - 1]

    async def settlement(self, answer: Envelope, count: int = 1) -> Proven:
        """Wait for a settlement of an answer, and prove it by the access log's key."""
        await self.until(lambda: len(self.settled.get(answer.digest, [])) >= count)
        receipt = self.settled[answer.digest][count - 1].receipt
        return verify_settlement(receipt, self._broker.world.access_log.signer.verifier, answer.digest)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                self._news.clear()
                await self._news.wait()

    async def leave(self) -> None:
        """End the stream, as an adapter does that stops."""
        self._requests.put_nowait(None)
        with suppress(Exception):
            await self.task

    async def _read(self) -> AsyncIterator[bytes]:
        while (data := await self._requests.get()) is not None:
            yield data

    async def _write(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionResetError("the stream is gone")
        self.messages += 1
        for frame in decode(AttachResponse, data).frames:
            self._take(frame)
        self._news.set()

    def _take(self, frame: Any) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "leaving":
            self.is_left = True
        elif kind == "delivery":
            self.deliveries.append(frame.delivery)
            answer = self.respond(decode_envelope(frame.delivery.envelope))
            if answer is not None:
                reply = Reply(flight=frame.delivery.flight, envelope=answer.encode())
                self._requests.put_nowait(self.encode(AttachRequest(frames=[AdapterFrame(reply=reply)])))
        elif kind == "settlement":
            self.settled.setdefault(frame.settlement.response_digest, []).append(frame.settlement)
        elif kind == "directory_head":
            self.heads.append(frame.directory_head.size)


def nobody(request: Envelope) -> None:
    """An adapter that does not answer by itself."""


def refusing(world: World, deny: Deny, party: Party = REGISTRY) -> Callable[[Envelope], Envelope]:
    """An adapter that refuses everything."""

    def refuse(request: Envelope) -> Envelope:
        return world.sign(refusal_draft(deny, str(party), request.digest, world.directory.size, world.now), party)

    return refuse
