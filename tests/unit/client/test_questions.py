from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from exchange.client.errors import UsageError
from exchange.client.questions import Key, lookup_query, selection_query, to_value
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Value

TEXT, INTEGER, DECIMAL, DATE, BOOLEAN = (
    FieldType.FIELD_TYPE_TEXT,
    FieldType.FIELD_TYPE_INTEGER,
    FieldType.FIELD_TYPE_DECIMAL,
    FieldType.FIELD_TYPE_DATE,
    FieldType.FIELD_TYPE_BOOLEAN,
)


@pytest.mark.parametrize(
    ("key", "type_", "value"),
    [
        ("王芳", TEXT, Value(text="王芳")),
        ("12", TEXT, Value(text="12")),
        (-5, INTEGER, Value(integer=-5)),
        ("-5", INTEGER, Value(integer=-5)),
        (5, DECIMAL, Value(integer=5)),
        (Decimal("1E+2"), DECIMAL, Value(decimal="100")),
        ("58.40", DECIMAL, Value(decimal="58.40")),
        (date(2027, 1, 15), DATE, Value(date="2027-01-15")),
        ("2027-01-15", DATE, Value(date="2027-01-15")),
        (True, BOOLEAN, Value(boolean=True)),
        ("false", BOOLEAN, Value(boolean=False)),
        (Value(text="as it is"), INTEGER, Value(text="as it is")),
    ],
)
def test_a_key_is_read_as_the_key_fields_type(key: Key, type_: FieldType.ValueType, value: Value) -> None:
    assert to_value(key, type_) == value
    assert lookup_query([key], type_).lookup.keys == [value]


@pytest.mark.parametrize(
    ("key", "type_"),
    [
        ("five", INTEGER),
        ("٥", INTEGER),
        ("1" * 30, INTEGER),
        (1 << 63, INTEGER),
        ("yes", BOOLEAN),
        (Decimal("NaN"), DECIMAL),
        (datetime(2027, 1, 15, tzinfo=UTC), DATE),
        (1.5, DECIMAL),
        (None, TEXT),
    ],
)
def test_what_cannot_be_read_is_a_usage_error_that_does_not_repeat_it(key: Key, type_: FieldType.ValueType) -> None:
    with pytest.raises(UsageError) as caught:
        to_value(key, type_)
    assert str(key) not in str(caught.value)


@pytest.mark.parametrize("limit", [-1, 1 << 32])
def test_a_limit_out_of_range_is_a_usage_error(limit: int) -> None:
    with pytest.raises(UsageError):
        selection_query(None, limit)
