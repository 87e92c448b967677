"""One commit for all answers that have queued: chain, seal, sign one root, write (DESIGN section 6, byte by byte)."""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from adapters.denying import DenyError
from adapters.ledger import Ledger, LedgerAnswer, LedgerHead
from adapters.quotas import Counted, is_counted
from exchange.batching import Batcher
from exchange.client.session import Session
from exchange.core.decision import Allow, Deny, Usage, weigh
from exchange.core.directory import Directory
from exchange.core.envelope import RESPONSE, Draft, Envelope, message_digest, sign_batch
from exchange.core.names import Party
from exchange.core.sealing import NONCE, TO_REQUESTER, message_key, seal_body
from exchange.core.terms import AgreementTerms
from exchange.core.wire import FORMAT, decode, encode
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.request_pb2 import Answer, ResponseHeader, Sealed


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer that waits for its place in the ledger.

    Args:
        allow: the request and the terms that allow it.
        channel: the secret that it was sealed with, 32 bytes.
        query: what was asked, as it was opened; answer: a serialised Answer.
        asked, told: subjects asked about, and those of the rows returned.
        rows: how many are returned.
        erase_after: when the sealed answer need no longer wait for a retry, milliseconds.
    """

    allow: Allow
    channel: bytes
    query: bytes
    answer: bytes
    asked: tuple[str, ...]
    told: tuple[str, ...]
    rows: int
    erase_after: int


class Committer:
    """Commits answers to the ledger; an answer leaves the adapter only when its commit has returned.

    Args:
        session: the system's open home.
        ledger: opened for writing.
        clock: milliseconds.
    """

    def __init__(self, session: Session, ledger: Ledger, clock: Callable[[], int]) -> None:
        self._session = session
        self._ledger = ledger
        self._clock = clock
        self._counted = Counted(ledger)
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._batcher: Batcher[Prepared, bytes] = Batcher(self._commit)

    async def commit(self, prepared: Prepared) -> bytes:
        """Give an answer its number, seal and sign it, and make it durable; returns the response's envelope.

        Raises:
            DenyError: others have used up what the agreement grants, or it has ended, since the request was decided.
            LedgerError: the request has an answer already.
            LedgerFatalError: the disk failed; the process must stop.
        """
        return await asyncio.shield(self._batcher.submit(prepared))

    async def close(self) -> None:
        """Commit what is queued."""
        await self._batcher.close()
        self._writer.shutdown()

    async def _commit(self, batch: Sequence[Prepared]) -> Sequence[bytes | Exception]:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._commit_allowed, batch)

    def _commit_allowed(self, batch: Sequence[Prepared]) -> list[bytes | Exception]:
        """This thread alone commits, so nothing is used between the count and the commit."""
        directory, now = self._session.directory, self._clock()
        pending: Counter[tuple[bytes, Party]] = Counter()
        denied = [self._denied(directory, prepared, now, pending) for prepared in batch]
        allowed = [prepared for prepared, deny in zip(batch, denied, strict=True) if deny is None]
        frames = iter(self._write(allowed, directory.size, now) if allowed else ())
        return [next(frames) if deny is None else DenyError(deny) for deny in denied]

    def _denied(
        self, directory: Directory, prepared: Prepared, now: int, pending: "Counter[tuple[bytes, Party]]"
    ) -> Deny | None:
        """Why an answer would be one too many; one that is not counts against those behind it in its batch."""
        allow = prepared.allow
        if not is_counted(allow.agreement.limits):
            return None
        place = (allow.agreement.object_id, allow.asked.requester.own_department)

        def used(agreement: AgreementTerms, department: Party, now: int) -> Usage:
            usage, more = self._counted.usage(directory, agreement, department, now), pending[place]
            return Usage(usage.minute + more, usage.day + more, usage.total + more)

        weighed = weigh(directory, allow.asked.header, allow.asked.requester, now, used)
        if isinstance(weighed, Deny):
            return weighed
        pending[place] += 1
        return None

    def _write(self, batch: Sequence[Prepared], size: int, now: int) -> list[bytes]:
        head = self._ledger.head
        drafts: list[Draft] = []
        rows: list[bytes] = []
        for prepared in batch:
            draft = self._draft(prepared, head, now, size)
            row = _row(prepared, draft, head, now)
            drafts.append(draft)
            rows.append(row)
            head = head.after(row)
        envelopes = sign_batch(self._session.signer, self._session.trust.name, drafts)
        frames = [envelope.encode() for envelope in envelopes]
        answers = [
            _answer(prepared, row, envelope, frame)
            for prepared, row, envelope, frame in zip(batch, rows, envelopes, frames, strict=True)
        ]
        self._ledger.commit(answers)
        # COMMITTED: the answers may leave.
        return frames

    def _draft(self, prepared: Prepared, head: LedgerHead, now: int, directory_size: int) -> Draft:
        answer = decode(Answer, prepared.answer)
        header = encode(
            ResponseHeader(
                format=FORMAT,
                provider=str(self._session.party),
                request_digest=prepared.allow.asked.envelope.digest,
                agreement=prepared.allow.agreement.digest,
                ledger_number=head.number + 1,
                ledger_previous=head.chain,
                directory_size=directory_size,
                rows_sha256=hashlib.sha256(answer.salt + answer.rows).digest(),
                answered_at=now,
            )
        )
        key = message_key(prepared.channel, TO_REQUESTER, header)
        ciphertext = seal_body(key, secrets.token_bytes(NONCE), prepared.answer)
        sealed = Sealed(header=header, ciphertext_sha256=hashlib.sha256(ciphertext).digest())
        return Draft(RESPONSE, encode(sealed), (ciphertext,))


def _row(prepared: Prepared, draft: Draft, head: LedgerHead, now: int) -> bytes:
    asked = prepared.allow.asked
    return encode(
        LedgerRow(
            format=FORMAT,
            number=head.number + 1,
            time=now,
            requester=asked.header.requester,
            request_id=asked.header.request_id,
            request_digest=asked.envelope.digest,
            response_digest=message_digest(draft.kind, draft.payload),
            query=prepared.query,
            asked=prepared.asked,
            told=prepared.told,
            rows=prepared.rows,
        )
    )


def _answer(prepared: Prepared, row: bytes, envelope: Envelope, frame: bytes) -> LedgerAnswer:
    return LedgerAnswer(
        row=row,
        request=prepared.allow.asked.envelope.bare().encode(),
        response=envelope.bare().encode(),
        sealed=frame,
        erase_after=prepared.erase_after,
    )
