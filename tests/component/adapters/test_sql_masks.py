"""Masks in SQL: filters, order and limits read what a requester sees, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given

from adapters.connectors import ConnectorError, Question, QuestionError
from adapters.connectors.sql import SqlConnector
from adapters.connectors.tables import Table
from exchange.core.masking import Masking, keyed_hash, mask_value
from exchange.v1.access_pb2 import CODE_MALFORMED
from exchange.v1.directory_pb2 import FIELD_TYPE_DATE, FIELD_TYPE_TEXT
from exchange.v1.request_pb2 import COMPARATOR_EQUAL, COMPARATOR_LESS
from exchange.v1.terms_pb2 import KeyedHash, Mask, YearOnly
from tests.connector_contract import all_of, captured, compare, described, fill, is_null, question, tables, text
from tests.databases import Server
from tests.masked_contract import KEY, check_masked, check_same_after_cut, failure, masked_questions

HASHED_OWNER = Masking({"owner": Mask(field="owner", hash=KeyedHash())}, KEY)
TOO_MANY = "too many rows would have to be read to filter or order by hashes: narrow the filter"
STRANGE = ("", "x", "湖", "湖区", "👩‍👧 x", "*", "a*", "blank  ", "  blank", "\n", "'", "\\", "%")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('source') / 'homes.db'}"
    server: Server = request.getfixturevalue("postgres_server")
    return server.new_database()


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


@pytest.fixture(scope="module")
def filled(url: str) -> str:
    engine = engine_of(url)
    fill(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE strange (owner CHAR(4), name VARCHAR(40), born DATE)")
        for number, name in enumerate((*STRANGE, None)):
            row = {"owner": f"{number}", "name": name, "born": None if name is None else "2020-02-29"}
            connection.execute(sa.text("INSERT INTO strange VALUES (:owner, :name, :born)"), row)
        connection.exec_driver_sql("CREATE TABLE many (owner VARCHAR(9), name VARCHAR(9))")
        rows = [{"owner": f"K{number}", "name": f"{number % 3}"} for number in range(60)]
        connection.execute(sa.text("INSERT INTO many VALUES (:owner, :name)"), rows)
    engine.dispose()
    return url


def served(url: str, **settings: int) -> SqlConnector:
    schema = "main" if url.startswith("sqlite") else "public"
    strange = described("strange", owner=FIELD_TYPE_TEXT, name=FIELD_TYPE_TEXT, born=FIELD_TYPE_DATE)
    many = described("many", owner=FIELD_TYPE_TEXT, name=FIELD_TYPE_TEXT)
    more = {code: Table.holding(found, code, {}) for code, found in (("strange", strange), ("many", many))}
    return SqlConnector(url, tables(schema) | more, **settings)


@pytest.fixture(scope="module")
def lasting(filled: str) -> Iterator[SqlConnector]:
    connector = served(filled)
    yield connector
    asyncio.run(connector.close())


@given(asked=masked_questions())
def test_selects_orders_and_cuts_as_if_rows_were_masked(lasting: SqlConnector, asked: Question) -> None:
    check_masked(lasting, asked)


@given(asked=masked_questions())
def test_a_limit_keeps_the_first_rows(lasting: SqlConnector, asked: Question) -> None:
    check_same_after_cut(lasting, asked)


def ask(connector: SqlConnector, asked: Question) -> list[dict[str, Any]]:
    return list(asyncio.run(connector.answer(asked)).rows)


@pytest.mark.parametrize("rule", [{"first": 1}, {"last": 2}, {"first": 3}, {"last": 64}])
@pytest.mark.parametrize("field", ["name", "owner"])
def test_the_database_masks_every_text_as_the_protocol_says(
    lasting: SqlConnector, field: str, rule: dict[str, int]
) -> None:
    """Blanks at the end of CHAR(n) are characters too: the driver returns them, so an answer shows them."""
    mask = Mask(field=field, **rule)
    everything = ask(lasting, Question("strange", (field,), None, None, None, 100))
    assert len(everything) == len(STRANGE) + 1
    for value in {row[field] for row in everything} - {None}:
        seen = mask_value(mask, value, b"")
        asked = Question(
            "strange",
            (field,),
            None,
            compare(field, COMPARATOR_EQUAL, text=seen),
            None,
            100,
            Masking({field: mask}),
            key_shown=False,
        )
        found = ask(lasting, asked)
        assert found == [row for row in found if mask_value(mask, row[field], b"") == seen]
        assert len(found) == sum(mask_value(mask, row[field], b"") == seen for row in everything)


def test_a_year_is_compared_as_a_number(lasting: SqlConnector) -> None:
    masking = Masking({"since": Mask(field="since", year_only=YearOnly())})
    asked = question("owner", filter=compare("since", COMPARATOR_LESS, integer=2000))
    assert [row["owner"] for row in ask(lasting, replace(asked, masking=masking))] == ["A2", "C'2%s"]


def test_a_hash_is_null_where_its_value_is(lasting: SqlConnector) -> None:
    masking = Masking({"district": Mask(field="district", hash=KeyedHash())}, KEY)
    asked = replace(question("owner", filter=is_null("district")), masking=masking)
    assert [row["owner"] for row in ask(lasting, asked)] == ["A2", "C1"]


def test_neither_hashes_nor_their_key_reach_the_database(lasting: SqlConnector) -> None:
    hashed = compare("owner", COMPARATOR_EQUAL, text=keyed_hash(KEY, "A1"))
    asked = replace(question("rooms", filter=hashed), masking=HASHED_OWNER, key_shown=False)
    values: list[object] = []
    sa.event.listen(lasting.engine, "before_cursor_execute", lambda *call: values.append(call[3]))
    with captured(lasting.engine) as statements:
        assert ask(lasting, asked) == [{"rooms": 3}]
    assert statements
    assert keyed_hash(KEY, "A1") not in str(values) + str(statements)
    assert KEY.hex() not in str(values)


def test_a_masked_key_is_not_looked_up_by_its_value(lasting: SqlConnector) -> None:
    for asked in (question("rooms", keys=text("A1")), question("rooms")):
        with pytest.raises(QuestionError) as caught:
            ask(lasting, replace(asked, masking=HASHED_OWNER))
        assert caught.value.code == CODE_MALFORMED


def by_hash(limit: int, *, name: str | None = None, filter: str = "") -> Question:
    parts = [] if name is None else [compare("name", COMPARATOR_EQUAL, text=name)]
    parts += [compare("owner", COMPARATOR_EQUAL, text=keyed_hash(KEY, filter))] if filter else []
    return Question(
        "many", ("name", "owner"), None, all_of(*parts) if parts else None, None, limit, HASHED_OWNER, key_shown=False
    )


def test_more_rows_than_may_be_read_are_refused_and_never_cut_at_random(filled: str) -> None:
    """Which rows were read would depend on the order in which they lie there."""
    connector = served(filled, scan_limit=25)
    assert failure(connector, replace(by_hash(3), fields=("owner",))) == TOO_MANY
    assert failure(connector, by_hash(3, filter="K7")) == TOO_MANY
    # What other fields leave of them is few enough.
    whole = ask(connector, by_hash(20, name="1"))
    assert len(whole) == 20
    assert ask(connector, by_hash(3, name="1")) == whole[:3]
    assert [row["owner"] for row in ask(connector, by_hash(3, name="1", filter="K7"))] == ["K7"]
    asyncio.run(connector.close())


def test_rows_that_hashes_order_are_read_as_far_as_needed(filled: str) -> None:
    """Twenty rows look alike but for their hashes; those behind them cannot come before."""
    for scan_limit in (21, 60):
        connector = served(filled, scan_limit=scan_limit)
        found = asyncio.run(connector.answer(replace(by_hash(5), fields=("owner", "name"))))
        assert (len(found.rows), found.truncated) == (5, True)
        assert [row["name"] for row in found.rows] == ["0"] * 5
        hashes = [keyed_hash(KEY, str(row["owner"])) for row in found.rows]
        assert hashes == sorted(keyed_hash(KEY, f"K{number}") for number in range(0, 60, 3))[:5]
        asyncio.run(connector.close())
    connector = served(filled, scan_limit=19)
    assert failure(connector, by_hash(5)) == TOO_MANY
    asyncio.run(connector.close())


def test_a_text_with_a_null_character_has_no_masked_value(tmp_path: Path) -> None:
    """SQLite's length ends there: what is hidden behind it must not decide anything."""
    url = f"sqlite:///{tmp_path / 'null.db'}"
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE strange (owner TEXT, name TEXT, born DATE)")
        connection.execute(sa.text("INSERT INTO strange VALUES ('1', :name, NULL)"), {"name": "ab\0cd"})
    engine.dispose()
    connector = served(url)
    masking = Masking({"name": Mask(field="name", first=1)})
    for filter, count in ((is_null("name"), 1), (compare("name", COMPARATOR_EQUAL, text="a*"), 0)):
        assert len(ask(connector, Question("strange", ("owner",), None, filter, None, 9, masking))) == count
    asyncio.run(connector.close())


def test_a_mask_that_does_not_fit_gives_no_answer(lasting: SqlConnector) -> None:
    masking = Masking({"owner": Mask(field="owner", hash=KeyedHash())})
    with pytest.raises(ConnectorError, match="does not fit"):
        ask(lasting, replace(question("owner"), masking=masking, key_shown=False))
