"""A search of the access log by its index columns, as SQL: every value is bound."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Result, or_, select

from exchange.store.ports import SUMMARY, AccessQuery, Log
from exchange.store.schema import ENTRIES

_E = ENTRIES.c


def search_access(
    connection: Connection, query: AccessQuery, within: range, max_count: int
) -> Result[tuple[int, bytes, bytes]]:
    """The entries that fit, by index.

    Args:
        connection: to read from.
        query: the conditions.
        within: the indexes that are looked at.
        max_count: the most rows.
    """
    found = select(_E.idx, _E.leaf, _E.body).where(
        _E.log == Log.ACCESS.value, _E.idx >= within.start, _E.idx < within.stop, *_conditions(query)
    )
    return connection.execute(found.order_by(_E.idx).limit(max_count))


def _conditions(query: AccessQuery) -> list[ColumnElement[bool]]:
    exact: tuple[tuple[Column[Any], object], ...] = (
        (_E.kind, query.kind),
        (_E.request_id, query.request_id),
    )
    conditions: list[ColumnElement[bool]] = [column == value for column, value in exact if value is not None]
    if query.code is not None:
        # A summary counts several codes: only its leaf says whether this one is among them.
        conditions.append(or_(_E.code == query.code, _E.kind == SUMMARY))
    conditions += [_E.time >= query.since] if query.since is not None else []
    conditions += [_E.time <= query.until] if query.until is not None else []
    parties: tuple[tuple[Column[Any], str | None], ...] = (
        (_E.requester, query.requester),
        (_E.provider, query.provider),
    )
    return conditions + [_covered(column, party) for column, party in parties if party is not None]


def _covered(column: Column[Any], party: str) -> ColumnElement[bool]:
    """The party itself or one below it: every name under "x" lies between "x/" and "x0", for "0" follows "/"."""
    below = (column > f"{party}/") & (column < f"{party}0")
    return or_(column == party, below)
