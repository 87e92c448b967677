"""How much of a log one read returns."""

from collections.abc import Iterable

from exchange.store.ports import StoredEntry


def fitting(entries: Iterable[StoredEntry], max_bytes: int) -> tuple[StoredEntry, ...]:
    """Takes entries while leaves and bodies stay within `max_bytes`, but the first one always."""
    taken: list[StoredEntry] = []
    room = max_bytes
    for entry in entries:
        room -= len(entry.leaf) + len(entry.body)
        if taken and room < 0:
            break
        taken.append(entry)
    return tuple(taken)
