from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest

from exchange.core.filters import (
    MAX_DEPTH,
    MAX_KEYS,
    MAX_NODES,
    MAX_VALUES,
    FilterError,
    check_filter,
    check_query,
    scalar,
    scalar_text,
)
from exchange.v1.access_pb2 import CODE_FIELD_NOT_GRANTED, CODE_MALFORMED
from exchange.v1.directory_pb2 import (
    FIELD_TYPE_BOOLEAN,
    FIELD_TYPE_DATE,
    FIELD_TYPE_DECIMAL,
    FIELD_TYPE_INTEGER,
    FIELD_TYPE_TEXT,
    FIELD_TYPE_UNSPECIFIED,
)
from exchange.v1.request_pb2 import (
    COMPARATOR_EQUAL,
    OPERATION_LOOKUP,
    OPERATION_QUERY,
    OPERATION_UNSPECIFIED,
    Comparator,
    Comparison,
    Filter,
    Filters,
    Lookup,
    Membership,
    NullTest,
    Query,
    Selection,
    Value,
)

TYPES = {
    "name": FIELD_TYPE_TEXT,
    "floor": FIELD_TYPE_INTEGER,
    "area": FIELD_TYPE_DECIMAL,
    "since": FIELD_TYPE_DATE,
    "let": FIELD_TYPE_BOOLEAN,
    "owner": FIELD_TYPE_TEXT,
    "odd": FIELD_TYPE_UNSPECIFIED,
}
FILTERABLE = frozenset({"name", "floor", "area", "since", "let", "odd", "undescribed"})
GOOD = {
    "name": Value(text="临湖区"),
    "floor": Value(integer=-(2**63)),
    "area": Value(decimal="-60.50"),
    "since": Value(date="2024-02-29"),
    "let": Value(boolean=False),
}


def compare(field: str, value: Value | None, comparator: Comparator.ValueType = COMPARATOR_EQUAL) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=comparator, value=value))


def is_in(field: str, *values: Value) -> Filter:
    return Filter(membership=Membership(field=field, values=values))


def both(*filters: Filter) -> Filter:
    return Filter(all_of=Filters(filters=filters))


def nested(levels: int) -> Filter:
    filter = compare("name", GOOD["name"])
    for _ in range(levels - 1):
        filter = Filter(negation=filter)
    return filter


def check(filter: Filter) -> None:
    check_filter(filter, FILTERABLE, TYPES)


def refusal(call: Callable[[], None]) -> FilterError:
    with pytest.raises(FilterError) as caught:
        call()
    assert str(caught.value) == caught.value.reason
    return caught.value


@pytest.mark.parametrize("field", GOOD)
def test_accepts_values_of_the_fields_type(field: str) -> None:
    check(compare(field, GOOD[field]))
    check(is_in(field, GOOD[field], GOOD[field]))
    check(Filter(null_test=NullTest(field=field)))


def test_accepts_whole_numbers_for_decimals() -> None:
    check(compare("area", Value(integer=60)))


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("other", GOOD)
def test_rejects_values_of_another_type(field: str, other: str) -> None:
    if field != other and (field, other) != ("area", "floor"):
        assert refusal(lambda: check(compare(field, GOOD[other]))).code == CODE_MALFORMED
        assert refusal(lambda: check(is_in(field, GOOD[field], GOOD[other]))).code == CODE_MALFORMED


MALFORMED = {
    "empty root": Filter(),
    "empty negation": Filter(negation=Filter()),
    "empty all_of": Filter(all_of=Filters()),
    "empty any_of": Filter(any_of=Filters()),
    "empty child": both(Filter(null_test=NullTest(field="name")), Filter()),
    "no comparator": compare("name", GOOD["name"], Comparator.ValueType(0)),
    "unknown comparator": compare("name", GOOD["name"], Comparator.ValueType(7)),
    "no value": compare("name", None),
    "empty value": compare("name", Value()),
    "empty value in list": is_in("name", GOOD["name"], Value()),
    "empty list": is_in("name"),
}


@pytest.mark.parametrize("filter", MALFORMED.values(), ids=MALFORMED)
def test_rejects_malformed(filter: Filter) -> None:
    assert refusal(lambda: check(filter)).code == CODE_MALFORMED


BAD_DECIMALS = [
    "-",
    "+1",
    "1.",
    ".1",
    "1e5",
    "1E5",
    "0x1",
    "1_0",
    "١",
    "１",
    "NaN",
    "Infinity",
    "-Infinity",
    "1.1.1",
    "1,5",
    "--1",
    "';--",
]
BAD_DECIMALS += ["", " 1", "1\n", "1" * 31, "1." + "1" * 16]


@pytest.mark.parametrize("text", BAD_DECIMALS)
def test_rejects_decimals_in_another_form(text: str) -> None:
    assert refusal(lambda: check(compare("area", Value(decimal=text)))).code == CODE_MALFORMED


@pytest.mark.parametrize("text", ["0", "-0", "007", "1" * 30, "-" + "9" * 30 + "." + "9" * 15])
def test_keeps_every_digit_of_a_decimal(text: str) -> None:
    check(compare("area", Value(decimal=text)))
    assert scalar(Value(decimal=text)) == Decimal(text)


BAD_DATES = [
    "2026-02-29",
    "2026-13-01",
    "0000-01-01",
    "20260101",
    "2026-1-1",
    "2026-W01-1",
    "٢٠٢٦-01-01",
    "+2026-01-01",
    "10000-01-01",
]
BAD_DATES += ["", "2026-01-01T00:00", "2026-01-01\n"]


@pytest.mark.parametrize("text", BAD_DATES)
def test_rejects_dates_that_are_not_in_the_calendar(text: str) -> None:
    assert refusal(lambda: check(compare("since", Value(date=text)))).code == CODE_MALFORMED


def test_rejects_nul_in_text() -> None:
    assert refusal(lambda: check(compare("name", Value(text="a\0b")))).code == CODE_MALFORMED


@pytest.mark.parametrize("field", ["owner", "undescribed", "nowhere", "odd", ""])
@pytest.mark.parametrize("make", [lambda f: compare(f, None), is_in, lambda f: Filter(null_test=NullTest(field=f))])
def test_does_not_tell_a_withheld_field_from_one_that_does_not_exist(field: str, make: Callable[[str], Filter]) -> None:
    error = refusal(lambda: check(make(field)))
    assert error.code == CODE_FIELD_NOT_GRANTED
    assert error.reason == "node 1 of the filter uses a field that it may not filter by"


def test_reason_numbers_nodes_as_they_are_written() -> None:
    filter = both(
        compare("name", GOOD["name"]), both(Filter(negation=compare("owner", None))), compare("nowhere", None)
    )
    assert refusal(lambda: check(filter)).reason.startswith("node 5 ")


def test_bounds_depth() -> None:
    check(nested(MAX_DEPTH))
    assert refusal(lambda: check(nested(MAX_DEPTH + 1))).code == CODE_MALFORMED
    assert refusal(lambda: check(nested(90))).code == CODE_MALFORMED


def test_bounds_nodes() -> None:
    leaf = Filter(null_test=NullTest(field="name"))
    check(both(*[leaf] * (MAX_NODES - 1)))
    assert refusal(lambda: check(both(*[leaf] * MAX_NODES))).code == CODE_MALFORMED
    assert refusal(lambda: check(both(*[both(*[leaf] * 15)] * 16))).code == CODE_MALFORMED


def test_bounds_values_over_the_whole_tree() -> None:
    most = is_in("name", *[GOOD["name"]] * (MAX_VALUES - 1))
    check(both(most, compare("name", GOOD["name"])))
    assert refusal(lambda: check(both(most, is_in("name", *[GOOD["name"]] * 2)))).code == CODE_MALFORMED
    assert refusal(lambda: check(both(compare("name", GOOD["name"]), most, compare("name", GOOD["name"])))).code


def lookup(*keys: Value) -> Query:
    return Query(format=1, lookup=Lookup(keys=keys))


def select(filter: Filter | None = None) -> Query:
    return Query(format=1, selection=Selection(filter=filter))


def test_accepts_queries_that_fit_their_operation() -> None:
    check_query(lookup(*[Value(text="x")] * MAX_KEYS), OPERATION_LOOKUP, FIELD_TYPE_TEXT, FILTERABLE, TYPES)
    check_query(lookup(Value(integer=1)), OPERATION_LOOKUP, FIELD_TYPE_INTEGER, FILTERABLE, TYPES)
    check_query(select(), OPERATION_QUERY, FIELD_TYPE_TEXT, frozenset(), {})
    check_query(select(compare("area", GOOD["area"])), OPERATION_QUERY, FIELD_TYPE_TEXT, FILTERABLE, TYPES)


BAD_QUERIES = {
    "format 0": (Query(lookup=Lookup(keys=[Value(text="x")])), OPERATION_LOOKUP),
    "format 2": (Query(format=2, lookup=Lookup(keys=[Value(text="x")])), OPERATION_LOOKUP),
    "no question": (Query(format=1), OPERATION_LOOKUP),
    "no operation": (Query(format=1), OPERATION_UNSPECIFIED),
    "lookup for QUERY": (lookup(Value(text="x")), OPERATION_QUERY),
    "selection for LOOKUP": (select(), OPERATION_LOOKUP),
    "unknown operation": (select(), 7),
    "no keys": (lookup(), OPERATION_LOOKUP),
    "too many keys": (lookup(*[Value(text="x")] * (MAX_KEYS + 1)), OPERATION_LOOKUP),
    "empty key": (lookup(Value(text="x"), Value()), OPERATION_LOOKUP),
    "key of another type": (lookup(Value(integer=1)), OPERATION_LOOKUP),
    "NUL in key": (lookup(Value(text="\0")), OPERATION_LOOKUP),
    "empty filter": (select(Filter()), OPERATION_QUERY),
}


@pytest.mark.parametrize(("query", "operation"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_rejects_malformed_queries(query: Query, operation: int) -> None:
    error = refusal(lambda: check_query(query, operation, FIELD_TYPE_TEXT, FILTERABLE, TYPES))
    assert error.code == CODE_MALFORMED


def test_query_may_filter_by_filterable_fields_only() -> None:
    query = select(compare("owner", Value(text="x")))
    error = refusal(lambda: check_query(query, OPERATION_QUERY, FIELD_TYPE_TEXT, FILTERABLE, TYPES))
    assert error.code == CODE_FIELD_NOT_GRANTED


@pytest.mark.parametrize("value", [Value(text="s3cret"), Value(decimal="s3cret"), Value(date="s3cret")])
def test_reasons_hold_no_value_and_no_field(value: Value) -> None:
    for field in ("floor", "s3cret", "area", "since"):
        for filter in (compare(field, value), is_in(field, value)):
            error = refusal(lambda filter=filter: check(filter))
            assert "s3cret" not in error.reason
            assert field not in error.reason


@pytest.mark.parametrize(
    ("value", "python", "text"),
    [
        (Value(text="x y"), "x y", "x y"),
        (Value(integer=-5), -5, "-5"),
        (Value(decimal="0.000000000000001"), Decimal("1E-15"), "0.000000000000001"),
        (Value(date="2026-01-31"), date(2026, 1, 31), "2026-01-31"),
        (Value(boolean=True), True, "true"),
        (Value(boolean=False), False, "false"),
    ],
)
def test_scalars_and_their_text(value: Value, python: object, text: str) -> None:
    assert scalar(value) == python
    assert type(scalar(value)) is type(python)
    assert scalar_text(scalar(value)) == text
