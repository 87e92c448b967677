"""What every SQL connector keeps, whatever its database: the tests, a table to ask, and a reference in plain Python.

The table has hostile identifiers, and NULL in every column but the key.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy import event, exc

from adapters.connectors import ConnectorError, Question, QuestionError, Rows
from adapters.connectors.rows import encode_rows
from adapters.connectors.sql import SqlConnector
from adapters.connectors.tables import Table
from exchange.core.filters import FilterError, Scalar, check_filter, scalar
from exchange.v1.access_pb2 import CODE_FIELD_NOT_GRANTED, CODE_MALFORMED
from exchange.v1.directory_pb2 import (
    FIELD_TYPE_BOOLEAN,
    FIELD_TYPE_DATE,
    FIELD_TYPE_DECIMAL,
    FIELD_TYPE_INTEGER,
    FIELD_TYPE_TEXT,
    FieldType,
)
from exchange.v1.request_pb2 import (
    COMPARATOR_EQUAL,
    COMPARATOR_GREATER_OR_EQUAL,
    COMPARATOR_NOT_EQUAL,
    Comparator,
    Comparison,
    Filter,
    Filters,
    Membership,
    NullTest,
    Value,
)

TYPES = {
    "owner": FIELD_TYPE_TEXT,
    "district": FIELD_TYPE_TEXT,
    "rooms": FIELD_TYPE_INTEGER,
    "area": FIELD_TYPE_DECIMAL,
    "since": FIELD_TYPE_DATE,
    "let": FIELD_TYPE_BOOLEAN,
}
COLUMNS = {"owner": 'Owner\'s "ID"', "area": "area m² 100%", "district": "order"}
FILTERABLE = frozenset(TYPES)
INJECTION = "x' OR 'x'='x'; DROP TABLE homes; --"

RECORDS: tuple[dict[str, Scalar | None], ...] = tuple(
    dict(zip(TYPES, values, strict=True))
    for values in (
        ("A1", "湖区", 3, Decimal("60.50"), date(2020, 2, 29), True),
        ("A2", "North", 0, Decimal(120), date(1999, 12, 31), False),
        ("A2", None, -1, Decimal("-0.1"), None, None),
        ("B1", INJECTION, None, None, date(2020, 2, 29), False),
        ("B2", "", 3, Decimal("60.5"), date(2026, 1, 1), None),
        ("B3", "north", 2**63 - 1, Decimal("123456789.25"), None, True),
        ("C1", None, None, None, None, None),
        ("C'2%s", '"North"', -(2**63), Decimal(0), date(1, 1, 1), True),
        (INJECTION, "North", 3, Decimal("60.51"), date(9999, 12, 31), False),
    )
)

metadata = sa.MetaData()
homes = sa.Table(
    "homes",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column(COLUMNS["owner"], sa.String(60), nullable=False),
    sa.Column(COLUMNS["district"], sa.String(60)),
    sa.Column("rooms", sa.BigInteger),
    sa.Column(COLUMNS["area"], sa.Numeric(14, 2, asdecimal=False)),
    sa.Column("since", sa.Date),
    sa.Column("let", sa.Boolean),
    sa.Column("secret", sa.String(60), default="not described"),
)
people = sa.Table("people", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("born", sa.String(10)))


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset as published."""

    code: str
    key: str
    types: Mapping[str, FieldType.ValueType]


def described(code: str, key: str = "owner", **types: FieldType.ValueType) -> Described:
    return Described(code, key, types)


def tables(schema: str) -> dict[str, Table]:
    """A good dataset, and ones whose table, column or type is not as described; `slow` never ends."""
    everything = described("homes", **TYPES)
    owner = {"owner": FIELD_TYPE_TEXT}
    people_types = {"id": FIELD_TYPE_TEXT, "born": FIELD_TYPE_DECIMAL}
    found = [
        Table.holding(everything, f"{schema}.homes", COLUMNS),
        Table.holding(described("no-table", **owner), f"{schema}.castles", {}),
        Table.holding(
            described("no-column", **owner, roof=FIELD_TYPE_TEXT), f"{schema}.homes", {"owner": COLUMNS["owner"]}
        ),
        Table.holding(described("misfit", key="id", **people_types), f"{schema}.people", {}),
        Table.holding(described("slow", **owner), "slow", {}),
    ]
    return {table.dataset: table for table in found}


def fill(engine: sa.Engine) -> None:
    metadata.create_all(engine)
    rows = [{COLUMNS.get(field, field): _plain(value) for field, value in record.items()} for record in RECORDS]
    with engine.begin() as connection:
        connection.execute(sa.insert(homes), rows)
        connection.execute(sa.insert(people), [{"id": 7, "born": "long ago"}])


def _plain(value: Scalar | None) -> object:
    return float(value) if isinstance(value, Decimal) else value


@contextmanager
def captured(engine: sa.Engine) -> Iterator[list[str]]:
    """The text of every statement that reaches the driver meanwhile."""
    statements: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", keep)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", keep)


def text(*values: str) -> tuple[Value, ...]:
    return tuple(Value(text=value) for value in values)


def compare(field: str, comparator: Comparator.ValueType, **value: object) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=comparator, value=Value(**value)))


def is_in(field: str, *values: Value) -> Filter:
    return Filter(membership=Membership(field=field, values=values))


def is_null(field: str) -> Filter:
    return Filter(null_test=NullTest(field=field))


def negation(filter: Filter) -> Filter:
    return Filter(negation=filter)


def all_of(*filters: Filter) -> Filter:
    return Filter(all_of=Filters(filters=filters))


def any_of(*filters: Filter) -> Filter:
    return Filter(any_of=Filters(filters=filters))


def question(
    *fields: str,
    dataset: str = "homes",
    keys: tuple[Value, ...] | None = None,
    filter: Filter | None = None,
    row_filter: Filter | None = None,
    limit: int = 1000,
) -> Question:
    return Question(dataset, fields or tuple(TYPES), keys, filter, row_filter, limit)


# --- the reference: SQL's logic of three values, as ISO 9075 has it ---------------------------------------

_COMPARE: dict[int, Callable[[object, object], bool]] = {
    1: lambda a, b: a == b,
    2: lambda a, b: a != b,
    3: lambda a, b: a < b,
    4: lambda a, b: a <= b,
    5: lambda a, b: a > b,
    6: lambda a, b: a >= b,
}


def holds(filter: Filter, record: dict[str, Scalar | None]) -> bool | None:
    """Whether the filter holds for a record: yes, no or unknown."""
    match filter.WhichOneof("node"):
        case "all_of":
            found = [holds(child, record) for child in filter.all_of.filters]
            return False if False in found else None if None in found else True
        case "any_of":
            found = [holds(child, record) for child in filter.any_of.filters]
            return True if True in found else None if None in found else False
        case "negation":
            inner = holds(filter.negation, record)
            return None if inner is None else not inner
        case "comparison":
            stored = record[filter.comparison.field]
            compared = _COMPARE[filter.comparison.comparator]
            return None if stored is None else compared(stored, scalar(filter.comparison.value))
        case "membership":
            stored = record[filter.membership.field]
            return None if stored is None else stored in [scalar(value) for value in filter.membership.values]
        case "null_test":
            return record[filter.null_test.field] is None
    raise AssertionError("an empty filter")


def ordered(records: Sequence[dict[str, Scalar | None]]) -> list[tuple[str, ...]]:
    """Records to compare, whatever their order and however many zeros end a decimal."""
    return sorted(tuple(map(_canonical, record.values())) for record in records)


def _canonical(value: Scalar | None) -> str:
    return repr(value.normalize() if isinstance(value, Decimal) else value)


# --- random filters: values near those stored, and now and then one that must be refused -------------------

_DISTRICTS = st.sampled_from(["North", "north", "", "湖区", INJECTION, '"North"', "%s", ":p", "\\"]) | st.text(
    max_size=5
)
_VALUES: dict[str, st.SearchStrategy[Value]] = {
    "owner": st.builds(Value, text=st.sampled_from(["A1", "A2", "B", INJECTION, "C'2%s"])),
    "district": st.builds(Value, text=_DISTRICTS),
    "rooms": st.builds(Value, integer=st.sampled_from([-(2**63), -1, 0, 2, 3, 2**31, 2**63 - 1])),
    "area": st.builds(Value, decimal=st.sampled_from(["60.5", "60.50", "-0.1", "0", "-0", "120.0", "123456789.25"]))
    | st.builds(Value, integer=st.sampled_from([0, 120, -1, 2**63 - 1])),
    "since": st.builds(Value, date=st.sampled_from(["2020-02-29", "0001-01-01", "9999-12-31", "2025-02-29"])),
    "let": st.builds(Value, boolean=st.booleans()),
}  # fmt: skip


def leaves(field: str, values: st.SearchStrategy[Value] | None = None) -> st.SearchStrategy[Filter]:
    """Comparisons, memberships and null tests of a field; by default with values near those stored."""
    values = _VALUES[field] if values is None else values
    comparison = st.builds(
        Comparison, field=st.just(field), comparator=st.sampled_from([1, 2, 3, 4, 5, 6]), value=values
    )
    membership = st.builds(Membership, field=st.just(field), values=st.lists(values, min_size=1, max_size=3))
    return st.one_of(
        st.builds(Filter, comparison=comparison),
        st.builds(Filter, membership=membership),
        st.builds(Filter, null_test=st.just(NullTest(field=field))),
    )


_SOUND = st.one_of(*(leaves(field) for field in _VALUES))
_UNSOUND = st.sampled_from(
    [
        Filter(),
        is_null("secret"),
        is_in("owner"),
        compare("owner", COMPARATOR_EQUAL),
        compare("owner", COMPARATOR_EQUAL, integer=1),
        compare("since", COMPARATOR_EQUAL, text="2026-01-01"),
        compare("rooms", COMPARATOR_EQUAL, decimal="1"),
        compare("let", Comparator.ValueType(9), boolean=True),
    ]
)
_LEAVES = st.integers(0, 20).flatmap(lambda drawn: _UNSOUND if drawn == 20 else _SOUND)


def branches(children: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """Trees over other trees."""
    several = st.builds(Filters, filters=st.lists(children, min_size=1, max_size=3))
    return st.one_of(
        st.builds(Filter, all_of=several),
        st.builds(Filter, any_of=several),
        st.builds(Filter, negation=children),
    )


FILTERS = st.recursive(_LEAVES, branches, max_leaves=8)


def check_against_reference(connector: SqlConnector, asked: Filter, allowed: Filter | None) -> None:
    """A filter is refused, or selects what the reference selects, and its text values reach no statement's text."""
    try:
        for filter in (asked, allowed):
            if filter is not None:
                check_filter(filter, FILTERABLE, TYPES)
    except FilterError:
        with pytest.raises(QuestionError):
            asyncio.run(connector.answer(question(filter=asked, row_filter=allowed)))
        return
    with captured(connector.engine) as statements:
        found = asyncio.run(connector.answer(question(filter=asked, row_filter=allowed)))
    wanted = [r for r in RECORDS if holds(asked, r) is True and (allowed is None or holds(allowed, r) is True)]
    assert ordered(found.rows) == ordered(wanted)
    assert statements
    assert not any("DROP" in statement or "湖区" in statement for statement in statements)


class ConnectorContract:
    """Inherit it beside a fixture `new_connector`, which opens a filled database that has a view `slow`."""

    @pytest.fixture
    async def connector(self, new_connector: Callable[..., SqlConnector]) -> AsyncIterator[SqlConnector]:
        connector = new_connector()
        yield connector
        await connector.close()

    async def failure(self, connector: SqlConnector, asked: Question) -> str:
        """The reason of the ConnectorError that a question ends in; it says nothing that came from the driver."""
        with pytest.raises(ConnectorError) as caught:
            await connector.answer(asked)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        assert not re.search(r"sqlite3|psycopg|sqlalche|SELECT|FROM|homes|castles|roof|/", caught.value.reason)
        return caught.value.reason

    async def test_returns_exactly_the_fields_asked_for_in_their_order(self, connector: SqlConnector) -> None:
        found = await connector.answer(question("let", "area", "owner", keys=text("A1")))
        assert found == Rows(({"let": True, "area": found.rows[0]["area"], "owner": "A1"},), ("A1",), truncated=False)
        assert list(found.rows[0]) == ["let", "area", "owner"]
        assert found.rows[0]["area"] == Decimal("60.5")

    async def test_names_subjects_whether_or_not_the_key_is_asked_for(self, connector: SqlConnector) -> None:
        found = await connector.answer(question("rooms", keys=text("A2", "B1", "nobody", "A2")))
        assert found.subjects == ("A2", "A2", "B1")
        assert found.rows == ({"rooms": -1}, {"rooms": 0}, {"rooms": None})

    async def test_returns_values_of_the_described_types(self, connector: SqlConnector) -> None:
        found = await connector.answer(question())
        assert ordered(found.rows) == ordered(RECORDS)
        for row in found.rows:
            assert [type(value) for value in row.values() if value is not None] == [
                kind
                for value, kind in zip(row.values(), (str, str, int, Decimal, date, bool), strict=True)
                if value is not None
            ]

    async def test_encodes_rows_as_json(self, connector: SqlConnector) -> None:
        found = await connector.answer(question("owner", "area", "since", "let", "rooms", keys=text("B3", "C1", "A2")))
        encoded = encode_rows(found.rows).decode()
        assert '{"owner":"B3","area":"123456789.25","since":null,"let":true,"rooms":9223372036854775807}' in encoded
        assert '"since":"1999-12-31","let":false,"rooms":0}' in encoded
        assert '{"owner":"C1","area":null,"since":null,"let":null,"rooms":null}]' in encoded

    async def test_null_is_neither_equal_nor_unequal(self, connector: SqlConnector) -> None:
        async def owners(filter: Filter) -> int:
            return len((await connector.answer(question("owner", filter=filter))).rows)

        north = compare("district", COMPARATOR_EQUAL, text="North")
        assert await owners(north) == 2
        assert await owners(negation(north)) == 5
        assert await owners(compare("district", COMPARATOR_NOT_EQUAL, text="North")) == 5
        assert await owners(negation(is_in("district", *text("North")))) == 5
        assert await owners(is_null("district")) == 2
        assert await owners(any_of(north, negation(north), is_null("district"))) == len(RECORDS)
        assert await owners(all_of(north, is_null("district"))) == 0

    async def test_the_row_filter_holds_for_lookups_and_queries(self, connector: SqlConnector) -> None:
        allowed = compare("area", COMPARATOR_GREATER_OR_EQUAL, decimal="60.5")
        by_key = await connector.answer(question("owner", keys=text("A1", "A2", "C1"), row_filter=allowed))
        assert by_key.subjects == ("A1", "A2")
        everything = await connector.answer(question("owner", row_filter=allowed))
        assert len(everything.rows) == 5
        narrower = await connector.answer(
            question("owner", filter=compare("let", COMPARATOR_EQUAL, boolean=True), row_filter=allowed)
        )
        assert narrower.subjects == ("A1", "B3")

    async def test_row_filters_of_one_shape_are_not_mixed_up(self, connector: SqlConnector) -> None:
        for owner in ("A1", "B1", "A1", "C1"):
            allowed = compare("owner", COMPARATOR_EQUAL, text=owner)
            found = await connector.answer(question("rooms", keys=text("A1", "B1", "C1"), row_filter=allowed))
            assert found.subjects == (owner,)

    async def test_says_when_the_limit_cut_rows_off(self, connector: SqlConnector) -> None:
        whole = await connector.answer(question("owner", "district", limit=len(RECORDS)))
        assert not whole.truncated
        assert list(whole.subjects) == sorted(whole.subjects)
        for limit in (1, 2, len(RECORDS) - 1):
            cut = await connector.answer(question("owner", "district", limit=limit))
            assert cut == Rows(whole.rows[:limit], whole.subjects[:limit], truncated=True)
        assert (await connector.answer(question("owner", keys=text("A2"), limit=1))).truncated

    async def test_no_value_reaches_a_statements_text(self, connector: SqlConnector) -> None:
        hostile = [
            "zq71'; DROP TABLE homes; --",
            'zq71" OR 1=1',
            "zq71%s %(x)s",
            "zq71:x ?1 $1",
            "zq71\\'",
            "zq71)) --",
        ]
        filters = [compare("district", COMPARATOR_EQUAL, text=value) for value in hostile]
        filters += [
            is_in("owner", *text(*hostile)),
            compare("rooms", COMPARATOR_NOT_EQUAL, integer=7171717171),
            compare("area", COMPARATOR_NOT_EQUAL, decimal="-7171717171.71"),
            compare("since", COMPARATOR_NOT_EQUAL, date="7171-07-17"),
        ]
        with captured(connector.engine) as statements:
            for filter in (any_of(*filters), negation(any_of(*filters))):
                for keys in (None, text(*hostile, "A1")):
                    await connector.answer(question(keys=keys, filter=filter, row_filter=filter, limit=717171))
        assert len(statements) >= 4
        for statement in statements:
            assert "zq71" not in statement
            assert "7171" not in statement
            assert "'" not in statement.replace("Owner's", ""), "a literal"

    async def test_finds_hostile_values_that_are_really_stored(self, connector: SqlConnector) -> None:
        by_key = await connector.answer(question("owner", keys=text(INJECTION, "C'2%s")))
        assert set(by_key.subjects) == {INJECTION, "C'2%s"}
        filter = compare("district", COMPARATOR_EQUAL, text=INJECTION)
        assert (await connector.answer(question("owner", filter=filter))).subjects == ("B1",)

    async def test_asks_a_thousand_keys_at_once(self, connector: SqlConnector) -> None:
        keys = text(*(f"K{number}" for number in range(999)), "A1")
        assert (await connector.answer(question("owner", keys=keys))).subjects == ("A1",)

    async def test_takes_the_largest_filters(self, connector: SqlConnector) -> None:
        wide = any_of(*[compare("owner", COMPARATOR_EQUAL, text="A1")] * 255)
        deep = wide.any_of.filters[0]
        for _ in range(14):
            deep = negation(deep)
        many = is_in("owner", *text(*(f"K{number}" for number in range(999)), "A1"))
        for filter in (wide, any_of(deep), many):
            found = await connector.answer(question("owner", keys=text("A1"), filter=filter, row_filter=wide))
            assert found.subjects == ("A1",)

    async def test_a_malformed_filter_reaches_no_statement(self, connector: SqlConnector) -> None:
        for broken in (Filter(), compare("rooms", COMPARATOR_EQUAL, text="x"), all_of(is_null("owner"), Filter())):
            for asked in (question(filter=broken), question(row_filter=broken), question(keys=(), row_filter=broken)):
                with captured(connector.engine) as statements, pytest.raises(QuestionError) as caught:
                    await connector.answer(asked)
                assert caught.value.code == CODE_MALFORMED
                assert not statements

    async def test_refuses_fields_that_are_not_described(self, connector: SqlConnector) -> None:
        for asked in (question("secret"), question(filter=is_null("secret")), question(row_filter=is_null("number"))):
            with pytest.raises(QuestionError) as caught:
                await connector.answer(asked)
            assert caught.value.code == CODE_FIELD_NOT_GRANTED

    async def test_writing_is_refused(self, connector: SqlConnector) -> None:
        statements = [
            sa.insert(homes).values({COLUMNS["owner"]: "mallory"}),
            sa.update(homes).values(rooms=1),
            sa.delete(homes),
            sa.text("CREATE TABLE mine (x INTEGER)"),
            sa.text("CREATE TEMPORARY TABLE mine (x INTEGER)"),
        ]
        # PostgreSQL lets a read-only transaction have temporary tables: they are nobody else's.
        for statement in statements if connector.engine.dialect.name == "sqlite" else statements[:-1]:
            with (
                connector.engine.connect() as connection,
                pytest.raises(exc.DBAPIError, match=r"readonly|read-only"),
            ):
                connection.execute(statement)
        assert len((await connector.answer(question())).rows) == len(RECORDS)

    async def test_a_slow_statement_is_given_up_and_blocks_nobody(
        self, new_connector: Callable[..., SqlConnector]
    ) -> None:
        connector = new_connector(statement_timeout_ms=200)
        await connector.answer(question())
        began = time.monotonic()
        slow = asyncio.create_task(self.failure(connector, question("owner", dataset="slow")))
        while not slow.done() and time.monotonic() - began < 0.1:
            await connector.answer(question("owner", keys=text("A1")))
        assert not slow.done()
        assert await slow == "the database did not answer in time"
        assert 0.2 <= time.monotonic() - began < 2
        assert (await connector.answer(question("owner", keys=text("A1")))).subjects == ("A1",)
        await connector.close()

    async def test_answers_many_at_once(self, connector: SqlConnector) -> None:
        owners = [record["owner"] for record in RECORDS] * 20
        answers = await asyncio.gather(
            *(connector.answer(question("owner", keys=text(str(owner)))) for owner in owners)
        )
        assert [answer.subjects[0] for answer in answers] == owners

    async def test_a_missing_table_or_column_is_said(self, connector: SqlConnector) -> None:
        missing = "the dataset's table or a column of it is missing from the database"
        assert await self.failure(connector, question("owner", dataset="no-table")) == missing
        assert await self.failure(connector, question("roof", dataset="no-column")) == missing
        assert await self.failure(connector, question("owner", dataset="none")) == (
            "the dataset is not served from this source"
        )

    async def test_a_value_of_another_type_is_not_handed_out(self, connector: SqlConnector) -> None:
        reason = "a column holds something other than its described type"
        with pytest.raises(ConnectorError, match=reason):
            await connector.answer(question("born", dataset="misfit"))

    def test_check_finds_what_does_not_fit(self, connector: SqlConnector) -> None:
        found = {(finding.dataset, finding.field): str(finding) for finding in connector.check()}
        assert set(found) == {("no-table", None), ("no-column", "roof"), ("misfit", "id"), ("misfit", "born")}
        assert found["no-table", None].startswith("no-table: there is no table or view ")
        assert found["no-column", "roof"].endswith(".homes has no column roof")
        assert "does not serve as decimal" in found["misfit", "born"]

    async def test_after_closing_it_answers_no_more(self, new_connector: Callable[..., SqlConnector]) -> None:
        connector = new_connector()
        await connector.answer(question())
        await connector.close()
        await connector.close()
        assert await self.failure(connector, question()) == "the connection to the database is closed"
