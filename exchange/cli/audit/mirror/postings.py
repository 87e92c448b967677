"""Which entries fit a search: the mirror's indexes, read lazily and in the log's order.

Each condition names the entries that fulfil it as a list in the order of the log. The shortest list is walked, and each
of its entries is looked up in the others; no row is read before it is known to fit. So the first page costs the same
however many entries the log has and however many fit.
"""

import heapq
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from exchange.cli.audit.mirror.schema import INDEXES, PAIR, PAIR_INDEX, SUMMED_UP
from exchange.core.names import Party

MANY: Final = 5_000
"""Up to here lists are counted, to find the shortest."""

_NAMES = """WITH RECURSIVE names (name) AS (
    SELECT min({column}) FROM entries WHERE {column} > :low AND {column} < :high
    UNION ALL SELECT (SELECT min({column}) FROM entries WHERE {column} > name AND {column} < :high)
    FROM names WHERE name IS NOT NULL
) SELECT name FROM names WHERE name IS NOT NULL"""


@dataclass(slots=True)
class Wanted:
    """What a search asks for; all of it must hold.

    Args:
        exact: columns and the values that they have.
        parties: columns and the parties that cover what they name.
        since, until: milliseconds, inclusive; None without a bound.
    """

    exact: dict[str, object] = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class _Term:
    """One condition: a column has one of these values."""

    column: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Walked:
    """The list that is walked: of one condition, or of two that have an index together."""

    term: _Term
    within: _Term | None = None

    @property
    def index(self) -> str:
        return PAIR_INDEX if self.within is not None else INDEXES[self.term.column]


def postings(connection: sqlite3.Connection, wanted: Wanted, start: int, stop: int) -> Iterator[int]:
    """The indexes of the entries that fit, in their order, as they are asked for.

    Args:
        connection: to the mirror.
        wanted: the conditions.
        start, stop: the first index, and the one after the last.
    """
    start, stop = _bounded(connection, wanted, start, stop)
    terms = [_Term(column, _values(column, value)) for column, value in wanted.exact.items()]
    terms += [_Term(column, names_under(connection, column, party)) for column, party in wanted.parties.items()]
    counts = {term.column: _count(connection, term, start, stop) for term in terms}
    # The shortest list is walked; of several long ones a party's: it has many names, so to look it up costs the most.
    terms.sort(key=lambda term: (counts[term.column], -len(term.values)))
    walked = _Walked(terms[0]) if terms else None
    pair = [term for name in PAIR for term in terms if term.column == name]
    is_long = walked is not None and counts[walked.term.column] >= MANY
    if walked is not None and len(pair) == len(PAIR) and (is_long or walked.term in pair):
        walked = _Walked(*pair)
    looked_up = [term for term in terms if walked is not None and term not in (walked.term, walked.within)]
    looked_up.sort(key=lambda term: len(term.values))
    streams = _streams(connection, walked, looked_up, wanted, {"start": start, "stop": stop})
    for (index,) in heapq.merge(*streams):
        yield int(index)


def _values(column: str, value: object) -> tuple[object, ...]:
    """A summary counts several codes: only its leaf says whether this one is among them."""
    return (value, SUMMED_UP) if column == "code" else (value,)


def _bounded(connection: sqlite3.Connection, wanted: Wanted, start: int, stop: int) -> tuple[int, int]:
    """Where times never run backwards, they are indexes; elsewhere every entry's own is looked at."""
    if connection.execute("SELECT 1 FROM disorder LIMIT 1").fetchone() is not None:
        return start, stop
    if wanted.since is not None:
        first = "SELECT idx FROM entries WHERE time >= ? ORDER BY time, idx LIMIT 1"
        row = connection.execute(first, (wanted.since,)).fetchone()
        start = max(start, row[0] if row is not None else stop)
    if wanted.until is not None:
        after = "SELECT idx FROM entries WHERE time > ? ORDER BY time, idx LIMIT 1"
        row = connection.execute(after, (wanted.until,)).fetchone()
        stop = min(stop, row[0] if row is not None else stop)
    return start, stop


def names_under(connection: sqlite3.Connection, column: str, party: Party) -> tuple[str, ...]:
    """A party's own name and those under it that the log has: one step down the index for each."""
    # Every name under "x" lies between "x/" and "x0", for "0" follows "/".
    name = str(party)
    rows = connection.execute(_NAMES.format(column=column), {"low": f"{name}/", "high": f"{name}0"})
    return (name, *(row[0] for row in rows))


def _count(connection: sqlite3.Connection, term: _Term, start: int, stop: int) -> int:
    """How long a list is, up to `MANY`."""
    count = 0
    for value in term.values:
        rows = f"SELECT 1 FROM {_of(term)} WHERE {term.column} = ? AND idx >= ? AND idx < ? LIMIT ?"  # noqa: S608
        values = (value, start, stop, MANY - count)
        count += connection.execute(f"SELECT count(*) FROM ({rows})", values).fetchone()[0]  # noqa: S608
        if count >= MANY:
            break
    return count


def _streams(
    connection: sqlite3.Connection,
    walked: _Walked | None,
    looked_up: list[_Term],
    wanted: Wanted,
    bounds: Mapping[str, object],
) -> Iterator[Iterator[tuple[int]]]:
    """One stream for each value of the list that is walked; every one of them in the log's order."""
    values = {**bounds, "since": wanted.since, "until": wanted.until}
    conditions = ["e.idx >= :start", "e.idx < :stop"]
    conditions += ["e.time >= :since"] if wanted.since is not None else []
    conditions += ["e.time <= :until"] if wanted.until is not None else []
    for number, term in enumerate(looked_up):
        names = [f"v{number}_{place}" for place in range(len(term.values))]
        values |= dict(zip(names, term.values, strict=True))
        listed = ", ".join(f":{name}" for name in names)
        conditions.append(
            f"EXISTS (SELECT 1 FROM {_of(term)} WHERE {term.column} IN ({listed}) AND entries.idx = e.idx)"  # noqa: S608
        )
    if walked is None:
        yield _rows(connection, "entries AS e NOT INDEXED", conditions, values)
        return
    if walked.within is not None:
        conditions = [f"e.{walked.within.column} = :within", *conditions]
        [values["within"]] = walked.within.values
    conditions = [f"e.{walked.term.column} = :own", *conditions]
    for value in walked.term.values:
        yield _rows(connection, f"entries AS e INDEXED BY {walked.index}", conditions, {**values, "own": value})


def _rows(
    connection: sqlite3.Connection, table: str, conditions: list[str], values: Mapping[str, object]
) -> Iterator[tuple[int]]:
    statement = f"SELECT e.idx FROM {table} WHERE {' AND '.join(conditions)} ORDER BY e.idx"  # noqa: S608 - all bound
    return connection.execute(statement, values)


def _of(term: _Term) -> str:
    return f"entries INDEXED BY {INDEXES[term.column]}"
