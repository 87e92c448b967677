"""Filters as SQL conditions; every value is a bound parameter, every column comes from the configuration."""

import operator
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import NULLTYPE

from exchange.core.filters import Scalar, scalar
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Filter, Value

Condition = sa.ColumnElement[bool]

_INT64 = range(-(2**63), 2**63)
_COMPARISONS: Mapping[Comparator.ValueType, Callable[[Any, Any], Condition]] = {
    Comparator.COMPARATOR_EQUAL: operator.eq,
    Comparator.COMPARATOR_NOT_EQUAL: operator.ne,
    Comparator.COMPARATOR_LESS: operator.lt,
    Comparator.COMPARATOR_LESS_OR_EQUAL: operator.le,
    Comparator.COMPARATOR_GREATER: operator.gt,
    Comparator.COMPARATOR_GREATER_OR_EQUAL: operator.ge,
}


class Predicate:
    """Turns filters on one table into conditions, with SQL's NULL logic.

    Args:
        columns: each field's column, or the expression that stands for it.
        types: each field's type.
        dialect: SQLAlchemy's name of the database, `sqlite` or `postgresql`.
    """

    __slots__ = ("_columns", "_dialect", "_types")

    def __init__(
        self,
        columns: Mapping[str, sa.ColumnElement[Any]],
        types: Mapping[str, FieldType.ValueType],
        dialect: str,
    ) -> None:
        self._columns = columns
        self._types = types
        self._dialect = dialect

    def condition(self, filter: Filter) -> Condition:
        """Compiles a filter.

        Args:
            filter: one that `check_filter` has passed for these fields, which also bounds the recursion.
        """
        match filter.WhichOneof("node"):
            case "all_of":
                return sa.and_(*map(self.condition, filter.all_of.filters))
            case "any_of":
                return sa.or_(*map(self.condition, filter.any_of.filters))
            case "negation":
                return sa.not_(self.condition(filter.negation))
            case "comparison":
                comparison = filter.comparison
                bound = sa.bindparam(None, self.bind(comparison.field, comparison.value), type_=NULLTYPE)
                return _COMPARISONS[comparison.comparator](self._columns[comparison.field], bound)
            case "membership":
                values = self.bind_all(filter.membership.field, filter.membership.values)
                listed = sa.bindparam(None, values, expanding=True, type_=NULLTYPE)
                return self._columns[filter.membership.field].in_(listed)
            case "null_test":
                return self._columns[filter.null_test.field].is_(None)
        raise ValueError("an empty filter was not checked")

    def bind_all(self, field: str, values: Iterable[Value]) -> list[Scalar | float]:
        """Converts checked values to what the driver compares a field's column with."""
        return [self.bind(field, value) for value in values]

    def bind(self, field: str, value: Value) -> Scalar | float:
        """Converts one checked value to what the driver compares a field's column with.

        The type is the driver's to tell the database (NULLTYPE adds no cast): a cast to VARCHAR would keep PostgreSQL
        from using an index on CHAR, which many identity numbers are.
        """
        converted = scalar(value)
        if self._types[field] == FieldType.FIELD_TYPE_DECIMAL and isinstance(converted, int):
            converted = Decimal(converted)
        return _for_sqlite(converted) if self._dialect == "sqlite" else converted


def _for_sqlite(value: Scalar) -> Scalar | float:
    """SQLite holds no decimals and no dates: a number it stores as integer or double, a date as ISO text."""
    if isinstance(value, Decimal):
        return int(value) if value == int(value) and int(value) in _INT64 else float(value)
    return value.isoformat() if isinstance(value, date) else value
