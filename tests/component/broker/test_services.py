"""Handlers convert, ask one command, and convert back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from exchange import transport
from exchange.broker.append import AppendCommand
from exchange.broker.auditing import Auditing
from exchange.broker.authority import found_authority
from exchange.broker.invites import Invites
from exchange.broker.joining import INVITATION, JOINING, InvitationService, JoiningService
from exchange.broker.limits import AddressBuckets
from exchange.broker.reading import Reading
from exchange.broker.refusals import RefusedError
from exchange.broker.renewing import RenewCommand
from exchange.broker.services import DirectoryService, GatewayService, LogService, RelayService, unary_handler
from exchange.broker.status import NotPermittedError, TooManyReadsError
from exchange.core.access import verify_release
from exchange.core.checkpoint import open_checkpoint
from exchange.core.envelope import decode_envelope
from exchange.core.errors import DecodeError, ProofError
from exchange.core.keys import key_id
from exchange.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from exchange.core.names import Party
from exchange.core.wire import decode, encode
from exchange.store.invites import MemoryInvites
from exchange.store.ports import Log, Witnessed
from exchange.transport import PeerError
from exchange.v1.access_pb2 import Code
from exchange.v1.log_pb2 import (
    AppendRequest,
    AppendResponse,
    DirectoryServiceCosignedResponse,
    DirectoryServiceProveRequest,
    DirectoryServiceProveResponse,
    DirectoryServiceSyncRequest,
    DirectoryServiceSyncResponse,
    LogServiceCosignedRequest,
    LogServiceCosignedResponse,
    LogServiceProveRequest,
    LogServiceProveResponse,
    LogServiceSyncRequest,
    LogServiceSyncResponse,
    ProofRequest,
    ReadRequest,
    ReadResponse,
)
from exchange.v1.relay_pb2 import SubmitRequest, SubmitResponse
from tests.certificates import AUTHORITY_KEY, NOW, csr, uri
from tests.component.broker.parts import Broker
from tests.world import APPLICATIONS, AUDITOR, COORDINATOR, ORIGIN, REGISTRY, World, signer

UNKNOWN_FIELD = encode(SubmitRequest(envelope=b"x")) + b"\xf8\x7f\x01"
FIELD_BEFORE = b"\xf8\x7f\x01" + encode(SubmitRequest(envelope=b"x"))
STRANGER = Party(ORIGIN, "tax", "refunds")


AUTHORITY = found_authority(AUTHORITY_KEY, ORIGIN, NOW)


@cache
def certificate_of(peer: Party, key: bytes) -> bytes:
    return AUTHORITY.issue(csr([uri(peer)]), peer, key, NOW)


def call_of(peer: Party, remaining: float = 5.0, key: bytes = b"") -> Any:
    """A call over TLS, with a certificate that came with the party's key in the world, or with another."""
    key = key or key_id(signer(str(peer)).public_key)
    auth = {
        "ssl_tls_version": [b"TLSv1.3"],
        "peer_uri": [str(peer).encode()],
        "x509_pem_cert": [certificate_of(peer, key)],
    }
    return SimpleNamespace(auth_context=lambda: auth, time_remaining=lambda: remaining, invocation_metadata=tuple)


@pytest.fixture
def directory(broker: Broker) -> DirectoryService:
    append = AppendCommand(broker.logs, AUTHORITY, broker.clock)
    renew = RenewCommand(broker.logs, AUTHORITY, broker.clock)
    return DirectoryService(append, renew, Reading(broker.logs, broker.clock), broker.store, broker.peers)


def log_service(broker: Broker) -> LogService:
    reading = Reading(broker.logs, broker.clock)
    return LogService(Auditing(broker.logs, reading, broker.clock), reading, broker.store, broker.peers)


@pytest.fixture
def access(broker: Broker) -> LogService:
    return log_service(broker)


async def submitted(broker: Broker, world: World) -> SubmitResponse:
    data = await RelayService(broker.relay, broker.peers).submit(
        encode(SubmitRequest(envelope=world.request().encode())), call_of(APPLICATIONS)
    )
    return decode(SubmitResponse, data)


async def test_a_request_is_answered_with_its_receipt(broker: Broker, world: World) -> None:
    await broker.attach()
    request = world.request()
    data = await RelayService(broker.relay, broker.peers).submit(
        encode(SubmitRequest(envelope=request.encode())), call_of(APPLICATIONS)
    )
    answer = decode(SubmitResponse, data)
    digest = decode_envelope(answer.envelope).digest
    verify_release(answer.receipt, world.access_log.signer.verifier, request.digest, digest)


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        (b"\xff\xff", b"\xff\xff"),
        (b"", b""),
        (encode(SubmitRequest(envelope=b"rubbish")), b"rubbish"),
        (UNKNOWN_FIELD, b"x"),
        (FIELD_BEFORE, FIELD_BEFORE),
    ],
    ids=["no message", "nothing", "no envelope", "an unknown field", "a field before its place"],
)
async def test_whatever_cannot_be_read_is_refused_signed_and_logged(broker: Broker, data: bytes, frame: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        await RelayService(broker.relay, broker.peers).submit(data, call_of(APPLICATIONS))
    broker.check_refusal(caught.value, Code.CODE_MALFORMED, 1, hashlib.sha256(frame).digest())


async def test_a_call_whose_time_is_up_is_not_delivered(broker: Broker, world: World) -> None:
    await broker.attach()
    with pytest.raises(RefusedError) as caught:
        await RelayService(broker.relay, broker.peers).submit(
            encode(SubmitRequest(envelope=world.request().encode())), call_of(APPLICATIONS, 0.0)
        )
    assert caught.value.code == Code.CODE_PROVIDER_UNAVAILABLE


async def test_an_entry_is_appended_and_read_back(broker: Broker, directory: DirectoryService, world: World) -> None:
    start = world.directory.size
    world.register("tax.audit")
    request = encode(AppendRequest(envelope=world.entries[-1].encode()))
    appended = decode(AppendResponse, await directory.append(request, call_of(COORDINATOR)))
    assert (appended.receipt.index, appended.certificate) == (start, b"")
    page = decode(
        DirectoryServiceSyncResponse,
        await directory.sync(encode(DirectoryServiceSyncRequest(start=start)), call_of(REGISTRY)),
    )
    assert [record.leaf for record in page.records] == [appended.receipt.leaf]
    assert page.checkpoint == appended.receipt.checkpoint == broker.store.head(Log.DIRECTORY).checkpoint


async def test_the_access_log_is_read_by_the_auditor_and_by_each_party_its_own(
    broker: Broker, access: LogService, world: World
) -> None:
    await broker.attach()
    answer = await submitted(broker, world)
    request = encode(LogServiceSyncRequest(start=0))
    page = decode(LogServiceSyncResponse, await access.sync(request, call_of(AUDITOR)))
    own = decode(ReadResponse, await access.read(encode(ReadRequest(start=0)), call_of(APPLICATIONS)))
    assert [record.leaf for record in page.records] == [answer.receipt.leaf] == [record.leaf for record in own.records]
    assert own.next == 1
    assert open_checkpoint(page.checkpoint, world.access_log.signer.verifier).size == 1
    with pytest.raises(NotPermittedError):
        await access.sync(request, call_of(APPLICATIONS))


async def test_the_directory_proves_inclusion_and_consistency(
    broker: Broker, directory: DirectoryService, world: World
) -> None:
    log = world.directory_log
    size = log.size
    inclusion = DirectoryServiceProveRequest(proof=ProofRequest(index=3, size=size))
    found = decode(DirectoryServiceProveResponse, await directory.prove(encode(inclusion), call_of(APPLICATIONS)))
    verify_inclusion(leaf_hash(log.leaves[3]), 3, size, tuple(found.path), log.roots[size])
    consistency = DirectoryServiceProveRequest(proof=ProofRequest(old_size=5, size=size))
    found = decode(DirectoryServiceProveResponse, await directory.prove(encode(consistency), call_of(APPLICATIONS)))
    verify_consistency(5, log.roots[5], size, log.roots[size], tuple(found.path))


async def test_cosigned_checkpoints_are_handed_out_alone_and_with_each_page(
    broker: Broker, directory: DirectoryService, access: LogService
) -> None:
    start, empty = encode(DirectoryServiceSyncRequest(start=0)), encode(LogServiceCosignedRequest())
    assert decode(DirectoryServiceSyncResponse, await directory.sync(start, call_of(REGISTRY))).cosigned == b""
    assert decode(LogServiceCosignedResponse, await access.cosigned(empty, call_of(REGISTRY))).cosigned == b""
    with broker.store.locked() as transaction:
        transaction.keep_cosigned(Witnessed(Log.DIRECTORY, 1, 1, b"of the directory"))
        transaction.keep_cosigned(Witnessed(Log.ACCESS, 0, 1, b"of the accesses"))
    pages = [
        decode(DirectoryServiceSyncResponse, await directory.sync(start, call_of(REGISTRY))),
        decode(DirectoryServiceCosignedResponse, await directory.cosigned(empty, call_of(REGISTRY))),
        decode(LogServiceSyncResponse, await access.sync(start, call_of(AUDITOR))),
        decode(LogServiceCosignedResponse, await access.cosigned(empty, call_of(REGISTRY))),
    ]
    assert [page.cosigned for page in pages] == [b"of the directory"] * 2 + [b"of the accesses"] * 2
    for service in (directory, access):
        with pytest.raises(NotPermittedError):
            await service.cosigned(empty, call_of(STRANGER))


async def test_entries_are_proven_in_the_cosigned_checkpoint(broker: Broker, access: LogService, world: World) -> None:
    await broker.attach()
    answers = [await submitted(broker, world) for _ in range(5)]
    seen = open_checkpoint(answers[3].receipt.checkpoint, world.access_log.signer.verifier)
    with broker.store.locked() as transaction:
        transaction.keep_cosigned(Witnessed(Log.ACCESS, seen.size, 1, answers[3].receipt.checkpoint))
    request = encode(LogServiceCosignedRequest(indexes=[3, 0, 4, 99]))
    found = decode(LogServiceCosignedResponse, await access.cosigned(request, call_of(REGISTRY)))
    assert [item.index for item in found.paths] == [3, 0]
    for item in found.paths:
        digest = leaf_hash(answers[item.index].receipt.leaf)
        verify_inclusion(digest, item.index, seen.size, tuple(item.path), seen.root)
    with pytest.raises(ProofError, match="the most is 500"):
        await access.cosigned(encode(LogServiceCosignedRequest(indexes=range(501))), call_of(REGISTRY))


async def test_the_access_log_proves_itself_too(broker: Broker, access: LogService, world: World) -> None:
    await broker.attach()
    answers = [await submitted(broker, world) for _ in range(3)]
    old, new = (open_checkpoint(answers[at].receipt.checkpoint, world.access_log.signer.verifier) for at in (0, 2))
    request = LogServiceProveRequest(proof=ProofRequest(old_size=old.size, size=new.size))
    found = decode(LogServiceProveResponse, await access.prove(encode(request), call_of(REGISTRY)))
    verify_consistency(old.size, old.root, new.size, new.root, tuple(found.path))


@pytest.mark.parametrize(
    "proof",
    [
        ProofRequest(),
        ProofRequest(size=5),
        ProofRequest(index=5, size=5),
        ProofRequest(index=0, size=0),
        ProofRequest(index=0, size=10_000),
        ProofRequest(old_size=6, size=5),
        ProofRequest(old_size=5, size=10_000),
        ProofRequest(index=2**63, size=2**64 - 1),
    ],
    ids=str,
)
async def test_a_proof_of_what_the_log_does_not_have_is_refused(
    directory: DirectoryService, proof: ProofRequest
) -> None:
    with pytest.raises(ProofError):
        await directory.prove(encode(DirectoryServiceProveRequest(proof=proof)), call_of(REGISTRY))


async def test_strangers_are_proven_nothing(directory: DirectoryService, access: LogService) -> None:
    proof = ProofRequest(index=0, size=1)
    with pytest.raises(NotPermittedError):
        await directory.prove(encode(DirectoryServiceProveRequest(proof=proof)), call_of(STRANGER))
    with pytest.raises(NotPermittedError):
        await access.prove(encode(LogServiceProveRequest(proof=proof)), call_of(STRANGER))


@pytest.mark.parametrize("method", ["append", "sync", "prove"])
async def test_bytes_that_are_no_message_are_malformed(directory: DirectoryService, method: str) -> None:
    with pytest.raises(DecodeError):
        await getattr(directory, method)(b"\xff\xff", call_of(REGISTRY))


@pytest.mark.parametrize("method", ["sync", "read", "prove"])
async def test_bytes_that_are_no_message_are_malformed_here_too(access: LogService, method: str) -> None:
    with pytest.raises(DecodeError):
        await getattr(access, method)(b"\xff\xff", call_of(AUDITOR))


async def test_every_method_of_the_contract_is_served(
    broker: Broker, directory: DirectoryService, access: LogService
) -> None:
    handlers = [
        unary_handler("exchange.v1.RelayService", RelayService(broker.relay, broker.peers).handlers()),
        unary_handler("exchange.v1.DirectoryService", directory.handlers()),
        unary_handler("exchange.v1.LogService", access.handlers()),
        unary_handler(INVITATION, invitations(broker).handlers()),
        unary_handler(JOINING, JoiningService(invites_of(broker), AddressBuckets(1, 1), broker.clock).handlers()),
        GatewayService(broker.gateway, broker.peers).handler(),
    ]
    methods = [
        value for value in vars(transport).values() if isinstance(value, str) and value.startswith("/exchange.v1.")
    ]
    assert len(methods) == 16
    for method in methods:
        details = SimpleNamespace(method=method, invocation_metadata=())
        assert sum(handler.service(details) is not None for handler in handlers) == 1  # type: ignore[arg-type]


# --- the key that a certificate came with, and how much a party may ask -------------------------------


def invites_of(broker: Broker) -> Invites:
    return Invites(MemoryInvites(broker.store), broker.logs, AUTHORITY, broker.clock)


def invitations(broker: Broker) -> InvitationService:
    return InvitationService(invites_of(broker), broker.peers, "b.test:7444")


async def calls(broker: Broker, directory: DirectoryService, access: LogService, call: Any) -> list[BaseException]:
    """What every method of the contract raises for a call."""
    methods = [
        *RelayService(broker.relay, broker.peers).handlers().values(),
        *directory.handlers().values(),
        *access.handlers().values(),
        *invitations(broker).handlers().values(),
        GatewayService(broker.gateway, broker.peers).attach,
    ]
    raised = await asyncio.gather(*(method(b"", call) for method in methods), return_exceptions=True)
    assert len(raised) == 15
    return [error for error in raised if isinstance(error, BaseException)]


async def test_a_certificate_dies_with_the_key_that_it_came_with(
    broker: Broker, directory: DirectoryService, access: LogService, world: World
) -> None:
    key = key_id(world.keys[APPLICATIONS].public_key)
    assert call_of(APPLICATIONS).auth_context() == call_of(APPLICATIONS, key=key).auth_context()
    assert broker.peers.identify(call_of(APPLICATIONS)) == APPLICATIONS
    world.revoke(key, APPLICATIONS)
    await broker.publish()
    errors = await calls(broker, directory, access, call_of(APPLICATIONS))
    assert [str(error) for error in errors] == ["the key that this certificate came with is revoked"] * 15
    assert broker.size == 0


async def test_a_certificate_without_a_key_lets_nobody_in(
    broker: Broker, directory: DirectoryService, access: LogService
) -> None:
    call = call_of(APPLICATIONS)
    del call.auth_context()["x509_pem_cert"]
    errors = await calls(broker, directory, access, call)
    assert {type(error) for error in errors} == {PeerError}
    assert len(errors) == 15


async def test_a_certificate_names_a_key_of_its_own_party(broker: Broker, world: World) -> None:
    with pytest.raises(NotPermittedError, match="not of"):
        broker.peers.identify(call_of(APPLICATIONS, key=key_id(world.keys[REGISTRY].public_key)))


async def test_reading_and_appending_take_tokens(world: World) -> None:
    broker = Broker(world, burst=2)
    access = log_service(broker)
    for _ in range(2):
        await access.read(encode(ReadRequest(start=0)), call_of(APPLICATIONS))
    with pytest.raises(TooManyReadsError):
        await access.read(encode(ReadRequest(start=0)), call_of(APPLICATIONS))
    # Every party has a bucket of its own, and it fills again.
    await access.read(encode(ReadRequest(start=0)), call_of(REGISTRY))
    world.now += 1000
    await access.read(encode(ReadRequest(start=0)), call_of(APPLICATIONS))
    await broker.close()


async def test_an_open_tunnel_ends_when_its_certificate_dies(broker: Broker, world: World) -> None:
    waiting: asyncio.Queue[bytes] = asyncio.Queue()
    written: list[bytes] = []

    async def requests() -> AsyncIterator[bytes]:
        while True:
            yield await waiting.get()

    async def write(data: bytes) -> None:
        written.append(data)

    call = call_of(REGISTRY)
    call.write = write
    attached = asyncio.create_task(GatewayService(broker.gateway, broker.peers).attach(requests(), call))
    world.register("tax.audit")
    await broker.publish()
    assert not attached.done()
    world.revoke(key_id(world.keys[REGISTRY].public_key), REGISTRY)
    await broker.publish()
    with pytest.raises(NotPermittedError, match="revoked"):
        async with asyncio.timeout(5):
            await attached
    assert list(broker.tunnels) == []
    assert written
