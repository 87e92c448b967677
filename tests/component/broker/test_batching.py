import asyncio
import threading
from collections.abc import Sequence

import pytest

from exchange.batching import Batcher, ClosedError, LateBatcher, Take, split


class Worker:
    """Doubles numbers, one batch whenever it is let go."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        if open:
            self.gate.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.started.set()
        await self.gate.wait()
        return [item * 2 if item >= 0 else ValueError(f"{item} is negative") for item in items]


async def test_what_queues_during_work_is_the_next_batch() -> None:
    worker = Worker(open=False)
    batcher: Batcher[int, int] = Batcher(worker)
    first = batcher.submit(1)
    await worker.started.wait()
    rest = [batcher.submit(number) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    assert worker.batches == [[1]]
    worker.gate.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
    assert worker.batches == [[1], [2, 3, 4]]


async def test_one_item_alone_does_not_wait_for_more() -> None:
    worker = Worker()
    batcher: Batcher[int, int] = Batcher(worker)
    for number in range(3):
        assert await batcher.submit(number) == number * 2
    assert worker.batches == [[0], [1], [2]]


async def test_items_keep_their_order_within_the_limit() -> None:
    worker = Worker()
    batcher: Batcher[int, int] = Batcher(worker, limit=4)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(10))) == [2 * n for n in range(10)]
    assert worker.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_batches_never_overlap() -> None:
    running = 0

    async def work(items: Sequence[int]) -> Sequence[int]:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        return items

    batcher: Batcher[int, int] = Batcher(work, limit=2)
    await asyncio.gather(*(batcher.submit(number) for number in range(9)))


async def test_an_exception_goes_to_all_of_its_batch_and_to_no_other() -> None:
    async def work(items: Sequence[int]) -> Sequence[int]:
        if 1 in items:
            raise OSError("the disk")
        return items

    batcher: Batcher[int, int] = Batcher(work, limit=2)
    found = await asyncio.gather(*(batcher.submit(number) for number in range(4)), return_exceptions=True)
    assert [type(result) for result in found[:2]] == [OSError, OSError]
    assert found[2:] == [2, 3]


async def test_an_items_own_exception_goes_to_it_alone() -> None:
    batcher: Batcher[int, int] = Batcher(Worker())
    found = await asyncio.gather(*(batcher.submit(number) for number in (1, -2, 3)), return_exceptions=True)
    assert [found[0], str(found[1]), found[2]] == [2, "-2 is negative", 6]


async def test_goes_on_after_a_failure() -> None:
    batcher: Batcher[int, int] = Batcher(Worker())
    with pytest.raises(ValueError, match="negative"):
        await batcher.submit(-1)
    assert await batcher.submit(1) == 2


@pytest.mark.parametrize("failing", [False, True])
async def test_a_cancelled_waiter_does_not_stop_the_work(failing: bool) -> None:
    worker = Worker(open=False)
    batcher: Batcher[int, int] = Batcher(worker)
    gone, stays = batcher.submit(-1 if failing else 1), batcher.submit(2)
    await worker.started.wait()
    gone.cancel()
    worker.gate.set()
    assert await stays == 4
    assert worker.batches == [[-1 if failing else 1, 2]]


async def test_closing_drains_what_is_queued_and_takes_no_more() -> None:
    worker = Worker(open=False)
    batcher: Batcher[int, int] = Batcher(worker, limit=2)
    futures = [batcher.submit(number) for number in range(5)]
    closing = asyncio.create_task(batcher.close())
    await worker.started.wait()
    with pytest.raises(ClosedError):
        batcher.submit(9)
    assert not closing.done()
    worker.gate.set()
    await closing
    assert [future.result() for future in futures] == [0, 2, 4, 6, 8]
    await batcher.close()


async def test_closing_an_idle_batcher_returns_at_once() -> None:
    await Batcher(Worker()).close()


async def test_a_cancelled_close_does_not_stop_the_work() -> None:
    worker = Worker(open=False)
    batcher: Batcher[int, int] = Batcher(worker)
    future = batcher.submit(1)
    closing = asyncio.create_task(batcher.close())
    await worker.started.wait()
    closing.cancel()
    await asyncio.wait([closing])
    worker.gate.set()
    assert await future == 2


class Locked:
    """Takes its batch in another thread, once a lock is free; or fails then, once, if it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self.started = asyncio.Event()
        self.lock = threading.Lock()
        self.error = error

    async def __call__(self, take: Take[int]) -> Sequence[int]:
        self.started.set()
        return await asyncio.to_thread(self._work, take)

    def _work(self, take: Take[int]) -> Sequence[int]:
        with self.lock:
            error, self.error = self.error, None
            if error is not None:
                raise error
            self.batches.append(list(take()))
            return self.batches[-1]


async def test_what_queues_while_the_work_waits_for_a_lock_goes_with_it() -> None:
    work = Locked()
    batcher: LateBatcher[int, int] = LateBatcher(work, limit=4)
    with work.lock:
        first = batcher.submit(1)
        await work.started.wait()
        rest = [batcher.submit(number) for number in (2, 3, 4, 5)]
    assert await asyncio.gather(first, *rest) == [1, 2, 3, 4, 5]
    assert work.batches == [[1, 2, 3, 4], [5]]


async def test_work_that_fails_before_it_takes_fails_what_it_was_begun_for_and_no_more() -> None:
    work = Locked(OSError("no lock"))
    batcher: LateBatcher[int, int] = LateBatcher(work, limit=2)
    with work.lock:
        begun = [batcher.submit(number) for number in (1, 2, 3)]
        await work.started.wait()
        later = batcher.submit(4)
    found = await asyncio.gather(*begun, later, return_exceptions=True)
    assert [type(result) for result in found[:2]] == [OSError, OSError]
    assert found[2:] == [3, 4]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([3], [[3]]),
        ([2, 2, 1], [[2, 2, 1]]),
        ([2, 2, 2], [[2, 2], [2]]),
        ([9, 1], [[9], [1]]),
        ([1, 9, 1], [[1], [9], [1]]),
        ([5, 5], [[5], [5]]),
    ],
)
def test_splits_into_parts_of_bounded_size_and_keeps_the_order(sizes: list[int], expected: list[list[int]]) -> None:
    assert list(split(sizes, lambda size: size, 5)) == expected
