"""The SQL connector: answers questions from tables and views of SQLite or PostgreSQL, and only reads."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import exc

from adapters.connectors import ConnectorError, Finding, Question, Rows
from adapters.connectors.engines import plain_errors, read_only_engine
from adapters.connectors.inspection import findings
from adapters.connectors.sql_table import SCAN_LIMIT, SqlTable
from adapters.connectors.tables import Table
from exchange.core.enforcement import OF_SOURCE

_CONNECT_SECONDS = 5.0


class SqlConnector:
    """Answers for the datasets of one database; see `Connector` for what it promises.

    Statements hold bound parameters and the configuration's identifiers, quoted by SQLAlchemy; nothing else.

    Args:
        url: `sqlite:///PATH` or `postgresql://…`.
        tables: each dataset's table, by the dataset's code.
        statement_timeout_ms: after which a statement is given up.
        connections: how many statements may run at once, each in a thread of its own.
        scan_limit: the most rows to read for one answer that depends on hashes, which no database computes.

    Raises:
        ConnectorError: the URL is of no kind that is served here.
    """

    enforces: ClassVar[frozenset[str]] = OF_SOURCE

    def __init__(
        self,
        url: str,
        tables: Mapping[str, Table],
        *,
        statement_timeout_ms: int = 5000,
        connections: int = 4,
        scan_limit: int = SCAN_LIMIT,
    ) -> None:
        self.engine = read_only_engine(url, statement_timeout_ms, connections)
        dialect = self.engine.dialect.name
        self._tables = {code: SqlTable(table, dialect, scan_limit) for code, table in tables.items()}
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

    def _answer(self, table: SqlTable, question: Question) -> Rows:
        selected = table.select(question)
        for size in selected.sizes:
            found = self._read(selected.statement, {**selected.parameters, "row_limit": size})
            rows = table.rows(question, selected, found, size)
            if rows is not None:
                return rows
        raise table.too_many()

    def _read(self, statement: sa.Select[Any], parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with plain_errors():
            try:
                return self._fetch(statement, parameters)
            except exc.DBAPIError as error:
                # A connection that broke while it was idle says nothing about the database; reading twice is safe.
                if not error.connection_invalidated:
                    raise
                return self._fetch(statement, parameters)

    def _fetch(self, statement: sa.Select[Any], parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement, parameters)]
