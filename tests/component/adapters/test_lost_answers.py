"""A ledger that has lost answers for good declares them, goes on after them, and nothing else passes for that."""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.anchor import AnchorError, mark_restored
from adapters.cli import app
from adapters.ledger import Ledger, LedgerBusyError, LedgerError, LedgerHead
from adapters.ledger_breaks import LARGEST, draft_break, read_start
from adapters.ledger_starts import LostLedger
from adapters.lost_answers import Declared, declare
from adapters.reconciling import Problem, Reconciler, Reconciliation, described, summary
from exchange.backup.databases import copy_database
from exchange.client.errors import EvidenceError
from exchange.core.decision import Usage
from exchange.core.entries import successor_entry
from exchange.core.envelope import Envelope, sign
from exchange.core.wire import encode
from exchange.v1.access_pb2 import AccessBody
from exchange.v1.directory_pb2 import Successor
from exchange.v1.ledger_pb2 import LedgerBreak
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.component.adapters.test_ledger import batch, tampered
from tests.component.adapters.test_reconciling import LATER, Reading, answered, named, settled
from tests.memory import MemoryLog, signer
from tests.simulator import make_home
from tests.world import EXCHANGE, HOUSING, ORIGIN, REGISTRY, World

REASON = "the disk failed"


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    async with provider_at(tmp_path, World.standard()) as provider:
        Reading(provider)
        yield provider


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def lose(provider: Provider, path: Path, copy: Path | None, *, anchor: bool = True) -> None:
    """The disk fails: what is left is a copy, or nothing."""
    provider.ledger.close()
    for suffix in ("", "-wal", "-shm", *(() if anchor else (".anchor",))):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    if copy is not None:
        shutil.copy(copy, path)


async def declared(provider: Provider, path: Path) -> Declared:
    with LostLedger.held(path) as ledger:
        return await declare(provider.session, ledger, REASON)


async def compared(provider: Provider, ledger: Ledger) -> Reconciliation:
    return await Reconciler(provider.session, ledger).run()


def broken(after: LedgerHead, until: int, **changes: object) -> Envelope:
    """A declaration; signed by nobody that the file would know."""
    values = {"party": str(REGISTRY), "after_number": after.number, "after_chain": after.chain, "until_number": until}
    said = LedgerBreak(**(values | {"reason": REASON, "log_size": 9} | changes))  # type: ignore[arg-type]
    return sign(signer("registry"), ORIGIN, draft_break(said))


@pytest.mark.parametrize("anchor", [True, False])
async def test_goes_on_after_the_answers_that_the_log_has(provider: Provider, path: Path, anchor: bool) -> None:
    for _ in range(2):
        await settled(provider)
    copy_database(path, path.with_name("copy.db"))
    for _ in range(3):
        await settled(provider)
    lose(provider, path, path.with_name("copy.db"), anchor=anchor)
    assert await declared(provider, path) == Declared(first=3, last=5, kept=2, entries=3, counted=3)
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head.number == 5
        ledger.verify()
        [start] = ledger.starts()
        assert (start.said.reason, start.said.log_size, start.said.party) == (REASON, 5, str(REGISTRY))
        found = await compared(provider, ledger)
        assert named(found) == []
        assert (found.answers, found.entries) == (2, 5)
        assert f"answers 3 to 5: {REASON}" in "\n".join(summary(found))
        assert described(found)["declared"] == [
            {"first": 3, "last": 5, "declared": provider.world.now, "reason": REASON, "entries_before": 5}
        ]


async def test_a_ledger_that_is_gone_altogether_begins_anew(provider: Provider, path: Path) -> None:
    for _ in range(2):
        await settled(provider)
    lose(provider, path, None)
    with pytest.raises(AnchorError, match="it is missing"):
        Ledger.open(path)
    assert await declared(provider, path) == Declared(first=1, last=2, kept=0, entries=2, counted=2)
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head.number == 2
        assert named(await compared(provider, ledger)) == []


async def test_what_the_anchor_has_seen_counts_as_given(provider: Provider, path: Path) -> None:
    """An answer that was committed and has no entry: its number is never given again."""
    await settled(provider)
    await answered(provider)
    lose(provider, path, None)
    found = await declared(provider, path)
    assert (found.last, found.counted, found.uncounted) == (2, 1, 1)


def used(ledger: Ledger, world: World) -> Usage:
    """What housing has used of the agreement that it asks under, of any number a minute."""
    [agreement] = ledger.agreements(0)
    return ledger.usage(agreement, str(HOUSING), world.now, 1_000)


@pytest.mark.parametrize("copied", [True, False])
async def test_the_limits_of_agreements_count_what_was_lost_by_the_log(
    provider: Provider, path: Path, copied: bool
) -> None:
    for _ in range(2):
        await settled(provider)
    copy_database(path, path.with_name("copy.db"))
    for _ in range(3):
        await settled(provider)
    before = used(provider.ledger, provider.world)
    assert (before.minute, before.day, before.total) == (5, 5, 5)
    lose(provider, path, path.with_name("copy.db") if copied else None)
    assert (await declared(provider, path)).uncounted == 0
    with closing(Ledger.open(path)) as ledger:
        ledger.verify()
        assert used(ledger, provider.world) == before
    # Only what was declared lost may be counted without a row.
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE uses SET number = 6 WHERE number = 5")
    with pytest.raises(LedgerError, match="how often agreements were used"), closing(Ledger.open(path)) as ledger:
        ledger.verify()


async def test_a_lost_answer_whose_body_was_erased_counts_against_no_limit(provider: Provider, path: Path) -> None:
    await settled(provider)
    await settled(provider)
    provider.world.access_log.bodies[0] = b""
    lose(provider, path, None)
    found = await declared(provider, path)
    assert (found.last, found.counted, found.uncounted) == (2, 1, 1)
    with closing(Ledger.open(path)) as ledger:
        assert used(ledger, provider.world).total == 1


async def test_a_request_that_was_not_answered_so_is_no_evidence(provider: Provider, path: Path) -> None:
    await settled(provider)
    await settled(provider)
    bodies = provider.world.access_log.bodies
    own, other = (AccessBody.FromString(body) for body in bodies[:2])
    bodies[0] = encode(AccessBody(request=other.request, response=own.response))
    lose(provider, path, None)
    with pytest.raises(EvidenceError, match="was not answered so"):
        await declared(provider, path)


async def test_where_nothing_is_lost_nothing_is_declared(provider: Provider, path: Path) -> None:
    await settled(provider)
    provider.ledger.close()
    mark_restored(path)
    with pytest.raises(AnchorError, match="came out of a backup"):
        Ledger.open(path)
    assert await declared(provider, path) == Declared(first=2, last=0, kept=1, entries=0)
    with closing(Ledger.open(path)) as ledger:
        assert ledger.starts() == ()
        assert ledger.head.number == 1


async def test_an_entry_after_the_declaration_is_no_lost_answer(provider: Provider, path: Path) -> None:
    """Whoever answered with the old numbers afterwards is found out."""
    await settled(provider)
    copy_database(path, path.with_name("copy.db"))
    await settled(provider)
    late, response = await answered(provider)
    lose(provider, path, path.with_name("copy.db"))
    assert (await declared(provider, path)).last == 3
    provider.world.release(late, response)
    provider.world.now += LATER
    with closing(Ledger.open(path)) as ledger:
        assert named(await compared(provider, ledger)) == [(Problem.NOT_ANSWERED, 3, 2)]


async def test_entries_that_the_log_has_lost_are_no_difference_once_that_is_declared(
    provider: Provider, path: Path
) -> None:
    world = provider.world
    for _ in range(3):
        await settled(provider)
    lost, world.access_log = world.access_log, MemoryLog(world.access_log.signer.name)
    world.access_log.append(lost.leaves[0], lost.bodies[0])
    said = Successor(lost_checkpoint=lost.checkpoint(), first_checkpoint=lost.checkpoint(1), reason=REASON)
    assert not world.append(successor_entry(EXCHANGE, said), EXCHANGE).reason
    await provider.session.sync()
    world.now += LATER
    found = await compared(provider, provider.ledger)
    assert (named(found), found.given_up, found.answers) == ([], 2, 3)
    assert "entries the log has lost, as the root has declared: 2" in "\n".join(summary(found))


async def test_a_body_that_is_not_this_systems_answer_is_no_evidence(provider: Provider, path: Path) -> None:
    await settled(provider)
    await settled(provider)
    bodies = provider.world.access_log.bodies
    bodies[1] = bodies[0]
    lose(provider, path, None)
    with pytest.raises(EvidenceError, match="not this system's answer"):
        await declared(provider, path)
    with pytest.raises(AnchorError):
        Ledger.open(path)


async def test_answers_continue_the_chain_behind_the_declaration(tmp_path: Path, path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 3))
        after = ledger.head
    with LostLedger.held(path) as lost:
        head = lost.begin_anew(broken(after, 1000))
    assert head.number == 1000
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head == head
        ledger.commit(batch(head, 250))
        ledger.verify()
        with pytest.raises(LedgerError, match="number"):
            ledger.commit(batch(after, 1))
    with LostLedger.held(path) as lost:
        assert lost.begin_anew(broken(lost.head, 2000)).number == 2000
    with closing(Ledger.read(path)) as reader:
        reader.verify()
        assert len(reader.starts()) == 2


@pytest.mark.parametrize("column", ["number", "chain", "declaration"])
def test_finds_a_change_in_a_declaration(path: Path, column: str) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 3))
        after = ledger.head
    with LostLedger.held(path) as lost:
        lost.begin_anew(broken(after, 10))
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    with closing(sqlite3.connect(path)) as db, db:
        [(value,)] = db.execute(f"SELECT {column} FROM starts")
        db.execute(f"UPDATE starts SET {column} = ?", (tampered(value),))
    with pytest.raises(LedgerError), closing(Ledger.read(path)) as reader:
        reader.verify()


@pytest.mark.parametrize("after", [0, 2])
def test_a_declaration_hides_no_answer(path: Path, after: int) -> None:
    """Written past the adapter, over answers that are there."""
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 5))
        data = broken(ledger.at(after), 3).encode()
    start = read_start(data)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO starts VALUES (?, ?, ?)", (start.head.number, start.head.chain, data))
    with pytest.raises(LedgerError), closing(Ledger.read(path)) as reader:
        reader.verify()


@pytest.mark.parametrize(
    ("after", "until", "changes"),
    [(5, 5, {}), (5, 4, {}), (0, LARGEST, {}), (0, 5, {"after_chain": b"short"})],
)
def test_refuses_a_declaration_that_goes_nowhere(path: Path, after: int, until: int, changes: dict[str, bytes]) -> None:
    envelope = broken(LedgerHead(after, bytes(32)), until, **changes)
    with LostLedger.held(path) as lost, pytest.raises(LedgerError, match="does not hold"):
        lost.begin_anew(envelope)


def test_refuses_a_declaration_after_another_row(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    with LostLedger.held(path) as lost, pytest.raises(LedgerError, match="does not follow"):
        lost.begin_anew(broken(LedgerHead(1, bytes(32)), 5))


def test_is_not_declared_under_a_running_adapter(path: Path) -> None:
    with closing(Ledger.open(path)), pytest.raises(LedgerBusyError), LostLedger.held(path):
        pass


def test_a_ledger_of_an_earlier_version_is_read(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE starts")
    with closing(Ledger.read(path)) as reader:
        reader.verify()
        assert (reader.starts(), reader.head.number) == ((), 2)


# The adapter's backups.


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.output


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = make_home(tmp_path / "registry", World.standard(), REGISTRY).path
    with closing(Ledger.open(home / "ledger.db")) as ledger:
        ledger.commit(batch(ledger.head, 3))
    return home


def test_a_restored_adapter_does_not_run_before_it_is_declared_what_was_lost(tmp_path: Path, home: Path) -> None:
    backup, new = tmp_path / "registry.backup", tmp_path / "new"
    assert run("backup", "create", "--home", home, "--out", backup)[0] == 0
    code, output = run("backup", "verify", backup)
    assert (code, "3 answers, chained; the anchor fits" in output) == (0, True)
    code, output = run("backup", "restore", backup, "--home", new)
    assert (code, f"exchange-adapter ledger recover --reason TEXT --home {new}" in output) == (0, True)
    with pytest.raises(AnchorError, match="came out of a backup"):
        Ledger.open(new / "ledger.db")
    with closing(Ledger.read(new / "ledger.db")) as reader:
        assert reader.head.number == 3


def test_a_backup_is_taken_while_the_ledger_is_written(tmp_path: Path, home: Path) -> None:
    with closing(Ledger.open(home / "ledger.db")) as ledger:
        ledger.commit(batch(ledger.head, 4))
        assert run("backup", "create", "--home", home, "--out", tmp_path / "one.backup")[0] == 0
    code, output = run("backup", "verify", tmp_path / "one.backup", "--json")
    assert code == 0
    assert json.loads(output)["heads"]["ledger.db: ledger"]["size"] == 7


def test_an_altered_ledger_is_no_good_backup(tmp_path: Path, home: Path) -> None:
    with closing(sqlite3.connect(home / "ledger.db")) as db, db:
        db.execute("UPDATE answers SET time = 7 WHERE number = 2")
    run("backup", "create", "--home", home, "--out", tmp_path / "one.backup")
    code, output = run("backup", "verify", tmp_path / "one.backup")
    assert (code, "row 2" in output) == (1, True)
    assert run("backup", "restore", tmp_path / "one.backup", "--home", tmp_path / "new")[0] == 1
    assert not (tmp_path / "new").exists()


def test_a_ledger_behind_its_anchor_is_no_good_backup(tmp_path: Path, home: Path) -> None:
    (home / "ledger.db.anchor").write_text(json.dumps({"number": 9, "chain": "00" * 32}))
    run("backup", "create", "--home", home, "--out", tmp_path / "one.backup")
    code, output = run("backup", "verify", tmp_path / "one.backup")
    assert (code, "an older copy" in output) == (1, True)
