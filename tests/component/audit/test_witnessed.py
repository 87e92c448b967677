"""With a quorum in the trust file, the auditor says what witnesses have seen, and holds its mirror to it."""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.audit import sync as sync_command
from exchange.cli.audit.main import app
from exchange.cli.audit.mirror.access_mirror import FILE
from exchange.client.receipt_file import ReceiptFile
from exchange.client.session import Session
from exchange.core.policy import open_cosigned
from exchange.home import Home
from tests.component.audit.copies import AuditedExchange, audit_home, rebuilt
from tests.simulator import COSIGNERS, POLICY
from tests.world import World

SPLIT = "split view not excluded"


@pytest.fixture
def exchange(busy: World) -> AuditedExchange:
    exchange = AuditedExchange(busy.copy())
    exchange.cosigners = COSIGNERS
    return exchange


@pytest.fixture
def home(tmp_path: Path, busy: World) -> Home:
    return audit_home(tmp_path / "witnessed", busy, POLICY)


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch, exchange: AuditedExchange) -> None:
    monkeypatch.setattr(sync_command, "Session", lambda home: Session(home, exchange, exchange.clock))


def run(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home.path)])


def test_sync_shows_who_cosigned_and_when(home: Home) -> None:
    result = run(home, "sync")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[3].strip().startswith("cosignatures one 20")
    assert ", three 20" in lines[3]
    assert lines[3].endswith("; quorum met")
    assert lines[-1] == "verified to 5"
    assert SPLIT not in result.output


def test_sync_says_the_same_to_programs(home: Home) -> None:
    shown = json.loads(run(home, "sync", "--json").stdout)
    assert shown["caveats"] == []
    _, access = shown["logs"]
    assert (access["cosigned_size"], access["quorum"]) == (5, True)
    assert [item["witness"] for item in access["cosignatures"]] == ["one", "two", "three"]


def test_what_is_not_cosigned_yet_is_said(home: Home, exchange: AuditedExchange) -> None:
    exchange.cosigned_size["access"] = 3
    result = run(home, "sync")
    assert result.exit_code == 0
    assert "quorum met, at 3" in result.stdout
    assert f"verified to 5; {SPLIT} from entry 3 on: not cosigned yet" in result.stdout
    for command in (
        ("show", "0"),
        ("search",),
        ("verify", "head"),
        ("verify", "full"),
        ("export", "--output", str(home.path / "all.jsonl")),
    ):
        assert f"{SPLIT} from entry 3 on" in run(home, *command).output


def test_too_few_witnesses_are_said(home: Home, exchange: AuditedExchange) -> None:
    exchange.cosigners = COSIGNERS[:1]
    result = run(home, "sync")
    assert result.exit_code == 0
    assert result.stdout.count("quorum NOT MET") == 2
    assert f"verified to 5; {SPLIT}: no quorum of witnesses has cosigned" in result.stdout


def test_what_was_cosigned_long_ago_is_said(home: Home, exchange: AuditedExchange) -> None:
    exchange.cosigned_at = exchange.world.now // 1000 - 3600
    assert f"{SPLIT}: what the witnesses cosigned is too old" in run(home, "sync").stdout


@pytest.mark.parametrize("command", [("show", "0"), ("search",), ("tiles", "TREE")])
def test_the_caveat_is_gone_where_a_quorum_has_seen_all(home: Home, tmp_path: Path, command: tuple[str, ...]) -> None:
    run(home, "sync")
    named = [str(tmp_path / "tree") if word == "TREE" else word for word in command]
    result = run(home, *named)
    assert result.exit_code == 0, result.output
    assert SPLIT not in result.output
    if command[0] != "search":
        assert "cosigned by a quorum to 5" in result.output


@pytest.mark.parametrize("what", ["head", "full"])
def test_verify_finds_the_quorum_of_both_logs(home: Home, exchange: AuditedExchange, what: str) -> None:
    exchange.cosigned_at = int(time.time())
    run(home, "sync")
    result = run(home, "verify", what)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("quorum met") == 2
    assert SPLIT not in result.stdout


def test_the_mirror_keeps_the_checkpoint_with_its_cosignatures(home: Home, busy: World) -> None:
    run(home, "sync")
    with closing(sqlite3.connect(home.path / FILE)) as file:
        (note,) = file.execute("SELECT note FROM checkpoints WHERE size = 5").fetchone()
    opened = open_cosigned(note, busy.access_log.signer.verifier, POLICY)
    assert opened.quorum


@pytest.mark.parametrize("size", [5, 4])
def test_another_history_that_witnesses_saw_ends_a_sync_with_4_for_good(
    home: Home, exchange: AuditedExchange, size: int
) -> None:
    assert run(home, "sync").exit_code == 0
    log = exchange.world.access_log
    exchange.world.now += 1000
    twin = rebuilt(log, [*log.leaves[: size - 1], b"shown to the witnesses alone"], log.bodies[:size])
    honest = exchange.cosigned
    logs = {"access": twin, "directory": exchange.world.directory_log}

    def cosigned(name: str) -> bytes:
        exchange.cosigned_log = logs[name]
        return honest(name)

    exchange.cosigned = cosigned  # type: ignore[method-assign]
    for _ in range(2):
        result = run(home, "sync")
        assert result.exit_code == 4, result.output
    evidence = {path.name for path in (home.path / "evidence").iterdir()}
    assert evidence == {"access-earlier.checkpoint", "access-later.checkpoint"}


def test_a_cosigned_checkpoint_of_another_history_in_the_home_is_found_offline(
    home: Home, exchange: AuditedExchange, tmp_path: Path
) -> None:
    run(home, "sync")
    log = exchange.world.access_log
    exchange.cosigned_log = rebuilt(log, [*log.leaves[:-1], b"another"])
    ReceiptFile(home.path / "receipts.db").keep_cosigned("access", exchange.cosigned("access"))
    result = run(home, "show", "0")
    assert result.exit_code == 1
    assert "another history" in result.stderr


def test_without_a_quorum_nothing_of_it_is_shown(tmp_path: Path, busy: World) -> None:
    home = audit_home(tmp_path / "plain", busy)
    result = run(home, "sync")
    assert result.stdout.endswith(f"verified to 5; {SPLIT}: no witnesses\n")
    assert "quorum" not in result.stdout
    shutil.rmtree(home.path)


def test_a_directory_that_was_cosigned_earlier_says_how_far(home: Home, exchange: AuditedExchange) -> None:
    exchange.cosigned_at = int(time.time())
    run(home, "sync")
    log = exchange.world.directory_log
    exchange.cosigned_log = rebuilt(log, log.leaves[:-1], log.bodies[:-1])
    ReceiptFile(home.path / "receipts.db").keep_cosigned("directory", exchange.cosigned("directory"))
    result = run(home, "verify", "head")
    assert f"quorum met, at {log.size - 1}" in result.stdout, result.output
    # The first entry was decided under no more than that; the last one was not.
    bundle = str(home.path / "log.tar")
    for entries, code in (("0:1", 0), ("0:5", 3)):
        assert run(home, "bundle", "--range", entries, "--output", bundle).exit_code == 0
        assert run(home, "verify", "bundle", bundle).exit_code == code


def test_another_directory_that_witnesses_saw_ends_a_verification_with_4(home: Home, exchange: AuditedExchange) -> None:
    run(home, "sync")
    log = exchange.world.directory_log
    exchange.cosigned_log = rebuilt(log, [*log.leaves[:-2], b"another"], log.bodies[:-1])
    ReceiptFile(home.path / "receipts.db").keep_cosigned("directory", exchange.cosigned("directory"))
    for command in (("verify", "head"), ("verify", "full"), ("search",)):
        assert run(home, *command).exit_code == 4, command
