"""What a test tells a program of `tests.e2e.faulty` to do wrong: files in a folder that both sides look at."""

import os
import signal
import time
from pathlib import Path

from tests.e2e.processes import wait_until

KILL, HOLD, ON = "kill", "hold", "on"
_TICK = 0.005


class Faults:
    """The faults of one program.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # The test's side.

    def kill_at(self, point: str) -> None:
        """The program ends itself with SIGKILL when it comes to this point, once."""
        self._write(point, KILL)

    def hold_at(self, point: str) -> None:
        """The program waits at this point until `let_go`."""
        self._write(point, HOLD)

    def let_go(self, point: str) -> None:
        """Go on; who comes here later does not wait."""
        (self.folder / point).unlink(missing_ok=True)

    def wait_held(self, point: str, times: int = 1) -> None:
        """Wait until so many have come to a point since the city was made, held or not."""
        wait_until(lambda: self.count(point) >= times, f"{times} at {point}", explain=lambda: f"{self.count(point)}")

    def count(self, point: str) -> int:
        """How often a point was passed by now, over all runs."""
        path = self.folder / f"{point}.count"
        return path.stat().st_size if path.exists() else 0

    def switch_on(self, name: str, value: str = ON) -> None:
        """A lasting fault."""
        self._write(name, value)

    def switch_off(self, name: str) -> None:
        """No such fault any more."""
        self.let_go(name)

    # The program's side.

    def value(self, name: str) -> str:
        """The value of a switch, or nothing."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return ""

    def reach(self, point: str) -> str:
        """Count, and say what to do here; SIGKILL does not return."""
        with (self.folder / f"{point}.count").open("ab") as file:
            file.write(b".")
        what = self.value(point)
        if what == KILL:
            self.let_go(point)
            os.kill(os.getpid(), signal.SIGKILL)
        return what

    def pass_by(self, point: str) -> None:
        """`reach` a point in a thread, and wait there where that is asked."""
        if self.reach(point) == HOLD:
            while self.value(point):
                time.sleep(_TICK)

    def _write(self, name: str, value: str) -> None:
        # Whole or not at all: the program may look at any moment.
        new = self.folder / f".{name}"
        new.write_text(value)
        new.replace(self.folder / name)
