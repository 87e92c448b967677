"""How a broker's logs grow: entries and bytes a day, and how long the disk will hold them."""

import os
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.times import DAY

DAYS = 7
"""Days that are looked back on."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@dataclass(frozen=True, slots=True)
class Growth:
    """What the last days say of the days to come.

    Args:
        days: how many were looked at: fewer than `DAYS` where the access log is younger, but one at least.
        entries: of the access log, in those days.
        size: bytes of the database.
        entry_size: bytes of the database for each entry of both logs, nodes and indexes included.
        free: bytes that the disk has left.
    """

    days: float
    entries: int
    size: int
    entry_size: float
    free: int

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
        """Whole days until the disk is full; None where nothing grows."""
        return int(self.free / self.bytes_a_day) if self.bytes_a_day else None


def growth_of(home: Path, now: int) -> Growth | None:
    """How the logs of a broker's home grow; None where they are in PostgreSQL, which knows that itself.

    Args:
        home: the broker's folder; whether it runs makes no difference.
        now: milliseconds.

    Raises:
        HomeError: broker.toml cannot be read.
        StoreError: the database cannot be read.
    """
    from exchange.broker.config import load_config
    from exchange.store.inspection import InspectedFile
    from exchange.store.ports import Log

    path = load_config(home).store_name(home)
    if isinstance(path, str):
        return None
    with InspectedFile.watched(path) as file:
        heads = file.heads()
        first = file.time_of(0)
        entries = heads[Log.ACCESS].size - file.since(now - DAYS * DAY)
    total = sum(head.size for head in heads.values())
    beside = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    disk = os.statvfs(path.parent)
    days = min(max((now - first) / DAY, 1.0), float(DAYS)) if first is not None else float(DAYS)
    return Growth(days, entries, size, size / total if total else 0.0, disk.f_bavail * disk.f_frsize)


def shown(growth: Growth) -> dict[str, object]:
    """For people."""
    days = f"{growth.days:.0f} days" if growth.days >= 1.5 else "day"
    left = growth.days_left
    count = f"{growth.entries_a_day:,.0f}"
    rate = f"{count} access {'entry' if count == '1' else 'entries'} and {_bytes(growth.bytes_a_day)} a day"
    return {
        "growth": f"{rate} in the last {days}",
        "disk": f"{_bytes(growth.free)} free beside {_bytes(growth.size)} of logs: "
        + (f"enough for {left:,} days" if left is not None else "nothing grows now"),
    }


def described(growth: Growth) -> dict[str, object]:
    """For programs."""
    return {
        "days": round(growth.days, 1),
        "entries_a_day": round(growth.entries_a_day, 1),
        "bytes_a_day": round(growth.bytes_a_day),
        "database_bytes": growth.size,
        "disk_free_bytes": growth.free,
        "disk_days_left": growth.days_left,
    }


def _bytes(count: float) -> str:
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count, unit = count / _STEP, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if count >= 10 or not unit else f"{count:.1f} {_UNITS[unit]}"
