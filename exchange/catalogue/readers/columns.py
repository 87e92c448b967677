"""Columns of a table, whatever file it is in: a header, and rows to look at the values of."""

from collections.abc import Sequence

from exchange.catalogue.fields import FieldProfile
from exchange.catalogue.patterns import recognise, value_type
from exchange.catalogue.readers.source import IDENTIFIER, distinct

SAMPLES = 200
"""Rows that are looked at; no value of them is kept."""
_TITLE_ROWS = 10


def read_columns(rows: Sequence[Sequence[str]], prefix: str = "") -> tuple[FieldProfile, ...]:
    """The fields of a table.

    Args:
        rows: texts, the first ones with the header among them; blank cells are empty.
        prefix: put before each path.
    """
    start = _header(rows)
    if start is None:
        return ()
    seen: dict[str, int] = {}
    fields = []
    for column, cell in enumerate(rows[start]):
        samples = [row[column] for row in rows[start + 1 : start + 1 + SAMPLES] if column < len(row)]
        name = " ".join(cell.split())
        if not name and not any(samples):
            continue
        path = prefix + distinct(name or f"column {column + 1}", seen)
        fields.append(_field(path, name, samples))
    return tuple(fields)


def _header(rows: Sequence[Sequence[str]]) -> int | None:
    """The first row with more than one cell, for a title often stands above it; else the first that is not blank."""
    filled = [sum(1 for cell in row if cell.strip()) for row in rows[:_TITLE_ROWS]]
    several = next((number for number, count in enumerate(filled) if count > 1), None)
    return several if several is not None else next((number for number, count in enumerate(filled) if count), None)


def _field(path: str, name: str, samples: Sequence[str]) -> FieldProfile:
    coded = IDENTIFIER.fullmatch(name) is not None
    return FieldProfile(
        path=path,
        name=name if coded else "",
        label="" if coded else name,
        type=value_type(samples),
        patterns=recognise(samples),
    )
