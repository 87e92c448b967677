"""`make demo`, as a newcomer runs it: what it prints, what it leaves, and what README says of it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ROOT = Path(__file__).resolve().parents[2]
SEED = "20260809"
LINES = 60


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m examples.city`, with its .demo in a folder of this test's."""
    return subprocess.run(
        [sys.executable, "-m", "examples.city", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SEED": SEED, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> Iterator[subprocess.CompletedProcess[str]]:
    """The demo, left running."""
    try:
        yield run(folder, KEEP="1")
    finally:
        stopped = run(folder, "stop")
        assert stopped.stdout.startswith("Stopped: ")
        for name in ("broker", "population", "civil-affairs", "housing", "postgresql"):
            assert name in stopped.stdout
        assert run(folder, "stop").stdout == "Nothing was running.\n"


def test_it_shows_the_whole_story_in_sixty_lines(shown: subprocess.CompletedProcess[str]) -> None:
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) <= LINES
    for part in (
        f"seed {SEED}",
        "FIELD_NOT_GRANTED",
        "PURPOSE_NOT_GRANTED",
        "AGREEMENT_ENDED",
        "verified; split view not excluded: no witnesses",
        "FAIL  entry 0 of city.example/access",
        "[exit code 1]",
        "Three commands to copy",
    ):
        assert part in shown.stdout


def test_readme_shows_what_it_prints(shown: subprocess.CompletedProcess[str]) -> None:
    """To the letter, but for what differs each time: times, ids of agreements, roots, how long it took."""
    readme = (ROOT / "README.md").read_text()
    block = readme.split("<!-- demo -->\n")[1].split("<!-- /demo -->")[0]
    promised = [masked(line.removeprefix("    ")) for line in block.splitlines() if line.strip()]
    printed = [masked(line) for line in shown.stdout.splitlines()]
    assert len(promised) > 10
    assert [line for line in promised if line not in printed] == []


def test_its_three_commands_can_be_copied(shown: subprocess.CompletedProcess[str], folder: Path) -> None:
    commands = [line.strip() for line in shown.stdout.splitlines() if line.strip().startswith(". .demo/env")]
    assert len(commands) == 3
    outputs = []
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "address" in outputs[0]
    assert "officer-17" in outputs[1]
    assert "HS-1" in outputs[1]
    assert "verified" in outputs[2]


def test_private_keys_are_only_where_they_are_used(shown: subprocess.CompletedProcess[str], folder: Path) -> None:
    """No department's or system's private key ever exists under the operator's home; each home has its own."""
    homes = folder / ".demo" / "homes"
    owners: dict[bytes, Path] = {}
    for path in homes.rglob("*"):
        if not path.is_file() or b"PRIVATE KEY" not in (data := path.read_bytes()):
            continue
        assert path.parent.name == "keys"
        assert path.stat().st_mode & 0o077 == 0
        key = load_pem_private_key(data, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
        assert owners.setdefault(data, path) == path
    operators = {
        str(path.relative_to(homes / "operator")) for path in owners.values() if homes / "operator" in path.parents
    }
    assert operators == {
        "keys/signing.pem",
        "keys/tls.pem",
        "broker/keys/signing.pem",
        "broker/keys/tls.pem",
        "broker/keys/directory-log.pem",
        "broker/keys/access-log.pem",
        "broker/keys/tls-authority.pem",
    }
    assert list((homes / "operator").rglob("sealing-*")) == []
    # Three stewards, three systems, two offices: a signing key and a TLS key each.
    assert len(owners) == len(operators) + 2 * 8


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line)
    line = re.sub(r"\b[0-9a-f]{12}\b", "ID", line)
    line = re.sub(r"root [A-Za-z0-9+/]{43}=", "root ROOT", line)
    return re.sub(r" in \d+ s ", " in N s ", line)
