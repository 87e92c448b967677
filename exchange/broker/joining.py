"""The gRPC services of joining: a parent's own, over mutual TLS, and the one that shows itself to everybody."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from exchange.broker.invites import Invites, Standing
from exchange.broker.limits import AddressBuckets, network_of
from exchange.broker.peers import Peers
from exchange.broker.services import Context, Unary
from exchange.broker.status import InviteRefusedError, JoinRefusedError, TooManyReadsError
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.store.invites import Invite
from exchange.transport import MAX_JOIN
from exchange.v1.directory_pb2 import Role
from exchange.v1.joining_pb2 import (
    InviteRequest,
    InviteResponse,
    Joining,
    JoinRequest,
    JoinResponse,
    PendingRequest,
    PendingResponse,
    RejectRequest,
    RejectResponse,
)

INVITATION: Final = "exchange.v1.InvitationService"
JOINING: Final = "exchange.v1.JoiningService"

logger = structlog.get_logger("exchange.broker")


class InvitationService:
    """`exchange.v1.InvitationService`.

    Args:
        invites: what is done; peers: who calls.
        address: where newcomers reach this broker; empty where they cannot.
    """

    def __init__(self, invites: Invites, peers: Peers, address: str) -> None:
        self._invites = invites
        self._peers = peers
        self._address = address

    async def invite(self, request: bytes, context: Context) -> bytes:
        """One invite, kept by the digest of its code."""
        asked = decode(InviteRequest, request)
        peer, party = self._peers.spend(context), Party.parse(asked.party)
        if not self._address:
            raise InviteRefusedError("this broker takes no invites: see join_listen in its broker.toml")
        await asyncio.to_thread(self._invites.invite, peer, party, asked.role, asked.code_sha256, asked.expires_at)
        return encode(InviteResponse(address=self._address))

    async def pending(self, request: bytes, context: Context) -> bytes:
        """The peer's invites."""
        decode(PendingRequest, request)
        found = await asyncio.to_thread(self._invites.of_parent, self._peers.spend(context))
        return encode(PendingResponse(joinings=[_joining(*pair) for pair in found]))

    async def reject(self, request: bytes, context: Context) -> bytes:
        """One invite taken back, or its key request refused."""
        asked = decode(RejectRequest, request)
        peer = self._peers.spend(context)
        await asyncio.to_thread(self._invites.reject, peer, Party.parse(asked.party), asked.reason)
        return encode(RejectResponse())

    def handlers(self) -> Mapping[str, Unary]:
        """By method name."""
        return {"Invite": self.invite, "Pending": self.pending, "Reject": self.reject}


class JoiningService:
    """`exchange.v1.JoiningService`, for callers without a certificate.

    Args:
        invites: what is done.
        buckets: how much an address may ask.
        clock: milliseconds.
    """

    def __init__(self, invites: Invites, buckets: AddressBuckets, clock: Callable[[], int]) -> None:
        self._invites = invites
        self._buckets = buckets
        self._clock = clock

    async def join(self, request: bytes, context: Context) -> bytes:
        """A key request, or the same one again."""
        # Before anything is parsed: whoever calls is nobody yet.
        if not self._buckets.take(context.peer(), self._clock()):
            raise TooManyReadsError("too many calls at once: slow down and try again")
        asked = decode(JoinRequest, request, MAX_JOIN)
        work = self._invites.join
        try:
            invite, standing = await asyncio.to_thread(work, asked.party, asked.code, asked.statement, asked.csr)
        except JoinRefusedError:
            # Who guesses is seen by the operator; what was guessed by nobody.
            logger.info("join refused", network=network_of(context.peer()))
            raise
        reason = invite.reason if standing.record is None else ""
        response = JoinResponse(
            state=standing.state, since=standing.since, reason=reason, certificate=invite.certificate
        )
        return encode(response)

    def handlers(self) -> Mapping[str, Unary]:
        """By method name."""
        return {"Join": self.join}


def _joining(invite: Invite, standing: Standing) -> Joining:
    return Joining(
        party=invite.party,
        role=Role.ValueType(invite.role),
        state=standing.state,
        since=standing.since,
        expires_at=invite.expires_at,
        statement=invite.statement,
        csr=invite.csr,
        reason=invite.reason,
    )
