"""How a broker's logs grow: entries and bytes a day, and how long the disk will hold them, where that can be known."""

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
        free: bytes that the disk has left; None where it is a database server's.
    """

    days: float
    entries: int
    size: int
    entry_size: float
    free: int | None

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


def growth_of(home: Path, now: int) -> Growth:
    """How the logs of a broker's home grow.

    Args:
        home: the broker's folder; whether it runs makes no difference.
        now: milliseconds.

    Raises:
        HomeError: broker.toml cannot be read.
        StoreError: the database cannot be read.
    """
    from exchange.broker.config import load_config
    from exchange.store.inspection import Inspection
    from exchange.store.ports import Log

    with Inspection.watched(load_config(home).store_name(home)) as stored:
        heads = stored.heads()
        first = stored.time_of(0)
        entries = heads[Log.ACCESS].size - stored.since(now - DAYS * DAY)
        size, free = stored.size(), stored.free()
    total = sum(head.size for head in heads.values())
    days = min(max((now - first) / DAY, 1.0), float(DAYS)) if first is not None else float(DAYS)
    return Growth(days, entries, size, size / total if total else 0.0, free)


def shown(growth: Growth) -> dict[str, object]:
    """For people."""
    days = f"{growth.days:.0f} days" if growth.days >= 1.5 else "day"
    count = f"{growth.entries_a_day:,.0f}"
    rate = f"{count} access {'entry' if count == '1' else 'entries'} and {_bytes(growth.bytes_a_day)} a day"
    return {"growth": f"{rate} in the last {days}", "disk": _disk(growth)}


def _disk(growth: Growth) -> str:
    if growth.free is None:
        return f"{_bytes(growth.size)} of logs; how much room the database server's disk has is not known here"
    left = growth.days_left
    enough = f"enough for {left:,} days" if left is not None else "nothing grows now"
    return f"{_bytes(growth.free)} free beside {_bytes(growth.size)} of logs: {enough}"


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
