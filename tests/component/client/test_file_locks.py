"""What one thread does with a party's file leaves the locks that another one has on it (POSIX advisory locks)."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from exchange.client.storage import MirrorFile
from exchange.client.use_file import UseFile
from exchange.files import make_private

WRITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')"


def is_locked(path: Path) -> bool:
    """Whether another process finds it locked."""
    done = subprocess.run([sys.executable, "-c", WRITE, str(path)], capture_output=True, text=True, check=False)
    assert not done.returncode or "database is locked" in done.stderr, done.stderr
    return done.returncode != 0


def read_mirror(path: Path) -> None:
    MirrorFile(path)


def read_use(path: Path) -> None:
    UseFile(path).head()


@pytest.mark.parametrize("touch", [make_private, read_mirror, read_use])
def test_no_lock_is_given_up_by_whoever_else_opens_the_file(tmp_path: Path, touch: Callable[[Path], None]) -> None:
    path = tmp_path / "file.db"
    touch(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert is_locked(path)
        touch(path)
        assert is_locked(path)
        connection.execute("COMMIT")
    assert not is_locked(path)


def test_a_new_file_is_its_owners_alone_and_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    make_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"kept")
    make_private(path)
    assert path.read_bytes() == b"kept"
    assert [item.name for item in tmp_path.iterdir()] == ["file.db"]
