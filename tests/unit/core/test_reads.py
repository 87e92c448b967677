"""The entry of a read has one strict form, and a mandate covers what it says and nothing else."""

from typing import Any

import pytest

from exchange.core.access import read_access_leaf
from exchange.core.errors import CoreError, DecodeError
from exchange.core.reads import covers, dataset_asked, mandates_of
from exchange.core.wire import decode, encode
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf, Code
from exchange.v1.people_pb2 import AuditorRead, Mandate
from tests.world import APPLICATIONS, AUDITOR, CIVIL_AFFAIRS, COORDINATOR, DAY, HOUSING, POPULATION, START, World

DIGEST = bytes(range(32))


def leaf(part: dict[str, Any] | None = None, **changes: Any) -> bytes:
    said = AuditorRead(**({"mandate": DIGEST, "first": 3, "end": 9, "bodies": 4} | (part or {})))
    fields = {"format": 1, "time": START, "kind": AccessKind.ACCESS_KIND_READ, "requester": str(AUDITOR), "read": said}
    return encode(AccessLeaf(**(fields | changes)))


@pytest.mark.parametrize("read", [{}, {"query_sha256": DIGEST}, {"bodies": 6}, {"first": 8, "bodies": 1}])
def test_a_read_says_who_read_what_under_which_mandate(read: dict[str, Any]) -> None:
    assert read_access_leaf(leaf(read)).read.mandate == DIGEST


@pytest.mark.parametrize(
    ("read", "changes"),
    [
        ({"mandate": b""}, {}),
        ({"query_sha256": DIGEST[1:]}, {}),
        ({"first": 9}, {}),
        ({"end": 2**63}, {}),
        ({"bodies": 0}, {}),
        ({"bodies": 7}, {}),
        ({}, {"provider": str(POPULATION)}),
        ({}, {"request_id": bytes(16)}),
        ({}, {"request_digest": DIGEST}),
        ({}, {"response_digest": DIGEST}),
        ({}, {"refusal_digest": DIGEST}),
        ({}, {"code": Code.CODE_EXPIRED}),
        ({}, {"requester": "exchange://city.example/Auditor"}),
        ({}, {"read": None}),
        ({}, {"kind": AccessKind.ACCESS_KIND_RELEASED}),
    ],
)
def test_refuses_a_read_that_is_not_in_its_form(read: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read_access_leaf(leaf(read, **changes))


# --- what a mandate covers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered() -> tuple[World, AccessLeaf, bytes]:
    """An access of housing/applications to the registry's dataset."""
    world = World.standard()
    request = world.request()
    world.release(request, world.respond(request))
    return world, read_access_leaf(world.access_log.leaves[0]), world.access_log.bodies[0]


@pytest.mark.parametrize(
    ("said", "is_covered"),
    [
        ({}, True),
        ({"departments": [str(HOUSING)]}, True),
        ({"departments": [str(POPULATION)]}, True),
        ({"departments": [str(CIVIL_AFFAIRS)]}, False),
        ({"departments": [str(CIVIL_AFFAIRS), str(HOUSING)]}, True),
        ({"departments": [str(HOUSING)[:-1]]}, False),
        ({"since": START}, True),
        ({"since": START + 1}, False),
        ({"until": START}, True),
        ({"until": START - 1}, False),
        ({"datasets": [bytes(16)]}, False),
    ],
)
def test_a_mandate_covers_what_it_says(
    answered: tuple[World, AccessLeaf, bytes], said: dict[str, Any], is_covered: bool
) -> None:
    world, entry, body = answered
    assert covers(Mandate(**said), entry, body) is is_covered
    with_dataset = {"datasets": [world.dataset.object_id]} | said
    assert covers(Mandate(**with_dataset), entry, body) is is_covered


def test_what_names_no_dataset_is_not_covered_by_a_mandate_for_some(
    answered: tuple[World, AccessLeaf, bytes],
) -> None:
    world, entry, body = answered
    narrow = Mandate(datasets=[world.dataset.object_id])
    parts = decode(AccessBody, body)
    for other in (b"", b"\xff", encode(AccessBody(response=parts.response)), encode(AccessBody(request=b"x"))):
        assert dataset_asked(other) == b""
        assert not covers(narrow, entry, other)
        assert covers(Mandate(), entry, other)


def test_a_mandate_is_in_force_until_it_ends_or_is_revoked() -> None:
    world = World.standard()
    [standing] = world.directory.state.people.mandates[str(AUDITOR)]
    world.revoke(standing, COORDINATOR)
    first = world.mandate(not_after=world.now + DAY).digest
    second = world.mandate().digest

    def held(now: int) -> list[bytes]:
        return [version.digest for version in mandates_of(world.directory.state, AUDITOR, now)]

    assert held(world.now + DAY) == [first, second]
    assert held(world.now + DAY + 1) == [second]
    world.revoke(second, COORDINATOR)
    assert held(world.now) == [first]
    assert not list(mandates_of(world.directory.state, HOUSING, world.now))


def test_a_read_by_nobody_is_malformed() -> None:
    with pytest.raises(CoreError):
        read_access_leaf(leaf(requester=""))


def test_an_access_is_no_read(answered: tuple[World, AccessLeaf, bytes]) -> None:
    _, entry, _ = answered
    assert entry.requester == str(APPLICATIONS)
    assert not entry.HasField("read")
