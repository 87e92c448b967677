"""Verification of both logs as a pure state machine: entries go in, in their order, and findings come out.

    with Remembered() as remembered:
        trees = WholeTree(directory), WholeTree(access)
        verification = Verification(trust, *trees, remembered, from_start=True)
        findings = [*verification.walk(directory_entries, access_entries), *verification.finish()]

Nothing is believed but the trust file: keys and agreements are what the directory's own leaves fold to, and each access
entry is judged under the directory of the size that it names (DESIGN section 7). Reading the logs is the caller's.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from exchange.cli.audit.checking.checks import judge, ledger_number
from exchange.cli.audit.checking.findings import Finding, Level, plural
from exchange.cli.audit.checking.ledgers import Numbers
from exchange.cli.audit.checking.opening import RELEASED, UNRELEASED, OpenedEntry, directory_time, open_or_missing
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import TreeCheck
from exchange.core.access import read_access_leaf
from exchange.core.directory import Directory
from exchange.core.erasures import Erasures
from exchange.core.errors import CoreError
from exchange.core.fold import Applied
from exchange.core.successions import read_succession
from exchange.core.trust import Trust
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.directory_pb2 import EntryKind


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry as a copy of a log holds it.

    Args:
        index: its place.
        leaf, body: its bytes.
        index_problem: where the copy's own index says something else than leaf and body; else empty.
    """

    index: int
    leaf: bytes
    body: bytes
    index_problem: str = ""


class Verification:
    """The state between two entries.

    Args:
        trust: the exchange's name, its root key and its log keys.
        directory_tree, access_tree: compare the leaves with what was signed.
        remembered: empty; what is kept of the entries, so that memory does not grow with the log.
        erasures: what the directory lets go of, all of it: an erasure comes long after what it erases.
        from_start: whether the access entries begin with entry 0, so that ledgers begin with number 1.
        is_scattered: whether entries are left out between them, so that a ledger's gaps mean nothing.
    """

    def __init__(
        self,
        trust: Trust,
        directory_tree: TreeCheck,
        access_tree: TreeCheck,
        remembered: Remembered,
        erasures: Erasures | None = None,
        *,
        from_start: bool,
        is_scattered: bool = False,
    ) -> None:
        origin, erasures = trust.access_log.name, erasures or Erasures()
        self._directory_log = DirectoryLog(trust, directory_tree, erasures)
        self._access_log = AccessLog(origin, access_tree, remembered, erasures, from_start=from_start)
        self._is_scattered = is_scattered

    @property
    def directory(self) -> Directory:
        """The directory as far as it is folded."""
        return self._directory_log.directory

    def walk(self, directory: Iterable[LoggedEntry], access: Iterable[LoggedEntry]) -> Iterator[Finding]:
        """Verify both logs side by side: the directory is folded just as far as the next access entry needs it.

        Args:
            directory: all its entries.
            access: all its entries, or some that follow each other.
        """
        self._directory_log.begin(directory)
        for entry in access:
            leaf = _read(entry.leaf)
            yield from self._directory_log.fold(leaf.directory_size if isinstance(leaf, AccessLeaf) else 0)
            yield from self._access_log.add(entry, leaf, self.directory, self._directory_log.following)
        yield from self._directory_log.fold(None)

    def finish(self) -> Iterator[Finding]:
        """What the entries show together, once all of them were walked."""
        yield from self._directory_log.finish()
        yield from self._access_log.finish()
        if not self._is_scattered:
            yield from self._access_log.gaps()


class DirectoryLog:
    """The directory log, folded entry by entry.

    Args:
        trust: what the fold begins with.
        tree: compares the leaves with what was signed.
        erasures: which bodies may be missing.
    """

    def __init__(self, trust: Trust, tree: TreeCheck, erasures: Erasures) -> None:
        self._erasures = erasures
        self._erased: Counter[int] = Counter()
        self.directory = Directory.genesis(trust.name, trust.root_key)
        self._origin = trust.directory_log.name
        self._access_log = trust.access_log
        self._breaks: list[tuple[int, bytes]] = []
        self._tree = tree
        self._rest: Iterator[LoggedEntry] = iter(())
        self._ahead: LoggedEntry | None = None
        self._is_broken = False

    @property
    def following(self) -> int | None:
        """Time of the entry that would be folded next, milliseconds; None at the end."""
        return directory_time(self._ahead.leaf) if self._ahead is not None else None

    def begin(self, entries: Iterable[LoggedEntry]) -> None:
        """Take the log's entries, to be folded as far as is asked."""
        self._rest = iter(entries)
        self._ahead = next(self._rest, None)

    def fold(self, size: int | None) -> Iterator[Finding]:
        """Fold entries until the directory has a size, or to their end."""
        while self._ahead is not None and (size is None or self.directory.size < size):
            entry, self._ahead = self._ahead, next(self._rest, None)
            yield from self._add(entry)

    def finish(self) -> Iterator[Finding]:
        """What the leaves together show, and which bodies were erased."""
        yield from self._tree.finish()
        yield from _erased_findings(self._origin, self._erased)
        for index, leaf in self._breaks:
            yield self._broken(index, leaf)

    def _broken(self, index: int, leaf: bytes) -> Finding:
        """A break that the root has declared: no fraud, and never passed over in silence."""
        try:
            return Finding(self._origin, None, str(read_succession(index, leaf, self._access_log)), Level.WARNING)
        except CoreError as error:
            return Finding(self._origin, index, f"it declares a break that the access log has not signed: {error}")

    def _add(self, entry: LoggedEntry) -> Iterator[Finding]:
        yield from self._tree.add(entry.index, entry.leaf)
        if entry.index_problem:
            yield Finding(self._origin, entry.index, entry.index_problem)
        # Behind a gap nothing can be folded: what is missing may have given rights, or taken them.
        self._is_broken = self._is_broken or entry.index != self.directory.size
        if self._is_broken:
            return
        self.directory, applied = self.directory.apply(entry.leaf, entry.body)
        if not applied.reason and applied.entry is not None and applied.entry.kind == EntryKind.ENTRY_KIND_SUCCESSOR:
            self._breaks.append((entry.index, entry.leaf))
        erased_by = self._erasures.of_object(applied.entry.object_id) if applied.entry is not None else None
        if erased_by is not None and not entry.body and not applied.reason:
            self._erased[erased_by] += 1
            return
        problem = applied.reason or _body_problem(applied, entry.body)
        if problem:
            yield Finding(self._origin, entry.index, problem)


class AccessLog:
    """The access log, judged entry by entry.

    Args:
        origin: its name.
        tree: compares the leaves with what was signed.
        remembered: what is kept of the entries before.
        erasures: which bodies may be missing.
        from_start: whether the entries begin with entry 0.
    """

    def __init__(
        self, origin: str, tree: TreeCheck, remembered: Remembered, erasures: Erasures, *, from_start: bool
    ) -> None:
        self._erasures = erasures
        self._erased: Counter[int] = Counter()
        self._origin = origin
        self._tree = tree
        self._remembered = remembered
        self._first_number = 1 if from_start else None
        self._time = 0
        self._directory_size = 0
        self._ledgers: dict[str, Numbers] = {}
        self._withheld = 0
        self._partial: set[str] = set()

    def add(
        self, entry: LoggedEntry, leaf: AccessLeaf | CoreError, directory: Directory, following: int | None
    ) -> Iterator[Finding]:
        """Judge the next entry.

        Args:
            entry: as the copy holds it.
            leaf: what it says, or why it cannot be read.
            directory: folded to the size that the entry names, if that is possible.
            following: time of the directory entry after those; None where there is none.
        """
        yield from self._tree.add(entry.index, entry.leaf)
        problems = [entry.index_problem] if entry.index_problem else []
        if isinstance(leaf, AccessLeaf):
            yield from self._said(entry, leaf, problems, directory, following)
        else:
            problems.append(str(leaf))
        for problem in problems:
            yield Finding(self._origin, entry.index, problem)

    def _said(
        self, entry: LoggedEntry, leaf: AccessLeaf, problems: list[str], directory: Directory, following: int | None
    ) -> Iterator[Finding]:
        """What an entry says, with its body; what is wrong goes to `problems`."""
        try:
            problems += self._order(leaf)
            problems += self._once(leaf, entry.index)
            opened = open_or_missing(leaf, entry.body, entry.index, self._erasures)
            problems += self._judged(opened, directory, following)
        except CoreError as error:
            problems.append(str(error))
        else:
            yield from self._number(opened, directory, entry.index)
        self._time = max(self._time, leaf.time)
        self._directory_size = max(self._directory_size, leaf.directory_size)

    def finish(self) -> Iterator[Finding]:
        """What the leaves together show, and which bodies were erased."""
        yield from self._tree.finish()
        yield from _erased_findings(self._origin, self._erased)
        if self._withheld:
            bodies = plural(self._withheld, "bodies are", "body is")
            text = f"{bodies} not here: no mandate covers them, and what they say was not checked"
            yield Finding(self._origin, None, text, Level.WARNING)

    def gaps(self) -> Iterator[Finding]:
        """The gaps of every ledger: answers that were never settled."""
        for provider, numbers in sorted(self._ledgers.items()):
            # A number that is not here may be in a body that is withheld.
            if provider in self._partial:
                continue
            for first, last in numbers.gaps():
                missing = f"answer {first} is" if first == last else f"answers {first} to {last} are"
                text = f"{missing} missing from the ledger of {provider}: answered, but never settled here"
                yield Finding(self._origin, None, text, Level.WARNING)

    def _order(self, leaf: AccessLeaf) -> Iterator[str]:
        if leaf.time < self._time:
            yield "its time runs backwards"
        if leaf.directory_size < self._directory_size:
            before = self._directory_size
            yield f"decided under a directory of {leaf.directory_size} entries, after one of {before}: it ran backwards"

    def _once(self, leaf: AccessLeaf, index: int) -> Iterator[str]:
        """DESIGN section 6, "Retry is not replay": at most one released entry for each request."""
        if leaf.kind != RELEASED:
            return
        request = hashlib.sha256(leaf.requester.encode() + b"\0" + leaf.request_id).digest()[:16]
        earlier = self._remembered.first_release(request, index)
        if earlier != index:
            yield f"its request was released before, as entry {earlier}: one request, one release"

    def _judged(self, entry: OpenedEntry, directory: Directory, following: int | None) -> Iterator[str]:
        size = entry.leaf.directory_size
        if size < directory.size:
            # `_order` has said why; the directory of that size is not at hand any more.
            return
        if size > directory.size:
            yield f"decided under a directory of {size} entries, of which only {directory.size} could be folded"
            return
        checks = judge(directory, entry, following, self._erasures)
        yield from (f"{check.subject}: {check.detail}" for check in checks if not check.ok)

    def _number(self, entry: OpenedEntry, directory: Directory, index: int) -> Iterator[Finding]:
        """The answer's place in its provider's ledger; an unreleased answer may be released later."""
        leaf, number = entry.leaf, ledger_number(directory, entry)
        if entry.erased_by is not None:
            # Its number went with its body, so what follows does not begin a ledger anew.
            self._erased[entry.erased_by] += 1
            self._first_number = None
        if entry.is_withheld:
            self._withheld += 1
            self._partial.add(leaf.provider)
            self._first_number = None
        if number is None:
            return
        numbers = self._ledgers.setdefault(leaf.provider, Numbers(self._first_number))
        if not numbers.add(number) and not self._remembered.is_withheld(leaf.response_digest):
            text = f"{leaf.provider} gave its ledger number {number} to two answers"
            yield Finding(self._origin, index, text, Level.WARNING)
        if leaf.kind == UNRELEASED:
            self._remembered.withhold(leaf.response_digest)


def _erased_findings(origin: str, erased: Mapping[int, int]) -> Iterator[Finding]:
    """One line for each erasure, however much it erased: nothing was tampered with, and nothing more can be checked."""
    for number, count in sorted(erased.items()):
        bodies = plural(count, "bodies were", "body was")
        yield Finding(origin, None, f"{bodies} erased by entry {number} of the directory", Level.WARNING)


def _read(leaf: bytes) -> AccessLeaf | CoreError:
    """What a leaf says, or why it cannot be read."""
    try:
        return read_access_leaf(leaf)
    except CoreError as error:
        return error


def _body_problem(applied: Applied, body: bytes) -> str:
    """What is wrong with the body beside a leaf that holds; `Directory.apply` has judged one that it opened."""
    entry = applied.entry
    if entry is None:
        return ""
    if entry.body_sha256 and not body:
        return "its body is missing, so nobody can judge what was decided by it"
    if body and not entry.body_sha256 and hashlib.sha256(body).digest() != entry.key.csr_sha256:
        return "it has a body that its leaf does not name"
    return ""
