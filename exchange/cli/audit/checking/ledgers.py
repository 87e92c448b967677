"""Numbers that providers gave their answers: a ledger has no gaps, so a missing one is an answer without an entry."""

from bisect import bisect_right
from collections.abc import Iterator


class Numbers:
    """The numbers seen of one ledger, as runs that follow each other; they mostly come in order.

    Args:
        first: the number that the ledger begins with, as far as it is looked at; None where that is not known.
    """

    def __init__(self, first: int | None) -> None:
        self._first = first
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, number: int) -> bool:
        """Take a number in; False where it was seen before."""
        place = bisect_right(self._starts, number)
        if place and number <= self._ends[place - 1]:
            return False
        joins_left = bool(place) and self._ends[place - 1] == number - 1
        joins_right = place < len(self._starts) and self._starts[place] == number + 1
        if joins_left and joins_right:
            self._ends[place - 1] = self._ends.pop(place)
            del self._starts[place]
        elif joins_left:
            self._ends[place - 1] = number
        elif joins_right:
            self._starts[place] = number
        else:
            self._starts.insert(place, number)
            self._ends.insert(place, number)
        return True

    def gaps(self) -> Iterator[tuple[int, int]]:
        """The runs of numbers that are missing below the highest seen, first and last."""
        expected = self._first
        for start, end in zip(self._starts, self._ends, strict=True):
            if expected is not None and start > expected:
                yield expected, start - 1
            expected = end + 1
