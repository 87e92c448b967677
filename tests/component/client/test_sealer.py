import asyncio
import uuid

import pytest

from exchange.client.sealer import REUSE, Sealer, request_id
from exchange.core.decision import Allow, decide
from exchange.core.keys import key_id
from exchange.core.sealing import CAPSULE
from exchange.core.state import KeyRecord
from tests.world import APPLICATIONS, REGISTRY, World, lookup


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture
def sealer(world: World) -> Sealer:
    return Sealer("city.example", world.keys[APPLICATIONS], world.directory.state.keys_of(APPLICATIONS)[0])


@pytest.fixture
def provider(world: World) -> KeyRecord:
    record = world.directory.sealing_key(REGISTRY, world.now)
    assert record is not None
    return record


async def test_makes_requests_that_every_check_allows(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    prepared = await sealer.seal(world.header(), lookup("1"), (world.agreement, world.dataset), provider)
    allow = decide(world.directory, prepared.envelope, world.now, taken=world.taken, used=world.used, peer=APPLICATIONS)
    assert isinstance(allow, Allow)
    assert (allow.agreement, allow.dataset) == (prepared.agreement, prepared.dataset)
    assert len(prepared.envelope.attachments[0]) == CAPSULE


async def test_requests_that_queue_share_one_signature(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    terms = (world.agreement, world.dataset)
    prepared = await asyncio.gather(*(sealer.seal(world.header(), lookup("1"), terms, provider) for _ in range(20)))
    assert len({item.envelope.signature for item in prepared}) <= 2
    for item in prepared:
        assert isinstance(decide(world.directory, item.envelope, world.now, taken=world.taken, used=world.used), Allow)


def test_a_channel_is_reused_for_ten_minutes(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    first = sealer.channel(provider, world.now)
    assert sealer.channel(provider, world.now + REUSE - 1) is first
    second = sealer.channel(provider, world.now + REUSE)
    assert second.secret != first.secret
    assert second.capsule != first.capsule


def test_a_new_sealing_key_is_a_new_channel(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    first = sealer.channel(provider, world.now)
    world.give_sealing_key(REGISTRY, "second")
    newer = world.directory.sealing_key(REGISTRY, world.now)
    assert newer is not None
    assert sealer.channel(newer, world.now).secret != first.secret


def test_a_clock_that_steps_back_makes_a_new_channel(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    first = sealer.channel(provider, world.now)
    assert sealer.channel(provider, world.now - 1) is not first


def test_secrets_are_not_printed(world: World, sealer: Sealer, provider: KeyRecord) -> None:
    channel = sealer.channel(provider, world.now)
    assert repr(channel.secret) not in repr(channel)


def test_a_request_id_is_a_uuid_of_its_time() -> None:
    made = uuid.UUID(bytes=request_id(1_800_000_000_000))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_800_000_000_000


def test_the_channel_is_bound_to_the_asking_key(world: World, sealer: Sealer) -> None:
    assert sealer.key.key_id == key_id(world.keys[APPLICATIONS].public_key)
