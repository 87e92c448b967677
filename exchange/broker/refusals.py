"""Refusals: signed by this broker, logged with their code, and raised to the gRPC layer (DESIGN section 6).

Each has an entry of its own until its party has used its budget up. Then the party's refusals are counted, and one
entry a minute sums them up, so that nobody can flood the log. Each still is signed, and says its place in the summary.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from exchange.batching import Batcher
from exchange.broker.limits import TokenBuckets, refusal_budget
from exchange.broker.logs import AccessProposal, AuditUnavailableError, Logs
from exchange.broker.records import AccessRecord
from exchange.core.access import MAX_REASON, code_name, refusal_draft
from exchange.core.decision import Deny
from exchange.core.envelope import Draft, Envelope, message_digest, sign_batch
from exchange.core.keys import Signer
from exchange.core.names import Party
from exchange.core.summary import MINUTE, Summary
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.request_pb2 import RequestHeader

# Seconds between two attempts to write a summary that the log did not take.
RETRY = 5.0

logger = structlog.get_logger("exchange.broker")


class RefusedError(Exception):
    """A request is refused; `refusal` is signed by this broker or by the provider's system."""

    def __init__(self, code: "Code.ValueType", reason: str, refusal: Envelope) -> None:
        super().__init__(reason[:MAX_REASON])
        self.code = code
        self.refusal = refusal


@dataclass(slots=True)
class _Tally:
    """A summary that still grows. `last` is the draft of its last refusal, `ended` wakes whoever writes it."""

    summary: Summary
    last: Draft | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Refusals:
    """Signs and logs refusals.

    Args:
        logs: where each is appended.
        signer: this broker's own key; party: its name.
        clock: milliseconds.
        budget: how many entries of their own a party's refusals get.
    """

    def __init__(
        self,
        logs: Logs,
        signer: Signer,
        party: Party,
        clock: Callable[[], int],
        budget: TokenBuckets | None = None,
    ) -> None:
        self._logs = logs
        self._signer = signer
        self._party = party
        self._clock = clock
        self._budget = budget or refusal_budget()
        self._batcher: Batcher[Draft, Envelope] = Batcher(self._sign)
        self._tallies: dict[Party, _Tally] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def refuse(
        self,
        peer: Party,
        deny: Deny,
        request_digest: bytes,
        *,
        request: Envelope | None = None,
        header: RequestHeader | None = None,
        provider: str = "",
    ) -> RefusedError:
        """Sign a refusal and make its entry durable, or count it.

        Args:
            peer: whom TLS authenticated.
            deny: which check, code and reason.
            request_digest: the message digest, or the SHA-256 of what could not be parsed.
            request: the envelope, where its signature holds, so that the entry is evidence; header: its header.
            provider: the dataset's system, where one is known.
        """
        if not self._budget.take(peer, self._clock()):
            return await self._sum_up(peer, deny, request_digest)
        refusal = await self._batcher.submit(self._draft(deny, request_digest))
        record = AccessRecord(
            AccessKind.ACCESS_KIND_REFUSED,
            deny.code,
            str(peer),
            provider,
            header.request_id if header is not None else b"",
            request_digest,
            request,
            refusal=refusal,
        )
        return await self._log(record, refusal, deny.reason)

    async def pass_on(self, requester: Party, record: AccessRecord, deny: Deny) -> RefusedError:
        """Make the entry of a provider's own refusal durable, or count it and refuse in the broker's own name.

        Args:
            requester: who asked.
            record: with the refusal as the provider signed it.
            deny: what it says.
        """
        if record.refusal is None:
            raise ValueError("a refusal is signed before it is logged")
        if not self._budget.take(requester, self._clock()):
            # What is summed up says its place in the summary, and the provider's signature does not cover one.
            deny = Deny(deny.check, deny.code, f"the provider refused: {deny.reason}")
            return await self._sum_up(requester, deny, record.request_digest)
        return await self._log(record, record.refusal, deny.reason)

    async def audit_unavailable(self, request_digest: bytes, reason: str = "") -> RefusedError:
        """The one refusal that the log never has, because the log is what fails (check 12).

        Args:
            request_digest: the request's message digest.
            reason: why nothing is released, where the log could be written.
        """
        reason = reason or "the access log cannot be written: nothing is released"
        deny = Deny(12, Code.CODE_AUDIT_UNAVAILABLE, reason)
        refusal = await self._batcher.submit(self._draft(deny, request_digest))
        return RefusedError(deny.code, deny.reason, refusal)

    async def close(self) -> None:
        """Write every summary that is open; no refusal may follow."""
        self._stopping = True
        for tally in self._tallies.values():
            tally.ended.set()
        while self._writing:
            await asyncio.wait(tuple(self._writing))

    async def _log(self, record: AccessRecord, refusal: Envelope, reason: str) -> RefusedError:
        try:
            await self._logs.append(_saying(record))
        except AuditUnavailableError:
            return await self.audit_unavailable(record.request_digest)
        logger.info("refused", code=code_name(record.code), requester=record.requester, provider=record.provider)
        return RefusedError(record.code, reason, refusal)

    async def _sum_up(self, peer: Party, deny: Deny, request_digest: bytes) -> RefusedError:
        if self._logs.failed.is_set():
            return await self.audit_unavailable(request_digest)
        # No await before the draft is counted: its place is its own.
        now = self._clock()
        tally = self._tally(peer, now)
        draft = self._draft(deny, request_digest, tally.summary.size + 1)
        digest = message_digest(draft.kind, draft.payload)
        tally.summary = tally.summary.add(deny.code, digest, now)
        tally.last = draft
        return RefusedError(deny.code, deny.reason, await self._batcher.submit(draft))

    def _tally(self, peer: Party, now: int) -> _Tally:
        tally = self._tallies.get(peer)
        if tally is not None and tally.summary.takes(now):
            return tally
        if tally is not None:
            tally.ended.set()
        tally = self._tallies[peer] = _Tally(Summary(str(self._party), now, now))
        task = asyncio.create_task(self._end(peer, tally))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return tally

    async def _end(self, peer: Party, tally: _Tally) -> None:
        """Let a summary grow for its minute, then write it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MINUTE / 1000):
                await tally.ended.wait()
        if self._tallies.get(peer) is tally:
            del self._tallies[peer]
        if tally.last is not None:
            await self._write(peer, tally.summary, tally.last)

    async def _write(self, peer: Party, summary: Summary, last: Draft) -> None:
        # Signed a second time: a message is its digest, and the entry's evidence is a refusal that was handed out.
        refusal = await self._batcher.submit(last)
        kind = AccessKind.ACCESS_KIND_REFUSALS
        record = AccessRecord(kind, Code.CODE_UNSPECIFIED, str(peer), refusal=refusal, summary=summary)
        while True:
            try:
                await self._logs.append(_saying(record))
            except AuditUnavailableError:
                if self._stopping or self._logs.failed.is_set():
                    logger.critical("a summary of refusals was lost", requester=str(peer), refusals=summary.size)
                    return
                await asyncio.sleep(RETRY)
            else:
                logger.info("refusals summed up", requester=str(peer), refusals=summary.size)
                return

    def _draft(self, deny: Deny, request_digest: bytes, place: int = 0) -> Draft:
        size, now = self._logs.directory.size, self._clock()
        return refusal_draft(deny, str(self._party), request_digest, size, now, place)

    async def _sign(self, drafts: Sequence[Draft]) -> Sequence[Envelope]:
        return sign_batch(self._signer, self._logs.directory.origin, drafts)


def _saying(record: AccessRecord) -> AccessProposal:
    return AccessProposal(lambda _directory, _transaction, _now: record)
