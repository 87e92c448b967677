"""What the mirrors and the ledger of use in a restored home must be: folded and proven as when they are used."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from exchange.backup.checks import Check
from exchange.client.errors import ExchangeError
from exchange.client.mirror import DirectoryMirror
from exchange.client.session import MIRROR
from exchange.client.use_file import FILE as USE
from exchange.client.use_file import UseFile
from exchange.core.errors import CoreError
from exchange.home import Home, HomeError

ACCESS_MIRROR = "access-mirror.db"


def mirrors(home: Home, _: Path) -> Iterator[Check]:
    """The copy of the directory, the auditor's copy of the access log, the ledger of use; as far as they are there."""
    for name, look in ((MIRROR, _directory), (ACCESS_MIRROR, _access), (USE, _use)):
        if (home.path / name).exists():
            yield _found(name, home, look)


def _found(name: str, home: Home, look: Callable[[Home], str]) -> Check:
    try:
        return Check(name, "", look(home))
    except (ExchangeError, HomeError, CoreError, OSError) as error:
        return Check(name, str(error))


def _directory(home: Home) -> str:
    mirror = asyncio.run(DirectoryMirror.open(home.path / MIRROR, home.trust))
    return f"{mirror.directory.size} entries make the signed root"


def _access(home: Home) -> str:
    from exchange.cli.audit.mirror.access_mirror import AccessMirror

    with AccessMirror.opened(home.path / ACCESS_MIRROR, home.trust.access_log) as mirror:
        mirror.check()
        return f"{mirror.checkpoint.size} entries make the signed root"


def _use(home: Home) -> str:
    return f"{sum(1 for _ in UseFile(home.path / USE).records())} records, chained"
