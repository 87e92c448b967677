"""A TLS certificate is renewed by the word of a signing key that stands, said now."""

import pytest

from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.lifetimes import HEAD_START
from exchange.core.names import Party
from exchange.core.renewal import RenewalError, check_renewal, renewal_request
from exchange.core.wire import MAX_TIME
from exchange.v1.log_pb2 import RenewRequest
from tests.memory import signer
from tests.world import APPLICATIONS, ORIGIN, POPULATION, REGISTRY, START, World

CSR = b"certificate request"


@pytest.fixture
def world() -> World:
    return World.standard()


def asked(world: World, **changes: object) -> RenewRequest:
    request = renewal_request(ORIGIN, world.keys[REGISTRY], CSR, world.now)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def test_a_standing_key_renews_its_certificate(world: World) -> None:
    record = check_renewal(world.directory.state, REGISTRY, asked(world), START)
    assert record.key_id == key_id(world.keys[REGISTRY].public_key)


@pytest.mark.parametrize("peer", [APPLICATIONS, POPULATION], ids=str)
def test_nobody_renews_anothers(world: World, peer: Party) -> None:
    with pytest.raises(RenewalError, match="no such signing key"):
        check_renewal(world.directory.state, peer, asked(world), START)


@pytest.mark.parametrize(
    "changes",
    [
        {"csr": b"another"},
        {"time": START + 1},
        {"signature": bytes(70)},
        {"time": MAX_TIME + 1},
        {"time": (1 << 64) - 1},
    ],
    ids=str,
)
def test_what_was_altered_is_refused(world: World, changes: dict[str, object]) -> None:
    with pytest.raises(RenewalError, match="not signed by the key"):
        check_renewal(world.directory.state, REGISTRY, asked(world, **changes), START)


def test_a_key_that_is_not_in_the_directory_renews_nothing(world: World) -> None:
    with pytest.raises(CoreError, match="no such signing key"):
        check_renewal(world.directory.state, REGISTRY, renewal_request(ORIGIN, signer("x"), CSR, START), START)


def test_a_sealing_key_renews_nothing(world: World) -> None:
    request = asked(world, key_id=key_id(world.sealing_key()))
    with pytest.raises(RenewalError, match="no such signing key"):
        check_renewal(world.directory.state, REGISTRY, request, START)


def test_a_renewal_is_for_one_exchange(world: World) -> None:
    request = renewal_request("town.example", world.keys[REGISTRY], CSR, START)
    with pytest.raises(RenewalError, match="not signed by the key"):
        check_renewal(world.directory.state, REGISTRY, request, START)


def test_a_revoked_key_renews_nothing(world: World) -> None:
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    with pytest.raises(RenewalError, match="is revoked: no certificate"):
        check_renewal(world.directory.state, REGISTRY, asked(world), START)


def test_an_expired_key_renews_nothing(world: World) -> None:
    world.now = world.directory.state.keys[key_id(world.keys[REGISTRY].public_key)].not_after + 1
    with pytest.raises(RenewalError, match="has expired"):
        check_renewal(world.directory.state, REGISTRY, asked(world), world.now)


@pytest.mark.parametrize("offset", [HEAD_START + 1, -HEAD_START - 1])
def test_a_clock_that_is_off_is_refused_with_both_times(world: World, offset: int) -> None:
    request = asked(world)
    with pytest.raises(RenewalError, match=r"2027-01-15 08:00:00 UTC, and this broker's .* set the clock"):
        check_renewal(world.directory.state, REGISTRY, request, START + offset)


@pytest.mark.parametrize("offset", [HEAD_START, -HEAD_START])
def test_clocks_may_be_five_minutes_apart(world: World, offset: int) -> None:
    check_renewal(world.directory.state, REGISTRY, asked(world), START + offset)
