"""Masked fields as SQL: the value that a requester sees, computed by the database, so that filters and orders read it.

What stands here says the same as `exchange.core.masking`, for every text that the database can hold. Sources: SQLite's
core functions (sqlite.org/lang_corefunc.html); PostgreSQL's string functions (section 9.4).
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from exchange.v1.terms_pb2 import Mask

Expression = sa.ColumnElement[Any]

_BINARY: Mapping[str, str] = {"postgresql": "C", "sqlite": "BINARY"}


def masked_column(column: Expression, mask: Mask, dialect: str) -> Expression | None:
    """What a mask leaves of a column, or None where the database cannot compute it.

    Args:
        column: of the type that the mask fits.
        mask: the rule.
        dialect: SQLAlchemy's name of the database, `sqlite` or `postgresql`.
    """
    match mask.WhichOneof("rule"):
        case "first":
            return _starred(column, mask.first, dialect, shown_first=True)
        case "last":
            return _starred(column, mask.last, dialect, shown_first=False)
        case "year_only" if dialect == "sqlite":
            return sa.cast(sa.func.substr(column, 1, 4), sa.Integer)
        case "year_only":
            return sa.cast(sa.extract("year", column), sa.Integer)
    return None


def by_bytes(text: Expression, dialect: str) -> Expression:
    """A text that is compared by its bytes, which is by code points where they are UTF-8; no collation has a say."""
    return sa.collate(text, _BINARY[dialect])


def _starred(column: Expression, shown: int, dialect: str, *, shown_first: bool) -> Expression:
    text = _text(column, dialect)
    length = sa.func.length(text)
    hidden = length - shown
    part = sa.func.substr(text, 1, shown) if shown_first else sa.func.substr(text, hidden + 1)
    stars = _stars(hidden, dialect)
    masked = part.op("||")(stars) if shown_first else stars.op("||")(part)
    seen = sa.case((_is_none(column, dialect), sa.null()), (length > shown, masked), else_=_stars(length, dialect))
    return by_bytes(seen, dialect)


def _text(column: Expression, dialect: str) -> Expression:
    # A cast of CHAR(n) would drop the blanks at its end, which the driver returns; concat writes it as it is returned.
    return column if dialect == "sqlite" else sa.func.concat(column)


def _is_none(column: Expression, dialect: str) -> Expression:
    """Whether the masked value is NULL: also of a text with U+0000, where SQLite's length ends."""
    if dialect != "sqlite":
        return column.is_(None)
    data = sa.cast(column, sa.LargeBinary)
    return sa.or_(column.is_(None), sa.func.instr(data, sa.literal(b"\0", sa.LargeBinary)) > 0)


def _stars(count: Expression, dialect: str) -> Expression:
    if dialect == "sqlite":
        return sa.func.replace(sa.func.hex(sa.func.zeroblob(count)), "00", "*")
    return sa.func.repeat("*", count)
