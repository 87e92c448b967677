"""Refusals: signed by this broker, logged with their code, and raised to the gRPC layer (DESIGN section 6)."""

from collections.abc import Callable, Sequence

import structlog

from exchange.batching import Batcher
from exchange.broker.logs import AccessProposal, AccessRecord, AuditUnavailableError, Logs
from exchange.core.access import MAX_REASON, code_name, refusal_draft
from exchange.core.decision import Deny
from exchange.core.envelope import Draft, Envelope, sign_batch
from exchange.core.keys import Signer
from exchange.core.names import Party
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.request_pb2 import RequestHeader

logger = structlog.get_logger("exchange.broker")


class RefusedError(Exception):
    """A request is refused; `refusal` is signed by this broker or by the provider's system."""

    def __init__(self, code: "Code.ValueType", reason: str, refusal: Envelope) -> None:
        super().__init__(reason[:MAX_REASON])
        self.code = code
        self.refusal = refusal


class Refusals:
    """Signs and logs refusals.

    Args:
        logs: where each is appended.
        signer: this broker's own key; party: its name.
        clock: milliseconds.
    """

    def __init__(self, logs: Logs, signer: Signer, party: Party, clock: Callable[[], int]) -> None:
        self._logs = logs
        self._signer = signer
        self._party = party
        self._clock = clock
        self._batcher: Batcher[Draft, Envelope] = Batcher(self._sign)

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
        """Sign a refusal and make its entry durable.

        Args:
            peer: whom TLS authenticated.
            deny: which check, code and reason.
            request_digest: the message digest, or the SHA-256 of what could not be parsed.
            request: the envelope, where its signature holds, so that the entry is evidence; header: its header.
            provider: the dataset's system, where one is known.
        """
        refusal = await self._signed(deny, request_digest)
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
        return await self.log(record, deny.reason)

    async def log(self, record: AccessRecord, reason: str) -> RefusedError:
        """Make the entry of a signed refusal durable, and give what is to be raised."""
        if record.refusal is None:
            raise ValueError("a refusal is signed before it is logged")
        try:
            await self._logs.append(AccessProposal(lambda _directory, _transaction, _now: record))
        except AuditUnavailableError:
            return await self.audit_unavailable(record.request_digest)
        logger.info("refused", code=code_name(record.code), requester=record.requester, provider=record.provider)
        return RefusedError(record.code, reason, record.refusal)

    async def audit_unavailable(self, request_digest: bytes, reason: str = "") -> RefusedError:
        """The one refusal that is not logged, because the log is what fails (check 12).

        Args:
            request_digest: the request's message digest.
            reason: why nothing is released, where the log could be written.
        """
        reason = reason or "the access log cannot be written: nothing is released"
        deny = Deny(12, Code.CODE_AUDIT_UNAVAILABLE, reason)
        return RefusedError(deny.code, deny.reason, await self._signed(deny, request_digest))

    async def _signed(self, deny: Deny, request_digest: bytes) -> Envelope:
        size, now = self._logs.directory.size, self._clock()
        return await self._batcher.submit(refusal_draft(deny, str(self._party), request_digest, size, now))

    async def _sign(self, drafts: Sequence[Draft]) -> Sequence[Envelope]:
        return sign_batch(self._signer, self._logs.directory.origin, drafts)
