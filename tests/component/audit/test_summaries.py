"""Summaries of refusals as an auditor meets them: verified, found by each code that they count, shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.core.access import read_access_leaf, refusal_draft
from exchange.core.decision import Deny
from exchange.core.envelope import Envelope, message_digest
from exchange.core.names import Party
from exchange.core.summary import Summary
from exchange.v1.access_pb2 import AccessKind, Code
from tests.component.audit.conftest import Run
from tests.component.audit.copies import (
    AuditedExchange,
    audit_home,
    failures,
    findings_of,
    log_entry,
    mirror,
    write_database,
)
from tests.world import APPLICATIONS, BROKER, MARRIAGE, REGISTRY, World

REFUSALS = AccessKind.ACCESS_KIND_REFUSALS
DENIES = (
    Deny(1, Code.CODE_OVERLOADED, "slow down"),
    Deny(1, Code.CODE_OVERLOADED, "slow down"),
    Deny(5, Code.CODE_NO_AGREEMENT, "no such agreement"),
)


def log_summary(world: World, signer: Party = BROKER, place: int = 0, **changes: Any) -> Envelope:
    """An entry that sums three refusals up, right but for the changes of its leaf; gives the last refusal."""
    summary = Summary(str(BROKER), world.now, world.now)
    for number, deny in enumerate(DENIES, 1):
        draft = refusal_draft(deny, str(signer), bytes(32), world.directory.size, world.now, place or number)
        summary = summary.add(deny.code, message_digest(draft.kind, draft.payload), world.now)
    last = world.sign(draft, signer)
    parts = summary.fields()
    fields = {field.name: getattr(parts, field.name) for field, _ in parts.ListFields()} | changes
    log_entry(world, REFUSALS, Code.CODE_UNSPECIFIED, refusal=last, requester=str(APPLICATIONS), **fields)
    return last


@pytest.fixture
def world() -> World:
    return World.standard()


def test_a_summary_is_verified(world: World) -> None:
    log_summary(world)
    assert findings_of(world) == []


def test_finds_a_summary_that_counts_fewer_than_its_last_refusal_says(world: World) -> None:
    log_summary(world, place=4)
    assert "number 4 of the summary, and the leaf counts 3" in failures(findings_of(world))[0]


@pytest.mark.parametrize("signer", [REGISTRY, MARRIAGE])
def test_finds_a_summary_by_anybody_but_the_broker(world: World, signer: Party) -> None:
    log_summary(world, signer)
    assert "is not the broker" in failures(findings_of(world))[0]


def test_finds_a_summary_in_another_brokers_name(world: World) -> None:
    log_summary(world, refuser=str(MARRIAGE))
    assert "is not the broker" in failures(findings_of(world))[0]


def test_finds_a_summary_without_its_last_refusals_code(world: World) -> None:
    leaf = read_access_leaf(log_leaf(world))
    log_summary(world, counts=[type(leaf.counts[0])(code=Code.CODE_EXPIRED, count=3)])
    assert "does not count its code" in failures(findings_of(world))[0]


def test_finds_a_summary_of_a_later_time_than_its_entry(world: World) -> None:
    late = world.now + 3_600_000
    log_summary(world, since=late, until=late)
    assert "of a later time" in failures(findings_of(world))[0]


def test_finds_a_summary_whose_body_is_another_refusal(world: World) -> None:
    log_summary(world)
    world.access_log.bodies[-1] = b""
    assert "holds the last refusal" in failures(findings_of(world))[0]


def test_finds_a_refusal_of_a_summary_with_an_entry_of_its_own(world: World) -> None:
    deny = DENIES[0]
    signed = world.sign(refusal_draft(deny, str(BROKER), bytes(32), world.directory.size, world.now, 7), BROKER)
    kind = AccessKind.ACCESS_KIND_REFUSED
    log_entry(world, kind, deny.code, refusal=signed, requester=str(APPLICATIONS), request_digest=bytes(32))
    assert "number 7 of a summary" in failures(findings_of(world))[0]


def log_leaf(world: World) -> bytes:
    copy = world.copy()
    log_summary(copy)
    return copy.access_log.leaves[-1]


@pytest.fixture
async def home(tmp_path: Path, world: World) -> Path:
    world.refuse(world.request(), DENIES[2])
    log_summary(world)
    world.now += 1
    log_summary(world)
    place = audit_home(tmp_path / "audit", world)
    await mirror(place, AuditedExchange(world))
    return place.path


@pytest.mark.parametrize(("code", "found"), [("OVERLOADED", [1, 2]), ("NO_AGREEMENT", [0, 1, 2]), ("EXPIRED", [])])
def test_search_finds_a_summary_by_each_code_that_it_counts(run: Run, home: Path, code: str, found: list[int]) -> None:
    result = json.loads(run("search", "--code", code, "--json", home=home).stdout)
    assert [entry["index"] for entry in result["entries"]] == found


def test_search_shows_what_a_summary_counts(run: Run, home: Path) -> None:
    result = run("search", "--kind", "refusals", home=home)
    assert result.stdout.count("2 OVERLOADED, 1 NO_AGREEMENT") == 2
    [entry, _] = json.loads(run("search", "--kind", "refusals", "--json", home=home).stdout)["entries"]
    assert entry["counts"] == {"OVERLOADED": 2, "NO_AGREEMENT": 1}
    assert (entry["refuser"], entry["request_digest"]) == (str(BROKER), None)


def test_show_tells_the_story_of_one_summary_alone(run: Run, home: Path) -> None:
    result = run("show", "1", home=home)
    assert result.exit_code == 0, result.output
    assert "entry 1: refusals 2 OVERLOADED, 1 NO_AGREEMENT" in result.stdout
    assert "number 3, signed by broker" in result.stdout
    assert "broker refused housing/applications 3 times within a minute: nothing was answered" in result.stdout
    assert "entry 2" not in result.stdout


def test_a_brokers_database_with_summaries_is_verified(run: Run, tmp_path: Path, home: Path, world: World) -> None:
    copy = write_database(tmp_path / "copy.db", world)
    result = run("verify", "full", "--database", str(copy), home=home)
    assert result.exit_code == 0, result.output
