"""The steps of a write as its driver and its system calls receive them, and a run in which one of them goes wrong.

    steps = Steps()
    steps.install()               # from here on sqlite3 and the system calls of this process go through it
    ... open what is to be written
    with steps.armed(3, Case.KILLED):
        ... write: the fourth step goes wrong

A step is one statement that a connection is given, its commit, or one call that changes a file. Nobody lists them:
`names` has what came, and `unseen` what SQLite ran, or the interpreter opened or renamed, outside of any step.
"""

import errno
import io
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Case(StrEnum):
    """How a step goes wrong."""

    FAILED = "failed"
    PERSISTED = "failed, but persisted"
    KILLED = "killed there"


class Steps:
    """Counts the steps, and lets one of them go wrong, once; made once in a process, which ends with it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.unseen: list[str] = []
        self._failing = -1
        self._case = Case.FAILED
        self._armed = False
        self._within = 0

    @contextmanager
    def armed(self, failing: int = -1, case: Case = Case.FAILED) -> Iterator[None]:
        """Count what happens in the block; the step of this number, from 0, goes wrong."""
        self._failing, self._case, self._armed = failing, case, True
        try:
            yield
        finally:
            self._armed = False

    def take(self, name: str, act: Callable[[], Any], error: Exception) -> Any:
        """One step: what it is called, what it does, and how it fails."""
        if not self._armed or self._within:
            return act()
        self.names.append(name)
        if len(self.names) - 1 != self._failing:
            return self._act(act)
        if self._case is Case.KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._case is Case.PERSISTED:
            self._act(act)
        raise error

    def _act(self, act: Callable[[], Any]) -> Any:
        self._within += 1
        try:
            return act()
        finally:
            self._within -= 1

    def install(self) -> None:
        """Put this in the way of sqlite3 and of the system calls that change files, for good."""
        Stepped.steps = self
        sqlite3.connect = partial(sqlite3.connect, factory=Stepped)  # type: ignore[assignment]
        for name in ("open", "fsync", "replace", "utime"):
            setattr(os, name, partial(self._call, name, getattr(os, name)))
        os.fdopen = self._fdopen  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _call(self, name: str, original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        act = partial(original, *arguments, **named)
        reads = name == "open" and not (arguments[1] if len(arguments) > 1 else 0) & _WRITES
        return act() if reads else self.take(name, act, _system_error())

    def _fdopen(self, descriptor: int, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if mode == "wb":
            return _File(io.FileIO(descriptor, "w"), self)
        return io.open(descriptor, mode, *rest, **named)  # noqa: UP020 - `open` is what this stands for

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in {"os.rename", "os.remove", "os.truncate"} or (event == "open" and arguments[2] & _WRITES)
        if changes and not (event == "open" and isinstance(arguments[0], int)):
            self.ran(f"{event} {arguments[0]}")

    def ran(self, what: str) -> None:
        """Called from below: whatever comes while no step is under way was missed."""
        if self._armed and not self._within:
            self.unseen.append(what)


class _File(io.BufferedWriter):
    def __init__(self, raw: io.FileIO, steps: Steps) -> None:
        super().__init__(raw)
        self._steps = steps

    def write(self, data: Any, /) -> int:
        written: int = self._steps.take("write", partial(super().write, data), _system_error())
        return written

    def flush(self) -> None:
        # Closing flushes too, but has nothing left to write then.
        self._steps.take("flush", super().flush, _system_error()) if not self.closed else super().flush()


class Stepped(sqlite3.Connection):
    """A connection that gives every statement to the steps first."""

    steps: ClassVar[Steps]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.set_trace_callback(self.steps.ran)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_Cursor)

    def execute(self, sql: str, *values: Any) -> Any:
        return self.cursor().execute(sql, *values)

    def executemany(self, sql: str, rows: Any, /) -> Any:
        return self.cursor().executemany(sql, rows)

    def commit(self) -> None:
        if self.in_transaction:
            self.steps.take("COMMIT", super().commit, _disk_error())

    def rollback(self) -> None:
        if self.in_transaction:
            self.steps.take("ROLLBACK", super().rollback, _disk_error())


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *values: Any) -> Any:
        return Stepped.steps.take(_name(sql), partial(super().execute, sql, *values), _disk_error())

    def executemany(self, sql: str, rows: Any, /) -> Any:
        return Stepped.steps.take(_name(sql), partial(super().executemany, sql, rows), _disk_error())


def _name(sql: str) -> str:
    words = sql.split()
    return " ".join(words[:3]) if words[0] in ("INSERT", "DELETE", "CREATE") else " ".join(words[:2])


def _disk_error() -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    return error


def _system_error() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
