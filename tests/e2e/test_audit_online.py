"""What auditor and adapter ask of a running broker: its index, what enters the log, and whether ledgers agree."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import APPLICATIONS, AUDITOR, CIVIL, MARRIAGES, REGISTRY, person
from tests.e2e.processes import ROOT, Program

RELEASED, OWED = "released", "answer without an entry"


@pytest.fixture(scope="module")
def city(new_city: NewCity) -> Iterator[City]:
    with new_city() as city:
        yield city
        city.check()


def run(city: City, name: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the exchange as a person types it."""
    command = [sys.executable, "-c", f"from {module} import app; app()", *arguments, "--home", str(city.path / name)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "NO_COLOR": "1"}
    )


def audit(city: City, *arguments: str, home: str = AUDITOR) -> subprocess.CompletedProcess[str]:
    return run(city, home, "exchange.cli.audit.main", *arguments)


def reconcile(city: City) -> subprocess.CompletedProcess[str]:
    return run(city, REGISTRY, "adapters.cli", "reconcile", "--json")


async def test_the_brokers_index_and_the_mirror_tell_of_the_same_entries(city: City) -> None:
    async with city.client() as client:
        indexes = [(await ask(client, number, officer=f"officer-{number % 2}")).index for number in range(4)]
    found = audit(city, "search", "--broker", "--officer", "officer-1", "--requester", "housing", "--json")
    assert found.returncode == 0, found.stderr
    shown = json.loads(found.stdout)
    assert [entry["index"] for entry in shown["entries"]] == [indexes[1], indexes[3]]
    assert shown["complete"] is False
    assert audit(city, "sync").returncode == 0
    mirrored = json.loads(audit(city, "search", "--officer", "officer-1", "--requester", "housing", "--json").stdout)
    assert mirrored["entries"] == shown["entries"]
    assert mirrored["complete"] is True


async def test_only_auditors_search_the_brokers_index(city: City) -> None:
    """The broker itself says no, whatever the command line lets through."""
    home = city.path / APPLICATIONS
    party = (home / "party.toml").read_text()
    try:
        (home / "party.toml").write_text(party.replace('"system"', '"auditor"'))
        refused = audit(city, "search", "--broker", home=APPLICATIONS)
    finally:
        (home / "party.toml").write_text(party)
    assert refused.returncode == 1
    assert "the access log is read by auditors" in refused.stderr


async def test_what_enters_the_log_is_printed_while_it_is_followed(city: City) -> None:
    # Where tests run in the background of a shell, SIGINT is ignored from the start.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from exchange.cli.audit.main import app; app()"
    arguments = ["-c", program, "search", "--follow", "--json"]
    log = city.path / "output" / "follow.log"
    follower = Program(
        [*arguments, "--officer", "officer-9", "--after", "-1", "--home", str(city.path / AUDITOR)], log, "{", {}
    )
    async with city.client() as client:
        first = (await ask(client, 1, officer="officer-9")).index
        follower.start(wait=False)
        try:
            await follower.seen(f'"index": {first},')
            await ask(client, 2, officer="officer-8")
            second = (await ask(client, 3, officer="officer-9")).index
            await follower.seen(f'"index": {second},')
            follower.signal(signal.SIGINT)
            assert follower.wait_exit() == 0, follower.output
        finally:
            follower.kill()
    lines = [json.loads(line)["index"] for line in follower.output.splitlines() if line.startswith("{")]
    assert lines == [first, second]
    assert "followed and verified to" in follower.output


async def test_ledger_and_log_agree_until_somebody_alters_the_ledger(new_city: NewCity) -> None:
    with new_city() as city:
        async with city.client() as client:
            for number in range(5):
                await ask(client, number)
        city.wait_settled()
        agreed = reconcile(city)
        assert agreed.returncode == 0, agreed.stdout + agreed.stderr
        shown = json.loads(agreed.stdout)
        assert (shown["answers"], shown["entries"], shown["differences"]) == (5, 5, [])
        city.registry.stop()
        with closing(sqlite3.connect(city.path / REGISTRY / "ledger.db", isolation_level=None)) as db:
            db.execute("DELETE FROM answers WHERE number = 3")
        differ = reconcile(city)
        assert differ.returncode == 1
        problems = {item["problem"]: item for item in json.loads(differ.stdout)["differences"]}
        assert problems["entry of no answer here"]["number"] == 3
        assert problems["gap in the ledger's numbers"]["number"] == 3


async def test_a_person_is_told_by_every_owner_who_saw_their_data(new_city: NewCity, tmp_path: Path) -> None:
    request, answers = tmp_path / "request.subject", {name: tmp_path / f"{name}.answer" for name in (REGISTRY, CIVIL)}
    with new_city(civil=True) as city:
        async with city.client() as client:
            first = await ask(client, 1)
            await ask(client, 2)
            second = await ask(client, 1, MARRIAGES)
        for name in answers:
            city.wait_settled(name)
        assert audit(city, "sync").returncode == 0
        named = ("subject-request", "new", person(1), "--reason", "asked in person", "--output", str(request))
        assert audit(city, *named).returncode == 0
        # One owner by the adapter's own command, the other by the auditor's, which starts the same program.
        commands = (("adapters.cli", "subject-answer"), ("exchange.cli.audit.main", "subject-request", "answer"))
        for (name, path), words in zip(answers.items(), commands, strict=True):
            answered = run(city, name, *words, str(request), "--output", str(path))
            assert answered.returncode == 0, answered.stderr
            assert f"{path}: 1 answer of this ledger, sealed to " in answered.stdout
        again = run(city, REGISTRY, *commands[1], str(request), "--output", str(answers[REGISTRY]))
        assert (again.returncode, again.stdout) == (2, "")
        assert "exchange-adapter: error: " in again.stderr
        merge = ("subject-request", "merge", str(request), "--json")
        alone = audit(city, *merge, str(answers[REGISTRY]))
        assert alone.returncode == 3
        assert json.loads(alone.stdout)["missing"] == [str(city.party(CIVIL))]
        merged = audit(city, *merge, *map(str, answers.values()))
    assert merged.returncode == 0, merged.stderr
    shown = json.loads(merged.stdout)
    assert [row["log_entries"] for row in shown["rows"]] == [[first.index], [second.index]]
    assert shown["complete"] is True
