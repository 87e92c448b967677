"""The baseline: a unary relay in grpc.aio, mTLS on both hops; it signs, checks and logs nothing.

python -m bench.bare origin HOME BYTES      answers every call with so many bytes
python -m bench.bare relay HOME ADDRESS     hands every call on to ADDRESS

Each prints its address when it is ready, and runs until it is ended. HOME gives it keys and certificate.
"""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from exchange.broker.services import unary_handler
from exchange.home import Home
from exchange.transport import SERVER_OPTIONS, TlsIdentity, open_channel, server_credentials

READY = "is ready on"
CALL = "/bench.Bare/Call"
TIMEOUT = 30.0

# A stream counts until it is taken down: with the broker's 256, calls would be refused at 256 in flight, and nobody
# tries again here as the exchange's client does.
_OPTIONS = tuple({**dict(SERVER_OPTIONS), "grpc.max_concurrent_streams": 1024}.items())

Answer = Callable[[bytes, Any], Awaitable[bytes]]


async def serve_origin(identity: TlsIdentity, size: int) -> None:
    """Answer every call with the same bytes, `size` of them."""
    body = secrets.token_bytes(size)

    async def call(_request: bytes, _context: Any) -> bytes:
        return body

    await _serve("origin", identity, call)


async def serve_relay(identity: TlsIdentity, origin: str) -> None:
    """Hand every call on to an origin at HOST:PORT, and its answer back."""
    async with open_channel(origin, identity) as channel:
        ask = channel.unary_unary(CALL, None, None)

        async def call(request: bytes, _context: Any) -> bytes:
            answer: bytes = await ask(request, timeout=TIMEOUT)
            return answer

        await _serve("relay", identity, call)


async def _serve(name: str, identity: TlsIdentity, answer: Answer) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    service, method = CALL.strip("/").split("/")
    # By the broker's own registration: methods registered apart would cost more a call (grpc/grpc 41796).
    server.add_generic_rpc_handlers((unary_handler(service, {method: answer}),))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(identity))
    await server.start()
    print(f"{name} {READY} 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main(arguments: list[str]) -> None:
    """Run one of the two."""
    role, home, argument = arguments
    identity = Home(Path(home)).tls_identity()
    asyncio.run(serve_origin(identity, int(argument)) if role == "origin" else serve_relay(identity, argument))


if __name__ == "__main__":
    main(sys.argv[1:])
