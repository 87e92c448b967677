"""An exchange in memory behind the client's transport seam: a broker, a provider and both logs, honest until told.

    simulator = Simulator(World.standard())
    async with ExchangeClient(Session(make_home(path, simulator.world), simulator, simulator.clock)) as client:
        ...

It answers with the code of `exchange.core` alone, so that nothing of the client's is its own witness.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from exchange.client.call_errors import error_of
from exchange.client.errors import UnavailableError
from exchange.core.access import code_name, refusal_draft
from exchange.core.cosignature import Cosigner
from exchange.core.decision import Deny, decide, read_request
from exchange.core.envelope import ENTRY, REQUEST, Envelope, decode_envelope
from exchange.core.keys import sealing_private_key
from exchange.core.names import Party
from exchange.core.policy import Policy, PolicyGroup, PolicyWitness
from exchange.core.sealing import TO_PROVIDER, capsule_info, message_key, open_body, open_capsule
from exchange.core.trust import Trust, encode_trust
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.transport import (
    ACCESS_COSIGNED,
    ACCESS_PROVE,
    ACCESS_READ,
    ACCESS_SEARCH,
    APPEND,
    DIRECTORY_COSIGNED,
    DIRECTORY_PROVE,
    DIRECTORY_SYNC,
    ERROR_DOMAIN,
    SUBMIT,
)
from exchange.v1.access_pb2 import Code
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.log_pb2 import (
    AppendRequest,
    AppendResponse,
    DirectoryServiceCosignedResponse,
    DirectoryServiceProveRequest,
    DirectoryServiceProveResponse,
    DirectoryServiceSyncRequest,
    DirectoryServiceSyncResponse,
    FoundEntry,
    InclusionPath,
    LogServiceCosignedRequest,
    LogServiceCosignedResponse,
    LogServiceProveRequest,
    LogServiceProveResponse,
    ReadRequest,
    ReadResponse,
    Record,
    SearchRequest,
    SearchResponse,
)
from exchange.v1.relay_pb2 import RefusalDetail, SubmitRequest, SubmitResponse
from exchange.v1.request_pb2 import Query, Sealed
from tests.memory import MemoryLog, fixed, signer
from tests.world import APPLICATIONS, BROKER, ORIGIN, REGISTRY, ROWS, World


class Simulator:
    """The transport to an honest exchange; set an attribute, and it misbehaves in that way from then on.

    Args:
        world: whose parties, directory and logs are served.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[tuple[str, bytes]] = []
        self.queries: list[Query] = []
        self.rows: Sequence[Mapping[str, Any]] = ROWS
        self.page = 1000
        # The logs as they are shown: another world's, or a copy of earlier, is a fork, a rollback or an old directory.
        self.directory_log: MemoryLog | None = None
        self.access_log: MemoryLog | None = None
        # Whether a log that was rolled back says that it has no entries from there on.
        self.admits = True
        # Calls that never arrive, and answers that are lost after the commit.
        self.down = 0
        self.lost = 0
        # Calls that are never answered, and how many of those their callers gave up.
        self.stalls = False
        self.cancelled = 0
        # The answer: who signs it, what its header says, what becomes of its ciphertext and its receipt.
        self.provider: Party = REGISTRY
        self.header: dict[str, Any] = {}
        self.alter: Callable[[Envelope], Envelope] = lambda response: response
        self.receipt: Callable[[Receipt], Receipt | None] = lambda receipt: receipt
        self.sync_record: Callable[[Record], Record] = lambda record: record
        # Refusals: one for every request, who signs them and in whose name, and whether anybody does.
        self.deny: Deny | None = None
        self.refuser: Party = BROKER
        self.refuser_named: Party | None = None
        self.refusal: Callable[[Envelope], Envelope | None] = lambda refusal: refusal
        # The code that the broker writes beside the signed one.
        self.label: Code.ValueType | None = None
        self.proves = True
        # Witnesses: who cosigns, when (seconds; now, unless told), of which sizes and logs, and what is handed out.
        self.cosigners: tuple[Cosigner, ...] = ()
        self.cosigned_at: int | None = None
        self.cosigned_size: dict[str, int] = {}
        self.cosigned_log: MemoryLog | None = None
        self.hand_out: Callable[[bytes], bytes] = lambda note: note
        self.closed = False
        self._answers: dict[bytes, SubmitResponse] = {}
        self._appended: dict[bytes, int] = {}

    def clock(self) -> int:
        """Everybody's clock, milliseconds."""
        return self.world.now

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(called == method for called, _ in self.calls)

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        """One call, as `exchange.client.calls.Transport`."""
        assert timeout > 0
        self.calls.append((method, request))
        if self.down:
            self.down -= 1
            raise lost_connection()
        if self.stalls:
            await self._stall()
        handlers = {
            SUBMIT: self._submit,
            APPEND: self._append,
            DIRECTORY_SYNC: self._sync,
            DIRECTORY_PROVE: self._prove_directory,
            ACCESS_PROVE: self._prove,
            ACCESS_READ: self._read,
            ACCESS_SEARCH: self._search,
            DIRECTORY_COSIGNED: lambda _: DirectoryServiceCosignedResponse(cosigned=self.cosigned("directory")),
            ACCESS_COSIGNED: self._cosigned_access,
        }
        response = handlers[method](request)
        if self.lost:
            self.lost -= 1
            raise lost_connection()
        return encode(response)

    async def _stall(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1

    async def close(self) -> None:
        """Remember that the session gave the connection up."""
        self.closed = True

    def _submit(self, data: bytes) -> SubmitResponse:
        envelope = decode_envelope(decode(SubmitRequest, data).envelope, REQUEST)
        if envelope.digest in self._answers:
            return self._answers[envelope.digest]
        decision = self.deny or decide(
            self.world.directory,
            envelope,
            self.world.now,
            taken=self.world.taken,
            used=self.world.used,
            peer=APPLICATIONS,
        )
        if isinstance(decision, Deny):
            raise self._refused(decision, envelope)
        response = self._answer(envelope)
        receipt = self.receipt(self.world.release(envelope, response))
        answer = SubmitResponse(envelope=response.encode(), receipt=receipt)
        self._answers[envelope.digest] = answer
        return answer

    def _answer(self, envelope: Envelope) -> Envelope:
        secret = self._open(envelope)
        self.world.channel = lambda *_names: secret  # type: ignore[method-assign]
        return self.alter(self.world.respond(envelope, self.rows, self.provider, **self.header))

    def _open(self, envelope: Envelope) -> bytes:
        """The provider's side of the seal: the channel's secret; the query is kept."""
        header = read_request(envelope)
        info = capsule_info(ORIGIN, header.requester, envelope.key_id, str(REGISTRY), self.world.sealing_key())
        secret = open_capsule(envelope.attachments[0], sealing_private_key(self.world.sealing[REGISTRY]), info)
        key = message_key(secret, TO_PROVIDER, decode(Sealed, envelope.payload).header)
        self.queries.append(decode(Query, open_body(key, envelope.attachments[1])))
        return secret

    def _refused(self, deny: Deny, envelope: Envelope) -> Exception:
        world = self.world
        refusal, _ = world.refuse(envelope, deny)
        if self.refuser != BROKER or self.refuser_named is not None:
            name = str(self.refuser_named or self.refuser)
            draft = refusal_draft(deny, name, envelope.digest, world.directory.size, world.now)
            refusal = world.sign(draft, self.refuser)
        return refused(code_name(self.label or deny.code), deny.reason, self.refusal(refusal))

    def _append(self, data: bytes) -> AppendResponse:
        envelope = decode_envelope(decode(AppendRequest, data).envelope, ENTRY)
        world = self.world
        if envelope.digest not in self._appended:
            applied = world.copy().append_envelope(envelope)
            if applied.reason:
                raise refused("ENTRY_REFUSED", applied.reason)
            self._appended[envelope.digest] = world.append_envelope(envelope).index
        receipt = self.receipt(world.directory_log.receipt(self._appended[envelope.digest]))
        return AppendResponse(receipt=receipt, certificate=b"PEM" if envelope.attachments else b"")

    def _sync(self, data: bytes) -> DirectoryServiceSyncResponse:
        start = decode(DirectoryServiceSyncRequest, data).start
        log = self.directory_log or self.world.directory_log
        if start > log.size and self.admits:
            raise refused("MALFORMED", f"the log has {log.size} entries, and none from {start} on")
        records = [
            self.sync_record(Record(index=index, leaf=log.leaves[index], body=log.bodies[index]))
            for index in range(start, min(start + self.page, log.size))
        ]
        cosigned = self.cosigned("directory")
        return DirectoryServiceSyncResponse(records=records, checkpoint=log.checkpoint(), cosigned=cosigned)

    def _cosigned_access(self, data: bytes) -> LogServiceCosignedResponse:
        note = self.cosigned("access")
        log = self.cosigned_log or self.access_log or self.world.access_log
        size = self.cosigned_size.get("access", log.size) if note else 0
        wanted = [index for index in decode(LogServiceCosignedRequest, data).indexes if index < size]
        paths = [InclusionPath(index=index, path=log.receipt(index, size).path) for index in wanted]
        return LogServiceCosignedResponse(cosigned=note, paths=paths)

    def cosigned(self, name: str) -> bytes:
        """A log's checkpoint with the cosignatures of `cosigners`; empty without any."""
        if not self.cosigners:
            return b""
        logs = {
            "directory": self.directory_log or self.world.directory_log,
            "access": self.access_log or self.world.access_log,
        }
        log = self.cosigned_log or logs[name]
        checkpoint = log.checkpoint(self.cosigned_size.get(name))
        text = checkpoint.rpartition(b"\n\n")[0] + b"\n"
        time = self.world.now // 1000 if self.cosigned_at is None else self.cosigned_at
        lines = b"".join(str(cosigner.cosign(text, time)).encode() for cosigner in self.cosigners)
        return self.hand_out(checkpoint + lines)

    def _prove(self, data: bytes) -> LogServiceProveResponse:
        proof = decode(LogServiceProveRequest, data).proof
        log = self.access_log or self.world.access_log
        if not self.proves:
            raise lost_connection()
        if proof.size > log.size:
            raise refused("MALFORMED", "the log has no such size yet")
        return LogServiceProveResponse(path=log.consistency(proof.old_size, proof.size))

    def _read(self, data: bytes) -> ReadResponse:
        log = self.access_log or self.world.access_log
        start = decode(ReadRequest, data).start
        rows = list(zip(log.leaves, log.bodies, strict=True))[start : start + self.page]
        records = [Record(index=start + place, leaf=leaf, body=body) for place, (leaf, body) in enumerate(rows)]
        return ReadResponse(records=records, next=start + len(records), checkpoint=log.checkpoint())

    def _search(self, data: bytes) -> SearchResponse:
        """A search that looks at one page, whatever is asked for: what fits may come later."""
        log = self.access_log or self.world.access_log
        start = decode(SearchRequest, data).start
        end = min(start + self.page, log.size)
        records = [Record(index=index, leaf=log.leaves[index], body=log.bodies[index]) for index in range(start, end)]
        return SearchResponse(entries=[FoundEntry(record=item) for item in records], next=end)

    def _prove_directory(self, data: bytes) -> DirectoryServiceProveResponse:
        proof = decode(DirectoryServiceProveRequest, data).proof
        log = self.directory_log or self.world.directory_log
        if not self.proves:
            raise lost_connection()
        return DirectoryServiceProveResponse(path=log.consistency(proof.old_size, proof.size))


def lost_connection() -> UnavailableError:
    """What the transport raises when the connection is lost."""
    return UnavailableError("the connection was lost", status="UNAVAILABLE", retry=True)


def refused(label: str, reason: str, refusal: Envelope | None = None) -> Exception:
    """What a broker's refusal becomes, by way of gRPC's own encoding of it."""
    packed = [AnyMessage()]
    packed[0].Pack(ErrorInfo(domain=ERROR_DOMAIN, reason=label))
    if refusal is not None:
        packed.append(AnyMessage())
        packed[-1].Pack(RefusalDetail(envelope=refusal.encode()))
    status = Status(code=grpc.StatusCode.PERMISSION_DENIED.value[0], message=reason, details=packed)
    return error_of(grpc.StatusCode.PERMISSION_DENIED, reason, Status.FromString(status.SerializeToString()))


COSIGNERS = tuple(
    Cosigner(f"{name}.test", Ed25519PrivateKey.from_private_bytes(fixed(f"witness {name}")))
    for name in ("one", "two", "three")
)
POLICY = Policy(
    witnesses=tuple(PolicyWitness(one.name.removesuffix(".test"), one.verifier) for one in COSIGNERS),
    groups=(PolicyGroup("enough", 2, ("one", "two", "three")),),
    quorum="enough",
)
"""Two of three witnesses."""


def trust_of(world: World, policy: Policy | None = None) -> Trust:
    """The trust file of a world."""
    return Trust(
        ORIGIN,
        signer("root").public_key,
        world.directory_log.signer.verifier,
        world.access_log.signer.verifier,
        "no authority",
        ("127.0.0.1:1",),
        policy,
    )


def make_home(path: Path, world: World, party: Party = APPLICATIONS, policy: Policy | None = None) -> Home:
    """A party's home, with its signing key and the world's trust file."""
    home = Home.create(path, party, "system" if party.is_system else "department")
    home.write("trust.toml", encode_trust(trust_of(world, policy)).encode())
    home.new_private_key("signing", world.keys[party].private_key)
    return home


def flipped(response: Envelope) -> Envelope:
    """A response whose ciphertext has one bit changed."""
    data = response.attachments[-1]
    return replace(response, attachments=(*response.attachments[:-1], data[:-1] + bytes([data[-1] ^ 1])))
