from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.broker.parts import Broker
from tests.world import World


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged, and printed nowhere: drawing tracebacks takes longer than most tests."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture
async def broker(world: World) -> AsyncIterator[Broker]:
    broker = Broker(world)
    yield broker
    await broker.close()
