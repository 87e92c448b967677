"""Rows on their way out: a database's values made those of the described type, then JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

import orjson

from adapters.connectors import ConnectorError
from exchange.core.filters import Scalar, scalar_text
from exchange.v1.directory_pb2 import FieldType

_INTEGERS = range(-(2**63), 2**63)


def encode_rows(rows: Sequence[Mapping[str, Scalar | None]]) -> bytes:
    """Encodes rows as `Answer.rows`: a JSON array of objects (RFC 8259).

    Args:
        rows: fields in the order in which they are to stand; decimals become strings without an exponent, dates and
            times ISO 8601 strings.
    """
    return orjson.dumps(rows, default=_decimal)


def field_value(raw: object, field_type: FieldType.ValueType) -> Scalar | None:
    """Converts what a driver returned to the described type, without rounding or guessing.

    Args:
        raw: a column's value, from SQLite or PostgreSQL.
        field_type: what the directory describes.

    Raises:
        ConnectorError: the value is not of that type.
    """
    if raw is None:
        return None
    value = _CONVERSIONS[field_type](raw)
    if value is None:
        raise ConnectorError("a column holds something other than its described type")
    return value


def _decimal(value: object) -> str:
    if isinstance(value, Decimal):
        return scalar_text(value)
    raise TypeError(f"not a value of a record: {type(value).__name__}")


def _as_text(raw: object) -> str | None:
    return raw if isinstance(raw, str) else None


def _as_integer(raw: object) -> int | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        return None
    if not math.isfinite(raw) or raw != int(raw):
        return None
    return int(raw) if int(raw) in _INTEGERS else None


def _as_decimal(raw: object) -> Decimal | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal) or not math.isfinite(raw):
        return None
    # repr gives a float's shortest decimal, which is what was stored; Decimal(0.1) would give 55 digits.
    return Decimal(repr(raw)) if isinstance(raw, float) else Decimal(raw)


def _as_date(raw: object) -> date | None:
    if isinstance(raw, date):
        return None if isinstance(raw, datetime) else raw
    if not isinstance(raw, str) or len(raw) != len("YYYY-MM-DD"):
        return None
    try:
        value = date.fromisoformat(raw)
    except ValueError:
        return None
    return value if value.isoformat() == raw else None


def _as_boolean(raw: object) -> bool | None:
    if isinstance(raw, bool):
        return raw
    return bool(raw) if isinstance(raw, int) and raw in {0, 1} else None


_CONVERSIONS: Mapping[FieldType.ValueType, Callable[[object], Scalar | None]] = {
    FieldType.FIELD_TYPE_TEXT: _as_text,
    FieldType.FIELD_TYPE_INTEGER: _as_integer,
    FieldType.FIELD_TYPE_DECIMAL: _as_decimal,
    FieldType.FIELD_TYPE_DATE: _as_date,
    FieldType.FIELD_TYPE_BOOLEAN: _as_boolean,
}
