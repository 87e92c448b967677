"""fsck: rebuilds a store's nodes and index columns from the leaves, and compares them with what is stored.

The leaves are the truth, as far as the signed checkpoint says that they are: nodes and columns are written anew only
where the leaves make its root, so that a repair can never make up a history that the log did not sign.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

from exchange.broker.records import access_index
from exchange.core.access import body_problem, read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError, DecodeError
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.note import Verifier
from exchange.core.wire import decode
from exchange.store.inspection import COLUMNS, InspectedRow, Inspection
from exchange.store.ports import Head, Log, node_place
from exchange.v1.directory_pb2 import DirectoryLeaf

PAGE = 1000

Advance = Callable[[int, int], None]
"""Takes how many entries are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it must be.

    Args:
        log: the log's name; empty where it is about the database as a whole.
        index: the entry; None where it is about the log.
        text: what is wrong, without a full stop.
        mendable: whether the leaves say what should stand there.
        untrusted: whether a checkpoint is not the log key's.
    """

    log: str
    index: int | None
    text: str
    mendable: bool = False
    untrusted: bool = False

    def __str__(self) -> str:
        place = self.log if self.index is None else f"entry {self.index} of {self.log}"
        return f"{place}: {self.text}" if place else self.text


class Reader(Protocol):
    """Reads the entries of one log, in their order."""

    @property
    def time(self) -> int:
        """The last entry's, milliseconds."""

    def columns(self, row: InspectedRow) -> tuple[object, ...]:
        """What the index must say of an entry."""

    def read(self, row: InspectedRow) -> Iterator[str]:
        """What is wrong with an entry, beside its index."""

    def finish(self) -> Iterator[tuple[int, str]]:
        """What shows only at the end, with the entry that it is about."""


class DirectoryReader:
    """Folds the directory.

    Args:
        genesis: the directory before entry 0.
    """

    def __init__(self, genesis: Directory) -> None:
        self.directory = genesis
        self.erasures = Erasures()
        self.time = 0
        self._bodiless: dict[int, bytes] = {}

    def columns(self, row: InspectedRow) -> tuple[object, ...]:
        """A directory entry has no index columns."""
        return (None,) * len(COLUMNS)

    def read(self, row: InspectedRow) -> Iterator[str]:
        """Whether an entry holds: its rule, its time, its body."""
        self.directory, applied = self.directory.apply(row.leaf, row.body)
        self.erasures.add(applied, self.directory.state)
        if applied.reason:
            yield applied.reason
        elif applied.entry is not None and applied.entry.body_sha256 and not row.body:
            self._bodiless[row.index] = applied.entry.object_id
        try:
            self.time = decode(DirectoryLeaf, row.leaf).time
        except DecodeError:
            return

    def finish(self) -> Iterator[tuple[int, str]]:
        """Bodies that are missing, and that no entry erased."""
        for index, object_id in self._bodiless.items():
            if self.erasures.of_object(object_id) is None:
                yield index, "its body is missing"


class AccessReader:
    """Reads the access log.

    Args:
        directory: read to its end: no entry can pass its size, and it says what was erased.
    """

    def __init__(self, directory: DirectoryReader) -> None:
        self.time = 0
        self._read = directory
        self._decided = 0

    def columns(self, row: InspectedRow) -> tuple[object, ...]:
        """The index columns, out of the leaf."""
        try:
            return astuple(access_index(read_access_leaf(row.leaf)))
        except CoreError:
            return (None,) * len(COLUMNS)

    def read(self, row: InspectedRow) -> Iterator[str]:
        """Whether an entry's leaf, order and body hold."""
        try:
            leaf = read_access_leaf(row.leaf)
        except CoreError as error:
            yield str(error)
            return
        if leaf.time < self.time:
            yield "its time runs backwards"
        if not self._decided <= leaf.directory_size <= self._read.directory.size:
            yield f"decided under a directory of {leaf.directory_size} entries, which runs backwards or does not exist"
        self.time, self._decided = max(self.time, leaf.time), max(self._decided, leaf.directory_size)
        problem = body_problem(leaf, row.body)
        if problem and (row.body or self._read.erasures.of_access(row.index) is None):
            yield problem

    def finish(self) -> Iterator[tuple[int, str]]:
        """Nothing: every entry is judged by itself."""
        return iter(())


class LogCheck:
    """Checks one log of a store.

    Args:
        stored: one state of it, or what is to be mended.
        log: which log.
        verifier: its note key.
        reader: reads its entries.
    """

    def __init__(self, stored: Inspection, log: Log, verifier: Verifier, reader: Reader) -> None:
        self._stored = stored
        self._log = log
        self._verifier = verifier
        self._reader = reader
        self._frontier = Frontier()
        self._head = stored.heads().get(log)

    @property
    def name(self) -> str:
        """The log's name."""
        return self._verifier.name

    @property
    def size(self) -> int:
        """Entries that follow each other from entry 0, once they were walked."""
        return self._frontier.size

    def walk(self, advance: Advance) -> Iterator[Problem]:
        """Check head, entries, nodes and index columns, a page at a time."""
        head = self._head
        if head is None:
            yield self._problem(None, "the database has no head of it")
            return
        checkpoint = self._checkpoint(head)
        if isinstance(checkpoint, Problem):
            yield checkpoint
        for rows in self._pages(head.size, advance):
            yield from self._node_problems(rows)
            for row in rows:
                yield from (self._problem(row.index, text) for text in self._reader.read(row))
                yield from self._column_problems(row)
        yield from (self._problem(index, text) for index, text in self._reader.finish())
        yield from self._end_problems(head, checkpoint)

    def mend(self, advance: Advance) -> None:
        """Write nodes and index columns anew, out of leaves that `walk` found to make the signed root."""
        head, self._frontier = self._head, Frontier()
        if head is None:
            return
        for rows in self._pages(head.size, advance):
            expected = self._grow(rows)
            places = _places(expected)
            stored = self._stored.nodes(self._log, places.start, places.stop)
            wrong = {place: hash for place, hash in expected.items() if stored.get(place) != hash}
            self._stored.set_nodes(self._log, wrong)
            for row in rows:
                columns = self._reader.columns(row)
                if row.columns != columns:
                    self._stored.set_columns(self._log, row.index, columns)
        self._stored.drop_nodes(self._log, node_place(0, head.size))

    def _pages(self, size: int, advance: Advance) -> Iterator[list[InspectedRow]]:
        """The entries from 0 on that follow each other."""
        start = 0
        while rows := self._stored.rows(self._log, start, PAGE):
            whole = [row for index, row in enumerate(rows, start) if row.index == index]
            if whole:
                yield whole
            start += len(whole)
            advance(start, size)
            if len(whole) < len(rows):
                return

    def _grow(self, rows: Sequence[InspectedRow]) -> dict[int, bytes]:
        """Add leaves to the tree; the nodes that they complete, by their places."""
        first = node_place(0, self._frontier.size)
        self._frontier, nodes = self._frontier.extend([leaf_hash(row.leaf) for row in rows])
        return {place: node.hash for place, node in enumerate(nodes, first)}

    def _node_problems(self, rows: Sequence[InspectedRow]) -> Iterator[Problem]:
        start = self._frontier.size
        expected = self._grow(rows)
        places = _places(expected)
        stored = self._stored.nodes(self._log, places.start, places.stop)
        wrong = sum(1 for place, hash in expected.items() if stored.get(place) != hash)
        if wrong:
            last = self._frontier.size - 1
            text = f"of the nodes that entries {start} to {last} complete, {wrong} are wrong or missing"
            yield self._problem(None, text, mendable=True)

    def _column_problems(self, row: InspectedRow) -> Iterator[Problem]:
        expected = self._reader.columns(row)
        pairs = zip(COLUMNS, row.columns, expected, strict=True)
        wrong = [name for name, stored, right in pairs if stored != right]
        if wrong:
            text = f"its index says something else than its leaf: {', '.join(wrong)}"
            yield self._problem(row.index, text, mendable=True)

    def _checkpoint(self, head: Head) -> Checkpoint | Problem:
        try:
            return open_checkpoint(head.checkpoint, self._verifier)
        except CoreError as error:
            text = f"its checkpoint is not signed by the log key in the trust file: {error}"
            return Problem(self._verifier.name, None, text, untrusted=True)

    def _end_problems(self, head: Head, checkpoint: Checkpoint | Problem) -> Iterator[Problem]:
        size = self._frontier.size
        entries, nodes = self._stored.count(self._log)
        if entries != size:
            yield self._problem(None, f"it has {entries} entries, of which {size} follow each other from entry 0")
        if head.size != size:
            yield self._problem(None, f"its head says {head.size} entries, and there are {size}")
        elif nodes > node_place(0, size):
            yield self._problem(None, f"it has {nodes - node_place(0, size)} nodes of no tree", mendable=True)
        if head.time != self._reader.time:
            yield self._problem(None, "its head has another time than its last entry")
        if isinstance(checkpoint, Checkpoint) and (size, self._frontier.root()) != (checkpoint.size, checkpoint.root):
            text = f"its leaves do not make the root of its signed checkpoint of {checkpoint.size} entries"
            yield self._problem(None, text)

    def _problem(self, index: int | None, text: str, *, mendable: bool = False) -> Problem:
        return Problem(self._verifier.name, index, text, mendable)


def damages(stored: Inspection) -> Iterator[Problem]:
    """What the engine finds wrong with the database itself, and indexes that are not the store's.

    An index is built again; anything else is beyond mending here.
    """
    for line in stored.damages():
        yield Problem("", None, line, mendable="index" in line)
    for name in stored.missing_indexes():
        yield Problem("", None, f"the index {name} is missing, or is another one", mendable=True)


def _places(nodes: dict[int, bytes]) -> range:
    return range(min(nodes), max(nodes) + 1) if nodes else range(0)
