"""What `exchange backup` cannot look into."""

from collections.abc import Iterator
from pathlib import Path

from exchange.backup.checks import Check
from exchange.home import Home

LEDGER = "ledger.db"


def ledger(home: Home, _: Path) -> Iterator[Check]:
    """An adapter's ledger is for its own program to read."""
    if (home.path / LEDGER).exists():
        yield Check(LEDGER, "not checked here: this is the home of an adapter, so use `exchange-adapter backup`")
