"""One commit, one signature, one chain: whatever the number of answers that have queued."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from adapters.committing import Committer, Prepared
from adapters.ledger import Ledger, LedgerError, LedgerFatalError
from exchange.batching import ClosedError
from exchange.core.decision import SKEW, Allow, decide, read_request
from exchange.core.envelope import Envelope, decode_envelope, verify_signature
from exchange.core.keys import EcdsaSigner
from exchange.core.response import read_response
from exchange.core.wire import decode, encode
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.request_pb2 import Answer
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.world import APPLICATIONS, ORIGIN, REGISTRY, World


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path, World.standard()) as provider:
        yield provider


@pytest.fixture
def world(provider: Provider) -> World:
    return provider.world


@pytest.fixture
def committer(provider: Provider) -> Committer:
    return provider.committer


def prepared(world: World, request: Envelope, rows: bytes = b"[]") -> Prepared:
    allow = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allow, Allow)
    return Prepared(
        allow=allow,
        channel=world.channel(str(APPLICATIONS)),
        query=b"what was asked",
        answer=encode(Answer(format=1, salt=bytes(32), rows=rows)),
        asked=("1", "2"),
        told=("2",),
        rows=1,
        erase_after=allow.asked.header.expires_at + SKEW,
    )


class Counting:
    """A signer that counts."""

    def __init__(self, signer: EcdsaSigner) -> None:
        self.signer = signer
        self.public_key = signer.public_key
        self.count = 0

    def sign(self, data: bytes) -> bytes:
        self.count += 1
        return self.signer.sign(data)


def counting(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> tuple[Counting, list[int]]:
    """Signatures, and the sizes of commits."""
    signer = Counting(provider.session.signer)
    provider.session._signer = signer  # type: ignore[assignment]
    sizes: list[int] = []
    commit = Ledger.commit

    def look(self: Ledger, answers: object) -> None:
        sizes.append(len(answers))  # type: ignore[arg-type]
        commit(self, answers)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "commit", look)
    return signer, sizes


async def test_answers_that_have_queued_share_one_commit_and_one_signature(
    provider: Provider, committer: Committer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer, sizes = counting(provider, monkeypatch)
    requests = [world.request() for _ in range(30)]
    frames = await asyncio.gather(*(committer.commit(prepared(world, request)) for request in requests))
    assert (signer.count, sizes) == (1, [30])
    for frame in frames:
        verify_signature(decode_envelope(frame), ORIGIN, world.keys[REGISTRY].public_key)
    provider.ledger.verify()


async def test_what_queues_during_a_commit_is_the_next_batch(
    provider: Provider, committer: Committer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sizes = counting(provider, monkeypatch)
    first = asyncio.create_task(committer.commit(prepared(world, world.request())))
    # Once to queue it, once to begin.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(committer.commit(prepared(world, world.request()))) for _ in range(4)]
    await asyncio.gather(first, *rest)
    assert sizes == [1, 4]
    provider.ledger.verify()


async def test_the_chain_goes_from_answer_to_answer_within_a_batch_and_beyond(
    provider: Provider, committer: Committer, world: World
) -> None:
    frames = []
    for count in (1, 3, 2):
        requests = [world.request() for _ in range(count)]
        frames += await asyncio.gather(*(committer.commit(prepared(world, request)) for request in requests))
    headers = [read_response(decode_envelope(frame)) for frame in frames]
    assert [header.ledger_number for header in headers] == [1, 2, 3, 4, 5, 6]
    assert headers[0].ledger_previous == bytes(32)
    for header, following in pairwise(headers):
        stored = provider.ledger.find(*_asked(provider, header.ledger_number))
        assert stored is not None
        assert stored.chain == following.ledger_previous
    assert provider.ledger.head.number == 6
    provider.ledger.verify()


def _asked(provider: Provider, number: int) -> tuple[str, bytes]:
    [stored] = [one for one in provider.ledger.owed() if one.number == number]
    return stored.requester, stored.request_id


async def test_a_row_says_what_was_asked_and_of_whom(provider: Provider, committer: Committer, world: World) -> None:
    request = world.request()
    frame = await committer.commit(prepared(world, request, b'[{"name":"A"}]'))
    [stored] = provider.ledger.owed()
    row = decode(LedgerRow, stored.row)
    assert (row.query, tuple(row.asked), tuple(row.told), row.rows) == (b"what was asked", ("1", "2"), ("2",), 1)
    assert (row.requester, row.request_digest, row.time) == (str(APPLICATIONS), request.digest, world.now)
    assert row.response_digest == decode_envelope(frame).digest
    assert stored.sealed == frame
    assert decode_envelope(stored.request) == request.bare()
    assert decode_envelope(stored.response) == decode_envelope(frame).bare()


async def test_the_answer_is_sealed_for_its_requester(provider: Provider, committer: Committer, world: World) -> None:
    request = world.request()
    response = decode_envelope(await committer.commit(prepared(world, request, b'[{"name":"A"}]')))
    assert world.answer(request, response).rows == b'[{"name":"A"}]'
    assert b'"name"' not in response.encode()


async def test_an_id_is_answered_once(provider: Provider, committer: Committer, world: World) -> None:
    request = world.request()
    await committer.commit(prepared(world, request))
    with pytest.raises(LedgerError):
        await committer.commit(prepared(world, request))
    await committer.commit(prepared(world, world.request()))
    assert provider.ledger.head.number == 2
    provider.ledger.verify()


async def test_nothing_leaves_before_it_is_committed(
    provider: Provider, committer: Committer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Ledger, _answers: object) -> None:
        raise LedgerFatalError("fsync failed")

    monkeypatch.setattr(Ledger, "commit", fail)
    found = await asyncio.gather(
        *(committer.commit(prepared(world, world.request())) for _ in range(2)), return_exceptions=True
    )
    assert [type(one) for one in found] == [LedgerFatalError, LedgerFatalError]


async def test_a_commit_goes_on_when_its_caller_has_gone(
    provider: Provider, committer: Committer, world: World
) -> None:
    request = world.request()
    gone = asyncio.create_task(committer.commit(prepared(world, request)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    await committer.commit(prepared(world, world.request()))
    assert provider.ledger.find(str(APPLICATIONS), read_request(request).request_id) is not None


async def test_closing_commits_what_is_queued_and_takes_no_more(provider: Provider, world: World) -> None:
    committer = Committer(provider.session, provider.ledger, lambda: world.now)
    queued = [asyncio.create_task(committer.commit(prepared(world, world.request()))) for _ in range(3)]
    await asyncio.sleep(0)
    await committer.close()
    await asyncio.gather(*queued)
    with pytest.raises(ClosedError):
        await committer.commit(prepared(world, world.request()))
    assert provider.ledger.head.number == 3
