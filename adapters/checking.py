"""`exchange-adapter check`: whether everything that answering needs is there, before it is needed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from adapters.anchor import Anchor, AnchorError
from adapters.config import AdapterConfig, ConfigError, load_config
from adapters.host import LEDGER, ORDERS
from adapters.ledger import Ledger, LedgerError
from adapters.orders import Orders, OrdersError
from adapters.sources import Sources
from exchange.client.errors import ExchangeError, UnavailableError
from exchange.client.session import Session
from exchange.core.trust import TrustError
from exchange.home import Home, HomeError

FROM_BACKUP = "stop the adapter, keep a copy of the file, and restore the one that belongs to its anchor"
NO_BROKER = "`exchange status` shows which brokers can be reached"
NO_HOME = "choose the adapter's home with --home"
NO_FILE = "write adapter.toml in the adapter's home, or say with --config where it is"
NO_DATASET = "name each dataset that this adapter answers: [datasets.CODE], with its source and table"


class Failure(IntEnum):
    """What kind of failure a check found: the exit codes that every command of the exchange has."""

    WRONG = 1
    CONFIGURATION = 2
    UNCHECKED = 3
    FORK = 4
    UNTRUSTED = 5
    STALE = 6


# What is known to be wrong comes before what could not be looked at.
GRAVEST_FIRST = (
    Failure.FORK,
    Failure.UNTRUSTED,
    Failure.WRONG,
    Failure.CONFIGURATION,
    Failure.STALE,
    Failure.UNCHECKED,
)


@dataclass(frozen=True, slots=True)
class Result:
    """One check: what was looked at, and what was found.

    Args:
        detail: what was found; names the file that it was found in.
        hint: what to do about a failure, or empty.
        failure: what kind of failure it is, or None where the check holds.
    """

    name: str
    detail: str
    hint: str = ""
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        """Whether the check holds."""
        return self.failure is None


def gravest(results: Sequence[Result]) -> Failure | None:
    """The failure that decides how a command ends, or None where every check holds."""
    found = {result.failure for result in results}
    return next((failure for failure in GRAVEST_FIRST if failure in found), None)


async def examine(home: Home, config: Path) -> list[Result]:
    """Check keys, certificate, ledger, orders, configuration, directory, and every dataset against its table.

    Args:
        home: of the system that answers.
        config: its adapter.toml.
    """
    if not home.is_made:
        return [Result("home", f"nobody lives in {home.path}", NO_HOME, Failure.CONFIGURATION)]
    results = [_home(home), _ledger(home.path / LEDGER), _orders(home.path / ORDERS)]
    settings, result = _configuration(config)
    results.append(result)
    if settings is None:
        return results
    try:
        async with Session(home) as session:
            results.append(await _broker(session))
            results.append(_witnesses(session))
            results.extend([result async for result in _each(session, settings)])
    except (ExchangeError, HomeError) as error:
        results.append(_failed("directory", error))
    return results


def _home(home: Home) -> Result:
    try:
        home.signer()
        home.tls_identity()
    except HomeError as error:
        return _failed("home", error)
    return Result("home", f"{home.party} has its keys, certificate and trust file")


def _ledger(path: Path) -> Result:
    try:
        if _is_new(path):
            return Result("ledger", "none yet: the adapter makes it when it first runs")
        with closing(Ledger.read(path)) as reader:
            reader.verify()
            return Result("ledger", f"{reader.head.number} answers, chain and digests verified; {_anchored(path)}")
    except AnchorError as error:
        return _failed("ledger", error)
    except LedgerError as error:
        return Result("ledger", f"{path}: {error}", FROM_BACKUP, Failure.WRONG)


def _orders(path: Path) -> Result:
    try:
        if _is_new(path):
            return Result("orders", "none yet")
        with closing(Orders.read(path)) as orders:
            stopped = ", ".join(sorted(orders.stopped)) or "nothing"
            waiting = len(orders.to_send())
            given = f"{len(orders.history())} orders; {_anchored(path)}; stopped: {stopped}"
            return Result("orders", f"{given}; revocations that wait for a broker: {waiting}" if waiting else given)
    except AnchorError as error:
        return _failed("orders", error)
    except OrdersError as error:
        return Result("orders", str(error), FROM_BACKUP, Failure.WRONG)


def _anchored(path: Path) -> str:
    return "anchor verified" if Anchor(path).is_placed else "no anchor yet: the adapter places it when it runs"


def _is_new(path: Path) -> bool:
    """Whether there neither is nor was a file.

    Raises:
        AnchorError: there was one.
    """
    Anchor(path).seen()
    return not path.exists()


def _configuration(config: Path) -> tuple[AdapterConfig | None, Result]:
    try:
        settings = load_config(config)
    except ConfigError as error:
        hint = "" if config.exists() else NO_FILE
        return None, Result("configuration", str(error), hint, Failure.CONFIGURATION)
    if not settings.datasets:
        return settings, Result("configuration", f"{config}: no dataset", NO_DATASET, Failure.CONFIGURATION)
    return settings, Result("configuration", f"{len(settings.datasets)} datasets in {config}")


async def _broker(session: Session) -> Result:
    try:
        directory = await session.sync()
    except ExchangeError as error:
        return _failed("broker", error)
    return Result("broker", f"directory of {directory.size} entries, verified")


def _witnesses(session: Session) -> Result:
    cosignatures = session.cosignatures
    if not cosignatures.needed:
        return Result("witnesses", "none in the trust file: a split view is not excluded")
    if cosignatures.is_stale:
        text = "no quorum has cosigned the directory lately: nothing can be answered"
        return Result("witnesses", text, NO_BROKER, Failure.STALE)
    return Result("witnesses", "a quorum has cosigned the directory lately")


async def _each(session: Session, settings: AdapterConfig) -> AsyncIterator[Result]:
    sources, party, directory = Sources(settings), session.party, session.directory
    try:
        for code in settings.datasets:
            problems = await asyncio.to_thread(sources.problems, party, directory, code)
            problems += sources.unenforced(party, directory, code, session.clock())
            dataset = directory.dataset_named(str(party.own_department), code)
            if problems or dataset is None:
                yield Result(f"dataset {code}", "; ".join(problems), "", Failure.WRONG)
            else:
                yield Result(f"dataset {code}", f"{len(dataset.fields)} fields fit the table")
    finally:
        await sources.close()


def _failed(name: str, error: ExchangeError | HomeError) -> Result:
    """What an error of the exchange or of the home comes to."""
    failure = Failure(error.exit_code)
    # What a home lacks is known, not unchecked.
    if isinstance(error, HomeError) and failure is not Failure.UNTRUSTED:
        failure = Failure.UNTRUSTED if isinstance(error.__cause__, TrustError) else Failure.WRONG
    hint = error.hint or (NO_BROKER if isinstance(error, UnavailableError) else "")
    return Result(name, str(error), hint, failure)
