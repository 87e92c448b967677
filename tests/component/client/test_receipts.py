"""Every receipt becomes a cosigned one within a minute, or there is an alarm."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exchange.client import Answer, ExchangeClient, Session, UnavailableError, receipts, sqlite_file
from exchange.client.errors import EvidenceError
from exchange.client.receipt_file import FILE, KeptReceipt, ReceiptFile
from exchange.client.receipts import WITHIN
from exchange.core.access import verify_receipt
from exchange.core.policy import open_cosigned
from exchange.core.tlog_proof import encode_proof, parse_proof, receipt_proof, verify_proof
from exchange.core.wire import decode
from exchange.home import Home
from exchange.transport import ACCESS_COSIGNED, ACCESS_PROVE
from exchange.v1.envelope_pb2 import Receipt
from tests.component.client.test_cosignatures import ask
from tests.memory import MemoryLog
from tests.simulator import COSIGNERS, POLICY, Simulator, make_home


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "ROUND", 0.0)
    monkeypatch.setattr(sqlite_file, "SYNCHRONOUS", "OFF")


@pytest.fixture
def home(tmp_path: Path, simulator: Simulator) -> Home:
    simulator.cosigners = COSIGNERS
    return make_home(tmp_path / "home", simulator.world, policy=POLICY)


Alarms = list[tuple[int, str]]


@pytest.fixture
def alarms() -> Alarms:
    return []


@pytest.fixture
async def session(home: Home, simulator: Simulator, alarms: Alarms) -> AsyncIterator[Session]:
    def alarm(index: int, reason: str) -> None:
        alarms.append((index, reason))

    async with Session(home, simulator, simulator.clock, alarm=alarm) as session:
        await session.sync()
        yield session


async def asked(session: Session) -> Answer:
    async with ExchangeClient(session) as client:
        answer = await ask(client)
    assert isinstance(answer, Answer)
    return answer


def check(simulator: Simulator, receipt: Receipt, answer: Answer) -> int:
    """The receipt proves the same entry under a checkpoint that a quorum cosigned; returns that checkpoint's size."""
    verifier = simulator.world.access_log.signer.verifier
    proven = verify_receipt(receipt, verifier)
    assert (proven.index, proven.leaf_hash) == (answer.index, answer.proven.leaf_hash)
    assert open_cosigned(receipt.checkpoint, verifier, POLICY).quorum
    return proven.checkpoint.size


async def test_a_receipt_becomes_a_cosigned_one(session: Session, simulator: Simulator) -> None:
    answer = await asked(session)
    assert not open_cosigned(answer.receipt.checkpoint, session.trust.access_log, POLICY).quorum
    receipt = await ExchangeClient(session).cosigned(answer)
    assert check(simulator, receipt, answer) == answer.proven.checkpoint.size
    assert simulator.count(ACCESS_COSIGNED) >= 1
    assert simulator.count(ACCESS_PROVE) == 0


async def test_a_later_checkpoint_proves_it_too(session: Session, simulator: Simulator) -> None:
    simulator.cosigned_size["access"] = 0
    first = await asked(session)
    second = await asked(session)
    simulator.world.now += 1000
    simulator.cosigned_size.clear()
    for answer in (first, second):
        assert check(simulator, await session.receipts.cosigned(answer.index), answer) == 2


async def test_it_is_kept_before_rows_are_handed_over(session: Session, simulator: Simulator) -> None:
    simulator.cosigners = COSIGNERS[:1]
    answer = await asked(session)
    kept = ReceiptFile(session.home.path / FILE).receipt(answer.index)
    assert kept is not None
    assert decode(Receipt, kept.receipt) == answer.receipt
    assert not kept.cosigned


async def test_the_next_process_goes_on_with_what_waits(home: Home, simulator: Simulator) -> None:
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        simulator.cosigned_size["access"] = 0
        answer = await asked(session)
        with pytest.raises(UnavailableError, match="not cosigned within"):
            await session.receipts.cosigned(answer.index, timeout=0.01)
    simulator.cosigned_size.clear()
    simulator.world.now += 1000
    async with Session(home, simulator, simulator.clock) as session:
        assert check(simulator, await session.receipts.cosigned(answer.index), answer) == 1


async def test_one_that_is_late_is_an_alarm_once(session: Session, simulator: Simulator, alarms: Alarms) -> None:
    simulator.cosigned_size["access"] = 0
    answer = await asked(session)
    for _ in range(3):
        await session.receipts.round()
    assert alarms == []
    simulator.world.now += int(WITHIN * 1000) + 1
    for _ in range(3):
        await session.receipts.round()
    assert alarms == [(answer.index, "no cosigned checkpoint proves it")]
    simulator.cosigned_size.clear()
    simulator.world.now += 1000
    assert check(simulator, await session.receipts.cosigned(answer.index), answer) == 1


async def test_the_alarm_says_that_nobody_could_be_asked(
    session: Session, simulator: Simulator, alarms: Alarms
) -> None:
    simulator.cosigned_size["access"] = 0
    await asked(session)
    simulator.world.now += int(WITHIN * 1000) + 1
    simulator.down = 1000
    await session.receipts.round()
    assert "lost" in alarms[0][1] or "connection" in alarms[0][1]
    simulator.down = 0


async def test_without_a_name_the_alarm_goes_to_the_log(
    home: Home, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        simulator.cosigned_size["access"] = 0
        answer = await asked(session)
        simulator.world.now += int(WITHIN * 1000) + 1
        await session.receipts.round()
    assert f"the receipt of entry {answer.index} is not cosigned in time" in caplog.text


async def test_a_proof_that_does_not_hold_upgrades_nothing(
    session: Session, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, alarms: Alarms
) -> None:
    simulator.cosigned_size["access"] = 0
    answer = await asked(session)
    await asked(session)
    await session.evidence.settle()
    honest = MemoryLog.receipt
    monkeypatch.setattr(MemoryLog, "receipt", lambda log, index, size=None: honest(log, 1 - index, size))
    simulator.cosigned_size.clear()
    simulator.world.now += int(WITHIN * 1000) + 1
    await session.receipts.round()
    kept = await session.receipts.receipt(answer.index)
    assert kept is not None
    assert not kept.cosigned
    assert answer.index in [index for index, _ in alarms]


async def test_many_receipts_share_the_questions(session: Session, simulator: Simulator) -> None:
    simulator.cosigned_size["access"] = 0
    answers = [await asked(session) for _ in range(20)]
    before = simulator.count(ACCESS_COSIGNED)
    simulator.cosigned_size.clear()
    simulator.world.now += 1000
    found = await asyncio.gather(*(session.receipts.cosigned(answer.index) for answer in answers))
    for receipt, answer in zip(found, answers, strict=True):
        assert check(simulator, receipt, answer) == 20
    assert simulator.count(ACCESS_COSIGNED) <= before + 3


async def test_an_entry_without_a_receipt_here_is_none_to_wait_for(session: Session) -> None:
    with pytest.raises(EvidenceError, match="no receipt of entry 7"):
        await session.receipts.cosigned(7)


async def test_without_a_quorum_nothing_is_kept(tmp_path: Path, simulator: Simulator) -> None:
    home = make_home(tmp_path / "without", simulator.world)
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        await asked(session)
    assert not (home.path / FILE).exists()


async def test_any_receipt_can_be_written_as_a_tlog_proof(session: Session, simulator: Simulator) -> None:
    answer = await asked(session)
    for receipt in (answer.receipt, await session.receipts.cosigned(answer.index)):
        proof = parse_proof(encode_proof(receipt_proof(receipt)))
        assert proof.extra == receipt.leaf
        assert verify_proof(proof, proof.extra, session.trust.access_log).size == 1


# --- the file


def test_a_receipt_is_never_overwritten_but_by_its_cosigned_one(tmp_path: Path) -> None:
    file = ReceiptFile(tmp_path / FILE)
    first, second = KeptReceipt(3, 10, b"first", False), KeptReceipt(3, 20, b"second", False)
    file.keep([first])
    file.keep([second])
    assert file.receipt(3) == first
    file.upgrade([KeptReceipt(3, 10, b"cosigned", True)])
    file.upgrade([KeptReceipt(3, 10, b"another", True)])
    file.keep([second])
    assert file.receipt(3) == KeptReceipt(3, 10, b"cosigned", True)
    assert file.waiting(10) == ()


def test_counts_what_waits_and_what_is_late(tmp_path: Path) -> None:
    file = ReceiptFile(tmp_path / FILE)
    assert file.count_waiting(100) == (0, 0)
    file.keep([KeptReceipt(number, number * 10, b"x", False) for number in range(5)])
    file.upgrade([KeptReceipt(0, 0, b"y", True)])
    assert file.count_waiting(20) == (4, 2)
    assert [kept.position for kept in file.waiting(2)] == [1, 2]


def test_a_file_that_is_none_of_receipts_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(EvidenceError):
        ReceiptFile(tmp_path / FILE).waiting(1)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(UnavailableError):
        ReceiptFile(tmp_path / FILE).waiting(1)


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    ReceiptFile(tmp_path / FILE).keep([])
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
