"""Whether the tables of a source are there and fit what the directory describes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import NullType, TypeEngine

from adapters.connectors import Finding
from adapters.connectors.tables import Table
from exchange.core.filters import TYPE_NAMES
from exchange.v1.directory_pb2 import FieldType

# SQLite has no dates and no booleans of its own: they are text and integers by custom.
_FITTING: Mapping[str, Mapping[FieldType.ValueType, tuple[type[TypeEngine[Any]], ...]]] = {
    "postgresql": {
        FieldType.FIELD_TYPE_TEXT: (sa.String,),
        FieldType.FIELD_TYPE_INTEGER: (sa.Integer,),
        FieldType.FIELD_TYPE_DECIMAL: (sa.Numeric, sa.Float, sa.Integer),
        FieldType.FIELD_TYPE_DATE: (sa.Date,),
        FieldType.FIELD_TYPE_BOOLEAN: (sa.Boolean,),
    },
    "sqlite": {
        FieldType.FIELD_TYPE_TEXT: (sa.String,),
        FieldType.FIELD_TYPE_INTEGER: (sa.Integer,),
        FieldType.FIELD_TYPE_DECIMAL: (sa.Numeric, sa.Float, sa.Integer),
        FieldType.FIELD_TYPE_DATE: (sa.Date, sa.String),
        FieldType.FIELD_TYPE_BOOLEAN: (sa.Boolean, sa.Integer),
    },
}


def findings(engine: sa.Engine, tables: Iterable[Table]) -> Iterator[Finding]:
    """Compares tables and views with the descriptions they serve, over one connection.

    Raises:
        SQLAlchemyError: the database failed.
    """
    with engine.connect() as connection:
        for table in tables:
            yield from _table_findings(sa.inspect(connection), engine.dialect.name, table)


def _table_findings(inspector: sa.Inspector, dialect: str, table: Table) -> Iterator[Finding]:
    schema, name = table.schema_and_name
    try:
        present = {column["name"]: column["type"] for column in inspector.get_columns(name, schema)}
    except exc.NoSuchTableError:
        yield Finding(table.dataset, None, f"there is no table or view {table.name}")
        return
    for field, column in table.columns.items():
        if column not in present:
            yield Finding(table.dataset, field, f"{table.name} has no column {column}")
        elif not _fits(present[column], dialect, table.types[field]):
            described = TYPE_NAMES[table.types[field]]
            problem = f"column {column} of {table.name} is {present[column]!r}, which does not serve as {described}"
            yield Finding(table.dataset, field, problem)


def _fits(present: TypeEngine[Any], dialect: str, described: FieldType.ValueType) -> bool:
    # The computed columns of a SQLite view have no type; their values are checked as they are read.
    if dialect == "sqlite" and isinstance(present, NullType):
        return True
    if isinstance(present, DOMAIN):
        return _fits(present.data_type, dialect, described)
    whole = isinstance(present, sa.Numeric) and present.scale == 0
    if described == FieldType.FIELD_TYPE_INTEGER and whole:
        return True
    return isinstance(present, _FITTING[dialect][described])
