"""An adapter's figures: what it answered and refused, what it is owed, what stands; and nothing about whom."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from adapters.answering import DenyError
from adapters.metrics import MeasuredAnswerer, Meter, Watched
from exchange.core.decision import Deny
from exchange.v1.access_pb2 import Code
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.world import ID_NUMBER, World


@pytest.fixture
async def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    wait_for_no_disk(monkeypatch)
    async with provider_at(tmp_path, World.standard()) as provider:
        yield provider


@pytest.fixture
def meter(provider: Provider) -> Meter:
    return Meter(Watched(provider.session, provider.ledger, provider.orders, tuple))


def value(meter: Meter, name: str, **labels: str) -> float | None:
    return meter.registry.get_sample_value(name, labels)


def measured(provider: Provider, meter: Meter) -> MeasuredAnswerer:
    parts = (provider.session, provider.sources, provider.ledger, provider.committer, provider.orders)
    return MeasuredAnswerer(meter, *parts, provider.session.clock)


async def test_answers_are_counted_once_they_are_committed(provider: Provider, meter: Meter) -> None:
    answerer = measured(provider, meter)
    await answerer.answer(provider.world.request().encode())
    assert value(meter, "exchange_adapter_answers_total") == 1
    assert value(meter, "exchange_adapter_answer_seconds_count") == 1
    assert value(meter, "exchange_adapter_ledger_answers") == 1
    assert value(meter, "exchange_adapter_owed_receipts") == 1


async def test_refusals_are_counted_by_code(provider: Provider, meter: Meter) -> None:
    answerer = measured(provider, meter)
    with pytest.raises(DenyError) as caught:
        await answerer.answer(b"nonsense")
    answerer.refusal(caught.value.deny, bytes(32))
    answerer.refusal(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the adapter is stopping"), bytes(32))
    assert value(meter, "exchange_adapter_refusals_total", code="MALFORMED") == 1
    assert value(meter, "exchange_adapter_refusals_total", code="PROVIDER_UNAVAILABLE") == 1
    assert value(meter, "exchange_adapter_answers_total") == 0


async def test_what_is_owed_grows_older(provider: Provider, meter: Meter) -> None:
    assert value(meter, "exchange_adapter_owed_seconds") == 0
    await measured(provider, meter).answer(provider.world.request().encode())
    provider.world.now += 7000
    assert value(meter, "exchange_adapter_owed_seconds") == 7


async def test_ledger_and_keys_are_looked_at_now_and_then(provider: Provider, meter: Meter) -> None:
    assert value(meter, "exchange_adapter_ledger_bytes") is None
    await measured(provider, meter).answer(provider.world.request().encode())
    meter.sample()
    size = sum(path.stat().st_size for path in provider.session.home.path.glob("ledger.db*"))
    assert value(meter, "exchange_adapter_ledger_bytes") == size
    # One answer, and all of it in the last week.
    assert value(meter, "exchange_disk_bytes_per_day") == pytest.approx(size / 7)
    assert (value(meter, "exchange_expiry_seconds", what="sealing key") or 0) > 0


async def test_without_a_broker_it_is_not_ready(meter: Meter) -> None:
    assert meter.missing() == ["no broker is attached"]
    assert value(meter, "exchange_adapter_attached_brokers") == 0


async def test_no_figure_names_a_party_or_a_person(provider: Provider, meter: Meter) -> None:
    await measured(provider, meter).answer(provider.world.request().encode())
    meter.sample()
    text = generate_latest(meter.registry).decode()
    assert "exchange://" not in text
    assert ID_NUMBER not in text
