"""The provider's ledger: every answer, hash-chained and on disk before it is sent (DESIGN sections 2, 5 and 6).

LedgerError            this call failed: a batch does not continue the head, or a row does not verify
├── LedgerBusyError    another process holds the ledger for writing
└── LedgerFatalError   the disk or the file failed: send nothing more, stop the process

Row n's chain hash is SHA-256(chain hash of row n - 1 || row n), from 32 zero bytes. Envelopes stand beside the
chain, which binds their digests; sealed answers stand outside it, so that they can be erased. What a chain cannot
show is a removed tail: the access log does, since every response names its ledger number.
"""

import fcntl
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock, RLock
from typing import Any, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from exchange.core.envelope import REQUEST, RESPONSE, decode_envelope, message_digest
from exchange.core.errors import DecodeError
from exchange.core.wire import decode
from exchange.v1.access_pb2 import ACCESS_KIND_RELEASED, ACCESS_KIND_UNRELEASED, AccessLeaf
from exchange.v1.envelope_pb2 import Envelope, Receipt
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.request_pb2 import RequestHeader, ResponseHeader, Sealed

M = TypeVar("M", bound=Message)

# --- values -------------------------------------------------------------------------------------------


class LedgerError(Exception):
    """This call failed; the ledger stays sound, and `head` and `find` tell what it holds."""


class LedgerBusyError(LedgerError):
    """Another process holds the ledger for writing."""


class LedgerFatalError(LedgerError):
    """The disk or the file failed: whether the last batch is durable is unknown, and the process must stop."""


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """The last row's number (0 at the start) and its chain hash, 32 bytes."""

    number: int = 0
    chain: bytes = bytes(32)

    def after(self, row: bytes) -> "LedgerHead":
        """The head once `row` follows."""
        return LedgerHead(self.number + 1, sha256(self.chain + row).digest())


@dataclass(frozen=True, slots=True)
class LedgerAnswer:
    """One answer to commit; what is indexed of it comes from its row.

    Args:
        row: a serialised LedgerRow.
        request, response: the envelopes, without attachments.
        sealed: the response's whole envelope, kept for a retry.
        erase_after: from when `sealed` may be erased, milliseconds.
    """

    row: bytes
    request: bytes
    response: bytes
    sealed: bytes
    erase_after: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A committed answer, its time in milliseconds; `sealed` is None once erased, `owed` until it is settled."""

    number: int
    time: int
    requester: str
    request_id: bytes
    request_digest: bytes
    response_digest: bytes
    row: bytes
    chain: bytes
    request: bytes
    response: bytes
    sealed: bytes | None
    owed: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """An entry of the access log, at `index`, that settles an answer: AccessKind, Code, serialised Receipt."""

    response_digest: bytes
    kind: int
    code: int
    index: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """One answer that concerns a person: who asked, what for, and what the access log says of it.

    Args:
        time: milliseconds.
        dataset: object id, 16 bytes.
        asked, told: the request named the person; a row of the answer was the person's.
        rows: number of rows in the answer, whosever they are.
        settlements: in the log's order, or None while owed.
    """

    number: int
    time: int
    requester: str
    officer: str
    purpose: str
    case_id: str
    dataset: bytes
    fields: tuple[str, ...]
    asked: bool
    told: bool
    rows: int
    settlements: tuple[Settlement, ...] | None


# --- what must hold -----------------------------------------------------------------------------------


def _checked(head: LedgerHead, data: bytes, request: bytes, response: bytes, *, strict: bool) -> LedgerRow:
    """The row after `head`, once it agrees with both envelopes and these with each other (DESIGN section 6)."""
    number = head.number + 1
    try:
        row = _parse(LedgerRow, data, strict)
        asked, answered = _parse(Envelope, request, strict), _parse(Envelope, response, strict)
        question = _parse(RequestHeader, _parse(Sealed, asked.payload, strict).header, strict)
        answer = _parse(ResponseHeader, _parse(Sealed, answered.payload, strict).header, strict)
    except (DecodeError, ProtobufDecodeError) as error:
        raise LedgerError(f"row {number}: {error}") from error
    _require(number, "number", row.number == answer.ledger_number == number)
    _require(number, "previous chain hash", answer.ledger_previous == head.chain)
    _require(number, "requester", row.requester == question.requester)
    _require(number, "request id", row.request_id == question.request_id)
    asked_digest = message_digest(REQUEST, asked.payload)
    _require(number, "request's digest", row.request_digest == answer.request_digest == asked_digest)
    _require(number, "response's digest", row.response_digest == message_digest(RESPONSE, answered.payload))
    _require(number, "envelopes' kinds", (asked.kind, answered.kind) == (REQUEST, RESPONSE))
    _require(number, "envelopes", not asked.attachments and not answered.attachments)
    return row


def _parse(kind: type[M], data: bytes, strict: bool) -> M:
    """Strictly in verification; a commit has its own process's bytes, and strictness costs half its time."""
    return decode(kind, data) if strict else kind.FromString(data)


def _verified(head: LedgerHead, stored: Stored, names: list[Any], settled: list[Any]) -> LedgerHead:
    """The head after a row that holds, with everything that stands beside it."""
    number = head.number + 1
    if stored.number != number:
        raise LedgerError(f"row {number} is missing")
    row = _checked(head, stored.row, stored.request, stored.response, strict=True)
    head = head.after(stored.row)
    _require(number, "chain hash", stored.chain == head.chain)
    columns = (stored.number, stored.time, stored.requester, stored.request_id)
    digests = (stored.request_digest, stored.response_digest)
    _require(number, "index", (*columns, *digests) == _indexed(row))
    _require(number, "subjects", {name for (name,) in names} == _subjects(row))
    _require(number, "settlements", stored.owed != bool(settled))
    _check_sealed(number, stored.response, stored.sealed)
    for values in settled:
        _check_settlement(number, Settlement(*values))
    return head


def _check_sealed(number: int, response: bytes, sealed: bytes | None) -> None:
    if sealed is None:
        return
    try:
        envelope = decode_envelope(sealed, RESPONSE)
        digest = decode(Sealed, envelope.payload).ciphertext_sha256
    except DecodeError as error:
        raise LedgerError(f"row {number}: sealed answer: {error}") from error
    whole = envelope.attachments and sha256(envelope.attachments[-1]).digest() == digest
    _require(number, "sealed answer", whole and envelope.bare().encode() == response)


def _check_settlement(number: int, settlement: Settlement) -> None:
    try:
        receipt = decode(Receipt, settlement.receipt)
        leaf = decode(AccessLeaf, receipt.leaf)
    except DecodeError as error:
        raise LedgerError(f"row {number}: settlement: {error}") from error
    entry = (leaf.response_digest, leaf.kind, leaf.code, receipt.index)
    stated = (settlement.response_digest, settlement.kind, settlement.code, settlement.index)
    _require(number, "settlement", entry == stated)
    # DESIGN section 2: both kinds are receipts, and an unreleased answer has its reason.
    _require(number, "settlement's kind", leaf.kind in (ACCESS_KIND_RELEASED, ACCESS_KIND_UNRELEASED))
    _require(number, "settlement's code", (leaf.kind == ACCESS_KIND_RELEASED) == (leaf.code == 0))


def _require(number: int, what: str, holds: object) -> None:
    if not holds:
        raise LedgerError(f"row {number}: its {what} does not hold")


def _indexed(row: LedgerRow) -> tuple[int, int, str, bytes, bytes, bytes]:
    """What the index columns repeat of a row."""
    digests = (row.request_digest, row.response_digest)
    return (row.number, row.time, row.requester, row.request_id, *digests)


def _subjects(row: LedgerRow) -> set[str]:
    return {*row.asked, *row.told}


def _told(subject: str, stored: Stored, settled: list[Any]) -> Told:
    try:
        row = decode(LedgerRow, stored.row)
        sealed = decode(Sealed, decode_envelope(stored.request, REQUEST).payload)
        question = decode(RequestHeader, sealed.header)
    except DecodeError as error:
        raise LedgerError(f"row {stored.number}: {error}") from error
    return Told(
        number=stored.number,
        time=stored.time,
        requester=stored.requester,
        officer=question.officer,
        purpose=question.purpose,
        case_id=question.case_id,
        dataset=question.dataset,
        fields=tuple(question.fields),
        asked=subject in row.asked,
        told=subject in row.told,
        rows=row.rows,
        settlements=tuple(Settlement(*values) for values in settled) or None,
    )


# --- the file -----------------------------------------------------------------------------------------

FORMAT = 1
TAIL = 1_000  # rows verified whenever the ledger is opened for writing
PAGE = 200  # rows verified in one transaction: a long one would keep erased bytes in the WAL
BUSY = 5_000  # milliseconds

SCHEMA = (
    """CREATE TABLE answers (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, requester TEXT NOT NULL,
        request_id BLOB NOT NULL, request_digest BLOB NOT NULL, response_digest BLOB NOT NULL UNIQUE,
        row BLOB NOT NULL, chain BLOB NOT NULL, request BLOB NOT NULL, response BLOB NOT NULL,
        UNIQUE (requester, request_id)) STRICT""",
    "CREATE TABLE subjects (number INTEGER, subject TEXT, PRIMARY KEY (number, subject)) STRICT, WITHOUT ROWID",
    "CREATE INDEX subjects_by_subject ON subjects (subject)",
    "CREATE TABLE sealed (number INTEGER PRIMARY KEY, envelope BLOB NOT NULL) STRICT",
    "CREATE TABLE kept (number INTEGER PRIMARY KEY, erase_after INTEGER NOT NULL) STRICT",
    "CREATE INDEX kept_by_erase_after ON kept (erase_after)",
    "CREATE TABLE owed (number INTEGER PRIMARY KEY) STRICT",
    """CREATE TABLE settlements (number INTEGER, log_index INTEGER, kind INTEGER NOT NULL, code INTEGER NOT NULL,
        receipt BLOB NOT NULL, PRIMARY KEY (number, log_index)) STRICT, WITHOUT ROWID""",
    f"PRAGMA user_version = {FORMAT}",
)
HEAD = "SELECT number, chain FROM answers ORDER BY number DESC LIMIT 1"
ANSWERS = """SELECT answers.*, (SELECT envelope FROM sealed WHERE sealed.number = kept.number),
    owed.number IS NOT NULL FROM answers LEFT JOIN kept USING (number) LEFT JOIN owed USING (number) WHERE """
SETTLEMENTS = """SELECT number, response_digest, kind, code, log_index, receipt
    FROM answers JOIN settlements USING (number) WHERE """
SUBJECTS = "SELECT number, subject FROM subjects WHERE "
NAMED = "number IN (SELECT number FROM subjects WHERE subject = :subject) ORDER BY number"
UNSETTLED = "number IN (SELECT number FROM owed) ORDER BY number"
ON_PAGE = "number > :after AND number <= :after + :page ORDER BY number"
STRAY = """SELECT number FROM (SELECT number FROM answers UNION ALL SELECT number FROM subjects UNION ALL
    SELECT number FROM sealed UNION ALL SELECT number FROM kept UNION ALL SELECT number FROM owed UNION ALL
    SELECT number FROM settlements)
    WHERE number < 1 OR number > (SELECT coalesce(max(number), 0) FROM answers) LIMIT 1"""
UNERASED = """SELECT number FROM sealed WHERE number NOT IN (SELECT number FROM kept)
    AND envelope != zeroblob(length(envelope))
    UNION ALL SELECT number FROM kept WHERE number NOT IN (SELECT number FROM sealed) LIMIT 1"""

# SQLite zeroes what it deletes, but a deletion also moves neighbours and leaves copies of them in unused parts of pages
# (seen with 3.40.1). So an erased answer is overwritten where it stands, which moves nothing, and its row goes once
# no answer that is still kept stands within MARGIN rows: a deletion moves cells of three pages, some 60 rows.
PAGE_SIZE = 4_096
MARGIN = 100
ERASE = (
    """UPDATE sealed SET envelope = zeroblob(length(envelope))
        WHERE number IN (SELECT number FROM kept WHERE erase_after <= :now)""",
    "DELETE FROM kept WHERE erase_after <= :now",
    "DELETE FROM sealed WHERE number < coalesce((SELECT min(number) FROM kept) - :margin, 9223372036854775807)",
)

# After these the ledger is sound. Every other failure, known or not, stops the process.
PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_LOCKED}
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room, then start the adapter again",
    sqlite3.SQLITE_READONLY: "it cannot be written: check its permissions and its file system",
    sqlite3.SQLITE_CANTOPEN: "check that it exists, and its permissions",
}
OTHER = "stop the adapter, and check the ledger and its disk before starting again"


class LedgerReader:
    """Reads a ledger, also while its adapter writes; any thread may call it.

    A call sees every answer committed before it began, and nothing that is not durable. Each raises
    LedgerFatalError when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._reading = Lock()
        with ExitStack() as closing, _failures():
            self._reads = _connect(path, "ro", closing)
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Lets go of the file once a read under way is done; a second call does nothing."""
        with self._reading:
            self._closing.close()

    @property
    def head(self) -> LedgerHead:
        """The last committed row."""
        [rows] = self._read({}, HEAD)
        return LedgerHead(*rows[0]) if rows else LedgerHead()

    def find(self, requester: str, request_id: bytes) -> Stored | None:
        """The committed answer to a request, or None while its id (16 bytes) is free."""
        values = {"requester": requester, "id": request_id}
        [rows] = self._read(values, ANSWERS + "requester = :requester AND request_id = :id")
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
        settlements = _by_number(settled)
        return tuple(_told(subject, Stored(*row), settlements[row[0]]) for row in rows)

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

    def _verify(self, after: int) -> None:
        [start] = self._read({"after": after}, "SELECT number, chain FROM answers WHERE number = :after")
        head, last = LedgerHead(*start[0]) if start else LedgerHead(), self.head.number
        while head.number < last:
            page = {"after": head.number, "page": PAGE}
            rows, named, settled = self._read(page, ANSWERS + ON_PAGE, SUBJECTS + ON_PAGE, SETTLEMENTS + ON_PAGE)
            subjects, settlements = _by_number(named), _by_number(settled)
            if not rows:
                raise LedgerError(f"row {head.number + 1} is missing")
            for row in rows:
                head = _verified(head, Stored(*row), subjects[row[0]], settlements[row[0]])

    def _read(self, values: Mapping[str, object], *statements: str) -> list[list[Any]]:
        """The rows of each statement, all from one snapshot."""
        with self._reading, _failures():
            self._reads.execute("BEGIN")
            try:
                return [self._reads.execute(statement, values).fetchall() for statement in statements]
            finally:
                if self._reads.in_transaction:
                    self._reads.execute("ROLLBACK")


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
            LedgerBusyError: another process holds it.
            LedgerError: one of the last 1,000 rows does not verify, or the file is no ledger of this format.
            LedgerFatalError: the file cannot be opened or written.
        """
        return cls(path)

    @staticmethod
    def read(path: Path) -> LedgerReader:
        """Opens an existing ledger for reading, whether its adapter runs or not.

        Raises:
            LedgerError: the file is no ledger of this format.
            LedgerFatalError: the file cannot be opened.
        """
        return LedgerReader(path)

    def __init__(self, path: Path) -> None:
        self._writing = RLock()
        self._fatal: LedgerFatalError | None = None
        self._head = LedgerHead()
        self._owed: dict[int, int] = {}  # number to time, in order; replaced, never changed: any thread may look
        with ExitStack() as closing, _failures():
            _hold(path, closing)
            path.touch(mode=0o600)
            self._writes = _connect(path, "rw", closing)
            super().__init__(path)
            closing.callback(self._closing.close)
            # A failed fsync may have left rows in the page cache alone: a checkpoint writes and syncs them anew.
            self._checkpoint()
            self._reload()
            self._verify(max(0, self._head.number - TAIL))
            self._closing = closing.pop_all()

    def close(self) -> None:
        """Lets go of the file once a write or read under way is done; a second call does nothing."""
        with self._writing:
            super().close()

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
                rows.append(_checked(head, answer.row, answer.request, answer.response, strict=False))
                head = head.after(answer.row)
                chained.append((*_indexed(rows[-1]), answer.row, head.chain, answer.request, answer.response))
            with self._transaction() as db:
                db.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", chained)
                subjects = ((row.number, subject) for row in rows for subject in _subjects(row))
                db.executemany("INSERT INTO subjects VALUES (?, ?)", subjects)
                numbered = [(row.number, answer) for row, answer in zip(rows, answers, strict=True)]
                db.executemany("INSERT INTO sealed VALUES (?, ?)", ((n, one.sealed) for n, one in numbered))
                db.executemany("INSERT INTO kept VALUES (?, ?)", ((n, one.erase_after) for n, one in numbered))
                db.executemany("INSERT INTO owed VALUES (?)", ((row.number,) for row in rows))
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
                settled = {_settle(db, settlement) for settlement in settlements}
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
            with _failures():
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


def _hold(path: Path, closing: ExitStack) -> None:
    """Keeps every other writer away until this one closes or its process ends."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    closing.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LedgerBusyError(f"another adapter writes {path}: stop it, or give this one its own ledger") from error


def _connect(path: Path, mode: str, closing: ExitStack) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY / 1000, isolation_level=None, check_same_thread=False)
    closing.callback(db.close)
    if mode == "rw":
        _prepare(db)
    if db.execute("PRAGMA user_version").fetchone() != (FORMAT,):
        raise LedgerError(f"{path} is no ledger of format {FORMAT}: name another file")
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise LedgerFatalError("the ledger's file system has no write-ahead log: keep it on a local disk")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        for statement in SCHEMA:
            db.execute(statement)
    elif db.execute("PRAGMA user_version").fetchone() == (FORMAT,):
        # Changes nothing, but finds a read-only file now, not at the first answer.
        db.execute(SCHEMA[-1])
    db.execute("COMMIT")


def _settle(db: sqlite3.Connection, settlement: Settlement) -> int:
    """Stores an entry unless it is known, and returns the number of the answer that it settles."""
    digest, index = settlement.response_digest, settlement.index
    found = db.execute("SELECT number FROM answers WHERE response_digest = ?", (digest,)).fetchone()
    if not found:
        raise LedgerError(f"no answer of this ledger has the digest {digest.hex()}")
    number = int(found[0])
    _check_settlement(number, settlement)
    known = "SELECT kind, code FROM settlements WHERE number = ? AND log_index = ?"
    entry = db.execute(known, (number, index)).fetchone()
    if entry not in (None, (settlement.kind, settlement.code)):
        raise LedgerError(f"row {number}: entry {index} of the access log was another before")
    if entry is None:
        values = (number, index, settlement.kind, settlement.code, settlement.receipt)
        db.execute("INSERT INTO settlements VALUES (?, ?, ?, ?, ?)", values)
        db.execute("DELETE FROM owed WHERE number = ?", (number,))
    return number


@contextmanager
def _failures() -> Iterator[None]:
    """Turns what SQLite and the system raise into the ledger's errors."""
    try:
        yield
    except OverflowError as error:
        raise LedgerError("a number is larger than the ledger can hold") from error
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", -1) & 0xFF
        if code in PASSING:
            raise LedgerError(f"the ledger refused: {error}") from error
        raise LedgerFatalError(f"{error}; {ADVICE.get(code, OTHER)}") from error


def _by_number(rows: list[Any]) -> defaultdict[int, list[Any]]:
    """Rows grouped by their first column, which is left out."""
    groups = defaultdict[int, list[Any]](list)
    for number, *rest in rows:
        groups[number].append(rest)
    return groups
