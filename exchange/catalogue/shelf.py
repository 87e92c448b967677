"""HOME/similar.db: fields of datasets as they were read, found by key. An index: rebuilt at will, never the truth.

Many datasets describe the same field in the same words: it is kept once, with the places where it stands. What was read
by another lexicon, or by another version of the code that reads, is thrown away.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from exchange.catalogue.context import Context, Seen
from exchange.catalogue.described import keys, read_seen, write_seen
from exchange.catalogue.index_file import open_index

_READ_BY = ("lexicon.toml", *(f"{name}.py" for name in ("context", "described", "fields", "lexicon", "meaning")))
_READ_BY += tuple(f"{name}.py" for name in ("patterns", "pinyin", "shelf", "wording"))

_SCHEMA = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE datasets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, themes TEXT NOT NULL);
CREATE TABLE described (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, seen BLOB NOT NULL);
CREATE TABLE postings (
    key TEXT NOT NULL, described INTEGER NOT NULL, PRIMARY KEY (key, described)
) WITHOUT ROWID;
CREATE TABLE places (
    described INTEGER NOT NULL, dataset INTEGER NOT NULL, field INTEGER NOT NULL,
    PRIMARY KEY (described, dataset, field)
) WITHOUT ROWID;
CREATE INDEX places_by_dataset ON places (dataset);
COMMIT;
"""


class Shelf:
    """The index in a file; any number of processes may read it while one brings it up to date.

    Args:
        path: of the file; None for one in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._db = open_index(path, _reader(), _SCHEMA)
        self._db.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the file for all that is read within the block, whoever writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All that is written within the block, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def versions(self) -> dict[str, bytes]:
        """The digest of each dataset's version, by its name."""
        return dict(self._db.execute("SELECT name, digest FROM datasets"))

    def datasets(self) -> Iterator[tuple[int, str, bytes, frozenset[str]]]:
        """Each dataset's number, name, version, and what it is about."""
        known: dict[str, frozenset[str]] = {}
        for number, name, digest, themes in self._db.execute("SELECT id, name, digest, themes FROM datasets"):
            if themes not in known:
                known[themes] = frozenset(json.loads(themes))
            yield number, name, digest, known[themes]

    def add(self, name: str, digest: bytes, context: Context) -> None:
        """Add a dataset that is not there."""
        row = self._db.execute(
            "INSERT INTO datasets (name, digest, themes) VALUES (?, ?, ?) RETURNING id",
            (name, digest, json.dumps(sorted(context.themes))),
        ).fetchone()
        places = ((self._described(seen), row[0], field) for field, seen in enumerate(context.fields))
        self._db.executemany("INSERT INTO places VALUES (?, ?, ?)", places)

    def remove(self, name: str) -> None:
        """Take a dataset away, with what it alone describes in its words."""
        row = self._db.execute("DELETE FROM datasets WHERE name = ? RETURNING id", (name,)).fetchone()
        if row is None:
            return
        places = self._db.execute("DELETE FROM places WHERE dataset = ? RETURNING described", row).fetchall()
        for place in set(places):
            if self._db.execute("SELECT 1 FROM places WHERE described = ? LIMIT 1", place).fetchone() is None:
                self._forget(place[0])

    def found(self, keys: Collection[str]) -> list[int]:
        """The numbers of the fields that are found under any of some keys."""
        statement = "SELECT DISTINCT described FROM postings WHERE key IN (SELECT value FROM json_each(?))"
        return [number for (number,) in self._db.execute(statement, (json.dumps(list(keys)),))]

    def seen(self, numbers: Iterable[int]) -> dict[int, Seen]:
        """Fields, by number."""
        statement = "SELECT id, seen FROM described WHERE id IN (SELECT value FROM json_each(?))"
        return {number: read_seen(data) for number, data in self._db.execute(statement, (json.dumps(list(numbers)),))}

    def places(self, number: int) -> list[tuple[int, int]]:
        """Where a field stands: the dataset's number, and the field's place in it."""
        return self._db.execute("SELECT dataset, field FROM places WHERE described = ?", (number,)).fetchall()

    def _described(self, seen: Seen) -> int:
        written = write_seen(seen)
        digest = sha256(written).digest()[:16]
        row = self._db.execute("SELECT id FROM described WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            statement = "INSERT INTO described (digest, seen) VALUES (?, ?) RETURNING id"
            row = self._db.execute(statement, (digest, written)).fetchone()
            self._db.executemany("INSERT INTO postings VALUES (?, ?)", [(key, row[0]) for key in set(keys(seen))])
        return int(row[0])

    def _forget(self, number: int) -> None:
        (data,) = self._db.execute("DELETE FROM described WHERE id = ? RETURNING seen", (number,)).fetchone()
        under = [(key, number) for key in set(keys(read_seen(data)))]
        self._db.executemany("DELETE FROM postings WHERE key = ? AND described = ?", under)


@cache
def _reader() -> int:
    """A number that is another one wherever fields might be read otherwise."""
    package = files("exchange.catalogue")
    digest = sha256(version("pypinyin").encode())
    for name in _READ_BY:
        digest.update(package.joinpath(name).read_bytes())
    return int.from_bytes(digest.digest()[:4]) % (2**31 - 1) + 1
