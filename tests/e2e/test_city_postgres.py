import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError

from examples.city.databases import create_reader, fill_housing
from examples.city.population import generate_city
from examples.city.postgres import postgres, running, start, stop
from examples.city.records import City

INSERT = """
INSERT INTO ownerships
SELECT 0, owner_id_number, owner_name, certificate_number, address, area_m2, use, share, registered_on,
    mortgaged
FROM ownerships WHERE ownership_id = 1
"""


@pytest.fixture(scope="module")
def city() -> City:
    return generate_city(7)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """Run a server whose directory is too long for a Unix socket's path."""
    directory = tmp_path_factory.mktemp("city") / ("a" * 100) / "civil affairs" / "pg"
    with postgres(directory) as url:
        yield url
        processes = processes_in(directory)
        assert len(processes) > 1
    assert not any(map(alive, processes))


@pytest.fixture(scope="module")
def reader(server: URL, city: City) -> URL:
    engine = create_engine(server)
    fill_housing(engine, city)
    url = create_reader(engine)
    engine.dispose()
    return url


def processes_in(directory: Path) -> list[Path]:
    """List the processes of the server that runs in a directory: the one its lock file names, and its children."""
    server = (directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0]
    found = [Path("/proc", server)]
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"PPid:\t{server}\n" in status.read_text(encoding="utf-8"):
                found.append(status.parent)
    return found


def alive(process: Path) -> bool:
    """Tell whether a process still runs; of one that waits to be reaped the command line is empty."""
    try:
        return (process / "cmdline").read_bytes() != b""
    except OSError:
        return False


def test_reads_through_the_read_only_role(reader: URL, city: City) -> None:
    ownership = city.ownerships[0]
    engine = create_engine(reader)
    query = text("SELECT owner_name, area_m2, registered_on, mortgaged FROM ownerships WHERE owner_id_number = :id")
    with engine.connect() as connection:
        row = connection.execute(query, {"id": ownership.owner.id_number}).first()
        rows = connection.scalar(text("SELECT count(*) FROM ownerships"))
    engine.dispose()
    dwelling = ownership.dwelling
    assert row == (ownership.owner.name, dwelling.area_m2, dwelling.registered_on, dwelling.mortgaged)
    assert isinstance(row.area_m2, Decimal)
    assert rows == len(city.ownerships)


@pytest.mark.parametrize(
    "statement",
    [
        INSERT,
        "UPDATE ownerships SET share = 0",
        "DELETE FROM ownerships",
        "TRUNCATE ownerships",
        "DROP TABLE ownerships",
        "CREATE TABLE mine (n integer)",
        "CREATE TEMPORARY TABLE mine (n integer)",
        "SELECT pg_read_file('PG_VERSION')",
        "COPY ownerships TO PROGRAM 'true'",
    ],
)
def test_the_read_only_role_cannot_write_even_in_a_writing_transaction(reader: URL, statement: str) -> None:
    engine = create_engine(reader)
    with engine.connect() as connection:
        connection.execute(text("SET TRANSACTION READ WRITE"))
        with pytest.raises(DBAPIError) as refusal:
            connection.execute(text(statement))
    engine.dispose()
    assert isinstance(refusal.value.orig, InsufficientPrivilege)


def test_the_read_only_role_starts_in_a_reading_transaction(reader: URL) -> None:
    engine = create_engine(reader)
    with engine.connect() as connection, pytest.raises(DBAPIError) as refusal:
        connection.execute(text(INSERT))
    engine.dispose()
    assert isinstance(refusal.value.orig, ReadOnlySqlTransaction | InsufficientPrivilege)


def test_a_second_call_gives_the_role_a_new_password(server: URL) -> None:
    engine = create_engine(server)
    first, second = create_reader(engine, "asked_twice"), create_reader(engine, "asked_twice")
    engine.dispose()
    with pytest.raises(DBAPIError, match="password authentication failed"):
        create_engine(first).connect()
    engine = create_engine(second)
    engine.connect().close()
    engine.dispose()


def test_filling_again_keeps_the_readers_rights(server: URL, reader: URL, city: City) -> None:
    engine = create_engine(server)
    fill_housing(engine, city)
    engine.dispose()
    engine = create_engine(reader)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM ownerships")) == len(city.ownerships)
    engine.dispose()


def in_another_process(function: str, directory: Path) -> None:
    program = f"import sys, pathlib, examples.city.postgres as p; p.{function}(pathlib.Path(sys.argv[1]))"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, directory], cwd=root, check=True)


def test_outlives_its_starter_and_is_stopped_from_another_process(tmp_path: Path) -> None:
    directory = tmp_path / "pg"
    try:
        in_another_process("start", directory)
        url = running(directory)
        assert url is not None
        assert start(directory) == url
        processes = processes_in(directory)
        assert all(map(alive, processes))
        in_another_process("stop", directory)
    finally:
        stop(directory)
    assert running(directory) is None
    assert not any(map(alive, processes))
    assert not Path(str(url.query["host"])).exists()


def test_keeps_its_data_from_one_start_to_the_next(tmp_path: Path) -> None:
    for expected in (1, 2):
        with postgres(tmp_path / "pg") as url:
            engine = create_engine(url)
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE IF NOT EXISTS starts (n integer)"))
                connection.execute(text("INSERT INTO starts VALUES (1)"))
                assert connection.scalar(text("SELECT count(*) FROM starts")) == expected
            engine.dispose()


def test_starts_again_after_a_crash(tmp_path: Path) -> None:
    directory = tmp_path / "pg"
    start(directory)
    server, *children = processes_in(directory)
    os.kill(int(server.name), signal.SIGKILL)
    for process in (server, *children):
        wait_for_end(process)
    stop(directory)
    with postgres(directory) as url:
        engine = create_engine(url)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()


def wait_for_end(process: Path) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(int(process.name))
        select.select([descriptor], [], [], 30)
        os.close(descriptor)


def test_stops_nothing_when_the_lock_file_names_another_program(tmp_path: Path) -> None:
    directory = tmp_path / "pg"
    with postgres(directory):
        lock = (directory / "data" / "postmaster.pid").read_text(encoding="utf-8")
    other = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    stale = "\n".join([str(other.pid), *lock.splitlines()[1:]])
    (directory / "data" / "postmaster.pid").write_text(stale, encoding="utf-8")
    stop(directory)
    assert other.poll() is None
    with postgres(directory) as url:
        assert running(directory) == url
    other.communicate()
