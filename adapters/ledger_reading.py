"""A ledger as anybody of its home may read it, also while its adapter writes (DESIGN sections 2, 5 and 6)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

from adapters.anchor import Anchor
from adapters.ledger_breaks import Start, read_start
from adapters.ledger_file import (
    ALONE,
    ALONE_WITHOUT,
    ANSWERS,
    AT,
    BEFORE,
    BETWEEN,
    DECLARED,
    HAS_STARTS,
    HEAD,
    HEAD_WITHOUT,
    NAMED,
    NEXT,
    ON_PAGE,
    PAGE,
    SETTLEMENTS,
    STRAY,
    SUBJECTS,
    UNERASED,
    UNSETTLED,
    by_number,
    connect,
    failures,
)
from adapters.ledger_rows import (
    LedgerError,
    LedgerHead,
    Settlement,
    Stored,
    Told,
    told_of,
    verified_head,
)
from adapters.ledger_uses import (
    COUNTED,
    COUNTED_LOST,
    DAY,
    EXISTS,
    IN_DAYS,
    IN_MINUTE,
    MINUTE,
    MISCOUNTED,
    USES,
    check_use,
)
from exchange.core.decision import Usage


class LedgerReader:
    """Reads a ledger, also while its adapter writes; any thread may call it.

    A call sees every answer committed before it began, and nothing that is not durable. Each raises
    LedgerFatalError when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._reading = Lock()
        self._anchor = Anchor(path)
        # Before the file's rows: these may only be further on.
        seen = self._anchor.seen()
        with ExitStack() as closing, failures():
            self._reads = connect(path, "ro", closing)
            # Not in a file that an earlier version wrote, until this one has written to it.
            [[(self._begins,)]] = self._read({}, HAS_STARTS)
            self._head_of, self._alone = (HEAD, ALONE) if self._begins else (HEAD_WITHOUT, ALONE_WITHOUT)
            last, at = (_first(rows) for rows in self._read({"number": seen.number}, self._head_of, self._alone))
            self._anchor.check(seen, last.number, at.chain)
            [[(self._counts,)]] = self._read({}, EXISTS)
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Lets go of the file once a read under way is done; a second call does nothing."""
        with self._reading:
            self._closing.close()

    @property
    def head(self) -> LedgerHead:
        """The last committed row."""
        [rows] = self._read({}, self._head_of)
        return _first(rows)

    def at(self, number: int) -> LedgerHead:
        """A row's number and its chain hash; those of the start where there is no such row."""
        [rows] = self._read({"number": number}, self._alone)
        return _first(rows)

    def starts(self) -> tuple[Start, ...]:
        """Where it began anew, by the numbers that it goes on from.

        Raises:
            LedgerError: a declaration cannot be read.
        """
        if not self._begins:
            return ()
        [rows] = self._read({}, DECLARED)
        return tuple(read_start(declaration) for (declaration,) in rows)

    def find(self, requester: str, request_id: bytes) -> Stored | None:
        """The committed answer to a request, or None while its id (16 bytes) is free."""
        values = {"requester": requester, "id": request_id}
        [rows] = self._read(values, ANSWERS + "requester = :requester AND request_id = :id")
        return Stored(*rows[0]) if rows else None

    def answer(self, response_digest: bytes) -> Stored | None:
        """The committed answer whose response has this message digest, 32 bytes, or None."""
        [rows] = self._read({"digest": response_digest}, ANSWERS + "response_digest = :digest")
        return Stored(*rows[0]) if rows else None

    def owed(self) -> tuple[Stored, ...]:
        """The answers that nothing settles yet, in the ledger's order."""
        [rows] = self._read({}, ANSWERS + UNSETTLED)
        return tuple(Stored(*row) for row in rows)

    def told(self, subject: str) -> tuple[Told, ...]:
        """Who asked or was told what about a person, in the ledger's order.

        Raises:
            LedgerError: a stored request cannot be read.
        """
        rows, settled = self._read({"subject": subject}, ANSWERS + NAMED, SETTLEMENTS + NAMED + ", log_index")
        settlements = by_number(settled)
        return tuple(told_of(subject, Stored(*row), settlements[row[0]]) for row in rows)

    def usage(self, agreement: bytes, department: str, now: int, most: int) -> Usage:
        """How often one version of an agreement was used.

        Args:
            agreement: its message digest, 32 bytes.
            department: the requester's name.
            now: milliseconds.
            most: how far to count the uses of the last minute; 0 where nobody asks for them.
        """
        values = {"agreement": agreement, "department": department, "most": most}
        values |= {"since": now - MINUTE, "today": now // DAY}
        [[(minute,)], [(day, total)]] = self._read(values, IN_MINUTE, IN_DAYS)
        return Usage(minute, day, total)

    def settlements(self, number: int) -> tuple[Settlement, ...]:
        """The entries that settle an answer, in the log's order; empty while it is owed."""
        [rows] = self._read({"number": number}, SETTLEMENTS + "number = :number ORDER BY log_index")
        return tuple(Settlement(*row[1:]) for row in rows)

    def since(self, time: int) -> int:
        """How many answers are of a time (milliseconds) or later."""
        first, last = 1, self.head.number
        end = last + 1
        while first < end:
            middle = (first + end) // 2
            [rows] = self._read({"number": middle}, AT)
            first, end = (middle + 1, end) if rows and rows[0][0] < time else (first, middle)
        return last + 1 - first

    def answers(self) -> Iterator[tuple[Stored, tuple[Settlement, ...]]]:
        """Every answer in the ledger's order, with the entries that settle it; read page by page.

        Answers that are committed meanwhile may or may not be among them.
        """
        after = 0
        while True:
            [[(following,)]] = self._read({"after": after}, NEXT)
            if following is None:
                return
            page = {"after": following - 1, "page": PAGE}
            rows, settled = self._read(page, ANSWERS + ON_PAGE, SETTLEMENTS + ON_PAGE)
            settlements = by_number(settled)
            for row in rows:
                yield Stored(*row), tuple(Settlement(*values) for values in settlements[row[0]])
            after = rows[-1][0]

    def verify(self) -> None:
        """Checks every row: its place in the chain, the digests of what stands beside it, and the indexes.

        Whether the envelopes' signatures and the receipts' proofs hold is for whoever has the keys to check.

        Raises:
            LedgerError: names the first row that does not hold.
        """
        self._verify(0)
        stray, unerased = self._read({}, STRAY, UNERASED)
        if stray:
            raise LedgerError(f"row {stray[0][0]} is not in the chain, but the ledger holds something for it")
        if unerased:
            raise LedgerError(f"row {unerased[0][0]}: its sealed answer is neither kept nor erased")
        miscounted = MISCOUNTED.format(COUNTED_LOST if self._begins else "")
        if self._counts and self._read({}, miscounted) != [[(0,)]]:
            raise LedgerError("how often agreements were used is not what the ledger's rows add up to")

    def _verify(self, after: int) -> None:
        starts = {start.before.number: start for start in self.starts()}
        [begin] = self._read({"number": after}, BEFORE if self._begins else self._alone)
        head, last, followed = _first(begin), self.head.number, 0
        while head.number < last:
            start = starts.get(head.number)
            followed += start is not None
            head = self._begun(head, start) if start is not None else self._verify_page(head, starts)
        if not after and followed < len(starts):
            raise LedgerError("a declaration of lost answers follows no row")

    def _begun(self, head: LedgerHead, start: Start) -> LedgerHead:
        """The head after a declaration, which must be bound to the row before it, and take nobody's place."""
        values = {"after": start.before.number, "number": start.head.number}
        [[(taken,)]] = self._read(values, BETWEEN)
        if start.before != head or self.at(start.head.number) != start.head or taken:
            text = f"row {start.head.number}: the declaration of lost answers does not follow row {head.number}"
            raise LedgerError(text)
        return start.head

    def _verify_page(self, head: LedgerHead, starts: Mapping[int, Start]) -> LedgerHead:
        page = {"after": head.number, "page": PAGE}
        rows, named, settled = self._read(page, ANSWERS + ON_PAGE, SUBJECTS + ON_PAGE, SETTLEMENTS + ON_PAGE)
        subjects, settlements = by_number(named), by_number(settled)
        if not rows:
            raise LedgerError(f"row {head.number + 1} is missing")
        verified = []
        for row in rows:
            # What was lost begins here: the rest of the page stands behind a declaration.
            if head.number in starts:
                break
            verified.append(Stored(*row))
            head = verified_head(head, verified[-1], subjects[row[0]], settlements[row[0]])
        self._verify_uses(page, verified)
        return head

    def _verify_uses(self, page: Mapping[str, object], rows: Sequence[Stored]) -> None:
        if not self._counts:
            return
        [[(counted,)], uses] = self._read(page, COUNTED, USES + ON_PAGE)
        found = by_number(uses)
        for stored in rows:
            check_use(stored, found[stored.number], counted)

    def _read(self, values: Mapping[str, object], *statements: str) -> list[list[Any]]:
        """The rows of each statement, all from one snapshot."""
        with self._reading, failures():
            self._reads.execute("BEGIN")
            try:
                return [self._reads.execute(statement, values).fetchall() for statement in statements]
            finally:
                if self._reads.in_transaction:
                    self._reads.execute("ROLLBACK")


def _first(rows: Sequence[Sequence[Any]]) -> LedgerHead:
    return LedgerHead(*rows[0]) if rows else LedgerHead()
