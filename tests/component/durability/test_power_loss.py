"""Power loss: no acknowledged entry, answer, receipt or order is lost; and the test sees what weaker syncing loses.

The real store, logs, ledger and orders run over apsw (`driver`), on a disk that keeps only synced bytes (`disk`). The
power fails before every single write and sync, and at each acknowledgement; what is left is opened with Python's own
SQLite, hashed again, and held to what was acknowledged by then. kill -9 cannot show this: a killed process's writes
stay in the page cache.
"""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from adapters.anchor import AnchorError as LedgerAnchorError
from exchange.broker.anchor import AnchorError
from tests.component.durability.disk import Disk, Keep
from tests.component.durability.driver import connect_through
from tests.component.durability.paths import AGAIN, FIRST, PATHS, WritePath

SEED = 20261126
pytestmark = pytest.mark.timeout(600)
_numbers = count()

ATTEMPTS = (FIRST, AGAIN)
# What each path does instead, when its promise is weakened: the way to see that the test can fail.
WEAKER = {
    "append": ("synchronous = FULL", "synchronous = NORMAL"),
    "answer": ("synchronous = FULL", "synchronous = NORMAL"),
    "settle": ("synchronous = FULL", "synchronous = NORMAL"),
    "order": ("synchronous = EXTRA", "synchronous = FULL"),
    "cosigned": ("synchronous = FULL", "synchronous = NORMAL"),
    "witness": ("synchronous = EXTRA", "synchronous = FULL"),
}


def nothing() -> bool:
    """What was not synced is gone."""
    return False


class Outage:
    """Writes a path's attempts over a disk that loses power again and again, and counts what that lost."""

    def __init__(self, path: WritePath, folder: Path, rewrite: Callable[[str], str]) -> None:
        self.moments = 0
        self.losses: list[str] = []
        self._path = path
        self._folder = folder / "running"
        self._left = folder / "left"
        self._vfs = f"lossy-{next(_numbers)}"
        self._connect = connect_through(self._vfs, rewrite)
        self._real = sqlite3.connect
        self._random = random.Random(SEED)
        self.acknowledged = 0
        self._syncs = True
        self._looking = False
        self._disk = Disk(self._vfs, self._fail)

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Write every attempt; the files as they are before were synced long ago."""
        self._prepare()
        for attempt in ATTEMPTS:
            self._write(attempt, monkeypatch)
            self._fail()

    def fail_to_sync(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """Write once while no sync succeeds; the name of the error, once the power has failed too."""
        self._prepare()
        self._syncs = False
        try:
            self._write(FIRST, monkeypatch)
        except Exception as error:  # noqa: BLE001 - the test looks at its name
            return type(error).__name__
        finally:
            self._fail()
        return ""

    def _prepare(self) -> None:
        self._folder.mkdir()
        self._path.prepare(self._folder)

    def _write(self, attempt: int, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", self._connect)
            self._path.write(self._folder, attempt, self._looked_at(), lambda: self._acknowledge(attempt))

    @contextmanager
    def _looked_at(self) -> Iterator[None]:
        self._looking, self._disk.syncs = True, self._syncs
        yield

    def _acknowledge(self, attempt: int) -> None:
        self.acknowledged = attempt
        self._fail()

    def _fail(self) -> None:
        """The power fails now: with nothing unsynced kept, and with any of its sectors."""
        if self._looking:
            self.moments += 1
            for keep in (nothing, lambda: self._random.random() < 0.5):
                self._look(keep)

    def _look(self, keep: Keep) -> None:
        shutil.rmtree(self._left, ignore_errors=True)
        self._left.mkdir()
        self._disk.lost(self._left, keep)
        for beside in self._folder.glob("*anchor"):
            (shutil.copytree if beside.is_dir() else shutil.copy)(beside, self._left / beside.name)
        connect, sqlite3.connect = sqlite3.connect, self._real
        try:
            kept = self._path.check(self._left, self.acknowledged or FIRST)
        except (AnchorError, LedgerAnchorError) as error:
            self.losses.append(f"moment {self.moments}: {error}")
        else:
            if self.acknowledged and not kept:
                self.losses.append(f"moment {self.moments}: attempt {self.acknowledged} is gone")
        finally:
            sqlite3.connect = connect


@pytest.mark.parametrize("name", PATHS)
def test_no_power_loss_takes_what_was_acknowledged(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(PATHS[name], tmp_path, lambda sql: sql)
    outage.run(monkeypatch)
    assert outage.moments > 20
    assert outage.losses == []


@pytest.mark.parametrize("name", WEAKER)
def test_weaker_syncing_is_found_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promised, weaker = WEAKER[name]
    changed = []

    def rewrite(sql: str) -> str:
        changed.extend([sql] if promised in sql else [])
        return sql.replace(promised, weaker)

    outage = Outage(PATHS[name], tmp_path, rewrite)
    outage.run(monkeypatch)
    assert changed
    assert outage.losses


@pytest.mark.parametrize("name", PATHS)
def test_what_the_disk_fails_to_sync_is_not_acknowledged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage(PATHS[name], tmp_path, lambda sql: sql)
    assert outage.fail_to_sync(monkeypatch) in PATHS[name].errors
    assert outage.acknowledged == 0
    assert outage.losses == []
