"""What witnesses say of both logs, and whether it is fresh enough to act on (DESIGN section 2, "freshness quorum").

A cosigned checkpoint is a broker's to hand out and nobody's to believe: each cosignature is verified against the trust
file's policy, and the checkpoint must be of the one history that this party has seen.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from exchange.client.breaks import is_lost
from exchange.client.calls import Shared, Transport, call, check_length
from exchange.client.errors import BrokenLogError, EvidenceError, ExchangeError, StaleError
from exchange.client.evidence import AccessEvidence
from exchange.client.mirror import DirectoryMirror
from exchange.client.receipt_file import ReceiptFile
from exchange.client.storage import ACCESS, DIRECTORY
from exchange.core.errors import NoteError
from exchange.core.policy import MAX_AGE, NO_WITNESSES, Cosigned, Policy, open_cosigned
from exchange.core.successions import Succession
from exchange.core.trust import Trust
from exchange.transport import ACCESS_COSIGNED, DIRECTORY_COSIGNED
from exchange.v1.log_pb2 import (
    DirectoryServiceCosignedRequest,
    DirectoryServiceCosignedResponse,
    LogServiceCosignedRequest,
    LogServiceCosignedResponse,
)

TIMEOUT = 5.0
"""Seconds for one question."""

MOST_PROVEN = 500
"""Entries of one question."""

RETRY = 2.0
"""Seconds between two questions for the same, while what is known is still fresh."""


class Cosignatures:
    """The last cosigned checkpoint of each log that this party has verified; use it on one event loop.

    Args:
        file: keeps them for the next process.
        trust: the logs' keys, and the policy; without one, nothing is asked and nothing needed.
        mirror, evidence: the histories that they must be of.
        transport: the way to a broker.
        clock: milliseconds.
        max_age: seconds for which the directory's counts as fresh.
    """

    def __init__(
        self,
        file: ReceiptFile,
        trust: Trust,
        mirror: DirectoryMirror,
        evidence: AccessEvidence,
        transport: Transport,
        clock: Callable[[], int],
        max_age: float = MAX_AGE,
    ) -> None:
        self._file = file
        self._verifiers = {DIRECTORY: trust.directory_log, ACCESS: trust.access_log}
        self._policy = trust.policy or Policy()
        self._mirror = mirror
        self._evidence = evidence
        self._transport = transport
        self._clock = clock
        self._max_age = max_age
        self._known: dict[str, tuple[Cosigned, bytes]] = {}
        self._flight = Shared()
        self._tried = -RETRY

    @property
    def needed(self) -> bool:
        """Whether the trust file configures a quorum."""
        return self._policy.needs_witnesses

    async def open(self) -> None:
        """Take up what an earlier process verified, as far as the policy still says the same of it."""
        for log, verifier in self._verifiers.items() if self.needed else ():
            note = await asyncio.to_thread(self._file.cosigned, log)
            try:
                cosigned = open_cosigned(note, verifier, self._policy)
            except NoteError:
                # None is kept, or the keys are others now: a new one is asked for.
                continue
            if cosigned.quorum:
                self._known[log] = cosigned, note

    def of(self, log: str) -> Cosigned | None:
        """The last one of a log that met the quorum."""
        known = self._known.get(log)
        return known[0] if known is not None else None

    def note(self, log: str) -> bytes:
        """The same as a signed note; empty without one."""
        known = self._known.get(log)
        return known[1] if known is not None else b""

    def is_fresh(self, log: str = DIRECTORY) -> bool:
        """Whether a quorum has cosigned the log within `max_age`; without a quorum in the trust file nothing is."""
        cosigned = self.of(log)
        return cosigned is not None and cosigned.is_fresh(self._clock(), self._max_age)

    @property
    def is_stale(self) -> bool:
        """Whether the directory must not be acted on: a quorum is configured, and none has cosigned it lately."""
        return self.needed and not self.is_fresh()

    async def require_fresh(self) -> None:
        """Let nobody act on a directory that no quorum has cosigned within `max_age`; a new one is asked for in time.

        Raises:
            StaleError: there is none.
            BrokenLogError: a log contradicts itself; sticky.
        """
        if not self.needed:
            return
        known = self.of(DIRECTORY)
        if known is None or not known.is_fresh(self._clock(), self._max_age / 2):
            await self._try_refresh()
        if self.is_stale:
            raise StaleError(*self._why())

    async def take(self, log: str, note: bytes) -> None:
        """Verify a cosigned checkpoint as a broker gave it, and keep it where it is newer.

        Args:
            log: DIRECTORY or ACCESS.
            note: empty where the broker has none.

        Raises:
            EvidenceError: it is not the log's, or a witness's cosignature does not hold.
            ForkError: it is of another history than this party has seen; sticky.
            StaleError, UnavailableError: it cannot be compared with that history now.
        """
        if not self.needed or not note or note == self.note(log):
            return
        cosigned = self._opened(log, note)
        known = self.of(log)
        if cosigned.time is None or (known is not None and (known.time or 0) >= cosigned.time):
            return
        if log == DIRECTORY:
            await self._compare_directory(cosigned, note)
        else:
            await self._evidence.keep(note)
            await self._evidence.settle()
        await asyncio.to_thread(self._file.keep_cosigned, log, note)
        self._known[log] = cosigned, note

    async def give_up(self, breaks: Sequence[Succession]) -> None:
        """Forget what was cosigned of the access log, where the root has declared it lost: nothing continues it.

        Args:
            breaks: those that the directory declares.

        Raises:
            UnavailableError: nobody says whether the log still proves it.
        """
        known = self._known.get(ACCESS)
        if known is None:
            return
        for succession in breaks:
            if not await is_lost(self._transport, succession, known[0].checkpoint):
                continue
            # Another one may have come meanwhile, of the log that goes on.
            if self._known.get(ACCESS) == known:
                await asyncio.to_thread(self._file.keep_cosigned, ACCESS, b"")
                del self._known[ACCESS]
            return

    async def refresh(self, log: str) -> None:
        """Ask a broker for the last cosigned checkpoint, and take it.

        Raises:
            ExchangeError: as `take`, or nobody answers.
        """
        if log == DIRECTORY:
            request = DirectoryServiceCosignedRequest()
            directory = await call(
                self._transport, DIRECTORY_COSIGNED, request, DirectoryServiceCosignedResponse, TIMEOUT
            )
            await self.take(log, directory.cosigned)
        else:
            await self.prove(())

    async def prove(self, indexes: Sequence[int]) -> Mapping[int, tuple[bytes, ...]]:
        """Ask for the access log's last cosigned checkpoint, take it, and get entries' inclusion paths in it.

        Args:
            indexes: at most `MOST_PROVEN`.

        Returns:
            The paths, by index, not verified yet; those of entries that it does not hold are missing, and all are where
            the broker's is not the newest that this party knows.

        Raises:
            ExchangeError: as `refresh`.
        """
        request = LogServiceCosignedRequest(indexes=indexes)
        response = await call(self._transport, ACCESS_COSIGNED, request, LogServiceCosignedResponse, TIMEOUT)
        await self.take(ACCESS, response.cosigned)
        if response.cosigned != self.note(ACCESS):
            return {}
        return {item.index: tuple(item.path) for item in response.paths}

    async def close(self) -> None:
        """Give up a question that is under way."""
        await self._flight.close()

    async def _try_refresh(self) -> None:
        """Ask, unless it was asked a moment ago and there is time left; a failure shows in what is known."""
        now = asyncio.get_running_loop().time()
        if not self.is_stale and now - self._tried < RETRY:
            return
        self._tried = now
        try:
            await self._flight.join(lambda: self.refresh(DIRECTORY))
        except BrokenLogError:
            raise
        except ExchangeError:
            return

    async def _compare_directory(self, cosigned: Cosigned, note: bytes) -> None:
        checkpoint = cosigned.checkpoint
        if self._mirror.directory.size < checkpoint.size:
            await self._mirror.sync(self._transport, checkpoint.size, timeout=TIMEOUT)
        mirrored = self._mirror.checkpoint
        if (mirrored.size, mirrored.root) != (checkpoint.size, checkpoint.root):
            await self._mirror.confirm(checkpoint, note)

    def _opened(self, log: str, note: bytes) -> Cosigned:
        try:
            check_length(note)
            return open_cosigned(note, self._verifiers[log], self._policy)
        except NoteError as error:
            raise EvidenceError(f"the cosigned checkpoint of the {log} log does not hold: {error}") from error

    def _why(self) -> tuple[str, str]:
        known = self.of(DIRECTORY)
        hint = "the broker has lost its witnesses, or withholds what they cosigned: tell the operator, or try another"
        if known is None or known.time is None:
            return "enough witnesses have never cosigned a directory that this party has seen", hint
        age = self._clock() // 1000 - known.time
        return f"the directory was cosigned {age} s ago; at most {self._max_age:g} s are allowed", hint


def unseen(policy: Policy | None, cosigned: Cosigned | None, size: int) -> str:
    """What must be said beside a verification of what was: which entries no quorum has seen; empty where it saw all.

    Args:
        policy: the trust file's.
        cosigned: the log's last cosigned checkpoint, of the history that was verified.
        size: entries that were verified.
    """
    if policy is None or not policy.needs_witnesses:
        return NO_WITNESSES
    if cosigned is None or not cosigned.quorum:
        return "split view not excluded: no quorum of witnesses has cosigned"
    seen = cosigned.checkpoint.size
    return f"split view not excluded from entry {seen} on: not cosigned yet" if seen < size else ""


def split_view(policy: Policy | None, cosigned: Cosigned | None, now: int, max_age: float = MAX_AGE) -> str:
    """What must be said of a log as it is now, while a split view is not excluded; empty where it is.

    Args:
        policy: the trust file's.
        cosigned: the log's last cosigned checkpoint.
        now: milliseconds.
        max_age: seconds for which it counts as fresh.
    """
    if policy is None or not policy.needs_witnesses:
        return NO_WITNESSES
    if cosigned is None or not cosigned.quorum:
        return "split view not excluded: too few witnesses have cosigned"
    if not cosigned.is_fresh(now, max_age):
        return "split view not excluded: what the witnesses cosigned is too old"
    return ""
