"""What other brokers on the same database do: this one takes up their entries within a second."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from exchange.broker.limits import TokenBuckets
from exchange.broker.logs import Logs
from exchange.broker.taken import TakenIds
from exchange.core.names import Party
from exchange.store.ports import StoreError, StoreFatalError

# How long an append may go unseen where its notification was lost, seconds.
INTERVAL = 0.5
# How often one party can make this broker look for a key, a second, and how often at once.
LOOKS = 1.0
LOOKS_AT_ONCE = 3.0

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


class Newcomers:
    """Looks for signing keys that the directory here does not have: another broker may have just admitted them.

    Args:
        logs: with the directory.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._clock = clock
        self._buckets = TokenBuckets(LOOKS, LOOKS_AT_ONCE)

    async def look_for(self, key_id: bytes, peer: Party) -> None:
        """Take up what is new in the directory if a key is not in it; not at every call, or strangers could ask for it.

        Args:
            key_id: what signed a message.
            peer: whom TLS authenticated.
        """
        if key_id in self._logs.directory.state.keys or not self._logs.store.is_shared:
            return
        if self._buckets.take(peer, self._clock()):
            # What cannot be read is not known: the message is refused, and may come again.
            with suppress(StoreError):
                await self._logs.catch_up()
