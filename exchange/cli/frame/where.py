"""The text of `--where`, a condition as SQL writes it, turned into a filter.

sqlglot reads the text; what has no place in a filter is an error, never left out.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

import sqlglot
from sqlglot import errors, exp

from exchange.core.filters import TYPE_NAMES, FilterError, check_filter, scalar
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Filters, Membership, NullTest, Value

EXAMPLE = "area_m2 >= 60 AND (district = 'Lakeside' OR closed_on IS NULL)"

_INT64 = range(-(2**63), 2**63)
_CURLY = re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\uff02\uff07\u300c\u300d`\u00b4]")
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_COMPARATORS: Mapping[type[exp.Expr], Comparator.ValueType] = {
    exp.EQ: Comparator.COMPARATOR_EQUAL,
    exp.NEQ: Comparator.COMPARATOR_NOT_EQUAL,
    exp.LT: Comparator.COMPARATOR_LESS,
    exp.LTE: Comparator.COMPARATOR_LESS_OR_EQUAL,
    exp.GT: Comparator.COMPARATOR_GREATER,
    exp.GTE: Comparator.COMPARATOR_GREATER_OR_EQUAL,
}
_MIRRORED: Mapping[Comparator.ValueType, Comparator.ValueType] = {
    Comparator.COMPARATOR_LESS: Comparator.COMPARATOR_GREATER,
    Comparator.COMPARATOR_LESS_OR_EQUAL: Comparator.COMPARATOR_GREATER_OR_EQUAL,
    Comparator.COMPARATOR_GREATER: Comparator.COMPARATOR_LESS,
    Comparator.COMPARATOR_GREATER_OR_EQUAL: Comparator.COMPARATOR_LESS_OR_EQUAL,
}
_SAMPLES: Mapping[FieldType.ValueType, str] = {
    FieldType.FIELD_TYPE_TEXT: "'Lakeside'",
    FieldType.FIELD_TYPE_INTEGER: "60",
    FieldType.FIELD_TYPE_DECIMAL: "60.5",
    FieldType.FIELD_TYPE_DATE: "'2026-01-31'",
    FieldType.FIELD_TYPE_BOOLEAN: "TRUE",
}


class WhereError(ValueError):
    """The text is not a condition that a filter can hold.

    Args:
        problem: what is not understood.
        example: a text that would be understood.
    """

    def __init__(self, problem: str, example: str = EXAMPLE) -> None:
        super().__init__(f"{problem}; for example: {example}")
        self.problem = problem
        self.example = example


def parse_where(text: str, types: Mapping[str, FieldType.ValueType]) -> Filter:
    """Reads a condition: comparisons, IN, BETWEEN and IS NULL of fields with values, joined by AND, OR and NOT.

    Args:
        text: for example `area_m2 >= 60 AND district = 'Lakeside'`.
        types: the type of each field that may be filtered, by name.

    Returns:
        A filter that `check_filter` passes for these fields.

    Raises:
        WhereError: the text says something else.
    """
    if not _is_unicode(text):
        raise WhereError("the condition is not Unicode text")
    curly = _CURLY.search(re.sub(r"'[^']*'", "''", text))
    if curly:
        raise WhereError(f"put values in '…', not in {curly[0]}", "district = 'Lakeside'")
    try:
        condition = sqlglot.parse_one(text, into=exp.Condition)
        filter = _Reader(types).filter(condition)
        check_filter(filter, frozenset(types), types)
    except (errors.ParseError, errors.TokenError) as error:
        raise WhereError(_position(error)) from None
    except RecursionError:
        raise WhereError("the condition is nested too deep") from None
    except FilterError as error:
        raise WhereError(error.reason) from None
    return filter


def _position(error: errors.SqlglotError) -> str:
    details = error.errors if isinstance(error, errors.ParseError) else []
    if not details or details[0].get("col") is None:
        return "this cannot be read as a condition"
    line, column = details[0].get("line"), details[0]["col"]
    return f"this cannot be read as a condition, near line {line}, column {column}"


def _is_unicode(text: str) -> bool:
    # An argument in another encoding reaches Python as lone surrogates, which no message can hold.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_understood(node: exp.Expr | None) -> NoReturn:
    what = "nothing" if node is None else node.sql()
    raise WhereError(f"not understood: {what[:80]}")


class _Reader:
    """Reads sqlglot's tree; each method takes one kind of node, and refuses what it does not know of it."""

    def __init__(self, types: Mapping[str, FieldType.ValueType]) -> None:
        self._types = types
        self._readers: Mapping[type[exp.Expr], Callable[[exp.Expr], Filter]] = {
            exp.Paren: lambda node: self.filter(node.this),
            exp.And: lambda node: Filter(all_of=self._joined(node)),
            exp.Or: lambda node: Filter(any_of=self._joined(node)),
            exp.Not: lambda node: Filter(negation=self.filter(node.this)),
            exp.Is: self._null_test,
            exp.In: self._membership,
            exp.Between: self._between,
            **dict.fromkeys(_COMPARATORS, self._comparison),
        }

    def filter(self, node: exp.Expr | None) -> Filter:
        """Reads a condition."""
        reader = None if node is None else self._readers.get(type(node))
        if isinstance(node, exp.Column):
            raise WhereError(f"{node.sql()[:80]} is compared with nothing", f"{node.name[:80]} = TRUE")
        if node is None or reader is None:
            _not_understood(node)
        return reader(node)

    def _joined(self, node: exp.Expr) -> Filters:
        # A chain of a thousand ANDs is a tree as deep on its left, and one node of a filter.
        operands: list[exp.Expr] = []
        rest: exp.Expr = node
        while type(rest) is type(node):
            operands.append(rest.expression)
            rest = rest.this
        return Filters(filters=[self.filter(operand) for operand in (rest, *reversed(operands))])

    def _null_test(self, node: exp.Expr) -> Filter:
        if not isinstance(node.expression, exp.Null):
            raise WhereError(f"not understood: {node.sql()[:80]}", "closed_on IS NULL, or mortgaged = TRUE")
        return Filter(null_test=NullTest(field=self._field(node.this)))

    def _membership(self, node: exp.Expr) -> Filter:
        _only(node, "this", "expressions")
        field = self._field(node.this)
        values = [self._value(field, value) for value in node.expressions]
        return Filter(membership=Membership(field=field, values=values))

    def _between(self, node: exp.Expr) -> Filter:
        _only(node, "this", "low", "high")
        field = self._field(node.this)
        bounds = (("low", Comparator.COMPARATOR_GREATER_OR_EQUAL), ("high", Comparator.COMPARATOR_LESS_OR_EQUAL))
        comparisons = [_compare(field, by, self._value(field, node.args[bound])) for bound, by in bounds]
        return Filter(all_of=Filters(filters=comparisons))

    def _comparison(self, node: exp.Expr) -> Filter:
        comparator = _COMPARATORS[type(node)]
        left, right = node.this, node.expression
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            hint = f"{left.name} = '{right.name}'" if right.this.quoted else EXAMPLE
            raise WhereError("a field is compared with another field, not with a value", hint)
        if not isinstance(left, exp.Column):
            left, right, comparator = right, left, _MIRRORED.get(comparator, comparator)
        if not isinstance(left, exp.Column):
            _not_understood(node)
        field = self._field(left)
        return _compare(field, comparator, self._value(field, right))

    def _field(self, node: exp.Expr | None) -> str:
        if not isinstance(node, exp.Column):
            _not_understood(node)
        _only(node, "this")
        if node.name not in self._types:
            near = difflib.get_close_matches(node.name.lower(), self._types, n=1)
            known = near or sorted(self._types)
            raise WhereError(f"there is no field {node.name[:80]} to filter by", " or ".join(known[:8]) or "no filter")
        return node.name

    def _value(self, field: str, node: exp.Expr | None) -> Value:
        field_type = self._types[field]
        if isinstance(node, exp.Null):
            raise WhereError("nothing is equal to NULL", f"{field} IS NULL")
        value = _literal(node, field_type)
        if value is None or not _is_well_formed(value):
            sample = f"{field} = {_SAMPLES[field_type]}"
            raise WhereError(f"{field} takes a value of type {TYPE_NAMES[field_type]}", sample)
        return value


def _literal(node: exp.Expr | None, field_type: FieldType.ValueType) -> Value | None:
    """The value that a literal stands for, or None if it is no literal for this type."""
    if isinstance(node, exp.Boolean):
        return Value(boolean=node.this) if field_type == FieldType.FIELD_TYPE_BOOLEAN else None
    sign = "-" if isinstance(node, exp.Neg) else ""
    literal = node.this if isinstance(node, exp.Neg) else node
    if not isinstance(literal, exp.Literal) or (sign and literal.is_string):
        return None
    if literal.is_string:
        return _quoted(literal.this, field_type)
    return _number(sign + literal.this, field_type)


def _is_well_formed(value: Value) -> bool:
    try:
        scalar(value)
    except FilterError:
        return False
    return True


def _quoted(text: str, field_type: FieldType.ValueType) -> Value | None:
    if field_type == FieldType.FIELD_TYPE_TEXT:
        return Value(text=text)
    return Value(date=text) if field_type == FieldType.FIELD_TYPE_DATE else None


def _number(text: str, field_type: FieldType.ValueType) -> Value | None:
    if field_type == FieldType.FIELD_TYPE_DECIMAL:
        return Value(decimal=text)
    if field_type != FieldType.FIELD_TYPE_INTEGER or not _INTEGER.fullmatch(text) or int(text) not in _INT64:
        return None
    return Value(integer=int(text))


def _compare(field: str, comparator: Comparator.ValueType, value: Value) -> Filter:
    return Filter(comparison=Comparison(field=field, comparator=comparator, value=value))


def _only(node: exp.Expr, *known: str) -> None:
    """Refuses a node with parts that would be left out, such as BETWEEN's SYMMETRIC or IN's subquery."""
    if any(value for name, value in node.args.items() if name not in known):
        _not_understood(node)
