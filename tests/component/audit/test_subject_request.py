"""A person asks who saw their data: from the office's request to the merged table, and every way an owner can cheat."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters import subject_answering
from adapters.cli import app as adapter_app
from adapters.settling import Settler
from exchange.client.session import Session
from exchange.core.entries import erased_entry
from exchange.core.envelope import SUBJECT_REQUEST, decode_envelope
from exchange.core.keys import key_id
from exchange.core.subjects import answer_draft, read_subject_request
from exchange.home import Home
from exchange.transport import TlsIdentity
from exchange.v1.directory_pb2 import EntryRange, Erased
from exchange.v1.gateway_pb2 import Settlement
from exchange.v1.subject_pb2 import SubjectAnswerHeader, SubjectDisclosure
from tests.component.adapters.test_answering import Provider, provider_at, wait_for_no_disk
from tests.component.audit.conftest import Run
from tests.component.audit.copies import AuditedExchange, audit_home, log_entry, mirror
from tests.memory import fixed
from tests.simulator import make_home
from tests.world import AUDITOR, COORDINATOR, HOUSING, ID_NUMBER, MARRIAGE, ORIGIN, REGISTRY, World, lookup

OTHER = "110101198001011234"
REASON = ("--reason", "asked in person")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_no_disk(monkeypatch)


class Offices:
    """The registry that answers, with its ledger, and the auditor that asks in the person's name."""

    def __init__(self, folder: Path, registry: Home, office: Home, world: World) -> None:
        self.folder = folder
        self.registry = registry
        self.office = office
        self.world = world
        self.request = folder / "request.subject"
        self.answer = folder / "registry.answer"

    def ask(self, run: Run, *arguments: str) -> None:
        result = run(
            "subject-request", "new", ID_NUMBER, *REASON, *arguments, "--output", self.request, home=self.office.path
        )
        assert result.exit_code == 0, result.output

    def answer_it(self, *, code: int = 0) -> str:
        arguments = ["subject-answer", str(self.request), "--output", str(self.answer)]
        result = CliRunner().invoke(adapter_app, [*arguments, "--home", str(self.registry.path)])
        assert result.exit_code == code, result.output
        return result.output

    def forge(self, change: Any, *, party: Any = REGISTRY) -> None:
        """An answer that a dishonest owner signs: its disclosure is changed before it is sealed."""
        request = decode_envelope(self.request.read_bytes(), SUBJECT_REQUEST)
        disclosure = self.disclosed()
        change(disclosure)
        header = SubjectAnswerHeader(
            format=1, request_digest=request.digest, answerer=str(party), answered_at=self.world.now
        )
        signing = key_id(self.world.keys[party].public_key)
        secrets = (fixed("channel"), fixed("nonce", 12))
        draft = answer_draft(ORIGIN, read_subject_request(request), header, disclosure, signing, secrets)
        self.answer.write_bytes(self.world.sign(draft, party).encode())

    def disclosed(self) -> SubjectDisclosure:
        request = decode_envelope(self.request.read_bytes(), SUBJECT_REQUEST)
        return subject_answering._disclosed(self.registry, read_subject_request(request))

    def merge(self, run: Run, *arguments: object) -> Any:
        return run("subject-request", "merge", self.request, self.answer, *arguments, home=self.office.path)

    def merged(self, run: Run) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.merge(run, "--json").stdout)
        return found


async def _made(folder: Path) -> tuple[Home, World]:
    """Four answers: two about the person, of which one is not released, and two about somebody else."""
    async with provider_at(folder, World.standard()) as provider:
        world = provider.world
        for number, (person, outcome) in enumerate(
            ((ID_NUMBER, "released"), (OTHER, "released"), (ID_NUMBER, "withheld"), (OTHER, "released"))
        ):
            await _answered(provider, person, outcome, f"officer-{number}")
            world.now += 1000
        home = provider.session.home
    (folder / "ledger.db").rename(home.path / "ledger.db")
    return home, world


async def _answered(provider: Provider, person: str, outcome: str, officer: str) -> None:
    world = provider.world
    provider.sources.rows = ({"id_number": person, "name": "王芳"},)
    request = world.request(lookup(person), officer=officer)
    response = await provider.answer(request)
    receipt = world.release(request, response) if outcome == "released" else world.withhold(request, response)
    settler = Settler(provider.session, provider.ledger)
    assert await settler.settle(Settlement(response_digest=response.digest, receipt=receipt))
    await settler.close()


@pytest.fixture
def offices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offices:
    registry, world = asyncio.run(_made(tmp_path / "registry"))
    exchange = AuditedExchange(world)
    office = audit_home(tmp_path / "audit-office", world)
    office.new_private_key("signing", world.keys[AUDITOR].private_key)
    asyncio.run(mirror(office, exchange))
    monkeypatch.setattr(subject_answering, "Session", partial(Session, transport=exchange, clock=exchange.clock))
    monkeypatch.setattr(Home, "tls_identity", lambda _self: TlsIdentity(b"", b"", b""))
    return Offices(tmp_path, registry, office, world)


def test_the_person_is_told_who_saw_what_for_what(run: Run, offices: Offices) -> None:
    offices.ask(run)
    said = offices.answer_it()
    assert "asked by auditor: asked in person" in said
    assert "2 answers of this ledger, sealed to auditor" in said
    result = offices.merge(run)
    assert result.exit_code == 0, result.output
    header, first, second = result.stdout.splitlines()
    assert header.split("  ")[0] == "when (UTC)"
    for text in (
        "2027-01-15 08:00:00",
        "housing/applications",
        "officer-0",
        "住房分配",
        "population/residents",
        "received",
        "name",
    ):
        assert text in first
    assert "officer-2" in second
    assert "not released: possible access" in second
    assert "2 accesses, 1 owner answered; compared with the access log to 4" in result.stderr


def test_programs_are_told_more(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    shown = offices.merged(run)
    assert shown["complete"] is True
    assert [(row["ledger_number"], row["log_entries"], row["released"]) for row in shown["rows"]] == [
        (1, [0], True),
        (3, [2], False),
    ]
    assert (shown["answered"], shown["missing"], shown["remarks"]) == ([str(REGISTRY)], [], [])


def test_only_the_period_that_is_asked_for_is_told(run: Run, offices: Offices) -> None:
    offices.ask(run, "--since", "2027-01-15T08:00:01")
    offices.answer_it()
    assert [row["ledger_number"] for row in offices.merged(run)["rows"]] == [3]


def test_a_request_and_an_answer_are_for_their_readers_eyes(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    for path in (offices.request, offices.answer, *offices.office.keys.glob("subject-*.key")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert ID_NUMBER.encode() not in offices.answer.read_bytes()
    assert b"officer-0" not in offices.answer.read_bytes()


def test_neither_file_replaces_another(run: Run, offices: Offices) -> None:
    offices.ask(run)
    result = run("subject-request", "new", ID_NUMBER, *REASON, "--output", offices.request, home=offices.office.path)
    assert result.exit_code == 2
    assert len(list(offices.office.keys.glob("subject-*.key"))) == 1
    offices.answer_it()
    assert "is there already" in offices.answer_it(code=2)


def test_only_the_home_that_asked_opens_the_answers(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    for path in offices.office.keys.glob("subject-*.key"):
        path.unlink()
    result = offices.merge(run)
    assert result.exit_code == 3
    assert "only the home that made the request" in result.stderr


def test_a_request_that_nobody_signed_is_not_answered(run: Run, offices: Offices) -> None:
    offices.ask(run)
    data = bytearray(offices.request.read_bytes())
    data[-9] ^= 1
    offices.request.write_bytes(data)
    assert "the request cannot be answered" in offices.answer_it(code=1)
    assert not offices.answer.exists()


def test_a_system_does_not_ask(run: Run, offices: Offices, tmp_path: Path) -> None:
    home = make_home(tmp_path / "system", offices.world)
    result = run("subject-request", "new", ID_NUMBER, *REASON, "--output", tmp_path / "x", home=home.path)
    assert result.exit_code == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("new", "", *REASON),
        ("new", ID_NUMBER, "--reason", " "),
        ("new", ID_NUMBER, *REASON, "--since", "2027-02-01", "--until", "2027-01-01"),
        ("new", ID_NUMBER, *REASON, "--since", "soon"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, offices: Offices, arguments: tuple[str, ...]) -> None:
    result = run("subject-request", *arguments, "--output", offices.request, home=offices.office.path)
    assert result.exit_code == 2, result.output
    assert not offices.request.exists()


class Installed:
    """A folder with an interpreter, and another one on PATH; neither has an adapter's program yet."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.beside, self.path = folder / "bin", folder / "path"
        self.started: list[tuple[str, ...]] = []
        self.beside.mkdir()
        self.path.mkdir()
        monkeypatch.setattr("sys.executable", str(self.beside / "python"))
        monkeypatch.setenv("PATH", str(self.path))
        monkeypatch.setattr("os.execv", self.start)

    def start(self, program: str, arguments: list[str]) -> None:
        """In the place of this process, which goes on no further."""
        self.started.append((program, *arguments))
        raise SystemExit(7)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


def put_program(folder: Path) -> str:
    path = folder / "exchange-adapter"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_request_is_answered_by_the_adapters_program_beside_this_one(
    run: Run, offices: Offices, installed: Installed
) -> None:
    offices.ask(run)
    arguments = ("--output", offices.answer, "--json")
    words = ["subject-answer", offices.request, "--output", offices.answer, "--home", offices.registry.path, "--json"]
    # The one on PATH serves only where there is none beside the interpreter.
    for folder in (installed.path, installed.beside):
        program = put_program(folder)
        result = run("subject-request", "answer", offices.request, *arguments, home=offices.registry.path)
        assert result.exit_code == 7, result.output
        assert installed.started.pop() == (program, "exchange-adapter", *map(str, words))


def test_without_the_adapters_program_a_request_cannot_be_answered(run: Run, offices: Offices, installed: Path) -> None:
    offices.ask(run)
    result = run("subject-request", "answer", offices.request, "--output", offices.answer, home=offices.registry.path)
    assert result.exit_code == 3, result.output
    assert "error: exchange-adapter is not installed here\n" in result.stderr
    assert "hint: answer beside the owner's ledger: exchange-adapter subject-answer" in result.stderr


# What the log says of an answer.


def texts(shown: dict[str, Any], level: str = "FAIL") -> list[str]:
    return [remark["text"] for remark in shown["remarks"] if remark["level"] == level]


def test_an_owner_without_an_answer_is_named(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    world = offices.world
    request = world.request()
    # Another owner that answered in that time, as its entry says.
    log_entry(
        world,
        1,  # type: ignore[arg-type]
        0,  # type: ignore[arg-type]
        request=request,
        response=world.respond(request, party=MARRIAGE),
        requester="exchange://city.example/housing/applications",
        provider=str(MARRIAGE),
        request_id=b"r" * 16,
    )
    asyncio.run(mirror(offices.office, AuditedExchange(world)))
    result = offices.merge(run)
    assert result.exit_code == 3, result.output
    assert f"no answer of {MARRIAGE}, which gave answers in that time" in result.stderr
    assert offices.merged(run)["missing"] == [str(MARRIAGE)]


def test_a_row_that_was_made_up_is_named(run: Run, offices: Offices) -> None:
    offices.ask(run)

    def made_up(disclosure: SubjectDisclosure) -> None:
        disclosure.rows[0].request_digest = bytes(32)
        disclosure.rows[0].entries[:] = [0]

    offices.forge(made_up)
    assert offices.merge(run).exit_code == 1
    assert texts(offices.merged(run)) == ["answer 1 has no entry in the log as it is mirrored here"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("officer", "nobody"), ("purpose", "tax.assessment"), ("case_id", "X-1"), ("requester", str(HOUSING))],
)
def test_a_row_that_says_otherwise_than_the_signed_request_is_named(
    run: Run, offices: Offices, name: str, value: str
) -> None:
    offices.ask(run)
    offices.forge(lambda disclosure: setattr(disclosure.rows[0], name, value))
    assert offices.merge(run).exit_code == 1
    [text] = texts(offices.merged(run))
    assert text.startswith("answer 1 says otherwise than the request that the log keeps: ")
    assert name.removesuffix("_id") in text


def test_a_row_under_another_number_is_named(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.forge(lambda disclosure: setattr(disclosure.rows[0], "number", 2))
    assert "answer 2 is answer 1 by its signed response" in texts(offices.merged(run))


def test_a_row_that_claims_anothers_entry_is_named(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.forge(lambda disclosure: disclosure.rows[0].entries.append(1))
    assert texts(offices.merged(run)) == ["answer 1 is said to have entry 1, which is of another"]


def test_a_ledger_that_is_said_to_end_too_early_is_named(run: Run, offices: Offices) -> None:
    """The owner hides its last answers; the log has them, under their numbers."""
    offices.ask(run)

    def cut(disclosure: SubjectDisclosure) -> None:
        disclosure.last_number, disclosure.last_chain = 2, disclosure.last_previous
        del disclosure.rows[1:]

    offices.world.now += 1000
    offices.forge(cut)
    assert offices.merge(run).exit_code == 1
    found = texts(offices.merged(run))
    assert "its ledger is said to end at answer 2, and entry 3 is its answer 4" in found
    assert any("the chain after answer 2" in text for text in found)


def test_another_ledger_is_named(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.forge(lambda disclosure: setattr(disclosure, "last_previous", bytes(32)))
    assert texts(offices.merged(run)) == ["its ledger is another one than that of entry 3: the chain before answer 4"]


def test_answers_that_the_mirror_does_not_have_yet_are_not_called_wrong(run: Run, offices: Offices) -> None:
    offices.ask(run)

    def later(disclosure: SubjectDisclosure) -> None:
        disclosure.last_number, disclosure.last_previous = 6, fixed("5")
        row = disclosure.rows.add()
        row.CopyFrom(disclosure.rows[0])
        row.number, row.request_digest, row.entries[:] = 6, fixed("later"), [99]

    def with_chain(disclosure: SubjectDisclosure) -> None:
        later(disclosure)
        disclosure.last_chain = fixed("6")

    offices.forge(with_chain)
    assert offices.merge(run).exit_code == 3
    shown = offices.merged(run)
    assert texts(shown) == []
    assert texts(shown, "not checked") == [
        "the log, as it is mirrored here, has no entry of answers 5 to 6 of its ledger",
        "answer 6 has no entry in the log as it is mirrored here",
    ]


def erase_and_mirror(offices: Offices, *ranges: tuple[int, int], blank: tuple[int, ...]) -> None:
    """The coordinator lets bodies go, and another office that mirrors the log now is given none of them."""
    world = offices.world
    for first, end in ranges:
        erased = Erased(reason="the retention is over", legal_basis="Archives Act, article 9")
        erased.access.CopyFrom(EntryRange(first=first, end=end))
        world.append(erased_entry(COORDINATOR, world.fresh(16), erased), COORDINATOR)
    for index in blank:
        world.access_log.bodies[index] = b""
    for path in (offices.office.path / "access-mirror.db", offices.office.path / "mirror.db"):
        path.unlink()
    asyncio.run(mirror(offices.office, AuditedExchange(world)))


def test_a_body_that_was_erased_is_told_from_an_entry_that_is_missing(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    erase_and_mirror(offices, (0, 2), blank=(0, 1))
    by = offices.world.directory_log.size - 1
    shown = offices.merged(run)
    assert texts(shown) == texts(shown, "not checked") == []
    assert texts(shown, "erased") == [
        (
            "answer 2 of its ledger: the log has 1 entry of it without a body, erased by entry"
            f" {by} of the directory: which of them is which cannot be checked"
        ),
        (
            f"answer 1: the body of entry 0 was erased by entry {by} of the directory: who asked, and what for,"
            " is the owner's word alone"
        ),
    ]
    assert [(row["ledger_number"], row["log_entries"]) for row in shown["rows"]] == [(1, [0]), (3, [2])]
    assert (shown["complete"], offices.merge(run).exit_code) == (False, 3)


def test_a_body_that_no_entry_erased_is_missing(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    erase_and_mirror(offices, (0, 1), blank=(0, 1))
    shown = offices.merged(run)
    assert any(text.startswith("entry 1: ") for text in texts(shown))
    assert offices.merge(run).exit_code == 1


def test_an_erasure_hides_no_answer_that_has_no_entry(run: Run, offices: Offices) -> None:
    """The ledger has one answer more than the log has entries, with or without their bodies."""
    offices.ask(run)

    def longer(disclosure: SubjectDisclosure) -> None:
        disclosure.last_number, disclosure.last_previous, disclosure.last_chain = 5, fixed("4"), fixed("5")

    offices.forge(longer)
    erase_and_mirror(offices, (1, 2), blank=(1,))
    shown = offices.merged(run)
    assert texts(shown, "not checked") == [
        "the log, as it is mirrored here, has no entry of 1 of these answers",
    ]
    [text] = texts(shown, "erased")
    assert text.startswith("answer 2, answer 5 of its ledger: the log has 1 entry of it without a body")


def test_an_answer_of_nobody_is_not_merged(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    data = bytearray(offices.answer.read_bytes())
    data[40] ^= 1
    offices.answer.write_bytes(data)
    result = offices.merge(run)
    assert result.exit_code == 1
    assert "no owner that answered" in result.stdout


def test_two_answers_of_one_owner_are_wrong_usage(run: Run, offices: Offices) -> None:
    offices.ask(run)
    offices.answer_it()
    assert offices.merge(run, offices.answer).exit_code == 2


def test_a_department_that_asks_is_told_that_the_log_was_not_compared(
    run: Run, offices: Offices, tmp_path: Path
) -> None:
    office = make_home(tmp_path / "housing", offices.world, HOUSING)

    async def sync() -> None:
        exchange = AuditedExchange(offices.world)
        async with Session(office, exchange, exchange.clock) as session:
            await session.sync()

    asyncio.run(sync())
    offices.office = office
    offices.ask(run)
    offices.answer_it()
    result = offices.merge(run)
    assert result.exit_code == 3, result.output
    assert "received" in result.stdout
    assert "not checked against the log: only an auditor's home has a mirror of it" in result.stderr
