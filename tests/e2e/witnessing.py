"""Witnesses beside a city: each a process of its own, with a home, a key and a memory that survive it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from exchange.core.policy import Policy, PolicyGroup, PolicyWitness
from exchange.core.trust import encode_trust
from exchange.home import Home
from exchange.witness.config import MEMORY, WitnessHome, new_config
from exchange.witness.memory import WitnessMemory
from tests.e2e.city import City, free_port
from tests.e2e.founding import BROKER
from tests.e2e.processes import Program

NAMES = ("audit-office", "university", "archive")


class Witnesses:
    """Three witnesses of a city, two of which are a quorum; none runs yet.

    Args:
        city: one that does not run: its trust files get the policy.
        settings: lines of its broker.toml.
    """

    def __init__(self, city: City, settings: Sequence[str] = ()) -> None:
        self.city = city
        self.urls: dict[str, str] = {}
        self._programs: dict[str, Program] = {}
        witnesses = tuple(self._made(name) for name in NAMES)
        self.policy = Policy(
            witnesses=witnesses, groups=(PolicyGroup("two-of-three", 2, NAMES),), quorum="two-of-three"
        )
        for file in city.path.glob("*/trust.toml"):
            home = Home(file.parent)
            home.write("trust.toml", encode_trust(replace(home.trust, policy=self.policy)).encode())
        file = city.path / BROKER / "broker.toml"
        text = file.read_text()
        for line in settings:
            key = line.partition(" = ")[0]
            text, count = re.subn(rf"(?m)^{key} = .*$", line, text)
            assert count == 1, key
        file.write_text(text)

    def _made(self, name: str) -> PolicyWitness:
        path = self.city.path / f"witness-{name}"
        listen = f"127.0.0.1:{free_port()}"
        config = new_config(f"{name}.witness.test", listen, [self.city.path / "operator" / "trust.toml"])
        home = WitnessHome.create(path, config)
        WitnessMemory.create(path / MEMORY, lambda: 0)
        program = ["-c", "from exchange.cli.audit.main import app; app()", "witness", "run", "--home", str(path)]
        self._programs[name] = Program(program, self.city.path / "output" / f"witness-{name}.log", "is ready on", {})
        self.urls[name] = f"http://{listen}"
        return PolicyWitness(name, home.cosigner(config.name).verifier, self.urls[name])

    def __getitem__(self, name: str) -> Program:
        """One witness's program."""
        return self._programs[name]

    def start(self, *names: str) -> None:
        """Start some, and wait until they listen."""
        for name in names:
            self._programs[name].start()

    def stop(self, *names: str) -> None:
        """Stop some as their operators do."""
        for name in names:
            assert self._programs[name].stop() == 0, self._programs[name].output

    def close(self) -> None:
        """End every one that runs."""
        for program in self._programs.values():
            program.kill()


@contextmanager
def witnessed(template: City, path: Path, *settings: str, running: Sequence[str] = NAMES) -> Iterator[Witnesses]:
    """A city with its witnesses, everything running but those that are left out."""
    quick = ("witness_round_seconds = 0.2", "witness_heartbeat_seconds = 0.5", "missing_quorum_seconds = 0.5")
    city = template.copy(path)
    witnesses = Witnesses(city, (*quick, *settings))
    try:
        witnesses.start(*running)
        with city.running():
            yield witnesses
    finally:
        witnesses.close()
