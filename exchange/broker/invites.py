"""Invites: a parent lets a party hand in its key request, and sees what came (DESIGN section 3).

An invite admits nobody. What admits is the KEY entry that the parent signs, after a person has compared the
fingerprint; all that is kept here only saves people from carrying files.
"""

import datetime
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from exchange.broker.authority import Authority, read_csr
from exchange.broker.logs import Logs
from exchange.broker.status import InviteRefusedError, JoinRefusedError, NotPermittedError
from exchange.core.envelope import decode_envelope
from exchange.core.errors import CoreError
from exchange.core.key_rules import DEPARTMENT_SIGNED, possession_statement
from exchange.core.keys import is_signed, key_id
from exchange.core.names import Party, lookalike
from exchange.core.state import KeyRecord, is_digest, is_signing
from exchange.core.wire import decode
from exchange.store.invites import Invite, InviteStore
from exchange.store.ports import Log
from exchange.v1.directory_pb2 import DirectoryLeaf, Entry, Key, KeyStatement, Role, Suite
from exchange.v1.joining_pb2 import JoinState

MINUTE = 60 * 1000
DAY = 24 * 60 * MINUTE
LONGEST = 30 * DAY
"""How far ahead an invite may expire, milliseconds."""

FORGOTTEN = 30 * DAY
"""How long an invite is kept that has expired, or was rejected or fulfilled."""

MOST_INVITES = 500
"""Invites of one parent at the same time."""

MOST_REASON = 500
CODE = 32
MAX_PART = 2048
"""Bytes of a key statement, and of a certificate request: a parent's invites then fit into one message."""


_BELOW_EXCHANGE = frozenset({Role.ROLE_DEPARTMENT, Role.ROLE_COORDINATOR, Role.ROLE_AUDITOR})
_BELOW_DEPARTMENT = DEPARTMENT_SIGNED

# One text for a wrong code, a name without an invite and an invite that was replaced: nobody learns which there are.
_UNKNOWN = "there is no such invite: it was altered, or another one took its place"

logger = structlog.get_logger("exchange.broker")


@dataclass(frozen=True, slots=True)
class Standing:
    """How an invite stands: its state, since when (milliseconds), and the key of the directory that fulfilled it."""

    state: JoinState.ValueType
    since: int
    record: KeyRecord | None = None


class Invites:
    """Invites, and the key requests that come with them.

    Args:
        store: keeps them.
        logs: the directory says who stands.
        authority: issues the certificates of those who were approved.
        clock: milliseconds.
    """

    def __init__(self, store: InviteStore, logs: Logs, authority: Authority, clock: Callable[[], int]) -> None:
        self._store = store
        self._logs = logs
        self._authority = authority
        self._clock = clock

    def invite(self, peer: Party, party: Party, role: Role.ValueType, code_sha256: bytes, expires_at: int) -> None:
        """Keep an invite, in the place of an earlier one that nobody has used.

        Args:
            peer: whom TLS authenticated.
            party: who is to join; role: as what.
            code_sha256: of the one-time code.
            expires_at: milliseconds.

        Raises:
            NotPermittedError: the peer is not the parent, or has no key that stands.
            InviteRefusedError: the name is taken, looks like another, or cannot have this role.
        """
        peer, now = self._parent(peer, party), self._clock()
        if role not in (_BELOW_DEPARTMENT if party.is_system else _BELOW_EXCHANGE):
            raise InviteRefusedError(f"{party} cannot have the role {Role.Name(role)}")
        if not is_digest(code_sha256) or not now < expires_at <= now + LONGEST + MINUTE:
            raise InviteRefusedError(f"an invite is valid for at most {LONGEST // DAY} days, and its code is hashed")
        before = self._store.find(str(party))
        kept = self._forget(peer, now)
        self._check_name(party, before, kept)
        invite = Invite(str(party), str(peer), role, code_sha256, now, expires_at)
        if len(kept) >= MOST_INVITES and before is None:
            raise InviteRefusedError(f"{peer} has {MOST_INVITES} invites: reject some, or let them expire")
        self._replace(before, invite)
        logger.info("invited", party=str(party), role=Role.Name(role))

    def of_parent(self, peer: Party) -> list[tuple[Invite, Standing]]:
        """All invites of a parent, each with how it stands.

        Raises:
            NotPermittedError: the peer has no key that stands.
        """
        peer = self._acting(peer)
        return [(invite, self.standing(invite)) for invite in self._store.of_parent(str(peer))]

    def reject(self, peer: Party, party: Party, reason: str) -> None:
        """Refuse whoever came with an invite, or take back one that nobody has used; they are told why.

        Raises:
            NotPermittedError: the peer is not the parent, or has no key that stands.
            InviteRefusedError: there is no such invite, it is fulfilled, or the reason is missing or too long.
        """
        self._parent(peer, party)
        if not 0 < len(reason) <= MOST_REASON or not reason.isprintable():
            raise InviteRefusedError(f"a reason of 1 to {MOST_REASON} characters is needed, on one line")
        invite = self._store.find(str(party))
        if invite is None:
            raise InviteRefusedError(f"{party} is not invited")
        if self.standing(invite).record is not None:
            raise InviteRefusedError(f"{party} has been approved: what takes a key back is its revocation")
        self._replace(invite, replace(invite, rejected_at=self._clock(), reason=reason))
        logger.info("join rejected", party=str(party))

    def join(self, party: str, code: bytes, statement: bytes, csr: bytes) -> tuple[Invite, Standing]:
        """Take a key request, once; the same again tells how it stands.

        Args:
            party: who says to be invited.
            code: the invite's.
            statement: a serialised KeyStatement; csr: PKCS #10, DER.

        Raises:
            NameFormatError: not a party's name.
            JoinRefusedError: no such invite, it has expired or was used with another key, or the request does not hold.
        """
        invite = self._store.find(str(Party.parse(party)))
        digest = hashlib.sha256(code).digest()
        # Compared for a name without an invite too, so that both take as long.
        known = hmac.compare_digest(digest, invite.code_sha256 if invite is not None else bytes(len(digest)))
        if invite is None or not known or len(code) != CODE:
            raise JoinRefusedError(_UNKNOWN)
        if invite.joined_at:
            return self._again(invite, statement, csr)
        standing = self.standing(invite)
        if standing.state == JoinState.JOIN_STATE_REJECTED:
            return invite, standing
        if standing.state != JoinState.JOIN_STATE_INVITED:
            raise JoinRefusedError("the invite has expired: ask for another one")
        _check_request(invite, statement, csr)
        joined = replace(invite, joined_at=self._clock(), statement=statement, csr=csr)
        if not self._store.replace(party, invite, joined):
            # Somebody was faster; with the same key it is the same request.
            return self.join(party, code, statement, csr)
        logger.info("key request taken", party=party)
        return joined, self.standing(joined)

    def standing(self, invite: Invite) -> Standing:
        """How an invite stands: the directory alone says who was approved."""
        if invite.statement:
            key = decode(Key, decode(KeyStatement, invite.statement).statement)
            record = self._logs.directory.state.keys.get(key_id(key.public_key))
            if record is not None and str(record.party) == invite.party:
                return Standing(JoinState.JOIN_STATE_APPROVED, self._entered(record)[0], record)
        if invite.rejected_at:
            return Standing(JoinState.JOIN_STATE_REJECTED, invite.rejected_at)
        if invite.joined_at:
            return Standing(JoinState.JOIN_STATE_WAITING, invite.joined_at)
        if self._clock() > invite.expires_at:
            return Standing(JoinState.JOIN_STATE_EXPIRED, invite.expires_at)
        return Standing(JoinState.JOIN_STATE_INVITED, invite.invited_at)

    def _again(self, invite: Invite, statement: bytes, csr: bytes) -> tuple[Invite, Standing]:
        if (invite.statement, invite.csr) != (statement, csr):
            raise JoinRefusedError("the invite was used already, with another key: tell whoever invited you at once")
        standing = self.standing(invite)
        if standing.record is not None and not invite.certificate:
            return self._certified(invite, standing.record), standing
        return invite, standing

    def _certified(self, invite: Invite, record: KeyRecord) -> Invite:
        """The invite with the certificate that its approval gives; it is issued once, and kept."""
        if record.revoked_index is not None or self._clock() > record.not_after:
            raise JoinRefusedError("the key is revoked or expired: no certificate is issued for it")
        # What the parent signed decides, not what is kept here.
        if self._entered(record)[1].key.csr_sha256 != hashlib.sha256(invite.csr).digest():
            raise JoinRefusedError("the key was approved with another certificate request")
        now = datetime.datetime.fromtimestamp(self._clock() / 1000, datetime.UTC)
        certificate = self._authority.issue(invite.csr, record.party, record.key_id, now)
        certified = replace(invite, certificate=certificate)
        self._store.replace(invite.party, invite, certified)
        return certified

    def _entered(self, record: KeyRecord) -> tuple[int, Entry]:
        """When a key was entered, milliseconds, and its entry."""
        stored = self._logs.store.entry(Log.DIRECTORY, record.index)
        if stored is None:
            raise JoinRefusedError("the entry cannot be read yet: ask again in a moment")
        leaf = decode(DirectoryLeaf, stored.leaf)
        return leaf.time, decode(Entry, decode_envelope(leaf.envelope).payload)

    def _parent(self, peer: Party, party: Party) -> Party:
        """Whose party this is, and for whom the peer acts."""
        parent = party.parent
        if parent is None or parent not in {peer, peer.own_department} or self._acting(peer) != parent:
            raise NotPermittedError(f"connected as {peer}, which is not the parent of {party}")
        return parent

    def _acting(self, peer: Party) -> Party:
        """Whom the peer acts for: a steward's key signs in its department's place."""
        role = self._logs.directory.state.role_of(peer, self._clock())
        if role is None:
            raise NotPermittedError(f"{peer} has no valid key in the directory")
        return peer.own_department if role == Role.ROLE_STEWARD else peer

    def _check_name(self, party: Party, before: Invite | None, others: list[Invite]) -> None:
        state = self._logs.directory.state
        if any(is_signing(record) for record in state.keys_of(party)):
            raise InviteRefusedError(f"{party} has a key in the directory: the name is taken")
        known = [record.party for record in state.keys.values()]
        near = lookalike(party, [*known, *(Party.parse(invite.party) for invite in others)])
        if near is not None:
            raise InviteRefusedError(f"{party} looks like {near}: choose a name that nobody takes for another")
        if before is not None and self.standing(before).state == JoinState.JOIN_STATE_WAITING:
            raise InviteRefusedError(f"{party} waits for an answer already: approve or reject it first")

    def _forget(self, peer: Party, now: int) -> list[Invite]:
        """The parent's invites, without those that have long been settled."""
        kept = []
        for invite in self._store.of_parent(str(peer)):
            standing = self.standing(invite)
            open_still = standing.state in {JoinState.JOIN_STATE_INVITED, JoinState.JOIN_STATE_WAITING}
            if open_still or standing.since > now - FORGOTTEN:
                kept.append(invite)
            else:
                self._store.replace(invite.party, invite, None)
        return kept

    def _replace(self, before: Invite | None, after: Invite) -> None:
        if not self._store.replace(after.party, before, after):
            raise InviteRefusedError(f"the invite of {after.party} has changed meanwhile: look, and try again")


def _check_request(invite: Invite, statement: bytes, csr: bytes) -> None:
    """What a key request claims, before a parent is made to look at it: the parent's program checks it all again."""
    if len(csr) > MAX_PART:
        raise JoinRefusedError(f"a certificate request has at most {MAX_PART:,} bytes")
    try:
        message = decode(KeyStatement, statement, MAX_PART)
        key = decode(Key, message.statement)
        party = Party.parse(invite.party)
        proof = possession_statement(party.domain, message.statement)
        if not is_signed(key.public_key, proof, message.possession):
            raise JoinRefusedError("the proof of possession does not verify")
        read_csr(csr, party)
    except CoreError as error:
        raise JoinRefusedError(f"the key request does not hold: {error}") from error
    role = Role.ValueType(invite.role)
    if (key.party, key.role, key.suite) != (invite.party, role, Suite.SUITE_ECDSA_P256_SHA256):
        raise JoinRefusedError(f"the key is not a signing key of {party} as {Role.Name(role)}")
    if message.csr_sha256 != hashlib.sha256(csr).digest():
        raise JoinRefusedError("the certificate request is not the one that the key statement names")
