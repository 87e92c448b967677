import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exchange.client import (
    Answer,
    EvidenceError,
    ExchangeClient,
    ForkError,
    RefusedError,
    ResponseInvalidError,
    RollbackError,
    Session,
    StaleError,
    UnavailableError,
    UsageError,
    evidence,
    lookup_query,
)
from exchange.client.calls import MAX_CHECKPOINT
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope
from exchange.core.names import Party
from exchange.home import Home
from exchange.transport import ACCESS_PROVE, DIRECTORY_SYNC, SUBMIT
from exchange.v1.access_pb2 import Code
from exchange.v1.directory_pb2 import FieldType, Role
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.request_pb2 import Comparator, Comparison, Filter, Query, Value
from tests.memory import signer
from tests.simulator import Simulator, flipped, make_home
from tests.world import APPLICATIONS, BROKER, HOUSING, ID_NUMBER, MARRIAGE, MINUTE, PURPOSE, REGISTRY, ROWS, World

DATASET = "population/residents"
WHY: dict[str, Any] = {"fields": ["name", "address"], "purpose": PURPOSE, "case": "ZF-2027-0001", "officer": "o-7"}


async def ask(client: ExchangeClient, **changes: Any) -> Answer:
    return await client.lookup(DATASET, [ID_NUMBER], **(WHY | changes))


async def test_looks_up_what_is_granted(client: ExchangeClient, simulator: Simulator) -> None:
    answer = await ask(client)
    assert answer.rows == ROWS
    assert not answer.truncated
    header = simulator.world.access_log
    assert (answer.index, header.size) == (0, 1)
    assert answer.proven.leaf.request_digest == answer.request.digest
    assert answer.proven.leaf.response_digest == answer.response.digest
    assert answer.request_id == answer.proven.leaf.request_id
    assert answer.receipt.leaf == header.leaves[0]
    assert simulator.queries == [lookup_query([ID_NUMBER], FieldType.FIELD_TYPE_TEXT)]


async def test_what_the_log_signed_is_on_disk_before_a_row_is_handed_over(
    client: ExchangeClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MirrorFile(session.home.path / "mirror.db")
    answer = await ask(client)
    assert file.unchecked() == (answer.receipt.checkpoint,)

    def full(*_: object) -> None:
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(MirrorFile, "keep_unchecked", full)
    with pytest.raises(UnavailableError, match="full"):
        await ask(client)


async def test_no_rows_with_a_checkpoint_that_is_too_long(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.receipt = padded
    with pytest.raises(EvidenceError, match="the most is"):
        await ask(client)


def padded(receipt: Receipt) -> Receipt:
    """A receipt whose checkpoint holds, with strangers' signatures on it."""
    line = "\N{EM DASH} witness.example AAAAAAAA\n".encode()
    long = Receipt()
    long.CopyFrom(receipt)
    long.checkpoint += line * (MAX_CHECKPOINT // len(line))
    return long


async def test_queries_by_a_filter(client: ExchangeClient, simulator: Simulator) -> None:
    small = Comparison(field="area_m2", comparator=Comparator.COMPARATOR_LESS, value=Value(integer=60))
    answer = await client.query(DATASET, Filter(comparison=small), limit=7, **WHY)
    assert answer.rows == ROWS
    assert simulator.queries[0].selection.filter.comparison == small
    assert simulator.queries[0].selection.limit == 7


async def test_queries_without_a_filter(client: ExchangeClient, simulator: Simulator) -> None:
    await client.query(DATASET, None, **WHY)
    assert simulator.queries[0].WhichOneof("question") == "selection"
    assert not simulator.queries[0].selection.HasField("filter")


@pytest.mark.parametrize("missing", sorted(WHY))
async def test_nothing_is_asked_without_saying_why(client: ExchangeClient, missing: str) -> None:
    why = {name: value for name, value in WHY.items() if name != missing}
    with pytest.raises(TypeError, match=missing):
        await client.lookup(DATASET, [ID_NUMBER], **why)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": "Housing Allocation"},
        {"case": "case 1"},
        {"officer": ""},
        {"fields": []},
        {"fields": ["name", "name"]},
        {"fields": ["Name"]},
        {"lifetime": 601},
        {"lifetime": 0},
        {"agreement": bytes(32)},
    ],
)
async def test_what_is_malformed_is_never_sent(
    client: ExchangeClient, simulator: Simulator, changes: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        await ask(client, **changes)
    assert simulator.count(SUBMIT) == 0


async def test_a_malformed_question_is_never_sent(client: ExchangeClient, simulator: Simulator) -> None:
    unknown = Filter(comparison=Comparison(field="nickname", comparator=1, value=Value(text="x")))
    with pytest.raises(UsageError):
        await client.query(DATASET, unknown, **WHY)
    with pytest.raises(UsageError):
        await client.lookup(DATASET, [], **WHY)
    with pytest.raises(UsageError):
        await client.prepare(DATASET, Query(format=1), **WHY)
    assert simulator.count(SUBMIT) == 0


async def test_an_unknown_dataset_is_looked_for_in_a_newer_directory(
    client: ExchangeClient, simulator: Simulator
) -> None:
    await client.session.sync()
    world = simulator.world
    world.grant(world.apply_for(world.publish("households")))
    answer = await client.lookup("population/households", [ID_NUMBER], **WHY)
    assert answer.rows == ROWS
    with pytest.raises(UsageError) as caught:
        await client.dataset("population/household")
    assert "population/households" in caught.value.hint


async def test_a_newer_agreement_is_found(client: ExchangeClient, simulator: Simulator) -> None:
    await client.session.sync()
    world = simulator.world
    fields = ["name", "birth_date"]
    newer = world.grant(world.apply_for(world.dataset, fields=fields))
    prepared = await client.prepare(DATASET, lookup_query([ID_NUMBER], 1), **(WHY | {"fields": fields}))
    assert prepared.agreement == newer


async def test_an_agreement_can_be_named(client: ExchangeClient, simulator: Simulator) -> None:
    older = simulator.world.agreement
    simulator.world.grant(simulator.world.apply_for(simulator.world.dataset))
    answer = await ask(client, agreement=older.digest)
    assert answer.rows == ROWS


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fields": ["birth_date"]}, Code.CODE_FIELD_NOT_GRANTED),
        ({"purpose": "another.purpose"}, Code.CODE_PURPOSE_NOT_GRANTED),
    ],
)
async def test_what_is_not_granted_is_the_brokers_to_refuse(
    client: ExchangeClient, simulator: Simulator, changes: dict[str, Any], code: Code.ValueType
) -> None:
    with pytest.raises(RefusedError) as caught:
        await ask(client, **changes)
    assert (caught.value.code, caught.value.check, caught.value.verified) == (code, 6, True)
    assert caught.value.refuser == "exchange://city.example/broker"
    assert caught.value.exit_code == 1
    assert simulator.world.access_log.size == 1


async def test_what_has_ended_is_the_brokers_to_refuse(client: ExchangeClient, simulator: Simulator) -> None:
    world = simulator.world
    world.revoke(world.agreement.digest, world.dataset.version.owner)
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert caught.value.code == Code.CODE_AGREEMENT_ENDED


async def test_a_refusal_brings_the_mirror_up_to_date(client: ExchangeClient, simulator: Simulator) -> None:
    await ask(client)
    world = simulator.world
    world.revoke(world.agreement.digest, world.dataset.version.owner)
    with pytest.raises(RefusedError):
        await ask(client)
    assert client.session.directory.size == world.directory.size


async def test_only_a_system_asks(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> None:
    home = make_home(tmp_path_factory.mktemp("department") / "home", simulator.world, HOUSING)
    async with ExchangeClient(Session(home, simulator, simulator.clock)) as client:
        with pytest.raises(UsageError, match="only a system"):
            await ask(client)


async def test_a_provider_without_a_sealing_key_cannot_be_asked(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.world.now += 31 * 24 * 60 * MINUTE
    with pytest.raises(UnavailableError, match="sealing key"):
        await ask(client)


async def test_a_system_that_is_not_admitted_cannot_ask(simulator: Simulator, home: Home) -> None:
    home.keys.joinpath("signing.pem").unlink()
    home.new_private_key("signing", signer("a stranger").private_key)
    async with ExchangeClient(Session(home, simulator, simulator.clock)) as client:
        with pytest.raises(UsageError, match="not in the directory"):
            await ask(client)


# Retries.


async def test_a_lost_answer_is_fetched_with_the_same_bytes(client: ExchangeClient, simulator: Simulator) -> None:
    await client.session.sync()
    simulator.lost = 1
    answer = await ask(client)
    sent = [data for method, data in simulator.calls if method == SUBMIT]
    assert answer.rows == ROWS
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert simulator.world.access_log.size == 1


async def test_a_prepared_request_may_be_submitted_again(client: ExchangeClient, simulator: Simulator) -> None:
    prepared = await client.prepare(DATASET, lookup_query([ID_NUMBER], 1), **WHY)
    simulator.down = 1000
    with pytest.raises(UnavailableError) as caught:
        await client.submit(prepared, timeout=0.05)
    assert caught.value.exit_code == 3
    simulator.down = 0
    first, second = await client.submit(prepared), await client.submit(prepared)
    assert first.index == second.index
    assert first.rows == second.rows == ROWS


async def test_an_expired_request_is_not_sent(client: ExchangeClient, simulator: Simulator) -> None:
    prepared = await client.prepare(DATASET, lookup_query([ID_NUMBER], 1), **WHY)
    simulator.world.now += 5 * MINUTE
    with pytest.raises(UnavailableError, match="expired"):
        await client.submit(prepared)
    assert simulator.count(SUBMIT) == 0


async def test_a_refusal_is_never_tried_again(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the provider is not attached")
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert simulator.count(SUBMIT) == 1
    assert caught.value.verified
    assert "again later" in caught.value.hint


# Refusals that do not hold.


async def test_an_unsigned_refusal_says_so(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(9, Code.CODE_PROVIDER_UNAVAILABLE, "the provider is not attached")
    simulator.refusal = lambda refusal: None
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert not caught.value.verified
    assert caught.value.refusal is None
    assert caught.value.code == Code.CODE_PROVIDER_UNAVAILABLE
    assert "no signed refusal" in caught.value.unverified


async def test_the_provider_may_refuse(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(10, Code.CODE_STATE_STALE, "the adapter is behind")
    simulator.refuser = REGISTRY
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert caught.value.verified
    assert caught.value.refuser == str(REGISTRY)


async def test_a_broker_that_the_mirror_does_not_know_yet_is_looked_up(
    client: ExchangeClient, simulator: Simulator
) -> None:
    await client.session.sync()
    simulator.deny = Deny(1, Code.CODE_OVERLOADED, "too many requests")
    simulator.refuser = Party(BROKER.domain, "second-broker")
    simulator.world.admit(simulator.refuser, Role.ROLE_BROKER)
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert caught.value.verified


async def test_a_refusal_in_anothers_name_is_not_verified(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no")
    simulator.refuser_named = REGISTRY
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert not caught.value.verified
    assert "name of another" in caught.value.unverified


async def test_a_refusal_signed_by_anybody_else_is_not_verified(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no")
    simulator.refuser = MARRIAGE
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert not caught.value.verified
    assert "neither a broker nor the provider" in caught.value.unverified


async def test_a_refusal_of_another_request_is_not_verified(client: ExchangeClient, simulator: Simulator) -> None:
    other = simulator.world.refuse(simulator.world.request(), Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no"))[0]
    simulator.deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no")
    simulator.refusal = lambda refusal: other
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert not caught.value.verified
    assert "another message" in caught.value.unverified


async def test_an_altered_refusal_is_not_verified(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no")
    simulator.refusal = lambda refusal: replace(refusal, payload=refusal.payload.replace(b"no", b"NO"))
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert not caught.value.verified


async def test_the_signed_code_counts(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.deny = Deny(6, Code.CODE_FIELD_NOT_GRANTED, "no")
    simulator.label = Code.CODE_OVERLOADED
    with pytest.raises(RefusedError) as caught:
        await ask(client)
    assert (caught.value.code, caught.value.reason) == (Code.CODE_FIELD_NOT_GRANTED, "no")


# Answers that do not hold.


def withheld(receipt: Receipt) -> Receipt | None:
    return None


def cut(receipt: Receipt) -> Receipt | None:
    return Receipt(index=receipt.index, leaf=receipt.leaf, path=receipt.path)


@pytest.mark.parametrize(("change", "text"), [(withheld, "without a receipt"), (cut, "does not hold")])
async def test_no_rows_without_a_receipt(
    client: ExchangeClient, simulator: Simulator, change: Callable[[Receipt], Receipt | None], text: str
) -> None:
    simulator.receipt = change
    with pytest.raises(EvidenceError, match=text):
        await ask(client)


async def test_no_rows_for_the_receipt_of_another_entry(client: ExchangeClient, simulator: Simulator) -> None:
    await ask(client)
    simulator.receipt = lambda receipt: simulator.world.access_log.receipt(0)
    with pytest.raises(EvidenceError, match="another request"):
        await ask(client)


async def test_no_rows_for_an_unreleased_entry(client: ExchangeClient, simulator: Simulator) -> None:
    world = simulator.world

    def unreleased(request: Envelope, response: Envelope) -> Receipt:
        return world.withhold(request, response)

    world.release = unreleased  # type: ignore[method-assign]
    with pytest.raises(EvidenceError, match="not a release"):
        await ask(client)


async def test_no_rows_under_another_partys_name_in_the_log(client: ExchangeClient, simulator: Simulator) -> None:
    world = simulator.world
    honest = world.access_log.append

    def hide(leaf: bytes, body: bytes = b"") -> int:
        return honest(leaf.replace(str(APPLICATIONS).encode(), str(APPLICATIONS).encode()[:-1] + b"x"), body)

    world.access_log.append = hide  # type: ignore[method-assign]
    with pytest.raises(EvidenceError, match="other parties"):
        await ask(client)


@pytest.mark.parametrize(
    "changes",
    [
        {"request_digest": bytes(32)},
        {"agreement": bytes(32)},
        {"provider": str(MARRIAGE)},
        {"rows_sha256": bytes(32)},
        {"ledger_number": 0},
        {"format": 2},
    ],
)
async def test_no_rows_from_a_response_that_is_bound_to_something_else(
    client: ExchangeClient, simulator: Simulator, changes: dict[str, Any]
) -> None:
    simulator.header = changes
    with pytest.raises(ResponseInvalidError) as caught:
        await ask(client)
    assert caught.value.exit_code == 1


async def test_no_rows_from_another_system(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.provider = MARRIAGE
    with pytest.raises(ResponseInvalidError, match="does not answer for the dataset"):
        await ask(client)


def unsigned(response: Envelope) -> Envelope:
    return replace(response, signature=bytes(70))


def without_rows(response: Envelope) -> Envelope:
    return replace(response, attachments=())


@pytest.mark.parametrize("change", [flipped, unsigned, without_rows])
async def test_no_rows_from_an_altered_response(
    client: ExchangeClient, simulator: Simulator, change: Callable[[Envelope], Envelope]
) -> None:
    simulator.alter = change
    with pytest.raises(ResponseInvalidError):
        await ask(client)


async def test_no_rows_from_the_answer_to_another_request(client: ExchangeClient, simulator: Simulator) -> None:
    first = await ask(client)
    simulator.alter = lambda response: first.response
    with pytest.raises(ResponseInvalidError, match="another request"):
        await ask(client)


async def test_no_rows_that_are_not_a_list_of_objects(client: ExchangeClient, simulator: Simulator) -> None:
    simulator.rows = ["not an object"]  # type: ignore[list-item]
    with pytest.raises(ResponseInvalidError, match="list of objects"):
        await ask(client)


async def test_no_rows_from_a_provider_whose_key_is_revoked(client: ExchangeClient, simulator: Simulator) -> None:
    await client.session.sync()
    world = simulator.world

    def revoke(response: Envelope) -> Envelope:
        world.revoke(response.key_id, world.dataset.version.owner)
        return response

    simulator.alter = revoke
    with pytest.raises(ResponseInvalidError, match="revoked"):
        await ask(client)


async def test_a_key_that_the_mirror_does_not_know_yet_is_looked_up(
    client: ExchangeClient, simulator: Simulator
) -> None:
    await ask(client)
    world = simulator.world
    world.revoke(world.directory.state.keys_of(REGISTRY)[0].key_id, world.dataset.version.owner)
    world.admit(REGISTRY, Role.ROLE_SYSTEM, signer("registry, second key"))
    simulator.calls.clear()
    assert (await ask(client)).rows == ROWS
    assert simulator.count(DIRECTORY_SYNC) == 1


async def test_the_mirror_follows_the_directory_that_was_decided_under(
    client: ExchangeClient, simulator: Simulator
) -> None:
    await ask(client)
    simulator.world.register("another.purpose")
    await ask(client)
    assert client.session.directory.size == simulator.world.directory.size


async def test_an_older_directory_than_was_decided_under_is_stale(client: ExchangeClient, simulator: Simulator) -> None:
    await ask(client)
    simulator.directory_log = simulator.world.directory_log.copy()
    simulator.world.register("another.purpose")
    with pytest.raises(StaleError) as caught:
        await ask(client)
    assert caught.value.exit_code == 6


# Logs that contradict themselves.


async def test_a_fork_of_the_access_log_ends_everything(client: ExchangeClient, simulator: Simulator) -> None:
    await ask(client)
    await client.settle()
    simulator.world.access_log = World.standard().access_log
    simulator.world.now += 1
    with pytest.raises(ForkError) as caught:
        await ask(client)
    assert caught.value.exit_code == 4
    sent = simulator.count(SUBMIT)
    for again in (ask(client), client.session.sync(), client.settle()):
        with pytest.raises(ForkError):
            await again
    assert simulator.count(SUBMIT) == sent


async def test_a_rollback_of_the_access_log_ends_everything(client: ExchangeClient, simulator: Simulator) -> None:
    world = simulator.world
    old = world.access_log.copy()
    for _ in range(3):
        await ask(client)
    await client.settle()
    world.access_log = old
    world.now += 1
    await ask(client)
    with pytest.raises(RollbackError):
        await client.settle()
    with pytest.raises(RollbackError):
        await ask(client)


async def test_a_rollback_of_the_directory_ends_everything(client: ExchangeClient, simulator: Simulator) -> None:
    old = simulator.world.directory_log.copy()
    simulator.world.register("another.purpose")
    await client.session.sync()
    simulator.directory_log = old
    with pytest.raises(RollbackError):
        await client.session.sync()
    simulator.directory_log = None
    with pytest.raises(RollbackError):
        await ask(client)
    assert simulator.count(SUBMIT) == 0


async def test_nothing_is_asked_of_a_log_that_owes_a_proof(
    client: ExchangeClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.proves = False
    await ask(client)
    await client.settle()
    monkeypatch.setattr(evidence, "WITHIN", -1.0)
    await ask(client)
    with pytest.raises(UnavailableError):
        await ask(client)
    assert simulator.count(SUBMIT) == 2
    simulator.proves = True
    assert (await ask(client)).rows == ROWS


async def test_many_requests_are_under_way_at_once(client: ExchangeClient, simulator: Simulator) -> None:
    answers = await asyncio.gather(*(ask(client, case=f"ZF-{number}") for number in range(50)))
    await client.settle()
    assert len({answer.request_id for answer in answers}) == 50
    assert {answer.index for answer in answers} == set(range(50))
    # Natural batching: far fewer signatures than requests.
    assert len({answer.request.signature for answer in answers}) < 25
    assert simulator.count(ACCESS_PROVE) == 49


async def test_what_was_seen_is_checked_and_kept_at_the_end(home: Home, simulator: Simulator) -> None:
    async with ExchangeClient(Session(home, simulator, simulator.clock)) as client:
        for _ in range(2):
            answer = await ask(client)
    assert simulator.count(ACCESS_PROVE) == 1
    assert MirrorFile(home.path / "mirror.db").head(ACCESS) == answer.receipt.checkpoint


async def test_closes_only_what_it_opened(home: Home, simulator: Simulator) -> None:
    session = Session(home, simulator, simulator.clock)
    async with session:
        async with ExchangeClient(session) as client:
            await ask(client)
        assert session.is_open
    assert simulator.closed
    async with ExchangeClient(session) as client:
        await ask(client)
    assert not session.is_open
