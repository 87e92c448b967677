"""What the PostgreSQL store promises beyond the contract: durability, many processes, and what lost sessions do."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import URL, event

from examples.city.postgres import postgres, start
from exchange.store.ports import (
    CommitUnknownError,
    HeadMovedError,
    Log,
    ReleasedTwiceError,
    StoreBusyError,
    StoreError,
    StoreFatalError,
    StoreLostError,
    StoreMissingError,
    StoreOpenError,
)
from exchange.store.postgres_errors import store_error
from exchange.store.postgres_url import has_password, parameters
from exchange.store.sql import SqlLogStore
from tests.databases import DURABLE, Server, database_of
from tests.e2e.processes import wait_until
from tests.e2e.test_city_postgres import processes_in, wait_for_end
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
def url(postgres_server: Server) -> str:
    return postgres_server.new_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlLogStore]:
    created = SqlLogStore.create(url)
    yield created
    created.close()


@contextmanager
def opened(url: str) -> Iterator[SqlLogStore]:
    found = SqlLogStore.open(url)
    try:
        yield found
    finally:
        found.close()


def assert_tells_nothing(error: BaseException) -> None:
    """What a traceback would print holds neither SQL nor values: causes, and contexts that are not suppressed."""
    text, shown = "", error
    while shown is not None:
        text += f"{shown!r} "
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    for leaked in ("INSERT", "UPDATE", "SELECT", "COPY", "DETAIL", REQUESTER):
        assert leaked not in text


# --- creating and opening


def test_reopened_store_has_what_was_appended(url: str) -> None:
    created = SqlLogStore.create(url)
    head = append(created, Log.ACCESS, *(access(number) for number in range(20)))
    append(created, Log.DIRECTORY, directory(0))
    created.close()
    with opened(url) as store:
        assert store.head(Log.ACCESS) == head
        assert check_whole(store) == {Log.DIRECTORY: 1, Log.ACCESS: 20}


def test_create_refuses_an_existing_store(url: str, store: SqlLogStore) -> None:
    append(store, Log.ACCESS, access(0))
    with pytest.raises(StoreOpenError, match="holds a log store already"):
        SqlLogStore.create(url)
    assert check_whole(store)[Log.ACCESS] == 1


def test_another_database_is_left_alone(postgres_server: Server, url: str) -> None:
    name = database_of(url)
    postgres_server.execute("CREATE TABLE entries (theirs text)", name)
    with pytest.raises(StoreOpenError, match="holds something else"):
        SqlLogStore.create(url)
    with pytest.raises(StoreMissingError, match="holds no log store"):
        SqlLogStore.open(url)
    assert postgres_server.execute("SELECT relname FROM pg_class WHERE relname ~ 'heads|nodes|exchange'", name) == []


def test_open_refuses_an_unknown_version(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    postgres_server.execute("UPDATE exchange_log_store SET version = 9", database_of(url))
    with pytest.raises(StoreOpenError, match="version 9; this program knows version"):
        SqlLogStore.open(url)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_server_that_may_lose_commits_is_refused(tmp_path: Path, setting: str) -> None:
    with postgres(tmp_path / "pg", {"fsync": "on", setting: "off"}) as server:
        url = libpq_url(server)
        with pytest.raises(StoreOpenError, match=f"{setting} = off: it may lose"):
            SqlLogStore.create(url)


@pytest.mark.parametrize("value", ["off", "local"])
def test_commits_that_wait_for_no_disk_are_refused(
    postgres_server: Server, url: str, store: SqlLogStore, value: str
) -> None:
    append(store, Log.ACCESS, access(0))
    name = database_of(url)
    postgres_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = {value}")
    with pytest.raises(StoreOpenError, match=f"synchronous_commit = {value}"):
        SqlLogStore.open(url)
    # And by a store that was open before, when it has to connect again.
    postgres_server.kill_sessions(url)
    with pytest.raises(StoreOpenError, match=f"synchronous_commit = {value}"):
        append(store, Log.ACCESS, access(1))
    postgres_server.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
    append(store, Log.ACCESS, access(1))


def test_read_only_database_is_refused(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    name = database_of(url)
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises((StoreOpenError, StoreLostError)):
        SqlLogStore.open(url)


def test_create_takes_over_what_another_left_empty(url: str, store: SqlLogStore) -> None:
    again = SqlLogStore.create(url)
    append(again, Log.ACCESS, access(0))
    again.close()
    with pytest.raises(StoreOpenError, match="holds a log store already"):
        SqlLogStore.create(url)


# --- urls and passwords


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://keeper:s3cret-word@/x?host=/nowhere",
        "postgresql://keeper:s3cret-word@127.0.0.1:1/x",
        "postgresql://keeper:s3cret-word%zz@host/x",
        "postgresql://keeper:s3cret-word@host/x?unheard=of",
        "mysql://keeper:s3cret-word@host/x",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(StoreError) as failed:
        SqlLogStore.open(url)
    shown = f"{failed.value!r} {failed.value.__cause__!r}"
    assert "s3cret" not in shown
    assert failed.value.__suppress_context__


def test_wrong_password_is_said_to_be_one_and_not_told(postgres_server: Server, url: str) -> None:
    wrong = url.replace(postgres_server.password, "s3cret-word")
    with pytest.raises(StoreError, match="password") as failed:
        SqlLogStore.open(wrong)
    assert "s3cret" not in str(failed.value)


def test_password_may_come_from_the_environment_or_a_file(
    postgres_server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = url.replace(f":{postgres_server.password}@", "@")
    assert has_password(url)
    assert not has_password(bare)
    with pytest.raises(StoreError):
        SqlLogStore.create(bare)
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    SqlLogStore.create(bare).close()
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{postgres_server.password}\n")
    with opened(f"{bare}&passfile={passfile}") as store:
        assert store.head(Log.ACCESS).size == 0


def test_another_machine_is_talked_to_through_tls_that_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    monkeypatch.delenv("PGHOST", raising=False)
    assert parameters("postgresql://keeper@db.city.example/x")["sslmode"] == "verify-full"
    assert parameters("postgresql://keeper@db.city.example/x?sslmode=disable")["sslmode"] == "disable"
    for local in ("postgresql:///x", "postgresql://127.0.0.1/x", "postgresql:///x?host=/run/postgresql"):
        assert "sslmode" not in parameters(local)


def test_why_no_session_is_had_is_said(
    postgres_server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    bare = url.replace(f":{postgres_server.password}@", "@") + f"&passfile={tmp_path / 'none'}"
    for wrong, words in (
        (bare, "the server asks for a password: see ~/.pgpass"),
        (url.replace("postgres:", "nobody:"), "refuses the user or the password"),
        (url.replace(database_of(url), "nothing"), "there is no such database"),
        (f"postgresql:///x?host={tmp_path}", "no server listens there"),
    ):
        with pytest.raises(StoreLostError, match=words):
            SqlLogStore.open(wrong)


# --- sessions that are lost


def test_session_lost_in_a_transaction_leaves_nothing_and_the_next_one_works(
    postgres_server: Server, url: str, store: SqlLogStore
) -> None:
    append(store, Log.ACCESS, access(0))

    def interrupted() -> None:
        with store.locked() as transaction:
            transaction.append(batch(store, Log.ACCESS, access(1)))
            postgres_server.kill_sessions(url)
            transaction.heads()

    with pytest.raises(StoreLostError) as failed:
        interrupted()
    assert_tells_nothing(failed.value)
    assert check_whole(store)[Log.ACCESS] == 1
    append(store, Log.ACCESS, access(1))
    assert check_whole(store)[Log.ACCESS] == 2


def test_sessions_lost_between_two_calls_are_not_noticed(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    append(store, Log.ACCESS, access(0))
    assert postgres_server.kill_sessions(url) > 1
    assert store.head(Log.ACCESS).size == 1
    append(store, Log.ACCESS, access(1))
    assert postgres_server.kill_sessions(url) > 1
    append(store, Log.ACCESS, access(2))
    assert check_whole(store)[Log.ACCESS] == 3


STEPS = [
    "SELECT pg_advisory_xact_lock",
    "UPDATE heads",
    "COPY entries",
    "COPY nodes",
    "SELECT pg_notify",
    "UPDATE heads",
    "COPY entries",
    "COPY nodes",
    "COMMIT",
]


class Faults:
    """Ends the writer's session at one step of an append, before it is done or after."""

    def __init__(self, server: Server, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.failing: int | None = None
        self.after = False
        self._server = server
        for owner, name in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "copy"), (psycopg.Connection, "commit")):
            patch.setattr(owner, name, self._stepping(getattr(owner, name)))

    def _stepping(self, act: Callable[..., Any]) -> Callable[..., Any]:
        return lambda on, *args, **kwargs: self.step(on, *args, act=act, **kwargs)

    def step(self, on: Any, query: object = "COMMIT", *args: Any, act: Callable[..., Any], **kwargs: Any) -> Any:
        session = on if isinstance(on, psycopg.Connection) else on.connection
        act = partial(act, on, *([] if session is on else [query]), *args, **kwargs)
        if session.autocommit:
            # Not the store's writer.
            return act()
        self.steps.append(str(query))
        if len(self.steps) - 1 != self.failing:
            return act()
        done = act() if self.after else None
        self._server.execute(f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
        if not self.after:
            return act()
        if session is on:
            # The server's answer to COMMIT never comes.
            session.execute("SELECT")
        return done


def append_to_both(store: SqlLogStore) -> None:
    entries = [access(number) for number in (1, 2, 3)]
    append_batches(store, batch(store, Log.DIRECTORY, directory(1)), batch(store, Log.ACCESS, *entries))


def test_steps_of_an_append_are_all_tried(
    postgres_server: Server, store: SqlLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, Log.ACCESS, access(0))
    with monkeypatch.context() as patch:
        faults = Faults(postgres_server, patch)
        append_to_both(store)
    assert [step for step, begins in zip(faults.steps, STEPS, strict=True) if not step.startswith(begins)] == []


@pytest.mark.parametrize("after", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{n} {step}" for n, step in enumerate(STEPS)])
def test_session_lost_at_any_step_leaves_a_whole_store_that_goes_on(
    postgres_server: Server, url: str, store: SqlLogStore, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    commits, first = STEPS[step] == "COMMIT", step == 0 and not after
    append(store, Log.ACCESS, access(0))
    with monkeypatch.context() as patch:
        faults = Faults(postgres_server, patch)
        faults.failing, faults.after = step, after
        if first:
            # Nothing was begun: another session is as good, and nobody notices.
            append_to_both(store)
        else:
            with pytest.raises(CommitUnknownError if commits else StoreLostError) as failed:
                append_to_both(store)
            assert_tells_nothing(failed.value)
    # The same store goes on: the lock says that the lost session has ended, and the heads how.
    happened = 1 if first or (commits and after) else 0
    with store.locked() as transaction:
        assert {log: head.size for log, head in transaction.heads().items()} == {
            Log.DIRECTORY: happened,
            Log.ACCESS: 1 + 3 * happened,
        }
    append(store, Log.ACCESS, access(9))
    with opened(url) as again:
        assert check_whole(again) == {Log.DIRECTORY: happened, Log.ACCESS: 2 + 3 * happened}


def test_commit_whose_wait_for_a_standby_is_cancelled_is_unknown(
    postgres_server: Server, url: str, store: SqlLogStore
) -> None:
    failures: list[BaseException] = []
    following = batch(store, Log.ACCESS, access(0))

    def commit() -> None:
        try:
            append_batches(store, following)
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)

    def waiting() -> list[tuple[Any, ...]]:
        return postgres_server.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    postgres_server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        postgres_server.execute("SELECT pg_reload_conf()")
        wait_until(
            lambda: postgres_server.execute("SHOW synchronous_standby_names") == [("nobody",)], "the server's settings"
        )
        thread = Thread(target=commit)
        thread.start()
        wait_until(lambda: bool(waiting()), "a commit that waits for its standby")
        postgres_server.execute(f"SELECT pg_cancel_backend({waiting()[0][0]})")
        thread.join(30)
    finally:
        postgres_server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        postgres_server.execute("SELECT pg_reload_conf()")
    [error] = failures
    assert isinstance(error, CommitUnknownError)


def test_killed_server_keeps_what_it_committed(tmp_path: Path) -> None:
    directory = tmp_path / "pg"
    store = SqlLogStore.create(libpq_url(start(directory, DURABLE)))
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        with suppress(StoreError):
            while True:
                acknowledged = append(store, Log.ACCESS, access(acknowledged)).size

    writing = Thread(target=write)
    writing.start()
    wait_until(lambda: acknowledged >= 50, "some commits")
    server, *children = processes_in(directory)
    os.kill(int(server.name), signal.SIGKILL)
    for process in (server, *children):
        wait_for_end(process)
    writing.join()
    store.close()
    with postgres(directory, DURABLE) as again, opened(libpq_url(again)) as recovered:
        # The last one may have been committed, and its answer lost.
        assert check_whole(recovered)[Log.ACCESS] in (acknowledged, acknowledged + 1)
        append(recovered, Log.ACCESS, access(acknowledged + 1))


def libpq_url(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


# --- many processes


def test_stores_that_race_for_one_head_append_one_after_the_other(url: str, store: SqlLogStore) -> None:
    failures: list[BaseException] = []

    def write(mine: SqlLogStore, writer: int) -> None:
        try:
            for step in range(10):
                append(mine, Log.ACCESS, access(100 * writer + step), access(100 * writer + step + 50))
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)

    with opened(url) as second, opened(url) as third:
        threads = [Thread(target=write, args=(mine, n)) for n, mine in enumerate((store, second, third))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert check_whole(store) == check_whole(third) == {Log.DIRECTORY: 0, Log.ACCESS: 60}


def test_batch_drawn_up_before_another_stores_append_is_refused(url: str, store: SqlLogStore) -> None:
    stale = batch(store, Log.ACCESS, access(0))
    with opened(url) as other:
        head = append(other, Log.ACCESS, access(1))
    with pytest.raises(HeadMovedError):
        append_batches(store, stale)
    assert store.head(Log.ACCESS) == head


def test_release_by_another_store_excludes_one_here(url: str, store: SqlLogStore) -> None:
    with opened(url) as other:
        append(other, Log.ACCESS, access(0))
    with pytest.raises(ReleasedTwiceError) as failed:
        append(store, Log.ACCESS, access(0))
    assert_tells_nothing(failed.value)
    assert check_whole(store)[Log.ACCESS] == 1


def test_lock_that_another_store_holds_is_waited_for_only_so_long(
    url: str, store: SqlLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.store.postgres.WAIT_SECONDS", 0.05)
    with opened(url) as other:
        with store.locked(), pytest.raises(StoreBusyError), other.locked():
            pytest.fail("the lock was not waited for")
        assert append(other, Log.ACCESS, access(0)).size == 1


def test_process_that_stops_with_the_lock_in_hand_loses_it(
    postgres_server: Server, url: str, store: SqlLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "exchange.store.postgres._WRITER", ("lock_timeout = '30s'", "idle_in_transaction_session_timeout = '2s'")
    )

    def stopped(mine: SqlLogStore) -> None:
        with mine.locked() as transaction:
            transaction.append(batch(mine, Log.ACCESS, access(0)))
            append(store, Log.ACCESS, access(1))

    with opened(url) as slow:
        with pytest.raises((StoreLostError, CommitUnknownError)):
            stopped(slow)
        assert check_whole(slow)[Log.ACCESS] == 1
        assert slow.entry(Log.ACCESS, 0) == store.entry(Log.ACCESS, 0)
        append(slow, Log.ACCESS, access(2))


def test_append_to_the_directory_wakes_who_waits_in_another_store(
    postgres_server: Server, url: str, store: SqlLogStore
) -> None:
    with opened(url) as other:
        # The first wait only begins to listen.
        other.wait_for_others(0)
        thread = Thread(target=other.wait_for_others, args=(3600,))
        thread.start()
        append(store, Log.DIRECTORY, directory(0))
        thread.join(30)
        assert not thread.is_alive()


def test_waiting_goes_on_after_its_session_was_lost(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    with opened(url) as other:
        other.wait_for_others(0)
        postgres_server.kill_sessions(url)
        other.wait_for_others(0.01)
        other.wait_for_others(0)
        thread = Thread(target=other.wait_for_others, args=(3600,))
        thread.start()
        append(store, Log.DIRECTORY, directory(0))
        thread.join(30)
        assert not thread.is_alive()


# --- what errors mean


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (errors.DiskFull, StoreFatalError, "the disk is full"),
        (errors.IoError, StoreFatalError, "disk failed"),
        (errors.DataCorrupted, StoreFatalError, "corrupt"),
        (errors.ReadOnlySqlTransaction, StoreFatalError, "read-only"),
        (errors.UndefinedTable, StoreFatalError, "a table is missing"),
        (errors.UniqueViolation, StoreFatalError, "holds what its heads deny"),
        (errors.SyntaxError, StoreFatalError, "the database failed"),
        (errors.InsufficientPrivilege, StoreOpenError, "own the database's tables"),
        (errors.InvalidPassword, StoreOpenError, "refuses the user or the password"),
        (errors.LockNotAvailable, StoreBusyError, "not free in time"),
        (errors.QueryCanceled, StoreBusyError, "not free in time"),
        (errors.AdminShutdown, StoreLostError, "57P01"),
        (errors.CannotConnectNow, StoreLostError, "57P03"),
        (errors.TooManyConnections, StoreLostError, "53300"),
        (errors.ConnectionFailure, StoreLostError, "08006"),
        (psycopg.OperationalError, StoreLostError, "no connection, or none any more"),
    ],
)
def test_errors_are_the_stores_own(error: Callable[..., Exception], kind: type[StoreError], words: str) -> None:
    found = store_error(error(f"INSERT {REQUESTER}"))
    assert type(found) is kind
    assert words in str(found)
    assert_tells_nothing(found)


def test_entry_where_the_head_denies_one_is_fatal(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    append(store, Log.ACCESS, access(0), access(1))
    name = database_of(url)
    postgres_server.execute("UPDATE heads SET size = 1 WHERE log = 'access'", name)
    with pytest.raises(StoreFatalError, match="holds what its heads deny") as failed:
        append(store, Log.ACCESS, access(2))
    assert_tells_nothing(failed.value)
    with pytest.raises(StoreFatalError, match="until the store is opened again"), store.locked():
        pass


def test_readers_cannot_write(store: SqlLogStore) -> None:
    with store._database.readers.connect() as reader, pytest.raises(Exception, match="read-only"):
        reader.exec_driver_sql("DELETE FROM heads")


def test_every_read_goes_by_an_index(postgres_server: Server, url: str, store: SqlLogStore) -> None:
    plans: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        plans.extend(row[0] for row in cursor.fetchall())

    append(store, Log.ACCESS, access(0), access(1))
    name = database_of(url)
    # A table of two rows is read whole, unless there is no other way.
    postgres_server.execute(f"ALTER DATABASE {name} SET enable_seqscan = off")
    with opened(url) as other:
        event.listen(other._database.readers, "before_cursor_execute", explain)
        check_whole(other)
        other.entry(Log.ACCESS, 0)
        other.released(REQUESTER, digest("request 0")[:16])
        other.settled(digest("answer 0"))
        list(other.taken_since(0))
        other.own(PROVIDER.rpartition("/")[0], 0, ALL, ALL)
    for index in ("released", "settled", "taken", "requester", "provider", "pkey"):
        assert any(f"entries_{index}" in plan for plan in plans)
    assert [plan for plan in plans if "Seq Scan on" in plan] == []


def test_names_are_compared_byte_by_byte_whatever_the_databases_locale(
    postgres_server: Server, url: str, store: SqlLogStore
) -> None:
    query = """SELECT attname FROM pg_attribute
        WHERE attrelid = 'entries'::regclass AND attcollation = '"C"'::regcollation"""
    found = postgres_server.execute(query, database_of(url))
    assert {name for (name,) in found} == {"log", "requester", "provider"}
