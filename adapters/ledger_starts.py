"""The file of a ledger that has lost answers for good: a declaration is written to it, and the adapter may go on."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapters.anchor import Anchor, AnchorError, clear_restored
from adapters.ledger_breaks import read_start
from adapters.ledger_file import HEAD, connect, failures, hold
from adapters.ledger_rows import LedgerError, LedgerHead
from adapters.ledger_uses import Use, count_uses
from exchange.core.envelope import Envelope


class LostLedger:
    """A ledger file that its adapter may not go on with; no adapter can open it meanwhile.

    Args:
        path: the file; one is made where it is gone.
        db: the file, open for writing.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db

    @classmethod
    @contextmanager
    def held(cls, path: Path) -> "Iterator[LostLedger]":
        """Take the file for writing, whatever its anchor says.

        Raises:
            LedgerBusyError: the adapter runs.
            LedgerError, LedgerFatalError: the file is no ledger, or cannot be written.
        """
        with ExitStack() as closing, failures():
            hold(path, closing)
            path.touch(mode=0o600)
            yield cls(path, connect(path, "rw", closing))

    @property
    def head(self) -> LedgerHead:
        """The last row that is left."""
        return LedgerHead(*(self._db.execute(HEAD).fetchone() or ()))

    @property
    def anchored(self) -> int:
        """The last number that the anchor has seen; 0 where it says nothing."""
        try:
            return Anchor(self._path).seen().number
        except AnchorError:
            return 0

    def begin_anew(self, envelope: Envelope, uses: Sequence[Use] = ()) -> LedgerHead:
        """Write the declaration, durable on return, and the anchor after it.

        Args:
            envelope: the declaration.
            uses: of the answers that it declares lost, as far as the log has them: they count as used.

        Raises:
            LedgerError: it does not follow what is left.
            HomeError: the anchor cannot be written.
        """
        data = envelope.encode()
        start = read_start(data)
        if start.before != self.head:
            raise LedgerError("the declaration does not follow the ledger's last row")
        if not all(start.before.number < use.number <= start.head.number for use in uses):
            raise LedgerError("what is to be counted is not among the answers that are declared lost")
        values = (start.head.number, start.head.chain, data)
        with failures():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT INTO starts VALUES (?, ?, ?)", values)
            count_uses(self._db, uses)
            self._db.execute("COMMIT")
        self.clear()
        return start.head

    def clear(self) -> None:
        """Let the adapter go on: the anchor says what the file has.

        Raises:
            HomeError: the anchor cannot be written.
        """
        Anchor(self._path).place(self.head)
        clear_restored(self._path)
