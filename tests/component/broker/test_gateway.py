"""Tunnels, from hello to end, and answers that nobody waits for (DESIGN sections 2 and 8)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest

from exchange.broker.gateway import MAX_FRAMES, MAX_TUNNELS, check_frames
from exchange.broker.logs import AuditUnavailableError
from exchange.broker.settlement import MAX_BARE
from exchange.broker.status import NotPermittedError, TooManyTunnelsError, status_of
from exchange.core.decision import LIFETIME, Deny
from exchange.core.envelope import REQUEST, Draft, Envelope, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import decode_open, encode
from exchange.store.ports import StoreBusyError
from exchange.v1.access_pb2 import Code
from exchange.v1.gateway_pb2 import AdapterFrame, AttachRequest, Hello, Offer, Ready, Reply
from exchange.v1.relay_pb2 import SubmitRequest
from tests.component.broker.parts import REFUSED, RELEASED, UNRELEASED, Adapter, Broker, nobody, refusing
from tests.growing import FIELD, grown, grown_inside
from tests.world import APPLICATIONS, AUDITOR, BROKER, COORDINATOR, MARRIAGE, ORIGIN, POPULATION, REGISTRY, World

HELLO = AdapterFrame(hello=Hello(format=1))
READY = AdapterFrame(ready=Ready())


@pytest.fixture
async def adapter(broker: Broker) -> Adapter:
    return await broker.attach(ready=False)


async def failure(adapter: Adapter) -> BaseException | None:
    await asyncio.wait([adapter.task], timeout=5)
    return adapter.task.exception()


# --- who may attach, and how --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "party", [POPULATION, AUDITOR, BROKER, COORDINATOR, Party(ORIGIN), Party(ORIGIN, "population", "nobody")], ids=str
)
async def test_only_systems_of_the_directory_attach(broker: Broker, party: Party) -> None:
    with pytest.raises(NotPermittedError, match="only systems"):
        await Adapter(broker, party).task
    assert list(broker.tunnels) == []


@pytest.mark.parametrize("case", ["revoked", "not yet valid", "expired"])
async def test_a_system_without_a_valid_key_does_not_attach(broker: Broker, world: World, case: str) -> None:
    if case == "revoked":
        world.revoke(key_id(world.keys[REGISTRY].public_key), REGISTRY)
        await broker.publish()
    else:
        world.now += (-1 if case == "not yet valid" else 1) * 20 * 365 * 86_400_000
    with pytest.raises(NotPermittedError):
        await Adapter(broker, REGISTRY).task


@pytest.mark.parametrize(
    "frames",
    [
        [READY],
        [AdapterFrame(reply=Reply(flight=1, envelope=b"x"))],
        [AdapterFrame(offer=Offer())],
        [HELLO, HELLO],
        [HELLO, READY, HELLO],
        [AdapterFrame()],
        [HELLO, AdapterFrame()],
        [AdapterFrame(hello=Hello(format=2))],
        [AdapterFrame(hello=Hello())],
    ],
    ids=str,
)
async def test_a_tunnel_begins_with_one_hello_and_has_no_empty_frames(
    broker: Broker, frames: list[AdapterFrame]
) -> None:
    adapter = Adapter(broker, REGISTRY)
    await adapter.say(*frames)
    assert isinstance(await failure(adapter), DecodeError)
    assert list(broker.tunnels) == []


async def test_bytes_that_are_no_frames_end_the_tunnel(broker: Broker, adapter: Adapter) -> None:
    adapter._requests.put_nowait(b"\xff")
    assert isinstance(await failure(adapter), DecodeError)


async def test_a_tunnel_that_ends_is_detached(broker: Broker, adapter: Adapter) -> None:
    assert [tunnel.system for tunnel in broker.tunnels] == [REGISTRY]
    await adapter.leave()
    assert await failure(adapter) is None
    assert list(broker.tunnels) == []


async def test_nothing_is_delivered_before_the_adapter_is_ready(broker: Broker, adapter: Adapter, world: World) -> None:
    assert (await broker.refused(world.request())).code == Code.CODE_PROVIDER_UNAVAILABLE
    await adapter.say(READY)
    await broker.submit(world.request())


async def test_an_adapter_of_the_next_minor_version_is_served(broker: Broker, world: World) -> None:
    """Its frames have fields that this broker does not know, and so have the requests of its neighbours."""
    adapter = Adapter(broker, REGISTRY)
    adapter.encode = grown_inside
    await adapter.say(HELLO)
    interrupted, request = world.request(), world.request()
    response = world.respond(interrupted)
    await adapter.offer(interrupted, response)
    assert (await adapter.settlement(response)).leaf.code == Code.CODE_INTERRUPTED
    await adapter.say(READY)
    submit = grown(SubmitRequest(envelope=request.encode()))
    released = await broker.submit(decode_open(SubmitRequest, submit).envelope)
    assert broker.leaf(-1).response_digest == decode_envelope(released.response).digest


async def test_the_same_field_in_what_is_signed_is_refused(broker: Broker, adapter: Adapter, world: World) -> None:
    await adapter.say(READY)
    request = world.request()
    signed = world.sign(Draft(REQUEST, request.payload + FIELD, request.attachments), APPLICATIONS)
    assert (await broker.refused(signed)).code == Code.CODE_MALFORMED


async def test_frames_that_only_a_later_version_has_end_the_tunnel(adapter: Adapter) -> None:
    adapter._requests.put_nowait(b"\x0a\x04\xfa\x7f\x01x")
    assert isinstance(await failure(adapter), DecodeError)


async def test_the_adapter_hears_how_large_the_directory_is_and_whenever_it_moves(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    await adapter.until(lambda: bool(adapter.heads))
    assert adapter.heads == [world.directory.size]
    world.register("tax.audit")
    await broker.publish()
    await adapter.until(lambda: adapter.heads[-1] == world.directory.size)


# --- offers -------------------------------------------------------------------------------------------


async def test_an_offer_that_nobody_has_settled_is_interrupted(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    await adapter.offer(request, response)
    proven = await adapter.settlement(response)
    leaf = proven.leaf
    assert (leaf.kind, leaf.code) == (UNRELEASED, Code.CODE_INTERRUPTED)
    assert (leaf.requester, leaf.provider) == (str(APPLICATIONS), str(REGISTRY))
    assert (leaf.request_digest, leaf.response_digest) == (request.digest, response.digest)
    body = broker.body(proven.index)
    assert decode_envelope(body.request) == request.bare()
    assert decode_envelope(body.response) == response.bare()


async def test_an_offer_that_was_released_gets_the_receipt_of_its_release(broker: Broker, world: World) -> None:
    first = await broker.attach()
    request = world.request()
    released = await broker.submit(request)
    response = decode_envelope(released.response)
    await first.leave()
    again = await broker.attach(ready=False)
    await again.offer(request, response)
    proven = await again.settlement(response)
    assert (proven.index, proven.leaf.kind) == (released.receipt.index, RELEASED)
    assert broker.size == 1


async def test_an_offer_made_twice_is_settled_by_one_entry(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    await adapter.offer(request, response, response)
    second = await adapter.settlement(response, 2)
    assert (second.index, broker.size) == (0, 1)


async def test_one_answer_offered_through_two_tunnels_at_once_is_settled_by_one_entry(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    other = await broker.attach(ready=False)
    request = world.request()
    response = world.respond(request)
    await asyncio.gather(adapter.offer(request, response), other.offer(request, response))
    indexes = {(await one.settlement(response)).index for one in (adapter, other)}
    assert indexes == {0}
    assert broker.size == 1


async def test_every_one_of_many_offers_is_settled(broker: Broker, adapter: Adapter, world: World) -> None:
    requests = [world.request() for _ in range(20)]
    responses = [world.respond(request) for request in requests]
    frames = [
        AdapterFrame(offer=Offer(request=request.bare().encode(), response=response.bare().encode()))
        for request, response in zip(requests, responses, strict=True)
    ]
    await adapter.say(*frames)
    indexes = [(await adapter.settlement(response)).index for response in responses]
    assert sorted(indexes) == list(range(20))
    assert broker.store.transactions < 20


async def test_two_answers_to_one_request_are_both_on_record(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    responses = [world.respond(request) for _ in range(2)]
    await adapter.offer(request, *responses)
    for response in responses:
        assert (await adapter.settlement(response)).leaf.kind == UNRELEASED


def agreement_revoked(world: World, request: Envelope) -> Envelope:
    world.revoke(world.agreement.digest, REGISTRY)
    return world.respond(request)


def requesters_key_revoked(world: World, request: Envelope) -> Envelope:
    world.revoke(key_id(world.keys[APPLICATIONS].public_key), APPLICATIONS)
    return world.respond(request)


def own_key_revoked(world: World, request: Envelope) -> Envelope:
    response = world.respond(request)
    world.revoke(key_id(world.keys[REGISTRY].public_key), REGISTRY)
    return response


def under_another_agreement(world: World, request: Envelope) -> Envelope:
    return world.respond(request, agreement=bytes(32))


def signed_by_another(world: World, request: Envelope) -> Envelope:
    return world.respond(request, party=MARRIAGE)


def to_another_request(world: World, request: Envelope) -> Envelope:
    return world.respond(world.request())


def not_signed(world: World, request: Envelope) -> Envelope:
    return replace(world.respond(request), signature=request.signature)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (agreement_revoked, Code.CODE_AGREEMENT_ENDED),
        (requesters_key_revoked, Code.CODE_KEY_REVOKED),
        (own_key_revoked, Code.CODE_RESPONSE_INVALID),
        (under_another_agreement, Code.CODE_RESPONSE_INVALID),
    ],
)
async def test_an_offer_is_unreleased_with_the_code_that_forbids_it(
    broker: Broker,
    adapter: Adapter,
    world: World,
    answer: Callable[[World, Envelope], Envelope],
    code: Code.ValueType,
) -> None:
    request = world.request()
    response = answer(world, request)
    await broker.publish()
    await adapter.offer(request, response)
    proven = await adapter.settlement(response)
    assert (proven.leaf.kind, Code.Name(proven.leaf.code)) == (UNRELEASED, Code.Name(code))
    assert (proven.leaf.provider, proven.leaf.request_digest) == (str(REGISTRY), request.digest)


@pytest.mark.parametrize("answer", [signed_by_another, to_another_request, not_signed])
async def test_what_is_no_evidence_of_an_answer_ends_the_tunnel_and_is_not_logged(
    broker: Broker, adapter: Adapter, world: World, answer: Callable[[World, Envelope], Envelope]
) -> None:
    request = world.request()
    await adapter.offer(request, answer(world, request))
    error = await failure(adapter)
    assert isinstance(error, CoreError)
    assert status_of(error).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (broker.size, list(broker.tunnels)) == (0, [])


@pytest.mark.parametrize("change", [{"key_id": bytes(32)}, {"signature": b"x" * 70}], ids=["unknown key", "not signed"])
async def test_an_answer_to_a_request_that_nobody_signed_is_not_logged(
    broker: Broker, adapter: Adapter, world: World, change: dict[str, bytes]
) -> None:
    request = replace(world.request(), **change)  # type: ignore[arg-type]
    await adapter.offer(request, world.respond(request))
    assert isinstance(await failure(adapter), CoreError)
    assert broker.size == 0


@pytest.mark.parametrize("part", ["request", "response"])
async def test_an_offer_of_large_envelopes_ends_the_tunnel(
    broker: Broker, adapter: Adapter, world: World, part: str
) -> None:
    request = world.request()
    parts = {"request": request.bare(), "response": world.respond(request).bare()}
    parts[part] = replace(parts[part], payload=bytes(MAX_BARE))
    offer = Offer(**{name: envelope.encode() for name, envelope in parts.items()})
    await adapter.say(AdapterFrame(offer=offer))
    assert isinstance(await failure(adapter), DecodeError)
    assert broker.size == 0


async def test_one_bad_offer_does_not_spoil_the_entries_of_others(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    other = await broker.attach(MARRIAGE)
    request = world.request()
    response = world.respond(request)
    await asyncio.gather(adapter.offer(request, response), other.offer(request, response))
    assert (await adapter.settlement(response)).index == 0
    assert isinstance(await failure(other), DecodeError)
    assert broker.size == 1


async def test_offers_wait_for_tokens(world: World) -> None:
    broker = Broker(world, burst=2)
    adapter = await broker.attach(ready=False)
    request = world.request()
    responses = [world.respond(request) for _ in range(3)]
    await adapter.offer(request, *responses)
    for response in responses[:2]:
        await adapter.settlement(response)
    await asyncio.sleep(0.12)
    assert (broker.size, adapter.task.done()) == (2, False)
    world.now += 1000
    await adapter.settlement(responses[2])
    await broker.close()


async def test_offers_that_wait_end_with_their_tunnel(world: World) -> None:
    broker = Broker(world, burst=1)
    adapter = await broker.attach(ready=False)
    request = world.request()
    await adapter.offer(request, *(world.respond(request) for _ in range(3)))
    await adapter.until(lambda: bool(adapter.settled))
    adapter.task.cancel()
    await asyncio.wait([adapter.task])
    broker.adapters.clear()
    world.now += 10_000
    await asyncio.sleep(0.12)
    assert broker.size == 1
    await broker.close()


# --- how much at once ---------------------------------------------------------------------------------


async def test_a_system_has_a_bounded_number_of_tunnels(broker: Broker) -> None:
    adapters = [await broker.attach() for _ in range(MAX_TUNNELS)]
    with pytest.raises(TooManyTunnelsError):
        await Adapter(broker, REGISTRY).task
    other = await broker.attach(MARRIAGE)
    await adapters[0].leave()
    assert not (await broker.attach()).task.done()
    assert not other.task.done()


@pytest.mark.parametrize(
    "data",
    [b"\x00", b"\x12\x00", b"\x0a", b"\x0a\xff", b"\x0a" + b"\x80" * 9 + b"\x00", b"\x0a\x00" * (MAX_FRAMES + 1)],
    ids=["no tag", "another field", "no length", "half a length", "a long length", "too many"],
)
def test_frames_are_counted_before_they_are_read(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check_frames(data)


def test_as_many_frames_as_allowed_pass() -> None:
    frames = [READY] * (MAX_FRAMES - 1) + [AdapterFrame(reply=Reply(flight=1, envelope=bytes(70_000)))]
    check_frames(encode(AttachRequest(frames=frames)))
    check_frames(b"")


async def test_an_offer_long_after_its_request_expired_is_settled(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request = world.request()
    response = world.respond(request)
    world.now += 10 * LIFETIME
    await adapter.offer(request, response)
    assert (await adapter.settlement(response)).leaf.code == Code.CODE_INTERRUPTED


async def test_an_offer_uses_its_requests_id_up(broker: Broker, adapter: Adapter, world: World) -> None:
    request_id = world.request_id()
    request = world.request(request_id=request_id)
    response = world.respond(request)
    await adapter.offer(request, response)
    await adapter.settlement(response)
    await adapter.say(READY)
    assert (await broker.refused(world.request(request_id=request_id))).code == Code.CODE_REPLAYED
    adapter.respond = lambda _request: response
    released = await broker.submit(request)
    assert released.receipt.index == 2
    assert [leaf.kind for leaf in broker.leaves()][::2] == [UNRELEASED, RELEASED]


async def test_an_offer_that_cannot_be_logged_ends_the_tunnel(broker: Broker, adapter: Adapter, world: World) -> None:
    broker.store.before = StoreBusyError("the lock was not free")
    request = world.request()
    response = world.respond(request)
    await adapter.offer(request, response)
    assert isinstance(await failure(adapter), AuditUnavailableError)
    assert response.digest not in adapter.settled


@pytest.mark.parametrize(
    "offer",
    [
        Offer(),
        Offer(request=b"\xff", response=b"\xff"),
    ],
    ids=str,
)
async def test_an_offer_of_no_envelopes_ends_the_tunnel(broker: Broker, adapter: Adapter, offer: Offer) -> None:
    await adapter.say(AdapterFrame(offer=offer))
    assert isinstance(await failure(adapter), DecodeError)


async def test_an_offer_of_two_responses_ends_the_tunnel(broker: Broker, adapter: Adapter, world: World) -> None:
    response = world.respond(world.request()).bare().encode()
    await adapter.say(AdapterFrame(offer=Offer(request=response, response=response)))
    assert isinstance(await failure(adapter), DecodeError)


# --- late replies -------------------------------------------------------------------------------------


async def landed_late(broker: Broker, adapter: Adapter, request: Envelope, *answers: Envelope | bytes) -> None:
    await adapter.say(READY)
    adapter.respond = nobody
    assert (await broker.refused(request, timeout=0.205)).code == Code.CODE_PROVIDER_UNAVAILABLE
    await adapter.reply(adapter.deliveries[0], *answers)
    await broker.gateway.drain()


async def test_draining_waits_for_late_replies(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    await landed_late(broker, adapter, request, response)
    assert broker.leaf(-1).response_digest == response.digest


async def test_a_late_refusal_settles_nothing(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    refusal = refusing(world, Deny(10, Code.CODE_STATE_STALE, "stale"))(request)
    await landed_late(broker, adapter, request, refusal)
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED]


async def test_a_late_answer_that_is_no_evidence_ends_the_tunnel(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request = world.request()
    await adapter.say(READY)
    adapter.respond = nobody
    await broker.refused(request, timeout=0.205)
    await adapter.reply(adapter.deliveries[0], not_signed(world, request))
    assert await failure(adapter) is None
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED]


async def test_late_rubbish_settles_nothing(broker: Broker, adapter: Adapter, world: World) -> None:
    await landed_late(broker, adapter, world.request(), b"\xff")
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED]
    assert not adapter.task.done()


async def test_a_late_reply_that_cannot_be_logged_ends_the_tunnel(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request = world.request()
    await adapter.say(READY)
    adapter.respond = nobody
    await broker.refused(request, timeout=0.205)
    broker.store.before = StoreBusyError("the lock was not free")
    await adapter.reply(adapter.deliveries[0], world.respond(request))
    assert await failure(adapter) is None
    assert list(broker.tunnels) == []
