"""What was released to a party, as the broker tells it from the access log."""

import pytest

from exchange.client.errors import EvidenceError
from exchange.client.session import Session
from exchange.client.uses import all_uses, own_uses
from exchange.core.decision import Deny
from exchange.v1.access_pb2 import Code
from tests.memory import MemoryLog
from tests.simulator import Simulator
from tests.world import APPLICATIONS, REGISTRY, World


def used(world: World) -> None:
    """Two released answers, a refusal between them, and one whose body is erased."""
    for number in range(3):
        request = world.request()
        world.release(request, world.respond(request))
        world.refuse(world.request(), Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no"))
        if number == 2:
            world.access_log.bodies[-2] = b""


@pytest.mark.parametrize("page", [1, 2, 1000])
async def test_released_answers_come_page_by_page(session: Session, simulator: Simulator, page: int) -> None:
    used(simulator.world)
    simulator.page = page
    seen: list[tuple[int, int]] = []
    found = [use async for use in own_uses(session, lambda done, total: seen.append((done, total)))]
    assert [use.index for use in found] == [0, 2, 4]
    digest = simulator.world.agreement.digest
    assert [use.agreement for use in found] == [digest, digest, b""]
    assert {(use.requester, use.provider) for use in found} == {(str(APPLICATIONS), str(REGISTRY))}
    assert seen[-1] == (6, 6)


async def test_an_entry_that_cannot_be_read_is_no_use(session: Session, simulator: Simulator) -> None:
    simulator.world.access_log.append(b"no leaf")
    assert [use async for use in own_uses(session, lambda _done, _total: None)] == []


async def test_a_checkpoint_of_another_log_is_refused(session: Session, simulator: Simulator) -> None:
    used(simulator.world)
    stranger = simulator.world.access_log.copy()
    stranger.signer = MemoryLog("stranger.example/access").signer
    simulator.access_log = stranger
    with pytest.raises(EvidenceError, match="does not hold"):
        [use async for use in own_uses(session, lambda _done, _total: None)]


@pytest.mark.parametrize("page", [1, 4, 1000])
async def test_an_auditor_finds_what_was_released_page_by_page(
    session: Session, simulator: Simulator, page: int
) -> None:
    used(simulator.world)
    simulator.page = page
    assert [use.index async for use in all_uses(session, 0, simulator.world.now)] == [0, 2, 4]
