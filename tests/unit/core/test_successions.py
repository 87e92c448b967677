"""A break of the access log is the root's to declare, and excuses just what it names."""

import pytest

from exchange.core.entries import revocation_entry, successor_entry
from exchange.core.successions import BREAKS_OBJECT, has_breaks, successions
from exchange.v1.directory_pb2 import Successor
from tests.memory import MemoryLog
from tests.world import COORDINATOR, EXCHANGE, ORIGIN, POPULATION, World

LOG = MemoryLog(f"{ORIGIN}/access")
for number in range(5):
    LOG.append(bytes([number]))
OTHER = MemoryLog("town.example/access")
OTHER.append(b"other")
DIRECTORY = MemoryLog(f"{ORIGIN}/directory")


def said(**changes: object) -> Successor:
    values = {"lost_checkpoint": LOG.checkpoint(), "first_checkpoint": LOG.checkpoint(3), "reason": "a disk failed"}
    return Successor(**(values | changes))  # type: ignore[arg-type]


def test_the_root_declares_a_break() -> None:
    world = World.founded()
    assert not has_breaks(world.directory.state)
    applied = world.append(successor_entry(EXCHANGE, said()), EXCHANGE)
    assert applied.reason == ""
    assert has_breaks(world.directory.state)
    leaves = world.directory_log.leaves
    [found] = successions(world.directory.state, leaves.__getitem__, LOG.signer.verifier)
    assert (found.index, found.first.size, found.lost.size, found.reason) == (applied.index, 3, 5, "a disk failed")
    assert [size for size in range(8) if found.covers(size)] == [4, 5]
    assert "lost its entries 3 to 4" in str(found)


@pytest.mark.parametrize("party", [COORDINATOR, POPULATION])
def test_nobody_else_declares_one(party: object) -> None:
    world = World.founded()
    draft = successor_entry(party, said())  # type: ignore[arg-type]
    assert "is not a root" in world.append(draft, party).reason  # type: ignore[arg-type]
    assert not has_breaks(world.directory.state)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": ""}, "has a reason"),
        ({"reason": "x" * 2001}, "has a reason"),
        ({"lost_checkpoint": LOG.checkpoint(3)}, "goes on from less"),
        ({"lost_checkpoint": LOG.checkpoint(2)}, "goes on from less"),
        ({"first_checkpoint": OTHER.checkpoint()}, "goes on from less"),
        ({"first_checkpoint": DIRECTORY.checkpoint()}, "goes on from less"),
        ({"lost_checkpoint": b""}, "names two checkpoints"),
        ({"first_checkpoint": b"\xff\n\n"}, "names two checkpoints"),
    ],
)
def test_refuses_what_is_no_break_of_the_access_log(changes: dict[str, object], reason: str) -> None:
    world = World.founded()
    draft = successor_entry(EXCHANGE, said(**changes))
    assert reason in world.append(draft, EXCHANGE).reason


def test_breaks_follow_each_other_and_none_is_taken_back() -> None:
    world = World.founded()
    first = world.append(successor_entry(EXCHANGE, said()), EXCHANGE)
    assert "in use" in world.append(successor_entry(EXCHANGE, said(reason="another")), EXCHANGE).reason
    again = world.append(successor_entry(EXCHANGE, said(reason="another"), first.digest), EXCHANGE)
    assert again.reason == ""
    revocation = revocation_entry(EXCHANGE, world.fresh(16), again.digest, "it was none")
    world.append(revocation, EXCHANGE)
    leaves = world.directory_log.leaves
    found = successions(world.directory.state, leaves.__getitem__, LOG.signer.verifier)
    assert [item.reason for item in found] == ["a disk failed", "another"]


def test_nobody_takes_the_place_of_breaks() -> None:
    world = World.founded()
    taken = revocation_entry(COORDINATOR, BREAKS_OBJECT, world.fresh(32), "no")
    assert "in use" in world.append(taken, COORDINATOR).reason
    assert world.append(successor_entry(EXCHANGE, said()), EXCHANGE).reason == ""


def test_what_the_log_has_not_signed_is_no_break() -> None:
    """The root may declare what it likes: without the log's own signatures nobody gives anything up."""
    world = World.founded()
    forged = LOG.checkpoint().replace(b"\n5\n", b"\n9\n")
    assert world.append(successor_entry(EXCHANGE, said(lost_checkpoint=forged)), EXCHANGE).reason == ""
    leaves = world.directory_log.leaves
    assert list(successions(world.directory.state, leaves.__getitem__, LOG.signer.verifier)) == []
