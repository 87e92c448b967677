"""What is under way is cut where it may no longer be answered (DESIGN section 1: the coordinator suspends)."""

import asyncio
from collections.abc import Callable

from exchange.broker.logs import Logs
from exchange.broker.tunnel import Tunnels
from exchange.core.decision import Deny, decide_again, uncounted
from exchange.core.directory import Directory

# Flights judged before others have their turn: a thousand of them must not hold up the loop.
AT_ONCE = 64


class Cutter:
    """Cuts flights when a suspension comes, or an officer is removed: nobody waits for an answer that nobody may get.

    Where a provider answers all the same, its answer is settled as unreleased, as every one that comes too late.

    Args:
        logs: says when the directory moves.
        tunnels: with the flights.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, tunnels: Tunnels, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._tunnels = tunnels
        self._clock = clock

    async def run(self) -> None:
        """Watch the directory for as long as the broker runs."""
        known = self._logs.directory
        while True:
            await self._logs.moved(known.size)
            before, known = known, self._logs.directory
            if known.state.bars is not before.state.bars or known.state.people is not before.state.people:
                await self._cut(known)

    async def _cut(self, directory: Directory) -> None:
        flights = [flight for tunnel in self._tunnels for flight in tunnel.flights()]
        for place, flight in enumerate(flights, start=1):
            decided = decide_again(directory, flight.request, self._clock(), uncounted)
            if isinstance(decided, Deny):
                flight.cut(decided)
            if place % AT_ONCE == 0:
                await asyncio.sleep(0)
