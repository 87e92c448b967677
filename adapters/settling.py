"""Receipts: what the log says of each answer, verified and kept beside it in the ledger (DESIGN section 2)."""

import asyncio
from collections.abc import Sequence

import structlog

from adapters.ledger import Ledger, LedgerError, LedgerFatalError, Settlement
from exchange.batching import Batcher
from exchange.client.errors import EvidenceError, UnavailableError
from exchange.client.session import Session
from exchange.core.access import kind_name, verify_settlement
from exchange.core.errors import CoreError, ProofError
from exchange.core.wire import encode
from exchange.v1 import gateway_pb2
from exchange.v1.access_pb2 import AccessKind, AccessLeaf

logger = structlog.get_logger("exchange.adapter")


class Settler:
    """Verifies settlements and writes them down, many at a time.

    Args:
        session: the system's open home; it demands that all checkpoints are of one history.
        ledger: opened for writing.
    """

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger
        self._batcher: Batcher[Settlement, None] = Batcher(self._write)

    async def settle(self, frame: gateway_pb2.Settlement) -> bool:
        """Verify one settlement and make it durable; False where it proves nothing, and the answer stays owed.

        Raises:
            BrokenLogError: the access log contradicts what it signed before.
            LedgerFatalError: the disk failed; the process must stop.
        """
        digest = frame.response_digest
        try:
            proven = verify_settlement(frame.receipt, self._session.trust.access_log, digest)
            self._check_names(proven.leaf)
            # The checkpoint is on disk before the answer counts as settled: the log is held to it whatever happens.
            await self._session.evidence.keep(frame.receipt.checkpoint)
            # And is upgraded to a cosigned one, beside the ledger, which keeps the first.
            await self._session.receipts.keep(frame.receipt)
        except (CoreError, EvidenceError, UnavailableError) as error:
            logger.error("a settlement does not hold", reason=str(error), answer=digest.hex()[:16])
            return False
        leaf = proven.leaf
        try:
            await self._batcher.submit(Settlement(digest, leaf.kind, leaf.code, proven.index, encode(frame.receipt)))
        except LedgerFatalError:
            raise
        except LedgerError as error:
            logger.error("a settlement is of no answer here", reason=str(error), answer=digest.hex()[:16])
            return False
        logger.info("settled", kind=kind_name(leaf.kind), entry=proven.index)
        return True

    def _check_names(self, leaf: AccessLeaf) -> None:
        """A receipt that names others would hide this access from the parties, or pin it on somebody else.

        Raises:
            ProofError: the entry is not about the request that was answered.
        """
        stored = self._ledger.answer(leaf.response_digest)
        if stored is None:
            raise ProofError("the entry settles no answer of this ledger")
        named = (leaf.provider, leaf.request_digest, leaf.requester, leaf.request_id)
        asked = (str(self._session.party), stored.request_digest, stored.requester, stored.request_id)
        # Whose request it was is left out where the broker cannot tell: its key was never in the directory.
        unknown = leaf.kind == AccessKind.ACCESS_KIND_UNRELEASED and named == (*asked[:2], "", b"")
        if named != asked and not unknown:
            raise ProofError("the entry names another provider, requester or request")

    async def close(self) -> None:
        """Write what is queued."""
        await self._batcher.close()

    async def _write(self, settlements: Sequence[Settlement]) -> Sequence[Exception | None]:
        try:
            await asyncio.to_thread(self._ledger.settle_all, settlements)
        except LedgerFatalError:
            raise
        except LedgerError:
            if len(settlements) == 1:
                raise
            # One that does not fit must not keep the others from being written.
            return [await self._alone(settlement) for settlement in settlements]
        return [None] * len(settlements)

    async def _alone(self, settlement: Settlement) -> Exception | None:
        try:
            await asyncio.to_thread(self._ledger.settle_all, (settlement,))
        except LedgerError as error:
            return error
        return None
