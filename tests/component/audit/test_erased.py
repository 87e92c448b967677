"""What was erased by a signed entry is told apart from what was tampered with."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.audit.checking.findings import Finding
from exchange.cli.audit.checking.remembered import Remembered
from exchange.cli.audit.checking.tree import Expected, WholeTree
from exchange.cli.audit.checking.verification import Verification
from exchange.cli.audit.mirror.offline import erasures_of
from exchange.core.entries import erased_entry
from exchange.core.names import Party
from exchange.v1.directory_pb2 import EntryRange, Erased
from tests.component.audit.conftest import Run
from tests.component.audit.copies import (
    AuditedExchange,
    audit_home,
    busy_world,
    checkpoint_of,
    failures,
    mirror,
    rows_of,
    warnings,
    write_database,
)
from tests.component.cli.stores import broker_home
from tests.component.cli.test_exchange_log import run as run_fsck
from tests.simulator import trust_of
from tests.world import AUDITOR, COORDINATOR, POPULATION, World

ORIGIN = "city.example/access"


@pytest.fixture
def world() -> World:
    return busy_world()


def erase(world: World, party: Party = COORDINATOR, **target: Any) -> int:
    """Append an erasure, valid or not; gives its index."""
    erased = Erased(reason="the retention is over", legal_basis="Archives Act, article 9", **target)
    return world.append(erased_entry(party, world.fresh(16), erased), party).index


def blank(world: World, *indexes: int) -> None:
    for index in indexes:
        world.access_log.bodies[index] = b""


def findings_of(world: World) -> list[Finding]:
    logs, trust = (world.directory_log, world.access_log), trust_of(world)
    trees = [WholeTree(Expected(log.signer.name, checkpoint_of(log))) for log in logs]
    erasures = erasures_of(trust, lambda: rows_of(logs[0]))
    with Remembered() as remembered:
        verification = Verification(trust, trees[0], trees[1], remembered, erasures, from_start=True)
        return [*verification.walk(rows_of(logs[0]), rows_of(logs[1])), *verification.finish()]


def test_says_which_entry_erased_a_body(world: World) -> None:
    index = erase(world, access=EntryRange(first=0, end=2))
    blank(world, 0, 1)
    found = findings_of(world)
    assert failures(found) == []
    assert warnings(found) == [f"2 bodies were erased by entry {index} of the directory"]


def test_a_body_that_is_still_here_is_verified_as_before(world: World) -> None:
    erase(world, access=EntryRange(first=0, end=2))
    assert findings_of(world) == []


def test_a_body_that_no_entry_erased_is_missing(world: World) -> None:
    erase(world, access=EntryRange(first=0, end=2))
    blank(world, 0, 2)
    [text] = failures(findings_of(world))
    assert text.startswith(f"FAIL  entry 2 of {ORIGIN}: the body lacks")


def test_another_body_in_place_of_an_erased_one_is_tampered_with(world: World) -> None:
    erase(world, access=EntryRange(first=0, end=2))
    world.access_log.bodies[0] = world.access_log.bodies[2]
    [text] = failures(findings_of(world))
    assert "is not the one that the leaf names" in text


def test_the_leaf_of_an_erased_body_is_still_in_the_tree(world: World) -> None:
    erase(world, access=EntryRange(first=0, end=2))
    blank(world, 0)
    rows = rows_of(world.access_log)
    rows[0] = replace(rows[0], leaf=rows[1].leaf)
    world.access_log.leaves[0] = rows[1].leaf
    assert any("do not make the root" in text for text in failures(findings_of(world)))


@pytest.mark.parametrize("party", [AUDITOR, POPULATION])
def test_an_erasure_by_nobody_who_may_sign_one_excuses_nothing(world: World, party: Party) -> None:
    index = erase(world, party, access=EntryRange(first=0, end=2))
    blank(world, 0)
    texts = failures(findings_of(world))
    assert any(f"entry {index} of city.example/directory" in text for text in texts)
    assert any(f"entry 0 of {ORIGIN}: the body lacks" in text for text in texts)


def test_says_which_entry_erased_a_body_of_the_directory(world: World) -> None:
    agreement = world.agreement
    world.revoke(agreement.digest, POPULATION)
    index = erase(world, POPULATION, digest=agreement.digest)
    world.directory_log.bodies[agreement.version.index] = b""
    found = findings_of(world)
    assert failures(found) == []
    assert warnings(found) == [f"1 body was erased by entry {index} of the directory"]
    # What was answered under it stays, and is judged as far as that is possible; without the erasure it would not be.
    assert world.access_log.size == 5


def test_an_agreement_that_did_not_stand_is_not_excused_by_its_erasure(world: World) -> None:
    agreement = world.agreement
    request = world.request()
    world.revoke(agreement.digest, POPULATION)
    world.release(request, world.respond(request))
    erase(world, POPULATION, digest=agreement.digest)
    world.directory_log.bodies[agreement.version.index] = b""
    assert failures(findings_of(world)) == [f"FAIL  entry 5 of {ORIGIN}: agreement: it did not stand"]


# The commands.


@pytest.fixture
def erasure(world: World) -> int:
    index = erase(world, access=EntryRange(first=0, end=2))
    blank(world, 0, 1)
    return index


@pytest.fixture
async def home(tmp_path: Path, world: World, erasure: int) -> Path:
    place = audit_home(tmp_path / "audit-office", world)
    await mirror(place, AuditedExchange(world))
    return place.path


def test_verify_reports_erasures_and_ends_well(
    run: Run, tmp_path: Path, home: Path, world: World, erasure: int
) -> None:
    for options in ((), ("--database", str(write_database(tmp_path / "copy.db", world)))):
        result = run("verify", "full", *options, home=home)
        assert result.exit_code == 0, result.output
        assert f"warning  {ORIGIN}: 2 bodies were erased by entry {erasure} of the directory" in result.stdout


def test_show_says_that_the_body_was_erased(run: Run, home: Path, erasure: int) -> None:
    result = run("show", "0", home=home)
    assert result.exit_code == 0, result.output
    assert f"erased by entry {erasure} of the directory" in result.stdout


def test_search_shows_what_the_leaf_says(run: Run, home: Path, erasure: int) -> None:
    result = json.loads(run("search", "--json", home=home).stdout)
    assert [entry.get("erased_by") for entry in result["entries"]] == [erasure, erasure, None, None, None]
    assert result["entries"][0]["requester"] == "exchange://city.example/housing/applications"
    assert "officer" not in result["entries"][0]
    assert result["findings"] == []


def test_a_mirror_that_lost_a_body_is_told_from_one_where_it_was_erased(run: Run, home: Path) -> None:
    with closing(sqlite3.connect(home / "access-mirror.db")) as connection, connection:
        connection.execute("UPDATE entries SET body = x'' WHERE idx = 3")
    result = run("verify", "full", home=home)
    assert result.exit_code == 1
    assert f"FAIL  entry 3 of {ORIGIN}" in result.stdout


def test_fsck_knows_what_was_erased(tmp_path: Path, world: World, erasure: int) -> None:
    assert run_fsck(broker_home(tmp_path / "broker", world)).exit_code == 0
    blank(world, 2)
    result = run_fsck(broker_home(tmp_path / "other", world))
    assert result.exit_code == 1
    assert f"entry 2 of {ORIGIN}: its body is missing" in result.stdout
    assert "entry 0" not in result.stdout


def test_fsck_knows_what_was_erased_of_the_directory(tmp_path: Path) -> None:
    world = busy_world()
    agreement = world.agreement
    world.revoke(agreement.digest, POPULATION)
    world.directory_log.bodies[agreement.version.index] = b""
    result = run_fsck(broker_home(tmp_path / "before", world))
    assert (result.exit_code, f"entry {agreement.version.index}" in result.stdout) == (1, True)
    erase(world, POPULATION, digest=agreement.digest)
    assert run_fsck(broker_home(tmp_path / "after", world)).exit_code == 0
