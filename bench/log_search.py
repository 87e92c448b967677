"""`python -m bench.log_search`: how long the first page of a search takes in an access mirror of many entries.

The mirror's own tables and indexes hold made-up entries (bodies are short: a search reads them for its one page alone).
Each search is of a kind that auditors type, with values drawn at random; timed is the index and the page of 100 rows,
without the proofs of those rows, whose time does not depend on the search. A short log is searched in turn with the
long one: what a machine does beside it slows both, so the ratio says more than the figures.
"""

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from bench.log import Figure
from exchange.cli.audit.mirror.postings import Wanted, postings
from exchange.cli.audit.mirror.schema import COLUMNS, prepare
from exchange.core.names import Party

FOLDER = Path(__file__).parents[1] / "build"
PAGE = 100
START, APART, DAY = 1_800_000_000_000, 40, 86_400_000
DEPARTMENTS, SYSTEMS, PURPOSES, DATASETS, OFFICERS, PER_CASE = 40, 4, 50, 60, 20_000, 5
DOMAIN = "exchange://city.example"


def main() -> int:
    """Fill a mirror, search it, print. Returns the exit code: 1 where the 95th percentile is over the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.log_search", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=10_000_000, metavar="N", help="entries of the log")
    parser.add_argument("--short", type=int, default=10_000, metavar="N", help="entries of the log beside it")
    parser.add_argument("--searches", type=int, default=110, metavar="N", help="searches that a round times")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="each gives one 95th percentile")
    parser.add_argument("--limit", type=float, default=200.0, metavar="MS", help="of the 95th percentile")
    parser.add_argument("--seed", type=int, default=20_260_809)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    FOLDER.mkdir(exist_ok=True)
    sizes = (arguments.short, arguments.entries)
    rounds: list[list[dict[str, list[float]]]] = []
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, ExitStack() as opened:
        mirrors = [opened.enter_context(closing(_connect(Path(folder) / f"{size}.db"))) for size in sizes]
        for mirror, size in zip(mirrors, sizes, strict=True):
            _fill(mirror, size, chance)
        for _ in range(arguments.rounds):
            pairs = zip(mirrors, sizes, strict=True)
            rounds.append([_measure(mirror, size, arguments.searches, chance) for mirror, size in pairs])
    return _report(rounds, sizes, arguments.limit)


def _report(rounds: list[list[dict[str, list[float]]]], sizes: tuple[int, int], limit: float) -> int:
    """Print what was measured.

    Args:
        rounds: of each, the short log's times and the long one's, by the kind of search, milliseconds.
        sizes: of the two logs.
        limit: of the long one's 95th percentile, milliseconds.
    """
    print(f"{'search':34} {'p50':>8} {'p95':>8} {'most':>8}  (ms, {sizes[1]:,} entries, all rounds)")
    for name in sorted(rounds[0][1]):
        print(_line(name, sorted(taken for _, long in rounds for taken in long[name])))
    short, long = (tuple(_overall(measured[place]) for measured in rounds) for place in (0, 1))
    print()
    print(Figure(f"search, 95th percentile, log of {sizes[0]:,}", "ms", short))
    print(Figure(f"search, 95th percentile, log of {sizes[1]:,}", "ms", long, f"at most {limit:g}"))
    ratios = tuple(one / other for other, one in zip(short, long, strict=True))
    print(Figure(f"the same, {sizes[1]:,} against {sizes[0]:,}", "times as long", ratios))
    print(f"\n{len(rounds)} rounds; median (least–most)")
    return int(statistics.median(long) > limit)


def _overall(times: dict[str, list[float]]) -> float:
    return _percentile(sorted(taken for kind in times.values() for taken in kind), 95)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    prepare(connection, create=True)
    # Made once, for this run: nothing of it has to survive a power cut.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -500000")
    return connection


def _fill(mirror: sqlite3.Connection, count: int, chance: random.Random) -> None:
    """The rows first and the indexes then: in the order of the log it would take hours."""
    indexes = mirror.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    for name, _ in indexes:
        mirror.execute(f"DROP INDEX {name}")
    places = ", ".join("?" * (len(COLUMNS) + 3))
    mirror.execute("BEGIN")
    mirror.executemany(f"INSERT INTO entries VALUES ({places})", _rows(count, chance))  # noqa: S608
    mirror.execute("COMMIT")
    for _, statement in indexes:
        mirror.execute(statement)
    print(f"{count:,} entries are in place", file=sys.stderr)


def _rows(count: int, chance: random.Random) -> Iterator[tuple[object, ...]]:
    for index in range(count):
        kind = chance.choices((1, 2, 3), (96, 1, 3))[0]
        yield (
            index,
            START + index * APART,
            kind,
            0 if kind == 1 else chance.choice((8, 11, 12, 19)),
            f"{_department(chance)}/system-{chance.randrange(SYSTEMS)}",
            f"{_department(chance)}/registry",
            chance.randbytes(16),
            chance.randbytes(32),
            bytes([chance.randrange(DATASETS)]) * 16,
            f"officer-{chance.randrange(OFFICERS)}",
            f"purpose.code-{chance.randrange(PURPOSES)}",
            f"HS-2026-{chance.randrange(max(1, count // PER_CASE))}",
            b"leaf" * 10,
            b"body" * 10,
        )


def _department(chance: random.Random) -> str:
    return f"{DOMAIN}/department-{chance.randrange(DEPARTMENTS)}"


def _measure(mirror: sqlite3.Connection, count: int, searches: int, chance: random.Random) -> dict[str, list[float]]:
    kinds = _kinds(count, chance)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(searches):
        name = list(kinds)[number % len(kinds)]
        wanted = kinds[name]()
        began = time.perf_counter()
        indexes = list(islice(postings(mirror, wanted, 0, count), PAGE + 1))
        chosen = "SELECT idx, leaf, body FROM entries WHERE idx IN (SELECT value FROM json_each(?)) ORDER BY idx"
        mirror.execute(chosen, (str(indexes),)).fetchall()
        times[name].append((time.perf_counter() - began) * 1000)
    return times


def _kinds(count: int, chance: random.Random) -> dict[str, Callable[[], Wanted]]:
    def party() -> Party:
        return Party.parse(_department(chance))

    def within(days: int) -> tuple[int, int]:
        since = START + chance.randrange(count * APART)
        return since, since + days * DAY

    def purpose() -> str:
        return f"purpose.code-{chance.randrange(PURPOSES)}"

    def officer() -> str:
        return f"officer-{chance.randrange(OFFICERS)}"

    return {
        "officer": lambda: Wanted({"officer": officer()}),
        "case": lambda: Wanted({"case_id": f"HS-2026-{chance.randrange(max(1, count // PER_CASE))}"}),
        "dataset": lambda: Wanted({"dataset": bytes([chance.randrange(DATASETS)]) * 16}),
        "time": lambda: Wanted({}, {}, *within(1)),
        "refused, by code": lambda: Wanted({"kind": 3, "code": 8}),
        "department, one day": lambda: Wanted({}, {"requester": party()}, *within(1)),
        "department, refused, one week": lambda: Wanted({"kind": 3}, {"requester": party()}, *within(7)),
        "department and purpose": lambda: Wanted({"purpose": purpose()}, {"requester": party()}),
        "both departments and purpose": lambda: Wanted(
            {"purpose": purpose()}, {"requester": party(), "provider": party()}
        ),
        "officer and department": lambda: Wanted({"officer": officer()}, {"requester": party()}),
        "nobody's": lambda: Wanted({"officer": "nobody", "purpose": purpose()}),
    }


def _line(name: str, times: list[float]) -> str:
    return f"{name:34} {_percentile(times, 50):8.1f} {_percentile(times, 95):8.1f} {times[-1]:8.1f}"


def _percentile(times: list[float], share: int) -> float:
    return times[min(len(times) - 1, len(times) * share // 100)]


if __name__ == "__main__":
    sys.exit(main())
