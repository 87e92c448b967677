"""The adapter host: one process beside a department's database (DESIGN section 10)."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import structlog

from adapters.attachment import Attachment
from adapters.committing import Committer
from adapters.config import AdapterConfig
from adapters.ledger import Ledger, LedgerFatalError
from adapters.metrics import MeasuredAnswerer, Meter, Watched, watched_over
from adapters.orders import Orders
from adapters.renewals import Renewals
from adapters.sealing_keys import SealingKeys
from adapters.settling import Settler
from adapters.sources import Sources
from adapters.tunnel import Tunnel
from exchange.client.errors import BrokenLogError, ExchangeError, RefusedError
from exchange.client.session import Session
from exchange.core.envelope import decode_envelope
from exchange.core.errors import CoreError
from exchange.home import Home

LEDGER = "ledger.db"
ORDERS = "orders.db"
UPKEEP_SECONDS = 600
ERASE_SECONDS = 10
ANCHOR_SECONDS = 0.5
ORDERS_SECONDS = 1
FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0
DRAIN_SECONDS = 10

logger = structlog.get_logger("exchange.adapter")


class Host:
    """Answers requests for one system until it is stopped.

    Args:
        session: the system's open home.
        config: which table of which source holds each dataset.
        ledger, orders: opened.
    """

    def __init__(self, session: Session, config: AdapterConfig, ledger: Ledger, orders: Orders) -> None:
        self._session = session
        self._config = config
        self._ledger = ledger
        self._orders = orders
        self._sources = Sources(config)
        self._committer = Committer(session, ledger, session.clock)
        self._settler = Settler(session, ledger)
        self._renewals = Renewals(session)
        self._attachments: dict[str, Attachment] = {}
        self._meter = Meter(Watched(session, ledger, orders, self._tunnels))
        parts = (session, self._sources, ledger, self._committer, orders, session.clock)
        self._answerer = MeasuredAnswerer(self._meter, *parts)
        self._sealing_keys = SealingKeys(session, self._answerer.reload_keys)

    async def run(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGTERM or SIGINT, then finish what was delivered.

        Args:
            ready: called with a broker's address whenever requests may come through it.

        Raises:
            BrokenLogError: a log contradicts itself: nothing more is answered.
            LedgerFatalError: the disk failed: nothing more is answered.
            HomeError: the ledger's anchor cannot be written: nothing more is answered.
            ListenError: another program listens where the metrics are to be.
        """
        async with watched_over(self._meter, self._config.adapter.metrics):
            await self._serve(ready)

    async def _serve(self, ready: Callable[[str], None]) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        work = [asyncio.create_task(self._attach(broker, ready)) for broker in self._session.trust.brokers]
        upkeep = (self._keep_keys(), self._send_orders(), self._erase(), self._keep_anchor())
        renewals = (self._renewals.keep(), self._renewals.watch(), self._renewals.warn())
        work += [asyncio.create_task(task) for task in (*upkeep, *renewals)]
        look = asyncio.create_task(self._look())
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait((*work, stopped), return_when=asyncio.FIRST_COMPLETED)
        await self._close([*work, look])
        for task in done:
            task.result()

    async def _close(self, work: "list[asyncio.Task[None]]") -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(*(tunnel.drain() for tunnel in self._tunnels()))
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await self._committer.close()
        await self._settler.close()
        await self._sources.close()

    async def _look(self) -> None:
        """Say what this adapter cannot answer, before somebody asks for it."""
        try:
            await self._session.sync()
        except ExchangeError as error:
            logger.warning("what is published is judged by the mirror alone", reason=str(error))
        party, directory = self._session.party, self._session.directory
        for code in self._config.datasets:
            problems = await asyncio.to_thread(self._sources.problems, party, directory, code)
            problems += self._sources.unenforced(party, directory, code, self._session.clock())
            for problem in problems:
                logger.warning("a dataset cannot be answered", dataset=code, problem=problem)

    async def _attach(self, broker: str, ready: Callable[[str], None]) -> None:
        """Keep a tunnel to one broker; wait longer after each failure, never the same for two adapters."""
        waits = _waits()
        while True:
            new_tunnel = partial(self._new_tunnel, broker, ready)
            attachment = Attachment(new_tunnel, self._renewals.next_certificate)
            self._attachments[broker] = attachment
            try:
                await self._sealing_keys.ensure()
                self._answerer.reload_keys()
                await attachment.run()
                reason = "it ended the tunnel"
            except (BrokenLogError, LedgerFatalError):
                raise
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except (ExchangeError, CoreError) as error:
                reason = str(error)
            if attachment.tunnel.is_leaving:
                return
            if attachment.tunnel.was_ready:
                waits = _waits()
            wait = next(waits)
            logger.warning("not attached", broker=broker, reason=reason, retry_in=round(wait, 1))
            await asyncio.sleep(wait)

    def _new_tunnel(self, broker: str, ready: Callable[[str], None]) -> Tunnel:
        def elsewhere(response_digest: bytes) -> bool:
            return any(other is not tunnel and other.is_owed(response_digest) for other in self._tunnels())

        tunnel = Tunnel(broker, self._session, self._answerer, self._settler, self._ledger, ready, elsewhere)
        return tunnel

    def _tunnels(self) -> tuple[Tunnel, ...]:
        return tuple(tunnel for attachment in self._attachments.values() for tunnel in attachment.tunnels)

    async def _keep_keys(self) -> None:
        """A fresh sealing key before the old one ends; old ones are destroyed."""
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            try:
                await self._sealing_keys.ensure()
                self._answerer.reload_keys()
            except BrokenLogError:
                raise
            except ExchangeError as error:
                logger.warning("the sealing key cannot be renewed now", reason=str(error))

    async def _send_orders(self) -> None:
        """Append the department's local revocations to the directory as soon as a broker takes them."""
        while True:
            for agreement, envelope in self._orders.to_send():
                await self._send_order(agreement, envelope)
            await asyncio.sleep(LONGEST_WAIT if self._orders.to_send() else ORDERS_SECONDS)

    async def _send_order(self, agreement: bytes, envelope: bytes) -> None:
        try:
            appended = await self._session.append(decode_envelope(envelope))
            logger.info("revocation entered", agreement=agreement.hex()[:16], entry=appended.index)
        except BrokenLogError:
            raise
        except RefusedError as error:
            logger.warning("revocation refused", agreement=agreement.hex()[:16], reason=str(error))
            # A log that cannot be written just now refuses too: only an agreement that has ended needs no entry.
            if await self._stands(agreement):
                return
        except ExchangeError:
            return
        self._orders.sent(agreement, self._session.clock())

    async def _stands(self, agreement: bytes) -> bool:
        """Whether the directory still holds an agreement, as far as anybody can tell."""
        try:
            directory = await self._session.sync()
        except BrokenLogError:
            raise
        except ExchangeError:
            return True
        terms = directory.terms.agreements.get(agreement)
        return terms is not None and directory.stands(terms)

    async def _erase(self) -> None:
        """Erase sealed answers that wait for no retry any more."""
        while True:
            await asyncio.to_thread(self._ledger.erase_sealed, self._session.clock())
            await asyncio.sleep(ERASE_SECONDS)

    async def _keep_anchor(self) -> None:
        """Keep the ledger's anchor less than a second behind."""
        while True:
            await asyncio.to_thread(self._ledger.place_anchor)
            await asyncio.sleep(ANCHOR_SECONDS)


async def run(home: Home, config: AdapterConfig, ready: Callable[[str], None]) -> None:
    """Run the adapter of a home until it is stopped.

    Raises:
        AnchorError: the ledger or the orders are not those that were here before.
        HomeError, LedgerError, OrdersError: something in the home cannot be used.
        ExchangeError: nothing can be answered any more.
    """
    ledger = Ledger.open(home.path / LEDGER)
    try:
        orders = Orders.open(home.path / ORDERS)
        try:
            async with Session(home, alarm=_alarm, max_age=config.adapter.max_directory_age) as session:
                await Host(session, config, ledger, orders).run(ready)
        finally:
            orders.close()
    finally:
        ledger.close()


def _alarm(index: int, reason: str) -> None:
    logger.error("ALARM: a receipt is not cosigned in time", entry=index, reason=reason)


def ledger_path(home: Home) -> Path:
    """Where the ledger of a home is."""
    return home.path / LEDGER


def _waits() -> Iterator[float]:
    wait = FIRST_WAIT
    while True:
        yield random.uniform(wait / 2, wait)  # noqa: S311 - spreads reconnections, guards nothing
        wait = min(wait * 2, LONGEST_WAIT)
