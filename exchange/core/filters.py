"""Queries and their filters: what a sealed question may say, checked before any of it reaches a database.

A refusal travels in the clear and the query does not, so a reason here never contains a value or a field's name.
It gives a node's number instead: nodes count from 1 in the order in which they are written, parents first.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal

from exchange.core.errors import CoreError
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Filter, Operation, Query, Value

FORMAT = 1
MAX_DEPTH = 16
MAX_NODES = 256
MAX_VALUES = 1000
MAX_KEYS = 1000

Scalar = str | int | Decimal | date | bool
"""A value of a field, as Python has it."""

TYPE_NAMES: Mapping[FieldType.ValueType, str] = {
    FieldType.FIELD_TYPE_TEXT: "text",
    FieldType.FIELD_TYPE_INTEGER: "integer",
    FieldType.FIELD_TYPE_DECIMAL: "decimal",
    FieldType.FIELD_TYPE_DATE: "date",
    FieldType.FIELD_TYPE_BOOLEAN: "boolean",
}
"""The types a field can have, in words for people; a type that is not here is refused."""

_KINDS: Mapping[FieldType.ValueType, tuple[str, ...]] = {
    FieldType.FIELD_TYPE_TEXT: ("text",),
    FieldType.FIELD_TYPE_INTEGER: ("integer",),
    FieldType.FIELD_TYPE_DECIMAL: ("decimal", "integer"),
    FieldType.FIELD_TYPE_DATE: ("date",),
    FieldType.FIELD_TYPE_BOOLEAN: ("boolean",),
}
_QUESTIONS: Mapping[Operation.ValueType, str] = {
    Operation.OPERATION_LOOKUP: "lookup",
    Operation.OPERATION_QUERY: "selection",
}
_COMPARATORS = frozenset(Comparator.values()) - {Comparator.COMPARATOR_UNSPECIFIED}

# Explicit ASCII classes with fullmatch: \d and `$` would let in other scripts' digits and a final newline.
_DECIMAL = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,15})?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class FilterError(CoreError):
    """A query or filter that is not well formed, or that names a field it may not name.

    Args:
        code: what the refusal says, CODE_MALFORMED or CODE_FIELD_NOT_GRANTED.
        reason: for people; no value and no field's name.
    """

    def __init__(self, code: Code.ValueType, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def check_query(
    query: Query,
    operation: Operation.ValueType,
    key_type: FieldType.ValueType,
    filterable: frozenset[str],
    types: Mapping[str, FieldType.ValueType],
) -> None:
    """Checks an opened query against its request's operation and the fields that may be filtered (DESIGN section 6).

    Args:
        query: as decoded from the sealed body.
        operation: the one in the request's header.
        key_type: the type of the dataset's key field.
        filterable: names of the fields that a filter may use.
        types: each described field's type, by name.

    Raises:
        FilterError: the query is malformed, or filters by a field that is not granted.
    """
    if query.format != FORMAT:
        raise _malformed("the query's format is not 1")
    question = query.WhichOneof("question")
    if question is None or _QUESTIONS.get(operation) != question:
        raise _malformed("the query does not fit the operation")
    if question == "lookup":
        _check_keys(query.lookup.keys, key_type)
    elif query.selection.HasField("filter"):
        check_filter(query.selection.filter, filterable, types)


def check_filter(filter: Filter, filterable: frozenset[str], types: Mapping[str, FieldType.ValueType]) -> None:
    """Checks a whole filter tree: its shape, size, fields and the type of every value (DESIGN section 6).

    Args:
        filter: the root of the tree: 16 levels, 256 nodes, 1,000 values at most.
        filterable: names of the fields it may use.
        types: each described field's type, by name.

    Raises:
        FilterError: CODE_FIELD_NOT_GRANTED for a field outside `filterable` or `types`, which are not told apart;
            CODE_MALFORMED for everything else.
    """
    # A stack, so that no tree can exhaust Python's; pending nodes count, so that no wide one can fill memory.
    pending = [(filter, 1)]
    nodes = values = 0
    while pending:
        node, depth = pending.pop()
        nodes += 1
        children = _children(node, nodes)
        if children and depth == MAX_DEPTH:
            raise _malformed(f"the filter is more than {MAX_DEPTH} levels deep")
        if nodes + len(pending) + len(children) > MAX_NODES:
            raise _malformed(f"the filter has more than {MAX_NODES} nodes")
        pending.extend((child, depth + 1) for child in reversed(children))
        if not children:
            values += _check_leaf(node, nodes, MAX_VALUES - values, filterable, types)


def scalar(value: Value) -> Scalar:
    """Converts a checked value to what Python has for it: str, int, Decimal, date or bool.

    Raises:
        FilterError: the value is unset, or its decimal or date text is not in the one accepted form.
    """
    match value.WhichOneof("kind"):
        case "text" if "\0" not in value.text:
            return value.text
        case "integer":
            return value.integer
        case "decimal" if _DECIMAL.fullmatch(value.decimal):
            return Decimal(value.decimal)
        case "date" if _DATE.fullmatch(value.date):
            return _calendar_date(value.date)
        case "boolean":
            return value.boolean
    raise _malformed("a value is unset or not in its one accepted form")


def scalar_text(value: Scalar) -> str:
    """Writes a value as subjects are recorded: ISO dates, decimals without exponent, `true` and `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _children(node: Filter, number: int) -> Sequence[Filter]:
    kind = node.WhichOneof("node")
    if kind is None:
        raise _malformed(f"node {number} of the filter is empty")
    if kind == "negation":
        return (node.negation,)
    if kind not in {"all_of", "any_of"}:
        return ()
    filters = (node.all_of if kind == "all_of" else node.any_of).filters
    if not filters:
        raise _malformed(f"node {number} of the filter combines nothing")
    return filters


def _check_leaf(
    node: Filter,
    number: int,
    room: int,
    filterable: frozenset[str],
    types: Mapping[str, FieldType.ValueType],
) -> int:
    """Checks a comparison, membership or null test, and returns how many values it holds."""
    leaf = getattr(node, node.WhichOneof("node") or "")
    field_type = types.get(leaf.field) if leaf.field in filterable else None
    if field_type is None or field_type not in TYPE_NAMES:
        raise FilterError(
            Code.CODE_FIELD_NOT_GRANTED, f"node {number} of the filter uses a field that it may not filter by"
        )
    if node.HasField("null_test"):
        return 0
    if node.HasField("comparison") and leaf.comparator not in _COMPARATORS:
        raise _malformed(f"node {number} of the filter has an unknown comparator")
    values = (leaf.value,) if node.HasField("comparison") else leaf.values
    if not values:
        raise _malformed(f"node {number} of the filter lists no value")
    if len(values) > room:
        raise _malformed(f"the filter has more than {MAX_VALUES} values")
    for value in values:
        _check_value(value, field_type, f"node {number} of the filter")
    return len(values)


def _check_keys(keys: Sequence[Value], key_type: FieldType.ValueType) -> None:
    if not 1 <= len(keys) <= MAX_KEYS:
        raise _malformed(f"a lookup asks for 1 to {MAX_KEYS} keys")
    for number, key in enumerate(keys, start=1):
        _check_value(key, key_type, f"key {number}")


def _check_value(value: Value, field_type: FieldType.ValueType, where: str) -> None:
    if value.WhichOneof("kind") not in _KINDS.get(field_type, ()):
        raise _malformed(f"{where} has no value of its field's type")
    try:
        scalar(value)
    except FilterError:
        raise _malformed(f"{where} has a value that is not in its one accepted form") from None


def _calendar_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _malformed("a date is not in the calendar") from None


def _malformed(reason: str) -> FilterError:
    return FilterError(Code.CODE_MALFORMED, reason)
