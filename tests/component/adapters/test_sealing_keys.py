"""One sealing key is always valid for another week, and those that ended are destroyed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from adapters.sealing_keys import RENEW_BEFORE, SealingKeys
from exchange.client.errors import RefusedError, UnavailableError
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.core.lifetimes import SEALING_KEY
from exchange.transport import APPEND
from tests.component.adapters.test_answering import provider_at, wait_for_no_disk
from tests.simulator import Simulator, make_home
from tests.world import DAY, REGISTRY, World


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(World.standard())


@pytest.fixture
async def session(tmp_path: Path, simulator: Simulator) -> AsyncIterator[Session]:
    """A system that has no sealing key in its home: the one in the directory is of another machine."""
    home = make_home(tmp_path / "home", simulator.world, REGISTRY)
    async with Session(home, simulator, simulator.clock) as session:
        yield session


async def test_a_home_without_a_key_of_its_own_gets_one(session: Session, simulator: Simulator) -> None:
    await SealingKeys(session).ensure()
    [digest] = session.home.sealing_keys()
    record = simulator.world.directory.sealing_key(REGISTRY, simulator.clock())
    assert record is not None
    assert record.key_id == digest
    assert (record.not_before, record.not_after) == (simulator.clock(), simulator.clock() + SEALING_KEY)


async def test_a_key_that_is_valid_for_another_week_is_kept(session: Session, simulator: Simulator) -> None:
    keys = SealingKeys(session)
    await keys.ensure()
    kept = set(session.home.sealing_keys())
    simulator.world.now += SEALING_KEY - RENEW_BEFORE
    await keys.ensure()
    assert set(session.home.sealing_keys()) == kept
    assert simulator.count(APPEND) == 1


async def test_a_new_key_comes_a_week_before_the_old_one_ends_and_both_open_what_is_under_way(
    session: Session, simulator: Simulator
) -> None:
    keys = SealingKeys(session)
    await keys.ensure()
    [old] = session.home.sealing_keys()
    simulator.world.now += SEALING_KEY - RENEW_BEFORE + 1
    await keys.ensure()
    assert len(session.home.sealing_keys()) == 2
    assert old in session.home.sealing_keys()
    simulator.world.now += RENEW_BEFORE
    await keys.ensure()
    [new] = session.home.sealing_keys()
    assert new != old


async def test_a_key_that_has_ended_is_destroyed_only_when_another_stands(
    session: Session, simulator: Simulator
) -> None:
    keys = SealingKeys(session)
    await keys.ensure()
    [old] = session.home.sealing_keys()
    simulator.world.now += SEALING_KEY + 1
    simulator.down = 10
    with pytest.raises(UnavailableError):
        await keys.ensure()
    assert set(session.home.sealing_keys()) == {old}
    simulator.down = 0
    await keys.ensure()
    assert old not in session.home.sealing_keys()


async def test_a_revoked_key_is_replaced(session: Session, simulator: Simulator) -> None:
    keys = SealingKeys(session)
    await keys.ensure()
    [old] = session.home.sealing_keys()
    simulator.world.revoke(old, REGISTRY)
    await keys.ensure()
    record = simulator.world.directory.sealing_key(REGISTRY, simulator.clock())
    assert record is not None
    assert record.key_id in set(session.home.sealing_keys()) - {old}


async def test_two_at_once_make_one_key(session: Session, simulator: Simulator) -> None:
    keys = SealingKeys(session)
    await asyncio.gather(*(keys.ensure() for _ in range(3)))
    assert len(session.home.sealing_keys()) == simulator.count(APPEND) == 1


async def test_a_key_that_never_reached_the_directory_is_entered_later(session: Session, simulator: Simulator) -> None:
    keys = SealingKeys(session)
    await session.sync()
    unary, failing = simulator.unary, True

    async def no_append(method: str, request: bytes, timeout: float) -> bytes:
        if failing and method == APPEND:
            raise UnavailableError("the log cannot be written")
        return await unary(method, request, timeout)

    simulator.unary = no_append  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await keys.ensure()
    # However often it was tried.
    [digest] = session.home.sealing_keys()
    failing = False
    await keys.ensure()
    record = simulator.world.directory.sealing_key(REGISTRY, simulator.clock())
    assert record is not None
    assert [record.key_id] == [digest] == list(session.home.sealing_keys())


async def test_while_no_broker_takes_the_next_key_the_last_one_is_used_until_it_ends(
    session: Session, simulator: Simulator
) -> None:
    keys = SealingKeys(session)
    await keys.ensure()
    [old] = session.home.sealing_keys()
    unary, failing = simulator.unary, True

    async def no_append(method: str, request: bytes, timeout: float) -> bytes:
        if failing and method == APPEND:
            raise UnavailableError("the log cannot be written")
        return await unary(method, request, timeout)

    simulator.unary = no_append  # type: ignore[method-assign]
    simulator.world.now += SEALING_KEY - RENEW_BEFORE + 1
    with capture_logs() as said:
        await keys.ensure()
    assert [line["event"] for line in said] == ["the sealing key cannot be renewed now"]
    assert old in session.home.sealing_keys()
    failing = False
    await keys.ensure()
    record = simulator.world.directory.sealing_key(REGISTRY, simulator.clock())
    assert record is not None
    assert record.key_id in set(session.home.sealing_keys()) - {old}


async def test_a_directory_out_of_reach_changes_nothing(session: Session, simulator: Simulator) -> None:
    simulator.down = 100
    with pytest.raises(UnavailableError):
        await SealingKeys(session).ensure()
    assert session.home.sealing_keys() == {}


async def test_a_refused_key_is_an_error(session: Session, simulator: Simulator) -> None:
    simulator.world.revoke(key_id(simulator.world.keys[REGISTRY].public_key), REGISTRY)
    with pytest.raises(RefusedError):
        await SealingKeys(session).ensure()


async def test_a_new_key_opens_what_is_sealed_to_it_before_anybody_can_know_of_it(
    session: Session, simulator: Simulator
) -> None:
    taken_up: list[tuple[int, int]] = []

    def take_up() -> None:
        taken_up.append((len(session.home.sealing_keys()), simulator.count(APPEND)))

    await SealingKeys(session, take_up).ensure()
    assert taken_up == [(1, 0)]
    assert simulator.count(APPEND) == 1


async def test_requests_sealed_to_the_old_key_are_answered_until_it_ends(tmp_path: Path) -> None:
    async with provider_at(tmp_path, World.standard()) as provider:
        world = provider.world
        world.now += 24 * DAY
        old = world.request()
        await SealingKeys(provider.session).ensure()
        provider.answerer.reload_keys()
        assert len(provider.session.home.sealing_keys()) == 2
        await provider.answer(old)
