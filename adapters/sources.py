"""The department's data: which connector answers for which dataset, as described now."""

import asyncio

import structlog

from adapters.config import AdapterConfig, ConfigError
from adapters.connectors import ConnectorError, Finding, Question, Rows
from adapters.connectors.sql import SqlConnector
from exchange.core.directory import Directory
from exchange.core.enforcement import OF_HOST, terms_of
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms

logger = structlog.get_logger("exchange.adapter")


class Sources:
    """Connectors by source, made when the first question comes and again when a description changes.

    Args:
        config: which table of which source holds each dataset.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self._config = config
        self._served: dict[str, tuple[bytes, SqlConnector]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def row_limit(self, code: str) -> int:
        """The most rows that one answer about a dataset has; the adapter's own limit for one it does not serve."""
        if code not in self._config.datasets:
            return self._config.adapter.row_limit
        return self._config.row_limit(code)

    def enforces(self, code: str) -> frozenset[str]:
        """The terms that hold for what is answered from a dataset: this host's, and those of its connector."""
        return (OF_HOST | SqlConnector.enforces) if code in self._config.datasets else frozenset()

    def unenforced(self, party: Party, directory: Directory, code: str, now: int) -> tuple[str, ...]:
        """Which standing agreements of this department's cannot be answered under, for its own people."""
        dataset = directory.dataset_named(str(party.own_department), code)
        return tuple(
            f"agreement {terms.digest.hex()[:12]} has terms that are not enforced here: {', '.join(missing)}"
            for terms in directory.terms.agreements.values()
            if dataset is not None and terms.dataset == dataset.object_id
            if directory.stands(terms) and now <= terms.not_after
            if (missing := sorted(terms_of(terms) - self.enforces(code)))
        )

    async def answer(self, dataset: DatasetTerms, question: Question) -> Rows:
        """Ask the source of a dataset.

        Raises:
            ConnectorError: it cannot answer now, or the dataset is not configured.
            QuestionError: the question does not fit the dataset.
        """
        connector = await self._serving(dataset)
        return await connector.answer(question)

    def check(self, dataset: DatasetTerms) -> tuple[Finding, ...]:
        """Compare a dataset's table with its description.

        Raises:
            ConfigError: the dataset is not configured, or not as it is described.
            ConnectorError: the source cannot be reached.
        """
        connector = self._connect(dataset)
        try:
            return connector.check()
        finally:
            connector.engine.dispose()

    def problems(self, party: Party, directory: Directory, code: str) -> tuple[str, ...]:
        """Why requests for a dataset of this department's cannot be answered here, for its own people; blocks.

        Args:
            party: the system that answers.
            directory: what is published, as far as its mirror knows.
            code: the dataset's.
        """
        dataset = directory.dataset_named(str(party.own_department), code)
        if dataset is None:
            return ("not published yet: `exchange dataset publish` by the department's steward",)
        if dataset.system != party:
            return (f"published as answered by {dataset.system}",)
        try:
            return tuple(str(finding) for finding in self.check(dataset))
        except (ConfigError, ConnectorError) as error:
            return (str(error),)

    async def close(self) -> None:
        """Close every connection."""
        served, self._served = self._served, {}
        for _, connector in served.values():
            await connector.close()

    async def _serving(self, dataset: DatasetTerms) -> SqlConnector:
        """One connector a dataset version: a new description is served as soon as the directory holds it.

        A table that does not fit its description is not served: a comparison with a column of another type may select
        other rows than the filter says.
        """
        # A lock a dataset: a database that hangs keeps nobody waiting but those who ask for what it holds.
        async with self._locks.setdefault(dataset.code, asyncio.Lock()):
            known = self._served.get(dataset.code)
            if known is not None and known[0] == dataset.version.digest:
                return known[1]
            connector = await self._fitting(dataset)
            self._served[dataset.code] = (dataset.version.digest, connector)
        if known is not None:
            await known[1].close()
        return connector

    async def _fitting(self, dataset: DatasetTerms) -> SqlConnector:
        try:
            connector = self._connect(dataset)
        except ConfigError as error:
            # It names the department's own tables and columns: for its log alone.
            logger.error("a dataset is not configured as it is described", dataset=dataset.code, problem=str(error))
            raise ConnectorError("the dataset is not configured at its provider") from error
        try:
            findings = await asyncio.to_thread(connector.check)
            if findings:
                problem = "; ".join(str(finding) for finding in findings)
                logger.error("a table does not fit its dataset", dataset=dataset.code, problem=problem)
                raise ConnectorError("the dataset's table does not fit its description")
        except ConnectorError:
            await connector.close()
            raise
        return connector

    def _connect(self, dataset: DatasetTerms) -> SqlConnector:
        table = self._config.table(dataset)
        source = self._config.sources[self._config.datasets[dataset.code].source]
        return SqlConnector(
            source.url.get_secret_value(),
            {dataset.code: table},
            statement_timeout_ms=self._config.adapter.statement_timeout_ms,
            scan_limit=self._config.adapter.scan_limit,
        )
