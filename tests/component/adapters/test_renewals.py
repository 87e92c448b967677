"""An adapter renews its keys in time, and goes over to what the home holds, whoever put it there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from adapters import renewals as module
from adapters.renewals import Renewals
from exchange.client.renewing import renew_certificate, renew_signing_key
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, SYSTEM_KEY, TLS_CERTIFICATE
from exchange.succession import certificate_end
from exchange.transport import APPEND, RENEW
from exchange.v1.directory_pb2 import Role
from tests.drafts import accepted, key_draft
from tests.memory import signer
from tests.renewing import Renewing, certified_home
from tests.world import EXCHANGE, HOUSING, POPULATION, REGISTRY, START, World


@pytest.fixture
def world() -> World:
    world = World.standard()
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("registry's"), validity=(START - DAY, START + SYSTEM_KEY))
    return world


@pytest.fixture
def broker(world: World) -> Renewing:
    return Renewing(world, REGISTRY)


@pytest.fixture
async def session(tmp_path: Path, world: World, broker: Renewing) -> AsyncIterator[Session]:
    home = certified_home(tmp_path / "registry", world, REGISTRY)
    async with Session(home, broker, broker.clock) as session:
        await session.sync()
        yield session


class PassedError(Exception):
    """Time would pass."""


@pytest.fixture(autouse=True)
def passing(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing waits: each wait but of 0 seconds ends the loop that waits, once it has waited as often as is allowed."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        await sleep(0)
        if seconds:
            waits.append(seconds)
            if len(waits) >= 2:
                raise PassedError

    monkeypatch.setattr(module.asyncio, "sleep", wait)
    return waits


async def once(work: object) -> None:
    with pytest.raises(PassedError):
        await work  # type: ignore[misc]


async def test_nothing_is_renewed_before_its_time(session: Session, broker: Renewing) -> None:
    await once(Renewals(session).keep())
    assert (broker.count(RENEW), broker.count(APPEND)) == (0, 0)


async def test_a_certificate_and_a_key_near_their_end_are_renewed(session: Session, world: World) -> None:
    old = session.signer.public_key
    world.now = START + SYSTEM_KEY - 10 * DAY
    await once(Renewals(session).keep())
    assert session.signer.public_key != old
    assert world.directory.state.keys[key_id(session.signer.public_key)].not_after == world.now + SYSTEM_KEY
    assert certificate_end(session.home) == (world.now + TLS_CERTIFICATE) // 1000 * 1000


async def test_what_cannot_be_renewed_is_said_and_tried_again(session: Session, broker: Renewing, world: World) -> None:
    world.now = START + 70 * DAY
    broker.down = 1
    with capture_logs() as logs:
        await once(Renewals(session).keep())
    assert [line["event"] for line in logs] == ["keys cannot be renewed now", "keys renewed"]


async def test_a_revoked_key_that_renews_itself_is_refused_and_said(session: Session, world: World) -> None:
    world.revoke(key_id(session.signer.public_key), POPULATION)
    world.now = START + 70 * DAY
    before = session.home.read("tls.pem")
    with capture_logs() as logs:
        await once(Renewals(session).keep())
    assert {line["event"] for line in logs} == {"keys cannot be renewed now"}
    assert "is revoked" in logs[0]["reason"]
    assert session.home.read("tls.pem") == before


async def test_a_certificate_that_a_command_renewed_is_gone_over_to(
    session: Session, broker: Renewing, world: World
) -> None:
    renewals = Renewals(session)
    waiting = asyncio.create_task(renewals.next_certificate())
    old = session.signer.public_key
    async with Session(session.home, broker, broker.clock) as command:
        await renew_signing_key(command)
        await renew_certificate(command)
        new = command.signer.public_key
    assert session.signer.public_key == old != new
    await once(renewals.watch())
    assert session.signer.public_key == new
    await asyncio.wait_for(waiting, 5)


async def test_a_certificate_that_does_not_fit_changes_nothing(session: Session) -> None:
    renewals = Renewals(session)
    waiting = asyncio.create_task(renewals.next_certificate())
    before = session.signer
    session.home.write("tls.pem", b"no certificate")
    with capture_logs() as logs:
        await once(renewals.watch())
    assert "the old ones stay in use" in logs[0]["event"]
    assert session.signer == before
    assert not waiting.done()
    waiting.cancel()


async def test_the_log_says_what_expires_and_what_stands_in_public_view(
    session: Session, world: World, passing: list[float]
) -> None:
    accepted(world, key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE), EXCHANGE)
    await session.sync()
    world.now = START + 85 * DAY
    with capture_logs() as logs:
        await once(Renewals(session).warn())
    assert passing == [module.WARN_SECONDS] * 2
    certificates = [line for line in logs if line.get("what") == "TLS certificate"]
    assert {(line["party"], line["within_days"]) for line in certificates} == {(str(REGISTRY), 7)}
    world.now = START
    passing.clear()
    with capture_logs() as logs:
        await once(Renewals(session).warn())
    assert {line["party"] for line in logs if "public view" in line["event"]} == {str(HOUSING)}
