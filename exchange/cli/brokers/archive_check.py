"""`exchange log archive --verify`: an archive by itself, against nothing but the log's key in the trust file.

The tree's entries make the root that the log signed; each month's rows are those entries, go on where the month before
ended, and have the bodies that their leaves name. It is read once, from the first entry to the last.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exchange.cli.audit.tiles import CHECKPOINT
from exchange.cli.brokers.archiving import COLUMNS, ArchivedMonth, columns_of, month_of, months_of, pyarrow
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.progress import Advance
from exchange.core.access import body_problem, read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.merkle import leaf_hash
from exchange.core.note import Verifier
from exchange.core.ranges import GrowingRoot
from exchange.core.tiles import Bundle, Tile, bundles_of, parse_bundle, parse_tile

_PAGE: Final = 1000


@dataclass(slots=True)
class Verdict:
    """What an archive turned out to be.

    Args:
        checkpoint: the signed one that its tree makes, or should.
        months: by what their files say.
        rows: of the months, that were compared.
        erased: how many of them have no body, as after an erasure before they were archived.
    """

    checkpoint: Checkpoint
    months: tuple[ArchivedMonth, ...]
    rows: int = 0
    erased: int = 0


class ArchiveCheck:
    """Reads an archive from its first entry to its last.

    Args:
        folder: the archive.
        verifier: the log's note key.

    Raises:
        CommandError: there is none, or its checkpoint is not the log's.
    """

    def __init__(self, folder: Path, verifier: Verifier) -> None:
        self._folder = folder
        try:
            checkpoint = open_checkpoint((folder / CHECKPOINT).read_bytes(), verifier)
        except FileNotFoundError as error:
            raise CommandError(f"there is no archive in {folder}", "", ExitCode.UNCHECKED) from error
        except CoreError as error:
            text = f"the checkpoint in {folder} is not signed by the log key in the trust file: {error}"
            raise CommandError(text, "", ExitCode.UNTRUSTED) from error
        self.verdict = Verdict(checkpoint, tuple(months_of(folder)))
        self._tree = GrowingRoot()
        self._ends: dict[int, list[ArchivedMonth]] = {}
        for month in self.verdict.months:
            self._ends.setdefault(month.end, []).append(month)
        self._counts: Counter[str] = Counter()
        self._unreadable: list[str] = []

    def walk(self, advance: Advance) -> Iterator[str]:
        """What is wrong with it, each a line."""
        yield from self._order()
        rows, size = self._rows(), self.verdict.checkpoint.size
        row = next(rows, None)
        yield from self._end_problems()
        for index, leaf in self._leaves():
            if isinstance(leaf, str):
                yield leaf
                return
            self._tree.add_leaves([leaf])
            while row is not None and row[1]["index"] == index:
                yield from self._row_problems(*row, leaf)
                row = next(rows, None)
            yield from self._end_problems()
            advance(index + 1, size)
        if row is not None:
            yield f"{row[0].month.file} has a row of entry {row[1]['index']} out of order, or past the tree"
        else:
            yield from self._count_problems()
        if (self._tree.size, self._tree.root()) != (size, self.verdict.checkpoint.root):
            yield f"the tree does not make the root that the log signed for {size} entries"

    def _order(self) -> Iterator[str]:
        """Each month goes on where the one before it ended, and the first begins with entry 0."""
        end = 0
        for month in self.verdict.months:
            if month.first != end:
                yield f"{month.month.file} begins with entry {month.first}; the months before it end before entry {end}"
            if month.end > self.verdict.checkpoint.size:
                yield f"{month.month.file} ends past the tree"
            end = month.end

    def _count_problems(self) -> Iterator[str]:
        if self._unreadable:
            yield from self._unreadable
            return
        for month in self.verdict.months:
            count = self._counts[month.month.file]
            if count != month.end - month.first:
                yield f"{month.month.file} has {count} rows, and says {month.end - month.first}"

    def _end_problems(self) -> Iterator[str]:
        """The months that end here say the root that the tree has now; several where nothing was logged meanwhile."""
        for month in self._ends.get(self._tree.size, ()):
            if self._tree.root() != month.root:
                yield f"{month.month.file} says another root of {month.end} entries than the tree makes"

    def _leaves(self) -> Iterator[tuple[int, bytes | str]]:
        """The entries of the tree, each with the hash that its tile has; or what is wrong with a file of it."""
        for bundle in bundles_of(self.verdict.checkpoint.size):
            tile = Tile(0, bundle.index, bundle.width)
            try:
                leaves = parse_bundle(bundle, self._read(bundle))
                hashes = parse_tile(tile, self._read(tile))
            except (CoreError, OSError) as error:
                yield bundle.first, f"{bundle.path} or {tile.path} cannot be read: {error}"
                return
            for number, (leaf, hash_) in enumerate(zip(leaves, hashes, strict=True), bundle.first):
                yield number, leaf if leaf_hash(leaf) == hash_ else f"{tile.path} has another hash of entry {number}"

    def _read(self, place: Tile | Bundle) -> bytes:
        return (self._folder / place.path).read_bytes()

    def _rows(self) -> Iterator[tuple[ArchivedMonth, dict[str, object]]]:
        _, parquet = pyarrow()
        for month in self.verdict.months:
            try:
                with parquet.ParquetFile(self._folder / month.month.file) as file:
                    for batch in file.iter_batches(_PAGE, columns=list(COLUMNS)):
                        for row in batch.to_pylist():
                            self._counts[month.month.file] += 1
                            yield month, row
            # pyarrow's errors are ValueErrors and OSErrors; a missing column is a KeyError.
            except (KeyError, ValueError, OSError) as error:
                self._unreadable.append(f"{month.month.file} cannot be read: {error}")
                return

    def _row_problems(self, month: ArchivedMonth, row: dict[str, object], leaf: bytes) -> Iterator[str]:
        self.verdict.rows += 1
        name = f"entry {row['index']} in {month.month.file}"
        body = row["body"]
        if row["leaf"] != leaf or not isinstance(body, bytes):
            yield f"{name}: its leaf is not the one in the tree"
            return
        try:
            said = read_access_leaf(leaf)
        except CoreError as error:
            yield f"{name}: {error}"
            return
        if month_of(said.time) != month.month or not month.first <= int(str(row["index"])) < month.end:
            yield f"{name}: it is of another month"
        right = dict(zip(COLUMNS, columns_of(int(str(row["index"])), leaf, body), strict=True))
        wrong = [column for column, value in right.items() if row[column] != value]
        if wrong:
            yield f"{name}: its columns say something else than its leaf: {', '.join(wrong)}"
        self.verdict.erased += not body
        problem = body_problem(said, body) if body else ""
        if problem:
            yield f"{name}: {problem}"
