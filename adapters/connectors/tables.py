"""How a described dataset lies in a department's table or view."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from adapters.connectors import ConnectorError
from exchange.core.filters import TYPE_NAMES
from exchange.v1.directory_pb2 import FieldType


class Description(Protocol):
    """What a connector needs of a published dataset, as `DatasetTerms` holds it."""

    @property
    def code(self) -> str:
        """The dataset's code."""
        ...

    @property
    def key(self) -> str:
        """The field that LOOKUP goes by."""
        ...

    @property
    def types(self) -> Mapping[str, FieldType.ValueType]:
        """Each field's type, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """The table or view that holds one dataset.

    Args:
        dataset: the dataset's code.
        name: `TABLE` or `SCHEMA.TABLE`, as the database spells it.
        key: the field that LOOKUP goes by.
        types: every described field's type, by field.
        columns: every described field's column, by field.
    """

    dataset: str
    name: str
    key: str
    types: Mapping[str, FieldType.ValueType]
    columns: Mapping[str, str]

    @classmethod
    def holding(cls, dataset: Description, name: str, columns: Mapping[str, str]) -> "Table":
        """Joins what the directory describes with what the configuration says about it.

        Args:
            dataset: as published.
            name: `TABLE` or `SCHEMA.TABLE`.
            columns: columns by field, for those named differently.

        Raises:
            ConnectorError: a column is configured for a field that is not described, or the description lacks its
                key or has a type of field that is unknown here.
        """
        types = dict(dataset.types)
        if unknown := sorted(set(columns) - set(types)):
            raise ConnectorError(f"{dataset.code} does not describe the field {unknown[0]} of its columns")
        if dataset.key not in types:
            raise ConnectorError(f"{dataset.code} does not describe its own key")
        if not set(types.values()) <= set(TYPE_NAMES):
            raise ConnectorError(f"{dataset.code} has a field of a type that is unknown to this version")
        return cls(dataset.code, name, dataset.key, types, {field: columns.get(field, field) for field in types})

    @property
    def schema_and_name(self) -> tuple[str | None, str]:
        """The schema, if one is configured, and the table's own name."""
        schema, _, name = self.name.rpartition(".")
        return schema or None, name
