"""What the auditor's home holds, read without asking anybody: both mirrors and the trust file."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exchange.cli.audit.checking.tree import Expected
from exchange.cli.audit.checking.verification import LoggedEntry
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.cli.frame.times import now
from exchange.client.errors import BrokenLogError
from exchange.client.receipt_file import FILE as RECEIPTS
from exchange.client.receipt_file import ReceiptFile
from exchange.client.session import MIRROR
from exchange.client.storage import DIRECTORY, MirrorFile
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.envelope import ENTRY, decode_envelope
from exchange.core.erasures import Erasures, withholds_nothing
from exchange.core.errors import CoreError
from exchange.core.fold import apply
from exchange.core.merkle import leaf_hash
from exchange.core.names import Party
from exchange.core.ranges import GrowingRoot
from exchange.core.reads import mandates_of, surely_covers
from exchange.core.state import MAX_ENTRY, genesis
from exchange.core.trust import Trust
from exchange.core.wire import decode
from exchange.home import Home
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry
from exchange.v1.people_pb2 import Mandate

_PAGE = 1000


class MirroredEntries:
    """The directory's entries, read page by page as they are asked for: the log may be longer than memory.

    Args:
        file: the mirror.
        size: how many it has.
    """

    def __init__(self, file: MirrorFile, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[LoggedEntry]:
        return self.between(0, self._size)

    def __getitem__(self, index: int) -> LoggedEntry:
        if not 0 <= index < self._size:
            raise IndexError(index)
        found = next(self.between(index, index + 1), None)
        if found is None:
            raise self._file.tampered(f"entry {index} is missing")
        return found

    def between(self, start: int, stop: int) -> Iterator[LoggedEntry]:
        """Entries from `start` to before `stop`, as they are stored."""
        for first in range(start, min(stop, self._size), _PAGE):
            for entry in self._file.page(first, min(first + _PAGE, stop, self._size)):
                yield LoggedEntry(entry.position, entry.leaf, entry.body)


@dataclass(frozen=True, slots=True)
class MirroredDirectory:
    """The directory log as the home mirrors it; nothing is folded yet.

    Args:
        entries: all of them.
        checkpoint: the signed one that they lead to, or should.
        note: the same as the log signed it, and witnesses cosigned it.
        cosigned: the last checkpoint of any size that a quorum cosigned, as it came; empty without one.
    """

    entries: MirroredEntries
    checkpoint: Checkpoint
    note: bytes
    cosigned: bytes

    def expected(self) -> Expected:
        """What the entries must lead to."""
        return Expected(self.checkpoint.origin, self.checkpoint)

    def leaf_hash(self, index: int) -> bytes | None:
        """The hash of a leaf, or None past the end."""
        return leaf_hash(self.entries[index].leaf) if 0 <= index < len(self.entries) else None

    def verified(self, trust: Trust) -> Directory:
        """The whole directory, its leaves compared with the signed checkpoint.

        Raises:
            CommandError: they do not make its root.
        """
        tree = GrowingRoot()
        for entry in self.entries:
            tree.add_leaves([entry.leaf])
        if (tree.size, tree.root()) != (self.checkpoint.size, self.checkpoint.root):
            hint = "`exchange-audit verify full` names what was altered"
            raise CommandError(f"the mirror of {self.checkpoint.origin} was altered", hint, ExitCode.REFUSED)
        return self.folded(trust, len(self.entries))

    def folded(self, trust: Trust, size: int) -> Directory:
        """The directory as it was at a size, or as far as it goes."""
        directory = Directory.genesis(trust.name, trust.root_key)
        for entry in self.entries.between(0, size):
            directory, _ = directory.apply(entry.leaf, entry.body)
        return directory


def erasures_of(trust: Trust, entries: Callable[[], Iterable[LoggedEntry]], auditor: Party | None = None) -> Erasures:
    """Which bodies may be missing: those that the directory's valid erasures let go of, and those without a mandate.

    Args:
        trust: what the fold begins with.
        entries: reads all of them; they are folded only where one among them matters for this.
        auditor: who mirrored the access log; None where all bodies must be there.
    """
    mandates: list[Mandate] = []
    erasures = Erasures(withholds_nothing if auditor is None else partial(_withholds, mandates))
    named = {"erased"} if auditor is None else {"erased", "mandate"}
    if any(_says(entry.leaf, named) for entry in entries()):
        state = genesis(trust.name, trust.root_key)
        for entry in entries():
            state, applied = apply(state, entry.leaf)
            erasures.add(applied, state)
        given = mandates_of(state, auditor, now()) if auditor is not None else ()
        mandates += [version.named for version in given if isinstance(version.named, Mandate)]
    return erasures


def _withholds(mandates: Sequence[Mandate], leaf: AccessLeaf) -> bool:
    """Whether no mandate that stands now covers an entry for certain."""
    return not any(surely_covers(mandate, leaf) for mandate in mandates)


def _says(leaf: bytes, names: Collection[str]) -> bool:
    """Whether a leaf has a body of one of these kinds, whoever signed it."""
    try:
        envelope = decode_envelope(decode(DirectoryLeaf, leaf, MAX_ENTRY).envelope, ENTRY, MAX_ENTRY)
        return decode(Entry, envelope.payload, MAX_ENTRY).WhichOneof("body") in names
    except CoreError:
        return False


@dataclass(frozen=True, slots=True)
class AuditHome:
    """Both mirrors.

    Args:
        trust: what all of it is checked against.
        directory, access: the mirrors.
        file: the directory's mirror on disk.
        failure: why a log cannot be trusted any more; what was mirrored before can still be looked at.
        auditor: whose home it is; None where that is not said.
    """

    trust: Trust
    directory: MirroredDirectory
    access: AccessMirror
    file: MirrorFile
    failure: BrokenLogError | None
    auditor: Party | None

    def verified_directory(self) -> Directory:
        """The whole directory, its leaves compared with the signed checkpoint.

        Raises:
            CommandError: they do not make its root.
        """
        return self.directory.verified(self.trust)

    def erasures(self) -> Erasures:
        """Which bodies may be missing."""
        return erasures_of(self.trust, lambda: self.directory.entries, self.auditor)

    def fail(self, log: str, error: BrokenLogError) -> BrokenLogError:
        """Keep a log's failure for good, and give it back as every later use will find it."""
        return self.access.fail(error) if log == "access" else self.file.fail(DIRECTORY, error)

    def end(self) -> None:
        """Let a command end as it must where a log has failed.

        Raises:
            BrokenLogError: one has.
        """
        if self.failure is not None:
            raise self.failure


@contextmanager
def opened_home(path: Path) -> Iterator[AuditHome]:
    """Open both mirrors of a home.

    Args:
        path: the auditor's home.

    Raises:
        CommandError: nothing is mirrored yet.
        EvidenceError, UnavailableError: a mirror was altered, or cannot be used.
        HomeError, TrustError: no trust file, or it cannot be read.
    """
    trust = Home(path).trust
    if not is_mirrored(path):
        raise CommandError(f"nothing is mirrored in {path} yet", _hint(path), ExitCode.UNCHECKED)
    file = MirrorFile(path / MIRROR)
    with AccessMirror.opened(path / FILE, trust.access_log) as access:
        if not access.is_complete:
            raise CommandError("the first sync was interrupted", _hint(path), ExitCode.UNCHECKED)
        failure = file.failure() or access.failure
        yield AuditHome(trust, read_directory(file, trust), access, file, failure, _auditor(path))


def _auditor(path: Path) -> Party | None:
    home = Home(path)
    return home.party if home.is_made else None


def is_mirrored(path: Path) -> bool:
    """Whether a home has both mirrors."""
    return (path / MIRROR).exists() and (path / FILE).exists()


def read_directory(file: MirrorFile, trust: Trust) -> MirroredDirectory:
    """Read the mirror of the directory.

    Raises:
        EvidenceError: its checkpoint is not the log's.
    """
    size, note = file.stored()
    try:
        checkpoint = open_checkpoint(note, trust.directory_log)
    except CoreError as error:
        raise file.tampered(f"its checkpoint does not hold: {error}") from error
    path = file.path.with_name(RECEIPTS)
    cosigned = ReceiptFile(path).cosigned(DIRECTORY) if path.exists() else b""
    best = cosigned if _is_of(cosigned, checkpoint, trust) else note
    return MirroredDirectory(MirroredEntries(file, size), checkpoint, best, cosigned)


def _is_of(note: bytes, checkpoint: Checkpoint, trust: Trust) -> bool:
    """Whether a note is of this very checkpoint, so that it can stand in its place with its cosignatures."""
    try:
        return open_checkpoint(note, trust.directory_log) == checkpoint
    except CoreError:
        return False


def mirrored_erasures(path: Path, trust: Trust) -> Erasures:
    """Which bodies may be missing, by the directory that a home mirrors.

    Raises:
        EvidenceError: the mirror's checkpoint is not the log's.
    """
    entries = read_directory(MirrorFile(path / MIRROR), trust).entries
    return erasures_of(trust, lambda: entries, _auditor(path))


def _hint(path: Path) -> str:
    return f"exchange-audit sync --home {path}"
