"""Which message holds a request id: in flight, or used up by a committed answer (DESIGN section 6, check 4)."""

from collections.abc import Iterable

from exchange.core.decision import LIFETIME, SKEW, Asked
from exchange.store.ports import Taken

# A request is refused as EXPIRED from then on, so its id need not be remembered.
MEMORY = LIFETIME + 2 * SKEW

Id = tuple[str, bytes]


class TakenIds:
    """Request ids of the last minutes. What is in flight may be freed again; what was answered may not.

    Args:
        answered: the released and unreleased entries of the last `MEMORY` milliseconds.
    """

    def __init__(self, answered: Iterable[Taken] = ()) -> None:
        self._flying: dict[Id, bytes] = {}
        self._answered: dict[Id, tuple[bytes, int]] = {}
        self.learn(answered)

    def learn(self, answered: Iterable[Taken]) -> None:
        """Ids that are in the log by somebody else's doing; what is known already stays as it is."""
        for taken in answered:
            key = (taken.requester, taken.request_id)
            self._answered.setdefault(key, (taken.request_digest, taken.time + MEMORY))

    def holder(self, requester: str, request_id: bytes) -> bytes | None:
        """The message digest that holds an id, or None while it is free."""
        key = (requester, request_id)
        answered = self._answered.get(key)
        return answered[0] if answered is not None else self._flying.get(key)

    def hold(self, asked: Asked) -> None:
        """The request is in flight."""
        self._flying[_id(asked)] = asked.envelope.digest

    def let_go(self, asked: Asked) -> None:
        """The flight has ended."""
        self._flying.pop(_id(asked), None)

    def settle(self, asked: Asked, now: int) -> None:
        """A committed answer used the id up, unless another message's did before."""
        self._answered.setdefault(_id(asked), (asked.envelope.digest, asked.header.expires_at + SKEW))
        self._forget(now)

    def _forget(self, now: int) -> None:
        """Drop what has expired, oldest first: entries come about in the order in which they expire."""
        while self._answered:
            key = next(iter(self._answered))
            if self._answered[key][1] > now:
                return
            del self._answered[key]


def _id(asked: Asked) -> Id:
    return asked.header.requester, asked.header.request_id
