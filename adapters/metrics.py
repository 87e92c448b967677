"""What an adapter tells whoever watches over it; nothing of it names a party, a request or a person."""

import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from adapters.answering import Answerer
from adapters.ledger import Ledger, LedgerError
from adapters.orders import Orders
from adapters.tunnel import Tunnel
from exchange.client.errors import ExchangeError
from exchange.client.receipt_file import FILE as RECEIPTS
from exchange.client.receipt_file import ReceiptFile
from exchange.client.receipts import WITHIN
from exchange.client.session import Session
from exchange.client.storage import DIRECTORY
from exchange.core.access import code_name
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope
from exchange.metrics.expiry import expiries
from exchange.metrics.gauges import COMMON, SECONDS, Gauge, Sample, build_version, new_registry
from exchange.metrics.serving import Pages, sampled, serving
from exchange.v1.access_pb2 import Code

DAYS, DAY = 7, 24 * 3600 * 1000

TABLE: Mapping[str, Gauge] = {
    **COMMON,
    "exchange_adapter_brokers": Gauge("Brokers in trust.toml."),
    "exchange_adapter_attached_brokers": Gauge("Brokers that requests come through now."),
    "exchange_adapter_owed_receipts": Gauge("Answers of the ledger that no entry settles yet."),
    "exchange_adapter_owed_seconds": Gauge("Age of the first answer that no entry settles yet; 0 without one."),
    "exchange_adapter_offered_answers": Gauge("Unsettled answers that were offered to brokers, and wait for them."),
    "exchange_adapter_late_receipts": Gauge("Receipts that witnesses did not cosign in time."),
    "exchange_adapter_waiting_orders": Gauge("Revocations that the directory lacks still."),
    "exchange_adapter_stopped_datasets": Gauge("Datasets that `exchange-adapter stop` holds."),
    "exchange_adapter_ledger_answers": Gauge("Answers of the ledger."),
    "exchange_adapter_ledger_bytes": Gauge("Bytes that the ledger takes."),
}

logger = structlog.get_logger("exchange.adapter")


@dataclass(frozen=True, slots=True)
class Watched:
    """What the figures are read from."""

    session: Session
    ledger: Ledger
    orders: Orders
    tunnels: Callable[[], Iterable[Tunnel]]


@dataclass(frozen=True, slots=True)
class _Sampled:
    """What was looked at half a minute ago: bytes of the ledger, its growth and the disk; receipts; expiry."""

    size: int = 0
    bytes_a_day: float = 0.0
    free: int = 0
    late: int = 0
    until: Mapping[str, int] | None = None


class Meter:
    """One adapter's figures.

    Args:
        watched: the adapter's parts.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._sampled: _Sampled | None = None
        self.registry = new_registry(TABLE, self._read)
        self._answers = Counter("exchange_adapter_answers_total", "Requests answered.", registry=self.registry)
        self._refusals = Counter(
            "exchange_adapter_refusals_total", "Requests refused here.", ["code"], registry=self.registry
        )
        self._seconds = Histogram(
            "exchange_adapter_answer_seconds",
            "From a delivery to its answer, committed.",
            registry=self.registry,
            buckets=SECONDS,
        )
        # A rate needs a first value.
        for code in (code for code in Code.values() if code):
            self._refusals.labels(code_name(code))

    def answered(self, seconds: float) -> None:
        """Count an answer, and the seconds that it took."""
        self._answers.inc()
        self._seconds.observe(seconds)

    def refused(self, code: "Code.ValueType") -> None:
        """Count a refusal."""
        self._refusals.labels(code_name(code)).inc()

    def missing(self) -> Sequence[str]:
        """Why no requests are answered now; nothing where they are."""
        session, reasons = self._watched.session, []
        try:
            session.check()
        except ExchangeError as error:
            reasons.append(str(error))
        if not self._attached:
            reasons.append("no broker is attached")
        if session.cosignatures.is_stale:
            reasons.append("no quorum of witnesses has cosigned the directory lately")
        return reasons

    def sample(self) -> None:
        """Look at ledger, disk, receipts and keys; blocks."""
        watched, now = self._watched, self._watched.session.clock()
        home = watched.session.home
        try:
            sizes = [path.stat().st_size for path in home.path.glob("ledger.db*")]
            late = ReceiptFile(home.path / RECEIPTS).count_waiting(now - int(WITHIN * 1000))[1]
            self._sampled = _Sampled(
                sum(sizes),
                self._bytes_a_day(sum(sizes), now),
                shutil.disk_usage(home.path).free,
                late,
                expiries(home, watched.session.directory),
            )
        except (OSError, LedgerError, ExchangeError) as error:
            logger.warning("ledger, disk or receipts cannot be looked at", reason=str(error))

    def _bytes_a_day(self, size: int, now: int) -> float:
        ledger = self._watched.ledger
        count = ledger.head.number
        return ledger.since(now - DAYS * DAY) / DAYS * size / count if count else 0.0

    @property
    def _attached(self) -> int:
        return len({tunnel.address for tunnel in self._watched.tunnels() if tunnel.is_ready})

    def _read(self) -> Iterator[Sample]:
        session, ledger = self._watched.session, self._watched.ledger
        now, oldest = session.clock(), ledger.oldest_owed
        yield Sample("exchange_build_info", 1, (build_version(), "adapter"))
        yield Sample("exchange_directory_entries", session.directory.size)
        if (seen := self._seen()) is not None:
            yield Sample("exchange_directory_checkpoint_age_seconds", (now - seen) / 1000)
        yield Sample("exchange_adapter_brokers", len(session.trust.brokers))
        yield Sample("exchange_adapter_attached_brokers", self._attached)
        yield Sample("exchange_adapter_owed_receipts", ledger.owed_count)
        yield Sample("exchange_adapter_owed_seconds", (now - oldest) / 1000 if oldest is not None else 0)
        offered = sum(tunnel.offered for tunnel in self._watched.tunnels())
        yield Sample("exchange_adapter_offered_answers", offered)
        yield Sample("exchange_adapter_waiting_orders", len(self._watched.orders.to_send()))
        yield Sample("exchange_adapter_stopped_datasets", len(self._watched.orders.stopped))
        yield Sample("exchange_adapter_ledger_answers", ledger.head.number)
        yield from self._looked_at(now)

    def _looked_at(self, now: int) -> Iterator[Sample]:
        sampled = self._sampled
        if sampled is None:
            return
        yield Sample("exchange_adapter_ledger_bytes", sampled.size)
        yield Sample("exchange_disk_bytes_per_day", sampled.bytes_a_day)
        yield Sample("exchange_disk_free_bytes", sampled.free)
        yield Sample("exchange_adapter_late_receipts", sampled.late)
        for what, until in (sampled.until or {}).items():
            yield Sample("exchange_expiry_seconds", (until - now) / 1000, (what,))

    def _seen(self) -> int | None:
        """When the directory was last known to be what it is, milliseconds."""
        session = self._watched.session
        if not session.cosignatures.needed:
            return session.synced_at
        cosigned = session.cosignatures.of(DIRECTORY)
        return cosigned.time * 1000 if cosigned is not None and cosigned.time is not None else None


class MeasuredAnswerer(Answerer):
    """An answerer whose answers and refusals are counted.

    Args:
        meter: counts them; parts: as `Answerer` takes them.
    """

    def __init__(self, meter: Meter, *parts: Any) -> None:
        super().__init__(*parts)
        self._meter = meter

    async def answer(self, frame: bytes) -> tuple[Envelope, bytes]:
        """See `Answerer.answer`."""
        began = time.monotonic()
        answered = await super().answer(frame)
        self._meter.answered(time.monotonic() - began)
        return answered

    def refusal(self, deny: Deny, request_digest: bytes) -> Envelope:
        """See `Answerer.refusal`."""
        self._meter.refused(deny.code)
        return super().refusal(deny, request_digest)


@asynccontextmanager
async def watched_over(meter: Meter, address: str) -> AsyncIterator[None]:
    """Serve an adapter's figures as long as the block runs; nothing where the address is empty.

    Raises:
        ListenError: another program listens there.
    """
    async with serving(address, Pages(meter.registry, meter.missing)), sampled(meter.sample, address):
        yield
