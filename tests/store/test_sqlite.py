"""What the SQLite store promises beyond the contract: durability, exclusive use, and what it does when writes fail."""

import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import event

from exchange.store.ports import (
    CommitUnknownError,
    Log,
    NewEntry,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    StoreOpenError,
    Witnessed,
)
from exchange.store.sql import SqlLogStore
from tests.store.fixtures import (
    ALL,
    PROVIDER,
    REQUESTER,
    access,
    append,
    append_batches,
    batch,
    check_whole,
    digest,
    directory,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # A name that is not at home in a URI.
    return tmp_path / "log #1?100%.db"


@contextmanager
def opened(path: Path) -> Iterator[SqlLogStore]:
    store = SqlLogStore.open(path) if path.exists() else SqlLogStore.create(path)
    try:
        yield store
    finally:
        store.close()


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )


# --- creating and opening


def test_reopened_store_has_the_cosigned_checkpoint(path: Path) -> None:
    kept = Witnessed(Log.ACCESS, 7, 1_800_000_000, b"cosigned")
    store = SqlLogStore.create(path)
    with store.locked() as transaction:
        transaction.keep_cosigned(kept)
    store.close()
    store = SqlLogStore.open(path)
    assert store.cosigned(Log.ACCESS) == kept
    store.close()


def test_reopened_store_has_what_was_appended(path: Path) -> None:
    with opened(path) as store:
        head = append(store, Log.ACCESS, *(access(number) for number in range(20)))
        append(store, Log.DIRECTORY, directory(0))
    with opened(path) as store:
        assert store.head(Log.ACCESS) == head
        assert check_whole(store) == {Log.DIRECTORY: 1, Log.ACCESS: 20}
        append(store, Log.ACCESS, access(20))
        assert check_whole(store)[Log.ACCESS] == 21


def test_create_refuses_an_existing_store(path: Path) -> None:
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
    with pytest.raises(StoreOpenError, match="already holds a database"):
        SqlLogStore.create(path)
    with opened(path) as store:
        assert check_whole(store)[Log.ACCESS] == 1


def test_create_takes_over_an_empty_file(path: Path) -> None:
    path.touch()
    SqlLogStore.create(path).close()
    SqlLogStore.open(path).close()


def test_another_database_is_left_alone(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(StoreOpenError, match="already holds a database"):
        SqlLogStore.create(path)
    with pytest.raises(StoreOpenError, match="not a log store"):
        SqlLogStore.open(path)
    assert path.read_bytes() == before


def test_open_refuses_a_missing_file_and_leaves_none(path: Path) -> None:
    with pytest.raises(StoreOpenError, match="there is no log store"):
        SqlLogStore.open(path)
    assert list(path.parent.iterdir()) == []
    with pytest.raises(StoreOpenError, match="cannot open"):
        SqlLogStore.create(path / "nowhere" / "log.db")


def test_open_refuses_an_unknown_version(path: Path) -> None:
    SqlLogStore.create(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreOpenError, match="version 99; this program knows version 3"):
        SqlLogStore.open(path)


def test_open_names_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at " * 100)
    with pytest.raises(StoreFatalError, match="is not a database"):
        SqlLogStore.open(path)


def test_files_are_for_their_owner_alone(path: Path) -> None:
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
        modes = {file.suffix: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    # The lock file is empty.
    del modes[".lock"]
    assert set(modes) == {".db", ".db-wal", ".db-shm"}
    assert set(modes.values()) == {0o600}


def test_second_opening_is_refused(path: Path) -> None:
    with opened(path) as store:
        for again in (SqlLogStore.open, SqlLogStore.create):
            with pytest.raises(StoreOpenError, match="already open"):
                again(path)
        append(store, Log.ACCESS, access(0))
    with opened(path) as store:
        assert check_whole(store)[Log.ACCESS] == 1


OPEN = """
import sys
from pathlib import Path
from exchange.store.sql import SqlLogStore
SqlLogStore.open(Path(sys.argv[1]))
"""


def test_second_process_is_refused(path: Path) -> None:
    with opened(path):
        second = run(OPEN, path)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].endswith("is already open, in this process or another")


# --- durability

APPEND_AND_DIE = """
import os, signal, sys
from pathlib import Path
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.store.fixtures import access, append, batch
store = SqlLogStore.create(Path(sys.argv[1]))
for start in range(0, 60, 20):
    append(store, Log.ACCESS, *(access(start + number) for number in range(20)))
with store.locked() as transaction:
    transaction.append(batch(store, Log.ACCESS, access(60)))
    if sys.argv[2] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "size"), [("before", 60), ("after", 61)])
def test_killed_process_keeps_what_it_committed_and_no_more(path: Path, when: str, size: int) -> None:
    assert run(APPEND_AND_DIE, path, when).returncode == -signal.SIGKILL
    with opened(path) as store:
        assert check_whole(store) == {Log.DIRECTORY: 0, Log.ACCESS: size}
        append(store, Log.ACCESS, access(61))


def test_commit_waits_for_the_disk(path: Path) -> None:
    with opened(path) as store:
        assert file_of(store).execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert file_of(store).execute("PRAGMA synchronous").fetchone() == (2,)


def test_readers_cannot_write(path: Path) -> None:
    with opened(path) as store, store._database.readers.connect() as reader:
        file = reader.connection.dbapi_connection
        assert isinstance(file, sqlite3.Connection)
        assert file.execute("PRAGMA query_only").fetchone() == (1,)
        for statement in ("DELETE FROM heads", "PRAGMA query_only = OFF; DELETE FROM heads"):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                file.executescript(statement)


def test_every_read_goes_by_an_index(path: Path) -> None:
    plans: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plans.extend(row[3] for row in cursor.fetchall())

    with opened(path) as store:
        append(store, Log.ACCESS, access(0), access(1))
        event.listen(store._database.readers, "before_cursor_execute", explain)
        check_whole(store)
        store.entry(Log.ACCESS, 0)
        store.released(REQUESTER, digest("request 0")[:16])
        store.settled(digest("answer 0"))
        list(store.taken_since(0))
        store.own(PROVIDER.rpartition("/")[0], 0, ALL, ALL)
    assert any("entries_provider" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith(("SCAN entries", "SCAN nodes", "SCAN heads"))] == []


# --- failing writes


class Faults:
    """Lets one step of the writing connection fail, before it is done or after."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.failing: int | None = None
        self.after = False

    def step(self, name: str, act: Callable[[], Any]) -> Any:
        self.steps.append(name)
        if len(self.steps) - 1 != self.failing:
            return act()
        if self.after:
            act()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error


class FaultyConnection(sqlite3.Connection):
    faults: ClassVar[Faults | None] = None

    def cursor(self, factory: Any = None) -> Any:
        cursor = super().cursor(FaultyCursor)
        cursor.faults = self.faults
        return cursor

    def commit(self) -> None:
        if self.faults is None or not self.in_transaction:
            super().commit()
        else:
            self.faults.step("COMMIT", super().commit)


class FaultyCursor(sqlite3.Cursor):
    faults: Faults | None = None

    def execute(self, sql: str, *parameters: Any) -> Any:
        act = partial(super().execute, sql, *parameters)
        return self.faults.step(step_name(sql), act) if self.faults else act()

    def executemany(self, sql: str, rows: Any, /) -> Any:
        act = partial(super().executemany, sql, rows)
        return self.faults.step(step_name(sql), act) if self.faults else act()


def step_name(sql: str) -> str:
    words = sql.split()
    return " ".join(words[:3]) if words[0] == "INSERT" else words[0]


STEPS = [
    "BEGIN",
    "UPDATE",
    "INSERT INTO entries",
    "INSERT INTO nodes",
    "UPDATE",
    "INSERT INTO entries",
    "INSERT INTO nodes",
    "COMMIT",
]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    connect = sqlite3.connect

    def connect_faulty(name: str, **options: Any) -> sqlite3.Connection:
        return connect(name, factory=FaultyConnection if name.endswith("mode=rw") else sqlite3.Connection, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_faulty)
    return Faults()


@contextmanager
def injected(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(FaultyConnection, "faults", faults)
        yield


def append_to_both(store: SqlLogStore) -> None:
    entries = [access(number) for number in (1, 2, 3)]
    append_batches(store, batch(store, Log.DIRECTORY, directory(1)), batch(store, Log.ACCESS, *entries))


def test_steps_of_an_append_are_all_tried(path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as store:
        with injected(faults, monkeypatch):
            append_to_both(store)
        assert faults.steps == STEPS
        assert check_whole(store) == {Log.DIRECTORY: 1, Log.ACCESS: 3}


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{n} {step}" for n, step in enumerate(STEPS)])
def test_failed_step_leaves_a_whole_store(
    path: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    commits = STEPS[step] == "COMMIT"
    faults.failing, faults.after = step, after
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
        with injected(faults, monkeypatch), pytest.raises(StoreError) as failed:
            append_to_both(store)
        assert type(failed.value) is (CommitUnknownError if commits else StoreFatalError)
        assert_says(failed.value, "the disk failed to read or write (SQLITE_IOERR_FSYNC)")
        check_whole(store)
        with pytest.raises(StoreFatalError, match=r"until the store is opened again: .*SQLITE_IOERR_FSYNC"):
            append(store, Log.ACCESS, access(9))
    with opened(path) as store:
        persisted = 1 if commits and after else 0
        assert check_whole(store) == {Log.DIRECTORY: persisted, Log.ACCESS: 1 + 3 * persisted}
        append(store, Log.ACCESS, access(9))


def assert_says(error: BaseException, message: str) -> None:
    assert message in str(error)
    # SQLAlchemy's own error has the statement, but not what was bound to it.
    assert REQUESTER not in str(error.__context__)
    text = f"{error!r} {error.__cause__!r}"
    for leaked in ("INSERT", "UPDATE", "SELECT", "sqlalche", "VALUES", REQUESTER):
        assert leaked not in text


def file_of(store: SqlLogStore) -> sqlite3.Connection:
    file = store._database.writer.connection.dbapi_connection
    assert isinstance(file, sqlite3.Connection)
    store._database.writer.rollback()
    return file


LARGE = [NewEntry(b"leaf %d" % number, bytes(5000), None) for number in range(200)]


def test_full_disk_is_fatal(path: Path) -> None:
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
        pages = file_of(store).execute("PRAGMA page_count").fetchone()[0]
        file_of(store).execute(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(StoreFatalError) as failed:
            append(store, Log.ACCESS, *LARGE)
        assert_says(failed.value, "the disk is full (SQLITE_FULL)")
        with pytest.raises(StoreFatalError, match="the disk is full"):
            append(store, Log.ACCESS, access(1))
        assert check_whole(store)[Log.ACCESS] == 1
    with opened(path) as store:
        append(store, Log.ACCESS, access(1))


def test_read_only_database_is_fatal(path: Path) -> None:
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
        file_of(store).execute("PRAGMA query_only = ON")
        with pytest.raises(StoreFatalError) as failed:
            append(store, Log.ACCESS, access(1))
        assert_says(failed.value, "the database is read-only (SQLITE_READONLY)")
        assert check_whole(store)[Log.ACCESS] == 1


def test_write_that_the_system_refuses_at_commit_is_unknown(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(path) as store:
        append(store, Log.ACCESS, access(0))
        following = batch(store, Log.ACCESS, *LARGE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
        try:
            with pytest.raises(CommitUnknownError) as failed:
                append_batches(store, following)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert_says(failed.value, "the disk failed to read or write (SQLITE_IOERR_WRITE)")
        with pytest.raises(StoreFatalError, match="a commit may have happened or not"):
            append(store, Log.ACCESS, access(1))
        assert check_whole(store)[Log.ACCESS] == 1
    with opened(path) as store:
        assert check_whole(store)[Log.ACCESS] == 1
        append(store, Log.ACCESS, access(1))


def test_entry_where_the_head_denies_one_is_fatal(path: Path) -> None:
    with opened(path) as store:
        append(store, Log.ACCESS, access(0), access(1))
        file_of(store).execute("UPDATE heads SET size = 1 WHERE log = 'access'")
        with pytest.raises(StoreFatalError) as failed:
            append(store, Log.ACCESS, access(2))
        assert_says(failed.value, "the database holds what its heads deny (SQLITE_CONSTRAINT_PRIMARYKEY)")


def test_database_locked_by_a_tool_is_busy_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.sqlite.WAIT_SECONDS", 0.01)
    with opened(path) as store:
        tool = sqlite3.connect(path, isolation_level=None)
        tool.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError), store.locked():
            pytest.fail("the lock was not waited for")
        tool.close()
        assert append(store, Log.ACCESS, access(0)).size == 1


def test_readers_wait_for_each_other_only_so_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.sqlite.WAIT_SECONDS", 0.01)
    with opened(path) as store:
        held = [store._database.readers.connect() for _ in range(4)]
        with pytest.raises(StoreBusyError, match="no connection"):
            store.head(Log.ACCESS)
        for reader in held:
            reader.close()
        assert store.head(Log.ACCESS).size == 0


def test_an_erased_body_is_overwritten_in_the_file(tmp_path: Path) -> None:
    """Small ones within a page, and large ones on pages of their own."""
    path = tmp_path / "log.db"
    store = SqlLogStore.create(path)
    secrets = [b"a name that must go", b"another one " * 1000]
    append(store, Log.ACCESS, *(replace(access(n), body=body) for n, body in enumerate(secrets)))
    with store.locked() as transaction:
        transaction.erase(Log.ACCESS, 0, 2)
    store.close()
    for file in tmp_path.iterdir():
        assert all(secret not in file.read_bytes() for secret in (secrets[0], b"another one another one")), file
