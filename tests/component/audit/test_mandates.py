"""What lies outside a mandate is told apart from what was tampered with; what auditors read is an entry."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exchange.cli.audit.mirror.access_mirror import FILE
from exchange.cli.audit.searching import asking
from exchange.client.session import Session
from exchange.core.access import read_access_leaf
from exchange.core.reads import covers, mandates_of
from exchange.core.wire import encode
from exchange.home import Home
from exchange.transport import ACCESS_SYNC
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from exchange.v1.log_pb2 import Record
from exchange.v1.people_pb2 import AuditorRead, Mandate
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange
from tests.world import AUDITOR, CIVIL_AFFAIRS, COORDINATOR, DAY, HOUSING, World

ENTRIES = 5


def end_mandates(world: World) -> None:
    for version in mandates_of(world.directory.state, AUDITOR, world.now):
        world.revoke(version.digest, COORDINATOR)


def honest(world: World) -> Callable[[Record], Record]:
    """What a broker gives: bodies within mandates."""

    def give(record: Record) -> Record:
        leaf = read_access_leaf(record.leaf)
        said = [version.named for version in mandates_of(world.directory.state, AUDITOR, world.now)]
        if not any(isinstance(one, Mandate) and covers(one, leaf, record.body) for one in said):
            record.body = b""
        return record

    return give


def log_read(world: World, **changes: Any) -> int:
    """An entry that says that the auditor read the first two entries."""
    [version] = mandates_of(world.directory.state, AUDITOR, world.now)
    read = AuditorRead(**({"mandate": version.digest, "first": 0, "end": 2, "bodies": 2} | changes))
    leaf = AccessLeaf(
        format=1,
        time=world.now,
        kind=AccessKind.ACCESS_KIND_READ,
        requester=str(AUDITOR),
        directory_size=world.directory.size,
        read=read,
    )
    return world.access_log.append(encode(leaf))


@pytest.fixture
def narrow(exchange: AuditedExchange) -> World:
    """The exchange, whose auditor has no mandate any more."""
    end_mandates(exchange.world)
    exchange.access_record = honest(exchange.world)
    return exchange.world


def bodies(home: Home) -> list[int]:
    with closing(sqlite3.connect(home.path / FILE)) as connection:
        return [index for (index,) in connection.execute("SELECT idx FROM entries WHERE length(body) > 0 ORDER BY idx")]


def kinds(run: Run, home: Home, *arguments: str) -> list[str]:
    found = json.loads(run("search", "--json", *arguments, home=home.path).stdout)
    assert found["findings"] == []
    return [entry["kind"] for entry in found["entries"]]


# --- what no mandate covers -----------------------------------------------------------------------------------


def test_without_a_mandate_the_log_is_verified_by_its_leaves_and_says_so(run: Run, home: Home, narrow: World) -> None:
    assert run("sync", home=home.path).exit_code == 0
    assert bodies(home) == []
    verified = run("verify", "full", home=home.path)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert f"{ENTRIES} bodies are not here: no mandate covers them" in verified.stdout + verified.stderr
    assert kinds(run, home) == ["released", "refused", "unreleased", "released", "released"]
    entry = json.loads(run("search", "--json", home=home.path).stdout)["entries"][0]
    assert (entry["withheld"], "case" in entry) == (True, False)
    shown = run("show", "0", home=home.path)
    assert shown.exit_code == 0
    assert "no mandate of yours covers it" in shown.stdout


def test_gaps_of_a_ledger_are_not_held_against_a_provider_whose_bodies_are_withheld(
    run: Run, home: Home, narrow: World
) -> None:
    narrow.mandate(since=narrow.now)
    run("sync", home=home.path)
    assert bodies(home)
    assert "missing from the ledger" not in run("verify", "full", home=home.path).stdout


def test_a_body_that_a_mandate_covers_and_that_is_not_given_is_found(
    run: Run, home: Home, exchange: AuditedExchange
) -> None:
    def withhold(record: Record) -> Record:
        record.body = b"" if record.index == 0 else record.body
        return record

    exchange.access_record = withhold
    assert run("sync", home=home.path).exit_code == 0
    verified = run("verify", "full", home=home.path)
    assert verified.exit_code == 1
    assert "the body lacks the request that the leaf names" in verified.stdout + verified.stderr


def test_a_mandate_of_another_department_leaves_this_one_out(run: Run, home: Home, narrow: World) -> None:
    narrow.mandate(departments=[str(CIVIL_AFFAIRS)])
    run("sync", home=home.path)
    assert bodies(home) == []
    assert run("verify", "full", home=home.path).exit_code == 0


def test_no_bundle_is_made_of_what_no_mandate_covers(run: Run, home: Home, narrow: World, tmp_path: Path) -> None:
    run("sync", home=home.path)
    result = run("bundle", "--output", tmp_path / "log.tar", home=home.path)
    assert result.exit_code == 3
    assert "the body of entry 0 is not here: no mandate covers it" in result.stderr
    assert not (tmp_path / "log.tar").exists()


# --- a mandate that comes later -------------------------------------------------------------------------------


@pytest.mark.parametrize("by_dataset", [False, True])
def test_a_mandate_that_comes_later_brings_the_bodies(
    run: Run, home: Home, narrow: World, exchange: AuditedExchange, by_dataset: bool
) -> None:
    run("sync", home=home.path)
    assert bodies(home) == []
    narrow.mandate(**({"datasets": [narrow.dataset.object_id]} if by_dataset else {}))
    assert run("sync", home=home.path).exit_code == 0
    assert bodies(home) == list(range(ENTRIES))
    assert run("verify", "full", home=home.path).exit_code == 0
    # What was filled in later is found by what it says.
    assert kinds(run, home, "--case", "ZF-2027-0002") == ["unreleased", "released"]
    asked = exchange.count(ACCESS_SYNC)
    run("sync", home=home.path)
    assert exchange.count(ACCESS_SYNC) == asked + 1


def test_what_a_mandate_never_covers_is_not_asked_for_again(
    run: Run, home: Home, narrow: World, exchange: AuditedExchange
) -> None:
    run("sync", home=home.path)
    narrow.mandate(departments=[str(HOUSING)], until=narrow.now - DAY)
    asked = exchange.count(ACCESS_SYNC)
    run("sync", home=home.path)
    assert exchange.count(ACCESS_SYNC) == asked + 1


def test_a_body_that_is_not_the_one_that_the_leaf_names_is_not_filled_in(
    run: Run, home: Home, narrow: World, exchange: AuditedExchange
) -> None:
    run("sync", home=home.path)
    narrow.mandate()
    other = narrow.access_log.bodies[4]

    def swap(record: Record) -> Record:
        record.body = other if record.index == 0 else record.body
        return record

    exchange.access_record = swap
    result = run("sync", home=home.path)
    assert result.exit_code == 1
    assert "another body than entry 0 names" in result.stderr
    assert bodies(home) == []


def test_bodies_stay_when_the_mandate_ends(run: Run, home: Home, exchange: AuditedExchange) -> None:
    exchange.access_record = honest(exchange.world)
    run("sync", home=home.path)
    assert bodies(home) == list(range(ENTRIES))
    end_mandates(exchange.world)
    run("sync", home=home.path)
    assert bodies(home) == list(range(ENTRIES))
    assert run("verify", "full", home=home.path).exit_code == 0


# --- reads are entries ----------------------------------------------------------------------------------------


def test_a_read_is_searched_shown_exported_and_verified(
    run: Run, home: Home, exchange: AuditedExchange, tmp_path: Path
) -> None:
    index = log_read(exchange.world, query_sha256=bytes(range(32)))
    run("sync", home=home.path)
    table = run("search", "--kind", "read", home=home.path).stdout
    assert "searched: 2 bodies of 0:2" in table
    [found] = json.loads(run("search", "--kind", "read", "--json", home=home.path).stdout)["entries"]
    assert (found["requester"], found["first"], found["end"], found["bodies"]) == (str(AUDITOR), 0, 2, 2)
    shown = run("show", index, home=home.path)
    assert shown.exit_code == 0, shown.stdout
    assert "auditor searched: 2 bodies of 0:2, under a mandate" in shown.stdout
    assert "which stood then" in shown.stdout
    assert run("verify", "full", home=home.path).exit_code == 0
    for form in ("jsonl", "ocsf"):
        file = tmp_path / form
        assert run("export", "--format", form, "--kind", "read", "--output", file, home=home.path).exit_code == 0
        [row] = [json.loads(line) for line in file.read_text().splitlines()]
        said = row["unmapped"] if form == "ocsf" else row
        assert (said["bodies_read"], said["read_end"], said["mandate"]) == (2, 2, found["mandate"])


@pytest.mark.parametrize("case", ["no mandate", "ended", "another's"])
def test_a_read_without_a_mandate_is_found(run: Run, home: Home, exchange: AuditedExchange, case: str) -> None:
    world = exchange.world
    if case == "no mandate":
        log_read(world, mandate=bytes(32))
    elif case == "ended":
        [version] = mandates_of(world.directory.state, AUDITOR, world.now)
        end_mandates(world)
        world.mandate()
        log_read(world, mandate=version.digest)
    else:
        log_read(world, mandate=world.agreement.digest)
    run("sync", home=home.path)
    verified = run("verify", "full", home=home.path)
    assert verified.exit_code == 1
    problem = "had ended" if case == "ended" else "is no mandate of"
    assert problem in verified.stdout + verified.stderr


def test_the_brokers_index_is_searched_within_the_mandate(
    run: Run, home: Home, narrow: World, exchange: AuditedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes without its body though no mandate covers it is no tampering."""
    monkeypatch.setattr(asking, "Session", lambda home: Session(home, exchange, exchange.clock))
    give = honest(narrow)

    def stripped(response: Any) -> Any:
        for entry in response.entries:
            entry.record.CopyFrom(give(entry.record))
        return response

    exchange.search_response = stripped
    found = json.loads(run("search", "--broker", "--json", home=home.path).stdout)
    assert found["findings"] == []
    assert all(entry["withheld"] for entry in found["entries"])
