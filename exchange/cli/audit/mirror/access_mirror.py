"""HOME/access-mirror.db: the auditor's own copy of the access log, with its tree and every checkpoint it was shown.

Entries come page by page. What the last verified checkpoint does not hold yet is kept, so that a broken sync goes on
where it ended, but nobody is shown it. The columns beside leaf and body are an index only: whoever displays a row reads
leaf and body again, and `exchange-audit verify full` compares the columns with them.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from exchange.cli.audit.checking.opening import SETTLING
from exchange.cli.audit.checking.tree import Expected, place_of
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.columns import columns_of, index_problem
from exchange.cli.audit.mirror.postings import Wanted, names_under, postings
from exchange.cli.audit.mirror.schema import COLUMNS, VERSION, prepare
from exchange.client.errors import BrokenLogError, EvidenceError, ForkError, RollbackError, UnavailableError
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.merkle import EMPTY_ROOT, Frontier, Node, frontier_nodes, inclusion_nodes
from exchange.core.names import Party
from exchange.core.note import Verifier
from exchange.core.successions import Succession
from exchange.files import make_private

FILE: Final = "access-mirror.db"
EVIDENCE: Final = "evidence"

_BUSY = 30.0
_NOTES: Final = "SELECT CAST(note AS BLOB) FROM checkpoints WHERE verified = ?"
PAGE: Final = 200
"""Rows of a search that are read at once."""


class AccessMirror:
    """The file, open; close it by leaving the `with` block of `opened`.

    Each method raises `EvidenceError` where the file is not a mirror, and `UnavailableError` where it cannot be used.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, verifier: Verifier) -> None:
        self.path = path
        self.origin = verifier.name
        self._connection = connection
        self._verifier = verifier

    @classmethod
    @contextmanager
    def opened(cls, path: Path, verifier: Verifier, *, create: bool = False) -> "Iterator[AccessMirror]":
        """Open the mirror.

        Args:
            path: HOME/access-mirror.db.
            verifier: the access log's note key, out of the trust file.
            create: make it where there is none.

        Raises:
            UnavailableError: it cannot be used, or there is none.
        """
        try:
            if create:
                # It names who asked whom: for the auditor's eyes.
                make_private(path)
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY)
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(f"there is no mirror {path}: {error}", "run `exchange-audit sync` first") from error
        mirror = cls(path, connection, verifier)
        try:
            with mirror._errors():
                connection.isolation_level = None
                mirror._prepare(create=create)
                yield mirror
        finally:
            connection.close()

    @property
    def size(self) -> int:
        """Entries that are stored, verified or not."""
        (size,) = self._connection.execute("SELECT coalesce(max(idx) + 1, 0) FROM entries").fetchone()
        return int(size)

    @property
    def checkpoint(self) -> Checkpoint:
        """The last verified checkpoint; of size 0 before the first sync is complete."""
        rows = self._connection.execute(f"{_NOTES} ORDER BY size DESC LIMIT 1", (True,)).fetchall()
        return next(iter(self._read(rows)), Checkpoint(self.origin, 0, EMPTY_ROOT))

    @property
    def is_complete(self) -> bool:
        """Whether a sync ever reached a signed checkpoint."""
        return bool(self._connection.execute(f"{_NOTES} LIMIT 1", (True,)).fetchall())

    @property
    def failure(self) -> BrokenLogError | None:
        """Why the log cannot be trusted any more, if it ever contradicted itself."""
        row = self._connection.execute("SELECT kind, message, earlier, later FROM failures").fetchone()
        if row is None:
            return None
        kind, message, earlier, later = row
        folder = self.path.parent / EVIDENCE
        hint = f"both signed checkpoints are in {folder}, and prove it to anybody who has the trust file"
        error = RollbackError if kind == "rollback" else ForkError
        return error(message, hint, earlier=earlier, later=later)

    def checkpoints(self, *, verified: bool) -> tuple[Checkpoint, ...]:
        """The checkpoints whose root the entries made, or those that no entries reach yet; by size."""
        return self._read(self._connection.execute(f"{_NOTES} ORDER BY size", (verified,)).fetchall())

    def seen(self) -> Iterator[Checkpoint]:
        """The checkpoints whose root the entries made, by size, one at a time: there is one for each sync."""
        for row in self._connection.execute(f"{_NOTES} ORDER BY size", (True,)):
            yield from self._read([row])

    def notes(self, most: int) -> list[bytes]:
        """The newest signed checkpoints whose root the entries made, the newest first."""
        rows = self._connection.execute(f"{_NOTES} ORDER BY size DESC LIMIT ?", (True, most))
        return [bytes(note) for (note,) in rows]

    def note(self, size: int) -> bytes:
        """The signed checkpoint of a size, if the log ever showed it; else empty."""
        row = self._connection.execute("SELECT CAST(note AS BLOB) FROM checkpoints WHERE size = ?", (size,)).fetchone()
        return bytes(row[0]) if row is not None else b""

    def expected(self) -> Expected:
        """What proves an entry: the last verified checkpoint, and the nodes."""
        return Expected(self.origin, self.checkpoint, nodes=self.node)

    def expected_of(self, indexes: Iterable[int]) -> Expected:
        """What proves these entries, with the nodes of all their proofs read in one query."""
        checkpoint = self.checkpoint
        places = {
            place_of(node.level, node.index) for index in indexes for node in inclusion_nodes(index, checkpoint.size)
        }
        rows = self._connection.execute(
            "SELECT place, CAST(hash AS BLOB) FROM nodes WHERE place IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(places)),),
        )
        return Expected(self.origin, checkpoint, nodes=dict(rows.fetchall()).get)

    def node(self, place: int) -> bytes | None:
        """The stored hash at a place, 32 bytes."""
        row = self._connection.execute("SELECT CAST(hash AS BLOB) FROM nodes WHERE place = ?", (place,)).fetchone()
        return bytes(row[0]) if row is not None else None

    def leaf_node(self, index: int) -> bytes | None:
        """The stored leaf hash of an entry that a checkpoint holds."""
        return self.node(place_of(0, index))

    def rows(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`, as they are stored."""
        cursor = self._connection.execute(
            f"SELECT idx, CAST(leaf AS BLOB), CAST(body AS BLOB), {', '.join(COLUMNS)} FROM entries"  # noqa: S608
            " WHERE idx >= ? AND idx < ? ORDER BY idx",
            (start, stop),
        )
        for row in cursor:
            yield _logged(*row)

    def find(self, wanted: Wanted, start: int = 0, page: int = PAGE) -> Iterator[tuple[LoggedEntry, ...]]:
        """The verified entries that fit, by the index: page after page, read when they are asked for.

        Args:
            wanted: the conditions.
            start: the first index to look at.
            page: rows that are read in one query.
        """
        indexes = postings(self._connection, wanted, start, self.checkpoint.size)
        while chosen := tuple(islice(indexes, page)):
            yield self.chosen(chosen)

    def providers(self, since: int | None, until: int | None) -> Iterator[str]:
        """The systems that answered in a time, as the verified entries name them.

        Args:
            since, until: milliseconds, inclusive; None without a bound.
        """
        for name in names_under(self._connection, "provider", Party(self.origin.partition("/")[0])):
            answered = (Wanted({"provider": name, "kind": kind}, {}, since, until) for kind in SETTLING)
            if any(next(self.find(wanted, page=1), ()) for wanted in answered):
                yield name

    def chosen(self, indexes: Collection[int]) -> tuple[LoggedEntry, ...]:
        """Some entries by their indexes, in one query."""
        cursor = self._connection.execute(
            f"SELECT idx, CAST(leaf AS BLOB), CAST(body AS BLOB), {', '.join(COLUMNS)} FROM entries"  # noqa: S608
            " WHERE idx IN (SELECT value FROM json_each(?)) ORDER BY idx",
            (json.dumps(list(indexes)),),
        )
        return tuple(_logged(*row) for row in cursor)

    def frontier(self) -> Frontier:
        """The tree's right edge, from which it grows."""
        return self._edge(self.size)

    def _edge(self, size: int) -> Frontier:
        hashes = [self.node(place_of(node.level, node.index)) or b"" for node in frontier_nodes(size)]
        try:
            return Frontier(size, tuple(hashes))
        except CoreError as error:
            raise EvidenceError(f"{self.path} lacks nodes of its tree", self._remedy) from error

    def check(self) -> None:
        """Check that what is stored is what was verified, before anything is added to it.

        Raises:
            BrokenLogError: the log has contradicted itself before.
            EvidenceError: the file was altered.
        """
        if self.failure is not None:
            raise self.failure
        checkpoint, frontier = self.checkpoint, self.frontier()
        if frontier.size < checkpoint.size or (frontier.size == checkpoint.size and frontier.root() != checkpoint.root):
            raise EvidenceError(f"{self.path} was altered: its nodes do not make the signed root", self._remedy)

    def observe(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Keep a checkpoint that the log showed, for good.

        Raises:
            RollbackError, ForkError: it contradicts an earlier one; sticky.
        """
        (largest,) = self._connection.execute("SELECT coalesce(max(size), 0) FROM checkpoints").fetchone()
        if checkpoint.size < largest:
            text = f"the access log had {largest} entries, and now has {checkpoint.size}"
            raise self.fail(RollbackError(text, earlier=self.note(largest), later=note))
        self.keep(checkpoint, note)

    def keep(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Keep a checkpoint that somebody else was shown, of a size that is not mirrored yet.

        Raises:
            ForkError: the log has signed another root for this size; sticky.
        """
        earlier = self.note(checkpoint.size)
        if earlier and open_checkpoint(earlier, self._verifier).root != checkpoint.root:
            text = f"the access log signed two histories of {checkpoint.size} entries"
            raise self.fail(ForkError(text, earlier=earlier, later=note))
        self._connection.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?, 0)", (checkpoint.size, note))

    def keep_cosigned(self, checkpoint: Checkpoint, note: bytes) -> None:
        """Keep a cosigned checkpoint, no larger than the verified one, in place of the plain one of its size.

        Raises:
            ForkError: it is of another history than the mirror; sticky.
            EvidenceError: the mirror lacks nodes of its tree.
        """
        if self.root(checkpoint.size) != checkpoint.root:
            text = f"witnesses have cosigned another access log of {checkpoint.size} entries than this home was given"
            raise self.fail(ForkError(text, earlier=self.note(self.checkpoint.size), later=note))
        self._connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, 1)", (checkpoint.size, note))

    def root(self, size: int) -> bytes:
        """The root of the tree as it was at a size, by the stored nodes, 32 bytes.

        Raises:
            EvidenceError: one is missing.
        """
        return self._edge(size).root()

    def extend(
        self, start: int, entries: Sequence[LoggedEntry], nodes: Sequence[Node], verified: Sequence[int]
    ) -> None:
        """Add a page.

        Args:
            start: the size that the mirror must have.
            entries: from `start` on.
            nodes: those that they complete.
            verified: sizes of checkpoints whose root they made.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if self.size != start:
                raise UnavailableError("another sync is running in this home", "wait until it ends")
            places = ", ".join("?" * (len(COLUMNS) + 3))
            rows = [(entry.index, *columns_of(entry.leaf, entry.body), entry.leaf, entry.body) for entry in entries]
            self._note_disorder((row[0], row[1]) for row in rows)
            self._connection.executemany(f"INSERT INTO entries VALUES ({places})", rows)  # noqa: S608
            hashes = [(place_of(node.level, node.index), node.hash) for node in nodes]
            self._connection.executemany("INSERT INTO nodes VALUES (?, ?)", hashes)
            sizes = [(size,) for size in verified]
            self._connection.executemany("UPDATE checkpoints SET verified = 1 WHERE size = ?", sizes)
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def without_bodies(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop` that have no body here, as they are stored."""
        cursor = self._connection.execute(
            "SELECT idx, CAST(leaf AS BLOB) FROM entries WHERE length(body) = 0 AND idx >= ? AND idx < ? ORDER BY idx",
            (start, stop),
        )
        for index, leaf in cursor:
            yield LoggedEntry(index, leaf, b"")

    def fill(self, entries: Sequence[LoggedEntry]) -> None:
        """Keep bodies of entries that are here without them."""
        said = ", ".join(f"{name} = ?" for name in (*COLUMNS, "body"))
        rows = [(*columns_of(entry.leaf, entry.body), entry.body, entry.index) for entry in entries]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(f"UPDATE entries SET {said} WHERE idx = ?", rows)  # noqa: S608 - names of ours
        self._connection.execute("COMMIT")

    def asked_under(self) -> bytes:
        """The digest of the mandates under which missing bodies were last asked for; empty before."""
        row = self._connection.execute("SELECT mandates FROM asked").fetchone()
        return bytes(row[0]) if row is not None else b""

    def note_asked_under(self, mandates: bytes) -> None:
        """Remember it."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM asked")
        self._connection.execute("INSERT INTO asked VALUES (?)", (mandates,))
        self._connection.execute("COMMIT")

    def drop_unverified(self) -> None:
        """Forget entries that no verified checkpoint holds: they are fetched again."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._cut(self.checkpoint.size)
        self._connection.execute("COMMIT")

    def _cut(self, size: int) -> None:
        self._connection.execute("DELETE FROM entries WHERE idx >= ?", (size,))
        self._connection.execute("DELETE FROM disorder WHERE idx >= ?", (size,))
        self._connection.execute("DELETE FROM nodes WHERE place >= ?", (place_of(0, size),))

    def give_up(self, succession: Succession) -> None:
        """Let go of what a declared break took: the mirror ends with the checkpoint from which the log goes on.

        Raises:
            ForkError: the mirror has another history before the break than the declaration says; sticky.
        """
        first, size = succession.first, self.size
        if size >= first.size and self.root(first.size) != first.root:
            text = (
                f"the declared break goes on from another access log of {first.size} entries than this home was given"
            )
            raise self.fail(ForkError(text, earlier=self.note(first.size), later=succession.first_note))
        self._connection.execute("BEGIN IMMEDIATE")
        self._cut(first.size)
        self._connection.execute("DELETE FROM checkpoints WHERE size >= ?", (first.size,))
        values = (first.size, succession.first_note, size >= first.size)
        self._connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", values)
        self._connection.execute("COMMIT")

    def fail(self, error: BrokenLogError) -> BrokenLogError:
        """Keep a failure for good, and give it back as every later use will find it."""
        kind = "rollback" if isinstance(error, RollbackError) else "fork"
        if self.failure is None:
            row = (kind, str(error), error.earlier, error.later)
            self._connection.execute("INSERT INTO failures VALUES (?, ?, ?, ?)", row)
        return self.failure or error

    def _note_disorder(self, times: Iterable[tuple[object, object]]) -> None:
        """Remember where times run backwards: there a time says nothing about an index."""
        (latest,) = self._connection.execute("SELECT coalesce(max(time), 0) FROM entries").fetchone()
        for index, time in times:
            if isinstance(time, int) and time < latest:
                self._connection.execute("INSERT INTO disorder VALUES (?)", (index,))
            elif isinstance(time, int):
                latest = time

    def _read(self, rows: Iterable[tuple[bytes]]) -> tuple[Checkpoint, ...]:
        try:
            return tuple(open_checkpoint(note, self._verifier) for (note,) in rows)
        except CoreError as error:
            raise EvidenceError(f"a checkpoint in {self.path} does not hold: {error}", self._remedy) from error

    @property
    def _remedy(self) -> str:
        return f"move {self.path} away: it is fetched again"

    def _prepare(self, *, create: bool) -> None:
        if not prepare(self._connection, create=create):
            raise EvidenceError(f"{self.path} is no mirror of version {VERSION}", self._remedy)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UnavailableError(f"the mirror {self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise EvidenceError(f"the mirror {self.path} was altered: {error}", self._remedy) from error


def _logged(index: int, leaf: bytes, body: bytes, *stored: object) -> LoggedEntry:
    return LoggedEntry(index, leaf, body, index_problem(stored, columns_of(leaf, body)))
