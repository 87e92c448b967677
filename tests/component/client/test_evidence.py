import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from exchange.client import evidence as module
from exchange.client.calls import MAX_CHECKPOINT
from exchange.client.errors import EvidenceError, ForkError, RollbackError, UnavailableError
from exchange.client.evidence import AccessEvidence
from exchange.client.storage import ACCESS, MirrorFile
from exchange.core.access import Proven, verify_receipt
from exchange.transport import ACCESS_PROVE
from exchange.v1.log_pb2 import LogServiceProveResponse
from tests.simulator import Simulator, refused
from tests.world import World


@pytest.fixture
def file(tmp_path: Path) -> MirrorFile:
    return MirrorFile(tmp_path / "mirror.db")


@pytest.fixture
async def evidence(file: MirrorFile, simulator: Simulator) -> AsyncIterator[AccessEvidence]:
    evidence = new_evidence(file, simulator)
    await evidence.open()
    yield evidence
    if evidence._watch is not None:
        evidence._watch.cancel()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "GATHER", 0.001)
    return


def new_evidence(file: MirrorFile, simulator: Simulator) -> AccessEvidence:
    return AccessEvidence(file, simulator.world.access_log.signer.verifier, simulator)


def released(world: World) -> tuple[Proven, bytes]:
    """One more entry of the access log, with the checkpoint that proves it."""
    request = world.request()
    receipt = world.release(request, world.respond(request))
    return verify_receipt(receipt, world.access_log.signer.verifier), receipt.checkpoint


async def test_keeps_the_newest_checkpoint_of_one_history(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    seen = [released(simulator.world) for _ in range(4)]
    for proven, note in reversed(seen):
        evidence.observe(proven, note)
    await evidence.settle()
    assert evidence.checkpoint == seen[-1][0].checkpoint
    assert file.head(ACCESS) == seen[-1][1]
    assert simulator.count(ACCESS_PROVE) == 3


async def test_asks_nothing_about_what_it_has_checked(evidence: AccessEvidence, simulator: Simulator) -> None:
    proven, note = released(simulator.world)
    for _ in range(3):
        evidence.observe(proven, note)
        await evidence.settle()
    assert simulator.count(ACCESS_PROVE) == 0


async def test_goes_on_from_what_an_earlier_process_kept(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    first = released(simulator.world)
    evidence.observe(*first)
    await evidence.close()
    rewritten = World.standard()
    rewritten.now += 1
    second = [released(rewritten) for _ in range(2)][-1]
    simulator.access_log = rewritten.access_log
    later = new_evidence(file, simulator)
    await later.open()
    later.observe(*second)
    with pytest.raises(ForkError) as caught:
        await later.settle()
    assert (caught.value.earlier, caught.value.later) == (first[1], second[1])
    await later.close()


async def test_two_roots_of_one_size_are_a_fork_without_asking(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    twin = World.standard()
    twin.now += 1
    evidence.observe(*released(simulator.world))
    with pytest.raises(ForkError):
        evidence.observe(*released(twin))
    assert simulator.count(ACCESS_PROVE) == 0
    with pytest.raises(ForkError):
        evidence.observe(*released(simulator.world))
    with pytest.raises(ForkError):
        await evidence.settle()
    with pytest.raises(ForkError):
        await new_evidence(file, simulator).open()


async def test_two_roots_of_one_size_are_a_fork_after_the_check_too(
    evidence: AccessEvidence, simulator: Simulator
) -> None:
    twin = World.standard()
    twin.now += 1
    evidence.observe(*released(simulator.world))
    await evidence.settle()
    with pytest.raises(ForkError):
        evidence.observe(*released(twin))


async def test_two_roots_of_one_size_in_two_processes_are_a_fork(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    twin = World.standard()
    twin.now += 1
    other = new_evidence(file, simulator)
    evidence.observe(*released(simulator.world))
    await evidence.settle()
    other.observe(*released(twin))
    with pytest.raises(ForkError):
        await other.settle()
    await other.close()


async def test_a_log_that_denies_what_it_signed_is_rolled_back(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    evidence.observe(*released(simulator.world))
    simulator.access_log = simulator.world.access_log.copy()
    evidence.observe(*released(simulator.world))
    with pytest.raises(RollbackError):
        await evidence.settle()
    with pytest.raises(RollbackError):
        await new_evidence(file, simulator).open()


async def test_a_proof_that_nobody_gives_stays_owed(evidence: AccessEvidence, simulator: Simulator) -> None:
    simulator.proves = False
    for _ in range(2):
        evidence.observe(*released(simulator.world))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await evidence.settle()
    simulator.proves = True
    await evidence.settle()
    assert evidence.checkpoint is not None
    assert evidence.checkpoint.size == 2


async def test_settles_what_was_observed_before_and_no_more(evidence: AccessEvidence, simulator: Simulator) -> None:
    observed = 0

    class Busy:
        async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
            nonlocal observed
            observed += 1
            evidence.observe(*released(simulator.world))
            return await simulator.unary(method, request, timeout)

        async def close(self) -> None: ...

    evidence._transport = Busy()
    for _ in range(2):
        evidence.observe(*released(simulator.world))
    await asyncio.wait_for(evidence.settle(), 5)
    assert observed == 1


async def test_a_malformed_proof_is_none(evidence: AccessEvidence, simulator: Simulator) -> None:
    class Garbled:
        async def unary(self, method: str, request: bytes, timeout: float) -> bytes:
            return b"\xff"

        async def close(self) -> None: ...

    evidence._transport = Garbled()
    for _ in range(2):
        evidence.observe(*released(simulator.world))
    with pytest.raises(UnavailableError):
        await evidence.settle()


async def test_nothing_new_is_asked_once_a_proof_is_overdue(
    evidence: AccessEvidence, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.proves = False
    evidence.observe(*released(simulator.world))
    evidence.observe(*released(simulator.world))
    await evidence.ready()
    assert simulator.count(ACCESS_PROVE) == 0
    simulator.proves = True
    await evidence.settle()
    simulator.proves = False
    monkeypatch.setattr(module, "WITHIN", -1.0)
    evidence.observe(*released(simulator.world))
    with pytest.raises(UnavailableError):
        await evidence.ready()
    simulator.proves = True
    await evidence.ready()


async def test_the_next_process_demands_what_this_one_could_not_check(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    simulator.proves = False
    seen = [released(simulator.world) for _ in range(2)]
    for proven, note in seen:
        evidence.observe(proven, note)
    await evidence.close()
    simulator.proves = True
    later = new_evidence(file, simulator)
    await later.open()
    await later.settle()
    assert later.checkpoint == seen[-1][0].checkpoint
    assert file.unchecked() == ()
    await later.close()


@pytest.mark.usefixtures("at_once")
async def test_checks_in_the_background(
    evidence: AccessEvidence, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = asyncio.Event()
    move = evidence._file.move_head
    loop = asyncio.get_running_loop()

    def moved(log: str, expected: bytes, note: bytes) -> bool:
        loop.call_soon_threadsafe(kept.set)
        return move(log, expected, note)

    monkeypatch.setattr(evidence._file, "move_head", moved)
    evidence.observe(*released(simulator.world))
    await asyncio.wait_for(kept.wait(), 5)


@pytest.mark.usefixtures("at_once")
async def test_a_failure_in_the_background_is_sticky(evidence: AccessEvidence, simulator: Simulator) -> None:
    evidence.observe(*released(simulator.world))
    simulator.access_log = simulator.world.access_log.copy()
    evidence.observe(*released(simulator.world))
    assert evidence._watch is not None
    await asyncio.wait([evidence._watch], timeout=5)
    with pytest.raises(RollbackError):
        evidence.check()


async def test_two_processes_of_one_home_keep_one_history(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    other = new_evidence(file, simulator)
    first, second, third = (released(simulator.world) for _ in range(3))
    evidence.observe(*second)
    await evidence.settle()
    other.observe(*first)
    await other.settle()
    assert file.head(ACCESS) == second[1]
    other.observe(*third)
    await asyncio.gather(other.settle(), evidence.settle())
    assert file.head(ACCESS) == third[1]
    await other.close()


async def test_a_checkpoint_without_its_note_is_checked_but_not_kept(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    first, second = released(simulator.world), released(simulator.world)
    evidence.observe(*first)
    evidence.observe(second[0])
    await evidence.settle()
    assert simulator.count(ACCESS_PROVE) == 1
    assert file.head(ACCESS) == first[1]


async def test_a_broker_that_denies_what_the_log_still_has_breaks_nothing(
    evidence: AccessEvidence, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker alone cannot make a party give the exchange up: a rollback takes a smaller head that the log signed."""
    evidence.observe(*released(simulator.world))
    evidence.observe(*released(simulator.world))
    honest = simulator._prove

    def deny(data: bytes) -> LogServiceProveResponse:
        raise refused("MALFORMED", "the log has no such size yet")

    monkeypatch.setattr(simulator, "_prove", deny)
    with pytest.raises(UnavailableError):
        await evidence.settle()
    evidence.check()
    monkeypatch.setattr(simulator, "_prove", honest)
    await evidence.settle()


async def test_what_is_kept_outlives_a_process_that_checks_nothing(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    proven, note = released(simulator.world)
    await evidence.keep(note)
    assert file.unchecked() == (note,)
    later = new_evidence(file, simulator)
    await later.open()
    await later.settle()
    assert later.checkpoint == proven.checkpoint
    assert file.unchecked() == ()
    await later.close()


async def test_what_is_kept_is_dropped_once_it_is_checked(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    seen = [released(simulator.world) for _ in range(3)]
    for proven, note in seen:
        evidence.observe(proven, note)
        await evidence.keep(note)
    await evidence.settle()
    assert file.unchecked() == ()
    assert file.head(ACCESS) == seen[-1][1]
    # The head is on disk; an earlier one is checked again, so that it does not stay there.
    await evidence.keep(seen[-1][1])
    assert file.unchecked() == ()
    await evidence.keep(seen[0][1])
    assert file.unchecked() == (seen[0][1],)
    await evidence.settle()
    assert file.unchecked() == ()


async def test_many_answers_share_one_write(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    keep = file.keep_unchecked
    monkeypatch.setattr(file, "keep_unchecked", lambda notes: (writes.append(len(notes)), keep(notes)))
    notes = [released(simulator.world)[1] for _ in range(10)]
    await asyncio.gather(*(evidence.keep(note) for note in notes))
    assert sum(writes) == len(notes)
    assert len(writes) <= 2
    assert sorted(file.unchecked()) == sorted(notes)


async def test_one_checkpoint_with_other_cosignatures_is_dropped_too(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    _, note = released(simulator.world)
    cosigned = note + "\N{EM DASH} witness.example AAAAAAAA\n".encode()
    await evidence.keep(note)
    await evidence.keep(cosigned)
    assert len(file.unchecked()) == 2
    await evidence.settle()
    assert file.unchecked() == ()
    await evidence.keep(cosigned)
    await evidence.settle()
    assert file.unchecked() == ()


async def test_a_double_kept_while_its_size_is_checked_is_dropped_by_the_next_check(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, note = released(simulator.world)
    await evidence.keep(note)
    forget, loop = file.forget_unchecked, asyncio.get_running_loop()

    def forget_late(notes: list[bytes]) -> None:
        forget(notes)
        monkeypatch.setattr(file, "forget_unchecked", forget)
        asyncio.run_coroutine_threadsafe(evidence.keep(note), loop).result(5)

    monkeypatch.setattr(file, "forget_unchecked", forget_late)
    await evidence.settle()
    assert file.unchecked() == ()


async def test_what_the_disk_does_not_take_is_not_kept(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise UnavailableError("the disk is full")

    monkeypatch.setattr(file, "keep_unchecked", full)
    with pytest.raises(UnavailableError):
        await evidence.keep(released(simulator.world)[1])


@pytest.mark.parametrize("note", [b"not a note", bytes(MAX_CHECKPOINT + 1)])
async def test_what_the_log_has_not_signed_is_not_kept(evidence: AccessEvidence, file: MirrorFile, note: bytes) -> None:
    with pytest.raises(EvidenceError):
        await evidence.keep(note)
    assert file.unchecked() == ()


async def test_a_note_that_is_too_long_is_not_held(
    evidence: AccessEvidence, file: MirrorFile, simulator: Simulator
) -> None:
    proven, note = released(simulator.world)
    evidence.observe(proven, note + bytes(MAX_CHECKPOINT))
    await evidence.settle()
    assert evidence.checkpoint == proven.checkpoint
    assert file.head(ACCESS) == b""
