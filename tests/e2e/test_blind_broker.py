"""The broker sees who asks whom for what; never what was asked about whom, nor what was answered."""

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from exchange.client import lookup_query, selection_query
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Value
from tests.e2e.asking import prepare, refused
from tests.e2e.city import City
from tests.e2e.founding import BROKER, REGISTRY, RESIDENTS, person
from tests.e2e.memory_scan import in_files, in_memory

ROUNDS = 20


async def test_no_query_and_no_record_is_found_at_the_broker(city: City) -> None:
    query, record = f"canary-query-{secrets.token_hex(8)}", f"canary-record-{secrets.token_hex(8)}"
    case = f"canary-case-{secrets.token_hex(8)}"
    with closing(sqlite3.connect(city.path / REGISTRY / "data.db")) as db, db:
        db.execute("UPDATE residents SET name = ? WHERE id_number = ?", (record, person(3)))
    async with city.client() as client:
        for _ in range(ROUNDS):
            asked = lookup_query([person(3), query], FieldType.FIELD_TYPE_TEXT)
            prepared = await client.prepare(
                RESIDENTS,
                asked,
                fields=("id_number", "name"),
                purpose="housing.allocation",
                case=case,
                officer="officer-7",
            )
            answer = await client.submit(prepared)
            assert [row["name"] for row in answer.rows] == [record]
        # The scanner works: the adapter holds both in its memory, the broker holds the metadata.
        assert in_memory(city.registry.pid, query)
        assert in_memory(city.registry.pid, record)
        assert in_memory(city.broker.pid, case)
        assert in_files(broker_files(city), case)

        for canary in (query, record):
            assert not in_memory(city.broker.pid, canary)
            assert in_files(broker_files(city), canary) == []
    assert city.broker.stop() == 0
    for canary in (query, record):
        assert in_files(broker_files(city), canary) == []


async def test_a_refusal_gives_no_value_of_the_query_away(city: City) -> None:
    """A query that its adapter refuses: the reason travels in the clear."""
    canary = f"canary-{secrets.token_hex(8)}"
    async with city.client() as client:
        prepared = await prepare(client, fields=("name",), case="C-1")
        answer = await client.submit(prepared)
        assert len(answer.rows) == 1
        value = Value(text=canary)
        comparison = Comparison(field="name", comparator=Comparator.COMPARATOR_EQUAL, value=value)
        prepared = await client.prepare(
            RESIDENTS,
            selection_query(Filter(comparison=comparison), 0),
            fields=("name",),
            purpose="housing.allocation",
            case="C-2",
            officer="o",
        )
        with refused(Code.CODE_FIELD_NOT_GRANTED) as caught:
            await client.submit(prepared)
        assert canary not in str(caught.value)
    assert in_files(broker_files(city), canary) == []
    assert not in_memory(city.broker.pid, canary)


def broker_files(city: City) -> list[Path]:
    """Everything that the broker writes: its database with log and index, the anchor, what it prints."""
    home = city.path / BROKER
    found = [path for path in home.rglob("*") if path.is_file()]
    return [*found, city.path / "output" / f"{BROKER}.log"]
