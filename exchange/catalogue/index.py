"""HOME/catalogue.db: the datasets of a mirror, as they are searched. An index: rebuilt at will, never the truth."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.catalogue.words import indexed, match_expression
from exchange.core.directory import Directory
from exchange.core.review import review_of
from exchange.core.terms import DatasetTerms
from exchange.core.wire import MAX_TIME
from exchange.v1.catalogue_pb2 import Level, SharingClass

FACETS = ("owner", "theme", "level", "sharing", "subject", "updated")
"""What results are counted by, and narrowed to."""

_VERSION = 1  # as in the schema
# A hit in the title counts most, one in a field's label least (sqlite.org/fts5.html, "The bm25() function").
_WEIGHTS = "10.0, 6.0, 3.0, 1.5"
_SCHEMA = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE datasets (
    id INTEGER PRIMARY KEY, object_id BLOB NOT NULL UNIQUE, digest BLOB NOT NULL, name TEXT NOT NULL,
    title TEXT NOT NULL, title_en TEXT NOT NULL,
    owner TEXT NOT NULL, theme TEXT NOT NULL, level TEXT NOT NULL, sharing TEXT NOT NULL, subject TEXT NOT NULL,
    updated TEXT NOT NULL, retired_at INTEGER NOT NULL
);
CREATE INDEX datasets_by_name ON datasets (name);
CREATE VIRTUAL TABLE words USING fts5 (
    titles, keywords, abstracts, fields, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
);
CREATE TABLE folded (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL);
INSERT INTO folded VALUES (1, -1);
PRAGMA user_version = 1;
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """One dataset that fits, as results show it.

    Args:
        object_id: 16 bytes.
        name: DEPARTMENT/CODE.
        facets: its value of each of `FACETS`; empty where its owner says nothing.
    """

    object_id: bytes
    name: str
    title: str
    title_en: str
    facets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    """What a search finds.

    Args:
        hits: the best first, at most as many as asked for.
        total: how many fit.
        facets: for each of `FACETS`, how many of them have which value, the most frequent first.
        every: all words occur in each; else no dataset has all of them, and these have some.
    """

    hits: tuple[Hit, ...]
    total: int
    facets: Mapping[str, tuple[tuple[str, int], ...]]
    every: bool = True


_Shown = tuple[DatasetTerms, int]


class Index:
    """The index in a file; any number of processes may read it while one brings it up to date.

    Args:
        path: of the file; made where it is missing, and made anew where it is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        if self._db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            self._db.close()
            for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
                file.unlink(missing_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.executescript(_SCHEMA)
        self._db.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def size(self) -> int:
        """Of the directory that it was brought up to; -1 before the first time."""
        return int(self._db.execute("SELECT size FROM folded").fetchone()[0])

    def refresh(self, directory: Directory) -> None:
        """Bring it up to a directory: what is new there is added, what ended there goes."""
        if self.size == directory.size:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            shown = {item.object_id: (item, retired_at) for item, retired_at in _shown(directory)}
            rows = self._db.execute("SELECT object_id, digest, retired_at FROM datasets")
            known = {object_id: (digest, retired_at) for object_id, digest, retired_at in rows}
            gone = [object_id for object_id in known if object_id not in shown]
            changed = [
                pair for pair in shown.values() if known.get(pair[0].object_id) != (pair[0].version.digest, pair[1])
            ]
            self._remove([*gone, *(item.object_id for item, _ in changed)])
            self._add(changed)
            self._db.execute("UPDATE folded SET size = ?", (directory.size,))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def search(self, query: str, narrowed: Mapping[str, str] | None = None, limit: int = 20, now: int = 0) -> Results:
        """The datasets that fit a query, the best first.

        Args:
            query: words, Chinese or English; all datasets fit one without words.
            narrowed: values of `FACETS` that each must have.
            limit: hits to return.
            now: milliseconds: what is retired by then is left out.

        Raises:
            KeyError: `narrowed` names no facet.
        """
        found = self._search(match_expression(query), narrowed or {}, limit, now)
        if found.total or not match_expression(query):
            return found
        some = self._search(match_expression(query, every=False), narrowed or {}, limit, now)
        return Results(some.hits, some.total, some.facets, every=False)

    def _search(self, expression: str, narrowed: Mapping[str, str], limit: int, now: int) -> Results:
        where, values = _conditions(expression, narrowed, now)
        rank = f"bm25(words, {_WEIGHTS}), " if expression else ""
        source = "words JOIN datasets ON datasets.id = words.rowid" if expression else "datasets"
        columns = ", ".join(("object_id", "name", "title", "title_en", *FACETS))
        rows = self._db.execute(
            f"SELECT {columns} FROM {source} {where} ORDER BY {rank}name LIMIT ?",  # noqa: S608 - words of this module
            (*values, limit),
        ).fetchall()
        groups = self._db.execute(
            f"SELECT count(*), {', '.join(FACETS)} FROM {source} {where} GROUP BY {', '.join(FACETS)}",  # noqa: S608
            values,
        ).fetchall()
        counted: list[Counter[str]] = [Counter() for _ in FACETS]
        for count, *facets in groups:
            for counter, value in zip(counted, facets, strict=True):
                counter[value] += count
        total = sum(count for count, *_ in groups)
        return Results(tuple(map(_hit, rows)), total, dict(zip(FACETS, map(_by_count, counted), strict=True)))

    def _remove(self, object_ids: Sequence[bytes]) -> None:
        for object_id in object_ids:
            row = self._db.execute("DELETE FROM datasets WHERE object_id = ? RETURNING id", (object_id,)).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM words WHERE rowid = ?", row)

    def _add(self, datasets: Iterable[_Shown]) -> None:
        for dataset, retired_at in datasets:
            said = dataset.descriptor
            owner = dataset.version.owner.department or ""
            name = f"{owner}/{dataset.code}"
            row = self._db.execute(
                "INSERT INTO datasets VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    dataset.object_id,
                    dataset.version.digest,
                    name,
                    dataset.title,
                    said.title_en,
                    owner,
                    said.theme,
                    _word(Level.Name(said.level), "LEVEL_"),
                    _word(SharingClass.Name(said.sharing.sharing_class), "SHARING_CLASS_"),
                    said.subject_type,
                    said.update_frequency.lower(),
                    retired_at,
                ),
            ).fetchone()
            fields = [text for item in said.fields for text in (item.name, item.label, item.label_en, item.element)]
            texts = (
                (dataset.title, said.title_en, name.replace("/", " ")),
                said.keywords,
                (dataset.abstract, said.abstract_en, said.theme, said.subject_type),
                fields,
            )
            self._db.execute(
                "INSERT INTO words (rowid, titles, keywords, abstracts, fields) VALUES (?, ?, ?, ?, ?)",
                (row[0], *(indexed(" \n ".join(group)) for group in texts)),
            )


def _shown(directory: Directory) -> Iterable[_Shown]:
    """The datasets that can be applied for, and from when they no longer can: milliseconds, or the end of time."""
    for object_id in directory.terms.datasets:
        dataset = directory.dataset(object_id)
        review = review_of(directory.terms, object_id, 0)
        if dataset is not None and review is not None and review.is_open:
            yield dataset, review.until or MAX_TIME


def _by_count(counter: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(
        sorted(((value, count) for value, count in counter.items() if value), key=lambda pair: (-pair[1], pair[0]))
    )


def _conditions(expression: str, narrowed: Mapping[str, str], now: int) -> tuple[str, list[str | int]]:
    conditions: list[str] = ["retired_at > ?"]
    values: list[str | int] = [now]
    if expression:
        conditions, values = ["words MATCH ?", *conditions], [expression, *values]
    for facet, value in narrowed.items():
        # A name in the statement is one of ours; its value is bound.
        conditions.append(f"{FACETS[_place(facet)]} = ?")
        values.append(value)
    return f"WHERE {' AND '.join(conditions)}", values


def _place(facet: str) -> int:
    if facet not in FACETS:
        raise KeyError(facet)
    return FACETS.index(facet)


def _hit(row: Sequence[object]) -> Hit:
    object_id, name, title, title_en, *facets = row
    named = dict(zip(FACETS, map(str, facets), strict=True))
    return Hit(bytes(object_id), str(name), str(title), str(title_en), named)  # type: ignore[call-overload]


def _word(name: str, prefix: str) -> str:
    word = name.removeprefix(prefix).lower().replace("_", " ")
    return "" if word == "unspecified" else word
