"""`exchange log archive`: a month is written beside the tree that proves it, and verified by itself across months."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import exchange.cli.brokers.log as log
from exchange.cli.brokers import archiving
from exchange.cli.brokers.archiving import Month, month_of, parse_month
from exchange.cli.main import app
from exchange.core.merkle import leaf_hash
from exchange.store.ports import Log
from exchange.store.sql import SqlLogStore
from tests.component.audit.copies import DENY, ask, busy_world
from tests.component.cli.stores import SQLITE, broker_home, configure, database, store_name
from tests.memory import MemoryLog
from tests.world import World

__all__ = ["database"]

JANUARY, MARCH = "2027-01", "2027-03"
"""The months of the log: five entries, none in February, 300 entries."""


def utc(*when: int) -> int:
    return int(datetime.datetime(*when, tzinfo=datetime.UTC).timestamp() * 1000)  # type: ignore[misc]


@pytest.fixture(scope="module")
def world() -> World:
    world = busy_world()
    assert month_of(world.now) == Month(2027, 1)
    world.now = utc(2027, 3, 1)
    request, _ = ask(world, issued_at=world.now, expires_at=world.now + 1000)
    for _ in range(299):
        world.now += 1000
        world.refuse(request, DENY)
    return world


@pytest.fixture
def home(tmp_path: Path, world: World, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(log, "now", lambda: utc(2027, 4, 1))
    return broker_home(tmp_path / "broker", world, database)


def run(home: Path, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["log", "archive", str(folder), "--home", str(home), *arguments])


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    """Three months."""
    for month in (JANUARY, "2027-02", MARCH):
        result = run(home, tmp_path / "archive", "--month", month)
        assert result.exit_code == 0, result.output
    return tmp_path / "archive"


def test_a_month_has_its_entries_and_no_others(folder: Path, world: World) -> None:
    tables = [pq.read_table(folder / f"access-{month}.parquet") for month in (JANUARY, "2027-02", MARCH)]
    assert [table.column("index").to_pylist() for table in tables] == [list(range(5)), [], list(range(5, 305))]
    leaves = [leaf for table in tables for leaf in table.column("leaf").to_pylist()]
    assert leaves == world.access_log.leaves
    assert [item for table in tables for item in table.column("body").to_pylist()] == world.access_log.bodies
    assert tables[0].column("leaf_hash").to_pylist() == [leaf_hash(leaf) for leaf in leaves[:5]]
    assert tables[0].column("kind").to_pylist()[:2] == ["released", "refused"]


def test_an_archive_is_verified_by_itself(folder: Path, home: Path) -> None:
    result = run(home, folder, "--verify")
    assert result.exit_code == 0, result.output
    assert "305 entries in the tree; 2027-01 to 2027-03, 305 entries" in result.stdout
    assert "verified: the tree makes the signed root" in result.stdout
    configure(home, "other.db")
    described = json.loads(run(home, folder, "--verify", "--json").stdout)
    assert (described["size"], described["rows"], described["problems"]) == (305, 305, [])


def test_each_month_goes_on_and_the_tree_with_it(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "archive"
    assert run(home, folder, "--month", JANUARY).exit_code == 0
    assert run(home, folder, "--verify").exit_code == 0
    result = run(home, folder, "--month", MARCH, "--json")
    assert json.loads(result.stdout)["first"] == 5
    assert run(home, folder, "--verify").exit_code == 0


def test_writes_beside_a_running_broker(tmp_path: Path, home: Path) -> None:
    store = SqlLogStore.open(store_name(home))
    try:
        assert run(home, tmp_path / "archive", "--month", JANUARY).exit_code == 0
    finally:
        store.close()


def test_an_erased_body_is_archived_as_what_it_is(tmp_path: Path, world: World, home: Path) -> None:
    store = SqlLogStore.open(store_name(home))
    with store.locked() as transaction:
        transaction.erase(Log.ACCESS, 0, 3)
    store.close()
    folder = tmp_path / "archive"
    run(home, folder, "--month", JANUARY)
    result = run(home, folder, "--verify")
    assert result.exit_code == 0, result.output
    assert "3 of them were erased before they were archived" in result.stdout


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --month or --verify"),
        (("--month", JANUARY, "--verify"), "either --month or --verify"),
        (("--month", "2027-13"), "not a month"),
        (("--month", "0000-01"), "not a month"),
        (("--month", "2027-1"), "not a month"),
        (("--month", "2027-04"), "2027-04 is not over"),
        (("--month", MARCH), "archive the earlier months first, beginning with --month 2027-01"),
    ],
)
def test_says_what_is_wrong_with_what_was_typed(
    tmp_path: Path, home: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(home, tmp_path / "archive", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("month", [JANUARY, "2027-02"])
def test_a_month_is_written_once_and_in_its_turn(folder: Path, home: Path, month: str) -> None:
    before = (folder / f"access-{month}.parquet").read_bytes()
    assert run(home, folder, "--month", month).exit_code == 2
    assert (folder / f"access-{month}.parquet").read_bytes() == before


def test_an_archive_of_another_log_is_left_alone(tmp_path: Path, home: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "checkpoint").write_bytes(MemoryLog("city.example/other").checkpoint())
    result = run(home, tmp_path / "archive", "--month", JANUARY)
    assert result.exit_code == 1
    assert "holds something else" in result.stderr
    assert run(home, tmp_path / "archive", "--verify").exit_code == 5


def test_there_is_nothing_to_verify_in_an_empty_folder(tmp_path: Path, home: Path) -> None:
    assert run(home, tmp_path, "--verify").exit_code == 3


# What was tampered with.

# It is the archive alone that is verified, so one engine's will do.
SQLITE_ALONE = pytest.mark.parametrize("database", [SQLITE], indirect=True)


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None], **about: str) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    metadata = table.schema.metadata | {f"exchange.{name}".encode(): value.encode() for name, value in about.items()}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema).replace_schema_metadata(metadata), path)


def other_leaf(rows: list[dict[str, Any]]) -> None:
    rows[1]["leaf"] = rows[0]["leaf"]


def other_body(rows: list[dict[str, Any]]) -> None:
    rows[2]["body"] = rows[0]["body"]


def set_column(name: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[1].__setitem__(name, value)


ROWS: dict[str, tuple[Callable[[list[dict[str, Any]]], None], str]] = {
    "another leaf": (other_leaf, "its leaf is not the one in the tree"),
    "another body": (other_body, "its body is not the one that its leaf names"),
    "a requester that never asked": (
        set_column("requester", "exchange://x"),
        "something else than its leaf: requester",
    ),
    "another hash": (set_column("leaf_hash", bytes(32)), "something else than its leaf: leaf_hash"),
    "a row left out": (lambda rows: rows.pop(1), "has 4 rows, and says 5"),
    "the last row left out": (lambda rows: rows.pop(), "has 4 rows, and says 5"),
    "a row twice": (lambda rows: rows.insert(1, rows[0]), "has 6 rows, and says 5"),
    "rows in another order": (lambda rows: rows.reverse(), "out of order"),
}


@SQLITE_ALONE
@pytest.mark.parametrize(("change", "text"), ROWS.values(), ids=ROWS.keys())
def test_finds_in_a_month(folder: Path, home: Path, change: Callable[[list[dict[str, Any]]], None], text: str) -> None:
    rewrite(folder / f"access-{JANUARY}.parquet", change)
    result = run(home, folder, "--verify")
    assert result.exit_code == 1, result.output
    assert text in result.stdout


def keep(_rows: list[dict[str, Any]]) -> None:
    """Only what the file says of itself is changed."""


@SQLITE_ALONE
@pytest.mark.parametrize(
    ("month", "about", "text"),
    [
        (JANUARY, {"root": "00" * 32}, "says another root of 5 entries"),
        (MARCH, {"first": "6"}, "begins with entry 6; the months before it end before entry 5"),
        (MARCH, {"end": "306"}, "ends past the tree"),
        (MARCH, {"month": "2027-04"}, "says that it is the month 2027-04"),
        (MARCH, {"end": "4"}, "runs backwards"),
        (MARCH, {"end": "x"}, "is not a month of an archive"),
    ],
)
def test_finds_what_a_month_says_of_itself(
    folder: Path, home: Path, month: str, about: dict[str, str], text: str
) -> None:
    rewrite(folder / f"access-{month}.parquet", keep, **about)
    result = run(home, folder, "--verify")
    assert result.exit_code == 1, result.output
    assert text in result.output


@SQLITE_ALONE
def test_finds_a_month_that_was_left_out(folder: Path, home: Path) -> None:
    (folder / f"access-{JANUARY}.parquet").unlink()
    result = run(home, folder, "--verify")
    assert result.exit_code == 1
    assert "access-2027-02.parquet begins with entry 5; the months before it end before entry 0" in result.stdout


@SQLITE_ALONE
def test_finds_a_month_that_cannot_be_read(folder: Path, home: Path) -> None:
    path = folder / f"access-{MARCH}.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:10] + b"\xff" * 50 + data[60:])
    assert run(home, folder, "--verify").exit_code == 1
    path.write_bytes(b"PAR1")
    assert run(home, folder, "--verify").exit_code == 1


@SQLITE_ALONE
@pytest.mark.parametrize(
    ("name", "text"),
    [("tile/entries/000", "tile/0/000"), ("tile/0/000", "tile/0/000"), ("tile/entries/001.p/49", "tile/0/001.p/49")],
)
def test_finds_a_tile_that_was_altered_or_lost(folder: Path, home: Path, name: str, text: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    result = run(home, folder, "--verify")
    assert result.exit_code == 1
    assert text in result.stdout
    path.unlink()
    assert "cannot be read" in run(home, folder, "--verify").stdout


@SQLITE_ALONE
def test_finds_a_tree_that_another_checkpoint_was_put_on(folder: Path, home: Path, world: World) -> None:
    (folder / "checkpoint").write_bytes(world.access_log.checkpoint(300))
    result = run(home, folder, "--verify")
    assert result.exit_code == 1
    assert "ends past the tree" in result.stdout


# Months.


@pytest.mark.parametrize(("text", "following"), [("2026-11", "2026-12"), ("2026-12", "2027-01")])
def test_months_follow_each_other(text: str, following: str) -> None:
    month = parse_month(text)
    assert (str(month), str(month.following)) == (text, following)
    assert month_of(month.following.start - 1) == month
    assert month_of(month.start) == month


def test_pages_are_written_as_they_fill(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "PAGE", 2)
    folder = tmp_path / "archive"
    run(home, folder, "--month", JANUARY)
    assert pq.ParquetFile(folder / f"access-{JANUARY}.parquet").num_row_groups == 3
    assert run(home, folder, "--verify").exit_code == 0
