"""`exchange-adapter reconcile`: the ledger and the access log, entry by entry; both must tell of the same answers.

Nothing is believed of a broker: an entry counts where a receipt in the ledger proves it, or the log proves it now. What
a broker leaves out of its answer shows as an answer without an entry, or as a receipt that it denies.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from adapters.host import LEDGER
from adapters.ledger import Ledger, LedgerError, LedgerReader, Settlement, Stored
from adapters.ledger_breaks import Start
from exchange.cli.frame.output import clean
from exchange.cli.frame.times import iso
from exchange.client.calls import brokers_checkpoint, call
from exchange.client.cosignatures import unseen
from exchange.client.errors import EvidenceError, RefusedError, ResponseInvalidError, UnavailableError
from exchange.client.session import Session
from exchange.client.storage import ACCESS
from exchange.core.access import kind_name, read_access_leaf, verify_receipt
from exchange.core.checkpoint import Checkpoint
from exchange.core.envelope import RESPONSE, decode_envelope
from exchange.core.errors import CoreError
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.policy import NO_WITNESSES
from exchange.core.response import read_response
from exchange.core.successions import Succession
from exchange.core.wire import decode
from exchange.home import Home, HomeError
from exchange.transport import ACCESS_PROVE, ACCESS_READ
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.log_pb2 import (
    LogServiceProveRequest,
    LogServiceProveResponse,
    ProofRequest,
    ReadRequest,
    ReadResponse,
    Record,
)

TIMEOUT: Final = 30.0
WINDOW: Final = 5_000
"""Milliseconds that a broker has for a receipt (DESIGN section 2): younger answers wait for theirs."""

SETTLING: Final = (AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_UNRELEASED)
"""The kinds of entries that settle an answer."""


class Problem(StrEnum):
    """What can be wrong between a ledger and the log."""

    NO_ENTRY = "answer without an entry"
    NOT_ANSWERED = "entry of no answer here"
    OTHER_NAMES = "entry under other names"
    WITHHELD = "entry that the broker withholds"
    NOT_PROVEN = "entry that is not proven"
    GAP = "gap in the ledger's numbers"
    NOT_COSIGNED = "receipt that witnesses have not seen"
    LEDGER = "the ledger does not hold"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which they do not agree.

    Args:
        problem: what kind.
        detail: what exactly, for people.
        number: the ledger's, or None.
        entry: the log's index, or None.
    """

    problem: Problem
    detail: str
    number: int | None = None
    entry: int | None = None


@dataclass(slots=True)
class Reconciliation:
    """What was compared, and what came of it.

    Args:
        log: its name; size: entries of the last checkpoint.
        answers: of the ledger; entries: of the log about answers of this system.
        waiting: answers that are younger than the time a receipt may take.
        caveat: what is not excluded; empty where a quorum of witnesses has seen all of it.
        differences: everything on which the two do not agree.
        declared: the answers that the ledger has lost, as its system has declared and signed.
        given_up: answers whose entries the access log has lost, as the root has declared; the ledger has the receipts.
    """

    log: str
    size: int = 0
    answers: int = 0
    entries: int = 0
    waiting: int = 0
    caveat: str = NO_WITNESSES
    differences: list[Difference] = field(default_factory=list)
    declared: list[dict[str, object]] = field(default_factory=list)
    given_up: int = 0


async def reconcile(home: Home) -> Reconciliation:
    """Compare a home's ledger with the access log, the adapter running or not.

    Raises:
        AnchorError: the ledger is missing, or not the one that was here before.
        BrokenLogError: the log contradicts what it signed before.
        EvidenceError: a checkpoint is not the log's.
        HomeError: the ledger cannot be read.
        RefusedError, UnavailableError: no broker gives this party its entries.
    """
    try:
        reader = Ledger.read(home.path / LEDGER)
        try:
            async with Session(home) as session:
                await session.sync()
                return await Reconciler(session, reader).run()
        finally:
            reader.close()
    except LedgerError as error:
        raise HomeError(f"{home.path / LEDGER}: {error}", "is this the home of an adapter that has run?") from error


async def own_entries(session: Session) -> AsyncIterator[tuple[Record, Checkpoint]]:
    """All entries that a broker shows of a party, page by page, each with the checkpoint that it came under.

    Raises:
        EvidenceError: they are out of order, or a checkpoint is not the log's.
    """
    start = 0
    while True:
        response = await call(session.transport, ACCESS_READ, ReadRequest(start=start), ReadResponse, TIMEOUT)
        try:
            checkpoint = brokers_checkpoint(response.checkpoint, session.trust.access_log)
        except CoreError as error:
            raise EvidenceError(f"the access log's checkpoint does not hold: {error}") from error
        await session.evidence.keep(response.checkpoint)
        for record in response.records:
            if not start <= record.index < min(checkpoint.size, response.next):
                raise EvidenceError("the broker sent entries of the access log out of order")
            start = record.index + 1
            yield record, checkpoint
        start = max(start, response.next)
        if start >= checkpoint.size or not response.records:
            return


class Reconciler:
    """One comparison.

    Args:
        session: of the system whose ledger it is; open.
        ledger: may grow meanwhile.
    """

    def __init__(self, session: Session, ledger: LedgerReader) -> None:
        self._session = session
        self._ledger = ledger
        self._party = str(session.party)
        self._verifier = session.trust.access_log
        # What is committed later is not compared: its entry may come after the log was read.
        self._last = ledger.head.number
        self._covered = bytearray(self._last // 8 + 1)
        self._starts = ledger.starts()
        self._breaks: Sequence[Succession] = ()
        self._found = Reconciliation(self._verifier.name)
        self._found.declared.extend(map(_declared, self._starts))

    async def run(self) -> Reconciliation:
        """Read the log, then the ledger."""
        began = self._session.clock()
        async for record, checkpoint in own_entries(self._session):
            self._found.size = max(self._found.size, checkpoint.size)
            await self._entry(record, checkpoint)
        await self._session.evidence.settle()
        self._breaks = await asyncio.to_thread(self._session.declared_breaks)
        self._answers(began)
        await self._witnessed()
        try:
            self._ledger.verify()
        except LedgerError as error:
            self._differ(Problem.LEDGER, str(error))
        return self._found

    async def _witnessed(self) -> None:
        """Receipts that witnesses should have seen by now, where the trust file has a quorum."""
        session = self._session
        if session.cosignatures.needed:
            await session.receipts.catch_up()
            with suppress(RefusedError, UnavailableError):
                await session.cosignatures.refresh(ACCESS)
        for index in await session.receipts.late():
            self._differ(Problem.NOT_COSIGNED, "no cosigned checkpoint proves it, a minute after it came", entry=index)
        self._found.caveat = unseen(session.trust.policy, session.cosignatures.of(ACCESS), self._found.size)

    async def _entry(self, record: Record, checkpoint: Checkpoint) -> None:
        """One entry: proven, and of an answer that this ledger has."""
        try:
            leaf = read_access_leaf(record.leaf)
        except CoreError as error:
            self._differ(Problem.NOT_PROVEN, f"its leaf cannot be read: {error}", entry=record.index)
            return
        if leaf.kind not in SETTLING or leaf.provider != self._party:
            return
        self._found.entries += 1
        stored = self._ledger.answer(leaf.response_digest)
        known = self._ledger.settlements(stored.number) if stored is not None else ()
        if not self._has_receipt(record, known) and not await self._is_proven(record, checkpoint):
            text = "the broker shows it, and its log does not prove it"
            self._differ(Problem.NOT_PROVEN, text, stored.number if stored is not None else None, record.index)
            return
        if stored is None:
            self._not_answered(record, leaf)
            return
        if problem := _named_otherwise(leaf, stored, self._party):
            self._differ(Problem.OTHER_NAMES, problem, stored.number, record.index)
        self._cover(stored.number)

    def _has_receipt(self, record: Record, known: Sequence[Settlement]) -> bool:
        """Whether the ledger's own receipt proves the entry: no broker need be asked."""
        return any(
            settlement.index == record.index and self._receipt_leaf(settlement) == record.leaf for settlement in known
        )

    def _receipt_leaf(self, settlement: Settlement) -> bytes | None:
        """The leaf that a receipt proves, or None where it proves nothing."""
        try:
            receipt = decode(Receipt, settlement.receipt)
            verify_receipt(receipt, self._verifier)
        except CoreError:
            return None
        return receipt.leaf

    async def _is_proven(self, record: Record, checkpoint: Checkpoint) -> bool:
        request = LogServiceProveRequest(proof=ProofRequest(index=record.index, size=checkpoint.size))
        try:
            response = await call(self._session.transport, ACCESS_PROVE, request, LogServiceProveResponse, TIMEOUT)
            path = tuple(response.path)
            verify_inclusion(leaf_hash(record.leaf), record.index, checkpoint.size, path, checkpoint.root)
        except (CoreError, RefusedError, ResponseInvalidError):
            return False
        return True

    def _not_answered(self, record: Record, leaf: AccessLeaf) -> None:
        number = ledger_number(record.body)
        if any(start.covers(number, record.index) for start in self._starts):
            return
        said = f"as answer {number}" if number is not None else "without a number that can be read"
        detail = f"{kind_name(leaf.kind)}, {said}: this ledger, which ends at {self._last}, has no such answer"
        self._differ(Problem.NOT_ANSWERED, detail, number, record.index)

    def _answers(self, began: int) -> None:
        """The ledger's side: numbers without gaps, and an entry for each."""
        expected, starts = 1, {start.before.number + 1: start.head.number + 1 for start in self._starts}
        for stored, settlements in self._ledger.answers():
            if stored.number > self._last:
                break
            expected = starts.get(expected, expected)
            if stored.number > expected:
                self._differ(Problem.GAP, f"{_numbers(expected, stored.number - 1)} missing", expected)
            expected = stored.number + 1
            self._found.answers += 1
            if not self._is_covered(stored.number):
                self._uncovered(stored, settlements, began)
        expected = starts.get(expected, expected)
        if expected <= self._last:
            self._differ(Problem.GAP, f"{_numbers(expected, self._last)} missing", expected)

    def _uncovered(self, stored: Stored, settlements: Sequence[Settlement], began: int) -> None:
        """An answer of which the broker showed no entry."""
        proven = [settlement.index for settlement in settlements if self._receipt_leaf(settlement) is not None]
        if proven and any(item.first.size <= index < item.lost.size for item in self._breaks for index in proven):
            self._found.given_up += 1
        elif proven:
            text = "the ledger has its receipt, and the broker does not show it"
            self._differ(Problem.WITHHELD, text, stored.number, proven[0])
        elif stored.time + WINDOW > began:
            self._found.waiting += 1
        else:
            text = f"given to {stored.requester}: the log has no entry of it"
            self._differ(Problem.NO_ENTRY, text, stored.number)

    def _cover(self, number: int) -> None:
        if number <= self._last:
            self._covered[number // 8] |= 1 << number % 8

    def _is_covered(self, number: int) -> bool:
        return bool(self._covered[number // 8] >> number % 8 & 1)

    def _differ(self, problem: Problem, detail: str, number: int | None = None, entry: int | None = None) -> None:
        self._found.differences.append(Difference(problem, detail, number, entry))


def _named_otherwise(leaf: AccessLeaf, stored: Stored, party: str) -> str:
    """Why an entry is not about the request that was answered; empty where it is (as `adapters.settling` asks)."""
    named = (leaf.request_digest, leaf.requester, leaf.request_id)
    asked = (stored.request_digest, stored.requester, stored.request_id)
    # Whose request it was is left out where the broker could not tell.
    is_anonymous = leaf.kind == AccessKind.ACCESS_KIND_UNRELEASED and named == (stored.request_digest, "", b"")
    return "" if named == asked or is_anonymous else f"it names another request than the one that {party} answered"


def ledger_number(body: bytes) -> int | None:
    """The number that the response in a body gives itself, or None where it cannot be read."""
    try:
        return read_response(decode_envelope(decode(AccessBody, body).response, RESPONSE)).ledger_number
    except CoreError:
        return None


def _numbers(first: int, last: int) -> str:
    return f"answer {first} is" if first == last else f"answers {first} to {last} are"


def _declared(start: Start) -> dict[str, object]:
    said = start.said
    return {
        "first": said.after_number + 1,
        "last": said.until_number,
        "declared": said.time,
        "reason": said.reason,
        "entries_before": said.log_size,
    }


def described(found: Reconciliation) -> dict[str, object]:
    """The outcome for programs."""
    return {
        "agree": not found.differences,
        "answers": found.answers,
        "entries": found.entries,
        "waiting": found.waiting,
        "differences": [
            {"problem": item.problem.value, "number": item.number, "entry": item.entry, "detail": item.detail}
            for item in found.differences
        ],
        "declared": found.declared,
        "given_up": found.given_up,
        "log": found.log,
        "verified_to": found.size,
        "caveats": [found.caveat] if found.caveat else [],
    }


def summary(found: Reconciliation) -> Iterator[str]:
    """The outcome in lines, without the differences."""
    verdict = "they agree" if not found.differences else f"they differ in {len(found.differences)}"
    yield f"answers in the ledger: {found.answers}; entries about them in the log: {found.entries}; {verdict}"
    for item in found.declared:
        when, numbers = iso(int(str(item["declared"]))), f"{item['first']} to {item['last']}"
        yield f"lost, as was declared {when}: answers {numbers}: {clean(str(item['reason']))}"
    if found.given_up:
        yield f"answers whose entries the log has lost, as the root has declared: {found.given_up}"
    if found.waiting:
        yield f"younger than {WINDOW // 1000} s, and waiting for their receipts: {found.waiting}"
    yield f"verified to {found.size} of {found.log}; {found.caveat or 'a quorum of witnesses has seen all of it'}"
