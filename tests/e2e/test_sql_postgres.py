import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.connectors import ConnectorError, QuestionError
from adapters.connectors.sql import SqlConnector
from adapters.connectors.tables import Table
from examples.city.postgres import postgres
from exchange.v1.access_pb2 import CODE_MALFORMED
from exchange.v1.directory_pb2 import FIELD_TYPE_INTEGER, FIELD_TYPE_TEXT
from exchange.v1.request_pb2 import COMPARATOR_EQUAL, COMPARATOR_GREATER, Filter
from tests.connector_contract import (
    FILTERS,
    TYPES,
    ConnectorContract,
    captured,
    check_against_reference,
    compare,
    described,
    fill,
    question,
    tables,
    text,
)

UNREACHABLE = "the database cannot be reached or refuses the connection"
STATEMENTS = (
    "CREATE VIEW slow AS SELECT 'A1'::text AS owner WHERE pg_sleep(30) IS NULL",
    "CREATE DOMAIN identity AS CHAR(18)",
    "CREATE TYPE district AS ENUM ('North', 'South')",
    """CREATE TABLE customary (owner identity PRIMARY KEY, district district, rooms SMALLINT, area DOUBLE PRECISION,
        since DATE, let BOOLEAN)""",
    """INSERT INTO customary
        SELECT 'X' || lpad(n::text, 17, '0'), 'North'::district, mod(n, 100), n / 2.0, DATE '2026-01-31', n > 7
        FROM generate_series(1, 20000) AS n""",
    "ANALYZE customary",
    """CREATE TABLE strange (owner UUID, district TEXT[], rooms TEXT, area MONEY, since TIMESTAMP, let SMALLINT)""",
    "CREATE TABLE special (owner TEXT, area NUMERIC)",
    "INSERT INTO special VALUES ('A1', 'NaN')",
    "CREATE ROLE stranger LOGIN PASSWORD 's3cret'",
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        engine = sa.create_engine(url)
        fill(engine)
        with engine.begin() as connection:
            for statement in STATEMENTS:
                connection.exec_driver_sql(statement)
        engine.dispose()
        yield url


@pytest.fixture
def new_connector(database: sa.URL) -> Callable[..., SqlConnector]:
    return lambda **settings: connect(database, **settings)


def connect(url: sa.URL, datasets: dict[str, Table] | None = None, **settings: int) -> SqlConnector:
    everything = tables("public") if datasets is None else datasets
    return SqlConnector(url.render_as_string(hide_password=False), everything, **settings)


def on_table(name: str) -> dict[str, Table]:
    return {"homes": Table.holding(described("homes", **TYPES), name, {})}


def writer(url: sa.URL) -> psycopg.Connection:
    return psycopg.connect(
        host=str(url.query["host"]),
        port=str(url.query["port"]),
        user=url.username,
        password=str(url.password),
        dbname=url.database,
        autocommit=True,
    )


class TestOnPostgreSql(ConnectorContract):
    async def test_a_locked_table_is_said_in_time(
        self, new_connector: Callable[..., SqlConnector], database: sa.URL
    ) -> None:
        connector = new_connector(statement_timeout_ms=100)
        with writer(database) as other, other.transaction():
            other.execute("LOCK TABLE homes IN ACCESS EXCLUSIVE MODE")
            assert await self.failure(connector, question()) == "the database did not answer in time"
        assert (await connector.answer(question(keys=text("A1")))).subjects == ("A1",)
        await connector.close()

    async def test_connections_that_broke_while_idle_are_replaced(
        self, connector: SqlConnector, database: sa.URL
    ) -> None:
        await asyncio.gather(*(connector.answer(question()) for _ in range(8)))
        with writer(database) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
        assert ended
        assert (await connector.answer(question(keys=text("A1")))).subjects == ("A1",)

    async def test_a_stopped_server_is_said(self, tmp_path: Path) -> None:
        with postgres(tmp_path / "server") as url:
            connector = connect(url, {"homes": Table.holding(described("homes", n=FIELD_TYPE_TEXT, owner=1), "t", {})})
            with writer(url) as other:
                other.execute("CREATE TABLE t (n TEXT, owner TEXT)")
            assert (await connector.answer(question("n"))).rows == ()
        for _ in range(2):
            assert await self.failure(connector, question("n")) == UNREACHABLE
        with pytest.raises(ConnectorError, match=UNREACHABLE):
            connector.check()
        await connector.close()

    async def test_an_account_without_rights_is_said(self, database: sa.URL) -> None:
        connector = connect(database.set(username="stranger", password="s3cret"))
        assert await self.failure(connector, question()) == "the account may not read the dataset's table"
        await connector.close()

    async def test_a_wrong_password_is_said(self, database: sa.URL) -> None:
        connector = connect(database.set(username="stranger", password="wr0ng"))
        assert await self.failure(connector, question()) == UNREACHABLE
        await connector.close()

    async def test_a_database_that_does_not_exist_is_said(self, database: sa.URL) -> None:
        connector = connect(database.set(database="nowhere"))
        assert await self.failure(connector, question()) == UNREACHABLE
        await connector.close()

    async def test_a_setting_in_the_url_does_not_make_it_writable(self, database: sa.URL) -> None:
        loose = database.update_query_dict({"options": "-c default_transaction_read_only=off -c statement_timeout=0"})
        connector = connect(loose, statement_timeout_ms=150)
        with (
            connector.engine.connect() as connection,
            pytest.raises(sa.exc.DBAPIError, match="read-only"),
        ):
            connection.execute(sa.text("DELETE FROM homes"))
        reason = await self.failure(connector, question("owner", dataset="slow"))
        assert reason == "the database did not answer in time"
        await connector.close()

    async def test_fits_domains_enumerations_and_fixed_length_text(self, database: sa.URL) -> None:
        connector = connect(database, on_table("customary"))
        assert connector.check() == ()
        key = "X00000000000000007"
        filter = compare("district", COMPARATOR_EQUAL, text="North")
        found = await connector.answer(question("rooms", "area", keys=text(key), filter=filter))
        assert found.subjects == (key,)
        assert str(found.rows[0]["area"]) == "3.5"
        await connector.close()

    async def test_keys_are_looked_up_through_the_index(self, database: sa.URL) -> None:
        connector = connect(database, on_table("customary"))
        with captured(connector.engine) as statements:
            await connector.answer(question("rooms", keys=text("X00000000000000007")))
        assert "VARCHAR" not in statements[0]
        with writer(database) as other:
            named = {"keys_1": "X00000000000000007", "row_limit": 1001}
            plan = str(other.execute("EXPLAIN " + statements[0], named).fetchall())
        assert "customary_pkey" in plan
        await connector.close()

    async def test_columns_that_cannot_be_compared_are_found(self, database: sa.URL) -> None:
        connector = connect(database, on_table("strange"))
        assert [finding.field for finding in connector.check()] == list(TYPES)
        wrong = await self.failure(connector, question("rooms", filter=compare("rooms", COMPARATOR_GREATER, integer=1)))
        assert wrong == "a column's type does not fit its described field"
        with pytest.raises(QuestionError) as caught:
            await connector.answer(question("owner", keys=text("no s3cret UUID")))
        assert caught.value.code == CODE_MALFORMED
        assert caught.value.reason == "a value does not fit the column it is compared with"
        assert caught.value.__suppress_context__
        await connector.close()

    async def test_a_number_that_is_none_is_not_handed_out(self, database: sa.URL) -> None:
        connector = connect(database, on_table("special"))
        assert await self.failure(connector, question("area")) == (
            "a column holds something other than its described type"
        )
        await connector.close()

    async def test_integers_beyond_the_columns_range_match_nothing(self, database: sa.URL) -> None:
        dataset = described("homes", key="rooms", rooms=FIELD_TYPE_INTEGER)
        connector = connect(database, {"homes": Table.holding(dataset, "customary", {})})
        filter = compare("rooms", COMPARATOR_GREATER, integer=2**63 - 1)
        assert (await connector.answer(question("rooms", filter=filter))).rows == ()
        await connector.close()


@pytest.fixture(scope="module")
def lasting_connector(database: sa.URL) -> Iterator[SqlConnector]:
    connector = connect(database)
    yield connector
    asyncio.run(connector.close())


@settings(max_examples=50)
@given(asked=FILTERS, allowed=st.none() | FILTERS)
def test_a_filter_selects_what_the_reference_selects(
    lasting_connector: SqlConnector, asked: Filter, allowed: Filter | None
) -> None:
    check_against_reference(lasting_connector, asked, allowed)
