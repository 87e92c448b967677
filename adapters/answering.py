"""Check 10: the adapter decides again by itself, opens the question, asks the source (DESIGN sections 6 and 10)."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from adapters.channels import Channels
from adapters.committing import Committer, Prepared
from adapters.connectors import ConnectorError, Question, QuestionError, Rows
from adapters.connectors.rows import encode_rows
from adapters.ledger import Ledger
from adapters.orders import Orders
from adapters.quotas import answers_counted
from adapters.sources import Sources
from exchange.client.errors import BrokenLogError, ExchangeError, StaleError, UnavailableError
from exchange.client.session import Session
from exchange.core.access import refusal_draft
from exchange.core.decision import SKEW, Allow, Asked, Deny, Used, authenticate, decide, decide_again
from exchange.core.directory import Directory
from exchange.core.envelope import REQUEST, Envelope, decode_envelope
from exchange.core.errors import DecodeError, SealError
from exchange.core.filters import FilterError, check_query, scalar, scalar_text
from exchange.core.names import Party
from exchange.core.sealing import TO_PROVIDER, capsule_info, message_key, open_body
from exchange.core.wire import FORMAT, decode, encode
from exchange.v1.access_pb2 import Code
from exchange.v1.request_pb2 import Answer, Operation, Query, Sealed

MAX_REQUEST = 1024 * 1024
MAX_ANSWER = 2 * 1024 * 1024
SYNC_SECONDS = 3.0

logger = structlog.get_logger("exchange.adapter")


_STALE = Deny(10, Code.CODE_STATE_STALE, "this provider has no directory that enough witnesses have cosigned lately")


class DenyError(Exception):
    """The request is refused; carries what the refusal says."""

    def __init__(self, deny: Deny) -> None:
        super().__init__(deny.reason)
        self.deny = deny


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose question is open: the terms, the channel it was sealed with, and the query."""

    allow: Allow
    channel: bytes
    query: bytes
    question: Question


class Answerer:
    """Answers the requests that tunnels deliver, each once, however often it comes.

    Args:
        session: the system's open home.
        sources: the department's data.
        ledger: every committed answer; committer: commits them in batches.
        orders: the department's own revocations and stops.
        clock: milliseconds.
    """

    def __init__(
        self,
        session: Session,
        sources: Sources,
        ledger: Ledger,
        committer: Committer,
        orders: Orders,
        clock: Callable[[], int],
    ) -> None:
        self._session = session
        self._sources = sources
        self._ledger = ledger
        self._committer = committer
        self._orders = orders
        self._clock = clock
        self._channels = Channels()
        self._sealing_keys = session.home.sealing_keys()
        self._flights: dict[bytes, asyncio.Task[bytes]] = {}
        self._holders: dict[tuple[str, bytes], bytes] = {}

    def reload_keys(self) -> None:
        """Read the sealing keys again after one was made or destroyed."""
        self._sealing_keys = self._session.home.sealing_keys()

    async def answer(self, frame: bytes) -> tuple[Envelope, bytes]:
        """Answer one delivered request.

        Args:
            frame: a serialised Envelope, as the requester sent it.

        Returns:
            The request, and the response as it is to be sent: stored bytes, where the ledger has an answer.

        Raises:
            DenyError: refused by one of the checks.
            BrokenLogError: a log contradicts itself: answer nothing more.
            LedgerFatalError: the answer could not be committed; the process must stop.
        """
        try:
            envelope = decode_envelope(frame, REQUEST, MAX_REQUEST)
        except DecodeError as error:
            raise DenyError(Deny(1, Code.CODE_MALFORMED, str(error))) from error
        allow = await self._decide(envelope)
        task = self._flights.get(envelope.digest) or self._start(allow)
        return envelope, await asyncio.shield(task)

    def _start(self, allow: Allow) -> "asyncio.Task[bytes]":
        header, digest = allow.asked.header, allow.asked.envelope.digest
        task = asyncio.create_task(self._stored_or_new(allow))
        self._flights[digest] = task
        self._holders[header.requester, header.request_id] = digest
        task.add_done_callback(lambda _task: self._land(allow))
        return task

    def _land(self, allow: Allow) -> None:
        self._flights.pop(allow.asked.envelope.digest, None)
        self._holders.pop((allow.asked.header.requester, allow.asked.header.request_id), None)

    def refusal(self, deny: Deny, request_digest: bytes) -> Envelope:
        """A refusal, signed by this system."""
        session = self._session
        size = session.directory.size
        return session.sign(refusal_draft(deny, str(session.party), request_digest, size, self._clock()))

    async def _decide(self, envelope: Envelope) -> Allow:
        """Checks 3 to 8 by this system's own mirror, ledger and orders."""
        await self._check_logs()
        asked = authenticate(self._session.directory, envelope, self._clock(), None)
        if isinstance(asked, Deny):
            # A key newer than this mirror looks like no key at all.
            asked = authenticate(await self._caught_up(None), envelope, self._clock(), None)
        if isinstance(asked, Deny):
            raise DenyError(asked)
        await self._check_fresh()
        directory = await self._caught_up(asked.header.directory_size)
        # From check 3 on: what the mirror gained may be a revocation of the very key.
        decided = decide(directory, envelope, self._clock(), taken=self._taken, used=self._used(directory))
        if isinstance(decided, Deny):
            raise DenyError(self._stale(directory, decided))
        self._check_own(directory, decided)
        return decided

    def _check_again(self, allow: Allow) -> None:
        """The source may have taken seconds: orders, revocations and a broken log hold up to the commit."""
        self._session.check()
        if self._session.cosignatures.is_stale:
            raise DenyError(_STALE)
        directory = self._session.directory
        allowed = decide_again(directory, allow.asked.envelope, self._clock(), self._used(directory))
        if isinstance(allowed, Deny):
            raise DenyError(self._stale(directory, allowed))
        self._check_own(directory, allowed)

    async def _check_logs(self) -> None:
        """A log that has failed, or owes a proof of its consistency, is no ground to answer anything on."""
        self._session.check()
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await self._session.evidence.ready()
        except (UnavailableError, TimeoutError) as error:
            reason = "the access log owes this provider a proof that it only grew: nothing new is answered"
            raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, reason)) from error

    async def _check_fresh(self) -> None:
        """Where a quorum is configured, a broker cannot withhold a revocation for longer than its cosignatures last."""
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                await self._session.cosignatures.require_fresh()
        except (StaleError, TimeoutError) as error:
            raise DenyError(_STALE) from error

    async def _caught_up(self, at_least: int | None) -> Directory:
        directory = self._session.directory
        if at_least is not None and directory.size >= at_least:
            return directory
        try:
            async with asyncio.timeout(SYNC_SECONDS):
                return await self._session.sync(at_least)
        except BrokenLogError:
            raise
        except (ExchangeError, TimeoutError) as error:
            if at_least is None:
                return directory
            reason = f"this provider's directory has {directory.size} entries, and cannot reach {at_least} now"
            raise DenyError(Deny(10, Code.CODE_STATE_STALE, reason)) from error

    def _taken(self, requester: str, request_id: bytes) -> bytes | None:
        """Which message holds an id: one that is being answered, or one that the ledger has an answer to."""
        stored = self._ledger.find(requester, request_id)
        return stored.request_digest if stored is not None else self._holders.get((requester, request_id))

    def _used(self, directory: Directory) -> Used:
        """What the ledger says was used of an agreement."""
        return partial(answers_counted, self._ledger, directory)

    def _stale(self, directory: Directory, deny: Deny) -> Deny:
        """DESIGN section 7: without a body of its own department's, an adapter cannot tell what was granted."""
        if deny.code == Code.CODE_NO_AGREEMENT and directory.lacks_body(self._department):
            return Deny(10, Code.CODE_STATE_STALE, "this provider lacks a body of its own department's entries")
        return deny

    def _check_own(self, directory: Directory, allow: Allow) -> None:
        """What only the owner's side knows: its local orders, and which system it is."""
        if allow.dataset.system != self._session.party:
            raise DenyError(Deny(5, Code.CODE_NO_AGREEMENT, "this system does not answer for the dataset"))
        if allow.agreement.digest in self._orders.revoked:
            raise DenyError(Deny(6, Code.CODE_AGREEMENT_ENDED, "the agreement is revoked by its owner"))
        if allow.dataset.code in self._orders.stopped:
            raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the owner has stopped this dataset"))
        record = directory.state.keys.get(allow.asked.header.sealing_key)
        now = self._clock()
        known = record is not None and record.party == self._session.party and directory.is_usable(record, now)
        if not known or allow.asked.header.sealing_key not in self._sealing_keys:
            raise DenyError(Deny(10, Code.CODE_STATE_STALE, "the sealing key is unknown or expired"))

    async def _stored_or_new(self, allow: Allow) -> bytes:
        header = allow.asked.header
        stored = self._ledger.find(header.requester, header.request_id)
        if stored is None:
            return await self._new(allow)
        if stored.sealed is None:
            raise DenyError(Deny(4, Code.CODE_EXPIRED, "the answer is no longer kept: sign a new request"))
        return stored.sealed

    async def _new(self, allow: Allow) -> bytes:
        opened = self._open(allow)
        rows = await self._ask(opened.question)
        body = encode_rows(rows.rows)
        if len(body) > MAX_ANSWER:
            reason = f"the answer has {len(body):,} bytes, more than {MAX_ANSWER:,}: ask for fewer rows or fields"
            raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, reason))
        self._check_again(allow)
        return await self._committer.commit(self._prepared(opened, rows, body))

    def _open(self, allow: Allow) -> Opened:
        """Open the capsule and the query, and check what was sealed."""
        asked, header = allow.asked, allow.asked.header
        capsule, ciphertext = _attachments(asked)
        sealing_key = self._sealing_keys[header.sealing_key]
        info = capsule_info(
            self._session.trust.name,
            header.requester,
            asked.envelope.key_id,
            str(self._session.party),
            header.sealing_key,
        )
        try:
            channel = self._channels.open(capsule, sealing_key, info, self._clock())
            sealed = decode(Sealed, asked.envelope.payload)
            query = open_body(message_key(channel, TO_PROVIDER, sealed.header), ciphertext)
            question = self._question(allow, decode(Query, query))
        except FilterError as error:
            raise DenyError(Deny(10, error.code, error.reason)) from error
        except (SealError, DecodeError) as error:
            raise DenyError(Deny(10, Code.CODE_MALFORMED, str(error))) from error
        return Opened(allow, channel, query, question)

    def _question(self, allow: Allow, query: Query) -> Question:
        dataset, agreement, header = allow.dataset, allow.agreement, allow.asked.header
        types = dataset.types
        check_query(query, header.operation, types[dataset.key], agreement.filterable, types)
        limit = self._sources.row_limit(dataset.code)
        selection = query.selection
        if selection.limit:
            limit = min(limit, selection.limit)
        lookup = header.operation == Operation.OPERATION_LOOKUP
        return Question(
            dataset.code,
            tuple(header.fields),
            tuple(query.lookup.keys) if lookup else None,
            selection.filter if selection.HasField("filter") else None,
            agreement.row_filter,
            limit,
        )

    async def _ask(self, question: Question) -> Rows:
        dataset = self._session.directory.dataset_named(str(self._department), question.dataset)
        try:
            if dataset is None:
                raise ConnectorError("the dataset is no longer published")
            return await self._sources.answer(dataset, question)
        except QuestionError as error:
            raise DenyError(Deny(10, error.code, error.reason)) from error
        except ConnectorError as error:
            logger.warning("the source cannot answer", dataset=question.dataset, reason=error.reason)
            raise DenyError(Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, error.reason)) from error

    @property
    def _department(self) -> Party:
        return self._session.party.own_department

    def _prepared(self, opened: Opened, rows: Rows, body: bytes) -> Prepared:
        asked = opened.allow.asked
        answer = Answer(format=FORMAT, salt=secrets.token_bytes(32), rows=body, truncated=rows.truncated)
        keys = opened.question.keys or ()
        return Prepared(
            allow=opened.allow,
            channel=opened.channel,
            query=opened.query,
            answer=encode(answer),
            asked=tuple(dict.fromkeys(scalar_text(scalar(key)) for key in keys)),
            told=tuple(dict.fromkeys(subject for subject in rows.subjects if subject)),
            rows=len(rows.rows),
            erase_after=asked.header.expires_at + SKEW,
        )


def _attachments(asked: Asked) -> tuple[bytes, bytes]:
    if len(asked.envelope.attachments) != 2:
        raise DenyError(Deny(1, Code.CODE_MALFORMED, "the request came without its capsule and ciphertext"))
    return asked.envelope.attachments[0], asked.envelope.attachments[1]
