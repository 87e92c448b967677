"""What `exchange-adapter doctor` looks at besides: configuration, databases, ledger, orders, disk and process."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from adapters.anchor import Anchor
from adapters.config import AdapterConfig, ConfigError, load_config
from adapters.connectors import ConnectorError, QuestionError
from adapters.connectors.engines import plain_errors, read_only_engine
from adapters.host import LEDGER, ORDERS
from adapters.ledger import Ledger, LedgerError
from adapters.metrics import DAY, DAYS
from adapters.orders import Orders, OrdersError
from adapters.tunnel import LONGEST_OWED, MOST_OWED
from exchange.cli.frame.times import now
from exchange.health.checks import Check, Finding, OnlineCheck, fail, ok, warn
from exchange.health.files import SOON, VERY_SOON, disk
from exchange.health.party import of_party, running
from exchange.home import Home

SECONDS = 10.0
"""For a database server that is slow to refuse, and a ledger on a slow disk."""

_FROM_BACKUP = "stop the adapter, keep a copy, and restore the file that belongs to its anchor"


def of_adapter(home: Home, config: Path) -> list[Check | OnlineCheck]:
    """The checks of an adapter's home.

    Args:
        home: of the system that answers; config: its adapter.toml.

    Raises:
        HomeError: nobody lives there, or its trust file cannot be read.
    """
    checks = of_party(home)
    path = home.path / LEDGER
    try:
        settings = load_config(config)
    except ConfigError as error:
        text = str(error)
        checks.append(Check("configuration", lambda: [fail("configuration", text, f"edit {config}")], ""))
    else:
        checks += _of_settings(home, config, settings)
    return [
        *checks,
        Check("ledger", lambda: _ledger(path), _FROM_BACKUP, SECONDS),
        Check("orders", lambda: _orders(home.path / ORDERS), _FROM_BACKUP, SECONDS),
        Check("ledger disk", lambda: _growth(path), f"df -h {home.path}", SECONDS),
        disk(home),
    ]


def _of_settings(home: Home, config: Path, settings: AdapterConfig) -> list[Check | OnlineCheck]:
    start = f"exchange-adapter run --home {home.path}"
    datasets = f"{len(settings.datasets)} datasets in {config}: exchange-adapter check holds them against their tables"
    sources = [
        Check(
            f"source {name}",
            lambda name=name: _source(settings, name),  # type: ignore[misc]
            f"start the database, or mend sources.{name}.url in {config}",
            SECONDS,
        )
        for name in sorted(settings.sources)
    ]
    return [
        running(settings.adapter.metrics, start),
        Check("configuration", lambda: [ok("configuration", datasets)], ""),
        *sources,
    ]


def _source(settings: AdapterConfig, name: str) -> Sequence[Finding]:
    """Whether a department's database can be reached, and only read; what is in it is nobody's business here."""
    url, patience = settings.sources[name].url.get_secret_value(), settings.adapter.statement_timeout_ms
    mend = f"start the database, or mend sources.{name}.url; exchange-adapter check says more"
    try:
        engine = read_only_engine(url, min(patience, 4000), 1)
        try:
            with plain_errors(), engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        finally:
            engine.dispose()
    except (ConnectorError, QuestionError) as error:
        return [fail(f"source {name}", error.reason, mend)]
    return [ok(f"source {name}", f"{engine.dialect.name}, reached, read-only")]


def _ledger(path: Path) -> Sequence[Finding]:
    """What the ledger is owed; `exchange-adapter check` verifies all of it."""
    Anchor(path).seen()
    if not path.exists():
        return [ok("ledger", "none yet: the adapter makes it when it first runs")]
    try:
        with closing(Ledger.read(path)) as ledger:
            answers, owed = ledger.head.number, ledger.owed()
    except LedgerError as error:
        return [fail("ledger", f"{path}: {error}", _FROM_BACKUP)]
    found = [ok("ledger", f"{answers:,} answers, its anchor holds")]
    if not owed:
        return [*found, ok("owed receipts", "none")]
    age = (now() - owed[0].time) / 1000
    text, mend = f"{len(owed)}, the first for {age:,.0f} s", "see the brokers' lines: a broker that runs settles them"
    if len(owed) > MOST_OWED or age > LONGEST_OWED:
        return [*found, fail("owed receipts", f"{text}: nothing new is answered through that broker", mend)]
    return [*found, ok("owed receipts", text)]


def _orders(path: Path) -> Sequence[Finding]:
    Anchor(path).seen()
    if not path.exists():
        return [ok("orders", "none yet")]
    try:
        with closing(Orders.read(path)) as orders:
            stopped, waiting = sorted(orders.stopped), len(orders.to_send())
    except OrdersError as error:
        return [fail("orders", str(error), _FROM_BACKUP)]
    found = [ok("orders", "nothing is stopped")] if not stopped else []
    found += [warn("orders", f"{code} is stopped", f"exchange-adapter resume {code}") for code in stopped]
    if waiting:
        found.append(warn("orders", f"{waiting} revocations wait for a broker", "see the brokers' lines"))
    return found


def _growth(path: Path) -> Sequence[Finding]:
    """For how many days the disk holds what the ledger grows by."""
    if not path.exists():
        return [ok("ledger disk", "nothing written yet")]
    with closing(Ledger.read(path)) as ledger:
        count, lately = ledger.head.number, ledger.since(now() - DAYS * DAY)
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
    rate = lately / DAYS * size / count if count else 0.0
    if not rate:
        return [ok("ledger disk", f"{size / 1024**2:,.1f} MiB of ledger, and nothing grows now")]
    left = int(shutil.disk_usage(path.parent).free / rate)
    text, mend = f"enough for {left:,} days at {rate / 1024**2:,.2f} MiB a day", f"df -h {path.parent}"
    if left < VERY_SOON:
        return [fail("ledger disk", text, mend)]
    return [warn("ledger disk", text, mend)] if left < SOON else [ok("ledger disk", text)]
