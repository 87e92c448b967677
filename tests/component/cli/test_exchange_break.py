"""An access log that lost its end: a declared disaster is told apart from fraud, by broker, party and auditor."""

import asyncio
import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.audit import sync as sync_command
from exchange.cli.audit.main import app as audit_app
from exchange.cli.main import app
from exchange.client.errors import ForkError, RollbackError
from exchange.client.session import Session
from exchange.core.entries import successor_entry
from exchange.core.envelope import decode_envelope
from exchange.core.trust import encode_trust
from exchange.core.witnessing import AddCheckpoint, Submission, encode_add_checkpoint, open_submission
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from exchange.v1.directory_pb2 import Successor
from exchange.witness.config import MEMORY
from exchange.witness.memory import Kept, WitnessMemory
from tests.component.audit.copies import AuditedExchange, ask, audit_home, busy_world, mirror, rebuilt
from tests.component.cli.restored import earlier, whole_home
from tests.component.cli.stores import dump, store_name
from tests.simulator import POLICY, make_home, trust_of
from tests.world import EXCHANGE, World

REASON = "the disk of broker 1 failed on 3 May"
KEPT = 3
"""Of five entries."""


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world()


def declaring(world: World, **changes: object) -> World:
    """The exchange after the disaster: the access log ends at KEPT, and the root has said so."""
    after = earlier(world, world.directory_log.size, KEPT)
    values = {
        "lost_checkpoint": world.access_log.checkpoint(),
        "first_checkpoint": world.access_log.checkpoint(KEPT),
        "reason": REASON,
    }
    said = Successor(**(values | changes))  # type: ignore[arg-type]
    applied = after.append(successor_entry(EXCHANGE, said), EXCHANGE)
    assert not applied.reason
    return after


# The broker.


@pytest.fixture
def operator(tmp_path: Path, world: World) -> Path:
    """The root's home, with the broker's in it, restored from a backup of when the log had two entries."""
    root = Home.create(tmp_path / "operator", EXCHANGE, "root")
    shutil.copy(make_home(tmp_path / "any", world).path / "trust.toml", root.path / "trust.toml")
    root.new_private_key("signing", world.keys[EXCHANGE].private_key)
    broker = whole_home(root.path / "broker", earlier(world, world.directory_log.size - 1, 2))
    shutil.rmtree(broker / "anchor")
    return root.path


@pytest.fixture
def offices(tmp_path: Path, world: World) -> list[Path]:
    """An auditor's home that has KEPT entries, and the note of somebody who was shown five."""
    home = audit_home(tmp_path / "office", world)
    asyncio.run(mirror(home, AuditedExchange(earlier(world, world.directory_log.size, KEPT))))
    party = make_home(tmp_path / "housing", world)

    async def shown() -> None:
        async with Session(party, AuditedExchange(world.copy())) as session:
            await session.sync()
            await session.evidence.keep(world.access_log.checkpoint())
            await session.evidence.settle()

    asyncio.run(shown())
    return [home.path, party.path]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["log", *map(str, arguments)])


def declare(operator: Path, offices: list[Path], *arguments: object) -> Result:
    given = [text for office in offices for text in ("--from", office)]
    return run("declare-break", *given, "--home", operator, "--reason", REASON, *arguments)


def test_what_nobody_has_is_given_up_by_the_root_alone(operator: Path, offices: list[Path], world: World) -> None:
    broker = operator / "broker"
    refused = run("recover", "--from", offices[0], "--from", offices[1], "--home", broker)
    assert (refused.exit_code, "declare-break" in refused.stderr) == (4, True)
    result = declare(operator, offices)
    assert result.exit_code == 0, result.output
    assert "access: 1 entries put back, 2 to 2" in result.stdout
    assert "declared lost: entries 3 to 4 of the access log" in result.stdout
    with closing(SqlLogStore.open(store_name(broker))) as store:
        assert store.head(Log.ACCESS).checkpoint == world.access_log.checkpoint(KEPT)
        assert store.head(Log.DIRECTORY).size == world.directory_log.size + 1
    assert run("fsck", "--home", broker).exit_code == 0
    assert (broker / "anchor" / "access").read_bytes() == world.access_log.checkpoint(KEPT)
    decode_envelope((broker / "break-5.declaration").read_bytes())


def test_nothing_is_declared_where_nothing_is_lost(operator: Path, offices: list[Path]) -> None:
    before = dump(operator / "broker")
    result = declare(operator, offices[:1])
    assert (result.exit_code, "nobody here has seen more" in result.stderr) == (4, True)
    assert dump(operator / "broker") == before


def test_a_broker_cannot_declare(operator: Path, offices: list[Path]) -> None:
    result = declare(operator / "broker", offices, "--broker", operator / "broker")
    assert (result.exit_code, "only the root declares" in result.stderr) == (2, True)


def test_no_break_is_declared_where_witnesses_have_cosigned(operator: Path, offices: list[Path], world: World) -> None:
    (operator / "trust.toml").write_text(encode_trust(trust_of(world, POLICY)))
    result = declare(operator, offices)
    assert (result.exit_code, "cosign nothing smaller" in result.stderr) == (4, True)
    assert "--new-witnesses" in result.stderr
    declared = declare(operator, offices, "--new-witnesses")
    assert declared.exit_code == 0, declared.output
    assert "Each begins anew with a new key" in declared.stdout


def test_without_a_quorum_there_are_no_new_witnesses(operator: Path, offices: list[Path]) -> None:
    before = dump(operator / "broker")
    result = declare(operator, offices, "--new-witnesses")
    assert (result.exit_code, "no quorum of witnesses" in result.stderr) == (2, True)
    assert dump(operator / "broker") == before


def test_what_a_witness_has_seen_is_declared_lost(
    operator: Path, offices: list[Path], world: World, tmp_path: Path
) -> None:
    """Of all that were asked it alone was shown five entries."""
    witness = tmp_path / "witness"
    witness.mkdir()
    memory = WitnessMemory.create(witness / MEMORY, lambda: 1_800_000_000)
    submitted = encode_add_checkpoint(AddCheckpoint(0, (), world.access_log.checkpoint()))
    submission = open_submission(submitted, {world.access_log.signer.name: world.access_log.signer.verifier})
    assert isinstance(submission, Submission)
    assert isinstance(memory.advance(submission), Kept)
    before = (witness / MEMORY).read_bytes()
    assert declare(operator, offices[:1]).exit_code == 4
    result = declare(operator, [offices[0], witness])
    assert "declared lost: entries 3 to 4 of the access log" in result.stdout
    assert (witness / MEMORY).read_bytes() == before


# A party.


@pytest.fixture
async def party(tmp_path: Path, world: World) -> Home:
    """It has been shown five entries."""
    home = make_home(tmp_path / "applications", world)
    async with Session(home, AuditedExchange(world.copy())) as session:
        await session.sync()
        await session.evidence.keep(world.access_log.checkpoint())
        await session.evidence.settle()
    return home


async def shown(home: Home, after: World, *, syncs: bool = True) -> None:
    """The party goes on, and is shown what the log has now."""
    async with Session(home, AuditedExchange(after)) as session:
        if syncs:
            await session.sync()
        await session.evidence.keep(after.access_log.checkpoint())
        await session.evidence.settle()


async def test_a_party_takes_a_smaller_log_with_the_declaration_alone(
    party: Home, world: World, tmp_path: Path
) -> None:
    undeclared = earlier(world, world.directory_log.size, KEPT)
    other = Home(shutil.copytree(party.path, tmp_path / "other"))
    with pytest.raises(RollbackError):
        await shown(other, undeclared)
    after = declaring(world)
    await shown(party, after)
    ask(after)
    await shown(party, after)
    for _ in range(4):
        ask(after)
    await shown(party, after)


async def test_what_comes_before_the_directory_is_settled_by_it(party: Home, world: World) -> None:
    """A receipt of the log that goes on is here before this home has read the declaration."""
    after = declaring(world)
    ask(after)
    await shown(party, after, syncs=False)


async def test_a_break_is_forgiven_once(party: Home, world: World) -> None:
    """Another fork among the sizes of the lost entries is one."""
    after = declaring(world)
    ask(after)
    await shown(party, after)
    forked = after.copy()
    forked.access_log = rebuilt(after.access_log, after.access_log.leaves[:-1], after.access_log.bodies[:-1])
    ask(forked)
    ask(forked)
    with pytest.raises(ForkError):
        await shown(party, forked)


async def test_a_break_excuses_nothing_before_it(party: Home, world: World) -> None:
    leaves, bodies = list(world.access_log.leaves), list(world.access_log.bodies)
    leaves[0], leaves[1], bodies[0], bodies[1] = leaves[1], leaves[0], bodies[1], bodies[0]
    forked = world.copy()
    forked.access_log = rebuilt(world.access_log, leaves[:KEPT], bodies[:KEPT])
    after = declaring(world)
    after.access_log = forked.access_log
    with pytest.raises(ForkError):
        await shown(party, after)


async def test_a_break_excuses_nothing_beyond_what_it_says(party: Home, world: World) -> None:
    after = declaring(world, lost_checkpoint=world.access_log.checkpoint(4))
    with pytest.raises(RollbackError):
        await shown(party, after)


# An auditor.


@pytest.fixture
def office(tmp_path: Path, world: World) -> Home:
    """It has five entries."""
    home = audit_home(tmp_path / "audit-office", world)
    asyncio.run(mirror(home, AuditedExchange(world.copy())))
    return home


def audit(home: Home, after: World, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    exchange = AuditedExchange(after)
    monkeypatch.setattr(sync_command, "Session", lambda home: Session(home, exchange, exchange.clock))
    return CliRunner().invoke(audit_app, [*arguments, "--home", str(home.path)])


def test_an_auditor_tells_a_disaster_from_fraud(office: Home, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    after = declaring(world)
    ask(after)
    result = audit(office, after, monkeypatch, "sync")
    assert result.exit_code == 0, result.output
    warning = f"declares that the access log lost its entries {KEPT} to 4, signed by the root: {REASON}"
    assert f"WARNING: entry {world.directory_log.size} of the directory {warning}" in result.stdout
    assert "4 entries" in result.stdout
    verified = audit(office, after, monkeypatch, "verify", "full")
    assert verified.exit_code == 0, verified.output
    assert warning in verified.stdout
    again = audit(office, after, monkeypatch, "sync", "--json")
    assert json.loads(again.stdout)["breaks"][0]["lost"] == [KEPT, 4]
    kept = sorted(path.suffix for path in (office.path / "evidence").glob("access-break-*"))
    assert kept == [".db", ".txt"]


def test_without_a_declaration_it_is_a_rollback(office: Home, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    result = audit(office, earlier(world, world.directory_log.size, KEPT), monkeypatch, "sync")
    assert (result.exit_code, "had 5 entries, and now has 3" in result.stderr) == (4, True)


def test_a_declaration_of_another_history_is_a_fork(
    office: Home, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaves, bodies = list(world.access_log.leaves), list(world.access_log.bodies)
    leaves[0], leaves[1], bodies[0], bodies[1] = leaves[1], leaves[0], bodies[1], bodies[0]
    other = rebuilt(world.access_log, leaves[:KEPT], bodies[:KEPT])
    after = declaring(world, first_checkpoint=other.checkpoint())
    after.access_log = other
    assert audit(office, after, monkeypatch, "sync").exit_code == 4


def test_an_auditor_who_comes_later_is_told_too(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home = audit_home(tmp_path / "late", world)
    result = audit(home, declaring(world), monkeypatch, "sync")
    assert (result.exit_code, f"signed by the root: {REASON}" in result.stdout) == (0, True)
