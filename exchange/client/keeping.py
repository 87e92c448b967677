"""A home's keys are renewed in time while it is at work, and whatever it holds is gone over to, whoever renewed it.

Adapters and clients share it: a program that runs for months needs nobody who remembers its certificate.
"""

import asyncio
import logging

import grpc

from exchange.client.errors import BrokenLogError, ExchangeError
from exchange.client.renewing import is_due, renew_if_due
from exchange.client.session import Session
from exchange.core.errors import CoreError
from exchange.home import HomeError
from exchange.succession import Stamp

RENEW_SECONDS = 3600
WATCH_SECONDS = 1

logger = logging.getLogger("exchange.client")


class KeyKeeper:
    """Renews a party's TLS certificate and a system's signing key (ADR 0012), and goes over to what the home holds.

    Args:
        session: the party's open home.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stamp = Stamp.of(session.home)
        self._unusable: Stamp | None = None
        self._renewed = asyncio.Event()

    async def next_certificate(self) -> None:
        """Wait until the TLS certificate has been renewed."""
        await self._renewed.wait()

    async def keep(self) -> None:
        """Renew in time, for as long as the program runs; what fails is tried again, and said.

        Raises:
            BrokenLogError: a log contradicts itself: nothing more is done with this exchange.
        """
        while True:
            try:
                if is_due(self._session):
                    await self._session.sync()
                    if await renew_if_due(self._session):
                        self.tell("keys renewed")
            except BrokenLogError:
                raise
            except (ExchangeError, HomeError, CoreError) as error:
                self.warn_of("keys cannot be renewed now", str(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def watch(self) -> None:
        """Look every second whether a key was renewed in the home: by this program, or by another."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            stamp = Stamp.of(self._session.home)
            if stamp != self._stamp:
                await self._go_over(stamp)

    def tell(self, event: str) -> None:
        """Say in the program's log what came off."""
        logger.info(event)

    def warn_of(self, event: str, reason: str) -> None:
        """Say there what did not, and why."""
        logger.warning("%s: %s", event, reason)

    async def _go_over(self, stamp: Stamp) -> None:
        try:
            await self._session.use_new_keys()
        except (HomeError, grpc.RpcError) as error:
            # Between the two steps of a renewal; or somebody put something there that does not fit. Said once.
            if stamp != self._unusable:
                self.warn_of("the keys in the home cannot be used; the old ones stay in use", str(error))
            self._unusable = stamp
            return
        before, self._stamp = self._stamp, stamp
        if before.certificate != stamp.certificate:
            self.tell("certificate replaced")
            renewed, self._renewed = self._renewed, asyncio.Event()
            renewed.set()
