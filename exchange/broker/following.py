"""What other brokers on the same database do: this one takes up their entries within a second."""

import asyncio

import structlog

from exchange.broker.logs import Logs
from exchange.broker.taken import TakenIds
from exchange.store.ports import StoreError, StoreFatalError

# How long an append may go unseen where its notification was lost, seconds.
INTERVAL = 0.5

logger = structlog.get_logger("exchange.broker")


class Follower:
    """Follows both logs: the directory, and which request ids are used up.

    Args:
        logs: over a store that others append to.
        taken: learns the ids.
        since: the time of the newest entry that `taken` has learnt of, milliseconds.
    """

    def __init__(self, logs: Logs, taken: TakenIds, since: int) -> None:
        self._logs = logs
        self._taken = taken
        self._since = since
        self._waits = False

    async def run(self) -> None:
        """Follow until cancelled, or until the log has failed.

        Raises:
            StoreFatalError: the database failed, or was rolled back.
        """
        while True:
            await asyncio.to_thread(self._logs.store.wait_for_others, INTERVAL)
            try:
                await self.look()
                self._waits = False
            except StoreFatalError:
                raise
            except StoreError as error:
                if not self._waits:
                    logger.warning("the other brokers' entries cannot be read", reason=str(error))
                self._waits = True

    async def look(self) -> None:
        """Take up what is new.

        Raises:
            StoreError: it cannot be read.
        """
        await self._logs.catch_up()
        # Entry times never decrease, whoever appends; those of the last one are read twice.
        found = await asyncio.to_thread(list, self._logs.store.taken_since(self._since))
        self._taken.learn(found)
        if found:
            self._since = found[-1].time
