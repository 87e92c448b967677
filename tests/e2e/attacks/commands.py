"""The commands that find attacks, as they are typed: every command line of these tests stands here."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.founding import PURPOSE, RESIDENTS, person
from tests.e2e.processes import ROOT, Program

_MODULES = {
    "exchange": "exchange.cli.main",
    "exchange-adapter": "adapters.cli",
    "exchange-audit": "exchange.cli.audit.main",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended.

    Args:
        name: of the command, with its subcommand.
        code: its exit code.
        output: all that it printed.
    """

    name: str
    code: int
    output: str

    def says(self, text: str) -> str:
        """The line with this text, which must be there."""
        lines = [line.strip() for line in self.output.splitlines() if text in line]
        assert lines, f"`{self.name}` does not say {text!r}:\n{self.output}"
        return lines[0]


def sync(home: Path) -> Ended:
    """The auditor mirrors both logs."""
    return _run("exchange-audit", "sync", home)


def verify_mirror(home: Path) -> Ended:
    """The auditor verifies the mirror."""
    return _run("exchange-audit", "verify full", home)


def verify_database(home: Path, database: Path) -> Ended:
    """The auditor verifies a copy of the broker's database, against the mirror where there is one."""
    return _run("exchange-audit", "verify full", home, "--database", str(database))


def prove(home: Path, index: int, proof: Path) -> Ended:
    """The auditor writes an entry's proof as a file."""
    return _run("exchange-audit", "prove", home, str(index), "--output", str(proof))


def verify_proof(home: Path, proof: Path) -> Ended:
    """Anybody verifies a proof that somebody brought."""
    return _run("exchange-audit", "verify proof", home, str(proof))


def verify_head(home: Path, policy: Path) -> Ended:
    """The auditor verifies the last checkpoints, under a policy of its own."""
    return _run("exchange-audit", "verify head", home, "--policy", str(policy))


def compare(home: Path, *notes: Path) -> Ended:
    """Two auditors compare what they were shown."""
    return _run("exchange-audit", "verify consistency", home, *map(str, notes))


def search(home: Path, *criteria: str) -> Ended:
    """The auditor looks for accesses in the mirror."""
    return _run("exchange-audit", "search", home, *criteria)


def request(home: Path, number: int, fields: str = "name,address") -> Ended:
    """A requester asks about one resident."""
    asked = ("--key", person(number), "--fields", fields, "--purpose", PURPOSE, "--case", "ZF-1", "--officer", "o-7")
    return _run("exchange", "request", home, RESIDENTS, *asked)


def revoke(home: Path, agreement: str) -> Ended:
    """The owner ends an agreement, at its own adapter."""
    return _run("exchange-adapter", "revoke", home, agreement, "--reason", "misused")


def check_adapter(home: Path) -> Ended:
    """The owner checks its adapter: keys, ledger, orders."""
    return _run("exchange-adapter", "check", home)


def run_broker(home: Path) -> Ended:
    """The operator starts a broker that must not come up."""
    return _run("exchange", "broker run", home)


def run_adapter(home: Path) -> Ended:
    """The owner starts an adapter that must not come up."""
    return _run("exchange-adapter", "run", home)


def new_witness(home: Path, trust: Path, listen: str) -> Ended:
    """An independent party makes a witness of both logs."""
    return _run("exchange-audit", "witness new", home, "witness.test", "--trust", str(trust), "--listen", listen)


def witness(home: Path, log: Path) -> Program:
    """The witness, to be started."""
    code = f"from {_MODULES['exchange-audit']} import app; app()"
    return Program(["-c", code, "witness", "run", "--home", str(home)], log, "is ready on", {})


def _run(program: str, command: str, home: Path, *arguments: str) -> Ended:
    line = [*command.split(), *arguments, "--home", str(home)]
    done = subprocess.run(
        [sys.executable, "-c", f"from {_MODULES[program]} import app; app()", *line],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    return Ended(f"{program} {command}", done.returncode, done.stdout)
