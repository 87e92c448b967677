"""What `doctor` looks at in a broker's home besides: its configuration, database, anchor, disk and process."""

from collections.abc import Sequence

from exchange.broker.anchor import AnchorError
from exchange.broker.config import BrokerConfig, load_config
from exchange.cli.brokers.growth import amount
from exchange.cli.frame.times import now
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.note import Verifier
from exchange.health.checks import Check, Finding, OnlineCheck, fail, ok, warn
from exchange.health.files import SOON, VERY_SOON
from exchange.health.party import running
from exchange.home import Home
from exchange.store.growth import growth_in
from exchange.store.inspection import Inspection
from exchange.store.ports import Log, StoreError

SECONDS = 10.0
"""For a database server that is slow to refuse."""


def of_broker(home: Home) -> list[Check | OnlineCheck]:
    """The checks of a broker's home.

    Raises:
        ConfigError: broker.toml says something that it cannot say.
    """
    config = load_config(home.path)
    start = f"exchange broker run --home {home.path}"
    reach = "start the database, or mend `database` in broker.toml"
    fsck = f"exchange log fsck --home {home.path}"
    return [
        running(config.metrics, start),
        Check("database", lambda: _database(home, config, reach), reach, SECONDS),
        Check("anchor", lambda: _anchor(home, config), fsck, SECONDS),
        Check("disk", lambda: _disk(home, config), f"df -h {home.path}", SECONDS),
    ]


def _database(home: Home, config: BrokerConfig, mend: str) -> Sequence[Finding]:
    engine = "PostgreSQL" if config.is_shared else "SQLite"
    try:
        with Inspection.watched(config.store_name(home.path)) as stored:
            sizes = {log: head.size for log, head in stored.heads().items()}
    except StoreError as error:
        return [fail("database", f"{engine}: {error}", mend)]
    counted = ", ".join(f"{size} of the {log} log" for log, size in sizes.items())
    return [ok("database", f"{engine}, entries: {counted}")]


def _anchor(home: Home, config: BrokerConfig) -> Sequence[Finding]:
    """Whether the database has all that the anchor has seen; which trees they are, the broker checks at its start."""
    trust = home.trust
    verifiers = {Log.DIRECTORY: trust.directory_log, Log.ACCESS: trust.access_log}
    anchored = {log: _anchored(home, config, log, verifier) for log, verifier in verifiers.items()}
    if missing := [str(log) for log, found in anchored.items() if found is None]:
        return [fail("anchor", f"none that can be read for the {' and the '.join(missing)} log", AnchorError.hint)]
    try:
        with Inspection.watched(config.store_name(home.path)) as stored:
            heads = stored.heads()
    except StoreError:
        return [fail("anchor", "the database cannot be read", "see the database's line", checked=False)]
    for log, found in anchored.items():
        if found is not None and heads[log].size < found.size:
            text = f"the {log} log has {heads[log].size} entries, and the anchor has seen {found.size}: rolled back"
            return [fail("anchor", text, AnchorError.hint)]
    return [ok("anchor", "placed, and the database has all that it has seen")]


def _anchored(home: Home, config: BrokerConfig, log: Log, verifier: Verifier) -> Checkpoint | None:
    try:
        return open_checkpoint((home.path / config.anchor / log.value).read_bytes(), verifier)
    except (OSError, CoreError):
        return None


def _disk(home: Home, config: BrokerConfig) -> Sequence[Finding]:
    try:
        growth = growth_in(config.store_name(home.path), now())
    except StoreError:
        return [fail("disk", "not known: the database cannot be read", "see the database's line", checked=False)]
    rate = f"{amount(growth.bytes_a_day)} a day"
    if growth.free is None:
        return [ok("disk", f"{amount(growth.size)} of logs, {rate}; the database server's disk is not seen from here")]
    left, text = growth.days_left, f"{amount(growth.free)} free, {rate}"
    mend = f"a larger disk, or: exchange log archive --help; df -h {home.path}"
    if left is None:
        return [ok("disk", text)]
    text += f": enough for {left:,} days"
    if left < VERY_SOON:
        return [fail("disk", text, mend)]
    return [warn("disk", text, mend)] if left < SOON else [ok("disk", text)]
