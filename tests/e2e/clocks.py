"""The clocks of a whole city, moved together: days pass for its programs, for what is typed, and for its clients."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exchange.client import ExchangeClient, Session
from exchange.client.session import wall_clock
from tests.e2e.city import City
from tests.e2e.faults import Faults
from tests.e2e.founding import APPLICATIONS, BROKER, CIVIL, REGISTRY
from tests.e2e.processes import ROOT

HOUR = 3600
TYPED = "typed"
"""The one clock of everybody who types."""


class Clocks:
    """How far the clocks of a city's people and programs are ahead of this machine's.

    Args:
        city: a faulty one whose programs do not run yet.
    """

    def __init__(self, city: City) -> None:
        self.city = city
        self.ahead = 0
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set all of them, also of what runs, so many seconds ahead."""
        self.ahead = seconds
        for name in (BROKER, REGISTRY, CIVIL, TYPED):
            self.of(name).switch_on("clock", str(seconds))

    def of(self, name: str) -> Faults:
        """The faults of one program, whose clock may be set apart from the others'."""
        return self.city.faults(name)

    def now(self) -> int:
        """What they say, milliseconds."""
        return wall_clock() + self.ahead * 1000

    def session(self, name: str) -> Session:
        """A session of a party, whose clock is moved with the others."""
        return Session(self.city.home(name), clock=self.now)

    def client(self, name: str = APPLICATIONS) -> ExchangeClient:
        """A client of a system, whose clock is moved with the others."""
        return ExchangeClient(self.session(name))

    async def types(self, home: str | Path, *arguments: str, code: int = 0) -> str:
        """What `exchange ARGUMENTS --home HOME` prints, on standard output and error.

        Args:
            home: of a party of the city, or a folder.
            code: with which it must end.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.e2e.faulty", "command"),
            *(*arguments, "--home", str(self.city.path / home)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "NO_COLOR": "1", "EXCHANGE_TEST_FAULTS": str(self.of(TYPED).folder)},
        )
        output, _ = await process.communicate()
        text = output.decode()
        assert process.returncode == code, f"exchange {' '.join(arguments)}\n{text}"
        return text


@contextmanager
def timed(template: City, path: Path) -> Iterator[Clocks]:
    """A city of one's own whose clocks can be moved, its broker and the registry's adapter running."""
    city = template.copy(path, faulty=True)
    clocks = Clocks(city)
    with city.running():
        yield clocks
