"""`exchange backup`: everything that a home holds comes back as it was, and nothing that was altered does."""

import asyncio
import errno
import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest
from typer.testing import CliRunner, Result

import exchange
from exchange.backup import writing
from exchange.backup.encryption import CHUNK
from exchange.backup.writing import STAGE
from exchange.cli.backups import commands
from exchange.cli.main import app
from exchange.core.trust import encode_trust
from exchange.home import Home
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.component.audit.copies import AuditedExchange, audit_home, busy_world, mirror
from tests.component.cli.restored import earlier, whole_home
from tests.component.cli.stores import POSTGRES, SQLITE, alter, configure, database, dump, store_name
from tests.databases import Server
from tests.simulator import make_home, trust_of
from tests.store.fixtures import access, append
from tests.world import World

__all__ = ["database"]

PASSPHRASE = "correct horse battery"
PROJECT = Path(exchange.__file__).parents[1]
SQLITE_ALONE = pytest.mark.parametrize("database", [SQLITE], indirect=True)


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world()


@pytest.fixture
def home(tmp_path: Path, world: World, database: str) -> Path:
    return whole_home(tmp_path / "broker", world, database)


@pytest.fixture
def backup(tmp_path: Path, home: Path) -> Path:
    assert create(home, tmp_path / "broker.backup").exit_code == 0
    return tmp_path / "broker.backup"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text(f"{PASSPHRASE}\n")
    path.chmod(0o600)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["backup", *map(str, arguments)])


def create(home: Path, output: Path, *arguments: object) -> Result:
    return run("create", "--home", home, "--out", output, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a home, but for databases, whose bytes are SQLite's affair, and the anchor."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".db" not in path.name and path.parent.name != "anchor"
    }


def check_nothing_left(folder: Path, *kept: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


# What comes back.


@SQLITE_ALONE
def test_a_home_comes_back_as_it_was(tmp_path: Path, home: Path, backup: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    result = run("restore", backup, "--home", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert contents(tmp_path / "new") == contents(home)
    assert dump(tmp_path / "new") == dump(home)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    keys = tmp_path / "new" / "keys"
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    assert not (home / STAGE).exists()
    check_nothing_left(tmp_path, "broker", "broker.backup", "new")


@SQLITE_ALONE
def test_a_restored_broker_has_no_anchor_to_start_with(tmp_path: Path, home: Path, backup: Path) -> None:
    result = run("restore", backup, "--home", tmp_path / "new")
    assert (home / "anchor").exists()
    assert not (tmp_path / "new" / "anchor").exists()
    assert f"exchange log recover --from MIRROR --home {tmp_path / 'new'}" in result.stdout


@pytest.mark.parametrize("database", [POSTGRES], indirect=True)
def test_logs_in_postgresql_come_back_to_an_empty_database(
    tmp_path: Path, home: Path, backup: Path, postgres_server: Server
) -> None:
    assert run("verify", backup).exit_code == 0
    taken = run("restore", backup, "--home", tmp_path / "new")
    assert taken.exit_code == 3, taken.output
    assert "--database" in taken.stderr
    assert not (tmp_path / "new").exists()
    url = postgres_server.new_database()
    result = run("restore", backup, "--home", tmp_path / "new", "--database", url)
    assert result.exit_code == 0, result.output
    assert dump(tmp_path / "new") == dump(home)
    assert store_name(tmp_path / "new") == url


@pytest.mark.parametrize("database", [POSTGRES], indirect=True)
def test_a_database_that_was_not_lost_stays_as_it_is(tmp_path: Path, home: Path, backup: Path) -> None:
    before = dump(home)
    result = run("restore", backup, "--home", tmp_path / "new", "--keep-database")
    assert result.exit_code == 0, result.output
    assert dump(tmp_path / "new") == before
    assert contents(tmp_path / "new" / "anchor") == contents(home / "anchor")
    assert (tmp_path / "new" / "anchor" / "access").exists()


def test_a_backup_is_of_one_state_while_the_log_grows(tmp_path: Path, home: Path) -> None:
    """The log grows by entries that are none, so only what a backup itself promises is looked at."""
    store, stopped = SqlLogStore.open(store_name(home)), Event()
    size = store.head(Log.ACCESS).size

    def grow() -> None:
        number = size
        while not stopped.is_set():
            append(store, Log.ACCESS, access(number))
            number += 1

    thread = Thread(target=grow)
    thread.start()
    try:
        for number in range(3):
            result = create(home, tmp_path / f"{number}.backup")
            assert result.exit_code == 0, result.output
    finally:
        stopped.set()
        thread.join()
        store.close()
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.backup") as archive:
            archive.extractall(tmp_path / str(number), filter="data")
        [path] = (tmp_path / str(number)).rglob("*.db")
        with closing(SqlLogStore.open(path)) as copy:
            end = copy.head(Log.ACCESS).size
            assert copy.entry(Log.ACCESS, end) is None
            assert copy.entry(Log.ACCESS, end - 1) is not None


@SQLITE_ALONE
def test_verify_looks_at_everything_and_leaves_nothing(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(commands.tempfile, "tempdir", str(scratch))
    result = run("verify", backup, "--json")
    assert result.exit_code == 0, result.output
    described = json.loads(result.stdout)
    assert [item["check"] for item in described["checks"]] == ["files", "keys", "log keys", "logs", "anchor"]
    assert described["heads"]["exchange.db: access"]["size"] == 5
    check_nothing_left(scratch)


async def test_an_auditors_mirrors_are_proven(tmp_path: Path, world: World) -> None:
    home = audit_home(tmp_path / "office", world)
    home.new_private_key("signing")
    await mirror(home, AuditedExchange(world.copy()))
    assert create(home.path, tmp_path / "office.backup").exit_code == 0
    result = await asyncio.to_thread(run, "verify", tmp_path / "office.backup")
    assert result.exit_code == 0, result.output
    assert "mirror.db" in result.stdout
    assert "5 entries make the signed root" in result.stdout


# What is not encrypted, and what is.


def test_says_loudly_that_it_is_not_encrypted(tmp_path: Path, world: World) -> None:
    home = make_home(tmp_path / "housing", world).path
    result = create(home, tmp_path / "housing.backup")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("WARNING: this backup holds private keys, and is not encrypted")
    assert b"PRIVATE KEY" in (tmp_path / "housing.backup").read_bytes()


def test_an_encrypted_backup_opens_with_its_passphrase_alone(tmp_path: Path, world: World, secret: Path) -> None:
    home, backup = make_home(tmp_path / "housing", world).path, tmp_path / "housing.backup"
    result = create(home, backup, "--passphrase-file", secret)
    assert (result.exit_code, result.stderr) == (0, "")
    assert b"PRIVATE KEY" not in backup.read_bytes()
    assert run("verify", backup, "--passphrase-file", secret).exit_code == 0
    without = run("verify", backup)
    assert (without.exit_code, "is encrypted" in without.stderr) == (2, True)
    secret.write_text("correct horse batteries\n")
    wrong = run("restore", backup, "--home", tmp_path / "new", "--passphrase-file", secret)
    assert wrong.exit_code == 1
    assert "the passphrase is wrong" in wrong.stderr
    check_nothing_left(tmp_path, "housing", "housing.backup", "passphrase")


def test_a_passphrase_is_asked_for_twice(tmp_path: Path, world: World) -> None:
    home, backup = make_home(tmp_path / "housing", world).path, tmp_path / "housing.backup"
    arguments = ["backup", "create", "--home", str(home), "--out", str(backup), "--passphrase"]
    result = CliRunner().invoke(app, arguments, input=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert result.exit_code == 0, result.output
    arguments = ["backup", "verify", str(backup), "--passphrase"]
    assert CliRunner().invoke(app, arguments, input=f"{PASSPHRASE}\n").exit_code == 0


@pytest.mark.parametrize(
    ("mode", "text", "said"), [(0o644, PASSPHRASE, "chmod 600"), (0o600, "short", "12 characters")]
)
def test_refuses_a_passphrase_that_is_none(
    tmp_path: Path, world: World, secret: Path, mode: int, text: str, said: str
) -> None:
    home = make_home(tmp_path / "housing", world).path
    secret.write_text(text)
    secret.chmod(mode)
    result = create(home, tmp_path / "housing.backup", "--passphrase-file", secret)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "housing.backup").exists()


# What was altered.


def check_refused(backup: Path, new: Path, *arguments: object) -> None:
    result = run("restore", backup, "--home", new, *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("exchange: error: ")
    assert not new.exists()
    assert not new.with_name(f".{new.name}.partial").exists()


@SQLITE_ALONE
@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.9])
def test_refuses_what_was_cut_short(tmp_path: Path, backup: Path, part: float) -> None:
    size = backup.stat().st_size
    os.truncate(backup, int(size * part))
    check_refused(backup, tmp_path / "new")


@pytest.fixture
def small(tmp_path: Path, world: World) -> Path:
    home = make_home(tmp_path / "housing", world).path
    assert create(home, tmp_path / "housing.backup").exit_code == 0
    return tmp_path / "housing.backup"


def rewritten(backup: Path, change: Callable[[str, bytes], Iterator[tuple[str, bytes]]]) -> None:
    """Write an archive again, its members changed."""
    with tarfile.open(backup) as archive:
        members = [(item.name, archive.extractfile(item).read()) for item in archive]  # type: ignore[union-attr]
    with tarfile.open(backup, "w") as archive:
        for name, data in members:
            for new, content in change(name, data):
                writer = tarfile.TarInfo(new)
                writer.size = len(content)
                archive.addfile(writer, io.BytesIO(content))


@pytest.mark.parametrize("name", ["home/party.toml", "home/trust.toml", "home/keys/signing.pem", "manifest"])
def test_refuses_a_member_that_was_altered(tmp_path: Path, small: Path, name: str) -> None:
    rewritten(small, lambda found, data: iter([(found, data.replace(b"e", b"f", 1) if found == name else data)]))
    check_refused(small, tmp_path / "new")


def test_refuses_a_member_that_was_left_out(tmp_path: Path, small: Path) -> None:
    rewritten(small, lambda name, data: iter([] if name == "home/trust.toml" else [(name, data)]))
    check_refused(small, tmp_path / "new")


@pytest.mark.parametrize("name", ["home/more", "../outside", "/outside", "home/../../outside", "home/party.toml"])
def test_refuses_a_member_that_was_added(tmp_path: Path, small: Path, name: str) -> None:
    def add(found: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        if found == "manifest":
            yield name, b"more"
        yield found, data

    rewritten(small, add)
    check_refused(small, tmp_path / "new")
    assert not (tmp_path / "outside").exists()


def test_refuses_the_manifest_of_another_home(tmp_path: Path, small: Path, world: World) -> None:
    other = Home.create(tmp_path / "other", Home(tmp_path / "housing").party, "system")
    other.write("trust.toml", encode_trust(trust_of(world)).encode())
    other.new_private_key("signing")
    assert create(other.path, tmp_path / "other.backup").exit_code == 0
    with tarfile.open(tmp_path / "other.backup") as archive:
        manifest = archive.extractfile("manifest").read()  # type: ignore[union-attr]
    rewritten(small, lambda name, data: iter([(name, manifest if name == "manifest" else data)]))
    check_refused(small, tmp_path / "new")


@pytest.mark.parametrize("place", [10, 40, 46 + CHUNK // 2, 60 + CHUNK + 100, -1])
def test_refuses_an_encrypted_backup_that_was_altered(tmp_path: Path, world: World, secret: Path, place: int) -> None:
    home = make_home(tmp_path / "housing", world).path
    (home / "notes").write_bytes(os.urandom(2 * CHUNK))
    backup = tmp_path / "housing.backup"
    create(home, backup, "--passphrase-file", secret)
    data = bytearray(backup.read_bytes())
    data[place] ^= 1
    backup.write_bytes(data)
    result = run("restore", backup, "--home", tmp_path / "new", "--passphrase-file", secret)
    assert result.exit_code in (1, 2), result.output
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("end", [20, 46, 46 + CHUNK + 16, -1])
def test_refuses_an_encrypted_backup_that_was_cut_short(tmp_path: Path, world: World, secret: Path, end: int) -> None:
    home = make_home(tmp_path / "housing", world).path
    (home / "notes").write_bytes(os.urandom(2 * CHUNK))
    backup = tmp_path / "housing.backup"
    create(home, backup, "--passphrase-file", secret)
    backup.write_bytes(backup.read_bytes()[:end])
    result = run("verify", backup, "--passphrase-file", secret)
    assert result.exit_code in (1, 2), result.output


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE entries SET body = x'00' WHERE log = 'access' AND idx = 1", "entry 1 of city.example/access"),
        ("DELETE FROM nodes WHERE place = 2 AND log = 'directory'", "wrong or missing"),
        ("UPDATE heads SET checkpoint = x'00' WHERE log = 'access'", "not signed by the log key"),
    ],
)
@SQLITE_ALONE
def test_a_log_that_does_not_hold_is_no_good_backup(tmp_path: Path, home: Path, statement: str, said: str) -> None:
    """The file is whole and signed: what was wrong before it was taken is found all the same."""
    alter(home, statement)
    shutil.rmtree(home / "anchor")
    create(home, tmp_path / "broker.backup")
    result = run("verify", tmp_path / "broker.backup")
    assert result.exit_code == 1, result.output
    assert "FAIL" in result.stdout
    assert said in result.stdout
    check_refused(tmp_path / "broker.backup", tmp_path / "new")


@SQLITE_ALONE
def test_an_anchor_ahead_of_its_log_is_no_good_backup(tmp_path: Path, world: World, home: Path) -> None:
    (home / "anchor" / "access").write_bytes(world.access_log.checkpoint())
    shorter = whole_home(tmp_path / "shorter", earlier(world, world.directory_log.size, 3))
    shutil.copy(shorter / "exchange.db", home / "exchange.db")
    create(home, tmp_path / "broker.backup")
    result = run("verify", tmp_path / "broker.backup")
    assert result.exit_code == 1
    assert "it was rolled back" in result.stdout


@SQLITE_ALONE
def test_keys_of_another_log_are_no_good_backup(tmp_path: Path, home: Path) -> None:
    shutil.copy(home / "keys" / "directory-log.pem", home / "keys" / "access-log.pem")
    create(home, tmp_path / "broker.backup")
    result = run("verify", tmp_path / "broker.backup")
    assert result.exit_code == 1
    assert "the access log's key is not the one in trust.toml" in result.stdout


# Whose it is, and where it goes.


def test_refuses_a_backup_of_another_exchange(tmp_path: Path, small: Path, world: World) -> None:
    trust = encode_trust(trust_of(world))
    same, other, renewed = tmp_path / "same", tmp_path / "other", tmp_path / "renewed"
    same.write_text(trust)
    other.write_text(trust.replace("city.example", "town.example"))
    swapped = trust_of(world)
    renewed.write_text(
        encode_trust(
            type(swapped)(
                **{
                    **{name: getattr(swapped, name) for name in swapped.__slots__},
                    "root_key": Home(tmp_path / "housing").signer().public_key,
                }
            )
        )
    )
    assert run("verify", small, "--trust", same).exit_code == 0
    for path in (other, renewed):
        result = run("restore", small, "--home", tmp_path / "new", "--trust", path)
        assert result.exit_code == 5, result.output
        assert not (tmp_path / "new").exists()


def test_never_restores_over_a_home(tmp_path: Path, small: Path) -> None:
    home = tmp_path / "housing"
    before = contents(home)
    result = run("restore", small, "--home", home)
    assert result.exit_code == 2
    assert "is the home of exchange://city.example/housing/applications already" in result.stderr
    assert contents(home) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert run("restore", small, "--home", tmp_path / "full").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run("restore", small, "--home", tmp_path / "empty").exit_code == 0


def test_never_writes_over_a_file_or_into_the_home(tmp_path: Path, small: Path) -> None:
    home, before = tmp_path / "housing", small.read_bytes()
    assert create(home, small).exit_code == 2
    assert small.read_bytes() == before
    result = create(home, home / "own.backup")
    assert (result.exit_code, "lies in the home" in result.stderr) == (2, True)
    (home / "link").symlink_to(tmp_path)
    result = create(home, tmp_path / "linked.backup")
    assert (result.exit_code, "is a link to a folder" in result.stderr) == (1, True)
    check_nothing_left(tmp_path, "housing", "housing.backup")


def test_a_home_without_its_key_cannot_sign(tmp_path: Path, small: Path) -> None:
    (tmp_path / "housing" / "keys" / "signing.pem").unlink()
    result = create(tmp_path / "housing", tmp_path / "other.backup")
    assert result.exit_code == 3
    assert not (tmp_path / "other.backup").exists()


# What stops in the middle.


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, world: World, request: pytest.FixtureRequest) -> None:
    home = make_home(tmp_path / "housing", world).path
    (home / "notes").write_bytes(bytes(300_000))
    request.getfixturevalue("small_disk")
    result = create(home, tmp_path / "housing.backup")
    assert result.exit_code == 3
    assert f"cannot write {tmp_path / 'housing.backup'}: its disk is full" in result.stderr
    assert "nothing was written" in result.stderr
    check_nothing_left(tmp_path, "housing")


@SQLITE_ALONE
def test_a_full_disk_for_copies_leaves_nothing_and_says_so(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    result = create(home, tmp_path / "broker.backup")
    assert result.exit_code == 3
    assert "has no room for a copy" in result.stderr
    assert "--scratch" in result.stderr
    check_nothing_left(tmp_path, "broker")
    assert not (home / STAGE).exists()


@SQLITE_ALONE
def test_a_disk_that_fills_while_a_database_is_copied(
    tmp_path: Path, home: Path, request: pytest.FixtureRequest
) -> None:
    store = SqlLogStore.open(store_name(home))
    append(store, Log.ACCESS, *(access(number) for number in range(5, 300)))
    store.close()
    request.getfixturevalue("small_disk")
    result = create(home, tmp_path / "broker.backup")
    assert result.exit_code == 3, result.output
    assert "cannot be copied" in result.stderr
    check_nothing_left(tmp_path, "broker")
    assert not (home / STAGE).exists()


def test_a_full_disk_while_restoring_leaves_nothing(
    tmp_path: Path, world: World, request: pytest.FixtureRequest
) -> None:
    home = make_home(tmp_path / "housing", world).path
    (home / "notes").write_bytes(bytes(300_000))
    assert create(home, tmp_path / "housing.backup").exit_code == 0
    request.getfixturevalue("small_disk")
    result = run("restore", tmp_path / "housing.backup", "--home", tmp_path / "new")
    assert result.exit_code == 3
    check_nothing_left(tmp_path, "housing", "housing.backup")


KILLED = """
import os, signal, sys
from exchange.backup import writing
from exchange.cli.main import app
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
{place} = kill
app()
"""


@SQLITE_ALONE
@pytest.mark.parametrize("place", ["writing.os.link", "writing.heads_of", "writing._Writer.add_manifest"])
def test_killed_in_the_middle_it_leaves_no_backup_and_the_next_one_is_whole(
    tmp_path: Path, home: Path, place: str
) -> None:
    output = tmp_path / "broker.backup"
    command = (sys.executable, "-c", KILLED.format(place=place), "backup", "create", "--home", home, "--out", output)
    killed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert create(home, output).exit_code == 0
    assert run("verify", output).exit_code == 0
    check_nothing_left(tmp_path, "broker", "broker.backup")
    assert not (home / STAGE).exists()


def test_two_backups_at_once_do_not_mix(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "housing", world).path
    inner: list[Result] = []

    def again(*arguments: object) -> None:
        monkeypatch.undo()
        inner.append(create(home, tmp_path / "housing.backup"))
        os.link(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writing.os, "link", again)
    assert create(home, tmp_path / "housing.backup").exit_code == 0
    assert (inner[0].exit_code, "is being taken" in inner[0].stderr) == (3, True)
    assert run("verify", tmp_path / "housing.backup").exit_code == 0


def test_an_error_of_the_disk_is_told_as_what_it_is(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "housing", world).path

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(writing.os, "fsync", fail)
    result = create(home, tmp_path / "housing.backup")
    assert result.exit_code == 3
    assert "Input/output error" in result.stderr
    check_nothing_left(tmp_path, "housing")


@SQLITE_ALONE
def test_logs_outside_of_the_home_are_taken_too(tmp_path: Path, home: Path) -> None:
    elsewhere = tmp_path / "disk" / "logs.db"
    elsewhere.parent.mkdir()
    shutil.move(home / "exchange.db", elsewhere)
    configure(home, str(elsewhere))
    assert create(home, tmp_path / "broker.backup").exit_code == 0
    assert run("verify", tmp_path / "broker.backup").exit_code == 0
    there = run("restore", tmp_path / "broker.backup", "--home", tmp_path / "new")
    assert (there.exit_code, "is there already" in there.stderr) == (2, True)
    relative = run("restore", tmp_path / "broker.backup", "--home", tmp_path / "new", "--database", "x.db")
    assert relative.exit_code == 2
    other = tmp_path / "disk" / "other.db"
    result = run("restore", tmp_path / "broker.backup", "--home", tmp_path / "new", "--database", other)
    assert result.exit_code == 0, result.output
    assert dump(tmp_path / "new") == dump(home)
