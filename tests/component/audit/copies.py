"""Copies of two logs as an auditor meets them: fed to the verification, behind a transport, in a broker's database."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from exchange.cli.audit.checking.findings import Finding, Level
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, WholeTree
from exchange.cli.audit.checking.verification import LoggedEntry, Verification
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.fetch import fetch_access_log
from exchange.client.session import Session
from exchange.core.access import access_body, read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.policy import Policy
from exchange.core.trust import encode_trust
from exchange.core.wire import decode, encode
from exchange.home import Home
from exchange.store.ports import AccessIndex, Batch, Head, Log, NewEntry
from exchange.store.sql import SqlLogStore
from exchange.transport import ACCESS_SEARCH, ACCESS_SYNC
from exchange.v1.access_pb2 import AccessKind, AccessLeaf, Code
from exchange.v1.directory_pb2 import DirectoryLeaf
from exchange.v1.log_pb2 import (
    FoundEntry,
    LogServiceSyncRequest,
    LogServiceSyncResponse,
    Record,
    SearchRequest,
    SearchResponse,
)
from tests.memory import MemoryLog
from tests.simulator import Simulator, lost_connection, refused, trust_of
from tests.world import AUDITOR, World

DENY = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "the agreement does not grant the field birth_date")


def busy_world() -> World:
    """Three releases, one of them of an answer that was withheld first, one refusal, and a directory that moved."""
    world = World.standard()
    ask(world)
    world.now += 1000
    world.refuse(world.request(fields=["birth_date"]), DENY)
    world.now += 1000
    late = world.request(officer="officer-8", case_id="ZF-2027-0002")
    answer = world.respond(late)
    world.withhold(late, answer)
    world.register("tax.assessment")
    world.now += 1000
    world.release(late, answer)
    ask(world)
    return world


def ask(world: World, **header: object) -> tuple[Envelope, Envelope]:
    """One request, its answer, and their release."""
    request = world.request(**header)
    response = world.respond(request)
    world.release(request, response)
    return request, response


def log_released(world: World, request: Envelope, response: Envelope, **changes: object) -> int:
    """A released entry, right but for the changes of its leaf."""
    world.release(request, response)
    leaf = read_access_leaf(world.access_log.leaves.pop())
    body = world.access_log.bodies.pop()
    for name, value in changes.items():
        setattr(leaf, name, value)
    whole = rebuilt(world.access_log)
    world.access_log = whole
    return whole.append(encode(leaf), body)


def log_entry(world: World, kind: AccessKind.ValueType, code: Code.ValueType, **parts: object) -> int:
    """An entry of any kind: envelopes as `request`, `response`, `refusal`; the rest are fields of its leaf."""
    envelopes = {name: parts.pop(name, None) for name in ("request", "response", "refusal")}
    fields: dict[str, object] = {
        "format": 1,
        "time": world.now,
        "kind": kind,
        "code": code,
        "directory_size": world.directory.size,
    }
    for name, envelope in envelopes.items():
        fields[f"{name}_digest"] = envelope.digest if isinstance(envelope, Envelope) else b""
    leaf = AccessLeaf(**(fields | parts))  # type: ignore[arg-type]
    return world.access_log.append(encode(leaf), access_body(**envelopes))  # type: ignore[arg-type]


def rebuilt(log: MemoryLog, leaves: Sequence[bytes] | None = None, bodies: Sequence[bytes] | None = None) -> MemoryLog:
    """A log of the same key with other entries: what whoever stole the key would make."""
    twin = MemoryLog(log.signer.name)
    entries = zip(log.leaves if leaves is None else leaves, log.bodies if bodies is None else bodies, strict=True)
    for leaf, body in entries:
        twin.append(leaf, body)
    return twin


def checkpoint_of(log: MemoryLog, size: int | None = None) -> Checkpoint:
    """A log's signed checkpoint, opened."""
    return open_checkpoint(log.checkpoint(size), log.signer.verifier)


def rows_of(log: MemoryLog) -> list[LoggedEntry]:
    """A log's entries."""
    return [
        LoggedEntry(index, leaf, body) for index, (leaf, body) in enumerate(zip(log.leaves, log.bodies, strict=True))
    ]


def findings_of(
    world: World,
    access: Sequence[LoggedEntry] | None = None,
    directory: Sequence[LoggedEntry] | None = None,
    checkpoint: Checkpoint | None = None,
    seen: Sequence[Checkpoint] = (),
) -> list[Finding]:
    """What verification finds in a world's logs, or in others against its checkpoints."""
    logs = world.directory_log, world.access_log
    trees = (
        WholeTree(Expected(logs[0].signer.name, checkpoint_of(logs[0]))),
        WholeTree(Expected(logs[1].signer.name, checkpoint or checkpoint_of(logs[1]), seen)),
    )
    with Remembered() as remembered:
        verification = Verification(trust_of(world), *trees, remembered, from_start=True)
        walked = verification.walk(
            rows_of(logs[0]) if directory is None else directory, rows_of(logs[1]) if access is None else access
        )
        return [*walked, *verification.finish()]


def failures(findings: Sequence[Finding]) -> list[str]:
    """What is worse than a warning, as it is printed."""
    return [str(finding) for finding in findings if finding.level != Level.WARNING]


def warnings(findings: Sequence[Finding]) -> list[str]:
    """The warnings."""
    return [finding.text for finding in findings if finding.level == Level.WARNING]


class AuditedExchange(Simulator):
    """The simulated exchange with the access log's pages; `access_record` misbehaves with them."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.access_record: Callable[[Record], Record] = lambda record: record
        self.page = 3
        self.ignores_conditions = False
        self.search_response: Callable[[SearchResponse], SearchResponse] = lambda response: response

    async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
        if method not in (ACCESS_SYNC, ACCESS_SEARCH):
            return await super().unary(method, request, timeout)
        self.calls.append((method, request))
        if self.down:
            self.down -= 1
            raise lost_connection()
        if method == ACCESS_SEARCH:
            return encode(self.search_response(self._search(decode(SearchRequest, request))))
        return encode(self._access_page(decode(LogServiceSyncRequest, request).start))

    def _search(self, asked: SearchRequest) -> SearchResponse:
        log = self.access_log or self.world.access_log
        stop = min(asked.start + self.page, log.size)
        fitting = [
            index
            for index in range(asked.start, stop)
            if self.ignores_conditions or _fits(read_access_leaf(log.leaves[index]), asked)
        ]
        fitting = fitting[: asked.limit or None]
        entries = [
            FoundEntry(
                record=Record(index=index, leaf=log.leaves[index], body=log.bodies[index]),
                path=log.receipt(index).path,
            )
            for index in fitting
        ]
        following = fitting[-1] + 1 if fitting else stop
        return SearchResponse(entries=entries, next=following, checkpoint=log.checkpoint())

    def _access_page(self, start: int) -> LogServiceSyncResponse:
        log = self.access_log or self.world.access_log
        if start > log.size:
            raise refused("MALFORMED", f"the log has {log.size} entries, and none from {start} on", None)
        records = [
            self.access_record(Record(index=index, leaf=log.leaves[index], body=log.bodies[index]))
            for index in range(start, min(start + self.page, log.size))
        ]
        return LogServiceSyncResponse(records=records, checkpoint=log.checkpoint(), cosigned=self.cosigned("access"))


def _fits(leaf: AccessLeaf, asked: SearchRequest) -> bool:
    exact = (leaf.kind, asked.kind), (leaf.code, asked.code), (leaf.request_id, asked.request_id)
    parties = (leaf.requester, asked.requester), (leaf.provider, asked.provider)
    return (
        all(not wanted or found == wanted for found, wanted in exact)
        and all(not wanted or f"{found}/".startswith(f"{wanted}/") for found, wanted in parties)
        and asked.since <= leaf.time <= (asked.until or leaf.time)
    )


def audit_home(path: Path, world: World, policy: Policy | None = None) -> Home:
    """The auditor's home, with nothing mirrored."""
    home = Home.create(path, AUDITOR, "auditor")
    home.write("trust.toml", encode_trust(trust_of(world, policy)).encode())
    return home


async def mirror(home: Home, exchange: AuditedExchange) -> None:
    """What `exchange-audit sync` does, but for its printing."""
    async with Session(home, exchange, exchange.clock) as session:
        with AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True) as file:
            await session.sync()
            await fetch_access_log(session, file, lambda _done, _total: None)


def write_database(path: Path, world: World) -> Path:
    """A broker's database, written by the broker's own store."""
    store = SqlLogStore.create(path)
    with store.locked() as transaction:
        for batch in _batches(world):
            transaction.append(batch)
    store.close()
    return path


def _batches(world: World) -> Iterator[Batch]:
    for log, memory in ((Log.DIRECTORY, world.directory_log), (Log.ACCESS, world.access_log)):
        _, nodes = Frontier().extend([leaf_hash(leaf) for leaf in memory.leaves])
        entries = tuple(_new_entry(log, leaf, body) for leaf, body in zip(memory.leaves, memory.bodies, strict=True))
        last = decode(DirectoryLeaf if log is Log.DIRECTORY else AccessLeaf, memory.leaves[-1]).time
        yield Batch(log, 0, entries, nodes, Head(log, memory.size, memory.checkpoint(), last))


def _new_entry(log: Log, leaf: bytes, body: bytes) -> NewEntry:
    if log is Log.DIRECTORY:
        return NewEntry(leaf, body, None)
    said = decode(AccessLeaf, leaf)
    names = ("time", "kind", "code", "requester", "provider", "request_id", "request_digest", "response_digest")
    return NewEntry(leaf, body, AccessIndex(**{name: getattr(said, name) for name in names}))


def changed(entry: LoggedEntry, **changes: object) -> LoggedEntry:
    """The same entry with its leaf's fields, or `body` and `index`, changed."""
    leaf = read_access_leaf(entry.leaf)
    outside = {name: changes.pop(name) for name in ("body", "index") if name in changes}
    for name, value in changes.items():
        setattr(leaf, name, value)
    return replace(entry, leaf=encode(leaf), **outside)  # type: ignore[arg-type]
