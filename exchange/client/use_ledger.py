"""The ledger of use within a session: an answer is handed over once its record is durable, or not at all.

Before anything is asked, the ledger must be able to take a record. Where it fails between question and answer, the
caller is told, no row is handed over, and the same prepared request brings the same answer again until it expires.
"""

import asyncio
from collections.abc import Callable, Sequence

from exchange.batching import Batcher
from exchange.client.errors import UnavailableError
from exchange.client.sealer import Prepared
from exchange.client.use_file import UseFile
from exchange.v1.use_pb2 import UseKind, UseRecord


class UseLedger:
    """Records what is handed over; many answers at a time share one write.

    Args:
        file: the home's.
        clock: milliseconds.
    """

    def __init__(self, file: UseFile, clock: Callable[[], int]) -> None:
        self.file = file
        self._clock = clock
        self._keeper: Batcher[UseRecord, UseRecord] = Batcher(self._keep)
        self._is_writable = False

    async def ready(self) -> None:
        """Whether a record could be written now: the disk is looked at each time, the file once.

        Raises:
            UnavailableError: it could not: nothing is to be asked.
            EvidenceError: the file is no ledger of use.
        """
        self.file.check_room()
        if not self._is_writable:
            await asyncio.to_thread(self.file.check_writable)
            self._is_writable = True

    async def keep(self, prepared: Prepared, index: int, rows: int) -> UseRecord:
        """Record an answer, durable when this returns.

        Args:
            prepared: the request; index: of the answer's entry in the access log; rows: how many it has.

        Raises:
            UnavailableError: the disk does not take it: no row may be handed over.
            EvidenceError: the file was altered.
        """
        header = prepared.header
        record = UseRecord(
            kind=UseKind.USE_KIND_ANSWERED,
            request_id=header.request_id,
            request_digest=prepared.envelope.digest,
            dataset=header.dataset,
            agreement=header.agreement,
            purpose=header.purpose,
            case_id=header.case_id,
            officer=header.officer,
            fields=header.fields,
            rows=rows,
            log_index=index,
        )
        try:
            return await self._keeper.submit(record)
        except UnavailableError as error:
            hint = "no row was handed over: submit the same prepared request again, its answer waits until it expires"
            raise UnavailableError(str(error), hint, retry=True) from error

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._keeper.close()

    async def _keep(self, records: Sequence[UseRecord]) -> Sequence[UseRecord]:
        return await asyncio.to_thread(self.file.append, records, self._clock())
