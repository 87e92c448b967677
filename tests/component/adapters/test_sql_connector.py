import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from adapters.connectors import ConnectorError, Finding, Question
from adapters.connectors.rows import encode_rows, field_value
from adapters.connectors.sql import SqlConnector
from adapters.connectors.tables import Table
from exchange.v1.directory_pb2 import (
    FIELD_TYPE_BOOLEAN,
    FIELD_TYPE_DATE,
    FIELD_TYPE_DECIMAL,
    FIELD_TYPE_INTEGER,
    FIELD_TYPE_TEXT,
    FieldType,
)
from exchange.v1.request_pb2 import Filter
from tests.connector_contract import (
    FILTERS,
    TYPES,
    ConnectorContract,
    check_against_reference,
    described,
    fill,
    question,
    tables,
    text,
)

SLOW_VIEW = """CREATE VIEW slow AS
    WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 1000000000000)
    SELECT CAST(n AS TEXT) AS owner FROM counted WHERE n < 0"""
# Computed columns have no type, and so no affinity that would convert what they are compared with.
COMPUTED_VIEW = """CREATE VIEW computed AS
    SELECT 'A' || 1 AS owner, 'N' || 'orth' AS district, 2 + 1 AS rooms, 60 + 0.5 AS area,
        date('2020-02-28', '+1 day') AS since, 1 = 1 AS let"""
CUSTOMARY_TABLE = """CREATE TABLE customary
    (owner TEXT, district CHAR(20), rooms INT, area REAL, since TEXT, let INTEGER)"""
STRANGE_TABLE = """CREATE TABLE strange
    (owner TEXT, district BLOB, rooms TEXT, area TEXT, since DATETIME, let TEXT)"""
BADLY_KEPT_ROW = "INSERT INTO strange VALUES ('A1', X'00', '3', '60.5', '2020-02-29 00:00:00', 'yes')"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # What would end or change the path of a URI filename.
    path = tmp_path_factory.mktemp("source") / "homes #1 100%41 a?b.db"
    fill_database(path)
    return path


def fill_database(path: Path) -> None:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)))
    fill(engine)
    with engine.begin() as connection:
        for statement in (SLOW_VIEW, COMPUTED_VIEW, CUSTOMARY_TABLE, STRANGE_TABLE, BADLY_KEPT_ROW):
            connection.exec_driver_sql(statement)
    engine.dispose()


def connect(path: Path, datasets: dict[str, Table] | None = None, **settings: int) -> SqlConnector:
    url = sa.URL.create("sqlite", database=str(path)).render_as_string()
    return SqlConnector(url, tables("main") if datasets is None else datasets, **settings)


def on_table(name: str) -> dict[str, Table]:
    return {"homes": Table.holding(described("homes", **TYPES), name, {})}


@pytest.fixture
def new_connector(database: Path) -> Callable[..., SqlConnector]:
    return lambda **settings: connect(database, **settings)


class TestOnSqlite(ConnectorContract):
    pass


async def reason(connector: SqlConnector, asked: Question) -> str:
    return await TestOnSqlite().failure(connector, asked)


@pytest.fixture(scope="module")
def lasting_connector(database: Path) -> Iterator[SqlConnector]:
    connector = connect(database)
    yield connector
    asyncio.run(connector.close())


@given(asked=FILTERS, allowed=st.none() | FILTERS)
def test_a_filter_selects_what_the_reference_selects(
    lasting_connector: SqlConnector, asked: Filter, allowed: Filter | None
) -> None:
    check_against_reference(lasting_connector, asked, allowed)


def test_a_missing_file_is_said_and_not_made(tmp_path: Path) -> None:
    connector = connect(tmp_path / "homes.db")
    assert asyncio.run(reason(connector, question())) == "the database file is missing or cannot be opened"
    with pytest.raises(ConnectorError, match="the database file is missing or cannot be opened"):
        connector.check()
    asyncio.run(connector.close())
    assert not list(tmp_path.iterdir())


async def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "homes.db").write_bytes(b"no database " * 1000)
    connector = connect(tmp_path / "homes.db")
    assert await reason(connector, question()) == "the database file is damaged or is not a database"
    await connector.close()


async def test_a_locked_database_is_said_in_time(tmp_path: Path) -> None:
    fill_database(tmp_path / "homes.db")
    connector = connect(tmp_path / "homes.db", statement_timeout_ms=50)
    writer = sqlite3.connect(tmp_path / "homes.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert await reason(connector, question()) == "the database is locked by another program"
    writer.execute("ROLLBACK")
    writer.close()
    assert (await connector.answer(question(keys=text("A1")))).subjects == ("A1",)
    await connector.close()


async def test_reads_what_another_program_writes_ahead(tmp_path: Path) -> None:
    fill_database(tmp_path / "homes.db")
    writer = sqlite3.connect(tmp_path / "homes.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE homes SET rooms = 99")
    connector = connect(tmp_path / "homes.db", statement_timeout_ms=50)
    assert (await connector.answer(question("rooms", keys=text("A1")))).rows == ({"rooms": 3},)
    writer.execute("COMMIT")
    assert (await connector.answer(question("rooms", keys=text("A1")))).rows == ({"rooms": 99},)
    writer.close()
    await connector.close()


async def test_a_database_that_hangs_is_not_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = connect(database, connections=1)
    monkeypatch.setattr(connector, "_patience", 0.05)
    wakes = threading.Event()
    fetch = connector._fetch
    monkeypatch.setattr(connector, "_fetch", lambda *asked: (wakes.wait(), fetch(*asked))[1])
    waiting = [asyncio.create_task(reason(connector, question())) for _ in range(3)]
    assert await asyncio.gather(*waiting) == ["the database did not answer in time"] * 3
    wakes.set()
    await connector.close()


async def test_compares_computed_columns_by_value(database: Path) -> None:
    connector = connect(database, on_table("computed"))
    assert connector.check() == ()
    found = await connector.answer(question())
    same = {"owner": "A1", "district": "North", "rooms": 3, "area": Decimal("60.5"), "since": date(2020, 2, 29)}
    assert found.rows == ({**same, "let": True},)
    for field, value in {"rooms": "integer: 3", "area": "decimal: '60.50'", "since": "date: '2020-02-29'"}.items():
        for comparator, selected in (("EQUAL", 1), ("LESS_OR_EQUAL", 1), ("LESS", 0), ("GREATER", 0)):
            filter = text_format.Parse(
                f"comparison {{ field: '{field}' comparator: COMPARATOR_{comparator} value {{ {value} }} }}", Filter()
            )
            assert len((await connector.answer(question(filter=filter))).rows) == selected, (field, comparator)
    await connector.close()


async def test_check_accepts_the_types_that_are_customary(database: Path) -> None:
    connector = connect(database, on_table("customary"))
    assert connector.check() == ()
    await connector.close()


async def test_columns_that_cannot_be_compared_are_found(database: Path) -> None:
    connector = connect(database, on_table("strange"))
    assert [finding.field for finding in connector.check()] == ["district", "rooms", "area", "since", "let"]
    for field in ("district", "rooms", "area", "since", "let"):
        assert await reason(connector, question(field)) == "a column holds something other than its described type"
    await connector.close()


async def test_text_that_is_not_unicode_is_said(tmp_path: Path) -> None:
    fill_database(tmp_path / "homes.db")
    writer = sqlite3.connect(tmp_path / "homes.db")
    writer.execute("UPDATE homes SET secret = NULL, 'order' = CAST(X'C3' AS TEXT)".replace("'order'", '"order"'))
    writer.commit()
    writer.close()
    connector = connect(tmp_path / "homes.db")
    assert await reason(connector, question("district")) == "the database holds text that is not UTF-8"
    await connector.close()


@pytest.mark.parametrize("url", ["sqlite://", "mysql://u:s3cret@h/d", "oracle+oracledb://u:s3cret@h/d"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ConnectorError) as caught:
        SqlConnector(url, {})
    assert "s3cret" not in str(caught.value)


VALUES: list[tuple[object, FieldType.ValueType, object]] = [
    ("x", FIELD_TYPE_TEXT, "x"),
    (b"x", FIELD_TYPE_TEXT, None),
    (1, FIELD_TYPE_TEXT, None),
    (7, FIELD_TYPE_INTEGER, 7),
    (7.0, FIELD_TYPE_INTEGER, 7),
    (Decimal("7.00"), FIELD_TYPE_INTEGER, 7),
    (7.5, FIELD_TYPE_INTEGER, None),
    (2**63, FIELD_TYPE_INTEGER, None),
    (float("inf"), FIELD_TYPE_INTEGER, None),
    (Decimal("NaN"), FIELD_TYPE_INTEGER, None),
    (True, FIELD_TYPE_INTEGER, None),
    ("7", FIELD_TYPE_INTEGER, None),
    (0.1, FIELD_TYPE_DECIMAL, Decimal("0.1")),
    (7, FIELD_TYPE_DECIMAL, Decimal(7)),
    (Decimal("7.10"), FIELD_TYPE_DECIMAL, Decimal("7.10")),
    (float("nan"), FIELD_TYPE_DECIMAL, None),
    (Decimal("Infinity"), FIELD_TYPE_DECIMAL, None),
    ("7.1", FIELD_TYPE_DECIMAL, None),
    (date(2026, 1, 31), FIELD_TYPE_DATE, date(2026, 1, 31)),
    ("2026-01-31", FIELD_TYPE_DATE, date(2026, 1, 31)),
    ("2026-W05-6", FIELD_TYPE_DATE, None),
    ("2026-02-30", FIELD_TYPE_DATE, None),
    ("2026-01-31 00:00:00", FIELD_TYPE_DATE, None),
    (datetime(2026, 1, 31), FIELD_TYPE_DATE, None),  # noqa: DTZ001
    (20260131, FIELD_TYPE_DATE, None),
    (1, FIELD_TYPE_BOOLEAN, True),
    (False, FIELD_TYPE_BOOLEAN, False),
    (2, FIELD_TYPE_BOOLEAN, None),
    ("true", FIELD_TYPE_BOOLEAN, None),
]


@pytest.mark.parametrize(("raw", "kind", "value"), VALUES)
def test_values_are_of_the_described_type_or_refused(raw: object, kind: FieldType.ValueType, value: object) -> None:
    assert field_value(None, kind) is None
    if value is None:
        with pytest.raises(ConnectorError):
            field_value(raw, kind)
    else:
        assert field_value(raw, kind) == value
        assert type(field_value(raw, kind)) is type(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1E+3", "1000"),
        ("1E-12", "0.000000000001"),
        ("60.50", "60.50"),
        ("-0.00", "-0.00"),
        ("123456789012345678901234567890.123456789012345", "123456789012345678901234567890.123456789012345"),
    ],
)
def test_decimals_are_written_without_an_exponent(value: str, written: str) -> None:
    assert encode_rows([{"area": Decimal(value)}]) == f'[{{"area":"{written}"}}]'.encode()


def test_rows_are_written_as_plain_json() -> None:
    row = {"b": True, "a": None, "名": "“\n", "n": -(2**63), "d": date(2026, 1, 31)}
    assert encode_rows([row, {}]).decode() == (
        '[{"b":true,"a":null,"名":"“\\n","n":-9223372036854775808,"d":"2026-01-31"},{}]'
    )
    with pytest.raises(TypeError):
        encode_rows([{"x": object()}])  # type: ignore[dict-item]


def test_a_finding_names_its_place() -> None:
    assert str(Finding("homes", None, "gone")) == "homes: gone"
    assert str(Finding("homes", "area", "gone")) == "homes.area: gone"


def test_a_table_needs_a_sound_description() -> None:
    sound = described("homes", owner=FIELD_TYPE_TEXT)
    assert Table.holding(sound, "s.homes", {}).schema_and_name == ("s", "homes")
    assert Table.holding(sound, "homes", {"owner": "o"}).columns == {"owner": "o"}
    with pytest.raises(ConnectorError, match="homes does not describe the field aera"):
        Table.holding(sound, "homes", {"aera": "area"})
    with pytest.raises(ConnectorError, match="does not describe its own key"):
        Table.holding(described("homes", key="id", owner=FIELD_TYPE_TEXT), "homes", {})
    with pytest.raises(ConnectorError, match="of a type that is unknown"):
        Table.holding(described("homes", owner=FieldType.ValueType(9)), "homes", {})


def test_a_question_asks_each_field_once_and_for_a_row_at_least() -> None:
    with pytest.raises(ValueError, match="limit"):
        question(limit=0)
    with pytest.raises(ValueError, match="twice"):
        question("owner", "owner")
