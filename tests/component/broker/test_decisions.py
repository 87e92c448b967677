"""The table of decisions at a broker alone: a real log on disk, and an adapter behind it that refuses nothing."""

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exchange.broker.logs import AccessProposal
from exchange.broker.records import AccessRecord
from exchange.core.decision import read_request
from exchange.core.envelope import REQUEST, Envelope
from exchange.store import sqlite
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import Code
from tests.attempts import Attempt
from tests.component.broker.parts import RELEASED, Adapter, Broker, fill
from tests.deciding import CASES, attempt_of, uses
from tests.world import APPLICATIONS, REGISTRY

# What is arranged in a mirror alone, or asked in a way that a broker never sees.
APART = {
    "through a broker",  # a broker always knows who is connected
    "the key is a head's",  # the directory lets no such key in under a system's name
    "the key is a witness's",
    "body of the agreement missing",  # a broker has every body
    "body of the dataset missing",
    "replayed",  # test_relay_checks.py: the id must be held by another message
    "no attachments",  # evidence, which nobody could answer
}
HERE = [
    case
    for case in CASES
    if not APART & set(case.get("fault", ())) and not ("retried" in case.get("fault", ()) and "code" in case)
]


def test_nearly_all_of_the_table_is_decided_here() -> None:
    assert len(CASES) - len(HERE) <= 12
    assert len(HERE) >= 200


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability has tests of its own; these need not wait for the disk."""
    settings = tuple(text.replace("synchronous = FULL", "synchronous = OFF") for text in sqlite._WRITER_PRAGMAS)
    assert settings != sqlite._WRITER_PRAGMAS
    monkeypatch.setattr(sqlite, "_WRITER_PRAGMAS", settings)


@pytest.mark.parametrize("case", HERE, ids=lambda case: case["that"])
async def test_a_broker_decides_as_the_table_says(case: Mapping[str, Any], tmp_path: Path) -> None:
    attempt = attempt_of(case)
    store = SqlLogStore.create(tmp_path / "log.db")
    fill(store, attempt.world)
    broker = Broker(attempt.world, store=store)
    adapter = await broker.attach()
    _answer_each_once(adapter, attempt)
    request, is_retry = attempt.request(), "retried" in case.get("fault", ())
    if is_retry:
        await broker.submit(request)
    else:
        await _use(broker, attempt)
    before = len(adapter.deliveries)
    peer = attempt.peer or APPLICATIONS
    if "code" in case:
        error = await broker.refused(request, peer=peer)
        # What cannot be parsed is named by its bytes.
        digest = request.digest if request.kind == REQUEST else hashlib.sha256(request.encode()).digest()
        broker.check_refusal(error, Code.Value(f"CODE_{case['code']}"), case["check"], digest)
        # What a broker refuses, no provider ever sees.
        assert len(adapter.deliveries) == before
    else:
        released = await broker.submit(request, peer=peer)
        assert broker.leaf(released.receipt.index).kind == RELEASED
        assert len(adapter.deliveries) == before + 1
    await broker.close()
    store.close()


def _answer_each_once(adapter: Adapter, attempt: Attempt) -> None:
    """A provider that gives a retry the bytes that it has stored."""
    stored: dict[bytes, Envelope] = {}

    def respond(request: Envelope) -> Envelope:
        if request.digest not in stored:
            stored[request.digest] = attempt.world.respond(request)
        return stored[request.digest]

    adapter.respond = respond


async def _use(broker: Broker, attempt: Attempt) -> None:
    """Enter what was released before into the log, each in its time."""
    world, moment = attempt.world, attempt.world.now
    for agreement, party, time in uses(attempt):
        world.now = time
        request = world.request(party=party, agreement=agreement.digest)
        record = AccessRecord(
            RELEASED,
            Code.CODE_UNSPECIFIED,
            str(party),
            str(REGISTRY),
            read_request(request).request_id,
            request.digest,
            request,
            world.respond(request),
        )
        await broker.logs.append(AccessProposal(partial(_as_it_is, record)))
    world.now = moment


def _as_it_is(record: AccessRecord, *_: object) -> AccessRecord:
    return record
