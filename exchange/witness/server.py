"""The witness's HTTP server: one route, `add-checkpoint` (C2SP tlog-witness), until SIGTERM."""

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from exchange.core.witnessing import BAD_REQUEST, MAX_REQUEST
from exchange.witness.config import MEMORY, WitnessConfig, WitnessHome
from exchange.witness.memory import MemoryFailedError, WitnessMemory
from exchange.witness.witness import Reply, Witness

BODY_SECONDS = 10.0
"""For a request's body to arrive."""

AT_ONCE = 64
"""Connections served at the same time; a further one is told 503."""

DRAIN_SECONDS = 10

logger = structlog.get_logger("exchange.witness")


class WitnessServerError(Exception):
    """The witness cannot listen."""


def application(witness: Witness) -> Starlette:
    """The HTTP interface of a witness, as an ASGI application."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _bounded(request)
        except (TimeoutError, ClientDisconnect):
            return _response(Reply(BAD_REQUEST, b"the request did not arrive whole\n"))
        try:
            reply = await asyncio.to_thread(witness.add_checkpoint, body)
        except MemoryFailedError as error:
            logger.critical("nothing can be cosigned", reason=str(error))
            reply = Reply(500, b"the witness cannot keep checkpoints\n")
        return _response(reply)

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])])


def serve(home: WitnessHome, ready: Callable[[str], None]) -> None:
    """Run the witness of a home until SIGTERM or SIGINT.

    Args:
        home: made by `exchange-audit witness new`.
        ready: called once with the URL that it listens on.

    Raises:
        HomeError: something in the home is missing or malformed.
        WitnessServerError: the address is taken or not this machine's, or the TLS files cannot be used.
    """
    config = home.config()
    memory = WitnessMemory(home.path / MEMORY, lambda: int(time.time()))
    logs = home.logs(config)
    witness = Witness(logs, home.cosigner(config.name), memory)
    settings = _settings(home, config, application(witness))
    for log in sorted(logs):
        latest = memory.latest(log)
        logger.info("witnessing", log=log, cosigned_to=latest.size if latest is not None else None)
    with _listening(config.listen) as listener:
        scheme = "https" if config.tls_certificate else "http"
        url = f"{scheme}://{config.listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
        asyncio.run(_Server(settings, lambda: ready(url)).serve([listener]))


class _Server(uvicorn.Server):
    """uvicorn, which tells when it is ready, and whose process ends with 0 after SIGTERM."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        logger.info("stopped")


def _settings(home: WitnessHome, config: WitnessConfig, app: Starlette) -> uvicorn.Config:
    tls = config.tls_certificate is not None and config.tls_key is not None
    settings = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=home.path / config.tls_certificate if config.tls_certificate else None,
        ssl_keyfile=home.path / config.tls_key if config.tls_key else None,
    )
    try:
        settings.load()
    except (OSError, ssl.SSLError) as error:
        raise WitnessServerError(f"the TLS files of {home.path} cannot be used: {error}") from error
    if tls and isinstance(settings.ssl, ssl.SSLContext):
        settings.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return settings


@contextlib.contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        raise WitnessServerError(f"cannot listen on {listen}: {error.strerror or error}") from error
    with listener:
        yield listener


async def _bounded(request: Request) -> bytes:
    """The body, or as much of it as shows that it is too long: nobody fills the memory."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_REQUEST:
            break
    return bytes(body[: MAX_REQUEST + 1])


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, headers={"Content-Type": reply.content_type})
