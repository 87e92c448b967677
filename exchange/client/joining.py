"""Joining, before there is a certificate: a key request is handed in with an invite, and asked after."""

import asyncio
from dataclasses import dataclass

import grpc

from exchange.client.call_errors import error_of_call
from exchange.client.calls import call_until
from exchange.core.wire import encode
from exchange.transport import JOIN, announced, open_anonymous_channel
from exchange.v1.directory_pb2 import KeyStatement
from exchange.v1.joining_pb2 import JoinRequest, JoinResponse

TIMEOUT = 30.0


@dataclass(frozen=True, slots=True, repr=False)
class Entrance:
    """Where an invite is taken.

    Args:
        address: HOST:PORT of a broker.
        authority: certificates of the TLS authority, PEM: whoever answers there has to show one of its own.
        code: of the invite, 32 bytes.
    """

    address: str
    authority: bytes
    code: bytes


class AnonymousTransport:
    """gRPC to one broker, which alone shows a certificate; a `Transport`, used on one event loop.

    Args:
        entrance: where, and under which authority.
    """

    def __init__(self, entrance: Entrance) -> None:
        self._address = entrance.address
        self._channel = open_anonymous_channel(entrance.address, entrance.authority)

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        """See `Transport.unary`."""
        try:
            called = self._channel.unary_unary(method, None, None)
            answer: bytes = await called(request, timeout=timeout, metadata=announced())
        except grpc.aio.AioRpcError as error:
            raise error_of_call(error, self._address) from error
        return answer

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._channel.close(None)


async def hand_in(
    entrance: Entrance, party: str, statement: KeyStatement, csr: bytes, timeout: float = TIMEOUT
) -> JoinResponse:
    """Hand in a key request, or ask how it stands: the same call may come any number of times.

    Args:
        entrance: where the invite is taken.
        party: who is invited.
        statement: of the key, with proof of possession; csr: PKCS #10, DER.
        timeout: seconds.

    Raises:
        RefusedError: no such invite, or it has expired or was used.
        UnavailableError: no answer in time.
        ResponseInvalidError: what came back is malformed.
    """
    transport = AnonymousTransport(entrance)
    try:
        request = JoinRequest(party=party, code=entrance.code, statement=encode(statement), csr=csr)
        deadline = asyncio.get_running_loop().time() + timeout
        return await call_until(transport, JOIN, request, JoinResponse, deadline)
    finally:
        await transport.close()
