"""An exchange that was used and audited, and what attackers do to its files."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.directory import Directory
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.note import NoteSigner
from exchange.core.wire import decode
from exchange.store.ports import AccessIndex, Batch, Head, Log, NewEntry
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import AccessLeaf, Code
from exchange.v1.directory_pb2 import DirectoryLeaf
from tests.e2e.asking import ask, prepare, refused
from tests.e2e.attacks import commands
from tests.e2e.city import City
from tests.e2e.founding import AUDITOR, BROKER

ACCESS = "city.test/access"
DIRECTORY = "city.test/directory"
DATABASE = "exchange.db"
OLDER, SIZE = 4, 10


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a log: its leaf and its body."""

    leaf: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Stage:
    """Ten entries of the access log, all mirrored by the auditor, who read the nine before the last; nothing runs.

    Args:
        city: as it is now.
        older: as it was when it had four.
    """

    city: City
    older: City

    def city_at(self, path: Path, *, faulty: bool = False) -> City:
        """A copy that may be started and spoilt."""
        return self.city.copy(path, faulty=faulty)

    def database_at(self, path: Path) -> Path:
        """A copy of the broker's database."""
        return Path(shutil.copy(self.city.path / BROKER / DATABASE, path))

    def auditor_at(self, path: Path) -> Path:
        """A copy of the auditor's home, with its mirror."""
        return Path(shutil.copytree(self.city.path / AUDITOR, path))


def set_stage(template: City, folder: Path) -> Stage:
    """Use an exchange for a while, and have it audited."""
    city = template.copy(folder / "used")
    with city.running():
        asyncio.run(_use(city, range(OLDER)))
        city.wait_settled()
    older = city.copy(folder / "older")
    with city.running():
        asyncio.run(_use(city, range(OLDER, SIZE - 2)))
        asyncio.run(_be_refused(city))
        city.wait_settled()
        # The second time it mirrors the entry of its own reading.
        for _ in range(2):
            synced = commands.sync(city.path / AUDITOR)
            assert synced.code == 0, synced.output
        for program in (city.registry, city.broker):
            assert program.stop() == 0
    assert len(city.access_log()) == SIZE
    return Stage(city, older)


async def _use(city: City, people: Sequence[int]) -> None:
    async with city.client() as client:
        for number in people:
            await ask(client, number)


async def _be_refused(city: City) -> None:
    async with city.client() as client:
        with refused(Code.CODE_FIELD_NOT_GRANTED):
            await client.submit(await prepare(client, 0, fields=("birth_date",)))


def alter(file: Path, *statements: str, values: Sequence[object] = ()) -> None:
    """Run statements on a database; each must change something. The values are the last one's."""
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA foreign_keys = OFF")
        for number, statement in enumerate(statements, 1):
            assert db.execute(statement, values if number == len(statements) else ()).rowcount > 0, statement


def leaf_of(database: Path, index: int) -> bytes:
    """One leaf of the access log."""
    return entries_of(database)[index].leaf


def entries_of(database: Path, log: Log = Log.ACCESS) -> list[Entry]:
    """A log's rows."""
    with closing(sqlite3.connect(database)) as db:
        rows = db.execute("SELECT leaf, body FROM entries WHERE log = ? ORDER BY idx", (log.value,)).fetchall()
    return [Entry(*row) for row in rows]


def checkpoint_of(database: Path, log: Log = Log.ACCESS) -> bytes:
    """A log's signed head."""
    with closing(sqlite3.connect(database)) as db:
        [(note,)] = db.execute("SELECT checkpoint FROM heads WHERE log = ?", (log.value,)).fetchall()
    return bytes(note)


def cosigned_of(city: City) -> int:
    """The size of the directory that enough witnesses have cosigned last."""
    with closing(sqlite3.connect(f"{(city.path / BROKER / DATABASE).as_uri()}?mode=ro", uri=True)) as db:
        [(size,)] = db.execute("SELECT coalesce(max(size), 0) FROM cosigned WHERE log = 'directory'").fetchall()
    return int(size)


def directory_of(city: City) -> Directory:
    """The directory that the broker's database makes, every body known."""
    directory = Directory.genesis("city.test", city.home(BROKER).trust.root_key)
    for entry in entries_of(city.path / BROKER / DATABASE, Log.DIRECTORY):
        directory, _ = directory.apply(entry.leaf, entry.body)
    return directory


def rewrite(
    database: Path, signer: NoteSigner, change: Callable[[list[Entry]], list[Entry]], log: Log = Log.ACCESS
) -> None:
    """Make a log anew from other entries, with every node, index and the signed head right: whoever has a key can.

    Args:
        database: a copy of the broker's.
        signer: of the log key, stolen or made up.
        change: the entries that there were to those that there are to have been.
    """
    entries = change(entries_of(database, log))
    alter(
        database,
        f"DELETE FROM entries WHERE log = '{log.value}'",
        f"DELETE FROM nodes WHERE log = '{log.value}'",
        f"UPDATE heads SET size = 0, checkpoint = x'', time = 0 WHERE log = '{log.value}'",
    )
    frontier, nodes = Frontier().extend([leaf_hash(entry.leaf) for entry in entries])
    note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
    rows = [_row(log, entry) for entry in entries]
    time = decode(DirectoryLeaf if log is Log.DIRECTORY else AccessLeaf, entries[-1].leaf).time
    with closing(SqlLogStore.open(database)) as store, store.locked() as transaction:
        transaction.append(Batch(log, 0, tuple(rows), nodes, Head(log, frontier.size, note, time)))


def _row(log: Log, entry: Entry) -> NewEntry:
    if log is Log.DIRECTORY:
        return NewEntry(entry.leaf, entry.body, None)
    leaf = read_access_leaf(entry.leaf)
    names = ("time", "kind", "code", "requester", "provider", "request_id", "request_digest", "response_digest")
    return NewEntry(entry.leaf, entry.body, AccessIndex(**{name: getattr(leaf, name) for name in names}))


def changed(entry: Entry, **fields: object) -> Entry:
    """The entry with other fields in its leaf."""
    leaf = read_access_leaf(entry.leaf)
    for name, value in fields.items():
        setattr(leaf, name, value)
    return Entry(leaf.SerializeToString(deterministic=True), entry.body)
