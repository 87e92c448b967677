"""The SQL connector: answers questions from tables and views of SQLite or PostgreSQL, and only reads."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.types import NULLTYPE

from adapters.connectors import ConnectorError, Finding, Question, QuestionError, Rows
from adapters.connectors.engines import plain_errors, read_only_engine
from adapters.connectors.inspection import findings
from adapters.connectors.predicate import Predicate
from adapters.connectors.rows import field_value
from adapters.connectors.tables import Table
from exchange.core.filters import FilterError, check_filter, scalar_text
from exchange.v1.access_pb2 import Code
from exchange.v1.request_pb2 import Filter

_STATEMENTS = 512
_CONNECT_SECONDS = 5.0


class SqlConnector:
    """Answers for the datasets of one database; see `Connector` for what it promises.

    Statements hold bound parameters and the configuration's identifiers, quoted by SQLAlchemy; nothing else.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.
        tables: each dataset's table, by the dataset's code.
        statement_timeout_ms: after which a statement is given up.
        connections: how many statements may run at once, each in a thread of its own.

    Raises:
        ConnectorError: the URL is of no kind that is served here.
    """

    def __init__(
        self, url: str, tables: Mapping[str, Table], *, statement_timeout_ms: int = 5000, connections: int = 4
    ) -> None:
        self.engine = read_only_engine(url, statement_timeout_ms, connections)
        self._tables = {code: _SqlTable(table, self.engine.dialect.name) for code, table in tables.items()}
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="sql-connector")
        self._closed = False
        # A question may connect, wait for a lock and run; then a server that hangs is left to its thread.
        self._patience = _CONNECT_SECONDS + 2 * statement_timeout_ms / 1000

    async def answer(self, question: Question) -> Rows:
        """Answers one question, in a thread."""
        table = self._tables.get(question.dataset)
        if table is None:
            raise ConnectorError("the dataset is not served from this source")
        if self._closed:
            raise ConnectorError("the connection to the database is closed")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._answer, table, question)
        try:
            return await asyncio.wait_for(running, self._patience)
        except TimeoutError:
            raise ConnectorError("the database did not answer in time") from None

    def check(self) -> tuple[Finding, ...]:
        """Compares the tables with their descriptions."""
        with plain_errors():
            return tuple(findings(self.engine, [table.table for table in self._tables.values()]))

    async def close(self) -> None:
        """Takes no more questions, waits for the answers to those it has, and closes all connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def _answer(self, table: "_SqlTable", question: Question) -> Rows:
        statement, parameters = table.statement(question)
        with plain_errors():
            try:
                found = self._fetch(statement, parameters)
            except exc.DBAPIError as error:
                # A connection that broke while it was idle says nothing about the database; reading twice is safe.
                if not error.connection_invalidated:
                    raise
                found = self._fetch(statement, parameters)
        return table.rows(question, found)

    def _fetch(self, statement: sa.Select[Any], parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement, parameters)]


class _SqlTable:
    """Questions about one dataset, as statements; its rows, as answers."""

    def __init__(self, table: Table, dialect: str) -> None:
        self.table = table
        schema, name = table.schema_and_name
        columns: list[sa.ColumnClause[Any]] = [sa.column(column) for column in dict.fromkeys(table.columns.values())]
        self._source = sa.table(name, *columns, schema=schema)
        self._columns = {field: self._source.c[column] for field, column in table.columns.items()}
        self._predicate = Predicate(self._columns, table.types, dialect)
        # Building a statement costs more than running one; the same shapes come again and again.
        self._shape = lru_cache(_STATEMENTS)(self._build_shape)

    def statement(self, question: Question) -> tuple[sa.Select[Any], dict[str, Any]]:
        """The statement for a question, and its parameters.

        Raises:
            QuestionError: it asks for a field that is not described, or a filter is malformed.
        """
        if not set(question.fields) <= self._columns.keys():
            raise QuestionError(Code.CODE_FIELD_NOT_GRANTED, "the dataset has no such field")
        row_filter = None if question.row_filter is None else question.row_filter.SerializeToString(deterministic=True)
        by_key = question.keys is not None
        try:
            statement = self._shape(question.fields, by_key, row_filter)
            # One more than the limit tells whether the limit cut anything off.
            parameters: dict[str, Any] = {"row_limit": question.limit + 1}
            if question.keys is not None:
                parameters["keys"] = self._predicate.bind_all(self.table.key, question.keys)
            if question.filter is not None:
                statement = statement.where(self._condition(question.filter))
        except FilterError as error:
            raise QuestionError(error.code, error.reason) from None
        return statement, parameters

    def rows(self, question: Question, found: list[tuple[Any, ...]]) -> Rows:
        """What the driver returned, as an answer: the key first in each row, then the fields."""
        kept = found[: question.limit]
        types = [self.table.types[field] for field in question.fields]
        records, subjects = [], []
        for key, *values in kept:
            subject = field_value(key, self.table.types[self.table.key])
            subjects.append("" if subject is None else scalar_text(subject))
            described = zip(question.fields, values, types, strict=True)
            records.append({field: field_value(value, field_type) for field, value, field_type in described})
        return Rows(tuple(records), tuple(subjects), truncated=len(found) > len(kept))

    def _build_shape(self, fields: tuple[str, ...], by_key: bool, row_filter: bytes | None) -> sa.Select[Any]:
        key = self._columns[self.table.key]
        columns = [key, *(self._columns[field] for field in fields)]
        shape = (
            sa.select(*columns).order_by(*dict.fromkeys(columns)).limit(sa.bindparam("row_limit", type_=sa.BigInteger))
        )
        if by_key:
            shape = shape.where(key.in_(sa.bindparam("keys", expanding=True, type_=NULLTYPE)))
        if row_filter is not None:
            shape = shape.where(self._condition(Filter.FromString(row_filter)))
        return shape

    def _condition(self, filter: Filter) -> sa.ColumnElement[bool]:
        check_filter(filter, frozenset(self._columns), self.table.types)
        return self._predicate.condition(filter)
