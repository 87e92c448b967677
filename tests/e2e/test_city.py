from exchange.v1.access_pb2 import AccessKind
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.founding import person


async def test_a_lookup_is_answered_logged_and_settled(city: City) -> None:
    async with city.client() as client:
        answer = await ask(client, 7)
        await client.settle()
    assert [row["id_number"] for row in answer.rows] == [person(7)]
    [leaf] = city.access_log()
    assert leaf.kind == AccessKind.ACCESS_KIND_RELEASED
    city.wait_settled()
    city.check()
