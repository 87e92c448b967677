"""Witnesses beside a city: each a process of its own, with a home, a key and a memory that survive it."""

import datetime
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exchange.broker.authority import Authority, found_authority
from exchange.core.names import Party
from exchange.core.policy import Policy, PolicyGroup, PolicyWitness
from exchange.core.trust import encode_trust
from exchange.home import Home, write_file
from exchange.witness.config import MEMORY, WitnessHome, new_config
from exchange.witness.memory import WitnessMemory
from tests.certificates import csr, uri
from tests.e2e.city import City, free_port
from tests.e2e.founding import BROKER
from tests.e2e.processes import Program

NAMES = ("audit-office", "university", "archive")
QUICK = ("witness_round_seconds = 0.2", "witness_heartbeat_seconds = 0.5", "missing_quorum_seconds = 0.5")


class Witnesses:
    """Three witnesses of a city, two of which are a quorum; none runs yet.

    Args:
        city: one that does not run: its trust files get the policy.
        settings: lines of its broker.toml.
        authority: certifies them, if they are to listen with TLS; the broker knows them by it.
        names: of the three.
    """

    def __init__(
        self,
        city: City,
        settings: Sequence[str] = (),
        authority: Authority | None = None,
        names: tuple[str, ...] = NAMES,
    ) -> None:
        self.city = city
        self.authority = authority
        self.urls: dict[str, str] = {}
        self._programs: dict[str, Program] = {}
        witnesses = tuple(self._made(name) for name in names)
        self.policy = Policy(
            witnesses=witnesses, groups=(PolicyGroup("two-of-three", 2, names),), quorum="two-of-three"
        )
        for file in city.path.glob("*/trust.toml"):
            trust_witnesses(Home(file.parent), self.policy)
        if authority is not None:
            (city.path / BROKER / "witnesses.pem").write_bytes(authority.pem)
            settings = (*settings, 'witness_authorities = "witnesses.pem"')
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
        if self.authority is not None:
            self.urls[name] = f"https://{listen}"
            certify(path, self.authority)
        return PolicyWitness(name, home.cosigner(config.name).verifier, self.urls[name])

    def __getitem__(self, name: str) -> Program:
        """One witness's program."""
        return self._programs[name]

    def start(self, *names: str) -> None:
        """Start some, and wait until they listen."""
        for name in names:
            self._programs[name].start(wait=False)
        for name in names:
            self._programs[name].wait_ready()

    def stop(self, *names: str) -> None:
        """Stop some as their operators do."""
        for name in names:
            assert self._programs[name].stop() == 0, self._programs[name].output

    def close(self) -> None:
        """End every one that runs."""
        for program in self._programs.values():
            program.kill()


def trust_witnesses(home: Home, policy: Policy) -> None:
    """Write a witness policy into a home's trust file."""
    home.write("trust.toml", encode_trust(replace(home.trust, policy=policy)).encode())


def certify(path: Path, authority: Authority, host: str = "127.0.0.1") -> None:
    """Give a witness a TLS certificate for an address, as its operator does."""
    key, party = ec.generate_private_key(ec.SECP256R1()), Party("city.test", "witness")
    now = datetime.datetime.now(datetime.UTC)
    (path / "tls.pem").write_bytes(authority.issue(csr([uri(party)], key), party, bytes(32), now, (host,)))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(path / "tls.key", secret, 0o600)
    with (path / "witness.toml").open("a") as file:
        file.write('tls_certificate = "tls.pem"\ntls_key = "tls.key"\n')


def new_authority() -> Authority:
    """Somebody who certifies witnesses."""
    key = ec.generate_private_key(ec.SECP256R1())
    return found_authority(key, "witnesses.test", datetime.datetime.now(datetime.UTC))


@contextmanager
def witnessed(
    template: City,
    path: Path,
    *settings: str,
    running: Sequence[str] = NAMES,
    authority: Authority | None = None,
) -> Iterator[Witnesses]:
    """A city with its witnesses, everything running but those that are left out."""
    city = template.copy(path)
    witnesses = Witnesses(city, (*QUICK, *settings), authority)
    try:
        witnesses.start(*running)
        with city.running():
            yield witnesses
    finally:
        witnesses.close()
