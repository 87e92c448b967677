"""Who may read what of the two logs (DESIGN section 7)."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exchange.broker.logs import Logs
from exchange.broker.proofs import receipts
from exchange.broker.status import NotPermittedError
from exchange.core.access import read_access_leaf
from exchange.core.corrections import bound
from exchange.core.descriptor import may_see
from exchange.core.directory import Directory
from exchange.core.envelope import ENTRY, decode_envelope
from exchange.core.errors import CoreError, ProofError
from exchange.core.names import Party
from exchange.core.signed import no_valid_key
from exchange.core.state import MAX_ENTRY, Version
from exchange.core.terms import DatasetTerms
from exchange.core.wire import MAX_TIME, decode
from exchange.store.ports import AccessQuery, Head, Log, StoredEntry
from exchange.v1.directory_pb2 import DirectoryLeaf, EntryKind, Role
from exchange.v1.log_pb2 import Record, SearchRequest

PAGE_BYTES = 3 * 1024 * 1024
PAGE = 2000
SEARCH_BYTES = 2 * 1024 * 1024
SEARCH_PAGE = 500
WINDOW = 200_000
"""Entries that one search looks at."""

MOST_PROVEN = 500
"""Entries that are proven at once in a cosigned checkpoint."""

SEES_ALL = frozenset({Role.ROLE_BROKER, Role.ROLE_COORDINATOR, Role.ROLE_AUDITOR})


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that fits a search, with its inclusion path."""

    entry: StoredEntry
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Searched:
    """One page of a search: what fits, where to go on, and the signed checkpoint that the proofs are under."""

    entries: Sequence[Found]
    next: int
    checkpoint: bytes


class Reading:
    """Reads of both logs, each within what its reader may see.

    Args:
        logs: both logs.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._clock = clock

    def directory(self, peer: Party, start: int) -> tuple[list[Record], Head]:
        """Directory entries from `start` on, with the bodies that the peer may see, under one head.

        Raises:
            NotPermittedError: the peer has no valid key in the directory.
            ProofError: `start` lies past the head.
        """
        sees_all = self._role(peer) in SEES_ALL
        head = self._logs.store.head(Log.DIRECTORY)
        directory = self._folded(head.size)
        records = []
        for entry in self._page(head, start):
            visible = sees_all or may_see_body(directory, peer, entry)
            records.append(Record(index=entry.index, leaf=entry.leaf, body=entry.body if visible else b""))
        return records, head

    def access(self, peer: Party, start: int) -> tuple[list[StoredEntry], Head]:
        """Access entries from `start` on, for auditors, under one head; which bodies they get is for `Auditing` to say.

        Raises:
            NotPermittedError: the peer is no auditor.
            ProofError: `start` lies past the head.
        """
        self._check_auditor(peer)
        head = self._logs.store.head(Log.ACCESS)
        return self._page(head, start), head

    def own(self, peer: Party, start: int) -> tuple[list[Record], int, Head]:
        """The peer's own access entries from `start` on, and where to go on.

        Raises:
            NotPermittedError: the peer has no valid key in the directory, or is the exchange itself.
        """
        self._role(peer)
        # Its name covers everyone's, but what all parties asked is for auditors alone.
        if peer.is_exchange:
            raise NotPermittedError("the exchange itself asks and answers nothing: auditors read the access log")
        head = self._logs.store.head(Log.ACCESS)
        found = self._logs.store.own(str(peer), start, PAGE_BYTES, PAGE)
        entries = [entry for entry in found if entry.index < head.size]
        following = entries[-1].index + 1 if entries else head.size
        return [_record(entry) for entry in entries], following, head

    def cosigned(self, log: Log) -> bytes:
        """The last checkpoint of a log that enough witnesses cosigned; empty without witnesses.

        Read before a head, it is no larger than that head.
        """
        return self._logs.store.cosigned(log).note

    def search(self, peer: Party, request: SearchRequest) -> Searched:
        """Access entries that fit, for auditors, each with its inclusion proof under one head.

        It looks at no more than `WINDOW` entries, so that no search holds up the exchange: `next` may come before
        anything more fits.

        Raises:
            NameFormatError: a party is not named as parties are.
            NotPermittedError: the peer is no auditor.
        """
        self._check_auditor(peer)
        store = self._logs.store
        head = store.head(Log.ACCESS)
        query = _query(request)
        start = max(request.start, self._first_since(query.since, head)) if query.since is not None else request.start
        end = self._first_since(query.until + 1, head) if query.until is not None else head.size
        stop = min(start + WINDOW, end)
        entries = store.search(query, start, stop, SEARCH_BYTES, max(1, min(request.limit or SEARCH_PAGE, SEARCH_PAGE)))
        following = entries[-1].index + 1 if entries else stop
        proofs = receipts(store, head, {entry.index: entry.leaf for entry in entries})
        found = [Found(entry, tuple(proofs[entry.index].path)) for entry in entries]
        return Searched(found, following if following < end else head.size, head.checkpoint)

    def cosigned_with(self, log: Log, indexes: Sequence[int]) -> tuple[bytes, dict[int, Sequence[bytes]]]:
        """The same, with the inclusion paths of entries that it holds, in the order asked for.

        Raises:
            ProofError: more than `MOST_PROVEN` entries.
        """
        if len(indexes) > MOST_PROVEN:
            raise ProofError(f"{len(indexes)} entries at once: the most is {MOST_PROVEN}")
        store = self._logs.store
        witnessed = store.cosigned(log)
        head = Head(log, witnessed.size, witnessed.note, 0)
        proofs = receipts(store, head, {index: b"" for index in indexes if index < witnessed.size})
        return witnessed.note, {index: proof.path for index, proof in proofs.items()}

    def check(self, peer: Party) -> None:
        """Let only parties of the directory go on.

        Raises:
            NotPermittedError: the peer has no valid key in the directory.
        """
        self._role(peer)

    def _check_auditor(self, peer: Party) -> None:
        if self._role(peer) != Role.ROLE_AUDITOR:
            raise NotPermittedError("the access log is read by auditors; a party reads its own entries")

    def _first_since(self, time: int, head: Head) -> int:
        """The first index whose entry is of this time or later: entries stand in the order of their times."""
        return bisect_left(range(head.size), time, key=self._time)

    def _time(self, index: int) -> int:
        entry = self._logs.store.entry(Log.ACCESS, index)
        return read_access_leaf(entry.leaf).time if entry is not None else MAX_TIME

    def _role(self, peer: Party) -> "Role.ValueType":
        role = self._logs.directory.role_of(peer, self._clock())
        if role is None:
            raise NotPermittedError(no_valid_key(self._logs.directory.state, peer, self._clock()))
        return role

    def _folded(self, size: int) -> Directory:
        """The directory at a head: the entry may be durable that this process has not folded yet."""
        directory = self._logs.directory
        while directory.size < size:
            for entry in self._logs.store.entries(Log.DIRECTORY, directory.size, PAGE_BYTES, PAGE):
                directory, _ = directory.apply(entry.leaf, entry.body)
        return directory

    def _page(self, head: Head, start: int) -> list[StoredEntry]:
        if start > head.size:
            raise ProofError(f"the log has {head.size} entries, and none from {start} on")
        entries = self._logs.store.entries(head.log, start, PAGE_BYTES, PAGE)
        return [entry for entry in entries if entry.index < head.size]


def may_see_body(directory: Directory, peer: Party, entry: StoredEntry) -> bool:
    """Whether a party may see a body.

    A dataset's all may unless it is restricted, and what all may have of it: standing approvals. The others those whom
    they bind; a step, whom the application binds that it is about, or the correction.
    """
    version = _version(directory, entry)
    if version is None:
        return False
    if version.kind == EntryKind.ENTRY_KIND_DATASET:
        return _may_see_dataset(directory, peer, version.object_id, version.owner)
    offices = bound(directory.terms, version)
    if offices:
        return any(office.covers(peer) for office in offices)
    about = _dataset_about(directory, version)
    if about is not None:
        return _may_see_dataset(directory, peer, about.object_id, about.version.owner)
    return any(party.own_department.covers(peer) for party in _bound(directory, version))


def _dataset_about(directory: Directory, version: Version) -> DatasetTerms | None:
    """The dataset that a standing approval or a step of its review is about."""
    approval = directory.terms.approvals.get(version.digest)
    step = directory.terms.steps.get(version.digest)
    about = approval.dataset if approval is not None else step.about if step is not None else b""
    return directory.terms.datasets.get(about)


def _may_see_dataset(directory: Directory, peer: Party, object_id: bytes, owner: Party) -> bool:
    """By the latest version of it: what is restricted now is restricted in all its versions."""
    dataset = directory.terms.datasets.get(object_id)
    if dataset is None or may_see(dataset.descriptor, owner, peer):
        return dataset is not None or owner.covers(peer)
    # Whoever has an agreement goes on seeing what it is about.
    return (object_id, peer.own_department) in directory.terms.granted


def _bound(directory: Directory, version: Version) -> list[Party]:
    """Applicant and owner of an application and of the steps about it, owner and grantee of an agreement."""
    parties = [version.owner]
    step = directory.terms.steps.get(version.digest)
    digest = directory.state.objects.get(step.about, b"") if step is not None else version.digest
    application = directory.terms.applications.get(digest)
    if step is not None and application is not None:
        parties.append(application.version.owner)
    if application is not None:
        dataset = directory.terms.datasets.get(application.dataset)
        parties.extend([dataset.version.owner] if dataset is not None else [])
    agreement = directory.terms.agreements.get(version.digest)
    if agreement is not None:
        parties.append(agreement.grantee)
    return parties


def _version(directory: Directory, entry: StoredEntry) -> Version | None:
    try:
        leaf = decode(DirectoryLeaf, entry.leaf, MAX_ENTRY)
        envelope = decode_envelope(leaf.envelope, ENTRY, MAX_ENTRY)
    except CoreError:
        return None
    return directory.state.versions.get(envelope.digest)


def _query(request: SearchRequest) -> AccessQuery:
    """The conditions of a search, in the store's words.

    Raises:
        NameFormatError: a party is not named as parties are.
    """
    return AccessQuery(
        since=min(request.since, MAX_TIME) or None,
        until=min(request.until, MAX_TIME) or None,
        kind=request.kind or None,
        code=request.code or None,
        requester=str(Party.parse(request.requester)) if request.requester else None,
        provider=str(Party.parse(request.provider)) if request.provider else None,
        request_id=request.request_id or None,
    )


def _record(entry: StoredEntry) -> Record:
    return Record(index=entry.index, leaf=entry.leaf, body=entry.body)
