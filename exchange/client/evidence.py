"""What the access log has shown this home: every receipt's checkpoint must belong to one history (DESIGN section 6)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from exchange.batching import Batcher
from exchange.client.breaks import Breaks, denies
from exchange.client.calls import MAX_CHECKPOINT, Transport, brokers_checkpoint, call
from exchange.client.errors import (
    BrokenLogError,
    EvidenceError,
    ExchangeError,
    ForkError,
    RefusedError,
    ResponseInvalidError,
    RollbackError,
    UnavailableError,
)
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.access import Proven
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError, ProofError
from exchange.core.merkle import verify_consistency
from exchange.core.note import Verifier
from exchange.core.successions import Succession
from exchange.transport import ACCESS_PROVE, ACCESS_READ
from exchange.v1.log_pb2 import (
    LogServiceProveRequest,
    LogServiceProveResponse,
    ProofRequest,
    ReadRequest,
    ReadResponse,
)

WITHIN = 5.0
"""Seconds in which a checkpoint is checked against those before it (DESIGN section 6)."""

TIMEOUT = 5.0
"""Seconds for one proof."""

GATHER = 1.0
"""Seconds in which checkpoints gather, so that one proof serves many receipts."""

AT_ONCE = 16
"""Proofs that are asked for at the same moment."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A checkpoint, and the note that the log signed for it."""

    checkpoint: Checkpoint
    note: bytes

    @property
    def size(self) -> int:
        return self.checkpoint.size


class _ContradictedError(Exception):
    """Two checkpoints are not of one history."""

    def __init__(self, error: BrokenLogError) -> None:
        super().__init__(str(error))
        self.error = error


class AccessEvidence:
    """Demands that all checkpoints of the access log that one home sees are of one history, and keeps the newest.

    Args:
        file: keeps the last checkpoint, and a failure for good.
        verifier: the access log's note key.
        transport: whom to ask for proofs.
        declared: the breaks of the log that the root has declared, as the directory is mirrored now.
        refresh: brings that mirror up to date.
    """

    def __init__(
        self,
        file: MirrorFile,
        verifier: Verifier,
        transport: Transport,
        declared: Callable[[], Sequence[Succession]] = tuple,
        refresh: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._refresh = refresh
        self._breaks = Breaks(file, verifier, transport, declared)
        self._file = file
        self._verifier = verifier
        self._transport = transport
        self._pending: dict[int, _Seen] = {}
        # What the file keeps of sizes that another note stands for in `_pending`.
        self._doubles: dict[bytes, int] = {}
        self._keeper: Batcher[bytes, None] = Batcher(self._keep)
        self._checked: _Seen | None = None
        self._failure: BrokenLogError | None = None
        self._due = 0.0
        self._lock = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up what an earlier process of this home could not check.

        Raises:
            BrokenLogError: a log has failed before.
        """
        self._failure = await asyncio.to_thread(self._file.failure)
        self.check()
        for note in await asyncio.to_thread(self._file.unchecked):
            self._see(self._read(note), kept=True)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that this process has checked."""
        return self._checked.checkpoint if self._checked is not None else None

    def check(self) -> None:
        """Raise the sticky failure, if there is one.

        Raises:
            BrokenLogError: a log has failed.
        """
        if self._failure is not None:
            raise self._failure

    def observe(self, proven: Proven, note: bytes = b"") -> None:
        """Queue a receipt's checkpoint; it is checked within `WITHIN` seconds, in the background.

        Args:
            proven: what the receipt proves.
            note: the receipt's checkpoint as the log signed it: without it the checkpoint is checked, but neither
                kept for later processes nor of use as evidence; one that is too long counts as none.

        Raises:
            ForkError: the log has signed another root for this size.
        """
        self.check()
        self._see(_Seen(proven.checkpoint, note if len(note) <= MAX_CHECKPOINT else b""))

    async def keep(self, note: bytes) -> None:
        """Keep a receipt's checkpoint on disk, durable when this returns, and queue it as `observe` does.

        Whatever becomes of this process, the next one of this home holds the log to it. Many at a time share one
        write; what the file holds as the log's head already costs none.

        Args:
            note: the checkpoint as the log signed it.

        Raises:
            EvidenceError: it is not the access log's.
            ForkError: the log has signed another root for this size; sticky.
            UnavailableError: the disk does not take it; nothing may be done on its strength.
        """
        self.check()
        if self._checked is not None and note == self._checked.note:
            return
        try:
            seen = _Seen(brokers_checkpoint(note, self._verifier), note)
        except CoreError as error:
            raise EvidenceError(f"the access log's checkpoint does not hold: {error}") from error
        await self._keeper.submit(note)
        # Even if this size was checked meanwhile: what is kept is dropped by a check, and in no other way.
        self._see(seen, kept=True)

    async def settle_breaks(self) -> bool:
        """Give up what a break that the root has declared took, where this home has not done so yet.

        Returns:
            Whether anything was given up.

        Raises:
            UnavailableError: nobody says what the log still proves.
        """
        async with self._lock:
            return await self._give_up()

    async def ready(self) -> None:
        """Check at once what has waited too long: nothing new is asked through a log that owes a proof.

        Raises:
            BrokenLogError, UnavailableError: as `settle`.
        """
        self.check()
        if self._pending and asyncio.get_running_loop().time() > self._due:
            await self.settle()

    async def settle(self) -> None:
        """Wait until everything observed before this call is checked.

        Raises:
            BrokenLogError: the log contradicts itself; sticky.
            UnavailableError: nobody gave the proofs; what was observed stays queued.
        """
        observed = set(self._pending)
        while True:
            async with self._lock:
                self.check()
                if observed.isdisjoint(self._pending):
                    return
                await self._check_pending()

    async def close(self) -> None:
        """Settle; where nobody gives the proofs, the next process of this home demands them.

        Raises:
            BrokenLogError: the log contradicts itself; sticky.
        """
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._keeper.close()
        if self._failure is None:
            try:
                await self.settle()
            except UnavailableError:
                await asyncio.to_thread(self._file.keep_unchecked, _notes(self._pending.values()))

    async def _keep(self, notes: Sequence[bytes]) -> Sequence[None]:
        await asyncio.to_thread(self._file.keep_unchecked, notes)
        return [None] * len(notes)

    def _see(self, seen: _Seen, *, kept: bool = False) -> None:
        checked, queued = self._checked, self._pending.get(seen.size)
        for other in (checked, queued):
            if other is not None and other.size == seen.size and other.checkpoint.root != seen.checkpoint.root:
                raise self._fail(_fork(other, seen))
        if queued is not None:
            if kept:
                self._doubles[seen.note] = seen.size
            return
        if checked is not None and checked.size == seen.size and not kept:
            return
        loop = asyncio.get_running_loop()
        if not self._pending:
            self._due = loop.time() + WITHIN
        self._pending[seen.size] = seen
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._settle_later())

    async def _settle_later(self) -> None:
        while self._pending and self._failure is None:
            await asyncio.sleep(GATHER)
            # `settle` and `ready` tell the caller; here the failure is kept, and what is unavailable tried again.
            with suppress(ExchangeError):
                async with self._lock:
                    await self._check_pending()

    async def _check_pending(self) -> None:
        """Prove what is queued and what the file keeps to be one history, each to the next larger one.

        A contradiction is none where the root has declared that what was seen is lost.
        """
        try:
            await self._check_history()
        except _ContradictedError as found:
            if self._refresh is not None:
                # What contradicts itself may have been declared a moment ago.
                await self._refresh()
            if not await self._give_up():
                raise await asyncio.to_thread(self._fail, found.error) from found
            try:
                await self._check_history()
            except _ContradictedError as again:
                raise await asyncio.to_thread(self._fail, again.error) from again

    async def _check_history(self) -> None:
        queued = dict(self._pending)
        doubles = [note for note, size in self._doubles.items() if size in queued]
        if not queued:
            return
        head = await asyncio.to_thread(self._file.head, ACCESS)
        history = sorted([*queued.values(), *([self._read(head)] if head else [])], key=lambda seen: seen.size)
        pairs = list(pairwise(history))
        for start in range(0, len(pairs), AT_ONCE):
            await asyncio.gather(*(self._prove(*pair) for pair in pairs[start : start + AT_ONCE]))
        newest = next((seen.note for seen in reversed(history) if seen.note), head)
        # Where another process moved it meanwhile, `settle` comes again.
        if newest != head and not await asyncio.to_thread(self._file.move_head, ACCESS, head, newest):
            return
        await asyncio.to_thread(self._file.forget_unchecked, [*_notes(queued.values()), *doubles])
        self._checked = history[-1]
        for note in doubles:
            del self._doubles[note]
        # A double that came meanwhile is kept still: its size stays queued, and the next check drops it.
        late = set(self._doubles.values())
        self._forget(seen for seen in queued.values() if seen.size not in late)

    async def _give_up(self) -> bool:
        queued = [(seen.checkpoint, seen.note) for seen in self._pending.values()]
        lost, is_moved = await self._breaks.settle(queued)
        for checkpoint in lost:
            self._pending.pop(checkpoint.size, None)
        self._doubles = {note: size for note, size in self._doubles.items() if size in self._pending}
        if is_moved:
            self._checked = None
        return bool(lost) or is_moved

    def _forget(self, checked: Iterable[_Seen]) -> None:
        for seen in checked:
            self._pending.pop(seen.size, None)
        self._due = asyncio.get_running_loop().time() + WITHIN

    async def _prove(self, earlier: _Seen, later: _Seen) -> None:
        if earlier.size == later.size:
            if earlier.checkpoint.root != later.checkpoint.root:
                raise _ContradictedError(_fork(earlier, later))
            return
        if not earlier.size:
            # Every log goes on from an empty one.
            return
        path = await self._path(earlier, later)
        old, new = earlier.checkpoint, later.checkpoint
        try:
            verify_consistency(old.size, old.root, new.size, new.root, path)
        except ProofError as error:
            raise _ContradictedError(_fork(earlier, later)) from error

    async def _path(self, earlier: _Seen, later: _Seen) -> tuple[bytes, ...]:
        request = LogServiceProveRequest(proof=ProofRequest(old_size=earlier.size, size=later.size))
        try:
            response = await call(self._transport, ACCESS_PROVE, request, LogServiceProveResponse, TIMEOUT)
        except (RefusedError, ResponseInvalidError, UnavailableError) as error:
            if denies(error):
                await self._expose_rollback(later)
            raise UnavailableError(f"the access log did not prove its consistency: {error}", error.hint) from error
        return tuple(response.path)

    async def _expose_rollback(self, seen: _Seen) -> None:
        """A log that was rolled back has a smaller head than it signed: its own checkpoint says so."""
        response = await call(self._transport, ACCESS_READ, ReadRequest(start=seen.size), ReadResponse, TIMEOUT)
        head = self._read_head(response.checkpoint)
        if head.size < seen.size:
            text = f"the access log had {seen.size} entries, and now has {head.size}"
            rollback = RollbackError(text, earlier=seen.note, later=head.note)
            raise _ContradictedError(rollback)

    def _read_head(self, note: bytes) -> _Seen:
        try:
            return _Seen(brokers_checkpoint(note, self._verifier), note)
        except CoreError as error:
            raise UnavailableError(f"the access log's checkpoint does not hold: {error}") from error

    def _fail(self, error: BrokenLogError) -> BrokenLogError:
        self._failure = self._file.fail(ACCESS, error)
        return self._failure

    def _read(self, note: bytes) -> _Seen:
        try:
            return _Seen(open_checkpoint(note, self._verifier), note)
        except CoreError as error:
            text = f"its checkpoint of the access log does not hold: {error}"
            raise self._file.unproven(note, self._verifier, text) from error


def _notes(seen: Iterable[_Seen]) -> list[bytes]:
    return [item.note for item in seen if item.note]


def _fork(earlier: _Seen, later: _Seen) -> ForkError:
    text = f"the access log of {later.size} entries does not go on from that of {earlier.size}"
    return ForkError(text, earlier=earlier.note, later=later.note)
