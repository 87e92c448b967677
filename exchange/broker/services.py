"""The gRPC services: each handler converts, calls one command, converts. Registered by name, bytes in, bytes out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc

from exchange.broker.append import AppendCommand
from exchange.broker.auditing import Auditing
from exchange.broker.gateway import Gateway
from exchange.broker.peers import Peers
from exchange.broker.proofs import prove
from exchange.broker.reading import Reading
from exchange.broker.relay import Relay
from exchange.broker.renewing import RenewCommand
from exchange.core.wire import decode_open, encode
from exchange.store.ports import Log, LogStore
from exchange.transport import announcement_in
from exchange.v1.log_pb2 import (
    AppendRequest,
    AppendResponse,
    DirectoryServiceCosignedRequest,
    DirectoryServiceCosignedResponse,
    DirectoryServiceProveRequest,
    DirectoryServiceProveResponse,
    DirectoryServiceSyncRequest,
    DirectoryServiceSyncResponse,
    InclusionPath,
    LogServiceCosignedRequest,
    LogServiceCosignedResponse,
    LogServiceProveRequest,
    LogServiceProveResponse,
    LogServiceSyncRequest,
    ProofRequest,
    ReadRequest,
    ReadResponse,
    RenewRequest,
    RenewResponse,
    SearchRequest,
)
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary = Callable[[bytes, Context], Awaitable[bytes]]

RELAY: Final = "exchange.v1.RelayService"
GATEWAY: Final = "exchange.v1.GatewayService"
DIRECTORY: Final = "exchange.v1.DirectoryService"
ACCESS: Final = "exchange.v1.LogService"


class RelayService:
    """`exchange.v1.RelayService`."""

    def __init__(self, relay: Relay, peers: Peers) -> None:
        self._relay = relay
        self._peers = peers

    async def submit(self, request: bytes, context: Context) -> bytes:
        """One request, one answer with its receipt."""
        frame = _submitted(request)
        # The relay takes the token: its refusals are signed and logged.
        peer = self._peers.identify(context)
        released = await self._relay.submit(peer, frame, context.time_remaining() or 0.0)
        return encode(SubmitResponse(envelope=released.response, receipt=released.receipt))

    def handlers(self) -> Mapping[str, Unary]:
        """By method name."""
        return {"Submit": self.submit}


class DirectoryService:
    """`exchange.v1.DirectoryService`."""

    def __init__(
        self, append: AppendCommand, renew: RenewCommand, reading: Reading, store: LogStore, peers: Peers
    ) -> None:
        self._append = append
        self._renew = renew
        self._reading = reading
        self._store = store
        self._peers = peers

    async def append(self, request: bytes, context: Context) -> bytes:
        """One signed entry."""
        entry = await self._append(self._peers.spend(context), decode_open(AppendRequest, request).envelope)
        return encode(AppendResponse(receipt=entry.receipt, certificate=entry.certificate))

    async def renew(self, request: bytes, context: Context) -> bytes:
        """A new TLS certificate."""
        certificate = await self._renew(self._peers.spend(context), decode_open(RenewRequest, request))
        return encode(RenewResponse(certificate=certificate))

    async def sync(self, request: bytes, context: Context) -> bytes:
        """Entries from an index on, with the bodies that the peer may see."""
        start = decode_open(DirectoryServiceSyncRequest, request).start
        peer = self._peers.spend(context)
        # Read before the head, so that it is no larger.
        cosigned = await asyncio.to_thread(self._reading.cosigned, Log.DIRECTORY)
        records, head = await asyncio.to_thread(self._reading.directory, peer, start)
        response = DirectoryServiceSyncResponse(records=records, checkpoint=head.checkpoint, cosigned=cosigned)
        return encode(response)

    async def prove(self, request: bytes, context: Context) -> bytes:
        """Inclusion or consistency in the directory log."""
        self._reading.check(self._peers.spend(context))
        path = await _path(self._store, Log.DIRECTORY, decode_open(DirectoryServiceProveRequest, request).proof)
        return encode(DirectoryServiceProveResponse(path=path))

    async def cosigned(self, request: bytes, context: Context) -> bytes:
        """The directory log's last cosigned checkpoint."""
        self._reading.check(self._peers.spend(context))
        decode_open(DirectoryServiceCosignedRequest, request)
        note = await asyncio.to_thread(self._reading.cosigned, Log.DIRECTORY)
        return encode(DirectoryServiceCosignedResponse(cosigned=note))

    def handlers(self) -> Mapping[str, Unary]:
        """By method name."""
        return {
            "Append": self.append,
            "Sync": self.sync,
            "Prove": self.prove,
            "Cosigned": self.cosigned,
            "Renew": self.renew,
        }


class LogService:
    """`exchange.v1.LogService`."""

    def __init__(self, auditing: Auditing, reading: Reading, store: LogStore, peers: Peers) -> None:
        self._auditing = auditing
        self._reading = reading
        self._store = store
        self._peers = peers

    async def sync(self, request: bytes, context: Context) -> bytes:
        """Entries from an index on, for auditors; bodies within their mandates."""
        start = decode_open(LogServiceSyncRequest, request).start
        peer = self._peers.spend(context)
        return encode(await self._auditing.sync(peer, start))

    async def read(self, request: bytes, context: Context) -> bytes:
        """The peer's own entries from an index on."""
        start = decode_open(ReadRequest, request).start
        records, following, head = await asyncio.to_thread(self._reading.own, self._peers.spend(context), start)
        return encode(ReadResponse(records=records, next=following, checkpoint=head.checkpoint))

    async def search(self, request: bytes, context: Context) -> bytes:
        """Entries that fit, by this broker's index, for auditors; within their mandates."""
        asked = decode_open(SearchRequest, request)
        return encode(await self._auditing.search(self._peers.spend(context), asked))

    async def prove(self, request: bytes, context: Context) -> bytes:
        """Inclusion or consistency in the access log."""
        self._reading.check(self._peers.spend(context))
        path = await _path(self._store, Log.ACCESS, decode_open(LogServiceProveRequest, request).proof)
        return encode(LogServiceProveResponse(path=path))

    async def cosigned(self, request: bytes, context: Context) -> bytes:
        """The access log's last cosigned checkpoint, and proofs that it holds the peer's entries."""
        self._reading.check(self._peers.spend(context))
        indexes = decode_open(LogServiceCosignedRequest, request).indexes
        note, paths = await asyncio.to_thread(self._reading.cosigned_with, Log.ACCESS, indexes)
        found = [InclusionPath(index=index, path=path) for index, path in paths.items()]
        return encode(LogServiceCosignedResponse(cosigned=note, paths=found))

    def handlers(self) -> Mapping[str, Unary]:
        """By method name."""
        return {
            "Sync": self.sync,
            "Read": self.read,
            "Search": self.search,
            "Prove": self.prove,
            "Cosigned": self.cosigned,
        }


class GatewayService:
    """`exchange.v1.GatewayService`."""

    def __init__(self, gateway: Gateway, peers: Peers) -> None:
        self._gateway = gateway
        self._peers = peers

    async def attach(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """One tunnel, until either side ends it."""
        peer = self._peers.identify(context)
        announced = announcement_in(context.invocation_metadata())
        await self._gateway.attach(peer, requests, context.write, lambda: self._peers.identify(context), announced)

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The generic handler of the one streaming method."""
        method = grpc.stream_stream_rpc_method_handler(self.attach)
        return grpc.method_handlers_generic_handler(GATEWAY, {"Attach": method})


def unary_handler(service: str, methods: Mapping[str, Unary]) -> "grpc.GenericRpcHandler[Any, Any]":
    """A generic handler: registering each method apart would slow every call (grpc/grpc 41796)."""
    return grpc.method_handlers_generic_handler(
        service, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    )


def _submitted(request: bytes) -> bytes:
    """The envelope's frame; what is no SubmitRequest is judged as a frame, so that its refusal is signed and logged."""
    try:
        return decode_open(SubmitRequest, request).envelope
    except ValueError:
        return request


async def _path(store: LogStore, log: Log, request: ProofRequest) -> tuple[bytes, ...]:
    return await asyncio.to_thread(prove, store, log, request)
