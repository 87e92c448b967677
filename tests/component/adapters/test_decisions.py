"""The table of decisions at an adapter alone: its own mirror and ledger, behind a broker that passes everything on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.committing import Prepared
from exchange.core.access import code_name
from exchange.core.decision import Allow, Asked, authenticate
from exchange.core.envelope import RESPONSE
from exchange.core.wire import encode
from exchange.v1.request_pb2 import Answer
from exchange.v1.terms_pb2 import Limits
from tests.attempts import Attempt
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.deciding import CASES, attempt_of, uses

# What only a broker can see, or what is arranged in the state itself.
APART = {
    "connected as another",  # an adapter sees no requester's connection
    "connected as its department",
    "the key is a head's",  # the directory lets no such key in under a system's name
    "the key is a witness's",
    "body of the agreement missing",  # STATE_STALE: test_answering.py
    "body of the dataset missing",
    "replayed",  # test_answering.py: the id must be held by another message
    "no attachments",  # evidence, which nobody could answer
}
HERE = [
    case
    for case in CASES
    if not APART & set(case.get("fault", ())) and not ("retried" in case.get("fault", ()) and "code" in case)
]


def test_nearly_all_of_the_table_is_decided_here() -> None:
    assert len(CASES) - len(HERE) <= 14
    assert len(HERE) >= 200


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.mark.parametrize("case", HERE, ids=lambda case: case["that"])
async def test_an_adapter_decides_as_the_table_says(case: Mapping[str, Any], tmp_path: Path) -> None:
    attempt = attempt_of(case)
    async with provider_at(tmp_path, attempt.world) as provider:
        request, is_retry = attempt.request(), "retried" in case.get("fault", ())
        if is_retry:
            await provider.answer(request)
        else:
            await _use(provider, attempt)
        before = provider.ledger.head.number
        if "code" in case:
            deny = await provider.denied(request)
            assert (deny.check, code_name(deny.code)) == (case["check"], case["code"]), deny.reason
            assert case["reason"] in deny.reason or "kind is not" in deny.reason
            # What is refused leaves no answer behind, and asks no source.
            assert provider.ledger.head.number == before
            assert not provider.sources.questions
        else:
            answer = await provider.answer(request)
            assert answer.kind == RESPONSE
            assert provider.ledger.head.number == before + (not is_retry)


async def _use(provider: Provider, attempt: Attempt) -> None:
    """Commit what was answered before to the ledger, each in its time."""
    world, moment = attempt.world, attempt.world.now
    for agreement, party, time in uses(attempt):
        world.now = time
        request = world.request(party=party, agreement=agreement.digest)
        asked = authenticate(world.directory, request, time, None)
        assert isinstance(asked, Asked), asked
        # The commit decides again: what was used then was within what was granted then.
        allow = Allow(asked, replace(agreement, limits=Limits()), world.dataset)
        channel = world.channel(str(party))
        await provider.committer.commit(
            Prepared(allow, channel, b"", encode(Answer(format=1, salt=bytes(32), rows=b"[]")), (), (), 0, moment)
        )
    world.now = moment
