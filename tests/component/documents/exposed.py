"""All that a broker and an adapter expose, without either running as a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from adapters import metrics as adapter_metrics
from exchange.broker import metrics as broker_metrics
from tests.component.adapters.test_answering import provider_at, wait_for_no_disk
from tests.component.broker.parts import Broker
from tests.simulator import make_home
from tests.world import BROKER, World

LABELS_OF_PROMETHEUS = {"job", "instance"}
"""The labels that a scrape adds."""


@asynccontextmanager
async def both_registries(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[CollectorRegistry, CollectorRegistry]]:
    """The figures of a broker, and those of an adapter."""
    wait_for_no_disk(monkeypatch)
    broker, home = Broker(world), make_home(path / "broker", world, BROKER)
    parts = (broker.logs, broker.relay, broker.tunnels, None, broker.clock)
    meter = broker_metrics.Meter(broker_metrics.Watched(home, path / "exchange.db", *parts))
    async with provider_at(path / "adapter", world) as provider:
        watched = adapter_metrics.Watched(provider.session, provider.ledger, provider.orders, tuple)
        yield meter.registry, adapter_metrics.Meter(watched).registry
    await broker.close()
