"""The mirror's index: exactly what fits, in the order of the log; and older files are brought up to date."""

import random
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from exchange.cli.audit.mirror import postings as postings_module
from exchange.cli.audit.mirror.access_mirror import FILE, AccessMirror
from exchange.cli.audit.mirror.postings import Wanted, postings
from exchange.cli.audit.mirror.schema import COLUMNS, PAIR_INDEX, VERSION, prepare
from exchange.core.names import Party
from exchange.home import Home

SIZE = 600
OFFICERS = ("officer-1", "officer-2", "officer-3", None)
PURPOSES = ("tax.assessment", "housing.allocation")
SYSTEMS = (
    "exchange://a/b",
    "exchange://a/b/c",
    "exchange://a/b/d",
    "exchange://a/b-",
    "exchange://a/bc",
    "exchange://a/bc/d",
    "exchange://a/b0",
    "",
)


@dataclass(frozen=True)
class Row:
    idx: int
    time: int | None
    kind: int
    code: int
    requester: str
    provider: str
    request_id: bytes
    request_digest: bytes
    dataset: bytes | None
    officer: str | None
    purpose: str | None
    case_id: str | None


def made(seed: int, *, ordered: bool) -> list[Row]:
    chosen = random.Random(seed)
    time, rows = 0, []
    for index in range(SIZE):
        time = time + chosen.choice((0, 0, 1, 5)) if ordered else chosen.randrange(500)
        rows.append(
            Row(
                index,
                time if chosen.random() > 0.02 else None,
                chosen.choice((1, 1, 1, 2, 3)),
                chosen.choice((0, 0, 8, 19)),
                chosen.choice(SYSTEMS),
                chosen.choice(SYSTEMS),
                bytes([chosen.randrange(50)]) * 16,
                bytes([chosen.randrange(50)]) * 32,
                chosen.choice((b"x" * 16, b"y" * 16, None)),
                chosen.choice(OFFICERS),
                chosen.choice(PURPOSES),
                chosen.choice(("A-1", "A-2", None)),
            )
        )
    return rows


def filled(rows: list[Row]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    assert prepare(connection, create=True)
    values = [(row.idx, *(getattr(row, name) for name in COLUMNS), b"", b"") for row in rows]
    connection.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * 14)})", values)
    latest = 0
    for row in rows:
        if row.time is not None and row.time < latest:
            connection.execute("INSERT INTO disorder VALUES (?)", (row.idx,))
        latest = max(latest, row.time or 0)
    return connection


@pytest.fixture(params=[True, False], ids=["ordered", "times that run backwards"])
def log(request: pytest.FixtureRequest) -> Iterator[tuple[list[Row], sqlite3.Connection]]:
    rows = made(7, ordered=request.param)
    with closing(filled(rows)) as connection:
        yield rows, connection


def fits(row: Row, wanted: Wanted) -> bool:
    return (
        all(getattr(row, name) == value for name, value in wanted.exact.items())
        and all(f"{getattr(row, name)}/".startswith(f"{party}/") for name, party in wanted.parties.items())
        and (wanted.since is None or (row.time is not None and row.time >= wanted.since))
        and (wanted.until is None or (row.time is not None and row.time <= wanted.until))
    )


def searches(seed: int) -> Iterator[Wanted]:
    chosen = random.Random(seed)
    exact = {
        "kind": (1, 2, 3),
        "code": (0, 8, 19),
        "officer": OFFICERS[:3],
        "purpose": PURPOSES,
        "dataset": (b"x" * 16, b"z" * 16),
        "case_id": ("A-1", "A-9"),
        "request_id": (b"\x01" * 16,),
        "request_digest": (b"\x02" * 32,),
    }
    for _ in range(150):
        names = chosen.sample(sorted(exact), chosen.randrange(4))
        wanted = Wanted({name: chosen.choice(exact[name]) for name in names})
        for name in ("requester", "provider"):
            if chosen.random() < 0.3:
                wanted.parties[name] = Party.parse(chosen.choice(SYSTEMS[:-1]))
        wanted.since = chosen.choice((None, None, 0, 100, 400, 9999))
        wanted.until = chosen.choice((None, None, 0, 300, 9999))
        yield wanted


@pytest.mark.parametrize("many", [1, 40, 5000])
def test_finds_exactly_what_fits_in_the_logs_order(
    log: tuple[list[Row], sqlite3.Connection], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, connection = log
    monkeypatch.setattr(postings_module, "MANY", many)
    hits = 0
    for wanted in searches(11):
        for start, stop in ((0, SIZE), (17, 431)):
            expected = [row.idx for row in rows[start:stop] if fits(row, wanted)]
            assert list(postings(connection, wanted, start, stop)) == expected
            hits += len(expected)
    assert hits > 1000


def test_reads_no_further_than_it_is_asked(log: tuple[list[Row], sqlite3.Connection]) -> None:
    """The first match costs a few steps of SQLite's machine, however many more there are."""
    _, connection = log
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    stream = postings(connection, Wanted({"purpose": PURPOSES[0]}), 0, SIZE)
    connection.set_progress_handler(count, 1)
    # What it takes to look at the index's first rows and to count up to `MANY` of them is done by now or bounded.
    first = next(stream)
    for_first, steps = steps, 0
    assert sum(1 for _ in stream) > 100
    for_rest = steps
    again = postings(connection, Wanted({"purpose": PURPOSES[0]}), first + 1, SIZE)
    next(again)
    assert for_first < 12 * SIZE
    assert for_rest > 500


@pytest.mark.parametrize("wanted", [Wanted(), Wanted({"purpose": PURPOSES[0]}, {"requester": Party.parse(SYSTEMS[0])})])
def test_memory_does_not_grow_with_what_fits(wanted: Wanted) -> None:
    """A stream of ten times as many entries takes no more memory at its peak."""

    def peak(repeats: int) -> int:
        rows = made(7, ordered=True)
        longer = [replace(row, idx=row.idx + SIZE * turn) for turn in range(repeats) for row in rows]
        with closing(filled(longer)) as connection:
            del longer
            tracemalloc.start()
            count = sum(1 for _ in postings(connection, wanted, 0, SIZE * repeats))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert count > 50 * repeats
        return most

    peak(1)
    few, many = peak(1), peak(10)
    assert many < few + 20_000, (few, many)


def test_a_file_of_version_1_is_brought_up_to_date(synced: Path) -> None:
    """With its rows kept, and the times that run backwards found."""
    with closing(sqlite3.connect(synced / FILE, isolation_level=None)) as connection:
        for name in COLUMNS:
            connection.execute(f"DROP INDEX entries_{name}")
        for name, columns in (
            ("time", "time"),
            ("request_id", "request_id"),
            ("request_digest", "request_digest"),
            ("requester", "requester, idx"),
            ("officer", "officer, idx"),
            ("case", "case_id, idx"),
        ):
            connection.execute(f"CREATE INDEX entries_{name} ON entries ({columns})")
        connection.execute(f"DROP INDEX {PAIR_INDEX}")
        connection.execute("DROP TABLE disorder")
        connection.execute("DROP INDEX entries_without_body")
        connection.execute("DROP TABLE asked")
        connection.execute("UPDATE entries SET time = 0 WHERE idx = 3")
        connection.execute("PRAGMA user_version = 1")
    trust = Home(synced).trust
    with AccessMirror.opened(synced / FILE, trust.access_log) as mirror:
        assert mirror.size == 5
        found = [entry.index for page in mirror.find(Wanted({"officer": "officer-8"})) for entry in page]
        assert found == [2, 3]
    with closing(sqlite3.connect(synced / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("SELECT idx FROM disorder").fetchall() == [(3,)]
