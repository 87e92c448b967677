"""`exchange log fsck`: what is wrong beside the leaves is mended, what was tampered with is named."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from exchange.broker import fsck
from exchange.cli.brokers import log
from exchange.cli.main import app
from exchange.core.access import read_access_leaf
from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.home import Home
from exchange.store.inspection import COLUMNS, InspectedRow, Inspection
from exchange.store.ports import Log, StoreBusyError
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import AccessKind
from tests.component.audit.copies import DENY, busy_world, log_entry
from tests.component.cli.stores import (
    POSTGRES,
    SQLITE,
    alter,
    broker_home,
    configure,
    database,
    dump,
    execute,
    store_name,
)
from tests.memory import MemoryLog
from tests.store.fixtures import access, append
from tests.world import ORIGIN

__all__ = ["database"]

ACCESS, DIRECTORY = f"{ORIGIN}/access", f"{ORIGIN}/directory"


@pytest.fixture
def home(tmp_path: Path, database: str) -> Path:
    return broker_home(tmp_path / "broker", busy_world(), database)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that five entries take more than one."""
    monkeypatch.setattr(fsck, "PAGE", 2)


SQLITE_ALONE = pytest.mark.parametrize("database", [SQLITE], indirect=True)
POSTGRES_ALONE = pytest.mark.parametrize("database", [POSTGRES], indirect=True)


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["log", "fsck", "--home", str(home), *arguments])


def check_mended(home: Path, before: list[str], text: str) -> None:
    """What is wrong is named, left alone unless a repair is asked for, and then exactly as it was."""
    wrong = dump(home)
    result = run(home)
    assert (result.exit_code, result.stdout.count("FAIL")) == (1, 1), result.output
    assert text in result.stdout
    assert "--repair" in result.stderr
    assert dump(home) == wrong
    result = run(home, "--repair")
    assert result.exit_code == 0, result.output
    assert f"mended  {text}" in result.stdout
    assert dump(home) == before
    assert run(home).exit_code == 0


def check_not_mended(home: Path, text: str, exit_code: int = 1) -> None:
    """What is wrong is named, and a repair writes nothing."""
    wrong = dump(home)
    for options in ((), ("--repair",)):
        result = run(home, *options)
        assert result.exit_code == exit_code, result.output
        assert f"FAIL  {text}" in result.stdout
        assert dump(home) == wrong


def test_an_untouched_store_is_found_right(home: Path) -> None:
    before = dump(home)
    for options in ((), ("--repair",)):
        result = run(home, *options)
        assert result.exit_code == 0, result.output
        assert f"{ACCESS}     5 entries" in result.stdout
        assert "are those of the leaves" in result.stdout
    assert dump(home) == before


def test_a_broker_that_never_served_is_found_right(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", "city.example", "--home", str(tmp_path / "operator")])
    assert result.exit_code == 0
    assert run(tmp_path / "operator" / "broker").exit_code == 0


# What can be mended.


@pytest.mark.parametrize("log", ["directory", "access"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_mends_a_node(home: Path, log: str, place: int) -> None:
    before = dump(home)
    alter(home, "UPDATE nodes SET hash = ? WHERE log = ? AND place = ?", bytes(32), log, place)
    check_mended(home, before, f"{ORIGIN}/{log}: of the nodes that entries")


def test_mends_nodes_that_are_missing(home: Path) -> None:
    before = dump(home)
    alter(home, "DELETE FROM nodes WHERE log = 'access' AND place IN (3, 4)")
    check_mended(home, before, f"{ACCESS}: of the nodes that entries 2 to 3 complete, 2 are wrong or missing")


def test_removes_nodes_of_no_tree(home: Path) -> None:
    before = dump(home)
    alter(home, "INSERT INTO nodes VALUES ('access', 8, ?)", bytes(32))
    check_mended(home, before, f"{ACCESS}: it has 1 nodes of no tree")


OTHER: dict[str, Any] = {"time": 1, "kind": 2, "code": 5, "requester": "a", "provider": "b"}


@pytest.mark.parametrize("column", COLUMNS)
def test_mends_an_index_column(home: Path, column: str) -> None:
    before = dump(home)
    alter(home, f"UPDATE entries SET {column} = ? WHERE log = 'access' AND idx = 0", OTHER.get(column, b"other"))
    check_mended(home, before, f"entry 0 of {ACCESS}: its index says something else than its leaf: {column}")


def test_mends_an_index_of_the_directory_that_should_be_empty(home: Path) -> None:
    before = dump(home)
    alter(home, "UPDATE entries SET requester = 'a' WHERE log = 'directory' AND idx = 3")
    check_mended(home, before, f"entry 3 of {DIRECTORY}: its index says something else than its leaf: requester")


@SQLITE_ALONE
def test_builds_an_index_of_the_file_again(home: Path) -> None:
    with closing(sqlite3.connect(home / "exchange.db")) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'kind IN (1, 2)', 'kind IN (1, 2, 3)')")
    result = run(home)
    assert result.exit_code == 1
    assert "SQLite says" in result.stdout
    assert run(home, "--repair").exit_code == 0
    assert run(home).exit_code == 0


@pytest.mark.parametrize("index", ["entries_released", "entries_settled", "entries_provider"])
def test_makes_an_index_of_the_database_that_is_missing(home: Path, index: str) -> None:
    before = dump(home)
    execute(home, f"DROP INDEX {index}")
    check_mended(home, before, f"the index {index} is missing, or is another one")


def test_makes_the_index_unique_that_keeps_a_second_release_out(home: Path) -> None:
    before = dump(home)
    execute(home, "DROP INDEX entries_released")
    execute(home, "CREATE INDEX entries_released ON entries (request_id, requester)")
    check_mended(home, before, "the index entries_released is missing, or is another one")


@POSTGRES_ALONE
def test_builds_an_index_that_the_server_calls_invalid_again(home: Path) -> None:
    before = dump(home)
    alter(home, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'entries_settled'::regclass")
    check_mended(home, before, "PostgreSQL says: the index entries_settled is not valid")


def test_keeps_nothing_of_a_repair_that_does_not_mend_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alter(home, "UPDATE nodes SET hash = ? WHERE log = 'access' AND place = 0", bytes(32))
    alter(home, "UPDATE entries SET provider = 'b' WHERE log = 'access' AND idx = 0")
    wrong = dump(home)
    monkeypatch.setattr(Inspection, "set_columns", lambda *_: None)
    result = run(home, "--repair")
    assert result.exit_code == 1
    assert result.stdout.count("FAIL") == 1
    assert "index says something else than its leaf: provider" in result.stdout
    assert dump(home) == wrong


# Beside brokers that run.


@POSTGRES_ALONE
def test_checks_one_state_while_brokers_append(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, numbers = Inspection.rows, count()
    store = SqlLogStore.open(store_name(home))

    def rows_and_an_append(self: Inspection, log: Log, start: int, count: int) -> list[InspectedRow]:
        append(store, Log.ACCESS, access(next(numbers)))
        return rows(self, log, start, count)

    monkeypatch.setattr(Inspection, "rows", rows_and_an_append)
    try:
        result = run(home)
        assert result.exit_code == 0, result.output
        assert f"{ACCESS}     5 entries" in result.stdout
        assert store.head(Log.ACCESS).size > 5
    finally:
        store.close()


@POSTGRES_ALONE
def test_a_repair_holds_the_lock_of_the_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.postgres.WAIT_SECONDS", 0.05)
    alter(home, "UPDATE nodes SET hash = ? WHERE log = 'access' AND place = 0", bytes(32))
    set_nodes, store = Inspection.set_nodes, SqlLogStore.open(store_name(home))
    refused = []

    def set_nodes_beside_a_broker(self: Inspection, log: Log, hashes: Mapping[int, bytes]) -> None:
        with pytest.raises(StoreBusyError), store.locked():
            pytest.fail("the lock was free")
        refused.append(log)
        set_nodes(self, log, hashes)

    monkeypatch.setattr(Inspection, "set_nodes", set_nodes_beside_a_broker)
    try:
        assert run(home, "--repair").exit_code == 0
        assert Log.ACCESS in refused
        with store.locked() as transaction:
            assert transaction.heads()[Log.ACCESS].size == 5
    finally:
        store.close()


@POSTGRES_ALONE
def test_a_repair_waits_for_a_broker_only_so_long(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.postgres.WAIT_SECONDS", 0.05)
    alter(home, "UPDATE nodes SET hash = ? WHERE log = 'access' AND place = 0", bytes(32))
    wrong, store = dump(home), SqlLogStore.open(store_name(home))
    try:
        with store.locked():
            result = run(home, "--repair")
    finally:
        store.close()
    assert result.exit_code == 3
    assert "the database was not free in time" in result.stderr
    assert dump(home) == wrong


# What cannot.


def test_never_mends_a_leaf(home: Path) -> None:
    row = read_access_leaf(busy_world().access_log.leaves[1])
    row.time += 1
    alter(home, "UPDATE entries SET leaf = ?, time = ? WHERE log = 'access' AND idx = 1", encode(row), row.time)
    check_not_mended(home, f"{ACCESS}: its leaves do not make the root")


def test_mends_nothing_beside_what_cannot_be_mended(home: Path) -> None:
    alter(home, "UPDATE nodes SET hash = ? WHERE log = 'access' AND place = 0", bytes(32))
    alter(home, "UPDATE entries SET body = ? WHERE log = 'access' AND idx = 1", b"")
    check_not_mended(home, f"entry 1 of {ACCESS}: its body is missing")


@pytest.mark.parametrize("index", [0, 2, 4])
def test_finds_a_deleted_entry(home: Path, index: int) -> None:
    alter(home, "DELETE FROM entries WHERE log = 'access' AND idx = ?", index)
    check_not_mended(home, f"{ACCESS}: its leaves do not make the root")


def test_finds_an_entry_past_the_head(home: Path) -> None:
    alter(
        home,
        "INSERT INTO entries SELECT log, 5, time, kind, code, requester, provider, response_digest, request_digest,"
        " response_digest, leaf, body FROM entries WHERE log = 'access' AND idx = 4",
    )
    check_not_mended(home, f"{ACCESS}: its head says 5 entries, and there are 6")


def test_finds_a_truncated_log_with_a_head_of_its_own(home: Path) -> None:
    alter(home, "DELETE FROM entries WHERE log = 'access' AND idx = 4")
    alter(home, "UPDATE heads SET size = 4 WHERE log = 'access'")
    check_not_mended(home, f"{ACCESS}: its leaves do not make the root of its signed checkpoint of 5 entries")


def test_finds_a_head_of_another_time(home: Path) -> None:
    alter(home, "UPDATE heads SET time = time + 1 WHERE log = 'directory'")
    check_not_mended(home, f"{DIRECTORY}: its head has another time than its last entry")


def test_finds_a_missing_head(home: Path) -> None:
    alter(home, "DELETE FROM heads WHERE log = 'access'")
    check_not_mended(home, f"{ACCESS}: the database has no head of it")


def test_ends_with_5_where_the_checkpoint_is_by_another_key(home: Path) -> None:
    other = MemoryLog(ACCESS + "x").checkpoint(0)
    alter(home, "UPDATE heads SET checkpoint = ? WHERE log = 'access'", other)
    check_not_mended(home, f"{ACCESS}: its checkpoint is not signed by the log key in the trust file", 5)


@pytest.mark.parametrize("body", [b"\xff", b"other"])
def test_finds_another_body_beside_a_leaf(home: Path, body: bytes) -> None:
    alter(home, "UPDATE entries SET body = ? WHERE log = 'access' AND idx = 1", body)
    check_not_mended(home, f"entry 1 of {ACCESS}: its body cannot be read")


def test_finds_the_body_of_another_entry(home: Path) -> None:
    alter(
        home,
        "UPDATE entries SET body = (SELECT body FROM entries WHERE log = 'access' AND idx = 0)"
        " WHERE log = 'access' AND idx = 2",
    )
    check_not_mended(home, f"entry 2 of {ACCESS}: its body is not the one that its leaf names")


def test_finds_a_missing_body_of_the_directory(home: Path) -> None:
    alter(home, "UPDATE entries SET body = ? WHERE log = 'directory' AND length(body) > 0", b"")
    check_not_mended(home, "entry ")


def test_finds_entries_that_break_a_rule_or_run_backwards(tmp_path: Path) -> None:
    """What whoever holds the log keys may have signed."""
    world = busy_world()
    log_entry(world, AccessKind.ACCESS_KIND_REFUSED, DENY.code, time=1, directory_size=0)
    world.directory_log.append(world.directory_log.leaves[0])
    broker_home(tmp_path / "broker", world)
    found = json.loads(run(tmp_path / "broker", "--json").stdout)["problems"]
    texts = [f"entry {item['index']} of {item['log']}: {item['text']}" for item in found]
    assert any("its time runs backwards" in text for text in texts)
    assert any("which runs backwards or does not exist" in text for text in texts)
    assert any(text.startswith(f"entry {world.directory_log.size - 1} of {DIRECTORY}: ") for text in texts)


# The command.


@SQLITE_ALONE
def test_a_file_in_use_is_left_alone(home: Path) -> None:
    store = SqlLogStore.open(home / "exchange.db")
    try:
        result = run(home)
    finally:
        store.close()
    assert result.exit_code == 3
    assert "is already open" in result.stderr
    assert "stop the broker first" in result.stderr


def test_a_missing_database_is_no_check(home: Path) -> None:
    missing = "other.db" if isinstance(store_name(home), Path) else "postgresql://nobody@/none?host=/nowhere"
    configure(home, missing)
    result = run(home)
    assert result.exit_code == 3
    assert ("stop the broker first" in result.stderr) == (missing == "other.db")


def test_a_home_without_logs_is_wrong_usage(tmp_path: Path) -> None:
    Home.create(tmp_path / "health", Party(ORIGIN, "health"), "department")
    assert run(tmp_path / "health").exit_code == 2


def test_json_says_what_was_found(home: Path) -> None:
    alter(home, "UPDATE nodes SET hash = ? WHERE log = 'access' AND place = 0", bytes(32))
    found = json.loads(run(home, "--json").stdout)
    assert {item["log"]: item["entries"] for item in found["logs"]}[ACCESS] == 5
    assert [(item["log"], item["mendable"]) for item in found["problems"]] == [(ACCESS, True)]
    assert (found["more"], found["mended"]) == (0, False)
    assert json.loads(run(home, "--json", "--repair").stdout)["mended"] is True


def test_counts_what_it_does_not_list(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SHOWN", 2)
    alter(home, "UPDATE entries SET provider = 'b' WHERE log = 'access'")
    result = run(home)
    assert result.stdout.count("FAIL") == 2
    assert "and 3 more" in result.stdout
