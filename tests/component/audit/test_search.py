"""`exchange-audit search`: pages without gaps, the broker's index held to its proofs, and the log followed."""

import asyncio
import json
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.searching import asking, following
from exchange.cli.audit.searching.asking import UNVERIFIED
from exchange.cli.audit.searching.following import Follower, Printer
from exchange.cli.audit.searching.options import Typed
from exchange.client.errors import ForkError
from exchange.client.session import Session
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.home import Home
from exchange.v1.log_pb2 import FoundEntry, SearchResponse
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, ask, mirror, rebuilt
from tests.component.audit.witnessing import TWO_OF_THREE, cosigned
from tests.world import APPLICATIONS, REGISTRY

NO_WITNESSES = "split view not excluded: no witnesses"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, exchange: AuditedExchange) -> AuditedExchange:
    for module in (asking, following):
        monkeypatch.setattr(module, "Session", lambda home: Session(home, exchange, exchange.clock))
    return exchange


# Pages.


def test_the_next_command_goes_on_without_a_gap_or_a_repeat(run: Run, synced: Path) -> None:
    seen: list[int] = []
    arguments = ["--requester", "housing", "--limit", "2"]
    for _ in range(9):
        result = run("search", *arguments, "--json", home=synced)
        page = json.loads(result.stdout)
        seen += [entry["index"] for entry in page["entries"]]
        text = run("search", *arguments, home=synced).stderr.splitlines()[-1]
        if page["next_after"] is None:
            assert "more fit" not in text
            break
        command = shlex.split(text.removeprefix("more fit: "))
        assert command[:2] == ["exchange-audit", "search"]
        place = command.index("--home")
        assert command.pop(place + 1) == str(synced)
        command.pop(place)
        arguments = command[2:]
    assert seen == [0, 1, 2, 3, 4]


def test_the_next_command_can_be_typed_whatever_was_searched_for(run: Run, synced: Path) -> None:
    """What was typed is quoted for the shell."""
    for text in ("-x", "a b", "'; reboot", "$(x)"):
        words = Typed(officer=text, requester="housing").words()
        typed = shlex.split(" ".join(words))
        result = run("search", *typed, "--json", home=synced)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["entries"] == []


def test_a_page_that_ends_with_the_last_match_says_nothing_of_more(run: Run, synced: Path) -> None:
    result = run("search", "--limit", "5", home=synced)
    assert "more fit" not in result.stderr
    assert json.loads(run("search", "--limit", "5", "--json", home=synced).stdout)["next_after"] is None


def test_a_search_of_the_mirror_is_complete(run: Run, synced: Path) -> None:
    shown = json.loads(run("search", "--json", home=synced).stdout)
    assert (shown["complete"], shown["verified_to"]) == (True, 5)


# The broker's index.


def test_the_brokers_index_is_asked_without_a_mirror(run: Run, home: Home) -> None:
    result = run("search", "--broker", "--kind", "refused", home=home.path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].startswith("1      2027-01-15 08:00:01  refused  FIELD_NOT_GRANTED")
    assert f"1 entry of 5, verified to 5 of city.example/access; {UNVERIFIED}; {NO_WITNESSES}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "indexes"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("--officer", "officer-8"), [2, 3]),
        (("--case", "ZF-2027-0002", "--kind", "released"), [3]),
        (("--requester", "housing", "--since", "2027-01-15T08:00:02"), [2, 3, 4]),
        (("--provider", "civil-affairs"), []),
        (("--limit", "2"), [0, 1]),
        (("--limit", "2", "--after", "1"), [2, 3]),
        (("--after", "7"), []),
    ],
)
def test_the_brokers_index_gives_what_the_mirror_gives(
    run: Run, home: Home, exchange: AuditedExchange, arguments: tuple[str, ...], indexes: list[int]
) -> None:
    exchange.page = 2
    result = run("search", "--broker", *arguments, "--json", home=home.path)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [entry["index"] for entry in shown["entries"]] == indexes
    assert shown["complete"] is False
    assert UNVERIFIED in shown["caveats"]


def test_a_page_of_the_brokers_index_prints_the_next_command(run: Run, home: Home) -> None:
    result = run("search", "--broker", "--limit", "2", home=home.path)
    assert f"more fit: exchange-audit search --broker --limit 2 --home {home.path} --after 1" in result.stderr


def test_an_entry_that_the_broker_made_up_is_not_shown(run: Run, home: Home, exchange: AuditedExchange) -> None:
    def forged(response: SearchResponse) -> SearchResponse:
        for entry in response.entries:
            if entry.record.index == 1:
                entry.record.leaf += b"\0"
        return response

    exchange.search_response = forged
    result = run("search", "--broker", "--json", home=home.path)
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert [entry["index"] for entry in shown["entries"]] == [0, 2, 3, 4]
    assert [finding["index"] for finding in shown["findings"]] == [1]


def test_an_entry_that_does_not_fit_is_left_out(run: Run, home: Home, exchange: AuditedExchange) -> None:
    exchange.ignores_conditions = True
    result = run("search", "--broker", "--kind", "refused", "--json", home=home.path)
    assert [entry["index"] for entry in json.loads(result.stdout)["entries"]] == [1]


@pytest.mark.parametrize("fault", ["order", "again", "stuck", "checkpoint"])
def test_pages_that_lead_nowhere_are_not_believed(run: Run, home: Home, exchange: AuditedExchange, fault: str) -> None:
    def changed(response: SearchResponse) -> SearchResponse:
        if fault == "order":
            response.entries.reverse()
        elif fault == "again":
            response.entries.append(FoundEntry(record=response.entries[0].record, path=response.entries[0].path))
        elif fault == "stuck":
            response.next = 0
        else:
            response.checkpoint = response.checkpoint.replace(b"/access", b"/axcess")
        return response

    exchange.search_response = changed
    result = run("search", "--broker", home=home.path)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""


def test_a_broker_that_forked_its_log_is_caught_by_a_search(run: Run, synced: Path, exchange: AuditedExchange) -> None:
    """Its checkpoint is held to those that the mirror keeps."""
    log = exchange.world.access_log
    exchange.access_log = rebuilt(log, [*log.leaves[:-1], log.leaves[0]], [*log.bodies[:-1], log.bodies[0]])
    exchange.access_log.append(log.leaves[1], log.bodies[1])
    for _ in range(2):
        assert run("search", "--broker", home=synced).exit_code == 4
    assert (synced / "evidence" / "access-later.checkpoint").exists()


def test_only_an_auditor_asks_the_broker(run: Run, home: Home) -> None:
    home.write("party.toml", b'name = "exchange://city.example/housing/applications"\nrole = "system"\n')
    for flag in ("--broker", "--follow"):
        result = run("search", flag, home=home.path)
        assert result.exit_code == 2
        assert "only an auditor" in result.stderr


def test_the_broker_is_asked_or_the_log_followed(run: Run, home: Home) -> None:
    assert run("search", "--broker", "--follow", home=home.path).exit_code == 2


# Following.


async def followed(
    home: Home, exchange: AuditedExchange, steps: list[object], after: int | None = None, **typed: str
) -> Printer:
    """Follow the log while something happens between its looks; a step is called, and an exception ends it."""
    printer = Printer(as_json=True)
    left = iter(steps)

    async def wait() -> None:
        step = next(left, None)
        if step is None:
            raise asyncio.CancelledError
        step()  # type: ignore[operator]

    async with Session(home, exchange, exchange.clock) as session:
        opened = AccessMirror.opened(home.path / FILE, session.trust.access_log, create=True)
        with opened as mirror, pytest.raises(asyncio.CancelledError):
            await Follower(session, mirror, Typed(**typed), after, printer).run(wait)
    return printer


def lines(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()]


async def test_what_enters_the_log_is_printed_once_and_in_order(
    synced: Path, exchange: AuditedExchange, capsys: pytest.CaptureFixture[str]
) -> None:
    world = exchange.world
    steps = [lambda: ask(world), lambda: None, lambda: (ask(world), ask(world, officer="officer-9"))]
    await followed(Home(synced), exchange, steps)
    assert lines(capsys) == [5, 6, 7]


async def test_only_what_fits_is_printed(
    synced: Path, exchange: AuditedExchange, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [lambda: (ask(exchange.world), ask(exchange.world, officer="officer-9"))]
    await followed(Home(synced), exchange, steps, officer="officer-9")
    assert lines(capsys) == [6]


async def test_following_goes_on_from_an_index(
    synced: Path, exchange: AuditedExchange, capsys: pytest.CaptureFixture[str]
) -> None:
    await followed(Home(synced), exchange, [lambda: ask(exchange.world)], after=2)
    assert lines(capsys) == [3, 4, 5]


async def test_a_broker_that_is_away_is_tried_again(
    synced: Path, exchange: AuditedExchange, capsys: pytest.CaptureFixture[str]
) -> None:
    def away() -> None:
        exchange.down = 1

    await followed(Home(synced), exchange, [away, lambda: ask(exchange.world)])
    printed = capsys.readouterr()
    assert [json.loads(line)["index"] for line in printed.out.splitlines()] == [5]
    assert printed.err.count("the broker cannot be reached, and is tried again") == 1


async def test_a_log_that_is_rolled_back_while_it_is_followed_ends_it(synced: Path, exchange: AuditedExchange) -> None:
    log = exchange.world.access_log

    def roll_back() -> None:
        exchange.access_log = rebuilt(log, [log.leaves[1], *log.leaves[1:]], [log.bodies[1], *log.bodies[1:]])

    with pytest.raises(ForkError):
        await followed(Home(synced), exchange, [roll_back])


def test_a_running_table_keeps_its_columns(
    capsys: pytest.CaptureFixture[str], synced: Path, exchange: AuditedExchange
) -> None:
    asyncio.run(_table(Home(synced), exchange))
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["index", "time", "(UTC)"]
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3", "4"]


async def _table(home: Home, exchange: AuditedExchange) -> None:
    async with Session(home, exchange, exchange.clock) as session:
        with AccessMirror.opened(home.path / FILE, session.trust.access_log) as mirror:

            async def wait() -> None:
                raise asyncio.CancelledError

            follower = Follower(session, mirror, Typed(), -1, Printer(as_json=False))
            with pytest.raises(asyncio.CancelledError):
                await follower.run(wait)


# A party's systems are found with it.


def test_a_department_covers_its_systems_and_no_namesakes(run: Run, home: Home, exchange: AuditedExchange) -> None:
    assert Party.parse("exchange://city.example/housing").covers(
        Party.parse("exchange://city.example/housing/applications")
    )
    for place in ((), ("--broker",)):
        run("sync", home=home.path)
        for name, count in (("housing", 5), ("hous", 0), ("housing/applications", 5), ("housing/app", 0)):
            shown = json.loads(run("search", "--requester", name, *place, "--json", home=home.path).stdout)
            assert len(shown["entries"]) == count


# Witnesses.


@pytest.mark.parametrize(
    ("size", "names", "caveats"),
    [
        (5, ("archive", "bureau"), []),
        (3, ("archive", "bureau"), ["split view not excluded from entry 3 on: not cosigned yet"]),
        (5, ("archive",), ["split view not excluded: no quorum of witnesses has cosigned"]),
    ],
)
def test_what_the_witnesses_saw_is_said(
    run: Run, home: Home, exchange: AuditedExchange, size: int, names: tuple[str, ...], caveats: list[str]
) -> None:
    """By the auditor's own policy, for whatever is read from the mirror."""
    log = exchange.world.access_log
    for earlier in (3, 5):
        exchange.access_log = rebuilt(log, log.leaves[:earlier], log.bodies[:earlier])
        asyncio.run(mirror(home, exchange))
    with closing(sqlite3.connect(home.path / FILE)) as connection, connection:
        connection.execute("UPDATE checkpoints SET note = ? WHERE size = ?", (cosigned(log, names, 1, size), size))
    home.write("witness.policy", TWO_OF_THREE.encode())
    assert json.loads(run("search", "--json", home=home.path).stdout)["caveats"] == caveats
    assert json.loads(run("show", 0, "--json", home=home.path).stdout)["caveats"] == caveats
    told = (
        run("search", home=home.path).stderr,
        run("show", 0, home=home.path).stdout,
        run("export", "--output", home.path / "all.jsonl", home=home.path).stderr,
    )
    for said in told:
        assert caveats[0] in said if caveats else "split view" not in said


# What a key signed.


def test_what_a_key_signed_is_found_and_proven(run: Run, exchange: AuditedExchange, synced: Path) -> None:
    asked, answered = (exchange.world.keys[party].public_key for party in (APPLICATIONS, REGISTRY))
    found: dict[str, set[int]] = {}
    for name, key in (("asked", asked), ("answered", answered)):
        shown = json.loads(run("search", "--key", key_id(key).hex()[:16], "--json", home=synced).stdout)
        found[name] = {entry["index"] for entry in shown["entries"]}
    everything = json.loads(run("search", "--json", home=synced).stdout)["entries"]
    released = {entry["index"] for entry in everything if entry["kind"] == "released"}
    answering = {entry["index"] for entry in everything if entry["provider"] == str(REGISTRY)}
    assert released
    assert released <= found["answered"] <= answering
    assert released <= found["asked"]
    # The broker's own refusals are signed by neither.
    assert found["answered"] < {entry["index"] for entry in everything}


def test_what_a_key_signed_since_a_time_is_found(run: Run, exchange: AuditedExchange, synced: Path) -> None:
    key = key_id(exchange.world.keys[APPLICATIONS].public_key).hex()
    everything = json.loads(run("search", "--key", key, "--json", home=synced).stdout)["entries"]
    last = everything[-1]
    since = json.loads(run("search", "--key", key, "--since", last["time"], "--json", home=synced).stdout)["entries"]
    assert since
    assert [entry["index"] for entry in since] == [e["index"] for e in everything if e["time_ms"] >= last["time_ms"]]


@pytest.mark.parametrize("typed", ["3f2a", "fingerprint", "0" * 64, "é" * 8])
def test_a_key_that_is_none_of_the_directory_is_wrong_usage(run: Run, synced: Path, typed: str) -> None:
    result = run("search", "--key", typed, home=synced)
    assert result.exit_code == 2
    assert "--key" in result.stderr
