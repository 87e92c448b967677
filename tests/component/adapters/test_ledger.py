import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest

import adapters
from adapters.anchor import Anchor, AnchorError
from adapters.ledger import (
    PAGE,
    Ledger,
    LedgerAnswer,
    LedgerBusyError,
    LedgerError,
    LedgerFatalError,
    LedgerHead,
    Settlement,
)
from exchange.core.envelope import ENTRY, REQUEST, RESPONSE, Envelope
from exchange.core.wire import encode
from exchange.v1.access_pb2 import AccessLeaf
from exchange.v1.envelope_pb2 import Envelope as EnvelopeMessage
from exchange.v1.envelope_pb2 import Receipt
from exchange.v1.ledger_pb2 import LedgerRow
from exchange.v1.request_pb2 import RequestHeader, ResponseHeader, Sealed

REQUESTER = "exchange://shanshui/police/desk"
RELEASED, UNRELEASED, REFUSED = 1, 2, 3
REVOKED = 5
ERASE_AFTER = 10_000
PROJECT = Path(adapters.__file__).parents[1]

Commit = Callable[[Ledger, Sequence[LedgerAnswer]], None]


def request_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def envelope(kind: str, payload: bytes, *attachments: bytes) -> Envelope:
    return Envelope(
        key_id=bytes(32),
        kind=kind,
        payload=payload,
        tree_size=1,
        leaf_index=0,
        path=(),
        signature=b"signature",
        attachments=attachments,
    )


def ciphertext(number: int, repeats: int = 0) -> bytes:
    """What nobody else writes into the file, longer than one page for every third number."""
    return sha256(b"ciphertext %d" % number).digest() * (repeats or (400 if number % 3 == 0 else 20))


def answer(
    head: LedgerHead,
    asked: Sequence[str] = ("P1",),
    told: Sequence[str] = (),
    number: int = 0,
    repeats: int = 0,
) -> LedgerAnswer:
    """The next answer, to the request with the id `number` (the row's number if 0)."""
    identity = request_id(number or head.number + 1)
    question = RequestHeader(
        format=1,
        request_id=identity,
        requester=REQUESTER,
        officer="officer-7",
        dataset=b"d" * 16,
        agreement=b"g" * 32,
        fields=["name", "born"],
        purpose="welfare.check",
        case_id="C-1",
    )
    request = envelope(REQUEST, encode(Sealed(header=encode(question), capsule_sha256=b"c" * 32)))
    header = ResponseHeader(
        format=1,
        request_digest=request.digest,
        ledger_number=head.number + 1,
        ledger_previous=head.chain,
    )
    body = ciphertext(head.number + 1, repeats)
    sealed = Sealed(header=encode(header), ciphertext_sha256=sha256(body).digest())
    response = envelope(RESPONSE, encode(sealed), body)
    row = LedgerRow(
        format=1,
        number=head.number + 1,
        time=1_000 + head.number,
        requester=REQUESTER,
        request_id=identity,
        request_digest=request.digest,
        response_digest=response.digest,
        query=b"query",
        asked=asked,
        told=told,
        rows=len(told),
    )
    bare = response.bare().encode()
    return LedgerAnswer(encode(row), request.encode(), bare, response.encode(), ERASE_AFTER)


def of_another_kind(data: bytes) -> bytes:
    message = EnvelopeMessage.FromString(data)
    message.kind = ENTRY
    return encode(message)


def changed_row(data: bytes, **values: object) -> bytes:
    row = LedgerRow.FromString(data)
    for name, value in values.items():
        setattr(row, name, value)
    return encode(row)


def batch(head: LedgerHead, count: int) -> list[LedgerAnswer]:
    answers = list[LedgerAnswer]()
    for _ in range(count):
        answers.append(answer(head, asked=("P1", f"P{head.number + 2}"), told=("P1",)))
        head = head.after(answers[-1].row)
    return answers


def receipt(digest: bytes, kind: int = RELEASED, code: int = 0, index: int = 0) -> bytes:
    leaf = AccessLeaf(format=1, kind=kind, code=code, response_digest=digest)  # type: ignore[arg-type]
    return encode(Receipt(index=index, leaf=encode(leaf), checkpoint=b"checkpoint"))


def settlement(digest: bytes, kind: int = RELEASED, code: int = 0, index: int = 0) -> Settlement:
    return Settlement(digest, kind, code, index, receipt(digest, kind, code, index))


def digest_of(one: LedgerAnswer) -> bytes:
    return LedgerRow.FromString(one.row).response_digest


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Callable[[bytes], bool]]:
    """Looks for bytes in every file. A test asks for this before its ledger, to have it closed after that.

    A process that closes a file loses its POSIX locks on it, SQLite's included: nothing is closed until the end.
    """
    with ExitStack() as files:
        yield lambda needle: any(needle in files.enter_context(file.open("rb")).read() for file in tmp_path.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(path)) as opened:
        yield opened


def alter(path: Path, statement: str, values: Sequence[object] = ()) -> None:
    """Changes the file behind the ledger's back."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(statement, values)
        db.commit()


# --- chain --------------------------------------------------------------------------------------------


def test_starts_at_zero(ledger: Ledger) -> None:
    assert ledger.head == LedgerHead(0, bytes(32))
    assert ledger.find(REQUESTER, request_id(1)) is None
    assert (ledger.owed(), ledger.owed_count, ledger.oldest_owed) == ((), 0, None)
    ledger.verify()


def test_chain_hash_is_sha256_of_the_previous_one_and_the_row(ledger: Ledger) -> None:
    first = answer(ledger.head)
    ledger.commit([first])
    one = sha256(bytes(32) + first.row).digest()
    assert ledger.head == LedgerHead(1, one)
    second = answer(ledger.head)
    ledger.commit([second])
    assert ledger.head == LedgerHead(2, sha256(one + second.row).digest())


def test_restart_continues_the_chain(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, PAGE + 3))
        ledger.settle_all([settlement(one.response_digest, index=one.number) for one in ledger.owed()[1:]])
        head = ledger.head
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head == head
        assert (ledger.owed_count, ledger.oldest_owed) == (1, 1_000)
        ledger.commit(batch(head, 2))
        assert [one.number for one in ledger.owed()] == [1, head.number + 1, head.number + 2]
        ledger.verify()


def test_an_empty_batch_changes_nothing(ledger: Ledger) -> None:
    ledger.commit([])
    assert ledger.head.number == 0


def test_refuses_a_row_that_does_not_continue_the_head(ledger: Ledger) -> None:
    first = answer(ledger.head)
    ledger.commit([first])
    head = ledger.head
    wrong = [answer(LedgerHead()), answer(LedgerHead(2, head.chain)), answer(LedgerHead(1, bytes(32)))]
    for one in wrong:
        with pytest.raises(LedgerError, match="row 2: its"):
            ledger.commit([one])
    assert ledger.head == head
    ledger.commit([answer(head)])


@pytest.mark.parametrize(
    "change",
    [
        lambda one, other: replace(one, request=other.request),
        lambda one, other: replace(one, response=other.response),
        lambda one, other: replace(one, response=one.request),
        lambda one, other: replace(one, response=one.sealed),
        lambda one, other: replace(one, request=b"\xff"),
        lambda one, other: replace(one, row=b"\xff"),
        lambda one, other: replace(one, request=of_another_kind(one.request)),
        lambda one, other: replace(one, response=of_another_kind(one.response)),
        lambda one, other: replace(one, row=changed_row(one.row, requester=REQUESTER + "s")),
        lambda one, other: replace(one, row=changed_row(one.row, request_id=request_id(99))),
        lambda one, other: replace(one, row=changed_row(one.row, number=2)),
    ],
)
def test_refuses_an_answer_that_contradicts_its_envelopes(
    ledger: Ledger, change: Callable[[LedgerAnswer, LedgerAnswer], LedgerAnswer]
) -> None:
    good = answer(ledger.head)
    with pytest.raises(LedgerError, match="row 1: "):
        ledger.commit([change(good, answer(ledger.head, number=9))])
    ledger.commit([good])
    ledger.verify()


def test_refuses_a_number_beyond_sqlites(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="larger"):
        ledger.commit([replace(answer(ledger.head), erase_after=2**63)])
    ledger.commit([answer(ledger.head)])


# --- one answer per request ---------------------------------------------------------------------------


def test_finds_the_stored_answer(ledger: Ledger) -> None:
    one = answer(ledger.head)
    ledger.commit([one])
    stored = ledger.find(REQUESTER, request_id(1))
    assert stored is not None
    row = LedgerRow.FromString(one.row)
    assert (stored.number, stored.sealed) == (1, one.sealed)
    assert (stored.request_digest, stored.response_digest) == (row.request_digest, row.response_digest)
    assert ledger.find(REQUESTER + "s", request_id(1)) is None


def test_second_answer_to_a_request_fails_and_loses_nothing(ledger: Ledger) -> None:
    ledger.commit([answer(ledger.head)])
    head = ledger.head
    fresh = answer(head, number=7)
    again = answer(head.after(fresh.row), number=1)
    with pytest.raises(LedgerError, match=r"answers\.requester, answers\.request_id"):
        ledger.commit([fresh, again])
    assert (ledger.head, ledger.owed_count) == (head, 1)
    assert ledger.find(REQUESTER, request_id(7)) is None
    ledger.commit([fresh])
    ledger.verify()


def test_same_request_twice_in_a_batch_fails(ledger: Ledger) -> None:
    first = answer(ledger.head)
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.commit([first, answer(ledger.head.after(first.row), number=1)])
    assert ledger.head.number == 0


# --- failures -----------------------------------------------------------------------------------------


class Faulty(sqlite3.Connection):
    """Fails once, at the step with the given number, before or after that step has taken effect."""

    steps = -1
    persisted = False
    code = sqlite3.SQLITE_IOERR_FSYNC
    opened: "list[Faulty]"

    @classmethod
    def arm(cls, step: int, persisted: bool, code: int) -> None:
        cls.steps, cls.persisted, cls.code = step, persisted, code

    def execute(self, statement: str, values: object = (), /) -> sqlite3.Cursor:
        return self._step(partial(super().execute, statement, values))

    def executemany(self, statement: str, values: object, /) -> sqlite3.Cursor:
        return self._step(partial(super().executemany, statement, values))

    def _step(self, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        failing, Faulty.steps = Faulty.steps == 0, Faulty.steps - 1
        if not failing:
            return run()
        if Faulty.persisted:
            run()
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode = Faulty.code
        raise error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[Faulty]:
    monkeypatch.setattr(Faulty, "steps", -1)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))
    return Faulty


COMMIT_STEPS = 9  # BEGIN, seven tables, COMMIT
SETTLE_STEPS = 6  # BEGIN, two questions, two changes, COMMIT
ERASE_STEPS = 5  # BEGIN, three changes, COMMIT


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_BUSY])
@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("step", range(COMMIT_STEPS))
def test_a_batch_is_whole_or_absent_whatever_step_fails(
    path: Path, faulty: type[Faulty], step: int, persisted: bool, code: int
) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
        before = ledger.head
        answers = batch(before, 3)
        faulty.arm(step, persisted, code)
        fatal = code != sqlite3.SQLITE_BUSY
        with pytest.raises(LedgerError) as raised:
            ledger.commit(answers)
        assert isinstance(raised.value, LedgerFatalError) == fatal
        ledger.place_anchor()
        # What a failing disk left behind may not be durable.
        assert not fatal or Anchor(path).seen().number <= 2
        with closing(Ledger.read(path)) as reader:
            after = reader.head
        # The ledger knows what its file holds, also when COMMIT took effect and failed.
        assert (ledger.head, ledger.owed_count) == (after, after.number)
        if fatal:
            with pytest.raises(LedgerFatalError, match="has stopped"):
                ledger.commit(batch(after, 1))
    assert after.number == (5 if persisted and step == COMMIT_STEPS - 1 else 2)
    with closing(Ledger.open(path)) as ledger:
        ledger.verify()
        assert ledger.head == after
        ledger.commit(batch(after, 3))
        ledger.verify()
        assert ledger.owed_count == after.number + 3


@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("step", range(SETTLE_STEPS))
def test_a_settlement_is_whole_or_absent_whatever_step_fails(
    path: Path, faulty: type[Faulty], step: int, persisted: bool
) -> None:
    with closing(Ledger.open(path)) as ledger:
        one = answer(ledger.head)
        ledger.commit([one])
        faulty.arm(step, persisted, sqlite3.SQLITE_IOERR_WRITE)
        with pytest.raises(LedgerFatalError):
            ledger.settle_all([settlement(digest_of(one))])
    with closing(Ledger.open(path)) as ledger:
        ledger.verify()
        assert ledger.owed_count == (0 if persisted and step == SETTLE_STEPS - 1 else 1)
        ledger.settle_all([settlement(digest_of(one))])
        assert ledger.owed_count == 0


@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("step", range(ERASE_STEPS))
def test_an_erasure_that_failed_is_made_good(
    on_disk: Callable[[bytes], bool], path: Path, faulty: type[Faulty], step: int, persisted: bool
) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 4))
        faulty.arm(step, persisted, sqlite3.SQLITE_IOERR_WRITE)
        with pytest.raises(LedgerFatalError):
            ledger.erase_sealed(ERASE_AFTER)
    with closing(Ledger.open(path)) as ledger:
        ledger.erase_sealed(ERASE_AFTER)
        assert not on_disk(ciphertext(3)[:32])
        ledger.verify()


def test_a_full_disk_is_fatal_and_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[sqlite3.Connection]()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
        head = ledger.head
        (pages,) = opened[0].execute("PRAGMA page_count").fetchone()
        opened[0].execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerFatalError, match=r"disk is full.*make room"):
            ledger.commit(batch(head, 50))
        assert ledger.head == head
    with closing(Ledger.open(path)) as ledger:
        ledger.verify()
        ledger.commit(batch(head, 50))


def test_a_read_only_ledger_is_fatal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(path).close()
    # Root writes what it likes, so the permission is taken from the connection instead of the file.
    writable = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **k: writable(file.replace("mode=rw", "mode=ro"), **k))
    with pytest.raises(LedgerFatalError, match=r"readonly.*check its permissions"):
        Ledger.open(path)


def test_a_failed_start_lets_go_of_the_ledger(path: Path, faulty: type[Faulty]) -> None:
    faulty.arm(5, False, sqlite3.SQLITE_IOERR_READ)
    with pytest.raises(LedgerFatalError):
        Ledger.open(path)
    Ledger.open(path).close()


@pytest.mark.parametrize("opening", [Ledger.open, Ledger.read])
def test_says_what_is_wrong_with_the_file(tmp_path: Path, opening: Callable[[Path], Ledger]) -> None:
    with pytest.raises(LedgerFatalError, match=r"unable to open|No such file"):
        opening(tmp_path / "missing" / "ledger.db")
    text = tmp_path / "text"
    text.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerFatalError, match="not a database"):
        opening(text)
    other = tmp_path / "other.db"
    alter(other, "CREATE TABLE other (x)")
    with pytest.raises(LedgerError, match="no ledger of format 1"):
        opening(other)


def test_keeps_the_promised_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[sqlite3.Connection]()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[-1])
    with closing(Ledger.open(path)):
        settings = [
            opened[0].execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert settings == ["wal", 2, 1]
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


KILLED = """
import os, signal, sys
from pathlib import Path
from adapters.ledger import Ledger, LedgerAnswer
path, *parts, erase_after = sys.argv[1:]
ledger = Ledger.open(Path(path))
ledger.commit([LedgerAnswer(*map(bytes.fromhex, parts), int(erase_after))])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_survives_a_kill_right_after_the_commit(path: Path) -> None:
    one = answer(LedgerHead())
    parts = [part.hex() for part in (one.row, one.request, one.response, one.sealed)]
    command = [sys.executable, "-c", KILLED, os.fspath(path), *parts, str(one.erase_after)]
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == -signal.SIGKILL
    with closing(Ledger.read(path)) as reader:
        assert reader.head.number == 1
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head == LedgerHead().after(one.row)
        ledger.verify()


# --- one writer, many readers -------------------------------------------------------------------------


def test_refuses_a_second_writer(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        with pytest.raises(LedgerBusyError, match="stop it, or give this one its own ledger"):
            Ledger.open(path)
        ledger.commit([answer(ledger.head)])
    Ledger.open(path).close()


def test_reads_beside_the_writer(path: Path, ledger: Ledger) -> None:
    done = Event()

    def write() -> None:
        for _ in range(30):
            ledger.commit(batch(ledger.head, 4))
            ledger.settle_all([settlement(one.response_digest, index=one.number) for one in ledger.owed()[:3]])
        done.set()

    writer = Thread(target=write)
    with closing(Ledger.read(path)) as reader:
        writer.start()
        seen = 0
        while not done.is_set():
            head = reader.head
            assert head.number % 4 == 0
            assert head.number >= seen
            seen = head.number
            reader.verify()
            assert len(ledger.owed()) <= 30 + 4
            assert seen == 0 or ledger.find(REQUESTER, request_id(seen)) is not None
        writer.join()
        assert reader.head.number == 120
        assert len(reader.told("P1")) == 120


def test_reads_a_ledger_whose_adapter_is_down(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit([answer(ledger.head)])
    with closing(Ledger.read(path)) as reader:
        assert [one.number for one in reader.owed()] == [1]
        reader.verify()
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head.number == 1


def test_closing_waits_for_a_commit_under_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, finish = Event(), Event()

    class Slow(sqlite3.Connection):
        def execute(self, statement: str, values: object = (), /) -> sqlite3.Cursor:
            if statement == "COMMIT" and armed:
                started.set()
                finish.wait()
            return super().execute(statement, values)  # type: ignore[arg-type]

    armed = list[bool]()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Slow))
    ledger = Ledger.open(path)
    armed.append(True)
    writer, closer = Thread(target=ledger.commit, args=(batch(ledger.head, 2),)), Thread(target=ledger.close)
    writer.start()
    started.wait()
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    finish.set()
    writer.join()
    closer.join()
    armed.clear()
    with closing(Ledger.open(path)) as again:
        assert again.head.number == 2


# --- settlement ---------------------------------------------------------------------------------------


def test_an_answer_is_owed_until_it_is_settled(ledger: Ledger) -> None:
    answers = batch(ledger.head, 3)
    ledger.commit(answers)
    assert [one.number for one in ledger.owed()] == [1, 2, 3]
    assert (ledger.owed()[0].request, ledger.owed()[0].response) == (answers[0].request, answers[0].response)
    assert (ledger.owed_count, ledger.oldest_owed) == (3, 1_000)
    digest = digest_of(answers[0])
    ledger.settle(digest, RELEASED, 0, 4, receipt(digest, RELEASED, 0, 4))
    assert [one.number for one in ledger.owed()] == [2, 3]
    assert (ledger.owed_count, ledger.oldest_owed) == (2, 1_001)
    ledger.verify()


def test_unreleased_first_and_released_later(ledger: Ledger) -> None:
    one = answer(ledger.head)
    ledger.commit([one])
    first = settlement(digest_of(one), UNRELEASED, REVOKED, 3)
    later = settlement(digest_of(one), RELEASED, 0, 8)
    ledger.settle_all([first])
    ledger.settle_all([later, first])
    assert ledger.told("P1")[0].settlements == (first, later)
    assert ledger.owed_count == 0
    ledger.verify()


def test_settling_again_changes_nothing(ledger: Ledger) -> None:
    one = answer(ledger.head)
    ledger.commit([one])
    known = settlement(digest_of(one), index=3)
    ledger.settle_all([known])
    newer = encode(Receipt(index=3, leaf=Receipt.FromString(known.receipt).leaf, checkpoint=b"a newer one"))
    ledger.settle_all([known, replace(known, receipt=newer)])
    assert ledger.told("P1")[0].settlements == (known,)


def test_refuses_settlements_that_cannot_be(ledger: Ledger) -> None:
    one = answer(ledger.head)
    ledger.commit([one])
    digest, good = digest_of(one), settlement(digest_of(one))
    wrong = [
        settlement(b"x" * 32, index=2),
        settlement(digest, RELEASED, REVOKED, index=2),
        settlement(digest, UNRELEASED, 0, index=2),
        settlement(digest, REFUSED, REVOKED, index=2),
        replace(good, index=2),
        replace(good, kind=UNRELEASED, index=2),
        replace(good, receipt=receipt(b"y" * 32)),
        replace(good, receipt=b"\xff"),
    ]
    for bad in wrong:
        with pytest.raises(LedgerError):
            ledger.settle_all([good, bad])
    assert ledger.owed_count == 1
    ledger.settle_all([good])
    with pytest.raises(LedgerError, match="was another before"):
        ledger.settle_all([settlement(digest, UNRELEASED, REVOKED)])
    assert ledger.told("P1")[0].settlements == (good,)


# --- who was told -------------------------------------------------------------------------------------


def test_tells_who_asked_and_was_told_about_a_person(ledger: Ledger) -> None:
    head, answers = ledger.head, list[LedgerAnswer]()
    for asked, told in ((("P1", "P2"), ("P1",)), (("P3",), ()), ((), ("P2", "P9")), (("P2",), ("P2",))):
        answers.append(answer(head, asked, told))
        head = head.after(answers[-1].row)
    ledger.commit(answers)
    settled = settlement(digest_of(answers[2]), index=5)
    ledger.settle_all([settled])
    found = ledger.told("P2")
    assert [(one.number, one.asked, one.told, one.rows) for one in found] == [
        (1, True, False, 1),
        (3, False, True, 2),
        (4, True, True, 1),
    ]
    assert [one.settlements for one in found] == [None, (settled,), None]
    first = found[0]
    assert (first.time, first.requester, first.officer) == (1_000, REQUESTER, "officer-7")
    assert (first.purpose, first.case_id, first.dataset) == ("welfare.check", "C-1", b"d" * 16)
    assert first.fields == ("name", "born")
    assert ledger.told("P") == ()


# --- erasing ------------------------------------------------------------------------------------------


def test_erased_answers_are_gone_from_every_file(on_disk: Callable[[bytes], bool], ledger: Ledger) -> None:
    early = [replace(one, erase_after=n % 2) for n, one in enumerate(batch(ledger.head, 40), 1)]
    ledger.commit(early)
    markers = [ciphertext(number)[:32] for number in range(1, 41)]
    assert all(on_disk(marker) for marker in markers)
    assert ledger.erase_sealed(-1) == 0
    assert ledger.erase_sealed(0) == 20
    assert [on_disk(marker) for marker in markers] == [n % 2 == 1 for n in range(1, 41)]
    assert ledger.erase_sealed(1) == 20
    assert not any(on_disk(marker) for marker in markers)
    stored = ledger.find(REQUESTER, request_id(1))
    assert stored is not None
    assert stored.sealed is None
    ledger.verify()


def test_erasing_leaves_no_copy_that_a_moving_page_made(on_disk: Callable[[bytes], bool], ledger: Ledger) -> None:
    # With this seed SQLite 3.40.1 left a copy behind when rows were deleted next to others, secure_delete or not.
    chosen = Random(25)
    erase_after = dict[int, int]()
    for now in range(8):
        head, answers = ledger.head, list[LedgerAnswer]()
        for _ in range(5):
            one = answer(head, repeats=chosen.choice((5, 15)))
            head = head.after(one.row)
            erase_after[head.number] = now + chosen.randint(1, 6)
            answers.append(replace(one, erase_after=erase_after[head.number]))
        ledger.commit(answers)
        ledger.erase_sealed(now)
        left = {number for number in erase_after if on_disk(ciphertext(number, 1))}
        assert left == {number for number, time in erase_after.items() if time > now}
    ledger.verify()


def test_space_of_erased_answers_is_used_again(path: Path, ledger: Ledger) -> None:
    for now in range(10):
        ledger.commit([replace(one, erase_after=now) for one in batch(ledger.head, 100)])
        ledger.erase_sealed(now)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM sealed").fetchone() <= (100,)


def test_a_reader_only_delays_the_erasure(on_disk: Callable[[bytes], bool], path: Path, ledger: Ledger) -> None:
    ledger.commit(batch(ledger.head, 3))
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as other:
        reading = other.execute("SELECT number FROM answers")
        reading.fetchone()
        assert ledger.erase_sealed(ERASE_AFTER) == 3
        assert on_disk(ciphertext(3)[:32])
        ledger.commit(batch(ledger.head, 1))
        reading.close()
    assert ledger.erase_sealed(0) == 0
    assert not on_disk(ciphertext(3)[:32])


# --- verification -------------------------------------------------------------------------------------

STARTS = ("number", "chain", "declaration")
COLUMNS = [
    (table, column)
    for table, columns in {
        "answers": "number time requester request_id request_digest response_digest row chain request response",
        "subjects": "number subject",
        "sealed": "number envelope",
        "kept": "number",
        "owed": "number",
        "settlements": "number log_index kind code receipt",
        "uses": "number agreement department time",
        "tallies": "agreement department day count",
    }.items()
    for column in columns.split()
]


def tampered(value: object) -> object:
    if isinstance(value, bytes):
        middle = len(value) // 3
        return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]
    return value + 100 if isinstance(value, int) else f"{value}x"


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five answers; the last two are owed, and the third was erased."""
    path = tmp_path_factory.mktemp("filled") / "ledger.db"
    with closing(Ledger.open(path)) as ledger:
        answers = batch(ledger.head, 5)
        answers[2] = replace(answers[2], erase_after=0)
        ledger.commit(answers)
        ledger.settle_all([settlement(digest_of(one), index=n) for n, one in enumerate(answers[:3])])
        ledger.settle_all([settlement(digest_of(answers[1]), UNRELEASED, REVOKED, index=9)])
        ledger.erase_sealed(0)
        ledger.verify()
    return path


@pytest.fixture
def filled(path: Path, filled_once: Path) -> Path:
    return Path(shutil.copy(filled_once, path))


def test_every_column_is_known_to_the_test(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {(table, column[1]) for table in tables for column in db.execute(f"PRAGMA table_info({table})")}
    # When a sealed answer may be erased is bound by nothing; where a ledger began anew is looked at by itself.
    assert found - {("kept", "erase_after"), *(("starts", name) for name in STARTS)} == set(COLUMNS)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_finds_a_change_in_any_column_of_any_row(filled: Path, table: str, column: str) -> None:
    with closing(sqlite3.connect(filled)) as db:
        kept = db.execute(f"SELECT * FROM {table}").fetchall()
        names = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
    place = names.index(column)
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})"
    for chosen in range(len(kept)):
        changed = [list(row) for row in kept]
        changed[chosen][place] = tampered(changed[chosen][place])
        with closing(sqlite3.connect(filled)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute(f"DELETE FROM {table}")
            db.executemany(insert, changed)
            db.commit()
        with closing(Ledger.read(filled)) as reader, pytest.raises(LedgerError, match=r"row \d+|add up to"):
            reader.verify()


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("DELETE FROM answers WHERE number = 3", 3),
        ("DELETE FROM answers WHERE number = 1", 1),
        ("DELETE FROM answers WHERE number < 5", 1),
        ("DELETE FROM answers WHERE number = 5", 5),
        ("DELETE FROM subjects WHERE number = 2 AND subject = 'P1'", 2),
        ("INSERT INTO subjects VALUES (2, 'P7')", 2),
        ("INSERT INTO subjects VALUES (0, 'P7')", 0),
        ("DELETE FROM settlements WHERE number = 1", 1),
        ("DELETE FROM owed WHERE number = 4", 4),
        ("INSERT INTO owed VALUES (1)", 1),
        ("INSERT INTO owed VALUES (77)", 77),
        ("INSERT INTO sealed VALUES (78, x'00')", 78),
        ("INSERT INTO kept VALUES (79, 1)", 79),
        ("UPDATE sealed SET envelope = (SELECT envelope FROM sealed WHERE number = 1) WHERE number = 2", 2),
    ],
)
def test_names_the_first_bad_row(filled: Path, statement: str, row: int) -> None:
    alter(filled, statement)
    with closing(Ledger.read(filled)) as reader, pytest.raises(LedgerError, match=rf"row {row}\b"):
        reader.verify()


def test_finds_a_rewritten_row_whose_own_digests_fit(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as db:
        (data,) = db.execute("SELECT row FROM answers WHERE number = 2").fetchone()
    row = LedgerRow.FromString(data)
    row.query = b"another question"
    alter(filled, "UPDATE answers SET row = ? WHERE number = 2", [encode(row)])
    with closing(Ledger.read(filled)) as reader, pytest.raises(LedgerError, match="row 2: its chain hash"):
        reader.verify()


def test_does_not_start_on_a_changed_tail(filled: Path) -> None:
    alter(filled, "UPDATE answers SET time = 5 WHERE number = 4")
    with pytest.raises(LedgerError, match="row 4: its index"):
        Ledger.open(filled)


def test_verifies_across_pages(path: Path, ledger: Ledger) -> None:
    ledger.commit(batch(ledger.head, 2 * PAGE + 1))
    ledger.verify()
    alter(path, f"UPDATE answers SET time = 5 WHERE number = {PAGE + 1}")
    with pytest.raises(LedgerError, match=f"row {PAGE + 1}: its index"):
        ledger.verify()


# --- the anchor ---------------------------------------------------------------------------------------


def test_the_first_run_places_the_anchor(path: Path, ledger: Ledger) -> None:
    assert Anchor(path).is_placed
    assert Anchor(path).seen() == LedgerHead()


def test_the_anchor_follows_on_request_and_at_the_end(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
        assert Anchor(path).seen() == LedgerHead()
        ledger.place_anchor()
        assert Anchor(path).seen() == ledger.head
        ledger.commit(batch(ledger.head, 1))
        head = ledger.head
    assert Anchor(path).seen() == head


def test_a_lost_ledger_is_not_replaced_by_an_empty_one(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    path.unlink()
    for attempt in (Ledger.open, Ledger.open, Ledger.read):
        with pytest.raises(AnchorError, match="it is missing, but its anchor has seen 2 rows"):
            attempt(path)
    assert not path.exists()


def test_an_emptied_ledger_is_refused(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    path.write_bytes(b"")
    for attempt in (Ledger.open, Ledger.open, Ledger.read):
        with pytest.raises(AnchorError, match="it has 0 rows, but its anchor has seen 2"):
            attempt(path)


def test_an_older_copy_of_the_ledger_is_refused(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    older = shutil.copy(path, path.with_name("older.db"))
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 1))
    shutil.copy(older, path)
    for attempt in (Ledger.open, Ledger.open, Ledger.read):
        with pytest.raises(AnchorError, match="it has 2 rows, but its anchor has seen 3"):
            attempt(path)


def test_a_ledger_that_began_anew_is_refused_however_long_it_is(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 1))
    with closing(Ledger.open(path.with_name("other.db"))) as other:
        first = answer(other.head, asked=("P9",))
        other.commit([first, *batch(other.head.after(first.row), 4)])
    path.with_name("other.db").rename(path)
    with pytest.raises(AnchorError, match="its row 1 is not the one"):
        Ledger.open(path)


def test_a_ledger_whose_anchor_a_crash_left_behind_is_taken_and_anchored(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 1))
        ledger.place_anchor()
        behind = path.with_name("ledger.db.anchor").read_bytes()
        ledger.commit(batch(ledger.head, 2))
        # A reader while the adapter writes: it only ever finds the anchor behind.
        Ledger.read(path).close()
    path.with_name("ledger.db.anchor").write_bytes(behind)
    with closing(Ledger.open(path)) as ledger:
        assert ledger.head.number == 3
        assert Anchor(path).seen() == ledger.head


def test_a_ledger_from_before_there_were_anchors_gets_one(path: Path) -> None:
    with closing(Ledger.open(path)) as ledger:
        ledger.commit(batch(ledger.head, 2))
    path.with_name("ledger.db.anchor").unlink()
    Ledger.read(path).close()
    assert not Anchor(path).is_placed
    with closing(Ledger.open(path)) as ledger:
        assert Anchor(path).seen() == ledger.head


def test_finds_an_answer_by_its_response(ledger: Ledger) -> None:
    answers = batch(ledger.head, 2)
    ledger.commit(answers)
    found = ledger.answer(digest_of(answers[1]))
    assert found is not None
    assert found.number == 2
    assert ledger.answer(bytes(32)) is None
