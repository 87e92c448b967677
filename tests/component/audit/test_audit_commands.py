"""The command line of `exchange-audit`: what it prints, and how it ends."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.audit import verify
from exchange.cli.audit.main import COMMANDS, app
from exchange.cli.audit.mirror.access_mirror import FILE
from exchange.cli.frame import progress
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import open_checkpoint
from exchange.core.entries import ObjectVersion
from exchange.home import Home
from tests.component.audit.conftest import Run
from tests.component.audit.copies import DENY, AuditedExchange, ask, audit_home, mirror, rebuilt
from tests.world import APPLICATIONS, POPULATION, PURPOSE, World

NO_WITNESSES = "split view not excluded: no witnesses"
NAMES = [name for name, _ in COMMANDS]
WAYS = [f"verify {command.name}" for command in verify.app.registered_commands]
WAYS += ["subject-request new", "subject-request merge", "incident open"]
COMMAND_LINES = [name for name in NAMES if name not in ("verify", "subject-request", "incident")] + WAYS


def alter(home: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(home / FILE)) as connection, connection:
        assert connection.execute(statement, values).rowcount


def identity(world: World, index: int) -> str:
    return str(uuid.UUID(bytes=read_access_leaf(world.access_log.leaves[index]).request_id))


# Help.


@pytest.mark.parametrize("name", ["", *NAMES, *WAYS])
def test_every_help_shows_an_example(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert f"exchange-audit {name}".strip() in result.stdout.split("Example:\n")[1]


@pytest.mark.parametrize("name", [*(name for name in COMMAND_LINES if name != "witness"), "witness new"])
def test_every_command_has_json_and_a_home_from_the_environment(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
    assert "--json" in shown
    assert "EXCHANGE_HOME" in shown


@pytest.mark.parametrize("name", ["new", "run"])
def test_every_command_of_a_witness_shows_an_example(name: str) -> None:
    result = CliRunner().invoke(app, ["witness", name, "--help"])
    assert f"exchange-audit witness {name}" in result.stdout.split("Example:\n")[1]
    assert "EXCHANGE_HOME" in result.stdout


def test_a_bare_command_shows_its_help_as_wrong_usage() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


def test_prints_its_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("exchange-audit ")


def test_runs_none_of_the_brokers_code() -> None:
    code = (
        "import sys\n"
        "import importlib, exchange.cli.audit.main as audit\n"
        "for name, _ in audit.COMMANDS: importlib.import_module('exchange.cli.audit.' + name.replace('-', '_'))\n"
        "names = {name.rpartition('.')[0] or name for name in sys.modules}\n"
        "sys.exit(bool({'exchange.broker', 'exchange.store', 'adapters', 'sqlalchemy'} & (names | set(sys.modules))))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# sync


def test_sync_says_what_it_verified(run: Run, home: Home) -> None:
    result = run("sync", home=home.path)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"city\.example/directory  \d+ entries, \d+ new\n"
        r"city\.example/access     5 entries, 5 new\n"
        rf"verified to 5; {NO_WITNESSES}\n",
        result.stdout,
    )
    again = json.loads(run("sync", "--json", home=home.path).stdout)
    assert [log["new"] for log in again["logs"]] == [0, 0]
    assert again["caveats"] == [NO_WITNESSES]


def test_sync_ends_with_4_where_the_log_was_rolled_back(run: Run, home: Home, exchange: AuditedExchange) -> None:
    run("sync", home=home.path)
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, log.leaves[:3], log.bodies[:3])
    for _ in range(2):
        result = run("sync", home=home.path)
        assert result.exit_code == 4
        assert "the access log had 5 entries, and now has 3" in result.stderr
        assert "hint: both signed checkpoints are in" in result.stderr
        exchange.access_log = None
    notes = [home.read(f"evidence/access-{name}.checkpoint") for name in ("earlier", "later")]
    assert [open_checkpoint(note, log.signer.verifier).size for note in notes] == [5, 3]


def test_what_was_mirrored_before_a_rollback_can_still_be_read(run: Run, home: Home, exchange: AuditedExchange) -> None:
    run("sync", home=home.path)
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, log.leaves[:3], log.bodies[:3])
    run("sync", home=home.path)
    for command in (("search",), ("show", 0), ("verify", "full")):
        result = run(*command, home=home.path)
        assert result.exit_code == 4
        assert "released" in result.stdout or "verified 0 to 4" in result.stdout
        assert "the access log had 5 entries, and now has 3" in result.stderr


def test_sync_keeps_both_checkpoints_of_a_forked_directory(run: Run, home: Home, exchange: AuditedExchange) -> None:
    run("sync", home=home.path)
    log = exchange.world.directory_log
    exchange.directory_log = rebuilt(log, [*log.leaves[:-1], log.leaves[-1] + b"\0"])
    exchange.proves = False
    result = run("sync", home=home.path)
    assert result.exit_code == 4
    assert (home.path / "evidence" / "directory-later.checkpoint").read_bytes() == exchange.directory_log.checkpoint()


def test_sync_is_for_auditors(run: Run, tmp_path: Path, busy: World) -> None:
    audit_home(tmp_path / "home", busy).write("party.toml", f'name = "{APPLICATIONS}"\nrole = "system"\n'.encode())
    result = run("sync", home=tmp_path / "home")
    assert result.exit_code == 2
    assert "only an auditor" in result.stderr


def test_without_a_trust_file_nothing_is_checked(run: Run, tmp_path: Path) -> None:
    for command in (("sync",), ("search",), ("show", 0), ("verify", "full")):
        assert run(*command, home=tmp_path).exit_code == 3


@pytest.mark.parametrize("command", [("search",), ("show", "0"), ("verify", "full")])
def test_without_a_mirror_the_hint_is_to_sync(run: Run, home: Home, command: tuple[str, ...]) -> None:
    result = run(*command, home=home.path)
    assert result.exit_code == 3
    assert f"hint: exchange-audit sync --home {home.path}" in result.stderr


# search


def found(run: Run, home: Path, *arguments: str) -> list[int]:
    result = run("search", *arguments, "--json", home=home)
    assert result.exit_code == 0, result.output
    return [entry["index"] for entry in json.loads(result.stdout)["entries"]]


def test_search_shows_who_asked_what_of_whom_and_why(run: Run, synced: Path) -> None:
    result = run("search", "--case", "ZF-2027-0002", home=synced)
    assert result.exit_code == 0, result.output
    row = "  housing/applications  population/residents  officer-8  housing.allocation  ZF-2027-0002\n"
    assert result.stdout == (
        "index  time (UTC)           kind        code         requester             provider/dataset      officer"
        "    purpose             case\n"
        f"2      2027-01-15 08:00:02  unreleased  INTERRUPTED{row}"
        f"3      2027-01-15 08:00:03  released    -          {row}"
    )
    assert result.stderr == f"2 entries of 5, verified to 5 of city.example/access; {NO_WITNESSES}\n"


@pytest.mark.parametrize(
    ("arguments", "indexes"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("--kind", "released"), [0, 3, 4]),
        (("--kind", "REFUSED", "--code", "field_not_granted"), [1]),
        (("--requester", "housing"), [0, 1, 2, 3, 4]),
        (("--requester", "exchange://city.example/housing/applications"), [0, 1, 2, 3, 4]),
        (("--requester", "hous"), []),
        (("--provider", "population/registry"), [0, 1, 2, 3, 4]),
        (("--provider", "civil-affairs"), []),
        (("--dataset", "population/residents"), [0, 1, 2, 3, 4]),
        (("--officer", "officer-8"), [2, 3]),
        (("--purpose", "housing.allocation"), [0, 1, 2, 3, 4]),
        (("--purpose", "tax.assessment"), []),
        (("--since", "2027-01-15T08:00:02"), [2, 3, 4]),
        (("--until", "2027-01-15T08:00:01+00:00"), [0, 1]),
        (("--since", "2027-01-15", "--until", "2027-01-15"), [0, 1, 2, 3, 4]),
        (("--since", "2027-01-16"), []),
        (("--until", "2027-01-14"), []),
        (("--limit", "2"), [0, 1]),
    ],
)
def test_search_finds_exactly_what_fits(run: Run, synced: Path, arguments: tuple[str, ...], indexes: list[int]) -> None:
    assert found(run, synced, *arguments) == indexes


def test_search_finds_a_request_by_its_id(run: Run, synced: Path, busy: World) -> None:
    assert found(run, synced, "--request", identity(busy, 2)) == [2, 3]


def test_search_finds_a_dataset_by_its_id_and_when_it_has_ended(run: Run, home: Home) -> None:
    world = World.standard()
    dataset = world.dataset
    ask(world)
    world.revoke(dataset.version.digest, POPULATION)
    asyncio.run(mirror(home, AuditedExchange(world)))
    assert found(run, home.path, "--dataset", "population/residents") == [0]
    assert found(run, home.path, "--dataset", dataset.object_id.hex()) == [0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "opened"), "one of released, unreleased, refused"),
        (("--code", "NO"), "NO_AGREEMENT"),
        (("--since", "yesterday"), "2027-01-15"),
        (("--requester", "Housing"), "DEPARTMENT[/SYSTEM]"),
        (("--dataset", "population/resident"), "did you mean population/residents?"),
        (("--request", "17"), "UUID"),
    ],
)
def test_search_says_what_can_be_typed(run: Run, synced: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run("search", *arguments, home=synced)
    assert result.exit_code == 2
    assert said in result.stderr


def test_an_altered_index_column_cannot_make_a_row_up(run: Run, synced: Path) -> None:
    alter(synced, "UPDATE entries SET officer = 'somebody' WHERE idx = 1")
    result = run("search", "--officer", "somebody", home=synced)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "entry 1 of city.example/access: its index says something else than the entry: officer" in result.stderr


def test_an_altered_leaf_or_body_is_not_shown(run: Run, synced: Path) -> None:
    alter(synced, "UPDATE entries SET leaf = leaf || x'00' WHERE idx = 0")
    alter(synced, "UPDATE entries SET body = x'00' WHERE idx = 1")
    result = run("search", "--json", home=synced)
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert [entry["index"] for entry in shown["entries"]] == [2, 3, 4]
    assert [finding["index"] for finding in shown["findings"]] == [0, 1]


def test_an_altered_directory_is_not_believed(run: Run, synced: Path) -> None:
    with closing(sqlite3.connect(synced / "mirror.db")) as connection, connection:
        connection.execute("UPDATE entries SET leaf = leaf || x'00' WHERE position = 3")
    for command in (("search",), ("show", 0)):
        result = run(*command, home=synced)
        assert result.exit_code == 1
        assert "the mirror of city.example/directory was altered" in result.stderr
    assert "entry 3 of city.example/directory" in run("verify", "full", home=synced).stdout


# show


def test_show_tells_the_story_of_a_release(run: Run, synced: Path) -> None:
    result = run("show", 0, home=synced)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "requester    housing/applications" in lines
    assert "dataset      population/residents (常住人口)" in lines
    assert "purpose      housing.allocation (住房分配)" in lines
    assert "legal basis  Housing Act, article 12" in lines
    assert "population/registry answered, and the broker released the answer to housing/applications" in lines
    assert "entry 0: released, 2027-01-15T08:00:00Z" in lines
    checks = [line.split()[:2] for line in lines if line.startswith(("ok", "FAIL"))]
    assert checks == [
        ["ok", name] for name in ("log", "directory", "request", "time", "agreement", "response", "ledger")
    ]
    assert lines[-1] == f"verified to 5 of city.example/access; {NO_WITNESSES}"


def test_show_tells_every_entry_about_a_request(run: Run, synced: Path, busy: World) -> None:
    for named in (2, 3, identity(busy, 3)):
        shown = json.loads(run("show", named, "--json", home=synced).stdout)
        assert [(entry["index"], entry["kind"]) for entry in shown["entries"]] == [(2, "unreleased"), (3, "released")]
        assert shown["verified"] is True


def test_show_names_things_as_they_were_called_then(run: Run, home: Home) -> None:
    """A later version of purpose and dataset has other names: each entry is told with those of its own moment."""
    world = World.standard()
    ask(world)
    world.now += 1000
    purpose = world.directory.state.versions[world.directory.state.purposes[PURPOSE]]
    world.register(PURPOSE, ObjectVersion(purpose.object_id, purpose.digest), label="公共住房")
    dataset = world.dataset
    world.publish(version=ObjectVersion(dataset.object_id, dataset.version.digest), title="户籍人口")
    ask(world)
    asyncio.run(mirror(home, AuditedExchange(world)))
    for index, names in ((0, ("住房分配", "常住人口")), (1, ("公共住房", "户籍人口"))):
        shown = json.loads(run("show", index, "--json", home=home.path).stdout)["entries"][0]
        assert (shown["names_then"]["purpose"], shown["names_then"]["dataset"]) == names
        assert all(name in run("show", index, home=home.path).stdout for name in names)


def test_show_tells_a_refusal_before_what_was_answered_later(run: Run, home: Home) -> None:
    world = World.standard()
    request = world.request()
    world.refuse(request, DENY)
    world.now += 1000
    response = world.respond(request)
    world.withhold(request, response)
    world.now += 1000
    world.release(request, response)
    asyncio.run(mirror(home, AuditedExchange(world)))
    for named in (0, 2, identity(world, 1)):
        result = run("show", named, home=home.path)
        titles = [line.split(",")[0] for line in result.stdout.splitlines() if line.startswith("entry ")]
        assert titles == [
            "entry 0: refused FIELD_NOT_GRANTED",
            "entry 1: unreleased INTERRUPTED",
            "entry 2: released",
        ]
        assert "count it as possible access" in result.stdout


def test_show_tells_why_a_request_was_refused(run: Run, synced: Path) -> None:
    result = run("show", 1, home=synced)
    assert result.exit_code == 0, result.output
    assert "entry 1: refused FIELD_NOT_GRANTED, 2027-01-15T08:00:01Z" in result.stdout
    assert "the agreement does not grant the field birth_date" in result.stdout


def test_show_fails_where_one_line_does(run: Run, home: Home) -> None:
    world = World.standard()
    request = world.request()
    response = world.respond(request)
    world.revoke(world.agreement.digest, POPULATION)
    world.release(request, response)
    asyncio.run(mirror(home, AuditedExchange(world)))
    result = run("show", 0, home=home.path)
    assert result.exit_code == 1
    assert "FAIL  agreement  AGREEMENT_ENDED: the agreement is revoked or superseded" in result.stdout
    assert "NOT VERIFIED" in result.stdout


def test_show_fails_where_the_entry_is_not_in_the_signed_log(run: Run, synced: Path) -> None:
    alter(synced, "UPDATE entries SET leaf = leaf || x'00' WHERE idx = 0")
    result = run("show", 0, home=synced)
    assert result.exit_code == 1
    assert "FAIL  log   it is not proven to be in the log of 5" in result.stdout


@pytest.mark.parametrize("named", ["5", "x", "①", str(uuid.UUID(int=0))])
def test_show_says_what_can_be_typed(run: Run, synced: Path, named: str) -> None:
    result = run("show", named, home=synced)
    assert result.exit_code == 2
    assert "hint: " in result.stderr


# verify


def test_verify_says_what_it_verified(run: Run, synced: Path) -> None:
    result = run("verify", "full", home=synced)
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"city\.example/directory  asked all, verified 0 to \d+, checkpoint \d+\n"
        r" +root [A-Za-z0-9+/]{43}=, cosignatures none; no quorum asked for\n"
        r"city\.example/access     asked all, verified 0 to 4, checkpoint 5\n"
        r" +root [A-Za-z0-9+/]{43}=, cosignatures none; no quorum asked for\n"
        rf"verified; {NO_WITNESSES}\n",
        result.stdout,
    )


def test_verify_takes_a_range(run: Run, synced: Path) -> None:
    result = run("verify", "range", "3:9", home=synced)
    assert result.exit_code == 0, result.output
    assert "asked 3 to 8, verified 3 to 4, checkpoint 5" in result.stdout
    shown = json.loads(run("verify", "range", "3:9", "--json", home=synced).stdout)
    assert (shown["ranges_asked"], shown["ranges_verified"]) == ([[3, 9]], [[3, 5]])


@pytest.mark.parametrize("text", ["5:9", "3:3", "3", "a:b", "4:2", "1:2:3"])
def test_verify_says_how_a_range_is_written(run: Run, synced: Path, text: str) -> None:
    result = run("verify", "range", text, home=synced)
    assert result.exit_code == 2
    assert "A:B" in result.stderr or "none from 5 on" in result.stderr


def test_verify_takes_one_entry(run: Run, synced: Path) -> None:
    result = run("verify", "entry", 3, home=synced)
    assert result.exit_code == 0, result.output
    assert "asked 3 to 3, verified 3 to 3, checkpoint 5" in result.stdout
    assert run("verify", "entry", 5, home=synced).exit_code == 2


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE entries SET leaf = leaf || x'00' WHERE idx = 4",
            "entry 4 of city.example/access: its leaf is not the one",
        ),
        ("UPDATE entries SET body = x'00' WHERE idx = 4", "entry 4 of city.example/access: AccessBody"),
        ("UPDATE entries SET case_id = 'X' WHERE idx = 4", "its index says something else than the entry: case_id"),
        ("UPDATE nodes SET hash = zeroblob(32) WHERE place = 2", "the stored node over entries 0 to 1 was altered"),
        ("DELETE FROM entries WHERE idx = 2", "entry 2 of city.example/access: missing"),
    ],
)
def test_verify_names_what_was_altered_in_the_mirror(run: Run, synced: Path, statement: str, said: str) -> None:
    alter(synced, statement)
    result = run("verify", "full", home=synced)
    assert result.exit_code == 1
    assert said in result.stdout


def test_verify_prints_thirty_findings_and_says_how_many_more(run: Run, home: Home) -> None:
    world = World.standard()
    for _ in range(33):
        world.access_log.append(b"\xff")
    asyncio.run(mirror(home, AuditedExchange(world)))
    result = run("verify", "full", home=home.path)
    assert result.exit_code == 1
    assert result.stdout.count("FAIL") == 30
    assert "… and 3 more: --json prints them all" in result.stdout
    assert len(json.loads(run("verify", "full", "--json", home=home.path).stdout)["findings"]) == 33


def test_a_sync_that_was_interrupted_is_told(run: Run, synced: Path, exchange: AuditedExchange) -> None:
    """Entries past the verified checkpoint are in the file, and nobody is shown them."""
    alter(
        synced,
        "INSERT INTO entries SELECT 5, time, kind, code, requester, provider, request_id, request_digest,"
        " dataset, officer, purpose, case_id, leaf, body FROM entries WHERE idx = 4",
    )
    assert "warning  city.example/access: entry 5: not verified yet" in run("verify", "full", home=synced).stdout
    assert found(run, synced) == [0, 1, 2, 3, 4]
    assert run("show", 5, home=synced).exit_code == 2


# Progress.


def test_progress_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("verifying") as advance:
        assert list(progress.counted("abc", 3, advance)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.bar("verifying") as advance:
        advance(1, 3)
    assert "verifying" in capsys.readouterr().err
