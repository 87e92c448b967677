"""Retention: which bodies a broker may erase, by a signed entry of the directory (DESIGN section 7)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.core.access import read_access_leaf
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.holds import FILE, Hold, HoldError, held, parse_holds
from exchange.home import HomeError
from exchange.store.ports import Log, LogStore
from exchange.v1.directory_pb2 import EntryRange, Erased

DAY = 24 * 3600 * 1000
AT_ONCE = 100_000
"""Entries of the access log that one erasure names at the most: appends wait while it is carried out."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """Bodies to be blanked: those of a log's entries from `first` to before `end`."""

    log: Log
    first: int
    end: int


class RetentionError(Exception):
    """An erasure is not covered; the text says why."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What the operator's settings allow.

    Args:
        days: how long bodies of the access log are kept at least.
        holds: those in force now, read anew for each erasure.
    """

    days: int
    holds: Callable[[], tuple[Hold, ...]] = tuple

    def before(self, now: int) -> int:
        """Bodies of entries before this moment may be erased; milliseconds, as `now` is."""
        return now - self.days * DAY

    def judge(self, erased: Erased, directory: Directory, store: LogStore, now: int) -> tuple[Erasure, ...]:
        """What a signed erasure, which the fold has accepted, lets this broker blank.

        Args:
            erased: what it says.
            directory: with it.
            store: the logs.
            now: the entry's time, milliseconds.

        Raises:
            RetentionError: it is not covered.
        """
        if erased.WhichOneof("target") == "access":
            self._check(erased.access, store, now)
            return (Erasure(Log.ACCESS, erased.access.first, erased.access.end),)
        problem = directory.erasure_problem(erased)
        if problem:
            raise RetentionError(f"the body stays: {problem}")
        named = directory.state.versions[erased.digest]
        own = directory.state.versions_of(named.owner)
        versions = [version for version in own if version.object_id == named.object_id]
        return tuple(Erasure(Log.DIRECTORY, version.index, version.index + 1) for version in versions)

    def _check(self, entries: EntryRange, store: LogStore, now: int) -> None:
        if entries.end - entries.first > AT_ONCE:
            raise RetentionError(f"an erasure names at most {AT_ONCE:,} entries of the access log")
        # Times never decrease, so the last entry speaks for all of them.
        last = store.entry(Log.ACCESS, entries.end - 1)
        if last is None:
            raise RetentionError(f"the access log has no entry {entries.end - 1}")
        try:
            time = read_access_leaf(last.leaf).time
        except CoreError as error:
            raise RetentionError(f"entry {entries.end - 1} of the access log cannot be read: {error}") from error
        if time >= self.before(now):
            raise RetentionError(f"entry {entries.end - 1} of the access log is not {self.days} days old yet")
        try:
            hold = held(self.holds(), entries.first, entries.end)
        except HomeError as error:
            raise RetentionError(f"it is not known what is on hold: {error}") from error
        if hold is not None:
            raise RetentionError(f"entries {hold.first} to {hold.end - 1} are on hold: {hold.name}")


def portions(kept: Iterable[tuple[int, int]], holds: Sequence[Hold]) -> Iterator[tuple[int, int]]:
    """The ranges that erasures can name: of what still has its body, without what is on hold, none too long.

    Args:
        kept: access entries as first and end, ascending.
        holds: those in force.
    """
    for first, end in kept:
        while first < end:
            hold = held(holds, first, first + 1)
            if hold is not None:
                first = hold.end
                continue
            stop = min([end, first + AT_ONCE, *(hold.first for hold in holds if hold.first > first)])
            yield first, stop
            first = stop


def read_holds(home: Path) -> tuple[Hold, ...]:
    """The holds of a home; none where it has no holds.toml.

    Raises:
        HomeError: the file cannot be read: nothing may be erased until it can.
    """
    path = home / FILE
    try:
        return parse_holds(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, HoldError) as error:
        raise HomeError(f"{path}: {error}") from error
