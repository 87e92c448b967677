"""`exchange log recover`: a restored log goes on as if nothing had been lost, and never as another one."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.broker import recovery
from exchange.broker.anchor import Anchor, AnchorError
from exchange.broker.genesis import log_signers
from exchange.cli.main import app
from exchange.client.mirror import DirectoryMirror
from exchange.core.entries import erased_entry
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from exchange.v1.directory_pb2 import EntryRange, Erased
from tests.component.audit.copies import AuditedExchange, audit_home, busy_world, mirror, rebuilt
from tests.component.cli.restored import earlier, place_anchor, whole_home
from tests.component.cli.stores import SQLITE, database, dump, store_name
from tests.simulator import make_home
from tests.world import COORDINATOR, World

__all__ = ["database"]

SQLITE_ALONE = pytest.mark.parametrize("database", [SQLITE], indirect=True)


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """An auditor's home that has seen everything."""
    home = audit_home(tmp_path_factory.mktemp("office") / "office", world)
    asyncio.run(mirror(home, AuditedExchange(world.copy())))
    return home.path


@pytest.fixture
def home(tmp_path: Path, world: World, database: str) -> Path:
    """A broker's home, restored: its logs lack their ends, and there is no anchor."""
    shorter = earlier(world, world.directory_log.size - 3, 2)
    home = whole_home(tmp_path / "broker", shorter, database)
    shutil.rmtree(home / "anchor")
    return home


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAGE", 2)


def run(home: Path, *sources: object) -> Result:
    given = [text for source in sources for text in ("--from", str(source))]
    return CliRunner().invoke(app, ["log", "recover", *given, "--home", str(home)])


def check_refused(home: Path, said: str, *sources: object, exit_code: int = 4) -> None:
    before = dump(home)
    result = run(home, *sources)
    assert result.exit_code == exit_code, result.output
    assert said in result.stderr
    assert dump(home) == before
    assert not (home / "anchor").exists()


def check_anchor(home: Path) -> None:
    with closing(SqlLogStore.open(store_name(home))) as store:
        verifiers = {log: signer.verifier for log, signer in log_signers(Home(home)).items()}
        Anchor(home / "anchor", store, verifiers).check()


def test_the_log_goes_on_as_if_nothing_had_been_lost(tmp_path: Path, world: World, home: Path, office: Path) -> None:
    with pytest.raises(AnchorError, match="cannot be read"):
        check_anchor(home)
    result = run(home, office)
    assert result.exit_code == 0, result.output
    assert "access: 3 entries put back, 2 to 4" in result.stdout
    whole = whole_home(tmp_path / "whole", world)
    assert dump(home) == dump(whole)
    check_anchor(home)
    assert CliRunner().invoke(app, ["log", "fsck", "--home", str(home)]).exit_code == 0


def test_where_nothing_was_lost_the_anchor_alone_is_placed(tmp_path: Path, world: World, office: Path) -> None:
    home = whole_home(tmp_path / "broker", world)
    shutil.rmtree(home / "anchor")
    before = dump(home)
    result = run(home, office / "mirror.db", office / "access-mirror.db")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("no mirror here has seen more") == 2
    assert dump(home) == before
    check_anchor(home)


def test_a_mirror_that_is_behind_the_log_changes_nothing(tmp_path: Path, world: World) -> None:
    office = audit_home(tmp_path / "office", world)
    asyncio.run(mirror(office, AuditedExchange(earlier(world, world.directory_log.size - 2, 3))))
    home = whole_home(tmp_path / "broker", world)
    shutil.rmtree(home / "anchor")
    assert run(home, office.path).exit_code == 0
    check_anchor(home)


@SQLITE_ALONE
def test_a_mirror_of_another_history_is_refused(tmp_path: Path, world: World, home: Path) -> None:
    forked = world.copy()
    leaves = list(world.access_log.leaves)
    leaves[0], leaves[1] = leaves[1], leaves[0]
    bodies = list(world.access_log.bodies)
    bodies[0], bodies[1] = bodies[1], bodies[0]
    forked.access_log = rebuilt(world.access_log, leaves, bodies)
    office = audit_home(tmp_path / "office", world)
    asyncio.run(mirror(office, AuditedExchange(forked)))
    check_refused(home, "is another one than the one whose", office.path)


@SQLITE_ALONE
@pytest.mark.parametrize(("index", "said"), [(2, "two releases of one request"), (4, "is another one than the one")])
def test_an_altered_leaf_of_a_mirror_is_refused(
    tmp_path: Path, home: Path, office: Path, index: int, said: str
) -> None:
    altered = shutil.copytree(office, tmp_path / "altered")
    with closing(sqlite3.connect(altered / "access-mirror.db")) as file, file:
        file.execute(
            "UPDATE entries SET leaf = (SELECT leaf FROM entries WHERE idx = ?2) WHERE idx = ?1",
            (index, (index // 2) - 1),
        )
    check_refused(home, said, altered)


@SQLITE_ALONE
def test_an_altered_body_of_a_mirror_is_left_out(tmp_path: Path, home: Path, office: Path) -> None:
    altered = shutil.copytree(office, tmp_path / "altered")
    with closing(sqlite3.connect(altered / "access-mirror.db")) as file, file:
        file.execute("UPDATE entries SET body = x'00' WHERE idx = 3")
    result = run(home, altered)
    assert result.exit_code == 0, result.output
    assert "access: 3 entries put back, 2 to 4; 1 of them without a body" in result.stdout
    with closing(SqlLogStore.open(store_name(home))) as store:
        entry = store.entry(Log.ACCESS, 3)
        assert entry is not None
        assert entry.body == b""


@SQLITE_ALONE
def test_what_an_anchor_has_seen_must_come_back(tmp_path: Path, world: World, home: Path) -> None:
    """The anchor was kept on another disk, and is ahead of every mirror."""
    office = audit_home(tmp_path / "office", world)
    asyncio.run(mirror(office, AuditedExchange(earlier(world, world.directory_log.size, 4))))
    (home / "anchor").mkdir()
    for log, memory in ((Log.DIRECTORY, world.directory_log), (Log.ACCESS, world.access_log)):
        (home / "anchor" / log.value).write_bytes(memory.checkpoint())
    before = dump(home)
    result = run(home, office.path)
    assert result.exit_code == 4
    assert "the access log had 5 entries, as somebody was shown, and only 4 are here" in result.stderr
    assert dump(home) == before


@SQLITE_ALONE
async def test_a_partys_mirror_says_that_others_have_seen_more(tmp_path: Path, world: World, home: Path) -> None:
    """It has the directory, and of the access log no more than a checkpoint."""
    party = make_home(tmp_path / "housing", world)
    exchange = AuditedExchange(world.copy())
    directory = await DirectoryMirror.open(party.path / "mirror.db", party.trust)
    await directory.sync(exchange)
    await asyncio.to_thread(check_refused, home, "nothing here says how far the access log has come", party.path)
    with closing(sqlite3.connect(party.path / "mirror.db")) as file, file:
        file.execute("INSERT INTO heads VALUES ('access', ?)", (world.access_log.checkpoint(),))
    await asyncio.to_thread(check_refused, home, "the access log had 5 entries", party.path)


@SQLITE_ALONE
def test_nothing_is_put_back_under_a_running_broker(home: Path, office: Path) -> None:
    with closing(SqlLogStore.open(store_name(home))):
        result = run(home, office)
    assert (result.exit_code, "stop the broker first" in result.stderr) == (3, True)
    assert not (home / "anchor").exists()


def test_what_was_erased_after_the_backup_is_erased_again(tmp_path: Path, world: World) -> None:
    later = world.copy()
    erased = Erased(reason="the retention is over", legal_basis="Archives Act", access=EntryRange(first=0, end=2))
    applied = later.append(erased_entry(COORDINATOR, later.fresh(16), erased), COORDINATOR)
    assert not applied.reason
    later.access_log.bodies[0] = later.access_log.bodies[1] = b""
    office = audit_home(tmp_path / "office", world)
    asyncio.run(mirror(office, AuditedExchange(later)))
    home = whole_home(tmp_path / "broker", world)
    shutil.rmtree(home / "anchor")
    assert run(home, office.path).exit_code == 0
    with closing(SqlLogStore.open(store_name(home))) as store:
        bodies = [entry.body for entry in store.entries(Log.ACCESS, 0, 1 << 30, 10)]
    assert [bool(body) for body in bodies] == [False, False, True, True, True]
    assert CliRunner().invoke(app, ["log", "fsck", "--home", str(home)]).exit_code == 0


@SQLITE_ALONE
def test_the_hint_says_what_a_mirror_is(tmp_path: Path, home: Path) -> None:
    check_refused(home, "there is no mirror in", tmp_path, exit_code=2)
    check_refused(home, "there is no mirror in", tmp_path / "nothing", exit_code=2)
    other = tmp_path / "ledger.db"
    with closing(sqlite3.connect(other)) as file, file:
        file.executescript("CREATE TABLE answers (number); PRAGMA user_version = 1;")
    before = other.read_bytes()
    check_refused(home, "there is no mirror in", other, exit_code=2)
    assert other.read_bytes() == before


@SQLITE_ALONE
def test_prints_json(home: Path, office: Path, world: World) -> None:
    arguments = ["log", "recover", "--from", str(office), "--home", str(home), "--json"]
    result = CliRunner().invoke(app, arguments)
    described = json.loads(result.stdout)
    assert described[1] == {"log": "access", "before": 2, "after": 5, "bodiless": 0}
    assert described[0]["after"] == world.directory_log.size
    place_anchor(home)
