"""What a department does by itself, broker up or down (DESIGN sections 2 and 10)."""

from functools import partial
from pathlib import Path

import pytest

from adapters import local as module
from adapters.local import orders_of, revoke_agreement, told
from exchange.client.errors import ForkError, UsageError
from exchange.client.session import Session
from exchange.core.envelope import decode_envelope
from exchange.home import Home, HomeError
from exchange.v1.catalogue_pb2 import Sharing, SharingClass
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.memory import MemoryLog
from tests.simulator import Simulator, make_home
from tests.world import APPLICATIONS, ID_NUMBER, MARRIAGE, ORIGIN, START, World

REASON = "data misused"


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(World.standard())


@pytest.fixture
async def home(tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An adapter's home that has a mirror, and an adapter that is not running."""
    monkeypatch.setattr(module, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    async with provider_at(tmp_path, simulator.world) as provider:
        return provider.session.home


@pytest.fixture
def agreement(simulator: Simulator) -> bytes:
    return simulator.world.agreement.digest


async def test_a_revocation_is_in_force_here_and_in_the_directory(
    home: Home, simulator: Simulator, agreement: bytes
) -> None:
    revoked = await revoke_agreement(home, agreement.hex()[:16], REASON, START)
    assert (revoked.agreement, revoked.index) == (agreement, simulator.world.directory.size - 1)
    terms = simulator.world.directory.agreement(agreement)
    assert terms is not None
    assert not simulator.world.directory.stands(terms)
    with orders_of(home) as orders:
        assert orders.revoked == {agreement}
        assert orders.to_send() == ()
        assert orders.history()[0].reason == REASON


async def test_with_the_broker_down_it_is_in_force_here_at_once_and_queued(
    home: Home, simulator: Simulator, agreement: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REACH_SECONDS", 0.05)
    simulator.down = 1000
    revoked = await revoke_agreement(home, agreement.hex(), REASON, START)
    assert revoked.index is None
    with orders_of(home) as orders:
        assert orders.revoked == {agreement}
        [(queued, envelope)] = orders.to_send()
    assert queued == agreement
    # What is queued is all that the directory needs.
    assert simulator.world.append_envelope(decode_envelope(envelope)).reason == ""


async def test_it_is_written_here_before_anything_is_sent(
    home: Home, simulator: Simulator, agreement: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    unary = simulator.unary

    async def look(method: str, request: bytes, timeout: float) -> bytes:
        with orders_of(home) as orders:
            seen.append(orders.revoked)
        return await unary(method, request, timeout)

    simulator.unary = look  # type: ignore[method-assign]
    await revoke_agreement(home, agreement.hex(), REASON, START)
    assert seen
    assert set(seen) == {frozenset({agreement})}


async def test_a_log_that_contradicts_itself_is_told_but_the_order_stands(
    home: Home, simulator: Simulator, agreement: bytes
) -> None:
    fork = MemoryLog(f"{ORIGIN}/directory")
    log = simulator.world.directory_log
    for leaf, body in zip([*log.leaves, b"one more", b"another"], [*log.bodies, b"", b""], strict=True):
        fork.append(leaf + b"x", body)
    simulator.directory_log = fork
    with pytest.raises(ForkError):
        await revoke_agreement(home, agreement.hex(), REASON, START)
    with orders_of(home) as orders:
        assert orders.revoked == {agreement}


@pytest.mark.parametrize("text", ["", "3f9c2a7", "not hexadecimal", "0" * 64, "ff" * 40])
async def test_what_names_no_agreement_of_the_department_is_a_mistake(home: Home, text: str) -> None:
    with pytest.raises(UsageError):
        await revoke_agreement(home, text, REASON, START)
    with orders_of(home) as orders:
        assert orders.history() == ()


async def test_an_agreement_may_be_typed_in_upper_case(home: Home, agreement: bytes) -> None:
    assert (await revoke_agreement(home, agreement.hex()[:8].upper(), REASON, START)).agreement == agreement


async def test_a_beginning_that_several_agreements_share_is_a_mistake(
    home: Home, agreement: bytes, monkeypatch: pytest.MonkeyPatch, simulator: Simulator
) -> None:
    world = simulator.world
    world.grant(world.apply_for(world.dataset, MARRIAGE))
    monkeypatch.setattr(module, "SHORTEST", 0)
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
    with pytest.raises(UsageError, match="2 agreements"):
        await revoke_agreement(home, "", REASON, START)


async def test_another_departments_agreement_is_none_of_its_business(
    tmp_path: Path, simulator: Simulator, agreement: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "other", simulator.world, APPLICATIONS)
    monkeypatch.setattr(module, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
    with pytest.raises(UsageError, match="no agreement of"):
        await revoke_agreement(home, agreement.hex(), REASON, START)


def test_orders_need_a_home(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="nobody lives"), orders_of(Home(tmp_path)):
        pass
    assert list(tmp_path.iterdir()) == []


async def test_orders_that_cannot_be_used_are_an_error_of_the_home(home: Home) -> None:
    (home.path / "orders.db").write_bytes(b"no database" * 100)
    with pytest.raises(HomeError, match=r"orders\.db"), orders_of(home):
        pass


# --- who was told what --------------------------------------------------------------------------------


async def filled(provider: Provider) -> None:
    world = provider.world
    first, second = world.request(), world.request(fields=["name"])
    for request in (first, second):
        await provider.answer(request)
    response = await provider.answer(first)
    receipt = world.release(first, response)
    provider.ledger.settle(response.digest, 1, 0, receipt.index, receipt.SerializeToString(deterministic=True))


async def test_who_was_told_what_about_a_person(tmp_path: Path) -> None:
    async with provider_at(tmp_path, World.standard()) as provider:
        home = provider.session.home
        await filled(provider)
    (tmp_path / "ledger.db").rename(home.path / "ledger.db")
    first, second = await told(home, ID_NUMBER)
    assert (first["requester"], first["officer"], first["case_id"]) == (str(APPLICATIONS), "officer-7", "ZF-2027-0001")
    assert (first["asked"], first["told"], first["rows"]) == (True, True, 1)
    assert (first["log_entry"], first["log_index"]) == ("0 released", [0])
    assert second["fields"] == ["name"]
    assert (second["log_entry"], second["log_index"]) == ("owed", [])
    assert await told(home, "somebody else") == []


async def test_a_home_without_a_ledger_tells_nothing(home: Home) -> None:
    with pytest.raises(HomeError, match=r"ledger\.db") as caught:
        await told(home, ID_NUMBER)
    assert "adapter that has run" in caught.value.hint
    assert not (home.path / "ledger.db").exists()


async def test_what_a_standing_approval_gave_is_ended_by_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World.standard()
    dataset = world.publish("open", sharing=Sharing(sharing_class=SharingClass.SHARING_CLASS_UNCONDITIONAL))
    application = world.apply_for(dataset, standing_approval=world.approve_standing(dataset))
    simulator = Simulator(world)
    monkeypatch.setattr(module, "Session", partial(Session, transport=simulator, clock=simulator.clock))
    async with provider_at(tmp_path, world) as provider:
        home = provider.session.home
    revoked = await module.revoke_agreement(home, application.version.digest.hex(), "misused", world.now)
    assert revoked.index == world.directory.size - 1
    agreement = world.directory.agreement(application.version.digest)
    assert agreement is not None
    assert not world.directory.stands(agreement)
