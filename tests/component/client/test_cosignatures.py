"""Where the trust file has a quorum, nothing is asked on a directory that it has not cosigned within five minutes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from exchange.client import ExchangeClient, ForkError, Session, StaleError
from exchange.client.cosignatures import RETRY, split_view
from exchange.client.errors import BrokenLogError, EvidenceError
from exchange.client.storage import ACCESS, DIRECTORY
from exchange.core.cosignature import Cosigner
from exchange.core.policy import MAX_AGE, MAX_AHEAD, NO_WITNESSES, Policy, open_cosigned
from exchange.home import Home
from exchange.transport import DIRECTORY_COSIGNED, DIRECTORY_SYNC, SUBMIT
from tests.memory import MemoryLog
from tests.simulator import COSIGNERS, POLICY, Simulator, make_home, trust_of
from tests.world import APPLICATIONS, World


@pytest.fixture
def home(tmp_path: Path, simulator: Simulator) -> Home:
    simulator.cosigners = COSIGNERS
    return make_home(tmp_path / "home", simulator.world, policy=POLICY)


@pytest.fixture
async def session(home: Home, simulator: Simulator) -> AsyncIterator[Session]:
    async with Session(home, simulator, simulator.clock) as session:
        yield session


def forked(world: World, size: int) -> MemoryLog:
    """A log of the directory's key whose last entries are others."""
    twin = MemoryLog(world.directory_log.signer.name)
    for leaf in world.directory_log.leaves[: size - 1]:
        twin.append(leaf)
    twin.append(b"shown to the witnesses alone")
    return twin


async def ask(client: ExchangeClient) -> object:
    return await client.lookup(
        "population/residents",
        ["339802197705225158"],
        fields=["name"],
        purpose="housing.allocation",
        case="ZF-2027-0001",
        officer="officer-7",
    )


# --- taking one


async def test_a_sync_brings_the_cosigned_checkpoint(session: Session, simulator: Simulator) -> None:
    await session.sync()
    cosigned = session.cosignatures.of(DIRECTORY)
    assert cosigned is not None
    assert cosigned.checkpoint == session.mirror.checkpoint
    assert [name for name, _ in cosigned.cosignatures] == ["one", "two", "three"]
    assert session.cosignatures.is_fresh()
    assert simulator.count(DIRECTORY_COSIGNED) == 0


async def test_it_is_there_for_the_next_process(session: Session, home: Home, simulator: Simulator) -> None:
    await session.sync()
    note = session.cosignatures.note(DIRECTORY)
    async with Session(home, Simulator(simulator.world), simulator.clock) as later:
        assert later.cosignatures.note(DIRECTORY) == note
        assert later.cosignatures.is_fresh()


async def test_what_another_policy_does_not_say_is_forgotten(
    session: Session, tmp_path: Path, simulator: Simulator
) -> None:
    await session.sync()
    stricter = Policy(POLICY.logs, POLICY.witnesses[:1], (), "one")
    path = session.home.path / "trust.toml"
    other = make_home(tmp_path / "other", simulator.world, policy=stricter)
    path.write_bytes((other.path / "trust.toml").read_bytes())
    simulator.cosigners = ()
    async with Session(session.home, simulator, simulator.clock) as later:
        assert later.cosignatures.of(DIRECTORY) is not None
    stranger = Cosigner("one.test", COSIGNERS[1].private_key)
    policy = Policy(POLICY.logs, (POLICY.witnesses[0].__class__("one", stranger.verifier),), (), "one")
    other = make_home(tmp_path / "third", simulator.world, policy=policy)
    path.write_bytes((other.path / "trust.toml").read_bytes())
    async with Session(session.home, simulator, simulator.clock) as later:
        assert later.cosignatures.of(DIRECTORY) is None


async def test_an_older_one_replaces_nothing(session: Session, simulator: Simulator) -> None:
    await session.sync()
    note = session.cosignatures.note(DIRECTORY)
    simulator.cosigned_at = simulator.world.now // 1000 - 60
    await session.cosignatures.refresh(DIRECTORY)
    assert session.cosignatures.note(DIRECTORY) == note


async def test_too_few_witnesses_count_as_none(session: Session, simulator: Simulator) -> None:
    simulator.cosigners = COSIGNERS[:1]
    await session.sync()
    assert session.cosignatures.of(DIRECTORY) is None


async def test_a_directory_smaller_than_the_cosigned_one_is_brought_up_to_it(
    session: Session, simulator: Simulator
) -> None:
    await session.sync()
    simulator.world.register("tax.audit")
    simulator.world.now += 1000
    await session.cosignatures.refresh(DIRECTORY)
    cosigned = session.cosignatures.of(DIRECTORY)
    assert cosigned is not None
    assert session.directory.size == simulator.world.directory.size == cosigned.checkpoint.size


async def test_one_that_the_mirror_has_passed_is_of_its_history(session: Session, simulator: Simulator) -> None:
    simulator.cosigned_size["directory"] = 3
    await session.sync()
    cosigned = session.cosignatures.of(DIRECTORY)
    assert cosigned is not None
    assert cosigned.checkpoint.size == 3 < session.directory.size


@pytest.mark.parametrize("behind", [0, 2])
async def test_another_history_that_witnesses_saw_is_a_fork_for_good(
    session: Session, home: Home, simulator: Simulator, behind: int
) -> None:
    await session.sync()
    simulator.cosigned_log = forked(simulator.world, simulator.world.directory.size - behind)
    simulator.world.now += 1000
    with pytest.raises(ForkError):
        await session.sync()
    simulator.cosigned_log = None
    with pytest.raises(ForkError):
        await session.sync()
    with pytest.raises(BrokenLogError):
        async with Session(home, simulator, simulator.clock):
            pass


def by_a_stranger(note: bytes) -> bytes:
    stranger = Cosigner(COSIGNERS[0].name, Cosigner("x", COSIGNERS[1].private_key).private_key)
    text = note.rpartition(b"\n\n")[0] + b"\n"
    return note + str(stranger.cosign(text, 1)).encode()


def moved_in_time(note: bytes) -> bytes:
    """A cosignature with another time than the one that was signed."""
    lines = note.rstrip(b"\n").split(b"\n")
    (prefix, encoded) = lines[-1].rsplit(b" ", 1)
    return b"\n".join([*lines[:-1], prefix + b" " + encoded[:7] + b"B" + encoded[8:]]) + b"\n"


@pytest.mark.parametrize(
    "lie",
    [lambda _: b"no note", lambda note: note[:-10], moved_in_time, lambda note: b"x" * 20_000 + note],
    ids=["no note", "cut", "another time", "too long"],
)
async def test_a_cosignature_that_does_not_hold_is_evidence(
    session: Session, simulator: Simulator, lie: Callable[[bytes], bytes]
) -> None:
    simulator.hand_out = lie
    with pytest.raises(EvidenceError):
        await session.sync()
    assert session.cosignatures.of(DIRECTORY) is None


async def test_a_key_of_the_same_name_is_ignored(session: Session, simulator: Simulator) -> None:
    simulator.hand_out = by_a_stranger
    await session.sync()
    cosigned = session.cosignatures.of(DIRECTORY)
    assert cosigned is not None
    assert len(cosigned.cosignatures) == 3


async def test_the_access_logs_is_of_the_history_of_every_receipt(session: Session, simulator: Simulator) -> None:
    async with ExchangeClient(session) as client:
        await session.sync()
        await ask(client)
    await session.cosignatures.refresh(ACCESS)
    cosigned = session.cosignatures.of(ACCESS)
    assert cosigned is not None
    assert cosigned.checkpoint == session.evidence.checkpoint


async def test_a_fork_of_the_access_log_that_witnesses_saw_is_sticky(home: Home, simulator: Simulator) -> None:
    session = Session(home, simulator, simulator.clock)
    await session.__aenter__()
    async with ExchangeClient(session) as client:
        await session.sync()
        await ask(client)
    twin = MemoryLog(simulator.world.access_log.signer.name)
    twin.append(b"shown to the witnesses alone")
    simulator.access_log = twin
    with pytest.raises(ForkError):
        await session.cosignatures.refresh(ACCESS)
    with pytest.raises(ForkError):
        session.check()
    await session.__aexit__(None, None, None)


# --- freshness


async def test_nothing_is_asked_of_a_stale_directory(session: Session, simulator: Simulator) -> None:
    async with ExchangeClient(session) as client:
        await session.sync()
        simulator.cosigned_at = simulator.world.now // 1000
        simulator.world.now += (MAX_AGE + 1) * 1000
        with pytest.raises(StaleError) as caught:
            await ask(client)
        assert caught.value.exit_code == 6
        assert "301 s ago; at most 300 s" in str(caught.value)
        assert simulator.count(SUBMIT) == 0
        simulator.cosigned_at = None
        await ask(client)
    assert simulator.count(SUBMIT) == 1


async def test_nothing_is_asked_where_no_witness_ever_cosigned(session: Session, simulator: Simulator) -> None:
    simulator.cosigners = ()
    async with ExchangeClient(session) as client:
        with pytest.raises(StaleError, match="never"):
            await ask(client)
    assert simulator.count(SUBMIT) == 0


@pytest.mark.parametrize(("age", "fresh"), [(0, True), (MAX_AGE, True), (MAX_AGE + 1, False), (-MAX_AHEAD - 1, False)])
async def test_freshness_ends_after_five_minutes(
    session: Session, simulator: Simulator, age: int, *, fresh: bool
) -> None:
    simulator.cosigned_at = simulator.world.now // 1000 - age
    await session.sync()
    assert session.cosignatures.is_fresh() == fresh
    assert session.cosignatures.is_stale != fresh


async def test_the_age_is_that_of_a_quorum(session: Session, simulator: Simulator) -> None:
    """One witness that cosigns all the time does not make up for a second one that has stopped."""
    text = simulator.cosigned("directory").rpartition(b"\n\n")[0] + b"\n"
    old = simulator.world.now // 1000 - MAX_AGE - 1
    simulator.cosigners = COSIGNERS[:1]
    simulator.hand_out = lambda note: note + str(COSIGNERS[1].cosign(text, old)).encode()
    await session.sync()
    assert session.cosignatures.of(DIRECTORY) is not None
    assert session.cosignatures.is_stale


async def test_a_shorter_age_may_be_demanded(home: Home, simulator: Simulator) -> None:
    async with Session(home, simulator, simulator.clock, max_age=10) as session:
        await session.sync()
        simulator.cosigned_at = simulator.world.now // 1000
        simulator.world.now += 11_000
        with pytest.raises(StaleError):
            await session.cosignatures.require_fresh()


async def test_it_is_renewed_before_it_is_too_old(session: Session, simulator: Simulator) -> None:
    await session.sync()
    await session.cosignatures.require_fresh()
    assert simulator.count(DIRECTORY_COSIGNED) == 0
    simulator.world.now += (MAX_AGE // 2 + 1) * 1000
    await session.cosignatures.require_fresh()
    assert simulator.count(DIRECTORY_COSIGNED) == 1


async def test_a_broker_that_has_nothing_newer_is_not_asked_at_once_again(
    session: Session, simulator: Simulator
) -> None:
    await session.sync()
    simulator.cosigned_at = simulator.world.now // 1000
    simulator.world.now += (MAX_AGE // 2 + 1) * 1000
    assert RETRY > 1
    for _ in range(20):
        await session.cosignatures.require_fresh()
    assert simulator.count(DIRECTORY_COSIGNED) == 1


async def test_a_broker_that_is_away_for_a_moment_stops_nobody(session: Session, simulator: Simulator) -> None:
    await session.sync()
    simulator.world.now += (MAX_AGE - 1) * 1000
    simulator.down = 1
    await session.cosignatures.require_fresh()


async def test_without_a_quorum_nothing_is_needed(tmp_path: Path, simulator: Simulator) -> None:
    simulator.cosigners = COSIGNERS
    home = make_home(tmp_path / "without", simulator.world)
    async with Session(home, simulator, simulator.clock) as session:
        await session.sync()
        await session.cosignatures.require_fresh()
        assert not session.cosignatures.needed
        assert not session.cosignatures.is_stale
        assert session.cosignatures.of(DIRECTORY) is None
    assert simulator.count(DIRECTORY_SYNC) == 1
    assert not (home.path / "receipts.db").exists()


# --- what is said


def test_a_split_view_is_excluded_by_a_fresh_quorum_alone(simulator: Simulator) -> None:
    world = simulator.world
    simulator.cosigners = COSIGNERS
    log = trust_of(world).directory_log
    whole = open_cosigned(simulator.cosigned("directory"), log, POLICY)
    simulator.cosigners = COSIGNERS[:1]
    one = open_cosigned(simulator.cosigned("directory"), log, POLICY)
    assert split_view(POLICY, whole, world.now) == ""
    assert "too old" in split_view(POLICY, whole, world.now + (MAX_AGE + 1) * 1000)
    assert "too few" in split_view(POLICY, one, world.now)
    assert "too few" in split_view(POLICY, None, world.now)
    assert split_view(None, whole, world.now) == split_view(Policy(), whole, world.now) == NO_WITNESSES
    assert APPLICATIONS.is_system
