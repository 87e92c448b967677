"""Processes that may outlive the program that started them: started, found again and ended by their ids."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0


class ProcessError(Exception):
    """A process did not start; the message ends with what it said."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process: its id, and when the kernel says it began, so that a reused id is never mistaken for it."""

    name: str
    pid: int
    began: str

    @property
    def is_running(self) -> bool:
        """Whether it is still there, and not a zombie."""
        return self.began != "" and _began(self.pid) == self.began


class Processes:
    """The processes of one folder, which keeps their ids and what they print.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str | Path], ready: str, environment: Mapping[str, str]) -> None:
        """Start a process, and wait until it has printed a line that contains `ready`.

        Raises:
            ProcessError: it ended, or said nothing of the kind in time.
        """
        output = self._folder / f"{name}.log"
        with output.open("wb") as file:
            started = subprocess.Popen(
                [str(part) for part in command],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._keep(Process(name, started.pid, _began(started.pid)))
        deadline = time.monotonic() + PATIENCE
        while ready not in output.read_text(errors="replace"):
            if started.poll() is not None or time.monotonic() > deadline:
                raise ProcessError(f"{name} did not start:\n{output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> list[str]:
        """End every process that still runs, the last started first; returns their names."""
        stopped = []
        for file, process in reversed(self._kept()):
            if process.is_running:
                os.kill(process.pid, signal.SIGTERM)
                self._wait(process)
                stopped.append(process.name)
            file.unlink(missing_ok=True)
        return stopped

    def _wait(self, process: Process) -> None:
        deadline = time.monotonic() + PATIENCE
        while process.is_running:
            if time.monotonic() > deadline:
                os.kill(process.pid, signal.SIGKILL)
                deadline += PATIENCE
            time.sleep(0.05)

    def _kept(self) -> list[tuple[Path, Process]]:
        """Every process that was started, the first one first, each with the file that remembers it."""
        files = sorted(self._folder.glob("*.process"), key=lambda file: file.stat().st_mtime_ns)
        return [(file, Process(**json.loads(file.read_text()))) for file in files]

    def _keep(self, process: Process) -> None:
        file = self._folder / f"{process.name}.process"
        file.write_text(json.dumps({"name": process.name, "pid": process.pid, "began": process.began}))


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks (proc(5), field 22 of stat); empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
