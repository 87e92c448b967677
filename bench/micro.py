"""What the parts cost alone, in this process: signatures, decisions, seals, trees and commits."""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.channels import Channels
from adapters.ledger import Ledger, LedgerAnswer, LedgerHead
from exchange.broker.logs import AccessRecord, access_entry
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.decision import Allow, decide, read_request
from exchange.core.envelope import REQUEST, Draft, Envelope, sign_batch, verify_signature
from exchange.core.keys import is_signed, key_id, sealing_private_key, sealing_public_bytes
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.note import NoteSigner
from exchange.core.sealing import (
    CHANNEL,
    NONCE,
    TO_PROVIDER,
    capsule_info,
    message_key,
    open_body,
    open_capsule,
    seal_body,
    seal_capsule,
)
from exchange.core.wire import FORMAT, encode
from exchange.store.ports import Batch, Head, Log
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import AccessKind, Code
from exchange.v1.ledger_pb2 import LedgerRow
from tests.databases import server
from tests.world import APPLICATIONS, ID_NUMBER, ORIGIN, REGISTRY, World

MANY = 64
BODY = 600
_LEAST_CALLS = 5
_SLICE = 0.002

Timed = tuple[str, int, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One part's cost.

    Args:
        name: what was done; messages: how many it serves.
        median_us, least_us: of one call, µs.
    """

    name: str
    messages: int
    median_us: float
    least_us: float


def measure(folder: Path, seconds: float) -> Iterator[Figure]:
    """Every figure, one after the other.

    Args:
        folder: an empty one, on the disk whose commits are to be measured.
        seconds: for each.
    """
    world = World.standard()
    for parts in (_signing(world), _deciding(world), _sealing(world), _growing()):
        for name, messages, call in parts:
            yield _timed(name, messages, call, seconds)
    for size in (1, MANY):
        yield _ledger_commit(world, folder / f"ledger-{size}.db", size, seconds)
        yield _log_commit(world, folder / f"log-{size}.db", f"commit {size} to the log store", size, seconds)
    with server(folder / "postgres") as running:
        for size in (1, MANY):
            name = f"commit {size} to the log store in PostgreSQL"
            yield _log_commit(world, running.new_database(), name, size, seconds)


def _timed(name: str, messages: int, call: Callable[[], object], seconds: float) -> Figure:
    """Calls in a row, so that reading the clock does not count, for some seconds."""
    call()
    began = time.perf_counter()
    call()
    row = max(1, int(_SLICE / max(time.perf_counter() - began, 1e-9)))
    costs: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(costs) < _LEAST_CALLS:
        began = time.perf_counter()
        for _ in range(row):
            call()
        costs.append((time.perf_counter() - began) / row)
    return _figure(name, messages, costs)


def _figure(name: str, messages: int, costs: list[float]) -> Figure:
    return Figure(name, messages, statistics.median(costs) * 1e6, min(costs) * 1e6)


# --- without a disk -----------------------------------------------------------------------------------


def _signing(world: World) -> Iterator[Timed]:
    signer = world.keys[APPLICATIONS]

    def verify(envelopes: tuple[Envelope, ...]) -> None:
        # It remembers signatures, also between the messages of one batch: only the latter may help here.
        is_signed.cache_clear()
        for envelope in envelopes:
            verify_signature(envelope, ORIGIN, signer.public_key)

    for size in (1, MANY):
        drafts = [Draft(REQUEST, secrets.token_bytes(BODY)) for _ in range(size)]
        yield f"sign a batch of {size}", size, partial(sign_batch, signer, ORIGIN, drafts)
        yield f"verify a batch of {size}", size, partial(verify, sign_batch(signer, ORIGIN, drafts))


def _deciding(world: World) -> Iterator[Timed]:
    request = world.request()

    def judge() -> None:
        assert isinstance(decide(world.directory, request, world.now, taken=world.taken, used=world.used), Allow)

    yield "decide, signature known", 1, judge


def _sealing(world: World) -> Iterator[Timed]:
    private = world.sealing[REGISTRY]
    public, key = sealing_public_bytes(private), sealing_private_key(private)
    requester_key = key_id(world.keys[APPLICATIONS].public_key)
    info = capsule_info(ORIGIN, str(APPLICATIONS), requester_key, str(REGISTRY), world.sealing_key())
    channel = secrets.token_bytes(CHANNEL)
    capsule, channels = seal_capsule(channel, public, info), Channels()
    yield "seal a capsule", 1, partial(seal_capsule, channel, public, info)
    yield "open a capsule", 1, partial(open_capsule, capsule, key, info)
    yield "open a capsule, cached", 1, partial(channels.open, capsule, key, info, world.now)
    header, nonce, body = encode(world.header()), secrets.token_bytes(NONCE), secrets.token_bytes(BODY)
    message = message_key(channel, TO_PROVIDER, header)
    yield "derive a message key", 1, partial(message_key, channel, TO_PROVIDER, header)
    yield f"seal a body of {BODY} B", 1, partial(seal_body, message, nonce, body)
    yield f"open a body of {BODY} B", 1, partial(open_body, message, seal_body(message, nonce, body))


def _growing() -> Iterator[Timed]:
    hashes = [secrets.token_bytes(32) for _ in range(MANY)]
    grown, _ = Frontier().extend([secrets.token_bytes(32) for _ in range(1_000)])
    yield f"extend a Merkle tree by {MANY}", MANY, lambda: grown.extend(hashes)


# --- with a disk --------------------------------------------------------------------------------------


def _ledger_commit(world: World, path: Path, size: int, seconds: float) -> Figure:
    with closing(Ledger.open(path)) as ledger:

        def commit() -> float:
            answers, head = [], ledger.head
            for _ in range(size):
                answers.append(_answer(world, head))
                head = head.after(answers[-1].row)
            began = time.perf_counter()
            ledger.commit(answers)
            return time.perf_counter() - began

        return _figure(f"commit {size} to the ledger", size, _repeated(commit, seconds))


def _answer(world: World, head: LedgerHead) -> LedgerAnswer:
    request = world.request()
    response = world.respond(request, ledger_number=head.number + 1, ledger_previous=head.chain)
    row = LedgerRow(
        format=FORMAT,
        number=head.number + 1,
        time=world.now,
        requester=str(APPLICATIONS),
        request_id=read_request(request).request_id,
        request_digest=request.digest,
        response_digest=response.digest,
        query=secrets.token_bytes(32),
        asked=(ID_NUMBER,),
        told=(ID_NUMBER,),
        rows=1,
    )
    return LedgerAnswer(
        row=encode(row),
        request=request.bare().encode(),
        response=response.bare().encode(),
        sealed=response.encode(),
        erase_after=world.now,
    )


def _log_commit(world: World, store_name: Path | str, name: str, size: int, seconds: float) -> Figure:
    signer = NoteSigner(f"{ORIGIN}/access", Ed25519PrivateKey.generate())
    frontier = Frontier()
    with closing(SqlLogStore.create(store_name)) as store:

        def commit() -> float:
            nonlocal frontier
            batch, frontier = _batch(world, signer, frontier, size)
            began = time.perf_counter()
            with store.locked() as transaction:
                transaction.append(batch)
            return time.perf_counter() - began

        return _figure(name, size, _repeated(commit, seconds))


def _batch(world: World, signer: NoteSigner, frontier: Frontier, size: int) -> tuple[Batch, Frontier]:
    entries = tuple(access_entry(_record(world), world.now, world.directory.size) for _ in range(size))
    grown, nodes = frontier.extend([leaf_hash(entry.leaf) for entry in entries])
    checkpoint = sign_checkpoint(Checkpoint(signer.name, grown.size, grown.root()), signer)
    return Batch(Log.ACCESS, frontier.size, entries, nodes, Head(Log.ACCESS, grown.size, checkpoint, world.now)), grown


def _record(world: World) -> AccessRecord:
    request = world.request()
    return AccessRecord(
        AccessKind.ACCESS_KIND_RELEASED,
        Code.CODE_UNSPECIFIED,
        str(APPLICATIONS),
        str(REGISTRY),
        read_request(request).request_id,
        request.digest,
        request,
        world.respond(request),
    )


def _repeated(commit: Callable[[], float], seconds: float) -> list[float]:
    """Commits until their own time makes up the seconds; what is written has to be made anew each time."""
    costs: list[float] = []
    end = time.perf_counter() + 2 * seconds
    while len(costs) < _LEAST_CALLS or (sum(costs) < seconds and time.perf_counter() < end):
        costs.append(commit())
    return costs
