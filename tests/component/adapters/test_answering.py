"""Check 10: the adapter decides for itself, tells nobody anything twice, and obeys its owner at once.

`Provider` is the registry's side of a world: its open home over the simulator, a ledger, orders, and a fake source.
The other tests of the adapter host use it too.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from adapters.answering import MAX_ANSWER, Answerer, DenyError
from adapters.committing import Committer
from adapters.connectors import ConnectorError, Question, QuestionError, Rows
from adapters.ledger import Ledger
from adapters.orders import Orders
from exchange.client import sqlite_file
from exchange.client.errors import BrokenLogError
from exchange.client.session import Session
from exchange.core import sealing
from exchange.core.access import read_refusal
from exchange.core.decision import LIFETIME, SKEW, Allow, Deny, decide, read_request
from exchange.core.enforcement import TERMS
from exchange.core.entries import revocation_entry
from exchange.core.envelope import Draft, Envelope, decode_envelope, verify_signature
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.policy import MAX_AGE, Policy
from exchange.core.response import check_response
from exchange.core.terms import DatasetTerms
from exchange.core.wire import decode, encode
from exchange.home import Home, write_file
from exchange.transport import DIRECTORY_SYNC
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import Role
from exchange.v1.guardrail_pb2 import Officer
from exchange.v1.request_pb2 import (
    Comparator,
    Comparison,
    Filter,
    Lookup,
    Query,
    ResponseHeader,
    Sealed,
    Selection,
    Value,
)
from exchange.v1.terms_pb2 import Limits
from tests.memory import MemoryLog, signer
from tests.simulator import COSIGNERS, POLICY, Simulator, make_home
from tests.world import (
    APPLICATIONS,
    COORDINATOR,
    DAY,
    HOUSING,
    ID_NUMBER,
    LOOKUP,
    MARRIAGE,
    MINUTE,
    ORIGIN,
    POPULATION,
    QUERY,
    REGISTRY,
    World,
    lookup,
)

ROW = {"id_number": ID_NUMBER, "name": "王芳"}
OTHER_PURPOSE = "tax.audit"
SECRET = "password=swordfish at 10.0.0.7"


class FakeSources:
    """The department's data: one row, unless told otherwise; it waits while its gate is shut."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.rows: Sequence[dict[str, Any]] = (ROW,)
        self.error: Exception | None = None
        self.enforced = TERMS
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    def row_limit(self, code: str) -> int:
        return 100

    def enforces(self, code: str) -> frozenset[str]:
        return self.enforced

    async def answer(self, dataset: DatasetTerms, question: Question) -> Rows:
        self.questions.append(question)
        self.asked.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return Rows(tuple(self.rows), tuple(str(row.get("id_number", "")) for row in self.rows), False)


class Provider:
    """The registry's adapter without its tunnels."""

    def __init__(self, simulator: Simulator, session: Session, ledger: Ledger, orders: Orders) -> None:
        self.simulator = simulator
        self.world = simulator.world
        self.session = session
        self.ledger = ledger
        self.orders = orders
        self.sources = FakeSources()
        self.committer = Committer(session, ledger, simulator.clock)
        self.answerer = Answerer(
            session,
            self.sources,
            ledger,
            self.committer,
            orders,
            simulator.clock,  # type: ignore[arg-type]
        )

    async def answer(self, request: Envelope | bytes) -> Envelope:
        frame = request if isinstance(request, bytes) else request.encode()
        _, response = await self.answerer.answer(frame)
        return decode_envelope(response)

    async def denied(self, request: Envelope | bytes) -> Deny:
        """Why a request that must not be answered is refused."""
        try:
            await self.answer(request)
        except DenyError as error:
            return error.deny
        raise AssertionError("it was answered")

    def rows(self, request: Envelope, response: Envelope) -> Any:
        """What the requester reads."""
        return json.loads(self.world.answer(request, response).rows)


@asynccontextmanager
async def provider_at(path: Path, world: World | None = None, policy: Policy | None = None) -> AsyncIterator[Provider]:
    """The registry's adapter in a folder of its own, with its mirror up to date; a policy needs a world."""
    simulator = Simulator(world or granting_world())
    simulator.cosigners = COSIGNERS
    home = await _standard_home(path, simulator) if world is None else _make_home(path, simulator.world, policy)
    ledger, orders = Ledger.open(path / "ledger.db"), Orders.open(path / "orders.db")
    try:
        async with Session(home, simulator, simulator.clock) as session:
            if world is not None:
                await session.sync()
            provider = Provider(simulator, session, ledger, orders)
            yield provider
            provider.sources.gate.set()
            await provider.committer.close()
    finally:
        orders.close()
        ledger.close()


def _make_home(path: Path, world: World, policy: Policy | None = None) -> Home:
    home = make_home(path / "home", world, REGISTRY, policy)
    write_file(home.keys / f"sealing-{world.sealing_key().hex()}.key", world.sealing[REGISTRY], 0o600)
    return home


async def _standard_home(path: Path, simulator: Simulator) -> Home:
    """The home over `granting_world`, which is made once: all its files, with a mirror that is up to date."""
    if not _STANDARD:
        home = _make_home(path, simulator.world)
        async with Session(home, simulator, simulator.clock) as session:
            await session.sync()
        _STANDARD.update(_files(path))
        simulator.calls.clear()
        return home
    for name, data in _STANDARD.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o600)
    return Home(path / "home")


def _files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


_STANDARD: dict[str, bytes] = {}


def granting_world() -> World:
    """A lookup is granted; a query and another purpose are offered, but not granted."""
    return _granting_world().copy()


@cache
def _granting_world() -> World:
    world = World.standard()
    world.register(OTHER_PURPOSE)
    world.grant(world.apply_for(world.dataset), operations=[LOOKUP])
    return world


class Unsynced(sqlite3.Connection):
    """A connection that never waits for the disk."""

    def __init__(self, *place: Any, **settings: Any) -> None:
        super().__init__(*place, **settings)
        self.execute("PRAGMA synchronous = OFF")

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return super().execute("PRAGMA synchronous = OFF" if "PRAGMA synchronous" in sql else sql, *values)


def wait_for_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability has tests of its own; these need not wait for it."""
    monkeypatch.setattr(sqlite_file, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Unsynced))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path) as provider:
        yield provider


@pytest.fixture
def world(provider: Provider) -> World:
    return provider.world


def alter(request: Envelope, **changes: Any) -> Envelope:
    return replace(request, **changes)


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_signed_sealed_and_in_the_ledger(provider: Provider, world: World) -> None:
    request = world.request()
    response = await provider.answer(request)
    allow = decide(world.directory, request, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allow, Allow)
    header = check_response(world.directory, allow, response, world.now)
    assert isinstance(header, ResponseHeader)
    assert (header.ledger_number, header.ledger_previous, header.answered_at) == (1, bytes(32), world.now)
    answer = world.answer(request, response)
    assert header.rows_sha256 == hashlib.sha256(answer.salt + answer.rows).digest()
    assert provider.rows(request, response) == [ROW]
    provider.ledger.verify()
    [told] = provider.ledger.told(ID_NUMBER)
    assert (told.requester, told.asked, told.told, told.rows) == (str(APPLICATIONS), True, True, 1)


async def test_the_source_is_asked_just_what_was_granted_and_asked(provider: Provider, world: World) -> None:
    await provider.answer(world.request(lookup(ID_NUMBER, "2"), fields=["name"]))
    [question] = provider.sources.questions
    assert question == Question("residents", ("name",), tuple(lookup(ID_NUMBER, "2").lookup.keys), None, None, 100)


async def test_nothing_found_is_an_answer_too(provider: Provider, world: World) -> None:
    provider.sources.rows = ()
    request = world.request()
    assert provider.rows(request, await provider.answer(request)) == []
    [told] = provider.ledger.told(ID_NUMBER)
    assert (told.asked, told.told, told.rows) == (True, False, 0)


async def test_each_answer_has_a_salt_and_a_nonce_of_its_own(provider: Provider, world: World) -> None:
    requests = [world.request() for _ in range(3)]
    responses = [await provider.answer(request) for request in requests]
    assert len({world.answer(*pair).salt for pair in zip(requests, responses, strict=True)}) == 3
    assert len({response.attachments[0] for response in responses}) == 3


def above(area: str) -> Filter:
    value = Value(decimal=area)
    return Filter(comparison=Comparison(field="area_m2", comparator=Comparator.COMPARATOR_GREATER, value=value))


async def test_the_agreements_row_filter_goes_beside_the_requesters_own(tmp_path: Path) -> None:
    """DESIGN section 6: both hold, and it is the adapter that adds the agreement's."""
    world = World.standard()
    world.grant(world.apply_for(world.dataset), row_filter=above("50"))
    async with provider_at(tmp_path, world) as provider:
        await provider.answer(world.request())
        query = Query(format=1, selection=Selection(filter=above("90"), limit=7))
        await provider.answer(world.request(query, operation=QUERY))
    first, second = provider.sources.questions
    assert (first.filter, first.row_filter) == (None, above("50"))
    assert (second.filter, second.row_filter, second.keys) == (above("90"), above("50"), None)
    assert second.limit == 7


@pytest.mark.parametrize(("asked", "limit"), [(0, 100), (7, 7), (100, 100), (101, 100), (2**32 - 1, 100)])
async def test_a_requester_may_ask_for_fewer_rows_never_for_more(tmp_path: Path, asked: int, limit: int) -> None:
    async with provider_at(tmp_path, World.standard()) as provider:
        query = Query(format=1, selection=Selection(limit=asked))
        await provider.answer(provider.world.request(query, operation=QUERY))
    assert provider.sources.questions[0].limit == limit


async def test_what_the_ledger_has_is_counted_against_the_agreements_limits(tmp_path: Path) -> None:
    limited = granting_world()
    limited.grant(limited.apply_for(limited.dataset), operations=[LOOKUP], limits=Limits(in_total=2))
    async with provider_at(tmp_path, limited) as provider:
        first = limited.request()
        answer = await provider.answer(first)
        await provider.answer(limited.request())
        assert (await provider.denied(limited.request())).code == Code.CODE_QUOTA_EXHAUSTED
        # What was counted is not counted again.
        assert await provider.answer(first) == answer


async def test_what_the_directory_gained_since_is_fetched_before_deciding(provider: Provider, world: World) -> None:
    world.grant(world.apply_for(world.dataset))
    request = world.request()
    await provider.answer(request)
    assert provider.session.directory.size == world.directory.size


async def test_a_key_newer_than_the_mirror_is_fetched(provider: Provider, world: World) -> None:
    world.admit(APPLICATIONS, Role.ROLE_SYSTEM, signer("a newer key"))
    request = world.request(directory_size=1)
    await provider.answer(request)


# --- the checks, each by itself -----------------------------------------------------------------------


@dataclass
class Case:
    """One request before it is sent."""

    provider: Provider
    header: dict[str, Any]
    query: Query | None = None
    party: Party = APPLICATIONS
    alter: Callable[[Envelope], bytes] = Envelope.encode

    @property
    def world(self) -> World:
        return self.provider.world

    def request(self) -> Envelope:
        return self.world.request(self.query, self.party, **self.header)

    async def synced(self) -> None:
        await self.provider.session.sync()


Fault = Callable[[Case], Awaitable[None]]


async def frame_cut(case: Case) -> None:
    case.alter = lambda request: request.encode()[:-1]


async def another_kind(case: Case) -> None:
    case.alter = lambda request: alter(request, kind="exchange.v1/response").encode()


async def frame_too_long(case: Case) -> None:
    case.alter = lambda request: alter(request, attachments=(bytes(1024 * 1024),)).encode()


async def without_attachments(case: Case) -> None:
    case.alter = lambda request: request.bare().encode()


async def ciphertext_altered(case: Case) -> None:
    case.alter = lambda request: alter(request, attachments=(request.attachments[0], b"x" * 60)).encode()


async def case_id_missing(case: Case) -> None:
    case.header["case_id"] = ""


async def in_anothers_name(case: Case) -> None:
    case.header["requester"] = str(MARRIAGE)


async def signature_broken(case: Case) -> None:
    before = case.alter
    case.alter = lambda request: before(alter(request, signature=case.world.request().signature))


async def key_unknown(case: Case) -> None:
    case.alter = lambda request: alter(request, key_id=bytes(32)).encode()


async def key_revoked(case: Case) -> None:
    case.world.revoke(key_id(case.world.keys[APPLICATIONS].public_key), APPLICATIONS)


async def expired(case: Case) -> None:
    case.header |= {"issued_at": case.world.now - LIFETIME - SKEW, "expires_at": case.world.now - SKEW - 1}


async def issued_in_the_future(case: Case) -> None:
    case.header |= {"issued_at": case.world.now + SKEW + 1, "expires_at": case.world.now + SKEW + 2}


async def valid_for_too_long(case: Case) -> None:
    case.header["expires_at"] = case.world.now + LIFETIME + 1


async def replayed(case: Case) -> None:
    first = case.world.request(case_id="FIRST")
    await case.provider.answer(first)
    case.header["request_id"] = read_request(first).request_id


async def agreement_unknown(case: Case) -> None:
    case.header["agreement"] = bytes(32)


async def agreement_of_another(case: Case) -> None:
    case.header["agreement"] = case.world.grant(case.world.apply_for(case.world.dataset, MARRIAGE)).digest


async def agreement_for_another_dataset(case: Case) -> None:
    other = case.world.publish("vehicles", key="id_number")
    case.header["agreement"] = case.world.grant(case.world.apply_for(other)).digest


async def dataset_of_another_system(case: Case) -> None:
    """The department has moved the dataset to another of its systems."""
    world, archive = case.world, Party(ORIGIN, "population", "archive")
    world.admit(archive, Role.ROLE_SYSTEM)
    other = world.publish("archived", system=archive)
    case.header |= {"dataset": other.object_id, "agreement": world.grant(world.apply_for(other)).digest}


async def agreement_revoked(case: Case) -> None:
    case.header["agreement"] = case.header.get("agreement") or case.world.agreement.digest
    case.world.revoke(case.header["agreement"], POPULATION)


async def agreement_over(case: Case) -> None:
    agreement = case.world.grant(case.world.apply_for(case.world.dataset), not_after=case.world.now + MINUTE)
    case.header["agreement"] = agreement.digest
    case.world.now += MINUTE + 1
    case.header |= {"issued_at": case.world.now, "expires_at": case.world.now + MINUTE}


async def operation_not_granted(case: Case) -> None:
    case.header["operation"] = QUERY


async def field_not_granted(case: Case) -> None:
    case.header["fields"] = ["name", "birth_date"]


async def purpose_not_granted(case: Case) -> None:
    case.header["purpose"] = OTHER_PURPOSE


async def revoked_by_its_owner(case: Case) -> None:
    case.provider.orders.revoke(case.world.agreement.digest, b"envelope", "misuse", case.world.now)


async def stopped_by_its_owner(case: Case) -> None:
    case.provider.orders.stop("residents", "maintenance", case.world.now)


async def sealing_key_unknown(case: Case) -> None:
    case.header["sealing_key"] = bytes(32)


async def sealing_key_of_another(case: Case) -> None:
    case.header["sealing_key"] = case.world.sealing_key(MARRIAGE)


async def sealing_key_that_signs(case: Case) -> None:
    case.header["sealing_key"] = key_id(case.world.keys[REGISTRY].public_key)


async def sealing_key_revoked(case: Case) -> None:
    case.world.revoke(case.world.sealing_key(), REGISTRY)


async def sealing_key_destroyed(case: Case) -> None:
    case.provider.session.home.destroy_sealing_key(case.world.sealing_key())
    case.provider.answerer.reload_keys()


async def directory_from_the_future(case: Case) -> None:
    case.header["directory_size"] = case.world.directory.size + 1


async def directory_out_of_reach(case: Case) -> None:
    case.world.register("tax.refund")
    case.provider.simulator.down = 100


def sealed_again(case: Case, body: bytes) -> None:
    """The same request with another body under the right seal."""

    def again(request: Envelope) -> bytes:
        world, header = case.world, decode(Sealed, request.payload).header
        key = sealing.message_key(world.channel(str(APPLICATIONS)), sealing.TO_PROVIDER, header)
        ciphertext = sealing.seal_body(key, world.fresh(sealing.NONCE), body)
        return signed_with(case, request, header, (request.attachments[0], ciphertext)).encode()

    case.alter = again


def signed_with(case: Case, request: Envelope, header: bytes, attachments: tuple[bytes, bytes]) -> Envelope:
    capsule, ciphertext = (hashlib.sha256(data).digest() for data in attachments)
    payload = encode(Sealed(header=header, capsule_sha256=capsule, ciphertext_sha256=ciphertext))
    return case.world.sign(Draft(request.kind, payload, attachments), APPLICATIONS)


async def sealed_under_another_key(case: Case) -> None:
    other = case.world.request()

    def again(request: Envelope) -> bytes:
        header = decode(Sealed, request.payload).header
        return signed_with(case, request, header, (request.attachments[0], other.attachments[1])).encode()

    case.alter = again


async def capsule_of_another(case: Case) -> None:
    """Another requester's capsule, under one's own header; the provider has opened it before."""
    world = case.world
    agreement = world.grant(world.apply_for(world.dataset, MARRIAGE), operations=[LOOKUP])
    theirs = world.request(party=MARRIAGE, agreement=agreement.digest)
    await case.provider.answer(theirs)

    def again(request: Envelope) -> bytes:
        header = decode(Sealed, request.payload).header
        key = sealing.message_key(world.channel(str(MARRIAGE)), sealing.TO_PROVIDER, header)
        ciphertext = sealing.seal_body(key, world.fresh(sealing.NONCE), encode(lookup(ID_NUMBER)))
        return signed_with(case, request, header, (theirs.attachments[0], ciphertext)).encode()

    case.alter = again


async def no_query_at_all(case: Case) -> None:
    sealed_again(case, b"\xff\xff")


async def query_of_the_other_operation(case: Case) -> None:
    case.query = Query(format=1, selection=Selection())


async def key_of_another_type(case: Case) -> None:
    case.query = Query(format=1, lookup=Lookup(keys=[Value(integer=7)]))


async def no_keys(case: Case) -> None:
    case.query = lookup()


async def filter_by_what_is_not_filterable(case: Case) -> None:
    world = case.world
    case.header |= {"agreement": world.grant(world.apply_for(world.dataset)).digest, "operation": QUERY}
    value = Value(date="1990-03-07")
    comparison = Comparison(field="birth_date", comparator=Comparator.COMPARATOR_EQUAL, value=value)
    case.query = Query(format=1, selection=Selection(filter=Filter(comparison=comparison)))


async def source_fails(case: Case) -> None:
    case.provider.sources.error = ConnectorError("the source cannot answer now")


async def question_does_not_fit(case: Case) -> None:
    case.provider.sources.error = QuestionError(Code.CODE_FIELD_NOT_GRANTED, "the table has no such field")


async def answer_too_large(case: Case) -> None:
    case.provider.sources.rows = [{"name": "x" * MAX_ANSWER}]


FAULTS: list[tuple[Fault, int, "Code.ValueType"]] = [
    (frame_cut, 1, Code.CODE_MALFORMED),
    (another_kind, 1, Code.CODE_MALFORMED),
    (frame_too_long, 1, Code.CODE_MALFORMED),
    (without_attachments, 1, Code.CODE_MALFORMED),
    (ciphertext_altered, 1, Code.CODE_MALFORMED),
    (case_id_missing, 1, Code.CODE_MALFORMED),
    (in_anothers_name, 2, Code.CODE_IDENTITY_MISMATCH),
    (signature_broken, 3, Code.CODE_SIGNATURE_INVALID),
    (key_unknown, 3, Code.CODE_SIGNATURE_INVALID),
    (key_revoked, 3, Code.CODE_KEY_REVOKED),
    (expired, 4, Code.CODE_EXPIRED),
    (issued_in_the_future, 4, Code.CODE_EXPIRED),
    (valid_for_too_long, 4, Code.CODE_EXPIRED),
    (replayed, 4, Code.CODE_REPLAYED),
    (agreement_unknown, 5, Code.CODE_NO_AGREEMENT),
    (agreement_of_another, 5, Code.CODE_NO_AGREEMENT),
    (agreement_for_another_dataset, 5, Code.CODE_NO_AGREEMENT),
    (dataset_of_another_system, 5, Code.CODE_NO_AGREEMENT),
    (agreement_revoked, 6, Code.CODE_AGREEMENT_ENDED),
    (agreement_over, 6, Code.CODE_AGREEMENT_ENDED),
    (operation_not_granted, 6, Code.CODE_OPERATION_NOT_GRANTED),
    (field_not_granted, 6, Code.CODE_FIELD_NOT_GRANTED),
    (purpose_not_granted, 6, Code.CODE_PURPOSE_NOT_GRANTED),
    (revoked_by_its_owner, 6, Code.CODE_AGREEMENT_ENDED),
    (stopped_by_its_owner, 9, Code.CODE_PROVIDER_UNAVAILABLE),
    (sealing_key_unknown, 10, Code.CODE_STATE_STALE),
    (sealing_key_of_another, 10, Code.CODE_STATE_STALE),
    (sealing_key_that_signs, 10, Code.CODE_STATE_STALE),
    (sealing_key_revoked, 10, Code.CODE_STATE_STALE),
    (sealing_key_destroyed, 10, Code.CODE_STATE_STALE),
    (directory_from_the_future, 10, Code.CODE_STATE_STALE),
    (directory_out_of_reach, 10, Code.CODE_STATE_STALE),
    (sealed_under_another_key, 10, Code.CODE_MALFORMED),
    (capsule_of_another, 10, Code.CODE_MALFORMED),
    (no_query_at_all, 10, Code.CODE_MALFORMED),
    (query_of_the_other_operation, 10, Code.CODE_MALFORMED),
    (key_of_another_type, 10, Code.CODE_MALFORMED),
    (no_keys, 10, Code.CODE_MALFORMED),
    (filter_by_what_is_not_filterable, 10, Code.CODE_FIELD_NOT_GRANTED),
    (question_does_not_fit, 10, Code.CODE_FIELD_NOT_GRANTED),
    (source_fails, 9, Code.CODE_PROVIDER_UNAVAILABLE),
    (answer_too_large, 9, Code.CODE_PROVIDER_UNAVAILABLE),
]


@pytest.mark.parametrize(("fault", "check", "code"), FAULTS)
async def test_each_check_refuses_with_its_code_and_number(
    provider: Provider, fault: Fault, check: int, code: Code.ValueType
) -> None:
    case = Case(provider, {})
    await fault(case)
    head, asked = provider.ledger.head, len(provider.sources.questions)
    frame = case.alter(case.request())
    # A refusal is no answer: the same bytes are refused again, and the id is not used up.
    for _ in range(2):
        deny = await provider.denied(frame)
        assert (deny.check, Code.Name(deny.code)) == (check, Code.Name(code))
    assert provider.ledger.head == head
    asks = fault in {source_fails, question_does_not_fit, answer_too_large}
    assert len(provider.sources.questions) == asked + (2 if asks else 0)


PAIRS: list[tuple[Fault, Fault, "Code.ValueType"]] = [
    (frame_cut, signature_broken, Code.CODE_MALFORMED),
    (signature_broken, expired, Code.CODE_SIGNATURE_INVALID),
    (key_revoked, expired, Code.CODE_KEY_REVOKED),
    (expired, agreement_unknown, Code.CODE_EXPIRED),
    (replayed, agreement_unknown, Code.CODE_REPLAYED),
    (agreement_of_another, agreement_revoked, Code.CODE_NO_AGREEMENT),
    (agreement_revoked, operation_not_granted, Code.CODE_AGREEMENT_ENDED),
    (operation_not_granted, field_not_granted, Code.CODE_OPERATION_NOT_GRANTED),
    (field_not_granted, purpose_not_granted, Code.CODE_FIELD_NOT_GRANTED),
    (purpose_not_granted, revoked_by_its_owner, Code.CODE_PURPOSE_NOT_GRANTED),
    (revoked_by_its_owner, stopped_by_its_owner, Code.CODE_AGREEMENT_ENDED),
    (stopped_by_its_owner, sealing_key_unknown, Code.CODE_PROVIDER_UNAVAILABLE),
    (sealing_key_destroyed, no_query_at_all, Code.CODE_STATE_STALE),
    (no_keys, source_fails, Code.CODE_MALFORMED),
]


@pytest.mark.parametrize(("earlier", "later", "code"), PAIRS)
async def test_of_two_faults_the_earlier_check_speaks(
    provider: Provider, earlier: Fault, later: Fault, code: Code.ValueType
) -> None:
    case = Case(provider, {})
    await earlier(case)
    await later(case)
    deny = await provider.denied(case.alter(case.request()))
    assert Code.Name(deny.code) == Code.Name(code)


# --- what comes while the source works


@pytest.mark.parametrize("by", [POPULATION, COORDINATOR], ids=str)
@pytest.mark.parametrize("what", ["agreement", "dataset", "party", "officer"])
async def test_a_suspension_while_the_source_works_leaves_nothing_to_send(
    provider: Provider, by: Party, what: str
) -> None:
    """The adapter decides again by its own mirror before it commits: it needs no broker that means well."""
    world, head = provider.world, provider.ledger.head
    if by == POPULATION and what in {"party", "officer"}:
        by = HOUSING
    targets: dict[str, Any] = {
        "agreement": world.agreement.digest,
        "dataset": world.dataset.object_id,
        "party": str(APPLICATIONS),
        "officer": Officer(department=str(HOUSING), pseudonym="officer-7"),
    }
    provider.sources.gate.clear()
    asking = asyncio.create_task(provider.denied(world.request()))
    await provider.sources.asked.wait()
    world.suspend(by, **{what: targets[what]})
    await provider.session.sync()
    provider.sources.gate.set()
    deny = await asking
    assert (deny.check, deny.code) == (6, Code.CODE_SUSPENDED)
    assert provider.ledger.head == head


# --- freshness, where the trust file has a quorum


async def test_nothing_is_answered_on_a_directory_that_no_quorum_cosigned_lately(tmp_path: Path) -> None:
    async with provider_at(tmp_path, granting_world(), POLICY) as provider:
        world, simulator = provider.world, provider.simulator
        await provider.answer(world.request())
        simulator.cosigned_at = world.now // 1000
        world.now += (MAX_AGE + 1) * 1000
        deny = await provider.denied(world.request())
        assert (deny.check, deny.code) == (10, Code.CODE_STATE_STALE)
        refusal = read_refusal(provider.answerer.refusal(deny, bytes(32)))
        assert refusal.code == Code.CODE_STATE_STALE
        assert len(provider.sources.questions) == 1
        simulator.cosigned_at = None
        await provider.answer(world.request())


async def test_a_directory_that_grows_too_old_while_the_source_works_is_no_ground_to_answer(tmp_path: Path) -> None:
    async with provider_at(tmp_path, granting_world(), POLICY) as provider:
        provider.simulator.cosigned_at = provider.world.now // 1000
        provider.world.now += (MAX_AGE - 1) * 1000
        provider.sources.gate.clear()
        asking = asyncio.create_task(provider.denied(provider.world.request()))
        await provider.sources.asked.wait()
        provider.world.now += 2000
        provider.sources.gate.set()
        assert (await asking).code == Code.CODE_STATE_STALE


async def test_a_broker_that_does_not_say_what_witnesses_cosigned_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.answering.SYNC_SECONDS", 0.01)
    async with provider_at(tmp_path, granting_world(), POLICY) as provider:
        provider.world.now += (MAX_AGE + 1) * 1000
        provider.simulator.stalls = True
        assert (await provider.denied(provider.world.request())).code == Code.CODE_STATE_STALE
        provider.simulator.stalls = False


async def test_what_the_source_said_goes_no_further(provider: Provider, world: World) -> None:
    error = ConnectorError("the source cannot answer now")
    error.__cause__ = RuntimeError(SECRET)
    provider.sources.error = error
    deny = await provider.denied(world.request())
    refusal = provider.answerer.refusal(deny, bytes(32))
    assert SECRET.encode() not in refusal.encode()
    assert SECRET not in deny.reason


async def test_a_refusal_is_signed_by_the_system(provider: Provider, world: World) -> None:
    deny = Deny(10, Code.CODE_STATE_STALE, "stale")
    envelope = provider.answerer.refusal(deny, bytes(range(32)))
    verify_signature(envelope, ORIGIN, world.keys[REGISTRY].public_key)
    refusal = read_refusal(envelope)
    assert (refusal.code, refusal.check, refusal.refuser) == (deny.code, 10, str(REGISTRY))
    assert (refusal.request_digest, refusal.directory_size) == (bytes(range(32)), world.directory.size)


# --- a mirror that is not up to date, or not whole ----------------------------------------------------


async def test_a_mirror_that_cannot_catch_up_in_time_is_stale(
    provider: Provider, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.answering.SYNC_SECONDS", 0.01)
    world.register("tax.refund")
    request = world.request()
    forever = asyncio.Event()

    async def hang(*_: Any) -> bytes:
        await forever.wait()
        return b""

    monkeypatch.setattr(provider.simulator, "unary", hang)
    deny = await provider.denied(request)
    assert (deny.check, deny.code) == (10, Code.CODE_STATE_STALE)


async def test_a_request_that_names_what_the_mirror_has_needs_no_broker(provider: Provider, world: World) -> None:
    provider.simulator.down = 100
    calls = provider.simulator.count(DIRECTORY_SYNC)
    await provider.answer(world.request())
    assert provider.simulator.count(DIRECTORY_SYNC) == calls


async def test_an_expired_sealing_key_is_stale(provider: Provider, world: World) -> None:
    world.now += 31 * DAY
    deny = await provider.denied(world.request())
    assert (deny.check, deny.code) == (10, Code.CODE_STATE_STALE)


@pytest.mark.parametrize("kept", [0, 1, 2], ids=["dataset", "application", "agreement"])
async def test_a_missing_body_of_its_own_department_is_stale(tmp_path: Path, kept: int) -> None:
    """DESIGN section 7: without it nobody can tell what was granted."""
    world = World.standard()
    bodies = [index for index, body in enumerate(world.directory_log.bodies) if body]
    world.directory_log.bodies[bodies[kept]] = b""
    request = world.request()
    async with provider_at(tmp_path, world) as provider:
        deny = await provider.denied(request)
        # An application's body is its applicant's: the owner must still refuse what the agreement needs it for.
        assert (deny.check, deny.code) in {(10, Code.CODE_STATE_STALE), (5, Code.CODE_NO_AGREEMENT)}
        if kept != 1:
            assert deny.code == Code.CODE_STATE_STALE
        assert not provider.sources.questions


def forked(world: World) -> MemoryLog:
    """The directory log with another history, and one entry more."""
    log, fork = world.directory_log, MemoryLog(f"{ORIGIN}/directory")
    for leaf, body in zip([*log.leaves[1:], log.leaves[0], b"one more"], [*log.bodies, b""], strict=True):
        fork.append(leaf, body)
    return fork


async def test_a_log_that_contradicts_itself_is_no_reason_to_go_on(provider: Provider, world: World) -> None:
    """What is found out while catching up is as final as anywhere else: nothing more is answered."""
    provider.simulator.directory_log = forked(world)
    with pytest.raises(BrokenLogError):
        await provider.answer(world.request(directory_size=world.directory.size + 1))
    with pytest.raises(BrokenLogError):
        await provider.answer(world.request())
    assert not provider.sources.questions


async def test_a_log_that_breaks_while_the_source_is_asked_stops_the_answer(provider: Provider, world: World) -> None:
    provider.sources.gate.clear()
    answering = asyncio.create_task(provider.answer(world.request()))
    await provider.sources.asked.wait()
    provider.simulator.directory_log = forked(world)
    with pytest.raises(BrokenLogError):
        await provider.session.sync()
    provider.sources.gate.set()
    with pytest.raises(BrokenLogError):
        await answering
    assert provider.ledger.head.number == 0


# --- the owner's orders -------------------------------------------------------------------------------


def orders_of_another_process(provider: Provider) -> Orders:
    return Orders.open(provider.session.home.path.parent / "orders.db")


async def test_orders_hold_from_the_very_next_request(provider: Provider, world: World) -> None:
    await provider.answer(world.request())
    other = orders_of_another_process(provider)
    other.stop("residents", "maintenance", world.now)
    assert (await provider.denied(world.request())).code == Code.CODE_PROVIDER_UNAVAILABLE
    other.resume("residents", world.now)
    await provider.answer(world.request())
    other.revoke(world.agreement.digest, b"envelope", "misuse", world.now)
    assert (await provider.denied(world.request())).code == Code.CODE_AGREEMENT_ENDED
    other.close()


async def test_a_stop_is_of_one_dataset_and_a_revocation_of_one_agreement(provider: Provider, world: World) -> None:
    provider.orders.stop("vehicles", "maintenance", world.now)
    provider.orders.revoke(bytes(32), b"envelope", "misuse", world.now)
    await provider.answer(world.request())


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ("stop", Code.CODE_PROVIDER_UNAVAILABLE),
        ("revoke", Code.CODE_AGREEMENT_ENDED),
        ("directory", Code.CODE_AGREEMENT_ENDED),
    ],
)
async def test_an_order_given_while_the_source_is_asked_holds(
    provider: Provider, world: World, order: str, code: Code.ValueType
) -> None:
    provider.sources.gate.clear()
    request = world.request()
    agreement = world.agreement.digest
    answering = asyncio.create_task(provider.denied(request))
    await provider.sources.asked.wait()
    if order == "stop":
        provider.orders.stop("residents", "leak", world.now)
    elif order == "revoke":
        provider.orders.revoke(agreement, b"envelope", "misuse", world.now)
    else:
        world.append(revocation_entry(POPULATION, world.fresh(16), agreement, "misuse"), POPULATION)
        await provider.session.sync()
    provider.sources.gate.set()
    assert (await answering).code == code
    assert provider.ledger.head.number == 0


@pytest.mark.parametrize("order", ["stop", "revoke"])
async def test_an_order_holds_for_a_retry_too(provider: Provider, world: World, order: str) -> None:
    request = world.request()
    await provider.answer(request)
    if order == "stop":
        provider.orders.stop("residents", "leak", world.now)
    else:
        provider.orders.revoke(world.agreement.digest, b"envelope", "misuse", world.now)
    await provider.denied(request)


# --- retries ------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_stored_bytes_and_no_second_access(provider: Provider, world: World) -> None:
    request = world.request()
    _, first = await provider.answerer.answer(request.encode())
    provider.sources.rows = ()
    _, second = await provider.answerer.answer(request.encode())
    assert second == first
    assert len(provider.sources.questions) == 1
    assert provider.ledger.head.number == 1


async def test_requests_at_the_same_moment_share_one_access(provider: Provider, world: World) -> None:
    request = world.request()
    provider.sources.gate.clear()
    answering = [asyncio.create_task(provider.answer(request)) for _ in range(4)]
    await provider.sources.asked.wait()
    provider.sources.gate.set()
    assert len({answer.encode() for answer in await asyncio.gather(*answering)}) == 1
    assert len(provider.sources.questions) == provider.ledger.head.number == 1


async def test_another_message_under_an_id_that_is_being_answered_is_replayed(provider: Provider, world: World) -> None:
    """Both at once in one batch would fail the whole of it, and with it answers to others."""
    request_id = world.request_id()
    first, second = (world.request(request_id=request_id, case_id=case) for case in "AB")
    others = [world.request() for _ in range(3)]
    found = await asyncio.gather(
        *(provider.answer(request) for request in (first, second, *others)), return_exceptions=True
    )
    denied = [one for one in found if isinstance(one, DenyError)]
    assert [error.deny.code for error in denied] == [Code.CODE_REPLAYED]
    assert len(found) - len(denied) == 4


async def test_a_retry_after_a_restart_gets_the_stored_bytes(tmp_path: Path) -> None:
    async with provider_at(tmp_path) as provider:
        world, request = provider.world, provider.world.request()
        _, first = await provider.answerer.answer(request.encode())
        provider.sources.rows = ()
        again = Answerer(
            provider.session,
            FakeSources(),  # type: ignore[arg-type]
            provider.ledger,
            provider.committer,
            provider.orders,
            lambda: world.now,
        )
        _, second = await again.answer(request.encode())
    assert second == first


async def test_a_retry_whose_answer_is_erased_is_expired(provider: Provider, world: World) -> None:
    request = world.request()
    await provider.answer(request)
    world.now = read_request(request).expires_at + SKEW
    provider.ledger.erase_sealed(world.now)
    deny = await provider.denied(request)
    assert (deny.check, deny.code) == (4, Code.CODE_EXPIRED)
    assert len(provider.sources.questions) == 1


async def test_a_client_that_leaves_does_not_stop_the_answer(provider: Provider, world: World) -> None:
    provider.sources.gate.clear()
    request = world.request()
    gone = asyncio.create_task(provider.answer(request))
    await provider.sources.asked.wait()
    gone.cancel()
    await asyncio.wait([gone])
    provider.sources.gate.set()
    response = await provider.answer(request)
    assert provider.rows(request, response) == [ROW]
    assert len(provider.sources.questions) == provider.ledger.head.number == 1


async def test_after_a_failure_the_same_request_is_answered(provider: Provider, world: World) -> None:
    request = world.request()
    provider.sources.error = ConnectorError("down")
    await provider.denied(request)
    provider.sources.error = None
    await provider.answer(request)


async def test_two_requesters_may_use_one_id(provider: Provider, world: World) -> None:
    agreement = world.grant(world.apply_for(world.dataset, MARRIAGE))
    request_id = world.request_id()
    await provider.answer(world.request(request_id=request_id))
    await provider.answer(world.request(party=MARRIAGE, request_id=request_id, agreement=agreement.digest))
    assert provider.ledger.head.number == 2
