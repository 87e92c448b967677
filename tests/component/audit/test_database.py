"""A copy of the broker's database: whatever was altered in it is found, and named."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit.checking.tree import place_of
from exchange.core.access import read_access_leaf
from exchange.core.wire import encode
from exchange.store.ports import node_place
from tests.component.audit.conftest import Run
from tests.component.audit.copies import ask, changed, rebuilt, rows_of, write_database
from tests.world import MARRIAGE, World

ACCESS, DIRECTORY = "city.example/access", "city.example/directory"


def alter(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(statement, values).rowcount, "nothing was altered"


def test_places_are_numbered_as_the_store_numbers_them() -> None:
    assert all(place_of(level, index) == node_place(level, index) for level in range(6) for index in range(50))


def test_an_untouched_copy_is_verified(run: Run, database: Path, synced: Path) -> None:
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 0, result.output
    assert f"{ACCESS}     asked all, verified 0 to 4, checkpoint 5\n" in result.stdout
    assert "split view not excluded: no witnesses" in result.stdout


def test_the_copy_is_never_written_to(run: Run, database: Path, synced: Path) -> None:
    before = database.read_bytes()
    run("verify", "full", "--database", database, home=synced)
    assert database.read_bytes() == before
    assert [path.name for path in database.parent.glob("copy.db*")] == ["copy.db"]


def test_without_a_mirror_the_copy_is_verified_by_itself(run: Run, database: Path, home: object) -> None:
    result = run("verify", "full", "--database", database, home=home.path)  # type: ignore[attr-defined]
    assert result.exit_code == 0, result.output
    assert "nothing tells whether the copy was rolled back" in result.stderr


SQL: dict[str, tuple[str, tuple[object, ...], str]] = {
    "leaf": (
        "UPDATE entries SET leaf = leaf || x'00' WHERE log = 'access' AND idx = 3",
        (),
        f"entry 3 of {ACCESS}: its leaf is not the one that the tree was built from",
    ),
    "directory leaf": (
        "UPDATE entries SET leaf = leaf || x'00' WHERE log = 'directory' AND idx = 7",
        (),
        f"entry 7 of {DIRECTORY}: its leaf is not the one that the tree was built from",
    ),
    "body": (
        (
            "UPDATE entries SET body = (SELECT body FROM entries WHERE log = 'access' AND idx = 0)"
            " WHERE log = 'access' AND idx = 2"
        ),
        (),
        f"entry 2 of {ACCESS}: the body's request is not the one that the leaf names",
    ),
    "requester column": (
        "UPDATE entries SET requester = ? WHERE log = 'access' AND idx = 1",
        (str(MARRIAGE),),
        f"entry 1 of {ACCESS}: its index says something else than the entry: requester",
    ),
    "time column": (
        "UPDATE entries SET time = time + 1 WHERE log = 'access' AND idx = 1",
        (),
        f"entry 1 of {ACCESS}: its index says something else than the entry: time",
    ),
    "directory column": (
        "UPDATE entries SET kind = 1 WHERE log = 'directory' AND idx = 1",
        (),
        f"entry 1 of {DIRECTORY}: its index says something else than the entry: kind",
    ),
    "leaf node": (
        "UPDATE nodes SET hash = zeroblob(32) WHERE log = 'access' AND place = ?",
        (place_of(0, 2),),
        "the stored node over entry 2 was altered; the leaves were not",
    ),
    "inner node": (
        "UPDATE nodes SET hash = zeroblob(32) WHERE log = 'access' AND place = ?",
        (place_of(1, 1),),
        f"{ACCESS}: the stored node over entries 2 to 3 was altered; the leaves were not",
    ),
    "no node": ("DELETE FROM nodes WHERE log = 'access' AND place = 0", (), "the stored node over entry 0 was altered"),
    "surplus node": ("INSERT INTO nodes VALUES ('access', 99, zeroblob(32))", (), "it has 9 stored nodes; a tree of 5"),
    "deleted": ("DELETE FROM entries WHERE log = 'access' AND idx = 2", (), f"entry 2 of {ACCESS}: missing"),
    "inserted": (
        (
            "INSERT INTO entries SELECT log, 5, time, 2, code, requester, provider, request_id, request_digest,"
            " response_digest, leaf, body FROM entries WHERE log = 'access' AND idx = 4"
        ),
        (),
        f"entry 5 of {ACCESS}: not in the signed checkpoint, which counts 5",
    ),
    "before the first": (
        "UPDATE entries SET idx = -1 WHERE log = 'access' AND idx = 0",
        (),
        f"entry -1 of {ACCESS}: it is out of place",
    ),
    "head size": (
        "UPDATE heads SET size = 4 WHERE log = 'access'",
        (),
        "its head says 4 entries, the signed checkpoint 5",
    ),
    "head time": (
        "UPDATE heads SET time = 1 WHERE log = 'access'",
        (),
        "its head has another time than its last entry",
    ),
    "no head": ("DELETE FROM heads WHERE log = 'access'", (), f"{ACCESS}: the copy has no head of this log"),
}


@pytest.mark.parametrize("attack", SQL)
@pytest.mark.parametrize("with_mirror", [True, False], ids=["with a mirror", "without"])
def test_names_what_was_altered(
    run: Run, database: Path, synced: Path, home: object, attack: str, with_mirror: bool
) -> None:
    statement, values, said = SQL[attack]
    alter(database, statement, *values)
    result = run("verify", "full", "--database", database, home=synced if with_mirror else home.path)  # type: ignore[attr-defined]
    assert result.exit_code == 1, result.output
    assert said in result.stdout
    assert "NOT VERIFIED" in result.stdout


def test_reordered_rows_are_named(run: Run, database: Path, synced: Path) -> None:
    for old, new in ((1, 99), (2, 1), (99, 2)):
        alter(database, "UPDATE entries SET idx = ? WHERE log = 'access' AND idx = ?", new, old)
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 1
    assert all(f"entry {index} of {ACCESS}: its leaf is not the one that" in result.stdout for index in (1, 2))


def test_rows_cut_off_are_a_rollback(run: Run, database: Path, synced: Path) -> None:
    alter(database, "DELETE FROM entries WHERE log = 'access' AND idx >= 3")
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 4
    assert f"{ACCESS}: it has 3 entries, but the log had signed 5" in result.stdout


@pytest.mark.parametrize("log", ["access", "directory"])
def test_another_logs_checkpoint_is_untrusted(run: Run, database: Path, synced: Path, busy: World, log: str) -> None:
    other = busy.directory_log if log == "access" else busy.access_log
    alter(database, "UPDATE heads SET checkpoint = ? WHERE log = ?", other.checkpoint(), log)
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 5
    assert f"city.example/{log}: its checkpoint is not signed by the log key in the trust file" in result.stdout


def rebuilt_database(tmp_path: Path, world: World) -> Path:
    return write_database(tmp_path / "rebuilt.db", world)


def cut(world: World, size: int) -> None:
    log = world.access_log
    world.access_log = rebuilt(log, log.leaves[:size], log.bodies[:size])


def cut_and_go_on(world: World) -> None:
    cut(world, 3)
    ask(world)
    ask(world)
    ask(world)


def hide(world: World) -> None:
    """Entry 1 never was: the log is rebuilt and signed again with its own key."""
    log = world.access_log
    world.access_log = rebuilt(log, [*log.leaves[:1], *log.leaves[2:]], [*log.bodies[:1], *log.bodies[2:]])
    ask(world)


def rewrite(world: World) -> None:
    log = world.access_log
    leaf = read_access_leaf(log.leaves[4])
    leaf.time += 1
    world.access_log = rebuilt(log, [*log.leaves[:4], encode(leaf)])


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (lambda world: cut(world, 3), "it has 3 entries, but the log had signed 5: rolled back, or an old copy"),
        (cut_and_go_on, "fork: it does not go on from the 5 entries that the log had signed to this home"),
        (
            hide,
            "entry 1 of city.example/access: the log signed another entry here than the one that this home's mirror",
        ),
        (
            rewrite,
            "entry 4 of city.example/access: the log signed another entry here than the one that this home's mirror",
        ),
    ],
    ids=["rolled back", "truncated and continued", "an entry hidden", "an entry rewritten"],
)
def test_what_the_stolen_log_key_signed_is_found_by_the_mirror(
    run: Run, tmp_path: Path, synced: Path, busy: World, attack: Callable[[World], None], said: str
) -> None:
    world = busy.copy()
    attack(world)
    result = run("verify", "full", "--database", rebuilt_database(tmp_path, world), home=synced)
    assert result.exit_code == 4, result.output
    assert said in result.stdout


def test_nodes_rebuilt_without_the_log_key_do_not_help(run: Run, tmp_path: Path, synced: Path, busy: World) -> None:
    """A leaf altered and the whole tree rebuilt: only the signature stays what it was."""
    world = busy.copy()
    rewrite(world)
    database = rebuilt_database(tmp_path, world)
    alter(database, "UPDATE heads SET checkpoint = ? WHERE log = 'access'", busy.access_log.checkpoint())
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 1
    assert f"entry 4 of {ACCESS}: its leaf is not the one that this home's mirror has" in result.stdout


def test_a_copy_newer_than_the_mirror_goes_on_from_it(run: Run, tmp_path: Path, synced: Path, busy: World) -> None:
    world = busy.copy()
    world.register("another.purpose")
    ask(world)
    result = run("verify", "full", "--database", rebuilt_database(tmp_path, world), home=synced)
    assert result.exit_code == 0, result.output
    assert "checkpoint 6" in result.stdout


def test_an_older_copy_of_the_directory_is_a_rollback(run: Run, tmp_path: Path, synced: Path, busy: World) -> None:
    world = busy.copy()
    log = world.directory_log
    world.directory_log = rebuilt(log, log.leaves[:-1], log.bodies[:-1])
    result = run("verify", "full", "--database", rebuilt_database(tmp_path, world), home=synced)
    assert result.exit_code == 4
    assert f"{DIRECTORY}: it has {log.size - 1} entries, but the log had signed {log.size}" in result.stdout


def test_a_range_of_a_copy_is_proven_by_its_nodes(run: Run, database: Path, synced: Path) -> None:
    result = run("verify", "range", "1:3", "--database", database, home=synced)
    assert result.exit_code == 0, result.output
    assert "asked 1 to 2, verified 1 to 2, checkpoint 5" in result.stdout
    alter(database, "UPDATE entries SET leaf = leaf || x'00' WHERE log = 'access' AND idx = 2")
    result = run("verify", "range", "1:3", "--database", database, home=synced)
    assert result.exit_code == 1
    assert f"entry 2 of {ACCESS}: it is not proven to be in the log of 5 that was signed" in result.stdout


@pytest.mark.parametrize("content", [b"not a database, though it is long enough to be one" * 100, b""])
def test_a_file_of_another_kind_cannot_be_checked(run: Run, tmp_path: Path, synced: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    result = run("verify", "full", "--database", path, home=synced)
    assert result.exit_code == 3
    assert "hint: " in result.stderr


def test_an_altered_row_of_the_story_is_what_verify_names(run: Run, database: Path, synced: Path, busy: World) -> None:
    """The demo's attack: somebody else is written over who asked."""
    leaf = changed(rows_of(busy.access_log)[0], requester=str(MARRIAGE)).leaf
    alter(database, "UPDATE entries SET leaf = ? WHERE log = 'access' AND idx = 0", leaf)
    result = run("verify", "full", "--database", database, home=synced)
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"FAIL  entry 0 of {ACCESS}: its leaf is not the one that the tree was built from\n"
    )
