from collections.abc import AsyncIterator

import pytest

from tests.component.broker.parts import Broker
from tests.fixtures import logged, world
from tests.world import World

__all__ = ["broker", "logged", "world"]


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    broker = Broker(world)
    yield broker
    await broker.close()
