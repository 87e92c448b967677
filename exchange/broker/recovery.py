"""Puts back what a restored log lacks, out of mirrors: leaf by leaf, and only where the log itself has signed it.

A mirror proves what it gives: the stored leaves and the mirror's together must make the root of the mirror's signed
checkpoint. Then one log stands behind both, and appending the rest makes it go on as if nothing had been lost.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice

from exchange.broker.proofs import load_frontier
from exchange.broker.records import access_index
from exchange.core.access import body_problem, read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from exchange.core.directory import Directory
from exchange.core.entries import directory_leaf
from exchange.core.envelope import Envelope
from exchange.core.erasures import Erasures
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.note import NoteSigner
from exchange.core.successions import BREAKS_OBJECT
from exchange.core.wire import decode
from exchange.store.ports import Batch, Head, Log, LogStore, NewEntry, Transaction
from exchange.v1.directory_pb2 import DirectoryLeaf

PAGE = 500
_PAGE_BYTES = 8 * 1024 * 1024

Advance = Callable[[int, int], None]
"""Takes how many entries are done, and how many there are."""


class RecoveryError(Exception):
    """Nothing is put back; the text says why.

    Args:
        message: without a full stop.
        fork: whether it is another history than the stored one.
    """

    def __init__(self, message: str, *, fork: bool = False) -> None:
        super().__init__(message)
        self.fork = fork


@dataclass(frozen=True, slots=True)
class Copy:
    """A log as a mirror has it.

    Args:
        log: which.
        note: the log's signed checkpoint of all that the mirror has.
        entries: leaf and body from an index on; a body is empty where the mirror has none.
    """

    log: Log
    note: bytes
    entries: Callable[[int], Iterator[tuple[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was put back of a log.

    Args:
        before, after: its size.
        bodiless: how many of the entries that were put back have no body that belongs to them.
        lost: its entries as somebody was shown them, where that is more; only where the break is declared.
    """

    log: Log
    before: int
    after: int
    bodiless: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Declared:
    """How a break is declared.

    Args:
        sign: given the lost checkpoint and the first of the log that goes on, both signed by it, and the digest of the
            declaration before, gives the entry.
        now: milliseconds.
    """

    sign: Callable[[bytes, bytes, bytes], Envelope]
    now: int


@dataclass(frozen=True, slots=True)
class _Lost:
    """The size that the access log goes on from, and the largest checkpoint that somebody was shown."""

    kept: int
    checkpoint: Checkpoint

    @property
    def size(self) -> int:
        return self.checkpoint.size


class Recovery:
    """Recovers both logs of a store that no broker has open.

    Args:
        store: the restored one.
        signers: the note keys of both logs.
        genesis: the directory before entry 0.
    """

    def __init__(self, store: LogStore, signers: Mapping[Log, NoteSigner], genesis: Directory) -> None:
        self._store = store
        self._signers = signers
        self._directory = genesis
        self._erasures = Erasures()
        self._objects: dict[int, bytes] = {}
        self._edge = Frontier()

    def run(
        self, copies: Iterable[Copy], seen: Iterable[bytes], advance: Advance, declare: Declared | None = None
    ) -> list[Recovered]:
        """Put back what the copies have beyond the store; all of it, or nothing.

        Args:
            copies: at most one of each log.
            seen: checkpoints that somebody was shown, of either log: what is put back must reach and continue them.
            advance: takes entries.
            declare: declares the break of an access log of which somebody was shown more; None where none is declared.

        Raises:
            RecoveryError: a copy is of another history, or somebody has seen more than the copies give.
            CoreError: a checkpoint is not the log's.
            StoreError: the database failed.
        """
        given = {copy.log: copy for copy in copies}
        marks = self._marks(seen)
        for log in Log:
            if log not in given and not marks[log]:
                raise RecoveryError(f"nothing here says how far the {log} log has come")
        lost = self._given_up(given, marks[Log.ACCESS]) if declare is not None else None
        if lost is not None:
            # Below that, what was seen must come back as always.
            marks[Log.ACCESS] = [mark for mark in marks[Log.ACCESS] if mark.size <= lost.kept]
        self._read_stored()
        with self._store.locked() as transaction:
            heads = dict(transaction.heads())
            done = [self._recover(transaction, heads[log], given.get(log), marks[log], advance) for log in Log]
            self._erase_again(transaction)
            if lost is not None and declare is not None:
                self._declare(transaction, lost, declare)
                done[1] = replace(done[1], lost=lost.size)
        return done

    def _given_up(self, given: Mapping[Log, Copy], marks: "Sequence[Checkpoint]") -> _Lost:
        """What somebody was shown of the access log beyond all that is here."""
        copy, verifier = given.get(Log.ACCESS), self._signers[Log.ACCESS].verifier
        kept = self._store.head(Log.ACCESS).size
        if copy is not None:
            kept = max(kept, open_checkpoint(copy.note, verifier).size)
        largest = max(marks, key=lambda mark: mark.size, default=None)
        if largest is None or largest.size <= kept:
            raise RecoveryError(f"nobody here has seen more of the access log than the {kept} entries that there are")
        return _Lost(kept, largest)

    def _declare(self, transaction: Transaction, lost: _Lost, declare: Declared) -> None:
        """Append the root's declaration to the directory, in the same transaction."""
        signer, log = self._signers[Log.ACCESS], self._signers[Log.DIRECTORY]
        heads = transaction.heads()
        note = sign_checkpoint(Checkpoint(signer.name, lost.checkpoint.size, lost.checkpoint.root), signer)
        before = self._directory.state.objects.get(BREAKS_OBJECT, b"")
        envelope = declare.sign(note, heads[Log.ACCESS].checkpoint, before)
        head = heads[Log.DIRECTORY]
        time = max(head.time, declare.now)
        leaf = directory_leaf(envelope, time)
        grown, applied = self._directory.apply(leaf, b"")
        if applied.reason:
            raise RecoveryError(f"the directory refuses the declaration: {applied.reason}")
        frontier, nodes = self._edge.extend([leaf_hash(leaf)])
        note = sign_checkpoint(Checkpoint(log.name, frontier.size, frontier.root()), log)
        entry = NewEntry(leaf, b"", None)
        transaction.append(
            Batch(Log.DIRECTORY, head.size, (entry,), nodes, Head(Log.DIRECTORY, frontier.size, note, time))
        )
        self._directory = grown

    def _read_stored(self) -> None:
        """Fold what the store has: what the rest means depends on it."""
        while entries := self._store.entries(Log.DIRECTORY, self._directory.size, _PAGE_BYTES, PAGE):
            for entry in entries:
                self._fold(entry.leaf, entry.body)

    def _fold(self, leaf: bytes, body: bytes) -> bytes:
        """The body, where it is the one that the leaf names."""
        index = self._directory.size
        self._directory, applied = self._directory.apply(leaf, body)
        self._erasures.add(applied, self._directory.state)
        version = self._directory.state.versions.get(applied.digest)
        if version is None or not version.body_sha256:
            return b""
        self._objects[index] = version.object_id
        return body if sha256(body).digest() == version.body_sha256 else b""

    def _marks(self, seen: Iterable[bytes]) -> dict[Log, list[Checkpoint]]:
        marks: dict[Log, list[Checkpoint]] = {log: [] for log in Log}
        for note in seen:
            log = self._log_of(note)
            marks[log].append(open_checkpoint(note, self._signers[log].verifier))
        return marks

    def _log_of(self, note: bytes) -> Log:
        origin = note.partition(b"\n")[0].decode(errors="replace")
        for log, signer in self._signers.items():
            if signer.name == origin:
                return log
        raise RecoveryError(f"a checkpoint is of {origin[:100]!r}, and not of this exchange")

    def _recover(
        self, transaction: Transaction, head: Head, copy: Copy | None, marks: Sequence[Checkpoint], advance: Advance
    ) -> Recovered:
        goal = open_checkpoint(copy.note, self._signers[head.log].verifier) if copy is not None else None
        reached = max(head.size, goal.size if goal is not None else 0)
        for mark in marks:
            if mark.size > reached:
                raise RecoveryError(
                    f"the {head.log} log had {mark.size} entries, as somebody was shown, and only {reached} are here"
                )
        frontier = self._own_frontier(head)
        if head.log is Log.DIRECTORY:
            self._edge = frontier
        known = [*marks, *((goal,) if goal is not None else ())]
        for mark in known:
            if mark.size <= head.size:
                self._require_root(head.log, mark, load_frontier(self._store, head.log, mark.size).root())
        later = [mark for mark in known if mark.size > head.size]
        if copy is None or goal is None or goal.size <= head.size:
            return Recovered(head.log, head.size, head.size)
        return self._extend(transaction, head, copy, frontier, later, advance)

    def _own_frontier(self, head: Head) -> Frontier:
        frontier = load_frontier(self._store, head.log, head.size)
        signed = open_checkpoint(head.checkpoint, self._signers[head.log].verifier)
        if (signed.size, signed.root) != (head.size, frontier.root()):
            raise RecoveryError(f"the {head.log} log does not make its own signed root: mend it with fsck first")
        return frontier

    def _require_root(self, log: Log, mark: Checkpoint, root: bytes) -> None:
        if mark.root != root:
            raise RecoveryError(
                f"the {log} log is another one than the one whose {mark.size} entries were signed", fork=True
            )

    def _extend(
        self,
        transaction: Transaction,
        head: Head,
        copy: Copy,
        frontier: Frontier,
        marks: Sequence[Checkpoint],
        advance: Advance,
    ) -> Recovered:
        """Append pages that end where a checkpoint was signed: each of them must be reached."""
        entries, time, bodiless = copy.entries(head.size), head.time, 0
        by_size = {mark.size: mark for mark in marks}
        end = max(by_size)
        while frontier.size < end:
            stop = min([size for size in by_size if size > frontier.size])
            page = list(islice(entries, min(PAGE, stop - frontier.size)))
            if not page:
                raise RecoveryError(f"the mirror's {head.log} log ends before its own checkpoint")
            new = [self._entry(head.log, leaf, body) for leaf, body in page]
            bodiless += sum(1 for entry, lacks in new if lacks)
            start, (frontier, nodes) = frontier.size, frontier.extend([leaf_hash(leaf) for leaf, _ in page])
            time = max(time, self._time(head.log, page[-1][0]))
            if frontier.size in by_size:
                self._require_root(head.log, by_size[frontier.size], frontier.root())
            signer = self._signers[head.log]
            # Ed25519 is deterministic (RFC 8032): at a size that the log has signed it is the same checkpoint.
            note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
            transaction.append(
                Batch(
                    head.log, start, tuple(entry for entry, _ in new), nodes, Head(head.log, frontier.size, note, time)
                )
            )
            advance(frontier.size - head.size, end - head.size)
        if head.log is Log.DIRECTORY:
            self._edge = frontier
        return Recovered(head.log, head.size, end, bodiless)

    def _entry(self, log: Log, leaf: bytes, body: bytes) -> tuple[NewEntry, bool]:
        """The leaf verbatim; a body only where it is the one that the leaf names; whether there is none."""
        if log is Log.DIRECTORY:
            index, kept = self._directory.size, self._fold(leaf, body)
            return NewEntry(leaf, kept, None), index in self._objects and not kept
        said = read_access_leaf(leaf)
        kept = b"" if body_problem(said, body) else body
        return NewEntry(leaf, kept, access_index(said)), bool(body_problem(said, kept))

    def _time(self, log: Log, leaf: bytes) -> int:
        return int(read_access_leaf(leaf).time if log is Log.ACCESS else decode(DirectoryLeaf, leaf).time)

    def _erase_again(self, transaction: Transaction) -> None:
        """What was erased after the backup was taken is in it still; the entries that came back say that it must go."""
        for first, end in self._erasures.ranges():
            transaction.erase(Log.ACCESS, first, end)
        for index, object_id in self._objects.items():
            if self._erasures.of_object(object_id) is not None:
                transaction.erase(Log.DIRECTORY, index, index + 1)
