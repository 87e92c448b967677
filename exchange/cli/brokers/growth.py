"""How a broker's logs grow, and how long the disk will hold them, in the words of `exchange status`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exchange.store.growth import Growth

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def growth_of(home: Path, now: int) -> "Growth":
    """How the logs of a broker's home grow.

    Args:
        home: the broker's folder; whether it runs makes no difference.
        now: milliseconds.

    Raises:
        HomeError: broker.toml cannot be read.
        StoreError: the database cannot be read.
    """
    from exchange.broker.config import load_config
    from exchange.store.growth import growth_in

    return growth_in(load_config(home).store_name(home), now)


def shown(growth: "Growth") -> dict[str, object]:
    """For people."""
    days = f"{growth.days:.0f} days" if growth.days >= 1.5 else "day"
    count = f"{growth.entries_a_day:,.0f}"
    rate = f"{count} access {'entry' if count == '1' else 'entries'} and {amount(growth.bytes_a_day)} a day"
    return {"growth": f"{rate} in the last {days}", "disk": _disk(growth)}


def _disk(growth: "Growth") -> str:
    if growth.free is None:
        return f"{amount(growth.size)} of logs; how much room the database server's disk has is not known here"
    left = growth.days_left
    enough = f"enough for {left:,} days" if left is not None else "nothing grows now"
    return f"{amount(growth.free)} free beside {amount(growth.size)} of logs: {enough}"


def described(growth: "Growth") -> dict[str, object]:
    """For programs."""
    return {
        "days": round(growth.days, 1),
        "entries_a_day": round(growth.entries_a_day, 1),
        "bytes_a_day": round(growth.bytes_a_day),
        "database_bytes": growth.size,
        "disk_free_bytes": growth.free,
        "disk_days_left": growth.days_left,
    }


def amount(count: float) -> str:
    """Bytes, as people write them."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count, unit = count / _STEP, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if count >= 10 or not unit else f"{count:.1f} {_UNITS[unit]}"
