from collections.abc import Callable

import pytest

from exchange.client import EvidenceError, ForkError, RefusedError, Session, UnavailableError
from exchange.core import entries
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Draft
from exchange.core.merkle import leaf_hash
from exchange.home import Home
from exchange.transport import APPEND
from exchange.v1.directory_pb2 import Application
from exchange.v1.envelope_pb2 import Receipt
from tests.memory import MemoryLog
from tests.simulator import Simulator, make_home
from tests.world import APPLICATIONS, FIELDS, HOUSING, LOOKUP, PURPOSE, YEAR


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Home:
    return make_home(tmp_path_factory.mktemp("department") / "home", simulator.world, HOUSING)


def application(simulator: Simulator, number: int = 1) -> Draft:
    world = simulator.world
    body = Application(
        format=1,
        dataset=world.dataset.object_id,
        grantee=str(APPLICATIONS),
        operations=[LOOKUP],
        fields=list(FIELDS),
        purposes=[PURPOSE],
        not_after=world.now + YEAR,
    )
    return entries.body_entry(HOUSING, ObjectVersion(bytes([number]) * 16), body, bytes(32))


async def test_an_entry_is_in_the_mirror_once_it_is_appended(session: Session, simulator: Simulator) -> None:
    envelope = session.sign(application(simulator))
    appended = await session.append(envelope)
    assert appended.index == simulator.world.directory_log.size - 1
    assert appended.leaf_hash == leaf_hash(simulator.world.directory_log.leaves[-1])
    assert appended.certificate == b"PEM"
    assert envelope.digest in session.directory.terms.applications


async def test_a_lost_answer_is_fetched_with_the_same_bytes(session: Session, simulator: Simulator) -> None:
    simulator.lost = 1
    size = simulator.world.directory_log.size
    assert (await session.append(session.sign(application(simulator)))).index == size
    assert simulator.count(APPEND) == 2
    assert simulator.world.directory_log.size == size + 1


async def test_an_entry_against_the_rules_is_refused(session: Session, simulator: Simulator) -> None:
    draft = entries.revocation_entry(HOUSING, bytes(16), simulator.world.agreement.digest, "not ours")
    with pytest.raises(RefusedError, match=r"ENTRY_REFUSED: .* cannot revoke") as caught:
        await session.append(session.sign(draft))
    assert not caught.value.verified


async def test_a_receipt_of_another_entry_proves_nothing(session: Session, simulator: Simulator) -> None:
    simulator.receipt = lambda receipt: simulator.world.directory_log.receipt(3)
    with pytest.raises(EvidenceError, match="another entry"):
        await session.append(session.sign(application(simulator)))


def without_path(receipt: Receipt) -> Receipt:
    return Receipt(index=receipt.index, leaf=receipt.leaf, checkpoint=receipt.checkpoint)


def of_its_neighbour(receipt: Receipt) -> Receipt:
    return Receipt(index=receipt.index ^ 1, leaf=receipt.leaf, path=receipt.path, checkpoint=receipt.checkpoint)


def without_checkpoint(receipt: Receipt) -> Receipt:
    return Receipt(index=receipt.index, leaf=receipt.leaf, path=receipt.path)


def without_anything(receipt: Receipt) -> None:
    return None


@pytest.mark.parametrize("change", [without_path, of_its_neighbour, without_checkpoint, without_anything])
async def test_a_receipt_that_does_not_hold_proves_nothing(
    session: Session, simulator: Simulator, change: Callable[[Receipt], Receipt | None]
) -> None:
    simulator.receipt = change
    with pytest.raises(EvidenceError, match="does not hold"):
        await session.append(session.sign(application(simulator)))


async def test_an_entry_in_another_history_is_a_fork(session: Session, simulator: Simulator) -> None:
    log = simulator.world.directory_log
    shown = MemoryLog(log.signer.name)
    for leaf, body in zip(log.leaves, log.bodies, strict=True):
        shown.append(leaf, body)
    shown.append(b"what everybody else is shown")
    simulator.directory_log = shown
    with pytest.raises(ForkError):
        await session.append(session.sign(application(simulator)))


async def test_without_a_broker_nothing_is_appended(session: Session, simulator: Simulator) -> None:
    simulator.down = 1000
    with pytest.raises(UnavailableError):
        await session.append(session.sign(application(simulator)), timeout=0.05)


def test_a_session_is_entered_before_it_is_used(home: Home, simulator: Simulator) -> None:
    session = Session(home, simulator, simulator.clock)
    assert session.party == HOUSING
    with pytest.raises(RuntimeError, match="enter the session"):
        session.directory  # noqa: B018


async def test_the_next_session_goes_on_from_the_disk(home: Home, simulator: Simulator) -> None:
    async with Session(home, simulator, simulator.clock) as session:
        size = (await session.sync()).size
    calls = len(simulator.calls)
    async with Session(home, simulator, simulator.clock) as session:
        assert session.directory.size == size
    assert len(simulator.calls) == calls
