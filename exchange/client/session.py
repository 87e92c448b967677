"""A party's open home: its keys, its mirror, its evidence and its way to a broker, on one event loop."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from exchange.client.breaks import declared_in
from exchange.client.calls import GrpcTransport, Transport, brokers_checkpoint, call_until
from exchange.client.cosignatures import Cosignatures
from exchange.client.errors import BrokenLogError, EvidenceError, ExchangeError, RefusedError, UnavailableError
from exchange.client.evidence import AccessEvidence
from exchange.client.mirror import DirectoryMirror
from exchange.client.receipt_file import FILE as RECEIPTS
from exchange.client.receipt_file import ReceiptFile
from exchange.client.receipts import Alarm, Receipts, log_alarm
from exchange.client.refusals import knows_signer, refused_size, verify_refusal
from exchange.client.seconds import require_second
from exchange.client.storage import DIRECTORY, MirrorFile
from exchange.client.use_file import FILE as USE
from exchange.client.use_file import UseFile
from exchange.client.use_ledger import UseLedger
from exchange.core.checkpoint import Checkpoint
from exchange.core.directory import Directory
from exchange.core.envelope import Draft, Envelope, sign
from exchange.core.errors import CoreError
from exchange.core.keys import EcdsaSigner
from exchange.core.merkle import leaf_hash, verify_inclusion
from exchange.core.names import Party
from exchange.core.policy import MAX_AGE
from exchange.core.state import MAX_ENTRY, Version
from exchange.core.successions import Succession, has_breaks
from exchange.core.trust import Trust
from exchange.core.wire import decode
from exchange.home import Home
from exchange.transport import APPEND
from exchange.v1.directory_pb2 import DirectoryLeaf, EntryKind
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.log_pb2 import AppendRequest, AppendResponse

MIRROR = "mirror.db"
SHUT_OUT = "NOT_PERMITTED"
"""How a broker refuses whoever may not ask it anything."""

TIMEOUT = 30.0

Clock = Callable[[], int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry that the directory log holds.

    Args:
        index: its place.
        leaf_hash: 32 bytes (RFC 9162 section 2.1.1).
        certificate: PEM, where the entry is a key statement with a certificate request; otherwise empty.
    """

    index: int
    leaf_hash: bytes
    certificate: bytes


def wall_clock() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000


_APPLICATION = EntryKind.ENTRY_KIND_APPLICATION
_AGREEMENT = EntryKind.ENTRY_KIND_AGREEMENT

AGAIN = 60.0
"""Seconds until a body that may not be this party's to read is asked for again."""


class _Owed:
    """Which bodies are not known here, and should be (DESIGN section 7).

    Those of the party's own department, which answers nothing without them, and datasets' and standing approvals',
    which go to all. A leaf does not say whom it binds besides its owner, so three kinds are asked for now and then:
    agreements of those whom the department has applied to, applications while an agreement of the department cannot be
    read without its own, and steps.
    """

    def __init__(self, party: Party) -> None:
        self._department = party.own_department
        self._asked: dict[int, float] = {}

    def __call__(self, directory: Directory) -> dict[int, bytes]:
        own = list(directory.bodies_lacking(self._department))
        wanted = {version.index: version.body_sha256 for version in (*own, *directory.datasets_lacking())}
        unread = any(version.kind == _AGREEMENT for version in own)
        now = time.monotonic()
        for version in self._maybe_ours(directory, unread=unread):
            if version.owner == self._department or self._asked.get(version.index, -AGAIN) + AGAIN > now:
                continue
            self._asked[version.index] = now
            wanted[version.index] = version.body_sha256
        return wanted

    def _maybe_ours(self, directory: Directory, *, unread: bool) -> Iterator[Version]:
        terms = directory.terms
        own = directory.state.versions_of(self._department)
        applied = (terms.applications.get(version.digest) for version in own if version.kind == _APPLICATION)
        asked_for = (terms.datasets.get(application.dataset) for application in applied if application is not None)
        for owner in {dataset.version.owner for dataset in asked_for if dataset is not None}:
            yield from (version for version in directory.bodies_lacking(owner) if version.kind == _AGREEMENT)
        if unread:
            yield from directory.applications_lacking()
        # Whom a step binds, its leaf does not say.
        yield from directory.steps_lacking()


class Session:
    """One party's work with one exchange, as an async context manager.

    Args:
        home: the party's folder; its trust file and name are read at once.
        transport: the way to a broker, which the session closes; gRPC to the trust file's brokers if none is given.
        clock: milliseconds.
        alarm: told of each receipt that is not cosigned in time.
        max_age: seconds for which a cosigned directory counts as fresh, where the trust file has a quorum.

    `synced_at` is when a broker last showed the whole directory, milliseconds; None before it did.

    Raises:
        HomeError: the home lacks something.
    """

    def __init__(
        self,
        home: Home,
        transport: Transport | None = None,
        clock: Clock = wall_clock,
        *,
        alarm: Alarm = log_alarm,
        max_age: float = MAX_AGE,
    ) -> None:
        self.home = home
        self.trust: Trust = home.trust
        self.party: Party = home.acts_for
        self.clock = clock
        self._transport = transport
        self._signer: EcdsaSigner | None = None
        self._mirror: DirectoryMirror | None = None
        self._evidence: AccessEvidence | None = None
        self._alarm = alarm
        self._max_age = max_age
        self._cosignatures: Cosignatures | None = None
        self._receipts: Receipts | None = None
        self._use: UseLedger | None = None
        self._looked = 0
        # The breaks of the access log that the mirror knows; it reads the file, so it is called in a thread.
        self.declared_breaks: Callable[[], Sequence[Succession]] = tuple
        self.synced_at: int | None = None

    async def __aenter__(self) -> "Session":
        """Open the mirror, and fold it from entry 0; nothing is asked of a broker.

        Raises:
            BrokenLogError: a log has failed before.
            EvidenceError, UnavailableError: the mirror was altered, or cannot be used.
            HomeError: no TLS key or certificate.
        """
        if self.is_open:
            raise RuntimeError("the session is open already")
        if self._transport is None:
            self._transport = GrpcTransport(self.trust.brokers, self.home.tls_identity())
        file = await asyncio.to_thread(MirrorFile, self.home.path / MIRROR)
        mirror = await DirectoryMirror.of(file, self.trust, _Owed(self.party))
        self.declared_breaks = declared_in(file, lambda: mirror.directory, self.trust.access_log)
        transport = self._transport
        evidence = AccessEvidence(
            file, self.trust.access_log, transport, self.declared_breaks, lambda: mirror.sync(transport)
        )
        await evidence.open()
        await self._open_receipts(mirror, evidence, self._transport)
        self._mirror, self._evidence = mirror, evidence
        self._use = UseLedger(UseFile(self.home.path / USE), self.clock)
        return self

    async def _open_receipts(self, mirror: DirectoryMirror, evidence: AccessEvidence, transport: Transport) -> None:
        file = ReceiptFile(self.home.path / RECEIPTS)
        cosignatures = Cosignatures(file, self.trust, mirror, evidence, transport, self.clock, self._max_age)
        await cosignatures.open()
        receipts = Receipts(file, cosignatures, self.clock, self._alarm)
        self._cosignatures, self._receipts = cosignatures, receipts
        await receipts.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Check what was observed, and close the connections.

        Raises:
            BrokenLogError: the access log contradicts itself.
        """
        try:
            await self.use.close()
            await self.receipts.close()
            await self.cosignatures.close()
            await self.mirror.close()
            await self.evidence.close()
        finally:
            await self.transport.close()
            self._mirror = self._evidence = self._cosignatures = self._receipts = self._use = None

    @property
    def is_open(self) -> bool:
        """Whether the session has been entered, and not left."""
        return self._mirror is not None

    @property
    def mirror(self) -> DirectoryMirror:
        """The party's copy of the directory."""
        return _opened(self._mirror)

    @property
    def evidence(self) -> AccessEvidence:
        """What the access log has shown this party."""
        return _opened(self._evidence)

    @property
    def cosignatures(self) -> Cosignatures:
        """What witnesses have cosigned of both logs."""
        return _opened(self._cosignatures)

    @property
    def receipts(self) -> Receipts:
        """The receipts that this party keeps."""
        return _opened(self._receipts)

    @property
    def use(self) -> UseLedger:
        """The ledger of what this party was told."""
        return _opened(self._use)

    @property
    def transport(self) -> Transport:
        """The way to a broker."""
        return _opened(self._transport)

    @property
    def directory(self) -> Directory:
        """The directory as the mirror has it."""
        return self.mirror.directory

    @property
    def signer(self) -> EcdsaSigner:
        """The party's signing key.

        Raises:
            HomeError: none here.
        """
        if self._signer is None:
            self._signer = self.home.signer()
        return self._signer

    async def use_new_keys(self) -> None:
        """Go on with the signing key and the TLS certificate that the home holds now.

        Calls under way end on the connections that they began on.

        Raises:
            HomeError: one of them cannot be used; those from before stay in use.
        """
        signer, identity = self.home.signer(), self.home.tls_identity()
        self._signer = signer
        if isinstance(self._transport, GrpcTransport):
            self._transport.renew(identity)

    def check(self) -> None:
        """Refuse to go on with an exchange whose log has failed.

        Raises:
            BrokenLogError: it has.
        """
        self.mirror.check()
        self.evidence.check()

    def sign(self, draft: Draft) -> Envelope:
        """Sign one message with the home's key.

        Raises:
            HomeError: no signing key here.
        """
        return sign(self.signer, self.trust.name, draft)

    async def sync(self, at_least: int | None = None) -> Directory:
        """Bring the mirror up to date, as `DirectoryMirror.sync`, and take the cosigned checkpoint that came with it.

        Raises: as `DirectoryMirror.sync`, and `Cosignatures.take`.
        """
        self.check()
        await self.mirror.sync(self.transport, at_least)
        self.synced_at = self.clock()
        await self.cosignatures.take(DIRECTORY, self.mirror.cosigned)
        await self._settle_breaks()
        return self.directory

    async def _settle_breaks(self) -> None:
        """Before anything that the access log shows: a break that is declared is known by then."""
        size = self.directory.size
        if size == self._looked:
            return
        # Those who sync at the same moment do not wait: what they are shown is held to the declaration all the same.
        self._looked = size
        if not has_breaks(self.directory.state):
            return
        try:
            await self.evidence.settle_breaks()
            if self.cosignatures.needed:
                await self.cosignatures.give_up(await asyncio.to_thread(self.declared_breaks))
        except UnavailableError:
            self._looked = 0

    async def append(self, envelope: Envelope, *, timeout: float = TIMEOUT) -> Appended:
        """Append a signed entry to the directory log, and see it in the mirror before this returns.

        The log holds an entry once, by its digest: the same envelope may be appended again after a lost answer. Only an
        entry that revokes the key which this party's certificate came with is not seen in the mirror.

        Args:
            envelope: of kind entry, with its attachments.
            timeout: seconds.

        Raises:
            SecondNeededError: a steward signed it, and the department asks for two.
            RefusedError: the directory's rules, or the broker, refuse it.
            EvidenceError: the receipt does not prove that the log holds exactly this entry.
            BrokenLogError: the log contradicts what it signed before; sticky.
            UnavailableError: no broker, or not in time.
        """
        self.check()
        require_second(self.directory.state, envelope)
        deadline = asyncio.get_running_loop().time() + timeout
        request = AppendRequest(envelope=envelope.encode())
        try:
            response = await call_until(self.transport, APPEND, request, AppendResponse, deadline)
        except RefusedError as error:
            raise await self.verified(error, envelope) from None
        checkpoint = self._check_receipt(response.receipt, envelope)
        try:
            await self.mirror.sync(self.transport, checkpoint.size)
            await self.mirror.confirm(checkpoint, response.receipt.checkpoint)
        except RefusedError as error:
            # The receipt proves that the log has it; where it ended this party's own key, nothing more is shown.
            if error.label != SHUT_OUT:
                raise
        return Appended(response.receipt.index, leaf_hash(response.receipt.leaf), response.certificate)

    async def verified(self, error: RefusedError, envelope: Envelope, provider: Party | None = None) -> RefusedError:
        """A refusal as its signature shows it; the mirror is brought up to date where that may help.

        Args:
            error: as the call raised it.
            envelope: what was refused.
            provider: the system that may refuse beside a broker.
        """
        if error.refusal is not None and not knows_signer(self.directory, error.refusal):
            await self._try_sync(None)
        digests = frozenset({envelope.digest, hashlib.sha256(envelope.encode()).digest()})
        refused = verify_refusal(error, self.directory, digests, self.clock(), provider)
        # The next request had better know what this one was refused for.
        await self._try_sync(refused_size(refused))
        return refused

    async def _try_sync(self, at_least: int | None) -> None:
        try:
            await self.sync(at_least)
        except BrokenLogError:
            raise
        except ExchangeError:
            # The refusal is the news; it stays unverified, and says so.
            return

    def _check_receipt(self, receipt: Receipt, envelope: Envelope) -> Checkpoint:
        """The receipt's checkpoint, where the receipt proves that the log holds exactly this entry."""
        try:
            checkpoint = brokers_checkpoint(receipt.checkpoint, self.trust.directory_log)
            digest = leaf_hash(receipt.leaf)
            verify_inclusion(digest, receipt.index, checkpoint.size, tuple(receipt.path), checkpoint.root)
            leaf = decode(DirectoryLeaf, receipt.leaf, MAX_ENTRY)
        except CoreError as error:
            raise EvidenceError(f"the directory's receipt does not hold: {error}") from error
        if leaf.envelope != envelope.bare().encode():
            raise EvidenceError("the directory's receipt proves another entry")
        return checkpoint


def _opened(part: T | None) -> T:
    if part is None:
        raise RuntimeError("enter the session first: async with Session(home) as session")
    return part
