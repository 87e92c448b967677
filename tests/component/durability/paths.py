"""The paths by which something becomes durable, each with what must hold after any crash on it.

    append     both logs over the log store, and the broker's anchor     exchange/broker/logs.py, exchange/store/
    answer     the ledger's commit of answers, and its anchor            adapters/committing.py, adapters/ledger.py
    settle     the ledger's commit of receipts                           adapters/ledger.py
    erase      the ledger's erasure of sealed answers                    adapters/ledger.py
    order      the department's own orders, and their anchor             adapters/orders.py
    cosigned   the cosigned checkpoint that the broker keeps             exchange/store/
    witness    the checkpoint that a witness is about to cosign          exchange/witness/memory.py

Every path writes one thing for each attempt: 1 is the one that goes wrong, 2 the one after the restart.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from adapters.committing import Committer, Prepared
from adapters.ledger import Ledger, LedgerReader, Settlement
from adapters.orders import Orders
from exchange.broker.anchor import Anchor
from exchange.broker.logs import AccessProposal, DirectoryProposal
from exchange.broker.settlement import draw_release
from exchange.core.checkpoint import open_checkpoint
from exchange.core.decision import Allow, decide, uncounted
from exchange.core.entries import ObjectVersion
from exchange.core.envelope import Envelope
from exchange.core.merkle import Frontier, NodeId, leaf_hash
from exchange.core.wire import encode
from exchange.core.witnessing import AddCheckpoint, Submission
from exchange.store.ports import Log, LogStore, Witnessed
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.request_pb2 import Answer
from exchange.witness.memory import Kept, WitnessMemory
from tests.component.audit.copies import busy_world, write_database
from tests.component.broker.parts import RELEASED, logs_of, note_signers
from tests.memory import fixed
from tests.world import APPLICATIONS, ORIGIN, REGISTRY, START, World

FIRST, AGAIN = 1, 2
Armed = AbstractContextManager[None]
Acknowledge = Callable[[], None]


class WritePath(Protocol):
    """One path to the disk; `errors` are what it may raise when a step of it fails."""

    errors: tuple[str, ...]

    def prepare(self, folder: Path) -> None:
        """Make the files, with something in them that was acknowledged already."""

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        """Open the files, then write within `armed`, and say when somebody may rely on it."""

    def check(self, folder: Path, attempt: int) -> bool:
        """Open the files as a restart does; assert that they are whole; whether the attempt's writing is there."""


# --- the two logs


class Append:
    """A directory entry and two releases in one batch, then the anchor."""

    errors = ("AuditUnavailableError", "HomeError", "StoreFatalError")

    def prepare(self, folder: Path) -> None:
        world = _busy()
        for attempt in (FIRST, AGAIN):
            appended(attempt)
        write_database(folder / "exchange.db", world)
        with _opened(folder) as store:
            _anchor(folder, store, world).place()

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        asyncio.run(self._append(folder, attempt, armed, acknowledge))

    async def _append(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        world = _busy()
        purpose, releases = appended(attempt)
        with _opened(folder) as store:
            logs = logs_of(world, store, world.directory)
            anchor = _anchor(folder, store, world)
            with armed:
                proposals = [DirectoryProposal(purpose, b""), *(_release(*one) for one in releases)]
                await asyncio.gather(*(logs.append(proposal) for proposal in proposals))
                acknowledge()
                anchor.place()
            await logs.close()

    def check(self, folder: Path, attempt: int) -> bool:
        world = _busy()
        with _opened(folder) as store:
            _anchor(folder, store, world).check()
            rehash(store, world)
            directory = logs_of(world, store, world.directory).directory
            ids = [_request_id(attempt, number) for number in range(2)]
            found = [store.released(str(APPLICATIONS), one) is not None for one in ids]
            found.append(f"attempt.{attempt}" in directory.state.purposes)
        assert len(set(found)) == 1, "half of a batch is there"
        return found[0]


@cache
def _busy() -> World:
    """Made once, as all that costs signatures: a child that is forked has it already."""
    return busy_world()


@cache
def appended(attempt: int) -> tuple[Envelope, list[tuple[Allow, Envelope]]]:
    """What an attempt appends: a purpose, and two requests with their answers."""
    world = _busy().copy()
    asked = [world.request(request_id=_request_id(attempt, number)) for number in range(2)]
    releases = [(_allow(world, request), world.respond(request)) for request in asked]
    world.register(f"attempt.{attempt}", ObjectVersion(fixed(f"purpose {attempt}", 16)))
    return world.entries[-1], releases


def rehash(store: LogStore, world: World) -> Mapping[Log, int]:
    """Both logs from their leaves up: contiguous, every node the one of its leaves, the head's root signed."""
    signers = note_signers(world)
    for log in Log:
        head = store.head(log)
        entries = store.entries(log, 0, 1 << 40, 1 << 40)
        assert [entry.index for entry in entries] == list(range(head.size))
        frontier, nodes = Frontier().extend([leaf_hash(entry.leaf) for entry in entries])
        assert store.nodes(log, [NodeId(n.level, n.index) for n in nodes]) == tuple(node.hash for node in nodes)
        checkpoint = open_checkpoint(head.checkpoint, signers[log].verifier)
        assert (checkpoint.size, checkpoint.root) == (head.size, frontier.root())
    return {log: store.head(log).size for log in Log}


def _release(allow: Allow, answer: Envelope) -> AccessProposal:
    return AccessProposal(lambda directory, held, now: draw_release(directory, held, allow, answer, now, uncounted))


def _allow(world: World, request: Envelope) -> Allow:
    allow = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allow, Allow)
    return allow


def _request_id(attempt: int, number: int) -> bytes:
    """A UUIDv7 of the world's moment, the same in every process."""
    tail = bytearray(fixed(f"attempt {attempt} {number}", 10))
    tail[0], tail[2] = 0x70 | tail[0] & 0x0F, 0x80 | tail[2] & 0x3F
    return START.to_bytes(6, "big") + bytes(tail)


def _anchor(folder: Path, store: LogStore, world: World) -> Anchor:
    return Anchor(folder / "anchor", store, {log: signer.verifier for log, signer in note_signers(world).items()})


@contextmanager
def _opened(folder: Path) -> Iterator[SqlLogStore]:
    with closing(SqlLogStore.open(folder / "exchange.db")) as store:
        yield store


# --- the ledger


class _OfLedger:
    errors: tuple[str, ...] = ("LedgerFatalError",)

    def prepare(self, folder: Path) -> None:
        with _ledger(folder) as ledger:
            for attempt in (FIRST, AGAIN):
                _requests(attempt)
            for attempt in (0, FIRST + 10, AGAIN + 10):
                asyncio.run(self._commit(ledger, attempt, Ledger.place_anchor))

    async def _commit(self, ledger: Ledger, attempt: int, then: Callable[[Ledger], None]) -> None:
        committer = Committer(_session(World.standard()), ledger, lambda: START)  # type: ignore[arg-type]
        prepared = [_prepared(allow, attempt) for allow in _requests(attempt)]
        await asyncio.gather(*(committer.commit(one) for one in prepared))
        then(ledger)
        await committer.close()

    def check(self, folder: Path, attempt: int) -> bool:
        with _ledger(folder) as ledger:
            ledger.verify()
            found = [self._is_there(ledger, allow.asked.header.request_id) for allow in _requests(attempt)]
        assert len(set(found)) == 1, "half of a batch is there"
        return found[0]

    def _is_there(self, ledger: LedgerReader, request_id: bytes) -> bool:
        raise NotImplementedError


class Commit(_OfLedger):
    """Two answers in one commit, then the anchor."""

    errors = ("LedgerFatalError", "HomeError")

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        def then(ledger: Ledger) -> None:
            acknowledge()
            ledger.place_anchor()

        with _ledger(folder) as ledger, armed:
            asyncio.run(self._commit(ledger, attempt, then))

    def _is_there(self, ledger: LedgerReader, request_id: bytes) -> bool:
        return ledger.find(str(APPLICATIONS), request_id) is not None


class _OfCommitted(_OfLedger):
    """What is written about answers that were prepared for the attempt."""

    def check(self, folder: Path, attempt: int) -> bool:
        return super().check(folder, attempt + 10)


class Settle(_OfCommitted):
    """The receipts of two answers in one commit."""

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        with _ledger(folder) as ledger:
            answers = [_found(ledger, allow.asked.header.request_id) for allow in _requests(attempt + 10)]
            settlements = [_settlement(answer.response_digest, answer.number) for answer in answers]
            with armed:
                ledger.settle_all(settlements)
                acknowledge()

    def _is_there(self, ledger: LedgerReader, request_id: bytes) -> bool:
        return not _found(ledger, request_id).owed


class Erase(_OfCommitted):
    """Two sealed answers whose time has come."""

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        with _ledger(folder) as ledger, armed:
            ledger.erase_sealed(_erase_after(attempt + 10))
            acknowledge()

    def _is_there(self, ledger: LedgerReader, request_id: bytes) -> bool:
        return _found(ledger, request_id).sealed is None


@cache
def _requests(attempt: int) -> list[Allow]:
    world = World.standard()
    return [_allow(world, world.request(request_id=_request_id(attempt, number))) for number in range(2)]


def _prepared(allow: Allow, attempt: int) -> Prepared:
    return Prepared(
        allow=allow,
        channel=World.standard().channel(str(APPLICATIONS)),
        query=b"what was asked",
        answer=encode(Answer(format=1, salt=bytes(32), rows=b"[]")),
        asked=("1", "2"),
        told=("2",),
        rows=1,
        erase_after=_erase_after(attempt),
    )


def _erase_after(attempt: int) -> int:
    """Milliseconds; what was prepared for attempt 0 is never erased."""
    return 1_000_000 * (attempt or 1_000)


def _session(world: World) -> Any:
    """What a committer reads of its session."""
    trust = SimpleNamespace(name=ORIGIN)
    return SimpleNamespace(signer=world.keys[REGISTRY], trust=trust, directory=world.directory, party=REGISTRY)


def _found(ledger: LedgerReader, request_id: bytes) -> Any:
    found = ledger.find(str(APPLICATIONS), request_id)
    assert found is not None
    return found


def _settlement(digest: bytes, index: int) -> Settlement:
    leaf = AccessLeaf(format=1, kind=RELEASED, response_digest=digest)
    receipt = Receipt(index=index, leaf=encode(leaf), checkpoint=b"checkpoint")
    return Settlement(digest, RELEASED, 0, index, encode(receipt))


def _ledger(folder: Path) -> AbstractContextManager[Ledger]:
    return closing(Ledger.open(folder / "ledger.db"))


# --- the department's orders


class Order:
    """A revocation, and the anchor of all orders."""

    errors = ("OrdersError",)

    def prepare(self, folder: Path) -> None:
        with _orders(folder) as orders:
            orders.stop("residents", "an order from before", 1)

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        with _orders(folder) as orders, armed:
            orders.revoke(fixed(f"agreement {attempt}"), b"revocation", "reason", 2)
            acknowledge()

    def check(self, folder: Path, attempt: int) -> bool:
        with _orders(folder) as orders:
            assert "residents" in orders.stopped
            return fixed(f"agreement {attempt}") in orders.revoked


def _orders(folder: Path) -> AbstractContextManager[Orders]:
    return closing(Orders.open(folder / "orders.db"))


# --- cosigned checkpoints


class Cosigned:
    """A checkpoint with its cosignatures, at the broker."""

    errors = ("CommitUnknownError", "StoreFatalError")

    def prepare(self, folder: Path) -> None:
        write_database(folder / "exchange.db", _busy())
        self.write(folder, 0, nullcontext(), lambda: None)

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        with _opened(folder) as store, armed:
            with store.locked() as transaction:
                transaction.keep_cosigned(Witnessed(Log.ACCESS, 3, attempt + 1, b"note %d" % attempt))
            acknowledge()

    def check(self, folder: Path, attempt: int) -> bool:
        with _opened(folder) as store:
            rehash(store, _busy())
            kept = store.cosigned(Log.ACCESS)
        assert kept.note == b"note %d" % (kept.time - 1)
        return kept.time > attempt


class Witness:
    """A larger checkpoint, at the witness: one that it forgot it could contradict."""

    errors = ("MemoryFailedError",)

    def prepare(self, folder: Path) -> None:
        WitnessMemory.create(folder / "witness.db", lambda: START)
        self.write(folder, 0, nullcontext(), lambda: None)

    def write(self, folder: Path, attempt: int, armed: Armed, acknowledge: Acknowledge) -> None:
        log, memory = _busy().directory_log, WitnessMemory(folder / "witness.db", lambda: START)
        latest = memory.latest(log.signer.name)
        old, size = latest.size if latest is not None else 0, attempt + 2
        request = AddCheckpoint(old, log.consistency(old, size) if old else (), log.checkpoint(size))
        submission = Submission(request, open_checkpoint(request.note, log.signer.verifier))
        with armed:
            assert isinstance(memory.advance(submission), Kept)
            acknowledge()

    def check(self, folder: Path, attempt: int) -> bool:
        latest = WitnessMemory(folder / "witness.db", lambda: START).latest(_busy().directory_log.signer.name)
        assert latest is not None
        assert latest.root == _busy().directory_log.roots[latest.size]
        return latest.size >= attempt + 2


PATHS: Mapping[str, WritePath] = {
    "append": Append(),
    "answer": Commit(),
    "settle": Settle(),
    "erase": Erase(),
    "order": Order(),
    "cosigned": Cosigned(),
    "witness": Witness(),
}
