"""Where a broker's folding begins: the state that it kept, which is believed no more than the log is, or entry 0."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog

from exchange.broker.proofs import load_frontier
from exchange.core.belongings import Belongings, rows_since
from exchange.core.checkpoint import open_checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.merkle import HASH_SIZE, inclusion_proof, leaf_hash, verify_inclusion
from exchange.core.note import Verifier
from exchange.core.snapshot import encode_state, open_state, said_digest
from exchange.core.state import State, Version
from exchange.core.trust import Trust
from exchange.home import HomeError, write_file
from exchange.store.ports import Log, LogStore, StoreError

FILE = "directory.state"
"""Beside the anchor. It can be deleted at any time: it is made again."""

_MAGIC = b"exchange directory state 2\n"
_LENGTH = 4
_PAGE = 1000
_PAGE_BYTES = 8 * 1024 * 1024

logger = structlog.get_logger("exchange.broker")


class NoBeginningError(Exception):
    """The kept state is not what the log says; the text says why."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the log is folded onto.

    Args:
        directory: of entry 0, or of a snapshot.
        index_of: the place of a valid entry that is folded in already, by its message digest.
        keep: is given the state of a snapshot entry that is durable, or None; nothing waits for what it does.
    """

    directory: Directory
    index_of: Callable[[bytes], int | None] = lambda _digest: None
    keep: Callable[[State | None], None] = lambda _state: None


class StateFile:
    """The state that a broker keeps; `close` it.

    Args:
        path: the file.
        store: the logs, whose directory it is of.
        verifier: the directory log's note key.
    """

    def __init__(self, path: Path, store: LogStore, verifier: Verifier) -> None:
        self.path = path
        self._store = store
        self._verifier = verifier
        self._indexed, self._belongings = 0, Belongings()
        # One after the other, and the latest last.
        self._writer = ThreadPoolExecutor(1, "snapshot")

    def keep(self, state: State | None) -> None:
        """Keep the state that a snapshot entry is of, in place of an earlier one, in a thread of its own."""
        if state is not None:
            self._writer.submit(self._write, state)

    def close(self) -> None:
        """Write what is to be kept, then stop."""
        self._writer.shutdown()

    def _write(self, state: State) -> None:
        try:
            self._replace(state)
        except (HomeError, StoreError) as error:
            logger.warning("the directory's state was not kept: the next start takes longer", reason=str(error))

    def _replace(self, state: State) -> None:
        edge = load_frontier(self._store, Log.DIRECTORY, state.size).root()
        rows = rows_since(state, _PagedBodies(self._store), self._indexed)
        self._indexed, self._belongings = state.size, Belongings.of([*self._belongings, *rows])
        index = self._belongings.rows
        blocks = (sha256(index).digest(), index, *encode_state(state))
        data = b"".join(len(block).to_bytes(_LENGTH, "big") + block for block in blocks)
        write_file(self.path, _MAGIC + edge + data, 0o600)

    def begin(self, trust: Trust) -> Beginning:
        """The state that was kept, once the log has been compared with it; else entry 0, and the log says why."""
        start = Beginning(Directory.genesis(trust.name, trust.root_key), keep=self.keep)
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return start
        except OSError as error:
            logger.warning("folding from entry 0: the kept state cannot be read", reason=error.strerror)
            return start
        try:
            return self._opened(data, trust)
        except (NoBeginningError, CoreError) as error:
            logger.warning("folding from entry 0: the kept state is not the log's", reason=str(error))
            return start

    def _opened(self, data: bytes, trust: Trust) -> Beginning:
        edge, blocks = _blocks(data)
        digest, rows, *parts = blocks if len(blocks) > 1 else (b"", b"")
        if sha256(rows).digest() != digest:
            raise NoBeginningError("its index was damaged")
        opened = open_state(parts)
        state = opened.state
        if (state.origin, opened.root_key) != (trust.name, trust.root_key):
            raise NoBeginningError("it is of another exchange")
        leaf = self._leaf(state.size)
        if said_digest(leaf, state.size) != opened.digest:
            raise NoBeginningError(f"entry {state.size} of the directory is no snapshot of it")
        if load_frontier(self._store, Log.DIRECTORY, state.size).root() != edge:
            raise NoBeginningError(f"the first {state.size} entries of the directory are others")
        belongings = Belongings(rows)
        directory = Directory.reopened(state, _StoredBodies(self._store), belongings)
        _, applied = directory.apply(leaf, b"")
        if applied.reason:
            raise NoBeginningError(f"the snapshot in entry {state.size} does not hold: {applied.reason}")
        self._indexed, self._belongings = state.size, belongings
        self._writer.submit(opened.kept.prepare)
        return Beginning(directory, opened.kept.index_of, self.keep)

    def _leaf(self, index: int) -> bytes:
        """A leaf of the directory, once it is proven to be under the log's head."""
        head = self._store.head(Log.DIRECTORY)
        entry = self._store.entry(Log.DIRECTORY, index) if index < head.size else None
        if entry is None:
            raise NoBeginningError(f"the directory has {head.size} entries, and it is of {index}")
        root = open_checkpoint(head.checkpoint, self._verifier).root
        path = inclusion_proof(index, head.size, lambda ids: self._store.nodes(Log.DIRECTORY, ids))
        verify_inclusion(leaf_hash(entry.leaf), index, head.size, path, root)
        return entry.leaf


@dataclass(frozen=True, slots=True)
class _StoredBodies:
    """The bodies in the logs' store; one that was erased is empty."""

    store: LogStore

    def body(self, version: Version) -> bytes:
        entry = self.store.entry(Log.DIRECTORY, version.index)
        return entry.body if entry is not None else b""


class _PagedBodies:
    """The same, for whoever reads many of them in their order."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._page: dict[int, bytes] = {}

    def body(self, version: Version) -> bytes:
        if version.index not in self._page:
            page = self._store.entries(Log.DIRECTORY, version.index, _PAGE_BYTES, _PAGE)
            self._page = {entry.index: entry.body for entry in page}
        return self._page.get(version.index, b"")


def _blocks(data: bytes) -> tuple[bytes, list[bytes]]:
    """The root of the entries' tree; then the digest of the index of bodies, the index, and the parts of the state."""
    start = len(_MAGIC) + HASH_SIZE
    if data[: len(_MAGIC)] != _MAGIC or len(data) < start:
        raise NoBeginningError("the file is not one of this kind")
    edge, blocks = data[len(_MAGIC) : start], []
    while start < len(data):
        length = int.from_bytes(data[start : start + _LENGTH], "big")
        part = data[start + _LENGTH : start + _LENGTH + length]
        if len(part) != length or start + _LENGTH > len(data):
            raise NoBeginningError("the file was cut short")
        blocks.append(part)
        start += _LENGTH + length
    return edge, blocks
