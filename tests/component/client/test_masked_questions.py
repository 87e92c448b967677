"""Keys and filters are read by the types that an agreement's masks leave, before anything is sealed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from exchange.client import ExchangeClient, Session, UsageError, lookup_query, selection_query
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Value
from exchange.v1.terms_pb2 import KeyedHash, Limits, Mask, YearOnly
from tests.simulator import Simulator, make_home
from tests.world import APPLICATIONS, ID_NUMBER, PURPOSE, World

DATASET = "population/residents"
WHY: dict[str, Any] = {"fields": ["name"], "purpose": PURPOSE, "case": "ZF-2027-0001", "officer": "o-7"}
MASKS = (
    Mask(field="id_number", last=4),
    Mask(field="birth_date", year_only=YearOnly()),
    Mask(field="area_m2", hash=KeyedHash()),
)


@pytest.fixture
def simulator() -> Simulator:
    world = World.founded()
    world.register(PURPOSE)
    fields = ["id_number", "name", "birth_date", "area_m2"]
    application = world.apply_for(world.publish(), fields=fields, filterable=["birth_date", "area_m2"])
    world.grant(application, masks=MASKS, limits=Limits(rows=2))
    return Simulator(world)


@pytest.fixture
async def client(tmp_path: Path, simulator: Simulator) -> AsyncIterator[ExchangeClient]:
    home = make_home(tmp_path / "home", simulator.world, APPLICATIONS)
    async with ExchangeClient(Session(home, simulator, simulator.clock)) as client:
        yield client


def equal(field: str, **value: Any) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=Comparator.COMPARATOR_EQUAL, value=Value(**value)))


@pytest.mark.parametrize(
    "filter", [equal("birth_date", integer=1990), equal("area_m2", text="0" * 64)], ids=["year", "hash"]
)
async def test_a_filter_has_the_masked_type(client: ExchangeClient, simulator: Simulator, filter: Filter) -> None:
    await client.query(DATASET, filter, **WHY)
    assert simulator.queries == [selection_query(filter)]


@pytest.mark.parametrize(
    "filter", [equal("birth_date", date="1990-03-07"), equal("area_m2", decimal="58.40")], ids=["year", "hash"]
)
async def test_a_filter_of_the_type_behind_the_mask_is_not_sent(
    client: ExchangeClient, simulator: Simulator, filter: Filter
) -> None:
    with pytest.raises(UsageError, match="no value of its field's type"):
        await client.query(DATASET, filter, **WHY)
    assert not simulator.queries


async def test_a_masked_key_is_asked_for_as_it_is_shown(client: ExchangeClient, simulator: Simulator) -> None:
    shown = "*" * 14 + ID_NUMBER[-4:]
    await client.lookup(DATASET, [shown], **WHY)
    assert simulator.queries == [lookup_query([shown], FieldType.FIELD_TYPE_TEXT)]
    with pytest.raises(UsageError, match="the key is masked"):
        await client.lookup(DATASET, [ID_NUMBER], **WHY)
    assert len(simulator.queries) == 1


async def test_more_keys_than_the_agreement_grants_are_not_sent(client: ExchangeClient, simulator: Simulator) -> None:
    with pytest.raises(UsageError, match="at most 2 keys"):
        await client.lookup(DATASET, ["**1", "**2", "**3"], **WHY)
    assert not simulator.queries
