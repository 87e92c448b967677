"""What an adapter renews by itself: its TLS certificate, and its signing key under the old one (ADR 0012)."""

import asyncio

import grpc
import structlog

from exchange.client.errors import BrokenLogError, ExchangeError
from exchange.client.renewing import renew_if_due
from exchange.client.session import Session
from exchange.core.errors import CoreError
from exchange.core.expiry import expiring, pending_keys, said, said_pending, warnings
from exchange.core.lifetimes import WARNINGS
from exchange.home import HomeError
from exchange.succession import Stamp, certificates_of

RENEW_SECONDS = 3600
WATCH_SECONDS = 1
WARN_SECONDS = 24 * 3600

logger = structlog.get_logger("exchange.adapter")


class Renewals:
    """Renews a system's keys in time, and goes over to whatever the home holds, whoever renewed it.

    Args:
        session: the system's open home.
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
        """Renew in time, for as long as the adapter runs; what fails is tried again, and said.

        Raises:
            BrokenLogError: a log contradicts itself: nothing more is answered.
        """
        while True:
            try:
                await self._session.sync()
                if await renew_if_due(self._session):
                    logger.info("keys renewed")
            except BrokenLogError:
                raise
            except (ExchangeError, HomeError, CoreError) as error:
                logger.warning("keys cannot be renewed now", reason=str(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def watch(self) -> None:
        """Look every second whether a key was renewed in the home: by this program, or by a command."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            stamp = Stamp.of(self._session.home)
            if stamp != self._stamp:
                await self._go_over(stamp)

    async def warn(self) -> None:
        """Say once a day in the log what expires, and which keys of anybody stand in public view."""
        while True:
            await asyncio.sleep(0)
            self._warn()
            await asyncio.sleep(WARN_SECONDS)

    async def _go_over(self, stamp: Stamp) -> None:
        try:
            await self._session.use_new_keys()
        except (HomeError, grpc.RpcError) as error:
            # Between the two steps of a renewal; or somebody put something there that does not fit. Said once.
            if stamp != self._unusable:
                logger.warning("the keys in the home cannot be used; the old ones stay in use", reason=str(error))
            self._unusable = stamp
            return
        before, self._stamp = self._stamp, stamp
        if before.certificate != stamp.certificate:
            logger.info("certificate replaced")
            renewed, self._renewed = self._renewed, asyncio.Event()
            renewed.set()

    def _warn(self) -> None:
        session, now = self._session, self._session.clock()
        try:
            certificates = certificates_of(session.home)
        except (HomeError, CoreError) as error:
            certificates = ()
            logger.warning("when the certificates end is not known", reason=str(error))
        found = expiring(session.directory, [session.party], certificates, now, WARNINGS[0])
        for days, item in warnings(found, now):
            logger.warning("expires", **said(days, item))
        for record in pending_keys(session.directory.state, now):
            logger.warning("a key stands in public view", **said_pending(record))
