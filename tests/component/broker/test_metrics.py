"""A broker's figures: what was asked, how it went, what stands; and nothing about whom."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import generate_latest

from exchange import transport
from exchange.broker.beginning import Beginning
from exchange.broker.metrics import MeasuredLogs, Meter, Metering, Watched
from exchange.broker.status import NotPermittedError
from exchange.core.envelope import decode_envelope
from exchange.store.ports import Log
from exchange.transport import CERTIFIED_METHODS, DIRECTORY_SYNC, JOIN, SUBMIT
from exchange.v1.access_pb2 import Code
from tests.component.broker.parts import Broker, note_signers, store_of
from tests.simulator import make_home
from tests.world import BROKER, REGISTRY, World


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    broker = Broker(world)
    yield broker
    await broker.close()


@pytest.fixture
def meter(broker: Broker, world: World, tmp_path: Path) -> Meter:
    home = make_home(tmp_path / "home", world, BROKER)
    parts = (broker.logs, broker.relay, broker.tunnels, None, broker.clock)
    return Meter(Watched(home, tmp_path / "exchange.db", *parts))


def value(meter: Meter, name: str, **labels: str) -> float | None:
    return meter.registry.get_sample_value(name, labels)


async def counted(meter: Meter, method: str, behavior: Any) -> None:
    """One call through the interceptor; what it raises goes on to the guard."""

    async def handler(_details: object) -> Any:
        return grpc.unary_unary_rpc_method_handler(behavior)

    details: Any = SimpleNamespace(method=method)
    wrapped = await Metering(meter.called).intercept_service(handler, details)
    try:
        await wrapped.unary_unary(b"", SimpleNamespace())  # type: ignore[misc,arg-type]
    except Exception:  # noqa: BLE001 - the test looks at what was counted
        return


async def test_requests_are_counted_by_what_became_of_them(broker: Broker, meter: Meter, world: World) -> None:
    refused = await broker.refused(world.request())
    assert refused.code == Code.CODE_PROVIDER_UNAVAILABLE

    async def refuse(_request: bytes, _context: object) -> bytes:
        raise refused

    async def answer(_request: bytes, _context: object) -> bytes:
        return b""

    await counted(meter, SUBMIT, refuse)
    await counted(meter, SUBMIT, answer)
    await counted(meter, SUBMIT, answer)
    assert value(meter, "exchange_requests_total", code="PROVIDER_UNAVAILABLE") == 1
    assert value(meter, "exchange_requests_total", code="RELEASED") == 2
    # A refusal is no answer: its time would make answers look fast.
    assert value(meter, "exchange_request_seconds_count") == 2
    assert value(meter, "exchange_requests_total", code="SUSPENDED") == 0


async def test_other_calls_are_counted_by_method_and_reason(meter: Meter) -> None:
    async def fail(_request: bytes, _context: object) -> bytes:
        raise NotPermittedError("no")

    async def break_down(_request: bytes, _context: object) -> bytes:
        raise KeyError("110101199003074610")

    await counted(meter, DIRECTORY_SYNC, fail)
    await counted(meter, DIRECTORY_SYNC, break_down)
    method = "DirectoryService/Sync"
    assert value(meter, "exchange_calls_total", method=method, reason="NOT_PERMITTED") == 1
    assert value(meter, "exchange_calls_total", method=method, reason="INTERNAL") == 1
    assert "110101199003074610" not in generate_latest(meter.registry).decode()
    assert value(meter, "exchange_requests_total", code="RELEASED") == 0


async def test_a_failure_that_nobody_foresaw_has_a_first_value_to_grow_from(meter: Meter) -> None:
    methods = {name for name in vars(transport).values() if str(name).startswith(("/exchange.v1.", "/grpc."))} - {JOIN}
    assert methods == set(CERTIFIED_METHODS)
    for method in methods:
        assert value(meter, "exchange_calls_total", method=method.rpartition(".")[2], reason="INTERNAL") == 0
    assert value(meter, "exchange_requests_total", code="INTERNAL") == 0


async def test_a_method_that_nobody_knows_makes_no_figure(meter: Meter) -> None:
    async def unknown(_details: object) -> None:
        return None

    details: Any = SimpleNamespace(method="/made.up/Name")
    assert await Metering(meter.called).intercept_service(unknown, details) is None  # type: ignore[arg-type]
    assert "made.up" not in generate_latest(meter.registry).decode()


async def test_a_call_that_its_peer_gives_up_is_counted_as_such(meter: Meter) -> None:
    async def give_up(_request: bytes, _context: object) -> bytes:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await counted(meter, SUBMIT, give_up)
    assert value(meter, "exchange_requests_total", code="CANCELLED") == 1


async def test_attached_systems_and_flights_are_read_as_they_are(broker: Broker, meter: Meter, world: World) -> None:
    assert value(meter, "exchange_attached_systems") == 0
    adapter = await broker.attach(ready=False)
    assert (value(meter, "exchange_attached_systems"), value(meter, "exchange_attached_tunnels")) == (0, 1)
    await adapter.leave()
    adapter = await broker.attach()
    adapter.respond = lambda _request: None
    assert value(meter, "exchange_attached_systems") == 1
    asking = asyncio.create_task(broker.submit(world.request()))
    delivery = await adapter.delivered()
    assert value(meter, "exchange_flights") == 1
    await adapter.reply(delivery, world.respond(decode_envelope(delivery.envelope)))
    await asking
    assert value(meter, "exchange_flights") == 0
    assert value(meter, "exchange_directory_entries") == world.directory.size


async def test_batches_are_counted_where_they_are_durable(world: World, meter: Meter) -> None:
    store = store_of(world)
    logs = MeasuredLogs(store, note_signers(world), Beginning(world.directory), lambda: world.now)
    logs.written = meter.written
    broker = Broker(world)
    broker.logs = logs
    await broker.publish()
    world.register("tax.audit")
    await broker.publish()
    assert value(meter, "exchange_append_entries_sum") == 1
    assert value(meter, "exchange_append_seconds_count") == 1
    await logs.close()


async def test_it_says_why_it_is_not_ready(broker: Broker, meter: Meter) -> None:
    assert meter.missing() == ["the broker is starting or stopping"]
    assert value(meter, "exchange_broker_serving") == 0
    meter.is_serving = True
    assert (meter.missing(), value(meter, "exchange_broker_serving")) == ([], 1)
    broker.logs.failed.set()
    assert meter.missing() == ["the log cannot be written"]


async def test_a_database_that_cannot_be_read_is_said_and_breaks_nothing(meter: Meter) -> None:
    meter.sample()
    assert value(meter, "exchange_database_up") == 0
    assert value(meter, "exchange_expiry_seconds", what="signing key") is not None
    assert value(meter, "exchange_log_entries", log=Log.ACCESS.value) is None


async def test_no_figure_names_a_party(broker: Broker, meter: Meter, world: World) -> None:
    await broker.attach()
    await broker.submit(world.request())
    meter.sample()
    text = generate_latest(meter.registry).decode()
    assert "exchange://" not in text
    assert REGISTRY.segments[-1] not in text
