"""Receipts become cosigned ones within a minute, or there is an alarm (DESIGN section 2)."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from exchange.batching import Batcher
from exchange.client.cosignatures import MOST_PROVEN, Cosignatures
from exchange.client.errors import BrokenLogError, EvidenceError, ExchangeError, UnavailableError
from exchange.client.receipt_file import KeptReceipt, ReceiptFile
from exchange.client.storage import ACCESS
from exchange.core.checkpoint import Checkpoint
from exchange.core.errors import CoreError
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.wire import decode, encode
from exchange.v1.envelope_pb2 import Receipt

WITHIN: Final = 60.0
"""Seconds in which a receipt is upgraded."""

ROUND = 1.0
"""Seconds between two rounds while a receipt waits."""

Alarm = Callable[[int, str], None]
"""Told of an entry whose receipt is not cosigned in time, and why."""

logger = logging.getLogger("exchange.client")


def log_alarm(index: int, reason: str) -> None:
    """The alarm of a program that names no other: an error in the log `exchange.client`."""
    logger.error("the receipt of entry %d is not cosigned in time: %s", index, reason)


class Receipts:
    """Keeps the receipts of one home, and upgrades each to one under a cosigned checkpoint.

    Args:
        file: keeps them; what an earlier process left waiting is taken up.
        cosignatures: of the access log; where the trust file has no quorum, nothing is kept here.
        clock: milliseconds.
        alarm: told once of each receipt that is late.
    """

    def __init__(
        self,
        file: ReceiptFile,
        cosignatures: Cosignatures,
        clock: Callable[[], int],
        alarm: Alarm = log_alarm,
    ) -> None:
        self._file = file
        self._cosignatures = cosignatures
        self._clock = clock
        self._alarm = alarm
        self._alarmed: set[int] = set()
        self._keeper: Batcher[KeptReceipt, None] = Batcher(self._keep)
        self._work: asyncio.Task[None] | None = None
        self._more = False
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Take up what waits."""
        if self._cosignatures.needed:
            self._start()

    async def keep(self, receipt: Receipt) -> None:
        """Keep a receipt that was verified, durable when this returns; many at a time share one write.

        Raises:
            UnavailableError: the disk does not take it.
        """
        if self._cosignatures.needed:
            await self._keeper.submit(KeptReceipt(receipt.index, self._clock(), encode(receipt), cosigned=False))
            self._start()

    async def receipt(self, index: int) -> KeptReceipt | None:
        """What is kept of an entry: its receipt, or the cosigned one in its place."""
        return await asyncio.to_thread(self._file.receipt, index)

    async def late(self) -> tuple[int, ...]:
        """The indexes of the entries whose receipts should be cosigned by now, and are not."""
        if not self._cosignatures.needed:
            return ()
        until = self._clock() - int(WITHIN * 1000)
        return await asyncio.to_thread(lambda: tuple(self._file.late(until)))

    async def cosigned(self, index: int, timeout: float = WITHIN) -> Receipt:
        """Wait for the cosigned receipt of an entry whose receipt was kept.

        Args:
            timeout: seconds.

        Raises:
            EvidenceError: no receipt of it is kept.
            UnavailableError: it was not cosigned in time.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    news = self._news
                    kept = await self.receipt(index)
                    if kept is None:
                        raise EvidenceError(f"no receipt of entry {index} is kept here")
                    if kept.cosigned:
                        return decode(Receipt, kept.receipt)
                    await news.wait()
        except TimeoutError as error:
            text = f"the receipt of entry {index} was not cosigned within {timeout:g} s"
            raise UnavailableError(text, "it stays here, and is upgraded when this party is at work again") from error

    async def close(self) -> None:
        """Stop; what waits is taken up by the next process of this home."""
        await self._keeper.close()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def catch_up(self) -> None:
        """Upgrade all that can be upgraded now: before what is late is named.

        Raises:
            BrokenLogError: the access log contradicts itself; sticky.
        """
        before = -1
        while True:
            waiting = await asyncio.to_thread(self._file.count_waiting, 0)
            if waiting[0] in (0, before):
                return
            before = waiting[0]
            await self.round()

    async def round(self) -> bool:
        """Upgrade what can be; returns whether anything still waits.

        Raises:
            BrokenLogError: the access log contradicts itself; sticky.
        """
        waiting = await asyncio.to_thread(self._file.waiting, MOST_PROVEN)
        if not waiting:
            return False
        paths: Mapping[int, tuple[bytes, ...]] = {}
        reason = ""
        try:
            paths = await self._cosignatures.prove([kept.position for kept in waiting])
        except BrokenLogError:
            raise
        except ExchangeError as error:
            reason = str(error)
        upgraded = await asyncio.to_thread(self._upgraded, waiting, paths)
        if upgraded:
            await asyncio.to_thread(self._file.upgrade, upgraded)
            self._news.set()
            self._news = asyncio.Event()
        done = {kept.position for kept in upgraded}
        self._tell_late([kept for kept in waiting if kept.position not in done], reason)
        return len(done) < len(waiting) or len(waiting) == MOST_PROVEN

    def _start(self) -> None:
        # A task that is about to end looks at this first.
        self._more = True
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._more:
            self._more = False
            try:
                self._more = await self.round() or self._more
            except BrokenLogError:
                # Sticky: whoever asks next is told.
                return
            except ExchangeError:
                self._more = True
            if self._more:
                await asyncio.sleep(ROUND)

    async def _keep(self, receipts: Sequence[KeptReceipt]) -> Sequence[None]:
        await asyncio.to_thread(self._file.keep, receipts)
        return [None] * len(receipts)

    def _upgraded(self, waiting: Sequence[KeptReceipt], paths: Mapping[int, tuple[bytes, ...]]) -> list[KeptReceipt]:
        """The same entries, proven under the cosigned checkpoint; those that nobody proves now are left out."""
        cosigned, note = self._cosignatures.of(ACCESS), self._cosignatures.note(ACCESS)
        if cosigned is None:
            return []
        found = (
            _upgrade(kept, paths[kept.position], cosigned.checkpoint, note)
            for kept in waiting
            if kept.position in paths
        )
        return [kept for kept in found if kept is not None]

    def _tell_late(self, waiting: Sequence[KeptReceipt], reason: str) -> None:
        for kept in waiting:
            if kept.position not in self._alarmed and self._clock() - kept.since > WITHIN * 1000:
                self._alarmed.add(kept.position)
                self._alarm(kept.position, reason or "no cosigned checkpoint proves it")


def _upgrade(kept: KeptReceipt, path: tuple[bytes, ...], checkpoint: Checkpoint, note: bytes) -> KeptReceipt | None:
    try:
        receipt = decode(Receipt, kept.receipt)
        verify_inclusion(leaf_hash(receipt.leaf), receipt.index, checkpoint.size, path, checkpoint.root)
    except CoreError:
        return None
    better = Receipt(index=receipt.index, leaf=receipt.leaf, path=path, checkpoint=note)
    return KeptReceipt(kept.position, kept.since, encode(better), cosigned=True)
