"""One program of the exchange as a real process: started, watched, stopped or killed, by its own process id."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0
_TICK = 0.01


class Program:
    """A process that may run several times, one after the other.

    Args:
        arguments: of `python`.
        log: gets all that it prints, over all its runs.
        ready: a piece of the line that it prints when it is ready.
        environment: added to the test's own.
    """

    def __init__(self, arguments: Sequence[str], log: Path, ready: str, environment: Mapping[str, str]) -> None:
        self._arguments = tuple(arguments)
        self._log = log
        self.ready = ready
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it is ready."""
        assert not self.is_running, f"{self} runs already"
        self._started_at = self.mark()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **self._environment}
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait for the line that says so, of this run."""
        self.wait_for(self.ready)

    def stop(self, timeout: float = TIMEOUT) -> int:
        """End it as an operator does, with SIGTERM; returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout)

    def kill(self) -> None:
        """End it as a power cut does, with SIGKILL; nothing where it does not run."""
        if self.is_running:
            self.signal(signal.SIGKILL)
            self.wait_exit()

    def restart(self) -> None:
        """SIGTERM, and another run."""
        assert self.stop() == 0, self.output
        self.start()

    def signal(self, number: int) -> None:
        """Send a signal to this run."""
        os.kill(self.pid, number)

    def wait_exit(self, timeout: float = TIMEOUT) -> int:
        """Wait until the run has ended; returns its exit code, which is negative for a signal."""
        assert self._process is not None, f"{self} was never started"
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end within {timeout} s:\n{self.output}") from None

    @property
    def pid(self) -> int:
        """The process id of this run."""
        assert self._process is not None, f"{self} was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What this run has printed."""
        return self._text(self._started_at)

    def mark(self) -> int:
        """The place in its output where the next line will stand; for `wait_for`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def wait_for(self, text: str, after: int | None = None, timeout: float = TIMEOUT) -> str:
        """Wait for a line of this run that holds a text; returns the line.

        Args:
            text: a piece of the line.
            after: a `mark`, before which nothing counts.
            timeout: seconds.
        """
        start = self._started_at if after is None else after
        found: list[str] = []

        def look() -> bool:
            found.extend(line for line in self._text(start).splitlines() if text in line)
            return bool(found) or not self.is_running

        wait_until(look, f"{text!r} from {self}", timeout, lambda: self._text(start))
        assert found, f"{self} ended without saying {text!r}:\n{self.output}"
        return found[0]

    async def seen(self, text: str, after: int | None = None, timeout: float = TIMEOUT) -> str:
        """`wait_for`, while the event loop goes on."""
        return await asyncio.to_thread(self.wait_for, text, after, timeout)

    def _text(self, start: int) -> str:
        with self._log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    def __str__(self) -> str:
        return self._log.stem


def wait_until(
    holds: Callable[[], bool], what: str, timeout: float = TIMEOUT, explain: Callable[[], str] = lambda: ""
) -> None:
    """Wait until something holds that announces itself to nobody: a line in a file, a row in a database.

    Args:
        holds: is asked again and again.
        what: for the error, like explain.
        timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}\n{explain()}"
        time.sleep(_TICK)


async def until(
    holds: Callable[[], bool], what: str, timeout: float = TIMEOUT, explain: Callable[[], str] = lambda: ""
) -> None:
    """`wait_until`, while the event loop goes on."""
    await asyncio.to_thread(wait_until, holds, what, timeout, explain)
