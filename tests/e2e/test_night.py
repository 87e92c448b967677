"""What somebody has at night: figures, health, `doctor` and `status`, with everything up, and with something down."""

import asyncio
import json
import os
import pty
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.cli import app as adapter_app
from exchange.cli.frame.times import now
from exchange.cli.main import app as exchange_app
from exchange.core.trust import encode_trust
from exchange.health import network
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, refused
from tests.e2e.canaries import Canaries
from tests.e2e.city import City
from tests.e2e.founding import (
    APPLICATIONS,
    AUDITOR,
    BROKER,
    BUREAU,
    OPERATOR,
    POPULATION,
    REGISTRY,
    person,
)
from tests.e2e.processes import ROOT, wait_until
from tests.e2e.watching import fetch, figure, ready, watch
from tests.e2e.witnessing import Witnesses, new_authority

EXCHANGE, ADAPTER = "exchange.cli.main", "adapters.cli"
APPS = {EXCHANGE: exchange_app, ADAPTER: adapter_app}
# One event a line: when, how grave, what.
_EVENT = re.compile(r'timestamp=\S+ level=\w+ event=("(?:[^"\\]|\\.)*"|\S+)( [\w.]+(=("(?:[^"\\]|\\.)*"|\S*))?)*')
_READY = re.compile(r"exchange://\S+ is (ready on|attached to) \S+")


def run(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-c", f"from {module} import app; app()", *arguments]
    return subprocess.run(program, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def doctor(city: City, name: str, module: str = EXCHANGE) -> tuple[int, dict[str, Any]]:
    """Its exit code, and what it found, by the check's name without the broker's address."""
    done = CliRunner().invoke(APPS[module], ["doctor", "--json", "--home", str(city.path / name)])
    assert done.stdout, done.stderr
    return done.exit_code, {item["check"].removesuffix(f" {city.address}"): item for item in json.loads(done.stdout)}


@pytest.fixture
def watched(template: City, tmp_path: Path) -> Iterator[tuple[City, dict[str, str]]]:
    """A city whose broker and registry have ports for their figures, by home; both run."""
    city = template.copy(tmp_path / "city")
    addresses = watch(city)
    with city.running():
        yield city, addresses


async def test_figures_and_health_of_a_day(watched: tuple[City, dict[str, str]]) -> None:
    city, addresses = watched
    async with city.client() as client:
        for number in range(3):
            await ask(client, number)
        with refused(Code.CODE_PURPOSE_NOT_GRANTED):
            await ask(client, 4, purpose="tax.audit")
    city.wait_settled()
    broker, adapter = (fetch(addresses[name], "/metrics")[1] for name in (BROKER, REGISTRY))
    assert figure(broker, 'exchange_requests_total{code="RELEASED"}') == 3
    assert figure(broker, 'exchange_requests_total{code="PURPOSE_NOT_GRANTED"}') == 1
    assert figure(broker, "exchange_attached_systems") == 1
    assert figure(adapter, "exchange_adapter_answers_total") == 3
    assert figure(adapter, "exchange_adapter_owed_receipts") == 0
    assert figure(adapter, "exchange_adapter_attached_brokers") == 1
    assert (ready(addresses[BROKER])[0], ready(addresses[REGISTRY])[0]) == (200, 200)
    city.broker.stop()
    wait_until(lambda: ready(addresses[REGISTRY])[0] == 503, "an adapter that says that it is not attached")
    assert ready(addresses[REGISTRY])[1]["reasons"] == ["no broker is attached"]
    assert fetch(addresses[REGISTRY], "/health")[0] == 200


def test_a_port_that_is_taken_is_said(watched: tuple[City, dict[str, str]], tmp_path: Path, template: City) -> None:
    _, addresses = watched
    other = template.copy(tmp_path / "other")
    mine = watch(other)
    for file in (other.path / BROKER / "broker.toml", other.path / REGISTRY / "adapter.toml"):
        name = file.parent.name
        file.write_text(file.read_text().replace(mine[name], addresses[name]))
    done = run(EXCHANGE, "broker", "run", "--home", str(other.path / BROKER))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"cannot listen on {addresses[BROKER]} for metrics" in done.stderr
    done = run(ADAPTER, "run", "--home", str(other.path / REGISTRY))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"cannot listen on {addresses[REGISTRY]} for metrics" in done.stderr


def test_doctor_finds_nothing_wrong_where_nothing_is(watched: tuple[City, dict[str, str]]) -> None:
    city, _ = watched
    for name in (BROKER, OPERATOR, POPULATION, APPLICATIONS, AUDITOR, BUREAU):
        code, found = doctor(city, name)
        assert (code, [item for item in found.values() if item["level"] == "fail"]) == (0, []), name
        assert {"clock", "version", "TLS", "port", "directory", "signing key", "disk"} <= found.keys()
    code, found = doctor(city, REGISTRY, ADAPTER)
    assert code == 0, found
    assert {"source main", "ledger", "owed receipts", "orders", "running", "sealing key"} <= found.keys()


def test_doctor_runs_with_the_broker_down(watched: tuple[City, dict[str, str]]) -> None:
    city, _ = watched
    city.broker.stop()
    for name, module in ((BROKER, EXCHANGE), (POPULATION, EXCHANGE), (REGISTRY, ADAPTER)):
        code, found = doctor(city, name, module)
        assert code == 1
        assert found["port"]["level"] == found["broker"]["level"] == "fail"
        assert "exchange broker run" in found["broker"]["mend"]
        assert (found["clock"]["level"], found["clock"]["checked"]) == ("fail", False)
        # What needs no broker is known all the same.
        for check in ("certificate", "key files"):
            assert found[check]["level"] == "ok", check
    assert found["signing key"]["level"] == "ok"


def show_keys(city: City) -> None:
    (city.path / REGISTRY / "keys" / "signing.pem").chmod(0o644)


def lose_source(city: City) -> None:
    (city.path / REGISTRY / "data.db").unlink()


def stop_dataset(city: City) -> None:
    done = run(ADAPTER, "stop", "residents", "--reason", "maintenance", "--home", str(city.path / REGISTRY))
    assert done.returncode == 0, done.stderr


def break_configuration(city: City) -> None:
    file = city.path / REGISTRY / "adapter.toml"
    file.write_text(file.read_text().replace('source = "main"', 'source = "mian"'))


def leave_it_down(_city: City) -> None:
    """Its port is in its configuration, and nobody listens there."""


@pytest.mark.parametrize(
    ("fault", "check", "level", "mend"),
    [
        (show_keys, "key files", "fail", "chmod 600 "),
        (lose_source, "source main", "fail", "start the database"),
        (stop_dataset, "orders", "warn", "exchange-adapter resume residents"),
        (break_configuration, "configuration", "fail", "edit "),
        (leave_it_down, "running", "fail", "exchange-adapter run --home "),
    ],
)
def test_the_adapters_doctor_names_what_is_wrong(
    template: City, tmp_path: Path, fault: Callable[[City], None], check: str, level: str, mend: str
) -> None:
    city = template.copy(tmp_path / "city")
    watch(city)
    fault(city)
    found = doctor(city, REGISTRY, ADAPTER)[1][check]
    assert (found["level"], mend in found["mend"]) == (level, True), found


def lose_database(home: Path) -> None:
    (home / "exchange.db").unlink()


def roll_back(home: Path) -> None:
    """The database of a broker that was started anew, beside the anchor of one that has gone on."""
    with closing(sqlite3.connect(home / "exchange.db")) as db, db:
        db.execute("UPDATE heads SET size = size - 1 WHERE log = 'directory'")


def lose_anchor(home: Path) -> None:
    shutil.rmtree(home / "anchor")


@pytest.mark.parametrize(
    ("fault", "check"), [(lose_database, "database"), (roll_back, "anchor"), (lose_anchor, "anchor")]
)
def test_the_brokers_doctor_names_what_is_wrong(
    template: City, tmp_path: Path, fault: Callable[[Path], None], check: str
) -> None:
    city = template.copy(tmp_path / "city")
    assert doctor(city, BROKER)[1][check]["level"] == "ok"
    fault(city.path / BROKER)
    code, found = doctor(city, BROKER)
    assert (code, found[check]["level"], bool(found[check]["mend"])) == (1, "fail", True)


async def ask_once(city: City) -> None:
    async with city.client() as client:
        await ask(client)


def test_what_a_ledger_is_owed_is_said(template: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    city = template.copy(tmp_path / "city")
    with city.running():
        asyncio.run(ask_once(city))
        city.wait_settled()
    with closing(sqlite3.connect(city.path / REGISTRY / "ledger.db")) as db, db:
        db.execute("INSERT INTO owed SELECT number FROM answers")
        db.execute("DELETE FROM settlements")
    monkeypatch.setattr("adapters.doctor.now", lambda: now() + 60_000)
    code, found = doctor(city, REGISTRY, ADAPTER)
    assert (code, found["owed receipts"]["level"]) == (1, "fail")
    assert "nothing new is answered through that broker" in found["owed receipts"]["detail"]


def test_a_clock_that_is_off_is_said(watched: tuple[City, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    city, _ = watched
    wrong = SimpleNamespace(time=lambda: time.time() + 90, monotonic=time.monotonic)
    monkeypatch.setattr(network, "time", wrong)
    code, found = doctor(city, POPULATION)
    assert (code, found["clock"]["level"]) == (1, "fail")
    assert "s behind this one" in found["clock"]["detail"]
    assert "timedatectl" in found["clock"]["mend"]


def test_a_broker_with_anothers_certificate_is_said(watched: tuple[City, dict[str, str]]) -> None:
    city, _ = watched
    home = city.home(POPULATION)
    authority = new_authority()
    home.write("trust.toml", encode_trust(replace(home.trust, tls_ca=authority.pem.decode())).encode())
    code, found = doctor(city, POPULATION)
    assert (code, found["port"]["level"], found["TLS"]["level"]) == (1, "ok", "fail")
    assert "its certificate does not hold" in found["TLS"]["detail"]


def test_a_broker_that_takes_connections_and_says_nothing_holds_nothing_up(template: City, tmp_path: Path) -> None:
    city = template.copy(tmp_path / "city")
    host, port = city.address.split(":")
    with socket.create_server((host, int(port))):
        code, found = doctor(city, POPULATION)
    assert (code, found["port"]["level"]) == (1, "ok")
    assert {found[check]["level"] for check in ("TLS", "broker")} == {"fail"}
    assert {found[check]["level"] for check in ("certificate", "key files", "disk", "name")} == {"ok"}


def test_each_witness_is_asked_and_a_missing_quorum_is_said(template: City, tmp_path: Path) -> None:
    city = template.copy(tmp_path / "city")
    witnesses = Witnesses(city)
    witnesses.start("university")
    try:
        with city.running():
            code, found = doctor(city, POPULATION)
    finally:
        witnesses.close()
    assert code == 1
    levels = {name: found[f"witness {name}"]["level"] for name in ("audit-office", "university", "archive")}
    assert levels == {"audit-office": "fail", "university": "ok", "archive": "fail"}
    assert "within" in found["witness university"]["detail"]
    assert (found["witnesses"]["level"], found["witnesses"]["checked"]) == ("fail", True)


# --- one screen


def on_terminal(*arguments: str) -> list[str]:
    """What a command shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    program = [sys.executable, "-c", f"from {EXCHANGE} import app; app()", *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(program, stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT, env=environment) as process:
        os.close(theirs)
        parts = []
        # A terminal whose other end has closed is an error on Linux, not an end.
        while part := _read(ours):
            parts.append(part)
        process.wait(60)
    os.close(ours)
    return b"".join(parts).decode().splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_status_fits_one_screen_for_every_role(watched: tuple[City, dict[str, str]]) -> None:
    city, _ = watched
    for name in (BROKER, OPERATOR, POPULATION, REGISTRY, APPLICATIONS, AUDITOR, BUREAU):
        lines = on_terminal("status", "--home", str(city.path / name))
        assert lines[0].startswith("party "), lines
        assert len(lines) < 24, "\n".join(lines)
        assert max(map(len, lines)) <= 80, "\n".join(lines)


# --- no secrets


async def test_no_secret_shows_in_logs_figures_doctor_or_status(watched: tuple[City, dict[str, str]]) -> None:
    city, addresses = watched
    canaries = Canaries(city.path)
    password = canaries.plant("the database's password", "swordfish-4711-canary")
    subject = canaries.plant("a subject's name", "Canary Wang Fang")
    wanted = canaries.plant("a value that was asked for", person(3))
    case = "ZF-2027-0099"
    with closing(sqlite3.connect(city.path / REGISTRY / "data.db")) as db, db:
        db.execute("UPDATE residents SET name = ? WHERE id_number = ?", (subject, wanted))
    seen: list[str] = []
    async with city.client() as client:
        answer = await ask(client, 3, case=case)
        assert subject in map(str, answer.rows[0].values())
        with refused(Code.CODE_PURPOSE_NOT_GRANTED):
            await ask(client, 3, purpose="tax.audit")
        seen += [fetch(address, path)[1] for address in addresses.values() for path in ("/metrics", "/ready")]
        # From here on the source is a database that nobody can reach, and its URL has a password.
        break_source(city, password)
        with refused(Code.CODE_PROVIDER_UNAVAILABLE):
            await ask(client, 3)
    seen += [fetch(address, path)[1] for address in addresses.values() for path in ("/metrics", "/ready")]
    seen += await asyncio.to_thread(night_commands, city)
    lose_postgres(city, password)
    seen += await asyncio.to_thread(night_commands, city)
    seen += [file.read_text() for file in (city.path / "output").glob("*.log")]
    assert canaries.found_in("\n".join(seen)) == []
    # The test can fail: each of them would be found.
    for secret in (password, subject, wanted, (city.path / REGISTRY / "keys" / "signing.pem").read_text()):
        assert canaries.found_in("\n".join([*seen, f"x{secret}y"])) != []


def break_source(city: City, password: str) -> None:
    """Another source, which cannot be reached; the adapter starts anew with it."""
    file = city.path / REGISTRY / "adapter.toml"
    url = f"postgresql://reader:{password}@127.0.0.1:1/housing"
    file.write_text(file.read_text().replace("sqlite:///data.db", url))
    city.registry.restart()


def lose_postgres(city: City, password: str) -> None:
    """A broker whose database is a server that nobody can reach: it does not start, and says why."""
    city.broker.stop()
    file = city.path / BROKER / "broker.toml"
    url = f"postgresql://exchange:{password}@127.0.0.1:1/exchange"
    file.write_text(file.read_text().replace('database = "exchange.db"', f'database = "{url}"'))
    file.chmod(0o600)
    city.broker.start(wait=False)
    assert city.broker.wait_exit() != 0
    assert "no server listens there" in city.broker.output


def night_commands(city: City) -> list[str]:
    """All that somebody types at night, and what it says."""
    said = []
    for module, command, name in (
        (EXCHANGE, "doctor", BROKER),
        (EXCHANGE, "status", BROKER),
        (EXCHANGE, "doctor", POPULATION),
        (EXCHANGE, "status", APPLICATIONS),
        (ADAPTER, "doctor", REGISTRY),
        (ADAPTER, "check", REGISTRY),
    ):
        for form in ((), ("--json",)):
            done = CliRunner().invoke(APPS[module], [command, *form, "--home", str(city.path / name)])
            assert done.stdout, (command, name, done.stderr)
            said.append(done.stdout + done.stderr)
    return said


async def test_every_line_of_a_log_is_an_event(watched: tuple[City, dict[str, str]]) -> None:
    city, _ = watched
    async with city.client() as client:
        await ask(client)
        with refused(Code.CODE_PURPOSE_NOT_GRANTED):
            await ask(client, purpose="tax.audit")
    city.wait_settled()
    city.broker.restart()
    for name in (BROKER, REGISTRY):
        lines = (city.path / "output" / f"{name}.log").read_text().splitlines()
        assert any(_EVENT.fullmatch(line) for line in lines)
        strange = [line for line in lines if not (_EVENT.fullmatch(line) or _READY.fullmatch(line))]
        assert strange == []
