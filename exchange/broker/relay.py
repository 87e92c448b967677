"""Submit: one request through the thirteen checks (DESIGN section 6)."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from exchange.broker.following import Newcomers
from exchange.broker.limits import TokenBuckets
from exchange.broker.logs import AccessProposal, AuditUnavailableError, Logs, Standing
from exchange.broker.records import AccessRecord
from exchange.broker.refusals import Refusals, RefusedError
from exchange.broker.settlement import check_bare, draw_offer, draw_release
from exchange.broker.taken import TakenIds
from exchange.broker.tunnel import Flight, FlightCutError, Tunnel, TunnelFullError, TunnelLostError, Tunnels
from exchange.core.access import MAX_REFUSAL, read_refusal
from exchange.core.decision import LIFETIME, REPLAYED, SKEW, Allow, Asked, Deny, authenticate, examine, is_limited
from exchange.core.directory import Directory
from exchange.core.envelope import REFUSAL, REQUEST, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.names import Party
from exchange.core.signed import signing_record
from exchange.store.ports import StoreError, Transaction
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.envelope_pb2 import Receipt

MAX_REQUEST = 1024 * 1024
MARGIN = 0.2
# Seconds: no request lives longer, whatever its sender's deadline.
LONGEST = LIFETIME / 1000
# Seconds between two looks for a token.
PATIENCE = 0.05

logger = structlog.get_logger("exchange.broker")


@dataclass(frozen=True, slots=True)
class Released:
    """An answer whose entry is durable."""

    response: bytes
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Answered:
    """A flight's end that every waiter shares: an answer, or a refusal."""

    outcome: Released | RefusedError


class Relay:
    """Relays requests to providers, and releases answers once their entries are durable.

    Args:
        logs: the directory to decide by, and the access log.
        tunnels: the adapters attached.
        refusals: signs and logs refusals.
        taken: which message holds a request id.
        buckets: how many requests a party may make.
        clock: milliseconds.
        forbidden: why nothing may be released now; empty where it may.
    """

    def __init__(
        self,
        logs: Logs,
        tunnels: Tunnels,
        refusals: Refusals,
        taken: TakenIds,
        buckets: TokenBuckets,
        clock: Callable[[], int],
        forbidden: Callable[[], str] = str,
    ) -> None:
        self._logs = logs
        self._tunnels = tunnels
        self._refusals = refusals
        self._taken = taken
        self._buckets = buckets
        self._clock = clock
        self._forbidden = forbidden
        self._newcomers = Newcomers(logs, clock)
        self._flights: dict[bytes, asyncio.Task[Answered]] = {}

    @property
    def flights(self) -> int:
        """How many requests are with providers now."""
        return len(self._flights)

    async def submit(self, peer: Party, frame: bytes, timeout: float) -> Released:
        """Answer one request.

        Args:
            peer: whom TLS authenticated.
            frame: a serialised Envelope.
            timeout: what is left of the peer's deadline, seconds.

        Raises:
            RefusedError: one of the checks refused it.
        """
        envelope = await self._frame(peer, frame)
        asked = await self._authenticated(peer, envelope)
        await self._reach(asked.header.directory_size)
        await self._count(asked)
        # No await between check 4 and the flight's start: two messages cannot both find a request id free.
        examined = self._examine(asked)
        if isinstance(examined, Deny):
            raise await self._refuse(asked, examined)
        task = self._flights.get(envelope.digest) or self._start(examined, timeout)
        # A flight that has reached the adapter completes and is logged even if the client leaves.
        answered = await asyncio.shield(task)
        if isinstance(answered.outcome, RefusedError):
            # A new one: the shared one, raised here, would keep this frame alive, which keeps it, and the request.
            raise RefusedError(answered.outcome.code, str(answered.outcome), answered.outcome.refusal)
        return answered.outcome

    async def _reach(self, size: int) -> None:
        """A directory larger than the one here may be another broker's, from less than a second ago."""
        if size > self._logs.directory.size and self._logs.store.is_shared:
            with contextlib.suppress(StoreError):
                await self._logs.catch_up()

    async def _count(self, asked: Asked) -> None:
        """What limits the agreement named is counted before the checks; where that fails, under the lock."""
        agreement = self._logs.directory.agreement(asked.header.agreement)
        if agreement is not None and agreement.grantee.covers(asked.requester) and is_limited(agreement):
            with contextlib.suppress(StoreError):
                await self._logs.usage.count(agreement, asked.requester.own_department)

    def _examine(self, asked: Asked) -> Allow | Deny:
        """Checks 4 to 8; and a directory that does not exist is not worth a provider's search for it."""
        directory = self._logs.directory
        examined = examine(directory, asked, self._clock(), self._taken.holder, self._logs.usage.glance)
        if isinstance(examined, Allow) and asked.header.directory_size > directory.size:
            reason = (
                f"the request was made under {asked.header.directory_size} entries; the directory has {directory.size}"
            )
            return Deny(10, Code.CODE_STATE_STALE, reason)
        return examined

    async def drain(self) -> None:
        """Wait for every flight to end."""
        while self._flights:
            await asyncio.wait(tuple(self._flights.values()))

    async def _frame(self, peer: Party, frame: bytes) -> Envelope:
        """Check 1."""
        deny: Deny
        if not self._buckets.take(peer, self._clock()):
            deny = Deny(1, Code.CODE_OVERLOADED, "too many requests at once: slow down and send it again")
        else:
            try:
                return decode_envelope(frame, REQUEST, MAX_REQUEST)
            except DecodeError as error:
                deny = Deny(1, Code.CODE_MALFORMED, str(error))
        raise await self._refusals.refuse(peer, deny, hashlib.sha256(frame).digest())

    async def _authenticated(self, peer: Party, envelope: Envelope) -> Asked:
        """Checks 2 and 3, and the form of what was signed."""
        await self._newcomers.look_for(envelope.key_id, peer)
        asked = authenticate(self._logs.directory, envelope, self._clock(), peer)
        if isinstance(asked, Deny):
            raise await self._refusals.refuse(peer, asked, envelope.digest)
        if not envelope.attachments:
            deny = Deny(1, Code.CODE_MALFORMED, "the request came without its capsule and ciphertext")
            raise await self._refuse(asked, deny)
        return asked

    async def _refuse(self, asked: Asked, deny: Deny) -> RefusedError:
        dataset = self._logs.directory.dataset(asked.header.dataset)
        provider = str(dataset.system) if dataset is not None else ""
        return await self._refusals.refuse(
            asked.requester,
            deny,
            asked.envelope.digest,
            request=asked.envelope,
            header=asked.header,
            provider=provider,
        )

    def _start(self, allow: Allow, timeout: float) -> "asyncio.Task[Answered]":
        digest = allow.asked.envelope.digest
        self._taken.hold(allow.asked)
        task = asyncio.create_task(self._fly(allow, min(timeout, LONGEST) - MARGIN))
        self._flights[digest] = task
        task.add_done_callback(lambda _task: self._land(allow))
        return task

    def _land(self, allow: Allow) -> None:
        self._flights.pop(allow.asked.envelope.digest, None)
        self._taken.let_go(allow.asked)

    async def _fly(self, allow: Allow, timeout: float) -> Answered:
        try:
            return Answered(await self._answer(allow, timeout))
        except RefusedError as error:
            return Answered(error.with_traceback(None))

    async def _answer(self, allow: Allow, timeout: float) -> Released:
        """Checks 9 to 13."""
        if reason := self._forbidden():
            # A provider is not asked for what could not be released.
            raise await self._refusals.audit_unavailable(allow.asked.envelope.digest, reason)
        tunnel = self._tunnels.ready(allow.dataset.system)
        if tunnel is None or timeout <= 0:
            reason = "the provider is not attached" if tunnel is None else "no time is left before the deadline"
            raise await self._refuse(allow.asked, Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, reason))
        reply = await self._reply(tunnel, allow, timeout)
        try:
            answer = decode_envelope(reply)
            check_bare(answer)
        except DecodeError as error:
            raise await self._refuse(allow.asked, Deny(11, Code.CODE_RESPONSE_INVALID, str(error))) from error
        if answer.kind == REFUSAL:
            raise await self._provider_refused(allow, answer, len(reply))
        return await self._release(tunnel, allow, answer, reply)

    async def _reply(self, tunnel: Tunnel, allow: Allow, timeout: float) -> bytes:
        """Check 9: a provider that is attached, and answers before the deadline."""
        try:
            flight = tunnel.deliver(allow, int(timeout * 1000))
            # Not wait_for: since Python 3.12 it drops a result that comes in the very moment of the timeout.
            await asyncio.wait((flight.reply,), timeout=timeout)
            if not flight.reply.cancel():
                return await self._landed(tunnel, flight, allow)
            self._leave(tunnel, flight, allow)
            reason = "the provider did not answer in time: send the same request again"
        except TunnelLostError:
            reason = "the provider's connection was lost: send the same request again"
        except TunnelFullError:
            reason = "too many requests wait for the provider: send the same request again later"
        raise await self._refuse(allow.asked, Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, reason))

    async def _landed(self, tunnel: Tunnel, flight: Flight, allow: Allow) -> bytes:
        """The reply, unless the flight was cut meanwhile: then what comes later is settled as unreleased."""
        try:
            return flight.reply.result()
        except FlightCutError as error:
            self._leave(tunnel, flight, allow)
            raise await self._refuse(allow.asked, error.deny) from error

    def _leave(self, tunnel: Tunnel, flight: Flight, allow: Allow) -> None:
        tunnel.keep_for_settlement(flight, (allow.asked.header.expires_at + SKEW - self._clock()) / 1000)

    async def _provider_refused(self, allow: Allow, answer: Envelope, size: int) -> RefusedError:
        """Check 10: the adapter's own refusal, logged and passed on as it is."""
        asked = allow.asked
        try:
            signer = signing_record(self._logs.directory.state, answer, self._clock())
            refusal = read_refusal(answer)
            if signer.party != allow.dataset.system or refusal.request_digest != asked.envelope.digest:
                raise DecodeError("the refusal is of another system, or about another request")
            if size > MAX_REFUSAL:
                raise DecodeError(f"the refusal has {size:,} bytes; at most {MAX_REFUSAL:,} are allowed")
        except CoreError as error:
            return await self._refuse(asked, Deny(11, Code.CODE_RESPONSE_INVALID, str(error)))
        record = AccessRecord(
            AccessKind.ACCESS_KIND_REFUSED,
            refusal.code,
            str(asked.requester),
            str(signer.party),
            asked.header.request_id,
            asked.envelope.digest,
            asked.envelope,
            refusal=answer,
        )
        deny = Deny(refusal.check, refusal.code, refusal.reason)
        return await self._refusals.pass_on(asked.requester, record, deny)

    async def _release(self, tunnel: Tunnel, allow: Allow, answer: Envelope, reply: bytes) -> Released:
        """Checks 11 to 13. The provider gets its receipt either way: what it answered is settled."""

        def draw(directory: Directory, transaction: Transaction, now: int) -> AccessRecord | Standing:
            return draw_release(directory, transaction, allow, answer, now, self._logs.usage.used)

        reason = self._forbidden()
        try:
            if reason:
                raise AuditUnavailableError(reason)
            entered = await self._logs.append(AccessProposal(draw))
        except AuditUnavailableError as error:
            # The provider is owed a settlement: it offers the answer again when it attaches again.
            self._tunnels.detach(tunnel)
            raise await self._refusals.audit_unavailable(allow.asked.envelope.digest, reason) from error
        if entered.deny != REPLAYED:
            # Otherwise another broker released the answer to another message, and the follower learns of which.
            self._taken.settle(allow.asked, self._clock())
        tunnel.settle(answer.digest, entered.receipt)
        if entered.deny is not None:
            raise await self._refuse(allow.asked, entered.deny)
        return Released(reply, entered.receipt)

    async def settle_offer(self, tunnel: Tunnel, request: Envelope, answer: Envelope) -> None:
        """Settle an answer that an adapter offers, as fast as its system may speak: it waits, for it must be settled.

        Raises: as `settle` does.
        """
        while not self._buckets.take(tunnel.system, self._clock()):  # noqa: ASYNC110 - it fills by the clock alone
            await asyncio.sleep(PATIENCE)
        await self.settle(tunnel, request, answer)

    async def settle(self, tunnel: Tunnel, request: Envelope, answer: Envelope) -> None:
        """Settle an answer that nobody waits for: offered by an adapter that attached, or come too late.

        Raises:
            CoreError: no evidence that this system answered this request: nothing is logged.
            AuditUnavailableError: it could not be logged; the adapter offers it again.
        """

        def draw(directory: Directory, transaction: Transaction, now: int) -> AccessRecord | Standing:
            return draw_offer(directory, transaction, tunnel.system, request, answer, now)

        entered = await self._logs.append(AccessProposal(draw))
        asked = authenticate(self._logs.directory, request, self._clock(), None)
        if isinstance(asked, Asked):
            self._taken.settle(asked, self._clock())
        tunnel.settle(answer.digest, entered.receipt)
