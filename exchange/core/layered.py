"""A map that begins with what was kept, opened as it is looked up, with what was folded since over it (ADR 0009)."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias, TypeVar

from immutables import Map

K = TypeVar("K")
V = TypeVar("V")


class _Nothing:
    """No value, where None might be one."""


_NOTHING = _Nothing()


class Layered(Mapping[K, V]):
    """An immutable map over another one, as `immutables.Map` is over nothing.

    Args:
        below: is looked at where `above` has nothing; it never changes.
        above: what was set since.
    """

    __slots__ = ("_above", "_below")

    def __init__(self, below: Mapping[K, V], above: Map[K, V] | None = None) -> None:
        self._below = below
        self._above: Map[K, V] = Map() if above is None else above

    def set(self, key: K, value: V) -> "Layered[K, V]":
        """The same map with one more value, or another one."""
        return Layered(self._below, self._above.set(key, value))

    def __getitem__(self, key: K) -> V:
        value = self._above.get(key, _NOTHING)
        return self._below[key] if isinstance(value, _Nothing) else value

    def __contains__(self, key: object) -> bool:
        return key in self._above or key in self._below

    def __iter__(self) -> Iterator[K]:
        yield from self._below
        for key in self._above:
            if key not in self._below:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __hash__(self) -> int:
        raise TypeError("a layered map has no hash: that would open all of it")


Table: TypeAlias = Map[K, V] | Layered[K, V]
"""What the state is made of: folded from entry 0, or over a snapshot."""
