"""Both sides as real processes on loopback, and how much processor time each of them takes."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.bare import READY
from bench.load import Sample
from bench.requester import Requester, Sizes
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, BROKER
from tests.e2e.processes import Program

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """A round of one side: the load that was driven, and each process's time on a processor, µs a request."""

    sample: Sample
    cpu_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """One side that runs.

    Args:
        requester: drives the load; servers: process ids by name.
    """

    requester: Requester
    sizes: Sizes
    servers: Mapping[str, int]

    def measure(self, in_flight: int, seconds: float) -> Measured:
        """One round."""
        processes = {**self.servers, "requester": self.requester.pid}
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        sample = self.requester.drive(in_flight, seconds)
        used = {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}
        return Measured(sample, {name: spent / sample.finished * 1e6 for name, spent in used.items()})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def both(folder: Path) -> Iterator[tuple[Stage, Stage]]:
    """The exchange and the bare relay; on leaving, every process is ended.

    Args:
        folder: an empty one on a disk like production's: the exchange waits for its fsync.
    """
    with ExitStack() as ending:
        city = City.build(folder / "template").copy(folder / "city")
        _lift_limit(city)
        ending.enter_context(city.running())
        requester = ending.enter_context(Requester(["exchange", str(city.path / APPLICATIONS)]))
        exchange = Stage(requester, requester.sizes(), {"broker": city.broker.pid, "adapter": city.registry.pid})
        yield exchange, _bare(city, exchange.sizes, ending)


def _bare(city: City, sizes: Sizes, ending: ExitStack) -> Stage:
    """The bare relay with the same certificates, and messages of the same size."""
    servers: dict[str, int] = {}

    def start(role: str, argument: str) -> str:
        arguments = ["-m", "bench.bare", role, str(city.path / BROKER), argument]
        program = Program(arguments, city.path / "output" / f"{role}.log", READY, {})
        ending.callback(program.kill)
        program.start()
        servers[role] = program.pid
        return program.wait_for(READY).split()[-1]

    address = start("relay", start("origin", str(sizes.answer)))
    asking = ["bare", str(city.path / APPLICATIONS), address, str(sizes.request)]
    requester = ending.enter_context(Requester(asking))
    return Stage(requester, requester.sizes(), servers)


def _lift_limit(city: City) -> None:
    """Let one party ask without limit: the token bucket would be what is measured."""
    config = city.path / BROKER / "broker.toml"
    text, replaced = re.subn(r"(?m)^(requests_per_second|burst) = .*$", r"\1 = 1e9", config.read_text())
    assert replaced == 2
    config.write_text(text)
