"""`exchange-audit prove`: what it writes is verified by the trust file alone."""

import asyncio
import json
from pathlib import Path

import pytest

from exchange.core.checkpoint import open_checkpoint
from exchange.core.tlog_proof import parse_proof, verify_proof
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, mirror, rebuilt
from tests.component.audit.test_audit_commands import NO_WITNESSES, alter
from tests.component.audit.witnessing import TWO_OF_THREE, cosigned
from tests.world import World


@pytest.fixture
def grown(run: Run, home: Home, exchange: AuditedExchange) -> Path:
    """A home that saw checkpoints of 3 and of 5."""
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, log.leaves[:3], log.bodies[:3])
    asyncio.run(mirror(home, exchange))
    exchange.access_log = None
    asyncio.run(mirror(home, exchange))
    return home.path


@pytest.mark.parametrize("index", range(5))
def test_every_entry_is_proven(run: Run, synced: Path, busy: World, index: int) -> None:
    result = run("prove", index, home=synced)
    assert result.exit_code == 0, result.output
    proof, log = parse_proof(result.stdout.encode()), busy.access_log
    assert (proof.index, proof.extra, proof.checkpoint) == (index, log.leaves[index], log.checkpoint())
    assert verify_proof(proof, proof.extra, log.signer.verifier).size == 5
    assert result.stderr == f"entry {index} of city.example/access, proven in 5; {NO_WITNESSES}\n"


@pytest.mark.parametrize("log", ["access", "directory"])
def test_a_proof_is_written_and_verified_by_another_home(
    run: Run, synced: Path, home: Home, tmp_path: Path, log: str
) -> None:
    path = tmp_path / "entry.tlog-proof"
    assert run("prove", 2, "--log", log, "--output", path, home=synced).exit_code == 0
    result = run("verify", "proof", path, home=home.path)
    assert result.exit_code == 0, result.output
    assert f"city.example/{log}" in result.stdout


def test_a_proof_is_made_by_any_checkpoint_that_was_seen(run: Run, grown: Path, busy: World) -> None:
    result = run("prove", 1, "--size", 3, home=grown)
    assert open_checkpoint(parse_proof(result.stdout.encode()).checkpoint, busy.access_log.signer.verifier).size == 3
    result = run("prove", 1, "--size", 4, home=grown)
    assert result.exit_code == 2
    assert "there are those of 3, 5" in result.stderr
    assert run("prove", 3, "--size", 3, home=grown).exit_code == 2
    assert run("prove", 5, home=grown).exit_code == 2


def test_the_last_cosigned_checkpoint_that_holds_the_entry_is_taken(
    run: Run, grown: Path, busy: World, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.write_text(TWO_OF_THREE)
    note = cosigned(busy.access_log, ("archive", "bureau"), 1_800_000_000, 3)
    alter(grown, "UPDATE checkpoints SET note = ? WHERE size = 3", note)
    shown = json.loads(run("prove", 1, "--policy", policy, "--json", home=grown).stdout)
    assert (shown["size"], shown["quorum"], shown["caveats"]) == (3, True, [])
    assert parse_proof(shown["proof"].encode()).checkpoint == note
    shown = json.loads(run("prove", 4, "--policy", policy, "--json", home=grown).stdout)
    assert (shown["size"], shown["quorum"]) == (5, False)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET leaf = leaf || x'00' WHERE idx = 1",
        "DELETE FROM entries WHERE idx = 1",
        "UPDATE nodes SET hash = zeroblob(32) WHERE place = 0",
    ],
)
def test_an_altered_mirror_proves_nothing(run: Run, synced: Path, statement: str) -> None:
    alter(synced, statement)
    result = run("prove", 1, home=synced)
    assert result.exit_code == 1
    assert result.stdout == ""
