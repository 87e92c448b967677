"""Filters on hashed fields: the database selects the rows that may fit, and each of these is judged here.

A keyed hash is computed by no database, and its key is sent to none. So the database is asked, beside the rows, for the
truth of every part of the filter that it can judge, and for the values that are to be hashed; the whole is then put
together by SQL's logic of three values (ISO 9075).
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from adapters.connectors.predicate import Condition, Predicate
from exchange.core.filters import Scalar, scalar
from exchange.v1.request_pb2 import Comparator, Filter

# A field and its value as the driver returned it -> the value that the requester sees.
Seen = Callable[[str, object], Scalar | None]

_COMPARISONS: Mapping[Comparator.ValueType, Callable[[Any, Any], bool]] = {
    Comparator.COMPARATOR_EQUAL: operator.eq,
    Comparator.COMPARATOR_NOT_EQUAL: operator.ne,
    Comparator.COMPARATOR_LESS: operator.lt,
    Comparator.COMPARATOR_LESS_OR_EQUAL: operator.le,
    Comparator.COMPARATOR_GREATER: operator.gt,
    Comparator.COMPARATOR_GREATER_OR_EQUAL: operator.ge,
}


class Sieve:
    """One checked filter, divided between the database and this process.

    Args:
        filter: one that `check_filter` has passed.
        predicate: compiles what the database can judge.
        hashed: the column of each field that it cannot judge.
    """

    __slots__ = ("_filter", "_hashed", "_predicate")

    def __init__(self, filter: Filter, predicate: Predicate, hashed: Mapping[str, sa.ColumnElement[Any]]) -> None:
        self._filter = filter
        self._predicate = predicate
        self._hashed = hashed

    @property
    def is_needed(self) -> bool:
        """Whether there is anything that the database cannot judge."""
        return self._reads_hashes(self._filter)

    @property
    def condition(self) -> Condition:
        """Lets through every row that may fit."""
        return self._may_be(self._filter, wanted=True)

    @property
    def columns(self) -> list[sa.ColumnElement[Any]]:
        """What `holds` has to know of each row."""
        return list(self._columns(self._filter))

    def holds(self, values: Sequence[object], seen: Seen) -> bool:
        """Whether a row fits.

        Args:
            values: of `columns`, as the driver returned them.
            seen: masks a value.
        """
        return self._truth(self._filter, iter(values), seen) is True

    def _reads_hashes(self, filter: Filter) -> bool:
        children = _children(filter)
        if children:
            return any(map(self._reads_hashes, children))
        # A hash is NULL where its value is.
        return filter.WhichOneof("node") != "null_test" and _leaf(filter).field in self._hashed

    def _may_be(self, filter: Filter, *, wanted: bool) -> Condition:
        if not self._reads_hashes(filter):
            found = self._predicate.condition(filter)
            return found if wanted else sa.not_(found)
        match filter.WhichOneof("node"):
            case "negation":
                return self._may_be(filter.negation, wanted=not wanted)
            case "all_of" | "any_of" as node:
                parts = [self._may_be(child, wanted=wanted) for child in _children(filter)]
                return sa.and_(*parts) if (node == "all_of") == wanted else sa.or_(*parts)
        return self._hashed[_leaf(filter).field].is_not(None)

    def _columns(self, filter: Filter) -> Iterator[sa.ColumnElement[Any]]:
        if not self._reads_hashes(filter):
            yield self._predicate.condition(filter)
        elif children := _children(filter):
            for child in children:
                yield from self._columns(child)
        else:
            yield self._hashed[_leaf(filter).field]

    def _truth(self, filter: Filter, values: Iterator[object], seen: Seen) -> bool | None:
        if not self._reads_hashes(filter):
            value = next(values)
            return None if value is None else bool(value)
        match filter.WhichOneof("node"):
            case "negation":
                inner = self._truth(filter.negation, values, seen)
                return None if inner is None else not inner
            case "all_of" | "any_of" as node:
                # Every part takes its values, whatever the ones before it say.
                parts = [self._truth(child, values, seen) for child in _children(filter)]
                decisive = node == "any_of"
                return decisive if decisive in parts else None if None in parts else not decisive
        value = seen(_leaf(filter).field, next(values))
        return None if value is None else _fits(filter, value)


def _fits(filter: Filter, value: Scalar) -> bool:
    if filter.HasField("membership"):
        return any(scalar(listed) == value for listed in filter.membership.values)
    return _COMPARISONS[filter.comparison.comparator](value, scalar(filter.comparison.value))


def _children(filter: Filter) -> Sequence[Filter]:
    match filter.WhichOneof("node"):
        case "negation":
            return (filter.negation,)
        case "all_of":
            return filter.all_of.filters
        case "any_of":
            return filter.any_of.filters
    return ()


def _leaf(filter: Filter) -> Any:
    return getattr(filter, filter.WhichOneof("node") or "")
