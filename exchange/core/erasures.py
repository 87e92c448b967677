"""Which bodies may be missing: those that an entry erased, and those without a mandate (DESIGN section 7)."""

from bisect import bisect_right
from collections.abc import Callable, Iterator

from exchange.core.fold import Applied
from exchange.core.state import State
from exchange.v1.access_pb2 import AccessLeaf


def withholds_nothing(_leaf: AccessLeaf) -> bool:
    """What holds for whoever has all bodies."""
    return False


class Erasures:
    """The valid erasures of a directory, by what they erased. Grows with the fold.

    Args:
        withholds: whether whoever reads cannot demand the body of an access entry.
    """

    def __init__(self, withholds: Callable[[AccessLeaf], bool] = withholds_nothing) -> None:
        self.withholds = withholds
        self._objects: dict[bytes, int] = {}
        self._firsts: list[int] = []
        self._ranges: list[tuple[int, int, int]] = []

    def add(self, applied: Applied, state: State) -> None:
        """Take in an entry as the fold applied it; only a valid erasure counts.

        Args:
            applied: what became of it.
            state: with it.
        """
        entry = applied.entry
        if applied.reason or entry is None or entry.WhichOneof("body") != "erased":
            return
        erased = entry.erased
        if erased.WhichOneof("target") == "digest":
            self._objects.setdefault(state.versions[erased.digest].object_id, applied.index)
            return
        place = bisect_right(self._firsts, erased.access.first)
        self._firsts.insert(place, erased.access.first)
        self._ranges.insert(place, (erased.access.first, erased.access.end, applied.index))

    def of_object(self, object_id: bytes) -> int | None:
        """The first entry that erased the bodies of an object's versions; None where none did."""
        return self._objects.get(object_id)

    def of_access(self, index: int) -> int | None:
        """The first entry that erased the body of an access entry; None where none did."""
        before = self._ranges[: bisect_right(self._firsts, index)]
        return min((number for _, end, number in before if index < end), default=None)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The access entries whose bodies were erased, as first and end, by their first; they may overlap."""
        return iter([(first, end) for first, end, _ in self._ranges])
