"""One broker, and the tunnel to it: another one takes its place, ready first, whenever the certificate was renewed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import grpc
import structlog

from adapters.ledger import LedgerFatalError
from adapters.tunnel import Tunnel
from exchange.client.errors import BrokenLogError, ExchangeError
from exchange.core.errors import CoreError
from exchange.home import HomeError

LEAVE_SECONDS = 30

logger = structlog.get_logger("exchange.adapter")


class Attachment:
    """Serves one broker until its tunnel ends.

    Args:
        new_tunnel: makes one, which shows the certificate that the home holds then.
        renewed: returns once the certificate has been renewed.
    """

    def __init__(self, new_tunnel: Callable[[], Tunnel], renewed: Callable[[], Awaitable[None]]) -> None:
        self._new_tunnel = new_tunnel
        self._renewed = renewed
        self.tunnel = new_tunnel()
        self._running: asyncio.Task[None] | None = None
        self._old: dict[Tunnel, asyncio.Task[None]] = {}

    @property
    def tunnels(self) -> tuple[Tunnel, ...]:
        """The one that takes requests, and those that finish what they were given."""
        return (self.tunnel, *self._old)

    async def run(self) -> None:
        """Serve until the tunnel ends by itself.

        Raises: as `Tunnel.run`.
        """
        self._running = asyncio.create_task(self.tunnel.run())
        try:
            while not self._running.done():
                renewed = asyncio.ensure_future(self._renewed())
                try:
                    await asyncio.wait((self._running, renewed), return_when=asyncio.FIRST_COMPLETED)
                    if renewed.done() and not self._running.done() and not self.tunnel.is_leaving:
                        await self._take_over(self._running)
                finally:
                    renewed.cancel()
            self._running.result()
        finally:
            await self._end(self._running, *self._old.values())

    async def _take_over(self, running: "asyncio.Task[None]") -> None:
        """Attach anew with the renewed certificate; only once that tunnel is ready does the old one end."""
        following = self._new_tunnel()
        task = asyncio.create_task(following.run())
        ready = asyncio.create_task(following.attached.wait())
        try:
            await asyncio.wait((running, task, ready), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(task)
            raise
        finally:
            ready.cancel()
        if task.done():
            self._explain(task)
            return
        old, self.tunnel, self._running = self.tunnel, following, task
        leaving = asyncio.create_task(self._leave(old, running))
        self._old[old] = leaving
        leaving.add_done_callback(lambda _: self._old.pop(old, None))

    async def _leave(self, tunnel: Tunnel, running: "asyncio.Task[None]") -> None:
        try:
            # What it leaves unsettled, the new tunnel offers; a broken log or disk stops that one too.
            with contextlib.suppress(TimeoutError, grpc.RpcError, ExchangeError, asyncio.InvalidStateError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await tunnel.leave()
        finally:
            await self._end(running)
        logger.info("the tunnel of the old certificate has ended")

    async def _end(self, *tasks: "asyncio.Task[None]") -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _explain(self, task: "asyncio.Task[None]") -> None:
        """The renewed certificate did not attach: the old tunnel goes on, and whatever is wrong is said.

        Raises:
            BrokenLogError, LedgerFatalError: nothing more is answered.
        """
        try:
            task.result()
            reason = "the broker ended the tunnel"
        except (BrokenLogError, LedgerFatalError):
            raise
        except grpc.aio.AioRpcError as error:
            reason = error.details() or error.code().name
        except (ExchangeError, HomeError, CoreError) as error:
            reason = str(error)
        logger.warning("the renewed certificate is not in use: the old tunnel goes on", reason=reason)
