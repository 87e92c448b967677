"""The ledger against the log: each thing that the two can disagree on is made to happen, and named."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import reconciling as module
from adapters.ledger import Ledger
from adapters.reconciling import Problem, Reconciler, Reconciliation
from adapters.settling import Settler
from exchange.client.errors import EvidenceError, ForkError
from exchange.core.envelope import Envelope
from exchange.core.wire import decode, encode
from exchange.transport import ACCESS_PROVE, ACCESS_READ
from exchange.v1.gateway_pb2 import Settlement
from exchange.v1.log_pb2 import LogServiceProveRequest, LogServiceProveResponse, ReadRequest, ReadResponse, Record
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.component.audit.copies import log_entry, rebuilt
from tests.simulator import POLICY
from tests.world import ID_NUMBER, REGISTRY, World

LATER = module.WINDOW + 1


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


class Reading:
    """The broker's side of `Read` and `Prove`, honest until told."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.page = 2
        self.hidden: set[int] = set()
        self.forged: dict[int, bytes] = {}
        self.backwards = False
        self.proofs = 0
        self._unary = provider.simulator.unary
        provider.simulator.unary = self.unary  # type: ignore[method-assign]

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        if method == ACCESS_READ:
            return encode(self._read(decode(ReadRequest, request).start))
        proof = decode(LogServiceProveRequest, request).proof if method == ACCESS_PROVE else None
        if proof is not None and proof.WhichOneof("proof") == "index":
            self.proofs += 1
            path = self.log.receipt(proof.index, proof.size).path
            return encode(LogServiceProveResponse(path=path))
        return await self._unary(method, request, timeout)

    @property
    def log(self) -> Any:
        return self.provider.simulator.access_log or self.provider.world.access_log

    def _read(self, start: int) -> ReadResponse:
        log = self.log
        shown = [index for index in range(start, log.size) if index not in self.hidden][: self.page]
        records = [
            Record(index=index, leaf=self.forged.get(index, log.leaves[index]), body=log.bodies[index])
            for index in shown
        ]
        if self.backwards:
            records.reverse()
        following = shown[-1] + 1 if shown else log.size
        return ReadResponse(records=records, next=following, checkpoint=log.checkpoint())


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path, World.standard()) as provider:
        yield provider


@pytest.fixture
def reading(provider: Provider) -> Reading:
    return Reading(provider)


async def answered(provider: Provider) -> tuple[Envelope, Envelope]:
    request = provider.world.request()
    return request, await provider.answer(request)


async def settled(provider: Provider, *, receipt: bool = True, withheld: bool = False) -> None:
    """One answer with its entry; the receipt reaches the ledger unless it is lost."""
    request, response = await answered(provider)
    log = provider.world.withhold if withheld else provider.world.release
    entry = log(request, response)
    if receipt:
        settler = Settler(provider.session, provider.ledger)
        assert await settler.settle(Settlement(response_digest=response.digest, receipt=entry))
        await settler.close()


async def compared(provider: Provider) -> Reconciliation:
    return await Reconciler(provider.session, provider.ledger).run()


def named(found: Reconciliation) -> list[tuple[Problem, int | None, int | None]]:
    return [(item.problem, item.number, item.entry) for item in found.differences]


async def test_what_agrees_is_said_to(provider: Provider, reading: Reading) -> None:
    for number in range(5):
        await settled(provider, withheld=number == 2)
    found = await compared(provider)
    assert named(found) == []
    assert (found.answers, found.entries, found.waiting, found.size) == (5, 5, 0, 5)
    assert reading.proofs == 0


async def test_an_empty_ledger_and_log_agree(provider: Provider, reading: Reading) -> None:
    found = await compared(provider)
    assert (named(found), found.answers, found.entries) == ([], 0, 0)


async def test_an_entry_whose_receipt_was_lost_is_proven_by_the_log(provider: Provider, reading: Reading) -> None:
    await settled(provider, receipt=False)
    provider.world.now += LATER
    assert named(await compared(provider)) == []
    assert reading.proofs == 1


async def test_an_answer_without_an_entry_is_named(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    await answered(provider)
    provider.world.now += LATER
    await settled(provider)
    assert named(await compared(provider)) == [(Problem.NO_ENTRY, 2, None)]


async def test_an_answer_may_wait_for_its_receipt_a_little(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    await answered(provider)
    found = await compared(provider)
    assert (named(found), found.waiting) == ([], 1)


async def test_an_entry_that_this_adapter_did_not_answer_is_named(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    world = provider.world
    request = world.request()
    world.release(request, world.respond(request, ledger_number=7))
    found = await compared(provider)
    assert named(found) == [(Problem.NOT_ANSWERED, 7, 1)]
    assert "as answer 7: this ledger, which ends at 1, has no such answer" in found.differences[0].detail


async def test_an_entry_that_the_log_does_not_prove_is_not_taken_for_one(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    await answered(provider)
    world = provider.world
    other = World.standard()
    other.now = world.now
    request = other.request()
    other.release(request, other.respond(request))
    provider.world.now += LATER
    reading.forged = {0: other.access_log.leaves[0]}
    assert named(await compared(provider)) == [
        (Problem.NOT_PROVEN, None, 0),
        (Problem.WITHHELD, 1, 0),
        (Problem.NO_ENTRY, 2, None),
    ]


async def test_an_entry_that_cannot_be_read_is_named(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    reading.forged = {0: b"\xff"}
    assert (Problem.NOT_PROVEN, None, 0) in named(await compared(provider))


async def test_a_receipt_that_the_broker_denies_is_named(provider: Provider, reading: Reading) -> None:
    for _ in range(3):
        await settled(provider)
    reading.hidden = {1}
    assert named(await compared(provider)) == [(Problem.WITHHELD, 2, 1)]


async def test_an_entry_under_other_names_is_named(provider: Provider, reading: Reading) -> None:
    request, response = await answered(provider)
    log_entry(
        provider.world,
        1,  # type: ignore[arg-type]
        0,  # type: ignore[arg-type]
        request=request,
        response=response,
        requester="exchange://city.example/tax/refunds",
        provider=str(REGISTRY),
        request_id=b"r" * 16,
    )
    assert named(await compared(provider)) == [(Problem.OTHER_NAMES, 1, 0)]


async def test_every_gap_in_the_numbers_is_named(provider: Provider, reading: Reading) -> None:
    for _ in range(7):
        await settled(provider)
    path = provider.session.home.path.parent / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM answers WHERE number IN (2, 5, 6)")
    found = await compared(provider)
    gaps = [item for item in found.differences if item.problem is Problem.GAP]
    assert [(item.number, item.detail) for item in gaps] == [
        (2, "answer 2 is missing"),
        (5, "answers 5 to 6 are missing"),
    ]
    lost = [item.entry for item in found.differences if item.problem is Problem.NOT_ANSWERED]
    assert lost == [1, 4, 5]
    assert [item.number for item in found.differences if item.problem is Problem.NOT_ANSWERED] == [2, 5, 6]
    assert any(item.problem is Problem.LEDGER for item in found.differences)


async def test_an_altered_row_is_named(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    path = provider.session.home.path.parent / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE subjects SET subject = 'x' WHERE subject = ?", (ID_NUMBER,))
    found = await compared(provider)
    assert [(item.problem, item.detail) for item in found.differences] == [
        (Problem.LEDGER, "row 1: its subjects does not hold")
    ]


async def test_entries_of_the_departments_other_systems_are_not_this_ledgers(
    provider: Provider, reading: Reading
) -> None:
    world = provider.world
    request = world.request()
    log_entry(
        world,
        1,  # type: ignore[arg-type]
        0,  # type: ignore[arg-type]
        request=request,
        response=world.respond(request),
        requester="exchange://city.example/tax/refunds",
        provider="exchange://city.example/population/other",
        request_id=b"r" * 16,
    )
    found = await compared(provider)
    assert (named(found), found.entries) == ([], 0)


async def test_entries_out_of_order_are_not_believed(provider: Provider, reading: Reading) -> None:
    for _ in range(2):
        await settled(provider)
    reading.backwards = True
    with pytest.raises(EvidenceError, match="out of order"):
        await compared(provider)


async def test_a_forked_log_is_caught(provider: Provider, reading: Reading) -> None:
    """The receipts' checkpoints and the one that is shown now must be of one history."""
    for _ in range(2):
        await settled(provider)
    log = provider.world.access_log
    provider.simulator.access_log = rebuilt(log, log.leaves[::-1], log.bodies[::-1])
    with pytest.raises(ForkError):
        await compared(provider)


async def test_an_answer_that_is_committed_meanwhile_is_not_missed(provider: Provider, reading: Reading) -> None:
    """The running adapter writes on: what comes after the comparison began is for the next one."""
    await settled(provider)
    reconciler = Reconciler(provider.session, provider.ledger)
    await settled(provider)
    provider.world.now += LATER
    await answered(provider)
    found = await reconciler.run()
    assert (named(found), found.answers, found.entries) == ([], 1, 2)


async def test_a_ledger_is_read_to_its_end_whatever_its_pages(
    provider: Provider, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.ledger.PAGE", 2)
    for _ in range(5):
        await settled(provider)
    assert [stored.number for stored, _ in provider.ledger.answers()] == [1, 2, 3, 4, 5]
    assert all(settlements for _, settlements in provider.ledger.answers())
    assert isinstance(provider.ledger, Ledger)
    assert (await compared(provider)).answers == 5


# --- witnesses, where the trust file has a quorum


async def test_a_receipt_that_witnesses_have_not_seen_in_time_is_named(tmp_path: Path) -> None:
    async with provider_at(tmp_path, World.standard(), POLICY) as provider:
        Reading(provider)
        simulator = provider.simulator
        # From the first entry on: receipts are upgraded while this test goes on.
        simulator.cosigned_size["access"] = 1
        for _ in range(2):
            await settled(provider)
        found = await compared(provider)
        assert named(found) == []
        assert found.caveat == "split view not excluded from entry 1 on: not cosigned yet"
        provider.world.now += 61_000
        assert named(await compared(provider)) == [(Problem.NOT_COSIGNED, None, 1)]
        simulator.cosigned_size.clear()
        provider.world.now += 1000
        found = await compared(provider)
        assert (named(found), found.caveat) == ([], "")
        assert list(module.summary(found))[-1].endswith("a quorum of witnesses has seen all of it")


async def test_without_a_quorum_no_receipt_is_late(provider: Provider, reading: Reading) -> None:
    await settled(provider)
    provider.world.now += 3_600_000
    found = await compared(provider)
    assert named(found) == []
    assert module.described(found)["caveats"] == ["split view not excluded: no witnesses"]
