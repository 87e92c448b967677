"""Natural batching: what queues while one batch is at work is the next batch; nothing ever waits for more.

One idea serves signatures, commits of log and ledger, and tunnel writes: idle it costs nothing, loaded its
cost is shared (DESIGN sections 4, 7 and 8).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]
Take = Callable[[], Sequence[T]]
LateWork = Callable[[Take[T]], Awaitable[Sequence[R | Exception]]]


class ClosedError(Exception):
    """The batcher takes no more items."""


class LateBatcher(Generic[T, R]):
    """Runs one batch at a time, in the order of submission; the work takes its batch when it is ready for it.

    Args:
        work: is given a function that takes 1 to `limit` items: what has queued by then. It calls it once, from any
            thread, and gives a result or an exception for each, in order. An exception that it raises goes to every
            item that it took; where it took none, to those that it was begun for.
        limit: the largest batch.
    """

    def __init__(self, work: LateWork[T, R], limit: int = 256) -> None:
        self._work = work
        self._limit = limit
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, item: T) -> "asyncio.Future[R]":
        """Queue one item; its future holds the result. A cancelled future does not stop the work.

        Raises:
            ClosedError: after `close`.
        """
        if self._closed:
            raise ClosedError("no more work is taken")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return future

    async def close(self) -> None:
        """Take no more items, and wait until those queued are done."""
        self._closed = True
        if self._running is not None:
            await asyncio.shield(self._running)

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._serve()
        finally:
            self._running = None

    async def _serve(self) -> None:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        waiting = len(self._queue)

        def take(most: int = self._limit) -> Sequence[T]:
            # Nobody else takes from the queue, and a deque may be added to meanwhile.
            batch.extend(self._queue.popleft() for _ in range(min(most, len(self._queue))))
            return [item for item, _ in batch]

        try:
            results: Sequence[R | Exception] = await self._work(take)
        except Exception as error:  # noqa: BLE001 - each item's waiter gets it
            if not batch:
                take(min(self._limit, waiting))
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


class Batcher(LateBatcher[T, R]):
    """Runs one batch at a time, in the order of submission; what has queued when the work begins is its batch.

    Args:
        work: takes 1 to `limit` items and gives a result or an exception for each, in order; an exception that it
            raises goes to every item of its batch.
        limit: the largest batch.
    """

    def __init__(self, work: Work[T, R], limit: int = 256) -> None:
        super().__init__(lambda take: work(take()), limit)


def split(items: Iterable[T], size_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Split items into runs of at most `most` in size; one item alone may be larger."""
    part: list[T] = []
    size = 0
    for item in items:
        length = size_of(item)
        if part and size + length > most:
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part
