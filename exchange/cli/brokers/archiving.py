"""The archive of the access log: a C2SP tlog-tiles tree of the whole log, and a Parquet file for each month beside it.

    DIR/checkpoint, DIR/tile/…      the tree, which goes on from month to month
    DIR/access-2026-10.parquet      that month's entries: index, leaf, body, and columns to search by

The leaves in a month's file are those in the tree, and the tree makes the signed root. A month goes on where the one
before it ended, and its metadata say where that is and which root the log had at its end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.exports.output_file import written_whole
from exchange.cli.audit.tiles import TileTree
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.progress import bar
from exchange.core.access import code_name, kind_name, read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.errors import CoreError
from exchange.core.merkle import Frontier, NodeId, frontier_nodes, leaf_hash
from exchange.core.note import Verifier

if TYPE_CHECKING:
    from exchange.store.inspection import Inspection

PAGE: Final = 1000
BINARY: Final = ("request_id", "leaf_hash", "leaf", "body")
COLUMNS: Final = ("index", "time_ms", "kind", "code", "requester", "provider", *BINARY)
LOG, MONTH, FIRST, END, ROOT = (f"exchange.{name}" for name in ("log", "month", "first", "end", "root"))

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_FILE = re.compile(r"access-([0-9]{4}-[0-9]{2})\.parquet")
_DECEMBER = 12


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month, in UTC."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def start(self) -> int:
        """Its first millisecond."""
        return int(datetime(self.year, self.number, 1, tzinfo=UTC).timestamp() * 1000)

    @property
    def following(self) -> "Month":
        """The one after it."""
        return Month(self.year + 1, 1) if self.number == _DECEMBER else Month(self.year, self.number + 1)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"access-{self}.parquet"


def parse_month(text: str) -> Month:
    """Read YYYY-MM.

    Raises:
        WrongUsageError: not a month.
    """
    match = _MONTH.fullmatch(text)
    if match is None or not int(match[1]):
        raise WrongUsageError(f"--month: not a month: {text}", "write it as YYYY-MM, such as 2026-10")
    return Month(int(match[1]), int(match[2]))


def month_of(time: int) -> Month:
    """The month of a time in milliseconds."""
    moment = datetime.fromtimestamp(time / 1000, UTC)
    return Month(moment.year, moment.month)


@dataclass(frozen=True, slots=True)
class ArchivedMonth:
    """What a month's file says of itself: nothing of it is verified yet.

    Args:
        month: which.
        first, end: index of its first entry, and one more than that of its last.
        root: that of the log of `end` entries, 32 bytes.
    """

    month: Month
    first: int
    end: int
    root: bytes


class StoredLog:
    """A broker's access log as `TileTree` reads it; see `MirroredLog`.

    Args:
        stored: the broker's, which may be running.
        verifier: the log's note key, out of the trust file.
    """

    def __init__(self, stored: "Inspection", verifier: Verifier) -> None:
        from exchange.store.ports import Log

        self._stored, self._log, self.verifier = stored, Log.ACCESS, verifier
        self._note = stored.heads()[self._log].checkpoint
        try:
            self.checkpoint: Checkpoint = open_checkpoint(self._note, verifier)
        except CoreError as error:
            text = f"the checkpoint of {verifier.name} is not signed by its key in the trust file: {error}"
            raise CommandError(text, "", ExitCode.UNTRUSTED) from error

    def note(self, size: int) -> bytes:
        """The signed checkpoint of a size: only the last one is kept."""
        return self._note if size == self.checkpoint.size else b""

    def notes(self) -> Sequence[bytes]:
        """The newest signed checkpoints: only the last one is kept."""
        return [self._note]

    def sizes(self) -> Sequence[int]:
        """The sizes of which there are signed checkpoints."""
        return [self.checkpoint.size]

    def rows(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`, page by page."""
        while start < stop:
            page = self._stored.rows(self._log, start, min(PAGE, stop - start))
            for row in page:
                yield LoggedEntry(row.index, row.leaf, row.body)
            if not page:
                return
            start = page[-1].index + 1

    def nodes(self, wanted: Sequence[NodeId]) -> list[bytes]:
        """The hashes of complete nodes."""
        from exchange.store.ports import node_place

        places = [node_place(node.level, node.index) for node in wanted]
        found = [self._stored.nodes(self._log, place, place + 1) for place in places]
        return [nodes.get(place, b"") for place, nodes in zip(places, found, strict=True)]

    def root(self, size: int) -> bytes:
        """The root that the stored nodes make at a size."""
        try:
            return Frontier(size, tuple(self.nodes(frontier_nodes(size)))).root()
        except CoreError as error:
            text = f"the tree of {self.verifier.name} lacks nodes"
            raise CommandError(text, "`exchange log fsck` names what is wrong", ExitCode.REFUSED) from error


def archive_month(stored: "Inspection", verifier: Verifier, month: Month, folder: Path, now: int) -> ArchivedMonth:
    """Write one month, and the tree that holds it.

    Args:
        stored: the broker's.
        verifier: the access log's note key.
        month: one that is over.
        folder: the archive; made where there is none.
        now: milliseconds.

    Raises:
        WrongUsageError: the month is not over, or another is to be archived first, or it is archived already.
        CommandError: the stored log does not make its signed root, or the folder is another log's.
    """
    if now < month.following.start:
        raise WrongUsageError(f"--month: {month} is not over", "a month is archived once it is")
    earlier = [item for item in months_of(folder) if item.month != month]
    log, first, end = StoredLog(stored, verifier), stored.since(month.start), stored.since(month.following.start)
    _check_follows(stored, earlier, month, first)
    folder.mkdir(parents=True, exist_ok=True)
    # The tree first: a month's file is never there without the tree that proves it.
    with bar("tiles") as advance:
        TileTree(folder, log).write(advance)
    archived = ArchivedMonth(month, first, end, log.root(end))
    with bar(str(month)) as advance, written_whole(folder / month.file) as output:
        writer = _Writer(output, verifier.name, archived)
        for entry in log.rows(first, end):
            writer.add(entry)
            advance(entry.index + 1 - first, end - first)
        writer.close()
    return archived


def months_of(folder: Path) -> list[ArchivedMonth]:
    """The months that an archive has, in their order, by what their files say.

    Raises:
        CommandError: a file is no month's, or pyarrow is not installed.
    """
    found = []
    for path in sorted(folder.glob("access-*.parquet")):
        match = _FILE.fullmatch(path.name)
        if match is not None:
            found.append(_read_month(path, parse_month(match[1])))
    return found


def _read_month(path: Path, month: Month) -> ArchivedMonth:
    _, parquet = pyarrow()
    try:
        about: Mapping[bytes, bytes] = parquet.read_schema(path).metadata or {}
        said = {key: about[key.encode()].decode() for key in (MONTH, FIRST, END, ROOT)}
        archived = ArchivedMonth(parse_month(said[MONTH]), int(said[FIRST]), int(said[END]), bytes.fromhex(said[ROOT]))
    # pyarrow's errors have no common root but Exception's children ValueError and OSError.
    except (KeyError, ValueError, OSError, WrongUsageError) as error:
        raise CommandError(f"{path} is not a month of an archive: {error}", "", ExitCode.REFUSED) from error
    if archived.month != month or not 0 <= archived.first <= archived.end:
        text = f"{path} says that it is the month {archived.month}, or runs backwards"
        raise CommandError(text, "", ExitCode.REFUSED)
    return archived


def _check_follows(stored: "Inspection", earlier: Sequence[ArchivedMonth], month: Month, first: int) -> None:
    """A month goes on where the one before it ended; the first archived one begins with entry 0."""
    if any(item.month > month for item in earlier):
        raise WrongUsageError(f"--month: a later one than {month} is archived already", "months are archived in order")
    end = earlier[-1].end if earlier else 0
    if first != end:
        time = stored.time_of(end)
        missing = month_of(time) if time is not None else month
        hint = f"archive the earlier months first, beginning with --month {missing}"
        text = f"--month: {month} begins with entry {first}, and the archive ends before entry {end}"
        raise WrongUsageError(text, hint)


class _Writer:
    """Writes a month's rows, a page at a time."""

    def __init__(self, output: IO[bytes], origin: str, archived: ArchivedMonth) -> None:
        self._arrow, parquet = pyarrow()
        about = {
            LOG: origin,
            MONTH: str(archived.month),
            FIRST: str(archived.first),
            END: str(archived.end),
            ROOT: archived.root.hex(),
        }
        self._schema = self._arrow.schema([(name, self._type(name)) for name in COLUMNS], metadata=about)
        self._writer = parquet.ParquetWriter(output, self._schema, compression="zstd")
        self._rows: list[tuple[object, ...]] = []

    def add(self, entry: LoggedEntry) -> None:
        """Write a row, with those that wait."""
        self._rows.append(columns_of(entry.index, entry.leaf, entry.body))
        if len(self._rows) >= PAGE:
            self._flush()

    def close(self) -> None:
        """Write the rows that wait, and the footer."""
        self._flush()
        self._writer.close()

    def _type(self, name: str) -> Any:
        if name in BINARY:
            return self._arrow.binary()
        return self._arrow.uint64() if name in ("index", "time_ms") else self._arrow.string()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))
            self._rows.clear()


def columns_of(index: int, leaf: bytes, body: bytes) -> tuple[object, ...]:
    """A row, in the order of `COLUMNS`; what the leaf says stands in columns of its own, to be searched by.

    Raises:
        CommandError: the leaf cannot be read.
    """
    try:
        said = read_access_leaf(leaf)
    except CoreError as error:
        text = f"entry {index} of the access log cannot be read: {error}"
        raise CommandError(text, "`exchange log fsck` names what is wrong", ExitCode.REFUSED) from error
    return (
        index,
        said.time,
        kind_name(said.kind),
        code_name(said.code) if said.code else "",
        said.requester,
        said.provider,
        said.request_id,
        leaf_hash(leaf),
        leaf,
        body,
    )


def pyarrow() -> tuple[Any, Any]:
    """The library that reads and writes Parquet.

    Raises:
        CommandError: it is not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        hint = "install it: pip install 'department-exchange[parquet]'"
        raise CommandError("an archive needs pyarrow, which is not installed", hint, ExitCode.UNCHECKED) from error
