"""The department's own orders to its adapter, which take effect at once, broker up or down (DESIGN sections 2 and 10).

A command in another process gives the order; the running adapter sees it at its very next decision. Two processes
write this file, so it is kept apart from the ledger and without a write-ahead log: SQLite up to 3.51.2 can corrupt one
that two connections write. Every order stays, with its time: what is in force is folded from all of them. Beside it
stands an anchor, so that a file that was lost is never taken for one without orders.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import RLock
from types import MappingProxyType
from typing import Any

from adapters.anchor import Anchor, Head
from exchange.home import HomeError

FORMAT = 1
BUSY = 5_000  # milliseconds to wait for another process's commit
DIGEST = 32

SCHEMA = (
    """CREATE TABLE orders (number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, kind TEXT NOT NULL,
        dataset TEXT NOT NULL, agreement BLOB NOT NULL, reason TEXT NOT NULL, envelope BLOB NOT NULL) STRICT""",
    f"PRAGMA user_version = {FORMAT}",
)
INSERT = "INSERT INTO orders (time, kind, dataset, agreement, reason, envelope) VALUES (?, ?, ?, ?, ?, ?)"
SELECT = "SELECT time, kind, dataset, agreement, reason, envelope FROM orders ORDER BY number"


class OrdersError(Exception):
    """The orders cannot be read or kept: the command must fail, and the adapter must answer nothing."""


class OrderKind(StrEnum):
    """What was ordered, and the note that a revocation has reached the directory."""

    STOP = "stop"
    RESUME = "resume"
    REVOKE = "revoke"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it was given.

    Args:
        time: milliseconds.
        dataset: code of the dataset to stop or resume, else empty.
        agreement: message digest of the agreement revoked, 32 bytes, else empty.
        reason: for people.
        envelope: the signed revocation to send, else empty.
    """

    time: int
    kind: OrderKind
    dataset: str = ""
    agreement: bytes = b""
    reason: str = ""
    envelope: bytes = b""


@dataclass(frozen=True, slots=True)
class _InForce:
    """What all orders come to; `unsent` maps an agreement to the newest revocation given for it."""

    orders: tuple[Order, ...]
    stopped: Mapping[str, Order]
    revoked: frozenset[bytes]
    unsent: Mapping[bytes, bytes]


class Orders:
    """The orders of one adapter's department, in one file that any number of processes may open.

    An order is durable, power cuts included, and in force in every process when its method returns. A read costs one
    look at the file's change counter, and waits while another process commits. Any thread may call. Every method
    raises OrdersError when the file fails, was replaced, or stays locked for 5 s.
    """

    @classmethod
    def open(cls, path: Path) -> "Orders":
        """Opens the orders; on the first run the file and its anchor are made, for their owner's eyes alone.

        Raises:
            AnchorError: the file is missing or older than its anchor, or another one.
            OrdersError: the file cannot be opened, or holds something else.
        """
        return cls(path, make=True)

    @classmethod
    def read(cls, path: Path) -> "Orders":
        """Opens orders that are there, to look at them, and makes nothing.

        Raises:
            AnchorError, OrdersError: as `open`.
        """
        return cls(path, make=False)

    def __init__(self, path: Path, *, make: bool) -> None:
        self._path = path
        self._lock = RLock()
        self._version: int | None = None  # of the file that `_in_force` was folded from
        self._anchor = Anchor(path)
        # Before the orders: there may only be more of them by then.
        seen = self._anchor.seen()
        with ExitStack() as closing, self._guarded():
            if make:
                path.touch(mode=0o600)
            self._db = _connect(path, closing, make)
            self._file = _identity(path)
            orders = self._now().orders
            self._anchor.check(seen, len(orders), _head(orders[: seen.number]).chain)
            if make:
                self._place_anchor()
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Lets go of the file; a second call does nothing."""
        with self._lock:
            self._closing.close()

    def stop(self, dataset: str, reason: str, now: int) -> None:
        """Stops all answers from a dataset; durable on return.

        Args:
            dataset: its code.
            reason: for people.
            now: milliseconds.
        """
        self._give(Order(now, OrderKind.STOP, dataset=dataset, reason=reason))

    def resume(self, dataset: str, now: int) -> None:
        """Takes a stop back; durable on return. The code and `now`, milliseconds, are as for `stop`."""
        self._give(Order(now, OrderKind.RESUME, dataset=dataset))

    def revoke(self, agreement: bytes, envelope: bytes, reason: str, now: int) -> None:
        """Ends an agreement here and for good, and queues its revocation; durable on return.

        Args:
            agreement: its message digest, 32 bytes.
            envelope: the signed revocation for the directory; a later one replaces one that is still unsent.
            reason: for people.
            now: milliseconds.

        Raises:
            OrdersError: not a digest.
        """
        if len(agreement) != DIGEST:
            raise OrdersError(f"an agreement is named by its digest of {DIGEST} bytes")
        order = Order(now, OrderKind.REVOKE, agreement=agreement, envelope=envelope, reason=reason)
        self._give(order)

    def sent(self, agreement: bytes, now: int) -> None:
        """Notes that the directory holds an agreement's revocation (`now` in milliseconds); durable on return."""
        self._give(Order(now, OrderKind.SENT, agreement=agreement))

    @property
    def stopped(self) -> Mapping[str, Order]:
        """The datasets that are stopped, by code, each with its order."""
        return self._now().stopped

    @property
    def revoked(self) -> frozenset[bytes]:
        """The digests of all agreements ever revoked here."""
        return self._now().revoked

    def to_send(self) -> tuple[tuple[bytes, bytes], ...]:
        """The revocations that the directory lacks: agreement's digest and envelope, in the order given."""
        return tuple(self._now().unsent.items())

    def history(self) -> tuple[Order, ...]:
        """Every order ever given, in order."""
        return self._now().orders

    def _give(self, order: Order) -> None:
        values = (order.time, order.kind.value, order.dataset, order.agreement, order.reason, order.envelope)
        with self._guarded():
            self._check_file()
            self._version = None  # the counter moves for other connections' commits alone
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(INSERT, values)
            # The commit point. EXTRA syncs the folder too: else a power cut could bring the old journal back.
            self._db.execute("COMMIT")
        try:
            self._place_anchor()
        except OrdersError as error:
            raise OrdersError(f"the order is in force, but its anchor could not be written: {error}") from error

    def _place_anchor(self) -> None:
        """Takes turns with other processes: none of them may move the anchor back behind another one's order."""
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._anchor.place(_head(_orders(self._db.execute(SELECT).fetchall())))
            finally:
                self._db.execute("ROLLBACK")

    def _now(self) -> _InForce:
        with self._guarded():
            self._check_file()
            # Before the rows: an order that lands between the two is read again, never missed.
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                self._in_force = _fold(_orders(self._db.execute(SELECT).fetchall()))
                self._version = version
            return self._in_force

    def _check_file(self) -> None:
        """An unlinked file would hide every later order from this process, so it counts as no file at all."""
        if _identity(self._path) != self._file:
            raise OrdersError(f"{self._path} was replaced while in use: start the adapter again")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One thread at a time; what fails is undone and becomes an OrdersError."""
        with self._lock:
            try:
                yield
            except (sqlite3.Error, OSError, HomeError, OverflowError, ValueError) as error:
                with suppress(sqlite3.Error, AttributeError):
                    self._db.execute("ROLLBACK")
                raise OrdersError(f"{self._path}: {error}") from error


def _orders(rows: Sequence[Sequence[Any]]) -> tuple[Order, ...]:
    return tuple(Order(time, OrderKind(kind), *rest) for time, kind, *rest in rows)


def _head(orders: Sequence[Order]) -> Head:
    """How many orders there are, and a hash chain over them."""
    head = Head()
    for order in orders:
        bound = (order.time, order.kind, order.dataset, order.agreement.hex(), order.reason, order.envelope.hex())
        head = head.after(json.dumps(bound).encode())
    return head


def _fold(orders: tuple[Order, ...]) -> _InForce:
    """The one meaning of the orders: the last word on a dataset counts, a revocation has no way back."""
    stopped, unsent = dict[str, Order](), dict[bytes, bytes]()
    revoked, sent = set[bytes](), set[bytes]()
    for order in orders:
        if order.kind is OrderKind.STOP:
            stopped[order.dataset] = order
        elif order.kind is OrderKind.RESUME:
            stopped.pop(order.dataset, None)
        elif order.kind is OrderKind.SENT:
            sent |= {order.agreement} & revoked
        else:
            revoked.add(order.agreement)
            unsent[order.agreement] = order.envelope
    waiting = {agreement: envelope for agreement, envelope in unsent.items() if agreement not in sent}
    return _InForce(orders, MappingProxyType(stopped), frozenset(revoked), MappingProxyType(waiting))


def _connect(path: Path, closing: ExitStack, make: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY / 1000, isolation_level=None, check_same_thread=False)
    closing.callback(db.close)
    if db.execute("PRAGMA journal_mode = DELETE").fetchone() != ("delete",):
        raise OrdersError(f"{path} cannot keep a rollback journal")
    db.execute("PRAGMA synchronous = EXTRA")
    if make and not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        _create(db)
    if db.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        raise OrdersError(f"{path} holds no orders of format {FORMAT}: name another file")
    return db


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    # Another process may have been faster.
    if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        for statement in SCHEMA:
            db.execute(statement)
    db.execute("COMMIT")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
