"""Every write step failed, failed but persisted, or killed there; then a restart, and everything is hashed again.

The steps are those that the driver and the system receive, found by a rehearsal: no list that could rot. After
sunlight's `TestSequenceErrors`.
"""

import json
import subprocess
import sys
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.component.durability.paths import AGAIN, FIRST, PATHS
from tests.component.durability.steps import Case

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(600)
COMMIT = "COMMIT"
# One of them that every path must have found, beside its commit.
EXPECTED = {
    "append": {"INSERT INTO entries", "INSERT INTO nodes", "UPDATE heads", "fsync", "replace"},
    "answer": {"INSERT INTO answers", "INSERT INTO subjects", "INSERT INTO sealed", "INSERT INTO owed", "fsync"},
    "settle": {"INSERT INTO settlements", "DELETE FROM owed"},
    "erase": {"UPDATE sealed", "DELETE FROM kept", "PRAGMA wal_checkpoint(TRUNCATE)"},
    "order": {"INSERT INTO orders", "fsync", "replace"},
    "cosigned": {"BEGIN IMMEDIATE", "UPDATE cosigned"},
    "witness": {"BEGIN IMMEDIATE", "INSERT OR REPLACE"},
}


def crashed(name: str, folder: Path) -> dict[str, Any]:
    """The steps of a path, and what came of each case of each of them."""
    program = [sys.executable, "-m", "tests.component.durability.crashing", name, str(folder)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", PATHS)
def test_no_step_of_a_path_loses_or_halves_what_it_writes(name: str, tmp_path: Path) -> None:
    found = crashed(name, tmp_path)
    steps, path = found["steps"], PATHS[name]
    assert found["error"] == ""
    assert EXPECTED[name] < set(steps)
    assert found["unseen"] == []
    assert steps.count(COMMIT) == 1
    tried = [(run["step"], run["case"]) for run in found["runs"]]
    assert tried == list(product(range(len(steps)), map(str, Case)))

    for run in found["runs"]:
        where = f"{run['case']} at step {run['step']}, {steps[run['step']]}: {run['error']}"
        killed = run["case"] == Case.KILLED
        assert run["error"] in (("killed",) if killed else path.errors), where
        folder = Path(run["folder"])
        is_there = path.check(folder, FIRST)
        after = run["step"] > steps.index(COMMIT)
        assert is_there == (after or (steps[run["step"]] == COMMIT and run["case"] == Case.PERSISTED)), where
        assert is_there or not run["acknowledged"], f"lost what was acknowledged: {where}"
        path.write(folder, AGAIN, nullcontext(), lambda: None)
        assert path.check(folder, AGAIN), f"does not go on: {where}"


BESIDE = """
import sqlite3, sys
from pathlib import Path
from tests.component.durability.steps import Steps
steps = Steps()
steps.install()
db = sqlite3.connect(sys.argv[1] + "/a.db")
with steps.armed():
    sqlite3.Cursor(db).execute("CREATE TABLE a (b)")
    Path(sys.argv[1], "beside").write_text("x")
    db.execute("INSERT INTO a VALUES (1)")
print(*steps.names, *steps.unseen, sep="\\n")
"""


def test_what_goes_past_the_steps_is_found(tmp_path: Path) -> None:
    program = [sys.executable, "-c", BESIDE, str(tmp_path)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    seen, *unseen = done.stdout.splitlines()
    assert seen == "INSERT INTO a"
    assert unseen == ["CREATE TABLE a (b)", f"open {tmp_path / 'beside'}"]
