"""Asking another department's system: the face of the SDK."""

import asyncio
from collections.abc import Sequence
from types import TracebackType

from exchange.client.answers import Answer, check_answer
from exchange.client.calls import GrpcTransport, call_until
from exchange.client.errors import RefusedError, UnavailableError
from exchange.client.keeping import KeyKeeper
from exchange.client.preparing import Preparer
from exchange.client.questions import Key, lookup_query, operation_of, selection_query
from exchange.client.receipts import WITHIN
from exchange.client.sealer import Prepared
from exchange.client.session import Session
from exchange.core.terms import DatasetTerms
from exchange.core.wire import FORMAT
from exchange.transport import SUBMIT
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from exchange.v1.request_pb2 import Filter, Operation, Query, RequestHeader

TIMEOUT = 30.0
LIFETIME = 300.0
"""Seconds for which a request may be submitted again, unless the caller says otherwise; 600 at most."""


class ExchangeClient:
    """A system's client, as an async context manager; any number of requests may be under way at once.

    While it is open it renews the home's keys in time, as an adapter does, and goes over to those that another program
    renewed; requests that are under way end as they began.

    Args:
        session: opened and closed by the client, unless it is open already.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._owns_session = False
        self._preparer = Preparer(session)
        self._upkeep: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> "ExchangeClient":
        """Open the session, as `Session.__aenter__`."""
        if not self.session.is_open:
            await self.session.__aenter__()
            self._owns_session = True
            self._keep_keys()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session if it was opened here, as `Session.__aexit__`."""
        upkeep, self._upkeep = self._upkeep, ()
        for task in upkeep:
            task.cancel()
        await asyncio.gather(*upkeep, return_exceptions=True)
        await self._preparer.close()
        self._preparer = Preparer(self.session)
        if self._owns_session:
            self._owns_session = False
            await self.session.__aexit__(kind, error, trace)

    def _keep_keys(self) -> None:
        # Whoever brings another transport shows no certificate of the home.
        if isinstance(self.session.transport, GrpcTransport):
            keeper = KeyKeeper(self.session)
            self._upkeep = tuple(asyncio.create_task(work) for work in (keeper.keep(), keeper.watch()))

    async def lookup(  # noqa: PLR0913 - who asks, why and for what is said by name, each time
        self,
        dataset: str,
        keys: Sequence[Key],
        *,
        fields: Sequence[str],
        purpose: str,
        case: str,
        officer: str,
        agreement: bytes | None = None,
        timeout: float = TIMEOUT,
        lifetime: float = LIFETIME,
    ) -> Answer:
        """The rows of named subjects, by the dataset's key.

        Args:
            dataset: `DEPARTMENT/CODE`, or as `find_dataset` reads it.
            keys: 1 to 1,000; text is read as the key field's type, as the agreement masks it.
            fields: which fields of each row.
            purpose: a registered code.
            case: the case that this is for, `[A-Za-z0-9-]{1,64}`.
            officer: the pseudonym of the officer who asks.
            agreement: its message digest, 32 bytes; without one, the newest that grants all of it.
            timeout: seconds, over all retries.
            lifetime: seconds until the request expires, 600 at most.

        Raises:
            UsageError: an argument is not in its form, or nothing of the kind is known here.
            RefusedError: the broker or the provider refuses.
            ResponseInvalidError, EvidenceError: the answer or its receipt does not hold; no row is handed over.
            UnavailableError: nobody answered in time.
            StaleError: the trust file has a quorum, and no directory that it cosigned lately can be had.
            BrokenLogError: a log contradicts what it signed before; sticky.
        """
        found = await self.dataset(dataset)
        asked = RequestHeader(
            format=FORMAT,
            officer=officer,
            operation=Operation.OPERATION_LOOKUP,
            fields=fields,
            purpose=purpose,
            case_id=case,
        )
        prepared = await self._preparer.prepare(
            found, lambda types: lookup_query(keys, types[found.key]), asked, agreement, int(lifetime * 1000)
        )
        return await self.submit(prepared, timeout=timeout)

    async def query(  # noqa: PLR0913 - as `lookup`
        self,
        dataset: str,
        filter: Filter | None,
        *,
        fields: Sequence[str],
        purpose: str,
        case: str,
        officer: str,
        limit: int = 0,
        agreement: bytes | None = None,
        timeout: float = TIMEOUT,
        lifetime: float = LIFETIME,
    ) -> Answer:
        """The rows that a filter selects; other arguments and errors are those of `lookup`.

        Args:
            filter: a typed tree over filterable fields, as the agreement masks them; None for all rows that it lets
                through.
            limit: the largest number of rows; 0 is the provider's own limit.
        """
        prepared = await self.prepare(
            dataset,
            selection_query(filter, limit),
            fields=fields,
            purpose=purpose,
            case=case,
            officer=officer,
            agreement=agreement,
            lifetime=lifetime,
        )
        return await self.submit(prepared, timeout=timeout)

    async def prepare(
        self,
        dataset: str,
        query: Query,
        *,
        fields: Sequence[str],
        purpose: str,
        case: str,
        officer: str,
        agreement: bytes | None = None,
        lifetime: float = LIFETIME,
    ) -> Prepared:
        """Seal and sign a request without sending it; other arguments and errors are those of `lookup`.

        Args:
            query: from `lookup_query` or `selection_query`.
        """
        self.session.check()
        asked = RequestHeader(
            format=FORMAT,
            officer=officer,
            operation=operation_of(query),
            fields=fields,
            purpose=purpose,
            case_id=case,
        )
        found = await self.dataset(dataset)
        return await self._preparer.prepare(found, lambda _types: query, asked, agreement, int(lifetime * 1000))

    async def submit(self, prepared: Prepared, *, timeout: float = TIMEOUT) -> Answer:
        """Send a request, and verify its answer; it may be sent again, with the same bytes, until it expires.

        A lost connection is tried again until the timeout or the request's end; a refusal never is.

        Args:
            prepared: from `prepare`.
            timeout: seconds, over all retries.

        Raises:
            RefusedError, ResponseInvalidError, EvidenceError, UnavailableError, StaleError, BrokenLogError: as
                `lookup`.
        """
        self.session.check()
        # A log that owes a proof of its consistency is asked nothing new (DESIGN section 6: within 5 s).
        await self.session.evidence.ready()
        # Nor is anything asked on the strength of a directory that no quorum of witnesses has seen lately.
        await self.session.cosignatures.require_fresh()
        # Nor anything whose use could not be recorded (Decree 809, article 29).
        await self.session.use.ready()
        left = (prepared.header.expires_at - self.session.clock()) / 1000
        if left <= 0:
            raise UnavailableError("the request has expired", "prepare a new one")
        deadline = asyncio.get_running_loop().time() + min(timeout, left)
        request = SubmitRequest(envelope=prepared.envelope.encode())
        try:
            response = await call_until(self.session.transport, SUBMIT, request, SubmitResponse, deadline)
        except RefusedError as error:
            raise await self.session.verified(error, prepared.envelope, prepared.dataset.system) from None
        return await check_answer(self.session, prepared, response)

    async def dataset(self, text: str) -> DatasetTerms:
        """The dataset that a text names, as `find_dataset`; the mirror is brought up to date if it has none.

        Raises:
            UsageError: there is none.
        """
        self.session.check()
        return await self._preparer.dataset(text)

    async def cosigned(self, answer: Answer, *, timeout: float = WITHIN) -> Receipt:
        """Wait for the receipt of an answer that also holds against whoever has the log's key: a quorum cosigned it.

        It comes by itself within a minute; one that does not is told to the session's `alarm`.

        Args:
            answer: of this party; its trust file has a quorum.
            timeout: seconds.

        Raises:
            EvidenceError: no receipt is kept: the trust file has no quorum.
            UnavailableError: it was not cosigned in time; it is upgraded later.
        """
        return await self.session.receipts.cosigned(answer.index, timeout)

    async def settle(self) -> None:
        """Wait until every receipt's checkpoint is checked against those before it; call it before the end.

        Raises:
            BrokenLogError: the access log contradicts itself; sticky.
            UnavailableError: nobody gave the proofs.
        """
        await self.session.evidence.settle()
