"""The provider's ledger: every answer, hash-chained and on disk before it is sent (DESIGN sections 2, 5 and 6).

Row n's chain hash is SHA-256(chain hash of row n - 1 || row n), from 32 zero bytes. Envelopes stand beside the
chain, which binds their digests; sealed answers stand outside it, so that they can be erased. What a chain cannot
show is a removed tail: the anchor beside the file does, and the access log, since every response names its number.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock, RLock

from adapters.anchor import Anchor, check_not_restored
from adapters.ledger_file import (
    BUSY,
    ERASE,
    HEAD,
    MARGIN,
    OTHER,
    PAGE,
    TAIL,
    connect,
    failures,
    hold,
    store_settlement,
)
from adapters.ledger_reading import LedgerReader
from adapters.ledger_rows import (
    LedgerAnswer,
    LedgerBusyError,
    LedgerError,
    LedgerFatalError,
    LedgerHead,
    Settlement,
    Stored,
    Told,
    checked_row,
    indexed,
    subjects_of,
)
from adapters.ledger_uses import AGREEMENTS, Use, count_uses
from exchange.v1.ledger_pb2 import LedgerRow


class Ledger(LedgerReader):
    """The ledger of the running adapter: the one writer of its file.

    A batch is one transaction. What a method has written is durable when it returns, power cuts included. Any thread
    may call: writes take turns, and no read waits for one. Not promised: that a batch is absent because
    its commit raised; `head` and `find` tell. After a write's LedgerFatalError every write raises one.
    """

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Takes the ledger for writing; a missing file is made, for its owner's eyes alone.

        Raises:
            AnchorError: the file is missing or older than its anchor, or another one.
            HomeError: the anchor cannot be written.
            LedgerBusyError: another process holds it.
            LedgerError: one of the last 1,000 rows does not verify, or the file is no ledger of this format.
            LedgerFatalError: the file cannot be opened or written.
        """
        return cls(path)

    @staticmethod
    def read(path: Path) -> LedgerReader:
        """Opens an existing ledger for reading, whether its adapter runs or not.

        Raises:
            AnchorError: the file is missing or older than its anchor, or another one.
            LedgerError: the file is no ledger of this format.
            LedgerFatalError: the file cannot be opened.
        """
        return LedgerReader(path)

    def __init__(self, path: Path) -> None:
        self._writing = RLock()
        self._placing = Lock()
        self._fatal: LedgerFatalError | None = None
        self._head = LedgerHead()
        self._owed: dict[int, int] = {}  # number to time, in order; replaced, never changed: any thread may look
        self._agreements: dict[bytes, None] = {}
        with ExitStack() as closing, failures():
            hold(path, closing)
            # A lost ledger must not be replaced by an empty one.
            Anchor(path).seen()
            check_not_restored(path)
            path.touch(mode=0o600)
            self._writes = connect(path, "rw", closing)
            super().__init__(path)
            closing.callback(self._closing.close)
            # A failed fsync may have left rows in the page cache alone: a checkpoint writes and syncs them anew.
            self._checkpoint()
            self._reload()
            self._agreements = dict.fromkeys(found for (found,) in self._writes.execute(AGREEMENTS).fetchall())
            self._verify(max(0, self._head.number - TAIL))
            self.place_anchor()
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Places the anchor and lets go of the file, once a write or read under way is done; again does nothing.

        Raises:
            HomeError: the anchor cannot be written; the file is let go all the same.
        """
        with self._writing:
            try:
                self.place_anchor()
            finally:
                super().close()

    def place_anchor(self) -> None:
        """Writes the head to the anchor beside the file; no commit waits for it.

        Raises:
            HomeError: it cannot be written.
        """
        with self._placing:
            head = self._head
            # In this order: what is read back after a failed write may not be durable.
            if self._fatal is None:
                self._anchor.place(head)

    @property
    def head(self) -> LedgerHead:
        """The last committed row, from memory."""
        return self._head

    @property
    def owed_count(self) -> int:
        """How many answers nothing settles yet, from memory."""
        return len(self._owed)

    @property
    def oldest_owed(self) -> int | None:
        """The time of the first answer that nothing settles yet, milliseconds, from memory."""
        return next(iter(self._owed.values()), None)

    def agreements(self, after: int) -> Sequence[bytes]:
        """The message digests of agreements that were ever used, but for the first so many; from memory.

        What a failed commit was to use is among them. They keep their places, and new ones follow at the end.
        """
        known = self._agreements
        return () if len(known) <= after else tuple(known)[after:]

    def commit(self, answers: Sequence[LedgerAnswer]) -> None:
        """Appends a batch, all of it or nothing; durable on return.

        Args:
            answers: any number, numbered and chained from `head` on.

        Raises:
            LedgerError: one does not continue the head or contradicts its envelopes, or its request has an answer.
            LedgerFatalError: the disk failed; whether the batch is durable is unknown.
        """
        with self._writing:
            head, rows, chained = self._head, list[LedgerRow](), list[tuple[object, ...]]()
            for answer in answers:
                rows.append(checked_row(head, answer.row, answer.request, answer.response, strict=False))
                head = head.after(answer.row)
                chained.append((*indexed(rows[-1]), answer.row, head.chain, answer.request, answer.response))
            numbered = [(row.number, answer) for row, answer in zip(rows, answers, strict=True)]
            uses = [
                Use.of(row.number, row.time, row.requester, answer.request)
                for row, answer in zip(rows, answers, strict=True)
            ]
            # Before the commit: one that fails may be durable all the same. Replaced, never changed, as above.
            used = {use.agreement for use in uses}
            if not used <= self._agreements.keys():
                self._agreements = self._agreements | dict.fromkeys(used)
            with self._transaction() as db:
                db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", chained)
                subjects = ((row.number, subject) for row in rows for subject in subjects_of(row))
                db.executemany("INSERT INTO subjects VALUES (?, ?)", subjects)
                db.executemany("INSERT INTO sealed VALUES (?, ?)", ((n, one.sealed) for n, one in numbered))
                db.executemany("INSERT INTO kept VALUES (?, ?)", ((n, one.erase_after) for n, one in numbered))
                db.executemany("INSERT INTO owed VALUES (?)", ((row.number,) for row in rows))
                count_uses(db, uses)
            self._head, self._owed = head, self._owed | {row.number: row.time for row in rows}

    def settle(self, response_digest: bytes, kind: int, code: int, index: int, receipt: bytes) -> None:
        """Records one entry, as `settle_all` does."""
        self.settle_all((Settlement(response_digest, kind, code, index, receipt),))

    def settle_all(self, settlements: Sequence[Settlement]) -> None:
        """Records entries of the access log, all or none; durable on return. A known one stays as it is.

        Args:
            settlements: any number; the caller has verified the proofs in their receipts.

        Raises:
            LedgerError: no such answer, a receipt of another entry, or another entry under a known index.
            LedgerFatalError: the disk failed.
        """
        with self._writing:
            with self._transaction() as db:
                settled = {store_settlement(db, settlement) for settlement in settlements}
            self._owed = {number: time for number, time in self._owed.items() if number not in settled}

    def erase_sealed(self, now: int) -> int:
        """Erases the sealed answers whose time has come, and says how many.

        Their bytes are gone from the ledger's files on return or, if another process reads just then, after a later
        call. Copies that the file system or a backup keeps are out of reach.

        Args:
            now: milliseconds.

        Raises:
            LedgerFatalError: the disk failed.
        """
        with self._writing:
            with self._transaction() as db:
                erased, *_ = [db.execute(step, {"now": now, "margin": MARGIN}).rowcount for step in ERASE]
            if erased or self._erased_in_wal:
                with self._recovery():
                    self._checkpoint()
            return erased

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._recovery():
            self._writes.execute("BEGIN IMMEDIATE")
            yield self._writes
            # The commit point: before it nothing has happened, after it everything is on disk (WAL, FULL).
            self._writes.execute("COMMIT")

    @contextmanager
    def _recovery(self) -> Iterator[None]:
        """After a failure nothing is taken for granted: what the file holds is read again."""
        if self._fatal:
            raise LedgerFatalError(f"the ledger has stopped: {self._fatal}")
        try:
            with failures():
                yield
        except BaseException as error:
            self._recover(error)
            raise

    def _recover(self, error: BaseException) -> None:
        if isinstance(error, LedgerFatalError):
            self._fatal = error
        try:
            if self._writes.in_transaction:
                self._writes.execute("ROLLBACK")
            self._reload()
        except sqlite3.Error as second:
            self._fatal = LedgerFatalError(f"{error}; then {second}; {OTHER}")
            raise self._fatal from error

    def _checkpoint(self) -> None:
        """Empties the WAL, unless a reader needs it: never waits, since answers wait for this thread."""
        self._writes.execute("PRAGMA busy_timeout = 0")
        [(blocked, _, _)] = self._writes.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._writes.execute(f"PRAGMA busy_timeout = {BUSY}")
        self._erased_in_wal = bool(blocked)

    def _reload(self) -> None:
        owed = "SELECT number, time FROM owed JOIN answers USING (number) ORDER BY number"
        self._owed = dict(self._writes.execute(owed).fetchall())
        self._head = LedgerHead(*(self._writes.execute(HEAD).fetchone() or ()))


__all__ = [
    "PAGE",
    "Ledger",
    "LedgerAnswer",
    "LedgerBusyError",
    "LedgerError",
    "LedgerFatalError",
    "LedgerHead",
    "LedgerReader",
    "Settlement",
    "Stored",
    "Told",
]
