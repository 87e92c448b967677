"""The thirteen checks at the broker, in their order (DESIGN section 6).

A fault is a change to an otherwise good request and what surrounds it; two faults at once show which check comes first.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest

from exchange.core.decision import LIFETIME, SKEW, Deny, read_request
from exchange.core.envelope import Envelope, decode_envelope
from exchange.core.names import Party
from exchange.store.ports import StoreBusyError
from exchange.v1.access_pb2 import Code
from tests.component.broker.parts import REFUSED, UNRELEASED, Adapter, Broker, nobody, refusing
from tests.world import APPLICATIONS, LOOKUP, MARRIAGE, QUERY, REGISTRY, World

OTHER_PURPOSE = "tax.audit"
STALE = Deny(10, Code.CODE_STATE_STALE, "the directory is older than the request")


@dataclass
class Case:
    """One request before it is sent: what its header says, who sends it, and what happens to its bytes."""

    broker: Broker
    adapter: Adapter
    header: dict[str, Any] = field(default_factory=dict)
    peer: Party = APPLICATIONS
    party: Party = APPLICATIONS
    alter: Callable[[Envelope], bytes] = Envelope.encode
    sent: Envelope | None = None

    @property
    def world(self) -> World:
        return self.broker.world

    @property
    def agreement(self) -> bytes:
        """The agreement that the request names."""
        return self.header.get("agreement") or self.world.agreement.digest

    def frame(self) -> bytes:
        self.sent = self.world.request(party=self.party, **self.header)
        return self.alter(self.sent)


Fault = Callable[[Case], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """A fault, and the check that finds it."""

    fault: Fault
    number: int
    code: "Code.ValueType"

    def __str__(self) -> str:
        return self.fault.__name__


async def overloaded(case: Case) -> None:
    for party in (APPLICATIONS, MARRIAGE):
        while case.broker.buckets.take(party, case.world.now):
            pass


async def frame_cut(case: Case) -> None:
    case.alter = lambda envelope: envelope.encode()[:-1]


async def frame_of_another_kind(case: Case) -> None:
    case.alter = lambda envelope: replace(envelope, kind="exchange.v1/response").encode()


async def frame_too_long(case: Case) -> None:
    case.alter = lambda envelope: replace(envelope, attachments=(bytes(1024 * 1024),)).encode()


async def attachments_left_out(case: Case) -> None:
    case.alter = lambda envelope: envelope.bare().encode()


async def ciphertext_altered(case: Case) -> None:
    case.alter = lambda envelope: replace(
        envelope, attachments=(envelope.attachments[0], envelope.attachments[1] + b"x")
    ).encode()


async def case_id_missing(case: Case) -> None:
    case.header["case_id"] = ""


async def sent_by_another(case: Case) -> None:
    case.peer = MARRIAGE


async def asked_in_anothers_name(case: Case) -> None:
    case.header["requester"] = str(MARRIAGE)


async def signature_broken(case: Case) -> None:
    before = case.alter

    def alter(envelope: Envelope) -> bytes:
        signature = envelope.signature[:-1] + bytes([envelope.signature[-1] ^ 1])
        return before(replace(envelope, signature=signature))

    case.alter = alter


async def key_unknown(case: Case) -> None:
    case.alter = lambda envelope: replace(envelope, key_id=bytes(32)).encode()


async def key_revoked(case: Case) -> None:
    case.world.revoke(hashlib.sha256(case.world.keys[APPLICATIONS].public_key).digest(), APPLICATIONS)
    await case.broker.publish()


async def expired(case: Case) -> None:
    case.header |= {"issued_at": case.world.now - LIFETIME - SKEW, "expires_at": case.world.now - SKEW - 1}


async def issued_in_the_future(case: Case) -> None:
    case.header |= {"issued_at": case.world.now + SKEW + 1, "expires_at": case.world.now + SKEW + 2}


async def replayed(case: Case) -> None:
    first = case.world.request(case_id="FIRST")
    await case.broker.submit(first)
    case.header["request_id"] = read_request(first).request_id


async def agreement_unknown(case: Case) -> None:
    case.header["agreement"] = bytes(32)


async def agreement_of_another(case: Case) -> None:
    world = case.world
    case.header["agreement"] = world.grant(world.apply_for(world.dataset, MARRIAGE)).digest
    await case.broker.publish()


async def agreement_for_another_dataset(case: Case) -> None:
    world = case.world
    other = world.publish("vehicles", key="id_number")
    case.header["agreement"] = world.grant(world.apply_for(other)).digest
    await case.broker.publish()


async def agreement_revoked(case: Case) -> None:
    case.header["agreement"] = case.agreement
    case.world.revoke(case.agreement, REGISTRY)
    await case.broker.publish()


async def operation_not_granted(case: Case) -> None:
    case.header["operation"] = QUERY


async def field_not_granted(case: Case) -> None:
    case.header["fields"] = ["name", "birth_date"]


async def purpose_not_granted(case: Case) -> None:
    case.header["purpose"] = OTHER_PURPOSE


async def nobody_attached(case: Case) -> None:
    await case.adapter.leave()


async def provider_owed(case: Case) -> None:
    await case.adapter.leave()
    await case.broker.attach(ready=False)


async def provider_refuses(case: Case) -> None:
    case.adapter.respond = refusing(case.world, STALE)


async def response_of_another(case: Case) -> None:
    case.adapter.respond = lambda request: case.world.respond(request, party=MARRIAGE)


async def log_fails(case: Case) -> None:
    case.broker.store.before = StoreBusyError("the lock was not free")


OVERLOADED = Check(overloaded, 1, Code.CODE_OVERLOADED)
FRAME_CUT = Check(frame_cut, 1, Code.CODE_MALFORMED)
FRAMES = [
    FRAME_CUT,
    Check(frame_of_another_kind, 1, Code.CODE_MALFORMED),
    Check(frame_too_long, 1, Code.CODE_MALFORMED),
]
FORMS = [
    Check(attachments_left_out, 1, Code.CODE_MALFORMED),
    Check(ciphertext_altered, 1, Code.CODE_MALFORMED),
    Check(case_id_missing, 1, Code.CODE_MALFORMED),
]
SENT_BY_ANOTHER = Check(sent_by_another, 2, Code.CODE_IDENTITY_MISMATCH)
IN_ANOTHERS_NAME = Check(asked_in_anothers_name, 2, Code.CODE_IDENTITY_MISMATCH)
SIGNATURE = Check(signature_broken, 3, Code.CODE_SIGNATURE_INVALID)
KEY_UNKNOWN = Check(key_unknown, 3, Code.CODE_SIGNATURE_INVALID)
KEY_REVOKED = Check(key_revoked, 3, Code.CODE_KEY_REVOKED)
EXPIRED = Check(expired, 4, Code.CODE_EXPIRED)
EARLY = Check(issued_in_the_future, 4, Code.CODE_EXPIRED)
REPLAYED = Check(replayed, 4, Code.CODE_REPLAYED)
STRANGERS = [
    Check(agreement_unknown, 5, Code.CODE_NO_AGREEMENT),
    Check(agreement_of_another, 5, Code.CODE_NO_AGREEMENT),
    Check(agreement_for_another_dataset, 5, Code.CODE_NO_AGREEMENT),
]
ENDED = Check(agreement_revoked, 6, Code.CODE_AGREEMENT_ENDED)
OPERATION = Check(operation_not_granted, 6, Code.CODE_OPERATION_NOT_GRANTED)
FIELD = Check(field_not_granted, 6, Code.CODE_FIELD_NOT_GRANTED)
PURPOSES = Check(purpose_not_granted, 6, Code.CODE_PURPOSE_NOT_GRANTED)
NOBODY = Check(nobody_attached, 9, Code.CODE_PROVIDER_UNAVAILABLE)
OWED = Check(provider_owed, 9, Code.CODE_PROVIDER_UNAVAILABLE)
PROVIDER = Check(provider_refuses, 10, Code.CODE_STATE_STALE)
RESPONSE = Check(response_of_another, 11, Code.CODE_RESPONSE_INVALID)
LOG = Check(log_fails, 12, Code.CODE_AUDIT_UNAVAILABLE)

BY_THIS_BROKER = [
    *(OVERLOADED, *FRAMES, *FORMS, SENT_BY_ANOTHER, IN_ANOTHERS_NAME, SIGNATURE, KEY_UNKNOWN, KEY_REVOKED),
    *(EXPIRED, EARLY, REPLAYED, *STRANGERS, ENDED, OPERATION, FIELD, PURPOSES, NOBODY, OWED, RESPONSE),
]
# Where the signature holds, the refused request itself is evidence.
UNSIGNED = {str(check) for check in (OVERLOADED, *FRAMES, SENT_BY_ANOTHER, SIGNATURE, KEY_UNKNOWN)}

ADJACENT = [
    (OVERLOADED, SENT_BY_ANOTHER),
    (OVERLOADED, FRAME_CUT),
    (FRAME_CUT, SENT_BY_ANOTHER),
    (SENT_BY_ANOTHER, SIGNATURE),
    (SENT_BY_ANOTHER, KEY_REVOKED),
    (SIGNATURE, KEY_REVOKED),
    (SIGNATURE, EXPIRED),
    (KEY_REVOKED, EXPIRED),
    (EXPIRED, REPLAYED),
    *((check, stranger) for check in (EXPIRED, EARLY, REPLAYED) for stranger in STRANGERS),
    *((stranger, check) for stranger in STRANGERS for check in (OPERATION, FIELD, PURPOSES)),
    # What is unknown cannot have ended.
    *((stranger, ENDED) for stranger in STRANGERS[1:]),
    (ENDED, OPERATION),
    (OPERATION, FIELD),
    (FIELD, PURPOSES),
    *((check, absent) for check in (ENDED, OPERATION, FIELD, PURPOSES) for absent in (NOBODY, OWED)),
]


@pytest.fixture
def world() -> World:
    """A lookup is granted; a query and another purpose are offered, but not granted."""
    return _world().copy()


@cache
def _world() -> World:
    world = World.standard()
    world.register(OTHER_PURPOSE)
    world.grant(world.apply_for(world.dataset), operations=[LOOKUP])
    return world


@pytest.fixture
async def case(broker: Broker) -> Case:
    return Case(broker, await broker.attach())


async def test_a_request_without_fault_is_answered(case: Case) -> None:
    released = await case.broker.submit(case.frame())
    assert decode_envelope(released.response).kind == "exchange.v1/response"


@pytest.mark.parametrize("check", BY_THIS_BROKER, ids=str)
async def test_each_check_refuses_with_its_code_signed_and_logged(case: Case, check: Check) -> None:
    await check.fault(case)
    frame = case.frame()
    before = case.broker.size
    error = await case.broker.refused(frame, peer=case.peer)
    assert case.sent is not None
    opened = check.number > 1 or check in FORMS
    digest = case.sent.digest if opened else hashlib.sha256(frame).digest()
    case.broker.check_refusal(error, check.code, check.number, digest)
    leaf = case.broker.leaf(-1)
    assert leaf.requester == str(case.peer)
    body = case.broker.body(-1)
    if str(check) in UNSIGNED:
        assert (body.request, leaf.request_id) == (b"", b"")
    assert body.request in {b"", case.sent.bare().encode()}
    if check.number > 3:
        assert decode_envelope(body.request) == case.sent.bare()
        assert (leaf.provider, leaf.request_id) == (str(REGISTRY), read_request(case.sent).request_id)
    assert body.response == b""
    logged = [leaf.kind for leaf in case.broker.leaves()[before:]]
    assert logged == ([UNRELEASED, REFUSED] if check is RESPONSE else [REFUSED])


@pytest.mark.parametrize(
    ("earlier", "later"), ADJACENT, ids=lambda check: str(check) if isinstance(check, Check) else None
)
async def test_of_two_faults_the_earlier_check_speaks(case: Case, earlier: Check, later: Check) -> None:
    for check in (earlier, later):
        await check.fault(case)
    error = await case.broker.refused(case.frame(), peer=case.peer)
    assert Code.Name(error.code) == Code.Name(earlier.code)


@pytest.mark.parametrize("absent", [NOBODY, OWED], ids=str)
async def test_who_is_not_attached_is_not_asked_and_so_refuses_nothing(case: Case, absent: Check) -> None:
    """Check 9 comes before 10."""
    await provider_refuses(case)
    await absent.fault(case)
    error = await case.broker.refused(case.frame())
    assert error.code == absent.code
    assert not case.adapter.deliveries


async def test_a_refusal_of_the_provider_stands_whatever_it_answers_beside(case: Case) -> None:
    """Check 10 comes before 11: one delivery has one reply."""
    request = case.world.request()
    case.adapter.respond = nobody
    waiting = asyncio.create_task(case.broker.refused(request))
    delivery = await case.adapter.delivered()
    await case.adapter.reply(
        delivery, refusing(case.world, STALE)(request), case.world.respond(request, party=MARRIAGE)
    )
    assert (await waiting).code == PROVIDER.code
    assert [leaf.kind for leaf in case.broker.leaves()] == [REFUSED]


@pytest.mark.parametrize("check", [*BY_THIS_BROKER, PROVIDER], ids=str)
async def test_what_cannot_be_logged_is_refused_as_just_that(case: Case, check: Check) -> None:
    """Every refusal is logged but this one: so where the log fails, it speaks for all of them (check 12)."""
    await check.fault(case)
    frame = case.frame()
    assert case.sent is not None
    await log_fails(case)
    before = case.broker.size
    error = await case.broker.refused(frame, peer=case.peer)
    case.broker.store.before = None
    assert error.code == LOG.code
    assert case.broker.size == before
