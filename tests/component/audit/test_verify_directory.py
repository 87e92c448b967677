"""`verify entry` and `verify range` do for the directory log what they do for the access log."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit.checking.policies import NO_QUORUM
from tests.component.audit.conftest import Run
from tests.component.audit.test_audit_commands import NO_WITNESSES
from tests.component.audit.witnessing import TWO_OF_THREE
from tests.world import World

DIRECTORY = "city.example/directory"
LOG = ("--log", "directory")


def alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def test_says_what_was_asked_and_what_was_verified(run: Run, synced: Path, busy: World) -> None:
    size = busy.directory_log.size
    result = run("verify", "entry", 4, *LOG, home=synced)
    assert result.exit_code == 0, result.output
    first, second, last = result.stdout.splitlines()
    assert first == f"{DIRECTORY}  asked 4 to 4, verified 4 to 4, checkpoint {size}"
    assert second.endswith("cosignatures none; no quorum asked for")
    assert last == f"verified; {NO_WITNESSES}"
    shown = json.loads(run("verify", "range", f"3:{size + 9}", *LOG, "--json", home=synced).stdout)
    assert (shown["ranges_asked"], shown["ranges_verified"]) == ([[3, size + 9]], [[3, size]])
    assert (shown["log_asked"], [log["log"] for log in shown["logs"]]) == (DIRECTORY, [DIRECTORY])


def test_there_must_be_such_an_entry(run: Run, synced: Path, busy: World) -> None:
    result = run("verify", "entry", busy.directory_log.size, *LOG, home=synced)
    assert result.exit_code == 2
    assert f"the directory log has {busy.directory_log.size} entries here" in result.stderr


@pytest.mark.parametrize("position", [4, 6])
def test_an_altered_leaf_fails_every_range(run: Run, synced: Path, position: int) -> None:
    alter(synced / "mirror.db", f"UPDATE entries SET leaf = leaf || x'00' WHERE position = {position}")
    result = run("verify", "entry", 4, *LOG, home=synced)
    assert result.exit_code == 1
    assert "its leaves do not make the root that the log signed" in result.stdout
    assert "NOT VERIFIED" in result.stdout


def test_an_altered_body_fails_the_ranges_that_it_is_in(run: Run, synced: Path, busy: World) -> None:
    position = next(index for index, body in enumerate(busy.directory_log.bodies) if body)
    alter(synced / "mirror.db", f"UPDATE entries SET body = x'' WHERE position = {position}")
    result = run("verify", "entry", position, *LOG, home=synced)
    assert result.exit_code == 1
    assert f"entry {position} of {DIRECTORY}: its body is missing" in result.stdout
    assert run("verify", "entry", position - 1, *LOG, home=synced).exit_code == 0


def test_a_missing_quorum_ends_it_with_3(run: Run, synced: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(TWO_OF_THREE)
    result = run("verify", "entry", 4, *LOG, "--policy", policy, home=synced)
    assert result.exit_code == 3, result.output
    assert result.stdout.splitlines()[-1] == f"verified; {NO_QUORUM}"


def test_a_copy_of_the_brokers_database_is_verified_too(run: Run, synced: Path, database: Path, busy: World) -> None:
    asked = ("verify", "range", "2:5", *LOG, "--database", database)
    result = run(*asked, home=synced)
    assert result.exit_code == 0, result.output
    assert f"asked 2 to 4, verified 2 to 4, checkpoint {busy.directory_log.size}" in result.stdout
    # Nothing of the access log is read for it.
    alter(database, "UPDATE entries SET leaf = leaf || x'00' WHERE log = 'access' AND idx = 2")
    assert run(*asked, home=synced).exit_code == 0
    alter(database, "UPDATE entries SET leaf = leaf || x'00' WHERE log = 'directory' AND idx = 3")
    result = run(*asked, home=synced)
    assert result.exit_code == 1
    assert f"entry 3 of {DIRECTORY}: its leaf is not the one" in result.stdout
