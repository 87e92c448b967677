"""Checks 9 to 13: flights, replies, retries, receipts, settlements (DESIGN sections 2 and 6)."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from exchange.broker.logs import DirectoryProposal
from exchange.broker.refusals import RefusedError
from exchange.broker.relay import MARGIN, Released
from exchange.broker.settlement import MAX_ANSWER, MAX_BARE
from exchange.broker.status import status_of
from exchange.core.access import MAX_REASON, MAX_REFUSAL, read_refusal, verify_receipt, verify_release
from exchange.core.decision import LIFETIME, SKEW, Deny
from exchange.core.envelope import ENTRY, REFUSAL, Draft, Envelope, decode_envelope, verify_signature
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.store.ports import CommitUnknownError, StoreBusyError, StoreFatalError
from exchange.v1.access_pb2 import Code, Refusal
from tests.component.broker.parts import REFUSED, RELEASED, UNRELEASED, Adapter, Broker, logs_of, nobody, refusing
from tests.simulator import flipped
from tests.world import APPLICATIONS, BROKER, MARRIAGE, MINUTE, ORIGIN, POPULATION, REGISTRY, World

SOON = MARGIN + 0.005
"""A deadline that passes at once."""

STALE = Deny(10, Code.CODE_STATE_STALE, "the directory is older than the request")


@pytest.fixture
async def adapter(broker: Broker) -> Adapter:
    return await broker.attach()


@pytest.fixture
async def silent(broker: Broker) -> Adapter:
    adapter = await broker.attach()
    adapter.respond = nobody
    return adapter


def flying(broker: Broker, request: Envelope, timeout: float = 5.0) -> "asyncio.Task[Released]":
    return asyncio.create_task(broker.submit(request, timeout=timeout))


async def refusal_of(task: "asyncio.Task[Released]") -> RefusedError:
    await asyncio.wait([task])
    error = task.exception()
    assert isinstance(error, RefusedError)
    return error


# --- release ------------------------------------------------------------------------------------------


async def test_the_same_bytes_go_there_and_back(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    task = flying(broker, request)
    delivery = await silent.delivered()
    assert delivery.envelope == request.encode()
    response = world.respond(request)
    await silent.reply(delivery, response)
    assert (await task).response == response.encode()


async def test_nothing_is_released_without_a_receipt_that_proves_it(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request = world.request()
    released = await broker.submit(request)
    response = decode_envelope(released.response)
    verifier = world.access_log.signer.verifier
    proven = verify_release(released.receipt, verifier, request.digest, response.digest)
    assert (proven.leaf.requester, proven.leaf.provider) == (str(APPLICATIONS), str(REGISTRY))
    body = broker.body(proven.index)
    assert decode_envelope(body.request) == request.bare()
    assert decode_envelope(body.response) == response.bare()
    # The provider has the same entry.
    assert await adapter.settlement(response) == proven


async def test_many_at_once_share_commits_and_are_each_proven(broker: Broker, adapter: Adapter, world: World) -> None:
    requests = [world.request() for _ in range(40)]
    released = await asyncio.gather(*(broker.submit(request) for request in requests))
    verifier = world.access_log.signer.verifier
    for request, one in zip(requests, released, strict=True):
        verify_release(one.receipt, verifier, request.digest, decode_envelope(one.response).digest)
    assert sorted(one.receipt.index for one in released) == list(range(40))
    assert broker.store.transactions < 40
    assert adapter.messages < 40


async def test_the_requesters_deadline_is_handed_on_less_a_margin(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    await broker.submit(world.request(), timeout=5.0)
    assert adapter.deliveries[0].timeout == int((5 - MARGIN) * 1000)


@pytest.mark.parametrize("timeout", [10.0**7, 10.0**12])
async def test_a_deadline_far_away_is_no_longer_than_a_request_lives(
    broker: Broker, adapter: Adapter, world: World, timeout: float
) -> None:
    await broker.submit(world.request(), timeout=timeout)
    assert adapter.deliveries[0].timeout <= LIFETIME + SKEW


@pytest.mark.parametrize("timeout", [0.0, MARGIN, -1.0])
async def test_nothing_is_delivered_where_no_time_is_left(
    broker: Broker, adapter: Adapter, world: World, timeout: float
) -> None:
    request = world.request()
    error = await broker.refused(request, timeout=timeout)
    broker.check_refusal(error, Code.CODE_PROVIDER_UNAVAILABLE, 9, request.digest)
    assert not adapter.deliveries


async def test_several_adapters_of_one_system_take_turns(broker: Broker, world: World) -> None:
    adapters = [await broker.attach() for _ in range(3)]
    for _ in range(6):
        await broker.submit(world.request())
    assert [len(adapter.deliveries) for adapter in adapters] == [2, 2, 2]


async def test_another_systems_adapter_gets_nothing(broker: Broker, world: World) -> None:
    other = await broker.attach(MARRIAGE)
    error = await broker.refused(world.request())
    assert error.code == Code.CODE_PROVIDER_UNAVAILABLE
    assert not other.deliveries


async def test_a_party_that_asks_too_much_slows_down_nobody_else(world: World) -> None:
    broker = Broker(world, burst=2)
    await broker.attach()
    for _ in range(2):
        await broker.submit(world.request())
    request = world.request()
    error = await broker.refused(request)
    assert error.code == Code.CODE_OVERLOADED
    # Another party's bucket is its own: this one fails at the next check.
    assert (await broker.refused(request, peer=MARRIAGE)).code == Code.CODE_IDENTITY_MISMATCH
    world.now += 500
    await broker.submit(request)
    await broker.close()


# --- replay and retry ---------------------------------------------------------------------------------


async def test_another_message_under_an_id_in_flight_is_replayed(broker: Broker, silent: Adapter, world: World) -> None:
    request_id = world.request_id()
    first, second = (world.request(request_id=request_id, case_id=case) for case in ("A", "B"))
    task = flying(broker, first)
    delivery = await silent.delivered()
    error = await broker.refused(second)
    broker.check_refusal(error, Code.CODE_REPLAYED, 4, second.digest)
    await silent.reply(delivery, world.respond(first))
    await task
    assert (await broker.refused(second)).code == Code.CODE_REPLAYED
    assert len(silent.deliveries) == 1


async def test_of_two_messages_at_once_under_one_id_only_one_flies(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request_id = world.request_id()
    requests = [world.request(request_id=request_id, case_id=case) for case in ("A", "B", "C")]
    found = await asyncio.gather(*(broker.submit(request) for request in requests), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["RefusedError", "RefusedError", "Released"]
    assert {one.code for one in found if isinstance(one, RefusedError)} == {Code.CODE_REPLAYED}
    assert len(adapter.deliveries) == 1


async def test_an_id_that_was_answered_stays_taken(broker: Broker, adapter: Adapter, world: World) -> None:
    request_id = world.request_id()
    await broker.submit(world.request(request_id=request_id))
    world.now += 4 * MINUTE
    other = world.request(request_id=request_id)
    broker.check_refusal(await broker.refused(other), Code.CODE_REPLAYED, 4, other.digest)


async def test_an_id_is_used_up_by_an_answer_never_by_a_refusal(broker: Broker, adapter: Adapter, world: World) -> None:
    request_id = world.request_id()
    adapter.respond = refusing(world, STALE)
    first = world.request(request_id=request_id, case_id="A")
    assert (await broker.refused(first)).code == Code.CODE_STATE_STALE
    adapter.respond = world.respond
    await broker.submit(world.request(request_id=request_id, case_id="B"))


async def test_two_requesters_may_use_one_id(broker: Broker, adapter: Adapter, world: World) -> None:
    agreement = world.grant(world.apply_for(world.dataset, MARRIAGE))
    await broker.publish()
    request_id = world.request_id()
    ours = world.request(request_id=request_id)
    theirs = world.request(party=MARRIAGE, request_id=request_id, agreement=agreement.digest)
    await broker.submit(ours)
    await broker.submit(theirs, peer=MARRIAGE)
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED, RELEASED]


async def test_a_retry_joins_the_flight(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    tasks = [flying(broker, request) for _ in range(3)]
    delivery = await silent.delivered()
    late = flying(broker, request)
    await asyncio.sleep(0)
    await silent.reply(delivery, world.respond(request))
    released = await asyncio.gather(*tasks, late)
    assert len({one.response for one in released}) == 1
    assert len({one.receipt.index for one in released}) == 1
    assert len(silent.deliveries) == 1
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]


async def test_all_who_wait_for_a_flight_get_its_refusal(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    tasks = [flying(broker, request) for _ in range(3)]
    await silent.reply(await silent.delivered(), refusing(world, STALE)(request))
    assert {(await refusal_of(task)).code for task in tasks} == {Code.CODE_STATE_STALE}
    assert [leaf.kind for leaf in broker.leaves()] == [REFUSED]


async def test_a_retry_after_the_answer_gets_the_same_entry(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    silent.respond = lambda _request: response
    first, second = await broker.submit(request), await broker.submit(request)
    assert second.response == first.response
    assert (second.receipt.index, second.receipt.leaf) == (first.receipt.index, first.receipt.leaf)
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]
    assert len(silent.deliveries) == 2
    # The provider is settled each time: it may have lost the first receipt.
    assert (await silent.settlement(response, 2)).index == first.receipt.index


async def test_a_revocation_wins_over_a_retry(broker: Broker, adapter: Adapter, world: World) -> None:
    request = world.request()
    await broker.submit(request)
    world.revoke(world.agreement.digest, REGISTRY)
    await broker.publish()
    assert (await broker.refused(request)).code == Code.CODE_AGREEMENT_ENDED
    assert len(adapter.deliveries) == 1


async def test_a_retry_through_another_broker_is_released_once(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    silent.respond = lambda _request: response
    first = await broker.submit(request)
    other = Broker(world, store=broker.store)
    (await other.attach()).respond = lambda _request: response
    second = await other.submit(request)
    assert (second.receipt.index, second.receipt.leaf) == (first.receipt.index, first.receipt.leaf)
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]
    await other.close()


# --- flights and their ends ---------------------------------------------------------------------------


async def test_a_flight_outlives_its_client(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    task.cancel()
    await asyncio.wait([task])
    await silent.reply(delivery, response)
    proven = await silent.settlement(response)
    assert proven.leaf.kind == RELEASED
    # Who comes back finds it.
    silent.respond = lambda _request: response
    assert (await broker.submit(request)).receipt.index == proven.index


async def test_draining_waits_for_flights(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    task = flying(broker, request)
    delivery = await silent.delivered()
    draining = asyncio.create_task(broker.relay.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    await silent.reply(delivery, world.respond(request))
    await draining
    await task


async def test_a_late_reply_is_settled_though_nobody_waits(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    error = await broker.refused(request, timeout=SOON)
    broker.check_refusal(error, Code.CODE_PROVIDER_UNAVAILABLE, 9, request.digest)
    await silent.reply(silent.deliveries[0], response)
    proven = await silent.settlement(response)
    assert (proven.leaf.kind, proven.leaf.code) == (UNRELEASED, Code.CODE_INTERRUPTED)
    assert proven.leaf.request_digest == request.digest
    # A committed answer used the id up; a retry with the same bytes may still add `released`.
    header = {"request_id": proven.leaf.request_id, "case_id": "OTHER"}
    assert (await broker.refused(world.request(**header))).code == Code.CODE_REPLAYED
    silent.respond = lambda _request: response
    released = await broker.submit(request)
    assert verify_receipt(released.receipt, world.access_log.signer.verifier).leaf.kind == RELEASED


async def test_a_reply_in_the_very_moment_of_the_deadline_is_not_lost(
    broker: Broker, silent: Adapter, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either it is released or it is settled as unreleased: a committed answer is never left without an entry."""
    request = world.request()
    response = world.respond(request)
    task = flying(broker, request, SOON)
    delivery = await silent.delivered()
    tunnel = next(iter(broker.tunnels))
    flight = tunnel._flights[delivery.flight]
    # The reply lands in the same turn of the loop in which the deadline passes.
    loop = asyncio.get_running_loop()
    loop.call_at(loop.time() + SOON - MARGIN, lambda: flight.reply.done() or flight.reply.set_result(response.encode()))
    await asyncio.wait([task])
    if not flight.reply.cancelled():
        assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]


async def test_a_second_reply_to_a_flight_is_ignored(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    first, second = world.respond(request), world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    await silent.reply(delivery, first, second)
    assert (await task).response == first.encode()
    await silent.reply(delivery, second)
    await broker.gateway.drain()
    assert [leaf.response_digest for leaf in broker.leaves()] == [first.digest]
    assert second.digest not in silent.settled


async def test_a_reply_to_no_flight_is_ignored(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    task = flying(broker, request)
    delivery = await silent.delivered()
    response = world.respond(request)
    wrong = type(delivery)(flight=delivery.flight + 1)
    await silent.reply(wrong, response)
    assert not task.done()
    await silent.reply(delivery, response)
    await task


async def test_a_lost_tunnel_ends_its_flights_and_no_others(broker: Broker, world: World) -> None:
    lost, kept = await broker.attach(), await broker.attach()
    lost.respond = kept.respond = nobody
    requests = [world.request() for _ in range(2)]
    tasks = [flying(broker, request) for request in requests]
    await lost.delivered()
    delivery = await kept.delivered()
    await lost.leave()
    error = await refusal_of(tasks[0])
    broker.check_refusal(error, Code.CODE_PROVIDER_UNAVAILABLE, 9, requests[0].digest)
    await kept.reply(delivery, world.respond(requests[1]))
    await tasks[1]
    # The id is free again: the request can be sent as it is.
    kept.respond = world.respond
    await broker.submit(requests[0])


async def test_a_write_that_fails_ends_the_tunnel(broker: Broker, silent: Adapter, world: World) -> None:
    silent.broken = True
    assert (await broker.refused(world.request())).code == Code.CODE_PROVIDER_UNAVAILABLE
    await asyncio.wait([silent.task])
    assert list(broker.tunnels) == []


# --- check 10: the provider's own refusal -------------------------------------------------------------


async def test_a_providers_refusal_is_passed_on_as_it_is_and_logged(
    broker: Broker, silent: Adapter, world: World
) -> None:
    request = world.request()
    refusal = refusing(world, STALE)(request)
    silent.respond = lambda _request: refusal
    error = await broker.refused(request)
    assert (error.code, str(error)) == (STALE.code, STALE.reason)
    assert error.refusal == refusal
    leaf, body = broker.leaf(-1), broker.body(-1)
    assert (leaf.kind, leaf.code, leaf.provider) == (REFUSED, STALE.code, str(REGISTRY))
    assert (leaf.request_digest, leaf.refusal_digest) == (request.digest, refusal.digest)
    assert decode_envelope(body.refusal) == refusal
    assert decode_envelope(body.request) == request.bare()


@pytest.mark.parametrize("code", sorted(set(Code.values()) - {Code.CODE_UNSPECIFIED}), ids=Code.Name)
async def test_whatever_code_a_provider_refuses_with_reaches_the_requester(
    broker: Broker, adapter: Adapter, world: World, code: Code.ValueType
) -> None:
    adapter.respond = refusing(world, Deny(10, code, "because"))
    error = await broker.refused(world.request())
    assert error.code == code
    assert status_of(error).message == "because"


def refused_by_another(world: World, request: Envelope) -> Envelope:
    return refusing(world, STALE, MARRIAGE)(request)


def refused_by_its_department(world: World, request: Envelope) -> Envelope:
    return refusing(world, STALE, POPULATION)(request)


def refused_in_anothers_name(world: World, request: Envelope) -> Envelope:
    return replace(refusing(world, STALE)(request), signature=world.request().signature)


def another_request_refused(world: World, request: Envelope) -> Envelope:
    return refusing(world, STALE)(world.request())


def refused_without_a_code(world: World, request: Envelope) -> Envelope:
    refusal = Refusal(format=1, refuser=str(REGISTRY), request_digest=request.digest)
    return world.sign(Draft(REFUSAL, encode(refusal)), REGISTRY)


def refused_at_length(world: World, request: Envelope) -> Envelope:
    refusal = Refusal(
        format=1, code=STALE.code, refuser=str(REGISTRY), request_digest=request.digest, reason="x" * 3_900
    )
    return world.sign(Draft(REFUSAL, encode(refusal)), REGISTRY)


def refused_with_an_attachment(world: World, request: Envelope) -> Envelope:
    return replace(refusing(world, STALE)(request), attachments=(bytes(8_000),))


@pytest.mark.parametrize(
    "forge",
    [
        refused_by_another,
        refused_by_its_department,
        refused_in_anothers_name,
        another_request_refused,
        refused_without_a_code,
        refused_at_length,
        refused_with_an_attachment,
    ],
)
async def test_a_refusal_that_is_not_the_providers_is_not_passed_on(
    broker: Broker, adapter: Adapter, world: World, forge: Callable[[World, Envelope], Envelope]
) -> None:
    request = world.request()
    adapter.respond = lambda _request: forge(world, request)
    error = await broker.refused(request)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)


async def test_a_refusal_with_the_longest_reason_fits_its_bound(broker: Broker, world: World) -> None:
    reason = "𠀀" * 10_000
    deny = Deny(1, Code.CODE_MALFORMED, reason)
    errors = await asyncio.gather(*(broker.refusals.refuse(APPLICATIONS, deny, bytes(32)) for _ in range(64)))
    for error in errors:
        assert len(error.refusal.encode()) <= MAX_REFUSAL
        assert len(str(error)) <= MAX_REASON


# --- check 11: the response ---------------------------------------------------------------------------


def of_another_system(world: World, request: Envelope) -> Envelope:
    return world.respond(request, party=MARRIAGE)


def in_the_providers_name(world: World, request: Envelope) -> Envelope:
    return world.respond(request, party=MARRIAGE, provider=str(REGISTRY))


def to_another_request(world: World, request: Envelope) -> Envelope:
    return world.respond(world.request())


def under_another_agreement(world: World, request: Envelope) -> Envelope:
    return world.respond(request, agreement=bytes(32))


def altered(world: World, request: Envelope) -> Envelope:
    return flipped(world.respond(request))


def without_ciphertext(world: World, request: Envelope) -> Envelope:
    return world.respond(request).bare()


def unsigned(world: World, request: Envelope) -> Envelope:
    return replace(world.respond(request), signature=request.signature)


def another_kind(world: World, request: Envelope) -> Envelope:
    return replace(world.entries[0], kind=ENTRY)


def the_request_itself(world: World, request: Envelope) -> Envelope:
    return request


BAD_RESPONSES = [
    of_another_system,
    in_the_providers_name,
    to_another_request,
    under_another_agreement,
    altered,
    without_ciphertext,
    unsigned,
    another_kind,
    the_request_itself,
]


@pytest.mark.parametrize("forge", BAD_RESPONSES)
async def test_a_bad_response_is_not_released_and_stays_on_record(
    broker: Broker, adapter: Adapter, world: World, forge: Callable[[World, Envelope], Envelope]
) -> None:
    request = world.request()
    answer = forge(world, request)
    adapter.respond = lambda _request: answer
    error = await broker.refused(request)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)
    proven = await adapter.settlement(answer)
    leaf = proven.leaf
    assert (leaf.kind, leaf.code) == (UNRELEASED, Code.CODE_RESPONSE_INVALID)
    assert (leaf.requester, leaf.provider) == (str(APPLICATIONS), str(REGISTRY))
    assert (leaf.request_digest, leaf.response_digest) == (request.digest, answer.digest)
    assert decode_envelope(broker.body(proven.index).response) == answer.bare()
    assert [leaf.kind for leaf in broker.leaves()] == [UNRELEASED, REFUSED]


async def test_what_is_no_envelope_is_no_response(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    task = flying(broker, request)
    await silent.reply(await silent.delivered(), b"\xff\xff")
    error = await refusal_of(task)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)


async def test_a_different_second_answer_to_a_released_request_is_not_released(
    broker: Broker, adapter: Adapter, world: World
) -> None:
    request = world.request()
    adapter.respond = lambda asked: world.respond(asked, [{"name": "another"}])
    first = await broker.submit(request)
    second = world.respond(request)
    adapter.respond = lambda _request: second
    error = await broker.refused(request)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)
    proven = await adapter.settlement(second)
    assert (proven.leaf.kind, proven.leaf.code) == (UNRELEASED, Code.CODE_RESPONSE_INVALID)
    assert [leaf.kind for leaf in broker.leaves()].count(RELEASED) == 1
    assert broker.leaf(first.receipt.index).response_digest == decode_envelope(first.response).digest


@pytest.mark.parametrize("behind_its_back", [False, True])
async def test_an_agreement_revoked_in_flight_is_not_released(
    broker: Broker, silent: Adapter, world: World, behind_its_back: bool
) -> None:
    request = world.request()
    response = world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    world.revoke(world.agreement.digest, REGISTRY)
    if behind_its_back:
        other = logs_of(world, broker.store)
        await other.append(DirectoryProposal(world.entries[-1], b""))
        await other.close()
    else:
        await broker.publish()
    await silent.reply(delivery, response)
    error = await refusal_of(task)
    broker.check_refusal(error, Code.CODE_AGREEMENT_ENDED, 6, request.digest)
    proven = await silent.settlement(response)
    assert (proven.leaf.kind, proven.leaf.code) == (UNRELEASED, Code.CODE_AGREEMENT_ENDED)
    assert proven.leaf.directory_size == world.directory.size


async def test_a_revocation_in_flight_speaks_before_a_bad_response(
    broker: Broker, silent: Adapter, world: World
) -> None:
    """Under the lock, too, the earlier check comes first."""
    request = world.request()
    response = of_another_system(world, request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    world.revoke(world.agreement.digest, REGISTRY)
    await broker.publish()
    await silent.reply(delivery, response)
    assert (await refusal_of(task)).code == Code.CODE_AGREEMENT_ENDED
    assert (await silent.settlement(response)).leaf.code == Code.CODE_AGREEMENT_ENDED


@pytest.mark.parametrize("party", [APPLICATIONS, REGISTRY], ids=["requester", "provider"])
async def test_a_key_revoked_in_flight_releases_nothing(
    broker: Broker, silent: Adapter, world: World, party: Party
) -> None:
    request = world.request()
    response = world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    world.revoke(key_id(world.keys[party].public_key), party)
    await broker.publish()
    await silent.reply(delivery, response)
    code = Code.CODE_KEY_REVOKED if party == APPLICATIONS else Code.CODE_RESPONSE_INVALID
    assert (await refusal_of(task)).code == code
    proven = await silent.settlement(response)
    assert (proven.leaf.kind, proven.leaf.code) == (UNRELEASED, code)


async def test_a_request_that_expires_in_flight_is_released_all_the_same(
    broker: Broker, silent: Adapter, world: World
) -> None:
    """Freshness is judged once, when the request comes; the provider judges it again by itself."""
    request = world.request(expires_at=world.now + 1)
    response = world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    world.now += SKEW + 2
    await silent.reply(delivery, response)
    await task


# --- check 12: the log --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [StoreBusyError("busy"), CommitUnknownError("unknown"), StoreFatalError("fsync")], ids=repr
)
async def test_nothing_is_released_that_cannot_be_logged(
    broker: Broker, silent: Adapter, world: World, error: Exception
) -> None:
    request = world.request()
    response = world.respond(request)
    task = flying(broker, request)
    delivery = await silent.delivered()
    broker.store.at_commit = error  # type: ignore[assignment]
    await silent.reply(delivery, response)
    refused = await refusal_of(task)
    assert refused.code == Code.CODE_AUDIT_UNAVAILABLE
    check_signed(broker, world, refused, request)
    assert broker.size == 0
    # The provider is owed a receipt that cannot come this way: it attaches again, and offers the answer.
    await asyncio.wait([silent.task])
    assert response.digest not in silent.settled


def check_signed(broker: Broker, world: World, error: RefusedError, request: Envelope) -> None:
    verify_signature(error.refusal, ORIGIN, world.keys[BROKER].public_key)
    refusal = read_refusal(error.refusal)
    assert (refusal.code, refusal.check) == (Code.CODE_AUDIT_UNAVAILABLE, 12)
    assert refusal.request_digest == request.digest


async def test_a_retry_is_released_once_the_log_works_again(broker: Broker, silent: Adapter, world: World) -> None:
    request = world.request()
    response = world.respond(request)
    silent.respond = lambda _request: response
    broker.store.after_commit = CommitUnknownError("the answer was lost, the commit was not")
    assert (await broker.refused(request)).code == Code.CODE_AUDIT_UNAVAILABLE
    broker.store.after_commit = None
    again = await broker.attach()
    again.respond = lambda _request: response
    released = await broker.submit(request)
    assert released.response == response.encode()
    assert [leaf.kind for leaf in broker.leaves()] == [RELEASED]


async def test_the_broker_forgets_flights_that_have_ended(broker: Broker, adapter: Adapter, world: World) -> None:
    for _ in range(3):
        await broker.submit(world.request())
    await asyncio.sleep(0)
    assert not broker.relay._flights
    assert not broker.taken._flying


# --- too large to be delivered ------------------------------------------------------------------------


async def test_an_answer_that_is_too_large_to_be_delivered_is_not_released(broker: Broker, world: World) -> None:
    adapter = await broker.attach()
    adapter.respond = lambda request: world.respond(request, [{"name": "x" * MAX_ANSWER}])
    request = world.request()
    error = await broker.refused(request)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)
    assert (broker.leaf(0).kind, broker.leaf(0).code) == (UNRELEASED, Code.CODE_RESPONSE_INVALID)


async def test_an_answer_that_is_too_large_for_the_log_is_refused_without_it(broker: Broker, world: World) -> None:
    adapter = await broker.attach()
    adapter.respond = lambda request: replace(world.respond(request), payload=bytes(MAX_BARE + 1))
    request = world.request()
    error = await broker.refused(request)
    broker.check_refusal(error, Code.CODE_RESPONSE_INVALID, 11, request.digest)
    assert broker.size == 1


async def test_a_provider_that_owes_too_many_replies_is_not_available(
    broker: Broker, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.broker.tunnel.MAX_FLIGHTS", 1)
    adapter = await broker.attach()
    adapter.respond = nobody
    assert (await broker.refused(world.request(), timeout=0.205)).code == Code.CODE_PROVIDER_UNAVAILABLE
    error = await broker.refused(world.request())
    assert (error.code, "too many" in str(error)) == (Code.CODE_PROVIDER_UNAVAILABLE, True)
    await adapter.reply(adapter.deliveries[0], b"rubbish")
    adapter.respond = world.respond
    await broker.submit(world.request())
