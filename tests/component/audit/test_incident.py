"""`exchange-audit incident open`: everything that belongs, nothing else, signed, provable, and kept from erasure."""

import asyncio
import csv
import hashlib
import json
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit import incident, sign
from exchange.cli.audit.mirror.access_mirror import FILE
from exchange.core.merkle import leaf_hash
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import DENY, AuditedExchange, ask, audit_home, mirror
from tests.world import APPLICATIONS, AUDITOR, START, World

REASON = ("--reason", "asked without a case")
PARTS = {
    "timeline.csv",
    "timeline.jsonl",
    "holds.toml",
    "holds.toml.note",
    "evidence.tar",
    "incident.json",
    "incident.json.note",
}


@pytest.fixture
def office(synced: Path, busy: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The auditor's home, with its key."""
    Home(synced).new_private_key("signing", busy.keys[AUDITOR].private_key)
    for module in (sign, incident):
        monkeypatch.setattr(module, "now", lambda: START + 1)
    return synced


def opened(run: Run, office: Path, folder: Path, *about: str) -> dict[str, object]:
    result = run("incident", "open", *about, *REASON, "--output", folder, "--json", home=office)
    assert result.exit_code == 0, result.output
    record: dict[str, object] = json.loads(result.stdout)
    return record


def indexes(folder: Path) -> list[int]:
    return [json.loads(line)["log_index"] for line in (folder / "timeline.jsonl").read_text().splitlines()]


def holds(folder: Path) -> list[tuple[int, int]]:
    return [(hold["first"], hold["end"]) for hold in tomllib.loads((folder / "holds.toml").read_text())["hold"]]


@pytest.mark.parametrize(
    ("about", "found", "held"),
    [
        (("--officer", "officer-8"), [2, 3], [(2, 4)]),
        (("--officer", "officer-7"), [0, 1, 4], [(0, 2), (4, 5)]),
        (("--party", "housing"), [0, 1, 2, 3, 4], [(0, 5)]),
        (("--party", "population/registry"), [0, 1, 2, 3, 4], [(0, 5)]),
        (("--party", "housing", "--officer", "officer-8", "--since", "2027-01-15T08:00:03"), [3], [(3, 4)]),
        (("--party", "housing", "--until", "2027-01-15T08:00:01"), [0, 1], [(0, 2)]),
    ],
)
def test_an_incident_holds_all_that_belongs_and_nothing_else(
    run: Run, office: Path, tmp_path: Path, about: tuple[str, ...], found: list[int], held: list[tuple[int, int]]
) -> None:
    folder = tmp_path / "incident"
    record = opened(run, office, folder, *about)
    assert indexes(folder) == found
    assert holds(folder) == held
    assert record["entries"] == len(found)
    with (folder / "timeline.csv").open(newline="") as file:
        assert [int(row["log_index"]) for row in csv.DictReader(file)] == found


def test_an_agreements_incident_has_what_was_asked_under_it(
    run: Run, office: Path, tmp_path: Path, busy: World
) -> None:
    agreement = busy.agreement.digest.hex()
    record = opened(run, office, tmp_path / "incident", "--agreement", agreement[:12])
    assert indexes(tmp_path / "incident") == [0, 1, 2, 3, 4]
    assert f"agreement {agreement[:16]} of population/residents for {APPLICATIONS}" in str(record["about"])


def test_requests_under_another_agreement_do_not_belong(run: Run, tmp_path: Path, office: Path) -> None:
    world = World.standard()
    first = world.agreement.digest
    ask(world)
    world.now += 1000
    world.grant(world.apply_for(world.dataset))
    second = world.agreement.digest
    ask(world)
    world.refuse(world.request(agreement=first, fields=["birth_date"]), DENY)
    home = audit_home(tmp_path / "office", world)
    home.new_private_key("signing", world.keys[AUDITOR].private_key)
    asyncio.run(mirror(home, AuditedExchange(world)))
    for number, (agreement, found) in enumerate(((first, [0, 2]), (second, [1]))):
        folder = tmp_path / str(number)
        opened(run, home.path, folder, "--agreement", agreement.hex())
        assert indexes(folder) == found


def test_the_folder_is_whole_signed_and_for_its_owners_eyes(run: Run, office: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incident"
    record = opened(run, office, folder, "--officer", "officer-8")
    assert {path.name for path in folder.iterdir()} == PARTS
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    digests = record["sha256"]
    assert isinstance(digests, dict)
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    for name in ("incident.json", "holds.toml"):
        result = run("verify", "report", folder / name, folder / f"{name}.note", home=office)
        assert result.exit_code == 0, result.output
    (folder / "holds.toml").write_text("hold = []\n")
    altered = run("verify", "report", folder / "holds.toml", folder / "holds.toml.note", home=office)
    assert altered.exit_code == 1


def test_a_stranger_verifies_the_bundle_by_the_trust_file_alone(
    run: Run, office: Path, tmp_path: Path, busy: World
) -> None:
    opened(run, office, tmp_path / "incident", "--officer", "officer-8")
    stranger = audit_home(tmp_path / "stranger", busy)
    result = run("verify", "bundle", tmp_path / "incident" / "evidence.tar", home=stranger.path)
    assert result.exit_code == 0, result.output
    rows = (tmp_path / "incident" / "timeline.jsonl").read_text().splitlines()
    assert [json.loads(row)["leaf_hash"] for row in rows] == [
        leaf_hash(busy.access_log.leaves[index]).hex() for index in (2, 3)
    ]


def test_a_person_is_told_what_was_made_and_how_to_check_it(run: Run, office: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incident"
    result = run("incident", "open", "--officer", "officer-8", *REASON, "--output", folder, home=office)
    assert result.exit_code == 0, result.output
    assert "about     officer officer-8" in result.stdout
    assert f"{folder / 'timeline.csv'}: 2 entries" in result.stdout
    assert f"{folder / 'holds.toml'}: 2 entries, for the operator" in result.stdout
    assert "verified to 5 of city.example/access; split view not excluded: no witnesses" in result.stdout
    assert f"exchange-audit verify bundle {folder / 'evidence.tar'}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing says what the incident is about"),
        (("--officer", "nobody"), "no entry is of officer nobody"),
        (("--party", "Housing"), "DEPARTMENT[/SYSTEM]"),
        (("--agreement", "abc"), "8 or more digits"),
        (("--agreement", "0123456789"), "8 or more digits"),
    ],
)
def test_what_cannot_be_meant_leaves_nothing_behind(
    run: Run, office: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    result = run("incident", "open", *arguments, *REASON, "--output", place / "incident", home=office)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert list(place.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(run: Run, office: Path, tmp_path: Path) -> None:
    (tmp_path / "incident").mkdir()
    result = run("incident", "open", "--officer", "officer-8", *REASON, "--output", tmp_path / "incident", home=office)
    assert result.exit_code == 2
    assert list((tmp_path / "incident").iterdir()) == []


def test_a_failure_leaves_no_half_folder(
    run: Run, office: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(incident, "pack", full)
    result = run("incident", "open", "--officer", "officer-8", *REASON, "--output", place / "incident", home=office)
    assert result.exit_code == 3
    assert list(place.iterdir()) == []


def test_an_altered_entry_is_said_and_left_out(run: Run, office: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(office / FILE)) as connection, connection:
        connection.execute("UPDATE entries SET leaf = leaf || x'00' WHERE idx = 2")
    folder = tmp_path / "incident"
    result = run("incident", "open", "--officer", "officer-8", *REASON, "--output", folder, "--json", home=office)
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["findings"]["count"] == 1
    assert "entry 2 of city.example/access" in record["findings"]["first"][0]
    assert indexes(folder) == [3]


def test_only_an_auditor_opens_an_incident(run: Run, office: Path, tmp_path: Path) -> None:
    Home(office).write("party.toml", f'name = "{APPLICATIONS}"\nrole = "system"\n'.encode())
    result = run("incident", "open", "--officer", "x", *REASON, "--output", tmp_path / "x", home=office)
    assert result.exit_code == 2
    assert "only an auditor" in result.stderr
