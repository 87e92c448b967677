"""What an adapter renews by itself, as every program at work does, and what it warns its operator of."""

import asyncio

import structlog

from exchange.client.keeping import KeyKeeper
from exchange.core.errors import CoreError
from exchange.core.expiry import expiring, pending_keys, said, said_pending, warnings
from exchange.core.lifetimes import WARNINGS
from exchange.home import HomeError
from exchange.succession import certificates_of

WARN_SECONDS = 24 * 3600

logger = structlog.get_logger("exchange.adapter")


class Renewals(KeyKeeper):
    """Renews a system's keys in time, and goes over to whatever the home holds, whoever renewed it.

    Args:
        session: the system's open home.
    """

    async def warn(self) -> None:
        """Say once a day in the log what expires, and which keys of anybody stand in public view."""
        while True:
            await asyncio.sleep(0)
            self._warn()
            await asyncio.sleep(WARN_SECONDS)

    def tell(self, event: str) -> None:
        """Say in the adapter's log what came off."""
        logger.info(event)

    def warn_of(self, event: str, reason: str) -> None:
        """Say there what did not, and why."""
        logger.warning(event, reason=reason)

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
