from collections.abc import AsyncIterator

import pytest

from tests.unit.broker.parts import Broker
from tests.world import World


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    broker = Broker(world)
    yield broker
    await broker.close()
