"""What is asked, as a `Query`: keys and filters out of Python's values, in their one accepted form."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from exchange.client.datasets import shown_types
from exchange.client.errors import UsageError
from exchange.core.filters import FilterError, check_query, scalar_text
from exchange.core.masking import check_keys
from exchange.core.terms import AgreementTerms, DatasetTerms
from exchange.core.wire import FORMAT
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Filter, Lookup, Operation, Query, Selection, Value

Key = str | int | date | Decimal | bool | Value
"""A key of a lookup; text is read as the key field's type."""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


def lookup_query(keys: Sequence[Key], key_type: FieldType.ValueType) -> Query:
    """The rows of these subjects.

    Args:
        keys: 1 to 1,000.
        key_type: the type of the dataset's key field.

    Raises:
        UsageError: a key cannot be read as that type.
    """
    return Query(format=FORMAT, lookup=Lookup(keys=[to_value(key, key_type) for key in keys]))


def selection_query(filter: Filter | None, limit: int = 0) -> Query:
    """The rows that a filter selects, all of them without one.

    Args:
        filter: a typed tree.
        limit: the largest number of rows; 0 is the provider's own limit.

    Raises:
        UsageError: the limit is out of range.
    """
    if not 0 <= limit < 1 << 32:
        raise UsageError(f"the limit {limit} is out of range")
    return Query(format=FORMAT, selection=Selection(filter=filter, limit=limit))


def operation_of(query: Query) -> Operation.ValueType:
    """The operation that a query belongs to.

    Raises:
        UsageError: the query asks nothing.
    """
    match query.WhichOneof("question"):
        case "lookup":
            return Operation.OPERATION_LOOKUP
        case "selection":
            return Operation.OPERATION_QUERY
    raise UsageError("the query asks nothing")


def check_question(query: Query, dataset: DatasetTerms, agreement: AgreementTerms) -> None:
    """Check a query against the dataset as the agreement shows it; what that grants is for the provider to say.

    Raises:
        UsageError: it is malformed, names a field that the dataset does not have, or asks for keys that cannot be
            found: too many of them, or others than the agreement shows.
    """
    types = shown_types(agreement, dataset)
    try:
        check_query(query, operation_of(query), types[dataset.key], frozenset(types), types)
        check_keys(query.lookup.keys, agreement.masks.get(dataset.key), agreement.limits.rows)
    except FilterError as error:
        raise UsageError(error.reason) from error


def to_value(key: Key, type_: FieldType.ValueType) -> Value:
    """A key as it goes on the wire.

    Raises:
        UsageError: it cannot be read as a value of this type; the text does not repeat it.
    """
    if isinstance(key, Value):
        return key
    if isinstance(key, str) and type_ != FieldType.FIELD_TYPE_TEXT:
        return _parsed(key, type_)
    match key:
        case bool():
            return Value(boolean=key)
        case int() if -(1 << 63) <= key < 1 << 63:
            return Value(integer=key)
        case Decimal() if key.is_finite():
            return Value(decimal=scalar_text(key))
        case date() if not isinstance(key, datetime):
            return Value(date=key.isoformat())
        case str():
            return Value(text=key)
    raise UsageError("a key is not a text, an integer, a decimal, a date or a truth value")


def _parsed(text: str, type_: FieldType.ValueType) -> Value:
    if type_ == FieldType.FIELD_TYPE_INTEGER and _INTEGER.fullmatch(text):
        return Value(integer=int(text))
    if type_ == FieldType.FIELD_TYPE_BOOLEAN and text in _BOOLEANS:
        return Value(boolean=_BOOLEANS[text])
    # The one accepted form of both is checked with the whole query.
    if type_ == FieldType.FIELD_TYPE_DECIMAL:
        return Value(decimal=text)
    if type_ == FieldType.FIELD_TYPE_DATE:
        return Value(date=text)
    name = FieldType.Name(type_).removeprefix("FIELD_TYPE_").lower()
    raise UsageError(f"a key is not of the key field's type, {name}")
