"""The ledger of use: every answer that is handed over is in it, chained, before a row is seen."""

import asyncio
import multiprocessing
import sqlite3
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from exchange.client import Answer, EvidenceError, ExchangeClient, Session, UnavailableError, use_file
from exchange.client.use_file import FILE, UseFile
from exchange.core.use_records import START, chained
from exchange.core.wire import encode
from exchange.home import Home
from exchange.transport import SUBMIT
from exchange.v1.use_pb2 import UseKind, UseRecord
from tests.component.client.test_cosignatures import ask
from tests.memory import fixed
from tests.simulator import Simulator
from tests.world import ID_NUMBER, PURPOSE, ROWS

USAGE = namedtuple("USAGE", "total used free")


def file(home: Home) -> UseFile:
    return UseFile(home.path / FILE)


def answered(number: int) -> UseRecord:
    return UseRecord(
        kind=UseKind.USE_KIND_ANSWERED,
        request_id=fixed(f"request {number}", 16),
        request_digest=fixed(f"digest {number}", 32),
        case_id=f"ZF-{number}",
        officer="officer-7",
    )


async def test_an_answer_is_recorded_before_it_is_handed_over(client: ExchangeClient, home: Home) -> None:
    answer = await ask(client)
    assert isinstance(answer, Answer)
    [record] = file(home).records()
    assert (record.number, record.kind) == (1, UseKind.USE_KIND_ANSWERED)
    assert (record.request_id, record.request_digest) == (answer.request_id, answer.request.digest)
    assert (record.log_index, record.rows) == (answer.index, len(ROWS))
    assert (record.purpose, record.dataset) == (
        PURPOSE,
        client.session.directory.dataset_named("exchange://city.example/population", "residents").object_id,
    )  # type: ignore[union-attr]


async def test_no_value_of_a_record_or_a_query_is_in_the_file(client: ExchangeClient, home: Home) -> None:
    await ask(client)
    data = (home.path / FILE).read_bytes()
    assert b"ZF-2027-0001" in data
    for value in (ID_NUMBER, *map(str, ROWS[0].values())):
        assert value.encode() not in data
    assert (home.path / FILE).stat().st_mode & 0o077 == 0


async def test_the_same_answer_again_is_recorded_once(client: ExchangeClient, home: Home) -> None:
    answer = await ask(client)
    again = await client.submit(await _prepared(client))
    assert again.index != answer.index
    prepared = await _prepared(client)
    first, second = await client.submit(prepared), await client.submit(prepared)
    assert first.index == second.index
    assert [record.number for record in file(home).records()] == [1, 2, 3]


async def test_answers_at_once_are_chained_one_after_the_other(client: ExchangeClient, home: Home) -> None:
    answers = await asyncio.gather(*(ask(client) for _ in range(20)))
    records = list(file(home).records())
    assert {record.log_index for record in records} == {answer.index for answer in answers}
    chain = START
    for record in records:
        chain = chained(chain, encode(record))
    assert file(home).head().chain == chain


async def test_a_full_disk_is_told_before_anything_is_asked(
    client: ExchangeClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_file.shutil, "disk_usage", lambda _path: USAGE(1, 1, use_file.ROOM - 1))
    prepared = await _prepared(client)
    with pytest.raises(UnavailableError, match="is full: nothing is asked") as caught:
        await client.submit(prepared)
    assert "free some space" in caught.value.hint
    assert simulator.count(SUBMIT) == 0
    monkeypatch.undo()
    assert (await client.submit(prepared)).rows == ROWS


async def test_a_ledger_that_cannot_be_opened_is_told_before_anything_is_asked(
    client: ExchangeClient, simulator: Simulator, home: Home
) -> None:
    (home.path / FILE).write_bytes(b"this is no database, whatever its name may say" * 100)
    with pytest.raises(EvidenceError, match="was altered"):
        await ask(client)
    assert simulator.count(SUBMIT) == 0


async def test_a_disk_that_fills_while_the_answer_is_under_way_hands_over_no_row_and_loses_none(
    client: ExchangeClient, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = await _prepared(client)

    def full(_file: UseFile, _records: object, _now: int) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(UseFile, "append", _failing(full))
        with pytest.raises(UnavailableError, match="disk is full") as caught:
            await client.submit(prepared)
    assert "submit the same prepared request again" in caught.value.hint
    assert list(file(home).records()) == []
    answer = await client.submit(prepared)
    assert answer.rows == ROWS
    assert [record.log_index for record in file(home).records()] == [answer.index]


async def test_an_answer_whose_process_died_before_the_record_is_recorded_when_it_is_fetched_again(
    session: Session, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DiedError(BaseException):
        """The process is gone."""

    def die(_file: UseFile, _records: object, _now: int) -> Any:
        raise DiedError

    async with ExchangeClient(session) as client:
        prepared = await _prepared(client)
        with monkeypatch.context() as patch:
            patch.setattr(session.use, "keep", lambda *_arguments: _raise(DiedError()))
            with pytest.raises(DiedError):
                await client.submit(prepared)
        assert list(file(home).records()) == []
        assert (await client.submit(prepared)).rows == ROWS
    assert len(list(file(home).records())) == 1


# The file.


def filled(path: Path, count: int = 5) -> UseFile:
    ledger = UseFile(path / FILE)
    ledger.append([answered(number) for number in range(1, count + 1)], 1000)
    return ledger


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE records SET record = (SELECT record FROM records WHERE number = 1) WHERE number = 3", "record 3"),
        ("UPDATE records SET chain = zeroblob(32) WHERE number = 3", "record 3 is not the one"),
        ("DELETE FROM records WHERE number = 3", "record 3 is missing"),
        ("DELETE FROM records WHERE number = 1", "record 1 is missing"),
        ("UPDATE records SET record = zeroblob(10) WHERE number = 2", "record 2|cannot be parsed"),
        ("INSERT INTO base VALUES (0, 2, zeroblob(32))", "record 3 is not the one"),
    ],
)
def test_what_was_altered_or_taken_out_is_found(tmp_path: Path, statement: str, reason: str) -> None:
    ledger = filled(tmp_path)
    connection = sqlite3.connect(ledger.path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(EvidenceError, match=reason):
        list(ledger.records())


def test_times_never_go_back(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    [late] = ledger.append([answered(2)], 500)
    assert late.time == 1000


def test_a_pruned_ledger_verifies_from_what_was_kept(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    head = ledger.head()
    assert ledger.prune(3) == 3
    assert [record.number for record in ledger.records()] == [4, 5]
    assert (ledger.head(), ledger.first()) == (head, 4)
    assert ledger.prune(9) == 0
    assert ledger.prune(5) == 2
    assert (list(ledger.records()), ledger.head()) == ([], head)
    [added] = ledger.append([answered(6)], 2000)
    assert added.number == 6
    assert [record.number for record in ledger.records()] == [6]


def test_a_bad_record_adds_nothing(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 1)
    with pytest.raises(Exception, match="pseudonym"):
        ledger.append([answered(2), UseRecord(kind=UseKind.USE_KIND_USED, case_id="ZF-1", effect="x")], 2000)
    assert ledger.head().number == 1


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    connection = sqlite3.connect(ledger.path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(EvidenceError, match="version 9"):
        ledger.head()


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_some, args=(tmp_path / FILE, start)) for start in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    records = list(UseFile(tmp_path / FILE).records())
    assert [record.number for record in records] == list(range(1, 41))


def append_some(path: Path, start: int) -> None:
    """In a process of its own: twenty transactions."""
    for number in range(start, start + 20):
        UseFile(path).append([answered(number)], 1000)


async def _prepared(client: ExchangeClient) -> Any:
    from exchange.client import lookup_query
    from exchange.v1.directory_pb2 import FieldType

    query = lookup_query([ID_NUMBER], FieldType.FIELD_TYPE_TEXT)
    return await client.prepare(
        "population/residents", query, fields=["name"], purpose=PURPOSE, case="ZF-2027-0001", officer="officer-7"
    )


def _failing(fails: Any) -> Any:
    """An append whose own transaction meets the failure."""

    def append(ledger: UseFile, records: object, now: int) -> Any:
        with ledger._transaction("BEGIN IMMEDIATE"):
            return fails(ledger, records, now)

    return append


async def _raise(error: BaseException) -> None:
    raise error
