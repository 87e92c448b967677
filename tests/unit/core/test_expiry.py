"""Warnings stand 60, 30 and 7 days ahead; what renews itself is warned of only once that has failed."""

import pytest

from exchange.core.expiry import Certificate, Expiring, Kind, expiring, pending_keys, warnings
from exchange.core.keys import key_id
from exchange.core.lifetimes import DAY, SEALING_RENEWAL, SYSTEM_RENEWAL, TLS_RENEWAL, YEAR
from exchange.v1.directory_pb2 import Role
from tests.drafts import NEW, accepted, key_draft
from tests.memory import signer
from tests.world import APPLICATIONS, EXCHANGE, HOUSING, POPULATION, REGISTRY, START, World

FOREVER = 100 * YEAR


@pytest.fixture
def world() -> World:
    return World.standard()


def item(left: int, renewal: int | None = None) -> Expiring:
    return Expiring(Kind.SIGNING_KEY, HOUSING, bytes(32), START + left, renewal)


@pytest.mark.parametrize(
    ("left", "days"),
    [
        (60 * DAY + 1, None),
        (60 * DAY, 60),
        (30 * DAY + 1, 60),
        (30 * DAY, 30),
        (7 * DAY + 1, 30),
        (7 * DAY, 7),
        (1, 7),
        (0, 0),
        (-DAY, 0),
    ],
)
def test_people_are_warned_60_30_and_7_days_ahead(left: int, days: int | None) -> None:
    assert item(left).warning(START) == days


@pytest.mark.parametrize("renewal", [TLS_RENEWAL, SYSTEM_RENEWAL, SEALING_RENEWAL])
def test_what_renews_itself_is_warned_of_once_a_day_has_passed_without(renewal: int) -> None:
    assert item(renewal - DAY + 1, renewal).warning(START) is None
    assert item(renewal - DAY, renewal).warning(START) is not None
    assert item(0, renewal).warning(START) == 0


def test_warnings_name_the_most_urgent_first() -> None:
    found = warnings([item(40 * DAY), item(80 * DAY), item(3 * DAY)], START)
    assert [days for days, _ in found] == [7, 60]


def test_a_home_sees_its_own_keys_and_those_below(world: World) -> None:
    found = expiring(world.directory, [POPULATION], [], START, FOREVER)
    assert {(item.kind, item.party) for item in found} == {
        (Kind.SIGNING_KEY, POPULATION),
        (Kind.SIGNING_KEY, REGISTRY),
        (Kind.SEALING_KEY, REGISTRY),
    }
    everybody = {item.party for item in expiring(world.directory, [EXCHANGE], [], START, FOREVER)}
    assert {POPULATION, HOUSING, APPLICATIONS} <= everybody
    # The root's ends never.
    assert EXCHANGE not in everybody


def test_only_what_ends_within_the_time_is_listed_the_soonest_first(world: World) -> None:
    [sealing] = expiring(world.directory, [POPULATION], [], START, 30 * DAY)
    assert (sealing.kind, sealing.until) == (Kind.SEALING_KEY, START + 30 * DAY)
    assert not expiring(world.directory, [POPULATION], [], START, 30 * DAY - 1)
    ends = [item.until for item in expiring(world.directory, [POPULATION], [], START, FOREVER)]
    assert ends == sorted(ends)


def test_a_key_with_a_successor_may_end(world: World) -> None:
    draft = key_draft(world, REGISTRY, "SYSTEM", POPULATION, not_before=START + DAY, not_after=START + YEAR)
    accepted(world, draft, POPULATION)

    def counts(now: int) -> list[bytes]:
        found = expiring(world.directory, [REGISTRY], [], now, FOREVER)
        return [item.id for item in found if item.kind is Kind.SIGNING_KEY]

    # Not before it is in force.
    assert counts(START) == [key_id(world.keys[REGISTRY].public_key)]
    assert counts(START + DAY) == [key_id(NEW.public_key)]


def test_a_revoked_key_expires_no_more(world: World) -> None:
    world.revoke(key_id(world.keys[REGISTRY].public_key), POPULATION)
    found = expiring(world.directory, [REGISTRY], [], START, FOREVER)
    assert [item.kind for item in found] == [Kind.SEALING_KEY]


def test_a_sealing_key_of_a_system_that_stopped_is_forgotten(world: World) -> None:
    found = expiring(world.directory, [REGISTRY], [], START + 32 * DAY, 0)
    assert not found


def test_certificates_are_listed_without_a_directory() -> None:
    certificates = [
        Certificate(Kind.TLS_AUTHORITY, EXCHANGE, START + YEAR, renews=False),
        Certificate(Kind.TLS_CERTIFICATE, HOUSING, START + 20 * DAY, renews=True),
    ]
    found = expiring(None, [HOUSING], certificates, START, FOREVER)
    assert [(item.kind, item.renewal) for item in found] == [
        (Kind.TLS_CERTIFICATE, TLS_RENEWAL),
        (Kind.TLS_AUTHORITY, None),
    ]


def test_a_key_in_public_view_is_pending_for_everybody_until_it_takes_effect(world: World) -> None:
    assert not pending_keys(world.directory.state, START)
    accepted(world, key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE), EXCHANGE)
    [record] = pending_keys(world.directory.state, START)
    assert (record.party, record.key_id, record.not_before) == (HOUSING, key_id(NEW.public_key), START + 3 * DAY)
    assert not pending_keys(world.directory.state, START + 3 * DAY)


def test_a_cancelled_key_is_not_pending(world: World) -> None:
    accepted(world, key_draft(world, HOUSING, "DEPARTMENT", EXCHANGE), EXCHANGE)
    world.revoke(key_id(NEW.public_key), HOUSING)
    assert not pending_keys(world.directory.state, START)


def test_a_key_that_its_predecessor_vouches_for_is_not_pending(world: World) -> None:
    world.admit(HOUSING, Role.ROLE_DEPARTMENT, signer("next"))
    assert not pending_keys(world.directory.state, START)
