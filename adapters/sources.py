"""The department's data: which connector answers for which dataset, as described now."""

from adapters.config import AdapterConfig, ConfigError
from adapters.connectors import ConnectorError, Finding, Question, Rows
from adapters.connectors.sql import SqlConnector
from exchange.core.terms import DatasetTerms


class Sources:
    """Connectors by source, made when the first question comes and again when a description changes.

    Args:
        config: which table of which source holds each dataset.
    """

    def __init__(self, config: AdapterConfig) -> None:
        self._config = config
        self._connectors: dict[str, tuple[bytes, SqlConnector]] = {}

    def row_limit(self, code: str) -> int:
        """The most rows that one answer about a dataset has; the adapter's own limit for one it does not serve."""
        if code not in self._config.datasets:
            return self._config.adapter.row_limit
        return self._config.row_limit(code)

    async def answer(self, dataset: DatasetTerms, question: Question) -> Rows:
        """Ask the source of a dataset.

        Raises:
            ConnectorError: it cannot answer now, or the dataset is not configured.
            QuestionError: the question does not fit the dataset.
        """
        return await self._connector(dataset).answer(question)

    def check(self, dataset: DatasetTerms) -> tuple[Finding, ...]:
        """Compare a dataset's table with its description.

        Raises:
            ConnectorError: the source cannot be reached, or the dataset is not configured.
        """
        return self._connector(dataset).check()

    async def close(self) -> None:
        """Close every connection."""
        for _, connector in self._connectors.values():
            await connector.close()
        self._connectors.clear()

    def _connector(self, dataset: DatasetTerms) -> SqlConnector:
        """One connector a dataset version: a new description is served as soon as the directory holds it."""
        known = self._connectors.get(dataset.code)
        if known is not None and known[0] == dataset.version.digest:
            return known[1]
        try:
            table = self._config.table(dataset)
        except ConfigError as error:
            raise ConnectorError("the dataset is not configured at its provider") from error
        source = self._config.sources[self._config.datasets[dataset.code].source]
        connector = SqlConnector(
            source.url.get_secret_value(),
            {dataset.code: table},
            statement_timeout_ms=self._config.adapter.statement_timeout_ms,
        )
        self._connectors[dataset.code] = (dataset.version.digest, connector)
        return connector
