"""The broker, put together: the only place that knows every part (composition root)."""

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import httpx
import structlog
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from exchange.broker.anchor import Anchor, AnchorError
from exchange.broker.append import AppendCommand
from exchange.broker.auditing import Auditing
from exchange.broker.beginning import FILE as STATE
from exchange.broker.beginning import StateFile
from exchange.broker.certificates import ServerCertificate, warn_daily
from exchange.broker.config import BrokerConfig, load_config
from exchange.broker.cutting import Cutter
from exchange.broker.following import Follower
from exchange.broker.gateway import Gateway
from exchange.broker.genesis import load_authority, log_signers
from exchange.broker.guard import Guard
from exchange.broker.invites import Invites
from exchange.broker.joining import INVITATION, JOINING, InvitationService, JoiningService
from exchange.broker.limits import AddressBuckets, TokenBuckets
from exchange.broker.logs import Logs
from exchange.broker.metrics import MeasuredLogs, Meter, Metering, Watched, watched_over
from exchange.broker.peers import Peers
from exchange.broker.reading import Reading
from exchange.broker.refusals import Refusals
from exchange.broker.relay import Relay
from exchange.broker.renewing import RenewCommand
from exchange.broker.retention import Retention, read_holds
from exchange.broker.services import (
    ACCESS,
    DIRECTORY,
    RELAY,
    DirectoryService,
    GatewayService,
    LogService,
    RelayService,
    unary_handler,
)
from exchange.broker.snapshots import Snapshots
from exchange.broker.taken import MEMORY, TakenIds
from exchange.broker.tunnel import Tunnels
from exchange.broker.witnesses import Rhythm, Verifiers, WitnessClient, Witnesses
from exchange.core.policy import Policy
from exchange.home import Home, HomeError
from exchange.metrics.serving import ListenError
from exchange.store.invites import SqlInvites
from exchange.store.ports import Log, LogStore, StoreError, StoreMissingError
from exchange.store.sql import SqlLogStore
from exchange.transport import JOIN_OPTIONS, MOST_JOINS, SERVER_OPTIONS, TIME_METADATA, check_tls, renewed_credentials

logger = structlog.get_logger("exchange.broker")

# The stubs of grpcio-health-checking leave its asyncio half out.
_aio: Any = health.aio  # type: ignore[attr-defined]


class BrokerError(Exception):
    """The broker cannot start, or had to stop."""


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker's parts that live as long as it does."""

    config: BrokerConfig
    logs: Logs
    state: StateFile
    anchor: Anchor
    follower: Follower
    relay: Relay
    refusals: Refusals
    gateway: Gateway
    cutter: Cutter
    witnesses: Witnesses | None
    servers: tuple[grpc.aio.Server, ...]
    health: Any
    meter: Meter
    port: int
    upkeep: tuple[Callable[[], Awaitable[None]], ...]


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def serve(home: Home, ready: Callable[[str], None]) -> None:
    """Run the broker of a home until SIGTERM or SIGINT, then drain.

    Args:
        home: made by `exchange init`.
        ready: called once with the address that it listens on.

    Raises:
        HomeError: something in the home is missing or unreadable.
        AnchorError: the database is not the one that the anchor was written beside.
        BrokerError: the port is taken, or the log could not be written any more.
    """
    config = load_config(home.path)
    store = _open(home, config)
    try:
        tls = _witness_tls(home, config)
        async with httpx.AsyncClient(trust_env=False, headers=_PLAIN, verify=tls) as http:
            await _run(await _compose(home, config, store, http), ready)
    finally:
        store.close()


def _witness_tls(home: Home, config: BrokerConfig) -> ssl.SSLContext | bool:
    """By whose certificates witnesses are known; what they cosign is verified by their own keys besides."""
    if not config.witness_authorities:
        return True
    path = home.path / config.witness_authorities
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise HomeError(f"{path}, the witness_authorities of broker.toml, cannot be used: {error}") from error


def _open(home: Home, config: BrokerConfig) -> SqlLogStore:
    name = config.store_name(home.path)
    try:
        return SqlLogStore.open(name)
    except StoreMissingError as error:
        # A log that the anchor has seen, and that is gone, was rolled back to nothing.
        if any((home.path / config.anchor / log.value).exists() for log in Log):
            raise AnchorError(f"the database is missing, but the anchor has seen its logs: {error}") from error
        raise HomeError(str(error)) from error
    except StoreError as error:
        what = "the database of broker.toml" if isinstance(name, str) else name
        raise HomeError(f"{what}: {error}") from error


async def _run(broker: Broker, ready: Callable[[str], None]) -> None:
    try:
        async with watched_over(broker.meter, broker.config.metrics):
            await _serve(broker, ready)
    except ListenError as error:
        raise BrokerError(f"{error}: see metrics in broker.toml") from error


async def _serve(broker: Broker, ready: Callable[[str], None]) -> None:
    for server in broker.servers:
        await server.start()
    await _serving(broker, HealthCheckResponse.SERVING)
    ready(f"{broker.config.listen.rpartition(':')[0]}:{broker.port}")
    try:
        await _until_stopped(broker)
    finally:
        await _drain(broker)


# What is compressed could grow without end.
_PLAIN = {"Accept-Encoding": "identity"}


async def _compose(home: Home, config: BrokerConfig, store: SqlLogStore, http: httpx.AsyncClient) -> Broker:
    trust, signers = home.trust, log_signers(home)
    verifiers = {log: signer.verifier for log, signer in signers.items()}
    anchor = Anchor(home.path / config.anchor, store, verifiers)
    await asyncio.to_thread(anchor.check)
    snapshots = Snapshots(home.signer(), home.party)
    retention = Retention(config.retention_days, lambda: read_holds(home.path))
    kept = StateFile(home.path / config.anchor / STATE, store, verifiers[Log.DIRECTORY])
    beginning = await asyncio.to_thread(kept.begin, trust)
    logs = MeasuredLogs(store, signers, beginning, now_ms, snapshots, retention)
    tunnels = Tunnels()
    refusals = Refusals(logs, home.signer(), home.party, now_ms)
    # What others append from here on is no older.
    since = store.head(Log.ACCESS).time
    taken = TakenIds(store.taken_since(now_ms() - MEMORY))
    buckets = TokenBuckets(config.requests_per_second, config.burst)
    witnesses = _witnesses(trust.policy, config, WitnessClient(store, http, now_ms), store, verifiers)
    forbidden = witnesses.forbids if witnesses is not None else str
    relay = Relay(logs, tunnels, refusals, taken, buckets, now_ms, forbidden)
    gateway = Gateway(logs, tunnels, relay, now_ms)
    reading = Reading(logs, now_ms)
    peers = Peers(logs, buckets, now_ms)
    authority = load_authority(home)
    append, renew = AppendCommand(logs, authority, now_ms), RenewCommand(logs, authority, now_ms)
    certificate = ServerCertificate(home, authority, config.hosts, now_ms)
    invites = Invites(SqlInvites(store), logs, authority, now_ms)
    servicer = _aio.HealthServicer()
    meter = Meter(Watched(home, config.store_name(home.path), logs, relay, tunnels, witnesses, now_ms))
    logs.written = meter.written
    server = _server(
        meter if config.metrics else None,
        unary_handler(RELAY, RelayService(relay, peers).handlers()),
        unary_handler(DIRECTORY, DirectoryService(append, renew, reading, store, peers).handlers()),
        unary_handler(ACCESS, LogService(Auditing(logs, reading, now_ms), reading, store, peers).handlers()),
        unary_handler(INVITATION, InvitationService(invites, peers, config.takes_invites_at).handlers()),
        GatewayService(gateway, peers).handler(),
        _health_handler(servicer),
    )
    identity = certificate.begin()
    port = _bind(server, config.listen, renewed_credentials(certificate.reader(), identity))
    joining = renewed_credentials(certificate.reader(), identity, mutual=False)
    doors = (server, *_joining(joining, config, invites))
    follower = Follower(logs, taken, since)
    upkeep = (certificate.run, partial(warn_daily, home, logs, now_ms))
    cutter = Cutter(logs, tunnels, now_ms)
    return Broker(
        config,
        logs,
        kept,
        anchor,
        follower,
        relay,
        refusals,
        gateway,
        cutter,
        witnesses,
        doors,
        servicer,
        meter,
        port,
        upkeep,
    )


def _server(meter: Meter | None, *handlers: "grpc.GenericRpcHandler[Any, Any]") -> grpc.aio.Server:
    """The server of everybody who has a certificate; who does not look at figures pays nothing for them."""
    interceptors = (Guard(), Metering(meter.called)) if meter is not None else (Guard(),)
    server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    return server


def _witnesses(
    policy: Policy | None, config: BrokerConfig, client: WitnessClient, store: LogStore, verifiers: Verifiers
) -> Witnesses | None:
    if policy is None or not policy.needs_witnesses:
        return None
    if not policy.is_met([witness.name for witness in policy.witnesses if witness.url]):
        raise BrokerError("the witnesses in trust.toml that have a URL cannot meet its quorum: add the others' URLs")
    rhythm = Rhythm(config.witness_round_seconds, config.witness_heartbeat_seconds, config.missing_quorum_seconds)
    return Witnesses(store, verifiers, policy, client, rhythm, stops=config.missing_quorum == "stop")


def _joining(credentials: grpc.ServerCredentials, config: BrokerConfig, invites: Invites) -> list[grpc.aio.Server]:
    """The server for those who have no certificate yet, where there is to be one: it serves nothing else."""
    if not config.join_listen:
        return []
    server = grpc.aio.server(interceptors=(Guard(check_tls),), options=JOIN_OPTIONS, maximum_concurrent_rpcs=MOST_JOINS)
    buckets = AddressBuckets(config.joins_per_second, config.joins_burst)
    service = JoiningService(invites, buckets, now_ms)
    server.add_generic_rpc_handlers((unary_handler(JOINING, service.handlers()),))
    _bind(server, config.join_listen, credentials)
    return [server]


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials) -> int:
    _check_address(listen)
    try:
        return server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise BrokerError(f"cannot listen on {listen}: is another broker running there?") from error


_WHY = {
    errno.EADDRINUSE: "another program listens there: is it another broker?",
    errno.EADDRNOTAVAIL: "no network interface of this machine has that address: see listen in broker.toml",
    errno.EACCES: "ports below 1024 need a permission of their own: see listen in broker.toml",
}


def _check_address(listen: str) -> None:
    """Bind a plain socket for a moment: gRPC does not say why it cannot.

    Raises:
        BrokerError: no socket can be bound to any address that the host has.
    """
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BrokerError(f"cannot listen on {listen}: {host} has no address: see listen in broker.toml") from error
    failures = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                # As gRPC does: a port whose last connections are still being closed is free.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                return
        except OSError as error:
            failures.append(error)
    first = failures[0]
    why = _WHY.get(first.errno or 0, first.strerror)
    raise BrokerError(f"cannot listen on {listen}: {why}") from first


def _health_handler(
    servicer: Any,
) -> "grpc.GenericRpcHandler[HealthCheckRequest, HealthCheckResponse]":
    """grpc.health.v1, registered by name like every service."""
    check = grpc.unary_unary_rpc_method_handler(
        _told(servicer.Check),
        request_deserializer=HealthCheckRequest.FromString,
        response_serializer=HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


def _told(check: Any) -> Any:
    """A health check that also says what time it is here: for `doctor`, signed by nobody."""

    async def told(request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        await context.send_initial_metadata(((TIME_METADATA, str(now_ms())),))
        answer: HealthCheckResponse = await check(request, context)
        return answer

    return told


async def _serving(broker: Broker, status: int) -> None:
    broker.meter.is_serving = status == HealthCheckResponse.SERVING
    for service in ("", RELAY):
        await broker.health.set(service, status)


async def _until_stopped(broker: Broker) -> None:
    """Wait for a signal, or for a failure after which nothing may be released."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waits = {
        asyncio.create_task(stop.wait()): "",
        asyncio.create_task(broker.logs.failed.wait()): "the log cannot be written any more",
        asyncio.create_task(broker.anchor.follow()): "the anchor cannot be written any more",
        asyncio.create_task(broker.cutter.run()): "what is suspended cannot be cut any more",
    }
    for work in broker.upkeep:
        waits[asyncio.ensure_future(work())] = "what it does by itself has failed"
    if broker.logs.store.is_shared:
        waits[asyncio.create_task(broker.follower.run())] = "the log cannot be read any more"
    if broker.witnesses is not None:
        waits[asyncio.create_task(broker.witnesses.run())] = "no cosignatures can be gathered any more"
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        if waits[task]:
            cause = task.exception() if not task.cancelled() else None
            raise BrokerError(f"{waits[task]}: the broker stops") from cause


async def _drain(broker: Broker) -> None:
    """NOT_SERVING, take no new call, finish what is in flight, write what is queued, place the anchor, exit."""
    logger.info("draining")
    await _serving(broker, HealthCheckResponse.NOT_SERVING)
    # Takes no new call from here on, and ends once every call has ended.
    stopping = [server.stop(broker.config.drain_seconds) for server in broker.servers]
    stopped = asyncio.gather(*stopping)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(broker.config.drain_seconds):
            await broker.relay.drain()
            await broker.gateway.drain()
    await stopped
    await broker.refusals.close()
    await broker.logs.close()
    await asyncio.to_thread(broker.state.close)
    if not broker.logs.failed.is_set():
        await asyncio.to_thread(broker.anchor.place)
    logger.info("stopped")
