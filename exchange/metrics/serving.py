"""The loopback port: `/metrics` for Prometheus, `/health` and `/ready` for whoever starts and stops the process.

HTTP/1.1, one request a connection, GET and HEAD alone. A web page in a browser of this machine must not read it under
a name of its own (DNS rebinding), so the Host that is asked for is a loopback one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from exchange.metrics.address import split_address
from exchange.metrics.gauges import build_version

SAMPLE_SECONDS = 30.0
"""Between two looks at disk and keys."""

_MOST = 8 * 1024
_PATIENCE = 5.0
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_JSON = "application/json"


class ListenError(Exception):
    """The port cannot be listened on."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: HTTPStatus
    kind: str = "text/plain; charset=utf-8"
    body: bytes = b""

    def encode(self, *, with_body: bool) -> bytes:
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.kind}\r\nContent-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (self.body if with_body else b"")


@dataclass(frozen=True, slots=True)
class Pages:
    """What can be asked for.

    Args:
        registry: this process's own figures.
        missing: why no requests can be answered now; nothing where they can.
    """

    registry: CollectorRegistry
    missing: Callable[[], Sequence[str]]

    def reply(self, path: str) -> _Reply:
        """The answer to a GET of a path."""
        match path.partition("?")[0]:
            case "/metrics":
                return _Reply(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self.registry))
            case "/health":
                return _said(HTTPStatus.OK, "alive", ())
            case "/ready":
                missing = self.missing()
                status = HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK
                return _said(status, "not ready" if missing else "ready", missing)
        return _Reply(HTTPStatus.NOT_FOUND, body=b"/metrics, /health or /ready\n")


def _said(status: HTTPStatus, state: str, reasons: Sequence[str]) -> _Reply:
    said = {"status": state, "version": build_version(), "reasons": list(reasons)}
    return _Reply(status, _JSON, json.dumps(said).encode() + b"\n")


@asynccontextmanager
async def serving(address: str, pages: Pages) -> AsyncIterator[None]:
    """Serve on a loopback address as long as the block runs; nothing where the address is empty.

    Raises:
        ListenError: another program listens there.
    """
    if not address:
        yield
        return
    host, port = split_address(address)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PATIENCE):
                writer.write(answered(await reader.readuntil(b"\r\n\r\n"), pages))
                await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=_MOST)
    except OSError as error:
        raise ListenError(f"cannot listen on {address} for metrics: {error.strerror}") from error
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def sampled(sample: Callable[[], None], address: str) -> AsyncIterator[None]:
    """Look every half minute at what is too slow to be looked at when somebody asks; whatever fails, the rest goes on.

    Args:
        sample: blocks; says itself what it could not see.
        address: where nothing is served, nobody looks.
    """

    async def follow() -> None:
        while True:
            await asyncio.to_thread(sample)
            await asyncio.sleep(SAMPLE_SECONDS)

    looking = asyncio.create_task(follow()) if address else None
    try:
        yield
    finally:
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


def answered(head: bytes, pages: Pages) -> bytes:
    """The bytes that answer a request's head."""
    line, *fields = head.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    path, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        return _Reply(HTTPStatus.BAD_REQUEST).encode(with_body=True)
    if method not in {"GET", "HEAD"}:
        return _Reply(HTTPStatus.METHOD_NOT_ALLOWED).encode(with_body=True)
    if not _is_local(fields):
        return _Reply(HTTPStatus.MISDIRECTED_REQUEST, body=b"ask for 127.0.0.1\n").encode(with_body=True)
    return pages.reply(path).encode(with_body=method == "GET")


def _is_local(fields: Sequence[str]) -> bool:
    hosts = [value.strip().lower() for name, _, value in (f.partition(":") for f in fields) if name.lower() == "host"]
    # With or without a port; an IPv6 address is in brackets.
    return all(host in _LOCAL or host.rpartition(":")[0] in _LOCAL for host in hosts)


__all__ = ["ListenError", "Pages", "answered", "sampled", "serving"]
