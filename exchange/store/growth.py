"""How a store grows: entries and bytes a day, and how long the disk will hold them, where that can be known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exchange.store.inspection import Inspection
from exchange.store.ports import Log

DAYS = 7
"""Days that are looked back on."""

DAY = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Growth:
    """What the last days say of the days to come.

    Args:
        days: how many were looked at: fewer than `DAYS` where the access log is younger, but one at least.
        entries: of the access log, in those days.
        size: bytes of the database.
        entry_size: bytes of the database for each entry of both logs, nodes and indexes included.
        free: bytes that the disk has left; None where it is a database server's.
        sizes: how many entries each log has.
    """

    days: float
    entries: int
    size: int
    entry_size: float
    free: int | None
    sizes: Mapping[Log, int] = field(default_factory=dict)

    @property
    def entries_a_day(self) -> float:
        """Entries of the access log a day."""
        return self.entries / self.days

    @property
    def bytes_a_day(self) -> float:
        """Bytes by which the database grows a day."""
        return self.entries_a_day * self.entry_size

    @property
    def days_left(self) -> int | None:
        """Whole days until the disk is full; None where nothing grows, or where its room is not known."""
        return int(self.free / self.bytes_a_day) if self.free is not None and self.bytes_a_day else None


def growth_in(name: Path | str, now: int) -> Growth:
    """How a store grows, whether brokers have it open or not.

    Args:
        name: the path of a SQLite file, or the URL of a PostgreSQL database.
        now: milliseconds.

    Raises:
        StoreError: the database cannot be read.
    """
    with Inspection.watched(name) as stored:
        heads = stored.heads()
        first = stored.time_of(0)
        entries = heads[Log.ACCESS].size - stored.since(now - DAYS * DAY)
        size, free = stored.size(), stored.free()
    sizes = {log: head.size for log, head in heads.items()}
    total = sum(sizes.values())
    days = min(max((now - first) / DAY, 1.0), float(DAYS)) if first is not None else float(DAYS)
    return Growth(days, entries, size, size / total if total else 0.0, free, sizes)
