"""What a witness has cosigned: one SQLite file, in which a checkpoint is compared and kept in one transaction.

A witness that forgets could cosign a second history: the file is made once, and never from a backup.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from exchange.core.checkpoint import Checkpoint
from exchange.core.witnessing import Rejected, Submission, judge
from exchange.home import HomeError

_BUSY: Final = 10.0
_APPLICATION_ID: Final = int.from_bytes(b"XWIT")
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE latest (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL, time INTEGER NOT NULL
);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = 1;
COMMIT;
"""
_KEEP: Final = "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?)"
_NOTE: Final = "SELECT note FROM latest WHERE origin = ?"
_LATEST: Final = "SELECT size, root FROM latest WHERE origin = ?"


class MemoryFailedError(Exception):
    """The file cannot be read or written: nothing is cosigned."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that is on stable storage, and when it was found to be the largest: seconds since 1970."""

    checkpoint: Checkpoint
    time: int


class WitnessMemory:
    """The last checkpoint cosigned of each log; methods block, and may be called from any thread.

    Durable: when `advance` returns `Kept`, the checkpoint survives a crash of the machine (synchronous=EXTRA with a
    rollback journal). Atomic: between comparing and keeping no other caller, of this process or another, comes in.

    Args:
        path: the file.
        clock: seconds since 1970.

    Raises:
        HomeError: it is missing, or not a witness's.
    """

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._path = path
        self._clock = clock
        self._lock = Lock()
        if not path.is_file():
            raise HomeError(
                f"the witness's memory {path} is missing",
                "a witness that forgot what it cosigned must not go on: make a new one, with a new key and name",
            )
        try:
            with self._open() as connection:
                (found,) = connection.execute("PRAGMA application_id").fetchone()
        except MemoryFailedError as error:
            raise HomeError(str(error)) from error
        if found != _APPLICATION_ID:
            raise HomeError(f"{path} is not a witness's memory")

    @classmethod
    def create(cls, path: Path, clock: Callable[[], int]) -> "WitnessMemory":
        """Make the file of a witness that has cosigned nothing yet.

        Raises:
            HomeError: it is there already, or cannot be made.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.executescript(_SCHEMA)
        except FileExistsError as error:
            raise HomeError(f"{path} is there already", "a witness's memory is never made anew") from error
        except (OSError, sqlite3.Error) as error:
            raise HomeError(f"cannot make {path}: {error}") from error
        return cls(path, clock)

    def advance(self, submission: Submission) -> Kept | Rejected:
        """Keep a checkpoint where it goes on from the last one, or say why it does not.

        Raises:
            MemoryFailedError: nothing is known to be kept.
        """
        new = submission.checkpoint
        with self._lock, self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rejected = judge(submission, _latest(connection, new.origin))
            if rejected is not None:
                return rejected
            # The time before the commit, while nobody else can keep a larger one: a cosignature says that at its time
            # this was the largest tree that the witness had seen (C2SP tlog-cosignature).
            time = self._clock()
            connection.execute(_KEEP, (new.origin, new.size, new.root, submission.request.note, time))
            connection.execute("COMMIT")
            # COMMITTED: from here on the checkpoint may be cosigned.
        return Kept(new, time)

    def latest(self, origin: str) -> Checkpoint | None:
        """The checkpoint of a log that was cosigned last.

        Raises:
            MemoryFailedError: it cannot be read.
        """
        with self._open() as connection:
            return _latest(connection, origin)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = EXTRA")
                # Leaving without COMMIT closes the connection, and SQLite rolls back.
                yield connection
        except sqlite3.Error as error:
            raise MemoryFailedError(f"the witness's memory {self._path} cannot be used: {error}") from error


def cosigned_in(path: Path, origins: Sequence[str]) -> tuple[bytes, ...]:
    """The last checkpoints of some logs that a witness has cosigned, as the logs signed them; the file is read alone.

    Args:
        path: a witness's memory, or a copy of one; origins: the logs'.

    Raises:
        HomeError: it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = [connection.execute(_NOTE, (origin,)).fetchone() for origin in origins]
    except sqlite3.Error as error:
        raise HomeError(f"the witness's memory {path} cannot be read: {error}") from error
    return tuple(bytes(row[0]) for row in found if row is not None)


def _latest(connection: sqlite3.Connection, origin: str) -> Checkpoint | None:
    row = connection.execute(_LATEST, (origin,)).fetchone()
    return Checkpoint(origin, row[0], bytes(row[1])) if row is not None else None
