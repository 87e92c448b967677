"""Receipts: only what proves itself settles an answer (DESIGN section 2)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters.ledger import LedgerFatalError
from adapters.settling import Settler
from exchange.client.errors import ForkError
from exchange.core.access import verify_settlement
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope
from exchange.core.policy import open_cosigned
from exchange.core.wire import encode
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.gateway_pb2 import Settlement
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.simulator import POLICY
from tests.world import World


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path, World.standard()) as provider:
        yield provider


@pytest.fixture
async def settler(provider: Provider) -> AsyncIterator[Settler]:
    settler = Settler(provider.session, provider.ledger)
    yield settler
    await settler.close()


@pytest.fixture
def world(provider: Provider) -> World:
    return provider.world


async def committed(provider: Provider) -> tuple[Envelope, Envelope]:
    request = provider.world.request()
    return request, await provider.answer(request)


def settlement(response: Envelope, receipt: Receipt) -> Settlement:
    return Settlement(response_digest=response.digest, receipt=receipt)


async def test_a_release_settles_its_answer(provider: Provider, settler: Settler, world: World) -> None:
    request, response = await committed(provider)
    assert await settler.settle(settlement(response, world.release(request, response)))
    assert provider.ledger.owed() == ()
    [told] = provider.ledger.told("110101199003074610")
    assert told.settlements is not None
    assert [(one.kind, one.index) for one in told.settlements] == [(AccessKind.ACCESS_KIND_RELEASED, 0)]
    provider.ledger.verify()


async def test_so_does_an_unreleased_entry_and_a_release_may_follow(
    provider: Provider, settler: Settler, world: World
) -> None:
    request, response = await committed(provider)
    assert await settler.settle(settlement(response, world.withhold(request, response)))
    assert provider.ledger.owed() == ()
    assert await settler.settle(settlement(response, world.release(request, response)))
    [told] = provider.ledger.told("110101199003074610")
    assert told.settlements is not None
    assert [one.code for one in told.settlements] == [Code.CODE_INTERRUPTED, Code.CODE_UNSPECIFIED]
    provider.ledger.verify()


async def test_a_settlement_becomes_a_cosigned_receipt(tmp_path: Path) -> None:
    async with provider_at(tmp_path, World.standard(), POLICY) as provider:
        settler = Settler(provider.session, provider.ledger)
        request, response = await committed(provider)
        receipt = provider.world.release(request, response)
        assert await settler.settle(settlement(response, receipt))
        cosigned = await provider.session.receipts.cosigned(receipt.index)
        verifier = provider.session.trust.access_log
        verify_settlement(cosigned, verifier, response.digest)
        assert open_cosigned(cosigned.checkpoint, verifier, POLICY).quorum
        await settler.close()


async def test_the_same_receipt_again_changes_nothing(provider: Provider, settler: Settler, world: World) -> None:
    request, response = await committed(provider)
    frame = settlement(response, world.release(request, response))
    for _ in range(3):
        assert await settler.settle(frame)
    provider.ledger.verify()


async def test_many_at_once_are_written_together(
    provider: Provider, settler: Settler, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [await committed(provider) for _ in range(20)]
    frames = [settlement(response, world.release(request, response)) for request, response in pairs]
    writes = []
    settle_all = provider.ledger.settle_all

    def look(settlements: list[object]) -> None:
        writes.append(len(settlements))
        settle_all(settlements)  # type: ignore[arg-type]

    monkeypatch.setattr(provider.ledger, "settle_all", look)
    assert all(await asyncio.gather(*(settler.settle(frame) for frame in frames)))
    assert writes == [20]
    assert provider.ledger.owed() == ()


# --- what settles nothing -----------------------------------------------------------------------------

Forge = Callable[[World, Envelope, Envelope], Receipt]


def changed(receipt: Receipt, **values: object) -> Receipt:
    forged = Receipt()
    forged.CopyFrom(receipt)
    for name, value in values.items():
        if name == "path":
            del forged.path[:]
            forged.path.extend(value)  # type: ignore[arg-type]
        else:
            setattr(forged, name, value)
    return forged


def nothing(_world: World, _request: Envelope, _response: Envelope) -> Receipt:
    return Receipt()


def of_another_answer(world: World, request: Envelope, response: Envelope) -> Receipt:
    return world.release(request, world.respond(request))


def of_a_refusal(world: World, request: Envelope, response: Envelope) -> Receipt:
    return world.refuse(request, Deny(5, Code.CODE_NO_AGREEMENT, "no"))[1]


def leaf_altered(world: World, request: Envelope, response: Envelope) -> Receipt:
    receipt = world.withhold(request, response)
    leaf = AccessLeaf.FromString(receipt.leaf)
    leaf.kind, leaf.code = AccessKind.ACCESS_KIND_RELEASED, Code.CODE_UNSPECIFIED
    return changed(receipt, leaf=encode(leaf))


def path_altered(world: World, request: Envelope, response: Envelope) -> Receipt:
    world.release(world.request(), world.respond(world.request()))
    return changed(world.release(request, response), path=[bytes(32)])


def path_cut(world: World, request: Envelope, response: Envelope) -> Receipt:
    world.release(world.request(), world.respond(world.request()))
    return changed(world.release(request, response), path=[])


def another_index(world: World, request: Envelope, response: Envelope) -> Receipt:
    return changed(world.release(request, response), index=1)


def of_the_directory_log(world: World, request: Envelope, response: Envelope) -> Receipt:
    return world.directory_log.receipt(0)


def checkpoint_of_the_directory_log(world: World, request: Envelope, response: Envelope) -> Receipt:
    return changed(world.release(request, response), checkpoint=world.directory_log.checkpoint())


def checkpoint_unsigned(world: World, request: Envelope, response: Envelope) -> Receipt:
    receipt = world.release(request, response)
    return changed(receipt, checkpoint=receipt.checkpoint[:-8] + b"AAAAAA=\n")


@pytest.mark.parametrize(
    "forge",
    [
        nothing,
        of_another_answer,
        of_a_refusal,
        leaf_altered,
        path_altered,
        path_cut,
        another_index,
        of_the_directory_log,
        checkpoint_of_the_directory_log,
        checkpoint_unsigned,
    ],
)
async def test_a_receipt_that_does_not_hold_settles_nothing(
    provider: Provider, settler: Settler, world: World, forge: Forge
) -> None:
    request, response = await committed(provider)
    assert not await settler.settle(settlement(response, forge(world, request, response)))
    assert [stored.response_digest for stored in provider.ledger.owed()] == [response.digest]
    # It has not spoiled the true one.
    assert await settler.settle(settlement(response, world.release(request, response)))


async def test_a_settlement_of_no_answer_here_settles_nothing(
    provider: Provider, settler: Settler, world: World
) -> None:
    request = world.request()
    strange = world.respond(request)
    assert not await settler.settle(settlement(strange, world.release(request, strange)))


async def test_one_that_does_not_fit_keeps_no_other_from_being_written(
    provider: Provider, settler: Settler, world: World
) -> None:
    request, response = await committed(provider)
    other = world.request()
    strange = world.respond(other)
    frames = [
        settlement(strange, world.release(other, strange)),
        settlement(response, world.release(request, response)),
    ]
    assert await asyncio.gather(*(settler.settle(frame) for frame in frames)) == [False, True]
    assert provider.ledger.owed() == ()


async def test_an_entry_that_was_another_before_is_a_fork(provider: Provider, settler: Settler, world: World) -> None:
    """Two checkpoints of one size with different roots, both signed by the log: nothing more is answered."""
    fork = world.copy()
    (request, response), (other, second) = await committed(provider), await committed(provider)
    assert await settler.settle(settlement(response, world.release(request, response)))
    fork.now += 1
    with pytest.raises(ForkError):
        await settler.settle(settlement(second, fork.release(other, second)))
    with pytest.raises(ForkError):
        await provider.answer(world.request())


async def test_a_failing_disk_is_fatal(
    provider: Provider, settler: Settler, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [await committed(provider) for _ in range(2)]

    def fail(_settlements: object) -> None:
        raise LedgerFatalError("the disk is full")

    monkeypatch.setattr(provider.ledger, "settle_all", fail)
    found = await asyncio.gather(
        *(settler.settle(settlement(response, world.release(request, response))) for request, response in pairs),
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [LedgerFatalError, LedgerFatalError]
