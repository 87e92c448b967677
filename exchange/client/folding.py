"""How a mirror folds its entries: from the last snapshot that it kept, or from entry 0.

A snapshot on disk is believed no more than the entries are: they must go on from its tree to the root that the log
signed, and the first of them must be a snapshot entry of just this state.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from exchange.client.errors import DirectoryDiffersError, EvidenceError
from exchange.client.storage import Entry, MirrorFile, NewParts
from exchange.core.belongings import Belongings, rows_since
from exchange.core.checkpoint import Checkpoint
from exchange.core.directory import Directory
from exchange.core.errors import CoreError
from exchange.core.fold import Applied
from exchange.core.merkle import EMPTY_ROOT, Frontier, leaf_hash, root_of
from exchange.core.snapshot import encode_part, open_state, part_hashes, said_digest, state_digest
from exchange.core.state import State, Version
from exchange.core.trust import Trust
from exchange.v1.directory_pb2 import EntryKind

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Folded:
    """One state of a mirror: the directory, its tree, and the checkpoint that both belong to.

    Args:
        directory: as of `checkpoint`.
        frontier: the tree's right edge.
        hashes: of the leaves from `base.size` on.
        checkpoint: of size 0 before the first sync; note: as the log signed it.
        base: where folding began.
    """

    directory: Directory
    frontier: Frontier
    hashes: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: bytes
    base: Frontier = Frontier()  # noqa: RUF009 - an immutable value

    def between(self, start: int, stop: int, hashes: Sequence[bytes]) -> Sequence[bytes]:
        """Those of `hashes`, which begin at `base.size`, from one size to another."""
        return hashes[start - self.base.size : stop - self.base.size]

    def root(self, size: int, file: MirrorFile) -> bytes:
        """The root that the tree had at an earlier size.

        Raises:
            EvidenceError: the file's leaves are not those that the snapshot's tree was made of.
        """
        if size >= self.base.size:
            frontier, _ = self.base.extend(self.between(self.base.size, size, self.hashes))
            return frontier.root()
        hashes = file.leaf_hashes(self.base.size)
        if len(hashes) != self.base.size or root_of(hashes) != self.base.root():
            raise file.tampered("its entries do not make the tree of its snapshot")
        return root_of(hashes[:size])


@dataclass(frozen=True, slots=True)
class Grown:
    """What entries lead to.

    Args:
        directory: with them.
        entries: as they are to be kept: without bodies that nothing names.
        snapshot: the state that the last snapshot among them is of.
    """

    directory: Directory
    entries: tuple[Entry, ...]
    snapshot: State | None


def genesis(trust: Trust) -> Folded:
    """The mirror before its first sync."""
    empty = Checkpoint(trust.directory_log.name, 0, EMPTY_ROOT)
    return Folded(Directory.genesis(trust.name, trust.root_key), Frontier(), (), empty, b"")


def beginning(file: MirrorFile, trust: Trust) -> Folded:
    """Where folding begins: the snapshot that the file has, or entry 0.

    Of the snapshot only the form is known, until `fold` has compared it with the entry that follows it.

    Raises:
        EvidenceError: the file was altered.
    """
    start, kept = genesis(trust), file.snapshot()
    if kept is None:
        return start
    try:
        base, opened = Frontier(kept.size, kept.hashes), open_state(kept.parts)
    except CoreError as error:
        raise file.tampered(f"its snapshot cannot be read: {error}") from error
    state = opened.state
    if (state.origin, state.size, opened.root_key) != (trust.name, kept.size, trust.root_key):
        raise file.tampered("its snapshot is of another directory")
    index = Belongings(kept.belongings) if kept.belongings is not None else None
    directory = Directory.reopened(state, _FileBodies(file), index)
    return Folded(directory, base, (), start.checkpoint, b"", base)


def extend(seen: Folded, entries: Sequence[Entry]) -> tuple[tuple[bytes, ...], Frontier]:
    """The leaf hashes from `seen.base.size` on, and the tree's right edge, with more entries."""
    hashes = tuple(leaf_hash(entry.leaf) for entry in entries)
    frontier, _ = seen.frontier.extend(hashes)
    return (*seen.hashes, *hashes), frontier


def fold(seen: Folded, entries: Sequence[Entry]) -> Grown:
    """Fold entries that the log holds.

    Raises:
        EvidenceError: a body is not the one that was signed; or a kept state is not the one that its entry says.
        DirectoryDiffersError: a broker signed another state than they fold to here.
    """
    directory, kept, snapshot = seen.directory, list[Entry](), None
    if directory.size == seen.base.size and directory.size:
        _check_base(directory.state, entries)
    for entry in entries:
        before = directory.state
        directory, applied = directory.apply(entry.leaf, entry.body)
        is_snapshot = applied.entry is not None and applied.entry.kind == EntryKind.ENTRY_KIND_SNAPSHOT
        if before.size == seen.base.size and seen.base.size and not is_snapshot:
            raise EvidenceError("its snapshot is not the one that the directory log has there")
        if applied.differs:
            raise _differs(applied)
        snapshot = before if is_snapshot else snapshot
        kept.append(entry if _is_named(applied, entry.body) else Entry(entry.position, entry.leaf, b""))
    return Grown(directory, tuple(kept), snapshot)


def keep(file: MirrorFile, folded: Folded, snapshot: State | None) -> None:
    """Keep a state for the next opening, if there is a new one."""
    if snapshot is not None and snapshot.size > folded.base.size:
        hashes = folded.between(folded.base.size, snapshot.size, folded.hashes)
        frontier, _ = folded.base.extend(hashes)
        parts = NewParts(part_hashes(snapshot), lambda number: encode_part(snapshot, number))
        rows = rows_since(snapshot, _PagedBodies(file), file.indexed())
        file.keep_snapshot(snapshot.size, frontier.hashes, parts, rows)


def _check_base(state: State, entries: Sequence[Entry]) -> None:
    """Before anything in a kept state is used: its bytes are what the entry after it says, whoever signed that."""
    if not entries:
        raise EvidenceError("its snapshot is not one that the directory log has")
    if said_digest(entries[0].leaf, state.size) != state_digest(state):
        raise EvidenceError("its snapshot is not the one that the directory log has there")


def _differs(applied: Applied) -> DirectoryDiffersError:
    return DirectoryDiffersError(
        f"entry {applied.index} is a snapshot, and {applied.reason}",
        "one of the two programs is wrong: compare versions with the operator, and go on when it is clear which",
    )


@dataclass(frozen=True, slots=True)
class _FileBodies:
    """The bodies in a mirror's file, read one by one."""

    file: MirrorFile

    def body(self, version: Version) -> bytes:
        return self.checked(version, self.file.body(version.index))

    def checked(self, version: Version, body: bytes) -> bytes:
        if body and hashlib.sha256(body).digest() != version.body_sha256:
            raise self.file.tampered(f"the body of entry {version.index} is not the one that was signed")
        return body


class _PagedBodies:
    """The same, for whoever reads many of them in their order."""

    def __init__(self, file: MirrorFile) -> None:
        self._bodies = _FileBodies(file)
        self._page: dict[int, bytes] = {}

    def body(self, version: Version) -> bytes:
        if version.index not in self._page:
            page = self._bodies.file.page(version.index, version.index + _PAGE)
            self._page = {entry.position: entry.body for entry in page}
        return self._bodies.checked(version, self._page.get(version.index, b""))


def _is_named(applied: Applied, body: bytes) -> bool:
    """Whether a valid entry names a body by its digest.

    Raises:
        EvidenceError: it names another one.
    """
    if not body:
        return True
    entry = applied.entry
    digest = (entry.body_sha256 or entry.key.csr_sha256) if entry is not None else b""
    if digest and hashlib.sha256(body).digest() != digest:
        raise EvidenceError(f"the body of entry {applied.index} of the directory is not the one that was signed")
    return bool(digest)
