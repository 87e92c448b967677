"""What auditors read: bodies within a mandate, and an entry of each read before it is released (DESIGN section 7)."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from exchange.broker.logs import AccessProposal, EntryRefusedError, Logs
from exchange.broker.reading import Found, Reading
from exchange.broker.records import AccessRecord
from exchange.broker.status import NotPermittedError
from exchange.core.access import read_access_leaf
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.reads import covers, mandates_of
from exchange.core.state import State, Version
from exchange.core.wire import encode
from exchange.store.ports import Log, StoredEntry, Transaction
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.log_pb2 import FoundEntry, LogServiceSyncResponse, Record, SearchRequest, SearchResponse
from exchange.v1.people_pb2 import AuditorRead, Mandate


@dataclass(frozen=True, slots=True)
class Covered:
    """The entries of one page: which mandate covers whose body, the oldest one first."""

    entries: Sequence[StoredEntry]
    under: "dict[int, Version]"

    def record(self, entry: StoredEntry) -> Record:
        """An entry with its body, where a mandate covers that."""
        body = entry.body if entry.index in self.under else b""
        return Record(index=entry.index, leaf=entry.leaf, body=body)

    def reads(self, query_sha256: bytes = b"") -> Iterator[AuditorRead]:
        """One for each mandate: however many bodies, one entry of the log."""
        for digest in dict.fromkeys(version.digest for version in self.under.values()):
            indexes = [index for index, version in self.under.items() if version.digest == digest]
            yield AuditorRead(
                mandate=digest,
                first=min(indexes),
                end=max(indexes) + 1,
                bodies=len(indexes),
                query_sha256=query_sha256,
            )


class Auditing:
    """Hands the access log to auditors: every leaf, and the bodies that they have a mandate for.

    Args:
        logs: the directory with the mandates, and the append path.
        reading: reads the log.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, reading: Reading, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._reading = reading
        self._clock = clock

    async def sync(self, auditor: Party, start: int) -> LogServiceSyncResponse:
        """Entries from an index on, under one head.

        Raises:
            NotPermittedError: the peer is no auditor, or the mandate has ended meanwhile.
            ProofError: `start` lies past the head.
            AuditUnavailableError: the entry of the read could not be made durable: nothing is released.
        """
        # Read before the head, so that it is no larger.
        cosigned = await asyncio.to_thread(self._reading.cosigned, Log.ACCESS)
        entries, head = await asyncio.to_thread(self._reading.access, auditor, start)
        covered = await asyncio.to_thread(self._covered, auditor, entries)
        await self._enter(auditor, covered.reads())
        records = [covered.record(entry) for entry in entries]
        return LogServiceSyncResponse(records=records, checkpoint=head.checkpoint, cosigned=cosigned)

    async def search(self, auditor: Party, request: SearchRequest) -> SearchResponse:
        """Entries that fit and that a mandate covers, and reads, each with its inclusion proof under one head.

        Raises:
            NameFormatError: a party is not named as parties are.
            NotPermittedError, AuditUnavailableError: as `sync` does.
        """
        found = await asyncio.to_thread(self._reading.search, auditor, request)
        covered = await asyncio.to_thread(self._covered, auditor, [item.entry for item in found.entries])
        await self._enter(auditor, covered.reads(hashlib.sha256(encode(request)).digest()))
        shown = [item for item in found.entries if item.entry.index in covered.under or _is_read(item)]
        entries = [FoundEntry(record=covered.record(item.entry), path=item.path) for item in shown]
        return SearchResponse(entries=entries, next=found.next, checkpoint=found.checkpoint)

    def _covered(self, auditor: Party, entries: Sequence[StoredEntry]) -> Covered:
        mandates = list(mandates_of(self._logs.directory.state, auditor, self._clock()))
        return Covered(entries, dict(_under(mandates, entries)) if mandates else {})

    async def _enter(self, auditor: Party, reads: Iterator[AuditorRead]) -> None:
        """Append the entries of a read, all in one commit; returns when they are durable."""
        try:
            await asyncio.gather(*(self._logs.append(AccessProposal(_drawn(auditor, read))) for read in reads))
        except EntryRefusedError as error:
            raise NotPermittedError(str(error)) from error


def _under(mandates: Sequence[Version], entries: Sequence[StoredEntry]) -> Iterator[tuple[int, Version]]:
    for entry in entries:
        # What was erased, and what never had a body, is not read.
        if not entry.body:
            continue
        leaf = read_access_leaf(entry.leaf)
        for version in mandates:
            if isinstance(version.named, Mandate) and covers(version.named, leaf, entry.body):
                yield entry.index, version
                break


def _drawn(auditor: Party, read: AuditorRead) -> Callable[[Directory, Transaction, int], AccessRecord]:
    def draw(directory: Directory, _transaction: Transaction, now: int) -> AccessRecord:
        _check_stands(directory.state, auditor, read.mandate, now)
        return replace(_RECORD, requester=str(auditor), read=read)

    return draw


def _check_stands(state: State, auditor: Party, mandate: bytes, now: int) -> None:
    """Under the lock: the directory may have moved since."""
    if all(version.digest != mandate for version in mandates_of(state, auditor, now)):
        raise EntryRefusedError("the mandate has ended meanwhile: nothing is read under it any more")


_RECORD = AccessRecord(AccessKind.ACCESS_KIND_READ, Code.CODE_UNSPECIFIED, "")


def _is_read(item: Found) -> bool:
    return read_access_leaf(item.entry.leaf).kind == AccessKind.ACCESS_KIND_READ
