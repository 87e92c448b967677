"""What a broker tells whoever watches over it; nothing of it names a party, a request or a person.

Calls are counted by an interceptor, batches around the append path, and all else is read when it is asked for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import structlog
from prometheus_client import Counter, Histogram

from exchange.batching import Take
from exchange.broker.logs import Entered, Logs, Proposal
from exchange.broker.relay import Relay
from exchange.broker.status import UNFORESEEN, reason_of
from exchange.broker.tunnel import Tunnels
from exchange.broker.witnesses import Witnesses
from exchange.core.access import code_name
from exchange.home import Home
from exchange.metrics.expiry import expiries
from exchange.metrics.gauges import COMMON, SECONDS, Gauge, Sample, build_version, new_registry
from exchange.metrics.serving import Pages, sampled, serving
from exchange.store.growth import Growth, growth_in
from exchange.store.ports import Log, StoreError
from exchange.transport import CERTIFIED_METHODS, SUBMIT
from exchange.v1.access_pb2 import Code

RELEASED = "RELEASED"
"""In the place of a code: the request was answered."""

TABLE: Mapping[str, Gauge] = {
    **COMMON,
    "exchange_broker_serving": Gauge("1 where requests are answered, 0 where /ready says why not."),
    "exchange_flights": Gauge("Requests that are with providers now."),
    "exchange_attached_systems": Gauge("Systems with an adapter that takes requests through this broker."),
    "exchange_attached_tunnels": Gauge("Tunnels of adapters, ready or not."),
    "exchange_log_entries": Gauge("Entries of a log.", ("log",)),
    "exchange_database_bytes": Gauge("Bytes that both logs take in their database."),
    "exchange_database_up": Gauge("1 where the database could be read half a minute ago, else 0."),
    "exchange_witness_quorum": Gauge("1 where enough witnesses cosigned a log in the last round, else 0.", ("log",)),
    "exchange_witness_age_seconds": Gauge("Seconds since a quorum cosigned a log.", ("log",)),
    "exchange_witnesses_missing": Gauge("Witnesses that did not cosign a log in the last round.", ("log",)),
}

logger = structlog.get_logger("exchange.broker")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


@dataclass(frozen=True, slots=True)
class Watched:
    """What the figures are read from."""

    home: Home
    store_name: Path | str
    logs: Logs
    relay: Relay
    tunnels: Tunnels
    witnesses: Witnesses | None
    clock: Callable[[], int]


class Meter:
    """One broker's figures.

    Args:
        watched: the broker's parts.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._growth: Growth | None = None
        self._expiries: Mapping[str, int] = {}
        self._is_readable = True
        self._counters: dict[tuple[str, str], tuple[Counter, ...]] = {}
        self.is_serving = False
        self.registry = new_registry(TABLE, self._read)
        self._requests = Counter(
            "exchange_requests_total", "Requests by what became of them.", ["code"], registry=self.registry
        )
        self._calls = Counter("exchange_calls_total", "Calls by method.", ["method", "reason"], registry=self.registry)
        self._seconds = Histogram(
            "exchange_request_seconds", "From a request to its answer.", registry=self.registry, buckets=SECONDS
        )
        self._appended = Histogram(
            "exchange_append_seconds", "From the lock to the commit.", registry=self.registry, buckets=SECONDS
        )
        self._batches = Histogram(
            "exchange_append_entries",
            "Entries that share a commit.",
            registry=self.registry,
            buckets=tuple(float(1 << power) for power in range(9)),
        )
        # A rate needs a first value: a code that comes for the first time would count as nothing.
        for code in (RELEASED, *(code_name(code) for code in Code.values() if code)):
            self._requests.labels(code)
        for method in CERTIFIED_METHODS:
            self._counters_of(method, UNFORESEEN)

    def missing(self) -> Sequence[str]:
        """Why no requests are answered now; nothing where they are."""
        reasons = ["the broker is starting or stopping"] if not self.is_serving else []
        if self._watched.logs.failed.is_set():
            reasons.append("the log cannot be written")
        if self._watched.witnesses is not None and (reason := self._watched.witnesses.forbids()):
            reasons.append(reason)
        return reasons

    def called(self, method: str, reason: str, seconds: float) -> None:
        """Count a call.

        Args:
            method: as the transport names it; reason: OK, or what its peer was told.
            seconds: that it took.
        """
        counters = self._counters.get((method, reason))
        if counters is None:
            # Looking a label up takes longer than counting.
            counters = self._counters[method, reason] = self._counters_of(method, reason)
        for counter in counters:
            counter.inc()
        if method == SUBMIT and reason == "OK":
            self._seconds.observe(seconds)

    def _counters_of(self, method: str, reason: str) -> tuple[Counter, ...]:
        calls = self._calls.labels(method.rpartition(".")[2], reason)
        if method != SUBMIT:
            return (calls,)
        return calls, self._requests.labels(RELEASED if reason == "OK" else reason)

    def written(self, entries: int, seconds: float) -> None:
        """Count a batch that is durable."""
        self._appended.observe(seconds)
        self._batches.observe(entries)

    def sample(self) -> None:
        """Read the database's size and growth, and until when keys are valid; blocks."""
        watched = self._watched
        self._expiries = expiries(watched.home, watched.logs.directory)
        try:
            self._growth = growth_in(watched.store_name, watched.clock())
            self._is_readable = True
        except (StoreError, OSError) as error:
            if self._is_readable:
                logger.warning("the database's size cannot be read", reason=str(error))
            self._is_readable = False

    def _read(self) -> Iterator[Sample]:
        watched, directory, now = self._watched, self._watched.logs.directory, self._watched.clock()
        yield Sample("exchange_build_info", 1, (build_version(), "broker"))
        yield Sample("exchange_broker_serving", int(not self.missing()))
        yield Sample("exchange_flights", watched.relay.flights)
        yield Sample("exchange_attached_systems", watched.tunnels.systems)
        yield Sample("exchange_attached_tunnels", len(tuple(watched.tunnels)))
        yield Sample("exchange_directory_entries", directory.size)
        for what, until in self._expiries.items():
            yield Sample("exchange_expiry_seconds", (until - now) / 1000, (what,))
        yield Sample("exchange_database_up", int(self._is_readable))
        yield from self._grown()
        yield from self._witnessed()

    def _grown(self) -> Iterator[Sample]:
        growth = self._growth
        if growth is None:
            return
        for log, size in growth.sizes.items():
            yield Sample("exchange_log_entries", size, (log.value,))
        yield Sample("exchange_database_bytes", growth.size)
        yield Sample("exchange_disk_bytes_per_day", growth.bytes_a_day)
        if growth.free is not None:
            yield Sample("exchange_disk_free_bytes", growth.free)

    def _witnessed(self) -> Iterator[Sample]:
        if self._watched.witnesses is None:
            # Its own directory is never older than its database.
            yield Sample("exchange_directory_checkpoint_age_seconds", 0)
            return
        for log in Log:
            found = self._watched.witnesses.gathered(log)
            yield Sample("exchange_witness_quorum", int(found.quorum), (log.value,))
            yield Sample("exchange_witnesses_missing", found.silent, (log.value,))
            if found.age is not None:
                yield Sample("exchange_witness_age_seconds", found.age, (log.value,))
                if log is Log.DIRECTORY:
                    yield Sample("exchange_directory_checkpoint_age_seconds", found.age)


@asynccontextmanager
async def watched_over(meter: Meter, address: str) -> AsyncIterator[None]:
    """Serve a broker's figures as long as the block runs; nothing where the address is empty.

    Raises:
        ListenError: another program listens there.
    """
    async with serving(address, Pages(meter.registry, meter.missing)), sampled(meter.sample, address):
        yield


class MeasuredLogs(Logs):
    """The append path, with a meter beside it: `written` is told of every batch that is durable."""

    written: Callable[[int, float], None] = staticmethod(lambda _entries, _seconds: None)

    def _write(self, take: Take[Proposal]) -> list[Entered | Exception]:
        began = time.monotonic()
        results = super()._write(take)
        self.written(len(results), time.monotonic() - began)
        return results


class Metering(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Counts every call; it stands inside the guard, where errors still are what they are.

    Args:
        called: as `Meter.called`.
    """

    def __init__(self, called: Callable[[str, str, float], None]) -> None:
        self._called = called
        self._twins: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Replace a handler by its counted twin; an unknown method has none, and is not counted."""
        handler: Handler | None = await continuation(details)
        if handler is None:
            # The stubs leave None out.
            return None  # type: ignore[return-value]
        known = self._twins.get(details.method)
        if known is None or known[0] is not handler:
            # Made once a method: every call comes through here.
            known = self._twins[details.method] = (handler, self._twin(handler, details.method))
        return known[1]

    def _twin(self, handler: Handler, method: str) -> Handler:
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._counted(handler.unary_unary, method), **serializers)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._counted(handler.stream_stream, method), **serializers)
        return handler

    def _counted(self, behavior: Any, method: str) -> Any:
        async def counted(request: Any, context: Context) -> Any:
            began, reason = time.monotonic(), "OK"
            try:
                return await behavior(request, context)
            except asyncio.CancelledError:
                reason = "CANCELLED"
                raise
            except Exception as error:
                reason = reason_of(error)
                raise
            finally:
                self._called(method, reason, time.monotonic() - began)

        return counted
