"""`exchange-adapter check`: whether everything that answering needs is there, before it is needed."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.config import AdapterConfig, ConfigError, load_config
from adapters.connectors import ConnectorError
from adapters.host import LEDGER
from adapters.ledger import Ledger, LedgerError
from adapters.sources import Sources
from exchange.client.errors import ExchangeError
from exchange.client.session import Session
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.home import Home, HomeError


@dataclass(frozen=True, slots=True)
class Result:
    """One check: what was looked at, whether it holds, and what was found or what to do."""

    name: str
    ok: bool
    detail: str


async def examine(home: Home, config: Path) -> list[Result]:
    """Check keys, certificate, configuration, ledger, directory, and every dataset against its table.

    Args:
        home: of the system that answers.
        config: its adapter.toml.
    """
    results = [*_home(home), *_ledger(home)]
    try:
        settings = load_config(config)
        results.append(Result("configuration", True, f"{len(settings.datasets)} datasets in {config}"))
    except ConfigError as error:
        return [*results, Result("configuration", False, str(error))]
    try:
        async with Session(home) as session:
            results.append(await _broker(session))
            results.extend([result async for result in _each(session, settings)])
    except (ExchangeError, HomeError) as error:
        results.append(Result("directory", False, str(error)))
    return results


def _home(home: Home) -> Iterator[Result]:
    try:
        home.signer()
        home.tls_identity()
        yield Result("home", True, f"{home.party} has its keys, certificate and trust file")
    except HomeError as error:
        yield Result("home", False, f"{error}: {error.hint}" if error.hint else str(error))


def _ledger(home: Home) -> Iterator[Result]:
    path = home.path / LEDGER
    if not path.exists():
        yield Result("ledger", True, "none yet: the adapter makes it when it first runs")
        return
    try:
        reader = Ledger.read(path)
        try:
            reader.verify()
            yield Result("ledger", True, f"{reader.head.number} answers, chain and digests verified")
        finally:
            reader.close()
    except LedgerError as error:
        yield Result("ledger", False, str(error))


async def _broker(session: Session) -> Result:
    try:
        directory = await session.sync()
    except ExchangeError as error:
        return Result("broker", False, str(error))
    return Result("broker", True, f"directory of {directory.size} entries, verified")


async def _each(session: Session, settings: AdapterConfig) -> AsyncIterator[Result]:
    owner = Party(session.party.domain, session.party.department)
    sources = Sources(settings)
    try:
        for code in settings.datasets:
            terms = session.directory.dataset_named(str(owner), code)
            yield _dataset(sources, session.party, code, terms)
    finally:
        await sources.close()


def _dataset(sources: Sources, party: Party, code: str, terms: DatasetTerms | None) -> Result:
    name = f"dataset {code}"
    if terms is None:
        return Result(name, False, "not published yet: `exchange dataset publish` by the department's steward")
    if terms.system != party:
        return Result(name, False, f"published as answered by {terms.system}")
    try:
        findings = sources.check(terms)
    except ConnectorError as error:
        return Result(name, False, error.reason)
    if findings:
        return Result(name, False, "; ".join(str(finding) for finding in findings))
    return Result(name, True, f"{len(terms.fields)} fields fit the table")
