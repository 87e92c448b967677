from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.client import EvidenceError, ForkError, RefusedError, Session, UnavailableError, mirror
from exchange.client import session as module
from exchange.client.storage import MirrorFile
from exchange.core import entries
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Draft
from exchange.core.merkle import leaf_hash
from exchange.core.names import Party
from exchange.home import Home
from exchange.transport import APPEND, DIRECTORY_SYNC
from exchange.v1.directory_pb2 import Application
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.log_pb2 import Record
from tests.memory import MemoryLog
from tests.simulator import Simulator, lost_connection, make_home, refused
from tests.world import APPLICATIONS, FIELDS, HOUSING, LOOKUP, POPULATION, PURPOSE, REGISTRY, YEAR


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


def bare(record: Record) -> Record:
    return Record(index=record.index, leaf=record.leaf)


@pytest.mark.parametrize("party", [APPLICATIONS, REGISTRY])
async def test_an_honest_broker_cures_what_another_left_out(tmp_path: Path, simulator: Simulator, party: Party) -> None:
    home, agreement = make_home(tmp_path / "system", simulator.world, party), simulator.world.agreement
    simulator.sync_record = bare
    async with Session(home, simulator, simulator.clock) as session:
        directory = await session.sync()
        assert directory.agreement(agreement.digest) is None
        assert directory.lacks_body(Party(party.domain, party.department))
    simulator.sync_record = lambda record: record
    async with Session(home, simulator, simulator.clock) as session:
        directory = await session.sync()
        assert directory.agreement(agreement.digest) == agreement
        assert directory.dataset(agreement.dataset) is not None
        assert not directory.lacks_body(Party(party.domain, party.department))
        calls = simulator.count(DIRECTORY_SYNC)
        assert await session.sync() is directory
        assert simulator.count(DIRECTORY_SYNC) == calls + 1
    async with Session(home, simulator, simulator.clock) as session:
        assert session.directory.agreement(agreement.digest) == agreement


async def test_a_body_that_was_not_signed_cures_nothing(tmp_path: Path, simulator: Simulator) -> None:
    home = make_home(tmp_path / "system", simulator.world, REGISTRY)
    simulator.sync_record = bare
    async with Session(home, simulator, simulator.clock) as session:
        size = (await session.sync()).size
        simulator.sync_record = lambda record: Record(index=record.index, leaf=record.leaf, body=b"anything")
        before = simulator.count(DIRECTORY_SYNC)
        directory = await session.sync()
        assert directory.size == size
        assert directory.lacks_body(POPULATION)
        # The page that has one has the others.
        assert simulator.count(DIRECTORY_SYNC) == before + 2
        assert all(not entry.body for entry in MirrorFile(home.path / "mirror.db").load(0).entries)


@pytest.mark.parametrize("silence", [refused("MALFORMED", "no"), lost_connection()])
async def test_bodies_that_nobody_gives_do_not_stop_a_sync(
    tmp_path: Path, simulator: Simulator, silence: Exception
) -> None:
    home = make_home(tmp_path / "system", simulator.world, REGISTRY)
    simulator.sync_record = bare
    async with Session(home, simulator, simulator.clock) as session:
        size = (await session.sync()).size

        def deny(record: Record) -> Record:
            if record.index < size:
                raise silence
            return record

        simulator.sync_record = deny
        simulator.world.register("another.purpose")
        assert (await session.sync()).size == size + 1


async def test_only_so_many_pages_are_read_again_at_once(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MAX_AGAIN", 2)
    home = make_home(tmp_path / "system", simulator.world, REGISTRY)
    for number in range(3):
        simulator.world.publish(f"more-{number}")
    simulator.page = 1
    simulator.sync_record = bare
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        before = simulator.count(DIRECTORY_SYNC)
        await session.sync()
        assert simulator.count(DIRECTORY_SYNC) == before + 3


async def test_a_broker_that_has_not_what_may_be_ours_is_not_asked_each_time(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "system", simulator.world)
    agreement = simulator.world.agreement.version.index
    simulator.sync_record = lambda record: bare(record) if record.index == agreement else record
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        asked = simulator.count(DIRECTORY_SYNC)
        assert asked == 2
        await session.sync()
        assert simulator.count(DIRECTORY_SYNC) == asked + 1
        monkeypatch.setattr(module, "AGAIN", -1.0)
        simulator.sync_record = lambda record: record
        assert (await session.sync()).agreement(simulator.world.agreement.digest) is not None
