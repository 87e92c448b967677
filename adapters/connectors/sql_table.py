"""One dataset's table as an agreement shows it: questions as statements, rows as answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import NULLTYPE

from adapters.connectors import ConnectorError, Question, QuestionError, Rows
from adapters.connectors.masked import by_bytes, masked_column
from adapters.connectors.predicate import Condition, Predicate
from adapters.connectors.rows import field_value
from adapters.connectors.sifting import Sieve
from adapters.connectors.tables import Table
from exchange.core.filters import FilterError, Scalar, check_filter, scalar_text
from exchange.core.masking import MaskError, Masking
from exchange.core.restrictions import masked_types
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType
from exchange.v1.request_pb2 import Filter
from exchange.v1.terms_pb2 import Mask

SCAN_LIMIT = 50_000

_SHAPES = 512
_VIEWS = 128
_TOO_MANY = "too many rows would have to be read to filter or order by hashes: narrow the filter"
# Values of these types can be equal to the database and be written differently: by collation, or with other zeros.
_AMBIGUOUS = frozenset({FieldType.FIELD_TYPE_TEXT, FieldType.FIELD_TYPE_DECIMAL})

Expression = sa.ColumnElement[Any]
# Masks that can be looked up: fields with their serialised masks, by name.
MaskKey = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class View:
    """The columns of a table behind the masks of an agreement.

    Args:
        columns: what filters and orders read of each field; of a hashed one whether it is NULL, and nothing else.
        hashed: the columns that the database cannot mask, by field.
        predicate: over `columns`.
        types: of the fields as they are masked.
    """

    columns: Mapping[str, Expression]
    hashed: Mapping[str, Expression]
    predicate: Predicate
    types: Mapping[str, "FieldType.ValueType"]


@dataclass(frozen=True, slots=True)
class Selected:
    """One question as a statement.

    Args:
        statement: takes the parameter `row_limit`.
        parameters: all others.
        sizes: how many rows to read; where the first number does not settle the answer, the next one.
        sieve: the part of the filter that is judged here, or None.
    """

    statement: sa.Select[Any]
    parameters: Mapping[str, Any]
    sizes: Sequence[int]
    sieve: Sieve | None


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it stands: its subject, its fields, and what orders it, without hashes and by them."""

    subject: str
    row: dict[str, Scalar | None]
    visible: tuple[str | None, ...]
    hashes: tuple[str, ...]


class SqlTable:
    """Questions about one dataset.

    Args:
        table: where it lies.
        dialect: SQLAlchemy's name of the database, `sqlite` or `postgresql`.
        scan_limit: the most rows to read for an answer that depends on hashes.
    """

    def __init__(self, table: Table, dialect: str, scan_limit: int) -> None:
        self.table = table
        self._dialect = dialect
        self._scan_limit = scan_limit
        schema, name = table.schema_and_name
        columns: list[sa.ColumnClause[Any]] = [sa.column(column) for column in dict.fromkeys(table.columns.values())]
        self._source = sa.table(name, *columns, schema=schema)
        self._columns = {field: self._source.c[column] for field, column in table.columns.items()}
        self._predicate = Predicate(self._columns, table.types, dialect)
        # Building a statement costs more than running one; the same shapes come again and again.
        self._view = lru_cache(_VIEWS)(self._build_view)
        self._shape = lru_cache(_SHAPES)(self._build_shape)

    def select(self, question: Question) -> Selected:
        """The statement for a question, and its parameters.

        Raises:
            QuestionError: it asks for a field that is not described, or a filter is malformed.
        """
        if not set(question.fields) <= self._columns.keys():
            raise QuestionError(Code.CODE_FIELD_NOT_GRANTED, "the dataset has no such field")
        try:
            return self._select(question)
        except FilterError as error:
            raise QuestionError(error.code, error.reason) from None

    def _select(self, question: Question) -> Selected:
        masks = _mask_key(question.masking)
        key_masked = self.table.key in question.masking.masks
        if key_masked and (question.keys is not None or question.key_shown):
            raise FilterError(Code.CODE_MALFORMED, "a masked key is found by its masked values alone")
        row_filter = None if question.row_filter is None else question.row_filter.SerializeToString(deterministic=True)
        by_key = question.keys is not None
        statement = self._shape(question.fields, masks, row_filter, by_key, question.key_shown)
        parameters: dict[str, Any] = {}
        if question.keys is not None:
            parameters["keys"] = self._predicate.bind_all(self.table.key, question.keys)
        sieve = None
        if question.filter is not None:
            view = self._view(masks)
            check_filter(question.filter, frozenset(self._columns), view.types)
            sieve = Sieve(question.filter, view.predicate, view.hashed)
            statement = statement.where(sieve.condition)
            if sieve.is_needed:
                statement = statement.add_columns(*sieve.columns)
            else:
                sieve = None
        return Selected(statement, parameters, self._sizes(question, sieve), sieve)

    def _sizes(self, question: Question, sieve: Sieve | None) -> Sequence[int]:
        most = max(self._scan_limit, 2 * question.limit + 1) + 1
        if sieve is not None:
            return (most,)
        if question.masking.hashed.intersection(question.fields):
            return tuple(sorted({2 * question.limit + 2, most}))
        # One more than the limit tells whether the limit cut anything off.
        return (question.limit + 1,)

    def rows(self, question: Question, selected: Selected, found: Sequence[tuple[Any, ...]], size: int) -> Rows | None:
        """What the driver returned, as an answer; None where more rows have to be read to know it.

        Args:
            found: the key first in each row, then the fields, then what the sieve has to know; at most `size`.

        Raises:
            ConnectorError: a value is not of its described type.
        """
        if selected.sizes == (question.limit + 1,):
            return _answer([self._record(question, row) for row in found[: question.limit]], len(found), question.limit)
        records = [self._record(question, row) for row in found if self._fits(question, selected.sieve, row)]
        runs = [list(run) for _, run in groupby(records, key=lambda record: record.visible)]
        is_cut = len(found) == size
        # The last run may go on beyond what was read.
        if is_cut and runs and runs[-1][0].visible == self._record(question, found[-1]).visible:
            runs.pop()
        settled = [record for run in runs for record in sorted(run, key=lambda record: record.hashes)]
        if is_cut and len(settled) <= question.limit:
            return None
        return _answer(settled[: question.limit], len(settled), question.limit)

    def too_many(self) -> ConnectorError:
        """What is said where the largest number of rows does not settle an answer."""
        return ConnectorError(_TOO_MANY)

    def _fits(self, question: Question, sieve: Sieve | None, row: tuple[Any, ...]) -> bool:
        if sieve is None:
            return True
        return sieve.holds(row[1 + len(question.fields) :], lambda field, raw: self._seen(question, field, raw))

    def _seen(self, question: Question, field: str, raw: object) -> Scalar | None:
        return _masked(question.masking, field, field_value(raw, self.table.types[field]))

    def _record(self, question: Question, row: tuple[Any, ...]) -> Record:
        key, *values = row[: 1 + len(question.fields)]
        subject = field_value(key, self.table.types[self.table.key])
        fields = zip(question.fields, values, strict=True)
        record = {field: field_value(value, self.table.types[field]) for field, value in fields}
        visible: tuple[str | None, ...] = ()
        hashes: tuple[str, ...] = ()
        if hashed := question.masking.hashed.intersection(question.fields):
            seen = {field: _text(_masked(question.masking, field, value)) for field, value in record.items()}
            visible = tuple(text for field, text in seen.items() if field not in hashed)
            if question.key_shown:
                visible = (_text(subject), *visible)
            hashes = tuple(seen[field] or "" for field in question.fields if field in hashed)
        return Record("" if subject is None else scalar_text(subject), record, visible, hashes)

    def _build_view(self, masks: MaskKey) -> View:
        found = {field: Mask.FromString(mask) for field, mask in masks}
        types = masked_types(self.table.types, found)
        columns: dict[str, Expression] = dict(self._columns)
        hashed: dict[str, Expression] = {}
        for field, mask in found.items():
            column = self._columns[field]
            masked = masked_column(column, mask, self._dialect)
            if masked is None:
                hashed[field] = column
                masked = sa.case((column.is_(None), sa.null()), else_="")
            columns[field] = masked
        return View(columns, hashed, Predicate(columns, types, self._dialect), types)

    def _build_shape(
        self, fields: tuple[str, ...], masks: MaskKey, row_filter: bytes | None, by_key: bool, key_shown: bool
    ) -> sa.Select[Any]:
        key = self._columns[self.table.key]
        shape = (
            sa.select(key, *(self._columns[field] for field in fields))
            .order_by(*self._order(fields, masks, key_shown))
            .limit(sa.bindparam("row_limit", type_=sa.BigInteger))
        )
        if by_key:
            shape = shape.where(key.in_(sa.bindparam("keys", expanding=True, type_=NULLTYPE)))
        if row_filter is not None:
            shape = shape.where(self._row_condition(Filter.FromString(row_filter)))
        return shape

    def _order(self, fields: tuple[str, ...], masks: MaskKey, key_shown: bool) -> Iterator[Expression]:
        """What the requester sees, and nothing else: ties are between rows that look alike, but for their hashes.

        The order of ties would be that of the plan, which follows indexes, and so values that are not seen.
        """
        view, masked = self._view(masks), dict(masks)
        first = (self.table.key,) if key_shown else ()
        names = [field for field in dict.fromkeys((*first, *fields)) if field not in view.hashed]
        yield from (view.columns[field] for field in names)
        for field in names:
            if field not in masked and self.table.types[field] in _AMBIGUOUS:
                yield by_bytes(sa.cast(self._columns[field], sa.Text), self._dialect)

    def _row_condition(self, filter: Filter) -> Condition:
        check_filter(filter, frozenset(self._columns), self.table.types)
        return self._predicate.condition(filter)


def _answer(kept: Sequence[Record], matching: int, limit: int) -> Rows:
    return Rows(tuple(record.row for record in kept), tuple(record.subject for record in kept), matching > limit)


def _mask_key(masking: Masking) -> MaskKey:
    masks = sorted(masking.masks.items())
    return tuple((field, mask.SerializeToString(deterministic=True)) for field, mask in masks)


def _masked(masking: Masking, field: str, value: Scalar | None) -> Scalar | None:
    try:
        return masking.value(field, value)
    except MaskError as error:
        raise ConnectorError(str(error)) from None


def _text(value: Scalar | None) -> str | None:
    return None if value is None else scalar_text(value)
