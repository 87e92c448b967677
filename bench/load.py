"""A closed loop: so many requests in flight, each followed by the next as soon as its answer is there."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round showed.

    Args:
        requests: those answered within the round; finished: these, and those answered after its end.
        seconds: its length.
        p50_ms, p99_ms: latency of those requests, milliseconds.
    """

    requests: int
    finished: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


async def drive(ask: Ask, in_flight: int, seconds: float) -> Sample:
    """Ask for some seconds, then wait for what is still in flight, which counts no more.

    Args:
        ask: makes one request, and raises where it is not answered.
        in_flight: how many at once.
        seconds: length of the round.

    Raises:
        ExceptionGroup: a request failed: a figure without it would flatter.
    """
    latencies: list[float] = []
    late: list[float] = []
    began = time.perf_counter()
    end = began + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(_worker(ask, end, latencies, late))
    if not latencies:
        # All slower than the round: it was as long as the slowest of them.
        latencies, late = late, []
        end = began + max(latencies)
    latencies.sort()
    p50, p99 = (percentile(latencies, share) * 1000 for share in (0.50, 0.99))
    return Sample(len(latencies), len(latencies) + len(late), end - began, p50, p99)


async def _worker(ask: Ask, end: float, latencies: list[float], late: list[float]) -> None:
    while (asked := time.perf_counter()) < end:
        await ask()
        answered = time.perf_counter()
        (latencies if answered <= end else late).append(answered - asked)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above (nearest rank).

    Args:
        ordered: in ascending order, at least one.
        share: 0 to 1.
    """
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]
