"""The party's own copy of the directory, checked against the signed checkpoints and folded from its last snapshot.

Nothing in it is taken on a broker's word (DESIGN sections 2 and 7): every page must lead to a root that the log
signed, the log may only grow, and what a broker says about any entry is what `Directory.apply` makes of its leaf.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from exchange.client.arriving import FILE as ARRIVING
from exchange.client.arriving import Arriving, ArrivingFile, extend_by, fold_by
from exchange.client.calls import Shared, Transport, brokers_checkpoint, call, whole
from exchange.client.errors import (
    BrokenLogError,
    DirectoryDiffersError,
    EvidenceError,
    ForkError,
    RefusedError,
    ResponseInvalidError,
    RollbackError,
    StaleError,
    UnavailableError,
)
from exchange.client.folding import Folded, beginning, extend, fold, genesis, keep
from exchange.client.storage import DIRECTORY, Entry, MirrorFile
from exchange.core.belongings import rows_of
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import CoreError, ProofError
from exchange.core.merkle import verify_consistency
from exchange.core.trust import Trust
from exchange.transport import DIRECTORY_PROVE, DIRECTORY_SYNC
from exchange.v1.log_pb2 import (
    DirectoryServiceProveRequest,
    DirectoryServiceProveResponse,
    DirectoryServiceSyncRequest,
    DirectoryServiceSyncResponse,
    ProofRequest,
    Record,
)

TIMEOUT = 30.0

FLIGHT = 300.0
"""Seconds for one sync, or for each stretch of entries that is proven; it also ends when nobody waits for it."""

MAX_AGAIN = 50
"""Pages that one sync reads again at once for bodies that were left out."""

Wanted = Callable[[Directory], Mapping[int, bytes]]
"""The entries whose bodies a party should have and has not, with each body's SHA-256."""

Progress = Callable[[int, int], None]
"""Takes how many entries of the log have come, and how many it has."""

_ANOTHER = "tell the operator, and use another broker"


@dataclass(frozen=True, slots=True)
class _Growth:
    """Entries as a broker gave them, and the checkpoints that came with them; they reach the last one."""

    entries: Arriving
    signed: tuple[tuple[Checkpoint, bytes], ...]


class _MismatchError(Exception):
    """Entries from a broker do not make the root of the checkpoint `after`, going on from `before`."""

    def __init__(self, before: Checkpoint, earlier: bytes, after: Checkpoint, later: bytes) -> None:
        super().__init__("the entries do not make the signed root")
        self.before, self.earlier, self.after, self.later = before, earlier, after, later


class DirectoryMirror:
    """The mirror of one home; create it with `open`, and use it on one event loop. `cosigned` came last, unverified."""

    def __init__(self, file: MirrorFile, trust: Trust, wanted: Wanted) -> None:
        self._file = file
        self._trust = trust
        self._wanted = wanted
        self._folded = genesis(trust)
        self._failure: BrokenLogError | None = None
        self._flight, self.cosigned = Shared(), b""
        self._arriving = ArrivingFile(file.path.with_name(ARRIVING))
        self.progress: Progress = lambda _done, _total: None
        self._completed: set[int] = set()

    @classmethod
    async def open(cls, path: Path, trust: Trust) -> "DirectoryMirror":
        """Read the mirror from disk, and fold it from the last snapshot that it kept, or from entry 0.

        Args:
            path: HOME/mirror.db; made if it is not there.
            trust: what to check it against.

        Raises:
            BrokenLogError: a log has failed before.
            EvidenceError: the file was altered.
            UntrustedError: it was made with another key of the log than the trust file has.
            UnavailableError: the file cannot be used.
        """
        return await cls.of(await asyncio.to_thread(MirrorFile, path), trust)

    @classmethod
    async def of(cls, file: MirrorFile, trust: Trust, wanted: Wanted = lambda _: {}) -> "DirectoryMirror":
        """The same as `open`, over a file that is open already.

        Args:
            wanted: which bodies each sync asks for again, where a broker once left them out.
        """
        mirror = cls(file, trust, wanted)
        await asyncio.to_thread(mirror._reload)
        return mirror

    @property
    def directory(self) -> Directory:
        """The directory as of `checkpoint`."""
        return self._folded.directory

    @property
    def checkpoint(self) -> Checkpoint:
        """The last checkpoint of the directory log; of size 0 before the first sync."""
        return self._folded.checkpoint

    @property
    def note(self) -> bytes:
        """`checkpoint` as the log signed it; empty before the first sync."""
        return self._folded.note

    async def sync(self, transport: Transport, at_least: int | None = None, *, timeout: float = TIMEOUT) -> Directory:
        """Fetch what the log holds beyond this mirror; calls at the same moment share one flight.

        Args:
            transport: the way to a broker.
            at_least: the size that is needed; nothing is asked where the mirror has it.
            timeout: seconds for each page.

        Returns:
            The directory, which the mirror keeps.

        Raises:
            RollbackError, ForkError: the log contradicts what it signed before; sticky.
            EvidenceError: what the broker sent does not prove itself.
            StaleError: the broker's log is smaller than `at_least`.
            UnavailableError: no broker, or not in time.
        """
        self.check()
        if at_least is None:
            await self._flight.join(lambda: self._fly(transport, timeout))
            return self.directory
        # A flight that took off before this call may miss what is asked for; the second one cannot.
        for _ in range(2):
            if self.directory.size < at_least:
                await self._flight.join(lambda: self._fly(transport, timeout))
        if self.directory.size < at_least:
            raise StaleError(
                f"the broker's directory has {self.directory.size} entries, but {at_least} are needed",
                "the broker is behind, or withholds entries: try another one",
            )
        return self.directory

    async def confirm(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Check that another checkpoint of the log, no larger than the mirror, is of the same history.

        Raises:
            ForkError: it is not; sticky.
        """
        self.check()
        folded = self._folded
        if checkpoint.size > folded.frontier.size:
            raise ValueError("sync to the checkpoint first")
        if await asyncio.to_thread(folded.root, checkpoint.size, self._file) != checkpoint.root:
            text = f"the directory log signed two histories of {checkpoint.size} entries"
            raise await asyncio.to_thread(self._fail, ForkError(text, earlier=folded.note, later=note))

    def check(self) -> None:
        """Raise the sticky failure, if there is one.

        Raises:
            BrokenLogError: a log has failed.
        """
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Give up a sync that is under way."""
        await self._flight.close()

    async def _fly(self, transport: Transport, timeout: float) -> None:
        try:
            async with asyncio.timeout(FLIGHT) as limit:
                # Another process of this home may have gone further.
                await whole(self._reload)
                growth = await self._fetch(transport, timeout, limit)
                try:
                    await whole(self._grow, growth)
                except _MismatchError as error:
                    await self._explain(transport, timeout, error)
                # The second time for what the first has told: an application, whose agreements may be ours.
                if await self._complete(transport, timeout):
                    await self._complete(transport, timeout)
        except TimeoutError as error:
            raise UnavailableError(f"the broker did not bring the directory in {FLIGHT:.0f} s", _ANOTHER) from error

    async def _explain(self, transport: Transport, timeout: float, mismatch: _MismatchError) -> None:
        """Entries that do not make the signed root: either the broker altered them, or the log has forked.

        Raises:
            EvidenceError: the log proves that it only grew, so what the broker sent is not what the log holds; or the
                broker proves nothing, and neither do the two checkpoints.
            ForkError: two roots of one size, or a proof that does not hold; sticky.
            UnavailableError: nobody gave a proof.
        """
        before, after = mismatch.before, mismatch.after
        text = f"the directory log of {after.size} entries does not go on from that of {before.size}"
        fork = ForkError(text, earlier=mismatch.earlier, later=mismatch.later)
        if before.size == after.size:
            raise await asyncio.to_thread(self._fail, fork)
        proof = ProofRequest(old_size=before.size, size=after.size)
        request = DirectoryServiceProveRequest(proof=proof)
        try:
            response = await call(transport, DIRECTORY_PROVE, request, DirectoryServiceProveResponse, timeout)
            verify_consistency(before.size, before.root, after.size, after.root, tuple(response.path))
        except (RefusedError, ResponseInvalidError) as error:
            raise EvidenceError(f"{text}, and the broker does not prove that it does: {error}", _ANOTHER) from error
        except ProofError as error:
            raise await asyncio.to_thread(self._fail, fork) from error
        raise EvidenceError("the broker sent entries that are not those of the directory log", _ANOTHER)

    async def _fetch(self, transport: Transport, timeout: float, limit: asyncio.Timeout) -> _Growth:
        """Pages from the mirror's end on, until they reach the checkpoint that came with the last one."""
        entries = await whole(Arriving, self._arriving, self._folded.frontier)
        signed: list[tuple[Checkpoint, bytes]] = []
        while True:
            try:
                records, checkpoint, note = await self._page(transport, entries.size, timeout)
            except RefusedError:
                if entries.is_resumed and not signed:
                    # Another broker than the one that the rest came from may not have so many yet.
                    await whole(entries.clear)
                    entries = await whole(Arriving, self._arriving, self._folded.frontier)
                    continue
                await self._expose_rollback(transport, timeout)
                raise
            if not signed or signed[-1][1] != note:
                signed.append((checkpoint, note))
            for record in records:
                if record.index != entries.size or record.index >= checkpoint.size:
                    raise EvidenceError("the broker sent entries of the directory out of order")
                entries.add(Entry(record.index, record.leaf, record.body))
            self.progress(entries.size, checkpoint.size)
            if entries.size >= checkpoint.size:
                return _Growth(entries, tuple(signed))
            if not records:
                raise EvidenceError("the broker withholds entries of the directory that its log has signed")
            if entries.is_full:
                await self._keep(transport, timeout, _Growth(entries, tuple(signed)))
                limit.reschedule(asyncio.get_running_loop().time() + FLIGHT)

    async def _keep(self, transport: Transport, timeout: float, growth: _Growth) -> None:
        """Keep a stretch of entries that are proven to be the beginning of what the log signed, or a broker could fill
        the disk with anything (RFC 9162 section 2.1.4)."""
        entries, (checkpoint, note) = growth.entries, growth.signed[-1]
        grown = await asyncio.to_thread(entries.grown)
        request = DirectoryServiceProveRequest(proof=ProofRequest(old_size=grown.size, size=checkpoint.size))
        try:
            response = await call(transport, DIRECTORY_PROVE, request, DirectoryServiceProveResponse, timeout)
            verify_consistency(grown.size, grown.root(), checkpoint.size, checkpoint.root, tuple(response.path))
        except (ProofError, RefusedError, ResponseInvalidError) as error:
            await whole(entries.clear)
            if not self.note:
                text = f"the broker does not prove its entries of the directory: {error}"
                raise EvidenceError(text, _ANOTHER) from error
            await self._explain(transport, timeout, _MismatchError(self.checkpoint, self.note, checkpoint, note))
        else:
            await whole(entries.keep, grown)

    async def _complete(self, transport: Transport, timeout: float) -> bool:
        """Ask again for bodies that a broker left out, or its silence would cost this party its rights for good."""
        missing = await asyncio.to_thread(self._wanted, self.directory)
        wanted = {index: digest for index, digest in missing.items() if index not in self._completed}
        found: dict[int, bytes] = {}
        # The sync stands without them.
        with suppress(EvidenceError, RefusedError, ResponseInvalidError, UnavailableError):
            for _ in range(MAX_AGAIN):
                if not wanted:
                    break
                records, _, _ = await self._page(transport, start := min(wanted), timeout)
                for record in records:
                    if hashlib.sha256(record.body).digest() == wanted.get(record.index):
                        found[record.index] = record.body
                last = max([start, *(record.index for record in records)])
                wanted = {index: digest for index, digest in wanted.items() if index > last}
        if found:
            await whole(self._file.complete, found, tuple(rows_of(self.directory.state, found)))
            await whole(self._reload, anew=True)
            self._completed |= found.keys()
        return bool(found)

    async def _page(
        self, transport: Transport, start: int, timeout: float
    ) -> tuple[Sequence[Record], Checkpoint, bytes]:
        request = DirectoryServiceSyncRequest(start=start)
        response = await call(transport, DIRECTORY_SYNC, request, DirectoryServiceSyncResponse, timeout)
        try:
            checkpoint = brokers_checkpoint(response.checkpoint, self._trust.directory_log)
        except CoreError as error:
            raise EvidenceError(f"the broker's checkpoint of the directory does not hold: {error}") from error
        self.cosigned = response.cosigned
        return response.records, checkpoint, response.checkpoint

    async def _expose_rollback(self, transport: Transport, timeout: float) -> None:
        """A log that was rolled back has no entries from our end on: its own checkpoint says how many it has."""
        if self.checkpoint.size:
            _, checkpoint, note = await self._page(transport, 0, timeout)
            await asyncio.to_thread(self._check_size, self.checkpoint, self.note, checkpoint, note)

    def _grow(self, growth: _Growth) -> None:
        """Check, fold and persist what a broker gave; in a thread."""
        checkpoint, note = growth.signed[-1]
        seen, arrived = self._folded, growth.entries
        try:
            hashes, frontier = extend_by(seen, arrived, checkpoint.size)
            self._check_growth(growth, hashes)
        except (EvidenceError, _MismatchError):
            arrived.clear()
            raise
        if arrived.size == seen.frontier.size and self.note:
            return
        grown = fold_by(seen, arrived, checkpoint.size)
        kept = (entry for stretch in arrived.stretches(checkpoint.size) for entry in grown.bared(stretch))
        other = self._file.extend(kept, note, checkpoint.size)
        if other is not None:
            text = f"the directory log gave this home two entries {other}"
            raise self._fail(ForkError(text, earlier=self._file.head(DIRECTORY), later=note))
        # COMMITTED: only what is durable is used, so a crash cannot make this party forget what it has seen.
        self._folded = Folded(grown.directory, frontier, hashes, checkpoint, note, seen.base)
        keep(self._file, self._folded, grown.snapshot)
        arrived.clear()

    def _check_growth(self, growth: _Growth, hashes: Sequence[bytes]) -> None:
        """DESIGN section 7: the log only grows, and our own leaves with the new ones make each root that it signed."""
        frontier = self._folded.frontier
        before, earlier = self.checkpoint, self.note
        # Sizes first: between a checkpoint and a smaller one after it there are no entries to check.
        for (smaller, old), (larger, new) in pairwise(((before, earlier), *growth.signed)):
            self._check_size(smaller, old, larger, new)
        for checkpoint, note in growth.signed:
            frontier, _ = frontier.extend(self._folded.between(frontier.size, checkpoint.size, hashes))
            if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):
                if not earlier:
                    raise EvidenceError("the broker's entries do not make the root that the directory log signed")
                raise _MismatchError(before, earlier, checkpoint, note)
            before, earlier = checkpoint, note

    def _check_size(self, before: Checkpoint, earlier: bytes, checkpoint: Checkpoint, note: bytes) -> None:
        if checkpoint.size < before.size:
            text = f"the directory log had {before.size} entries, and now has {checkpoint.size}"
            raise self._fail(RollbackError(text, earlier=earlier, later=note))

    def _reload(self, *, anew: bool = False) -> None:
        """Take in what the file holds beyond this mirror, or all of it; in a thread."""
        self._failure = self._failure or self._file.failure()
        self.check()
        seen = beginning(self._file, self._trust) if anew or not self.note else self._folded
        loaded = self._file.load(seen.directory.size)
        if not loaded.note or loaded.note == seen.note:
            return
        try:
            checkpoint = open_checkpoint(loaded.note, self._trust.directory_log)
        except CoreError as error:
            raise self._file.unproven(loaded.note, self._trust.directory_log, str(error)) from error
        hashes, frontier = extend(seen, loaded.entries)
        if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):
            raise self._file.tampered("its entries do not make the root that the directory log signed")
        try:
            grown = fold(seen, loaded.entries)
        except DirectoryDiffersError:
            raise
        except EvidenceError as error:
            raise self._file.tampered(str(error)) from error
        if grown.entries != loaded.entries:
            raise self._file.tampered("it has a body that no entry names")
        self._folded = Folded(grown.directory, frontier, hashes, checkpoint, loaded.note, seen.base)
        keep(self._file, self._folded, grown.snapshot)

    def _fail(self, error: BrokenLogError) -> BrokenLogError:
        self._failure = self._file.fail(DIRECTORY, error)
        return self._failure
