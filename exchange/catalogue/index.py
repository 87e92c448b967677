"""HOME/catalogue.db: the datasets of a mirror, as they are searched. An index: rebuilt at will, never the truth."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from exchange.catalogue.index_file import open_index
from exchange.catalogue.words import indexed, match_terms, plain, term_text
from exchange.core.directory import Directory
from exchange.core.review import review_of
from exchange.core.terms import DatasetTerms
from exchange.core.wire import MAX_TIME
from exchange.v1.catalogue_pb2 import Level, SharingClass

FACETS = ("owner", "theme", "level", "sharing", "subject", "updated")
"""What results are counted by, and narrowed to."""

_VERSION = 1
_MATCHED = "words JOIN datasets ON datasets.id = words.rowid WHERE words MATCH ? AND "
_SHOWN = ", ".join(("object_id", "name", "title", "title_en", *FACETS))

_MAPPED = 1 << 30

RANKED = 500
"""So many hits are ranked; of more, the newest come first.

FTS5's bm25() counts every dataset that has any of the words, for each search anew: at 100,000 that takes too long.
"""

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
        every: all words occur in each; else no dataset has all of them, and these have the rarest.
    """

    hits: tuple[Hit, ...]
    total: int
    facets: Mapping[str, tuple[tuple[str, int], ...]]
    every: bool = True


_Standing = tuple[DatasetTerms, int]


class Index:
    """The index in a file; any number of processes may read it while one brings it up to date.

    Args:
        path: of the file; made where it is missing, and made anew where it is of another version.
    """

    def __init__(self, path: Path) -> None:
        self._db = open_index(path, _VERSION, _SCHEMA)
        self._db.execute("PRAGMA synchronous = OFF")
        # All of it fits: what searches walk through is read from the system's cache, without a copy of each page.
        self._db.execute(f"PRAGMA mmap_size = {_MAPPED}")

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
        terms = match_terms(query)
        found = self._search(terms, narrowed or {}, limit, now)
        if found.total or not terms:
            return found
        # The rarest words say most: the most frequent ones are given up first, and those that nobody has.
        known = sorted((self._frequency(term), term) for term in terms)
        rarest = [term for frequency, term in known if frequency]
        for count in range(min(len(rarest), len(terms) - 1), 0, -1):
            some = self._search(rarest[:count], narrowed or {}, limit, now)
            if some.total:
                return Results(some.hits, some.total, some.facets, every=False)
        return found

    def _frequency(self, expression: str) -> int:
        row = self._db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,)).fetchone()
        return int(row[0])

    def _search(self, terms: Sequence[str], narrowed: Mapping[str, str], limit: int, now: int) -> Results:
        where, values = _conditions(narrowed, now)
        source, matched = (_MATCHED, [" AND ".join(terms)]) if terms else ("datasets WHERE ", [])
        statement = f"SELECT datasets.id, {', '.join(FACETS)} FROM {source}{where}"  # noqa: S608 - words of this module
        rows = self._db.execute(statement, (*matched, *values)).fetchall()
        counted = (_by_count(Counter(map(itemgetter(place), rows))) for place in range(1, len(FACETS) + 1))
        if not terms or len(rows) <= RANKED:
            hits = self._ranked([row[0] for row in rows], terms, limit)
        else:
            hits = self._newest(matched[0], where, values, limit)
        return Results(tuple(map(_hit, hits)), len(rows), dict(zip(FACETS, counted, strict=True)))

    def _ranked(self, ids: Sequence[int], terms: Sequence[str], limit: int) -> list[tuple[object, ...]]:
        """Those whose titles have the most words first; of the same, the shortest title, then the name."""
        if not terms:
            named = self._db.execute("SELECT name, id FROM datasets ORDER BY name").fetchall()
            standing = set(ids)
            ids = [id for _, id in named if id in standing][:limit]
        words = [term_text(term) for term in terms]

        def rank(row: tuple[object, ...]) -> tuple[int, int, object]:
            title = plain(f"{row[2]} {row[3]}")
            return -sum(word in title for word in words), len(title) if words else 0, row[1]

        marks = ", ".join("?" * len(ids))
        rows = self._db.execute(f"SELECT {_SHOWN} FROM datasets WHERE id IN ({marks})", ids).fetchall()  # noqa: S608
        return sorted(rows, key=rank)[:limit]

    def _newest(self, expression: str, where: str, values: Sequence[str | int], limit: int) -> list[tuple[object, ...]]:
        """Those with all of the words in the title first; the newest first."""
        best: dict[object, tuple[object, ...]] = {}
        statement = f"SELECT {_SHOWN} FROM {_MATCHED}{where} ORDER BY words.rowid DESC LIMIT ?"  # noqa: S608
        for tier in ("{titles} : ", ""):
            for row in self._db.execute(statement, (f"{tier}({expression})", *values, limit)):
                best.setdefault(row[0], row)
        return list(best.values())[:limit]

    def _remove(self, object_ids: Sequence[bytes]) -> None:
        for object_id in object_ids:
            row = self._db.execute("DELETE FROM datasets WHERE object_id = ? RETURNING id", (object_id,)).fetchone()
            if row is not None:
                self._db.execute("DELETE FROM words WHERE rowid = ?", row)

    def _add(self, datasets: Iterable[_Standing]) -> None:
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


def _shown(directory: Directory) -> Iterable[_Standing]:
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


def _conditions(narrowed: Mapping[str, str], now: int) -> tuple[str, list[str | int]]:
    # A name in the statement is one of ours; its value is bound.
    conditions = ["retired_at > ?", *(f"{FACETS[_place(facet)]} = ?" for facet in narrowed)]
    return " AND ".join(conditions), [now, *narrowed.values()]


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
