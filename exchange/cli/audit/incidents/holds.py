"""A hold on erasure: the entries whose bodies the operator keeps, as few ranges as fit into a file.

The broker's side reads HOME/holds.toml before it erases anything: a `[[hold]]` has a name, `first`, and `end`, one more
than the last; what it says besides is for people. Where entries lie too scattered, a range takes in those between them:
a hold may keep too much, never too little.
"""

from collections.abc import Iterator
from typing import Final

MOST: Final = 10_000
"""Ranges of one hold; with them the memory that they take is bounded."""

_MAX_NAME: Final = 200


class HeldRanges:
    """Ranges of indexes that cover all that were added, in ascending order.

    Args:
        most: the most ranges that are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ranges: list[list[int]] = []
        # Entries between two ranges that are held along, so that the two are one.
        self._between = 0

    def add(self, index: int) -> None:
        """Take an index in; each is greater than the one before it."""
        if self._ranges and index - self._ranges[-1][1] <= self._between:
            self._ranges[-1][1] = index + 1
            return
        self._ranges.append([index, index + 1])
        while len(self._ranges) > self._most:
            self._between = 2 * self._between + 1
            self._join()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((first, end) for first, end in self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    @property
    def count(self) -> int:
        """Entries that are held, those between included."""
        return sum(end - first for first, end in self._ranges)

    def _join(self) -> None:
        joined: list[list[int]] = []
        for first, end in self._ranges:
            if joined and first - joined[-1][1] <= self._between:
                joined[-1][1] = end
            else:
                joined.append([first, end])
        self._ranges = joined


def hold_text(ranges: HeldRanges, name: str, comments: list[str]) -> str:
    """The text of a holds.toml.

    Args:
        ranges: what is held.
        name: of the hold, for whoever is refused an erasure.
        comments: lines for the operator, at the top.
    """
    lines = [f"# {_one_line(comment)}" for comment in comments]
    for first, end in ranges:
        lines += ["", "[[hold]]", f"name = {_quoted(name[:_MAX_NAME])}", f"first = {first}", f"end = {end}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string (toml.io v1.0.0, "String")."""
    escaped = "".join(_escaped(char) for char in text)
    return f'"{escaped}"'


def _escaped(char: str) -> str:
    if char in {'"', "\\"}:
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
