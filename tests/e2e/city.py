"""A small exchange for end-to-end tests: its homes are made in this process, its broker and adapters are real ones.

`City.build` makes one in a folder, in about a second; `copy` gives each test its own, on a port of its own.

    operator, broker        city.test, and its one broker
    population, registry    population/residents: 300 people
    civil-affairs, civil    civil-affairs/marriages: 100 marriages
    housing, applications   asks both, under one agreement each
    bureau, auditor         coordinator; auditor
"""

import asyncio
import os
import random
import secrets
import shutil
import socket
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.ledger import Ledger
from exchange.client import ExchangeClient, Session
from exchange.core import entries
from exchange.core.access import read_access_leaf
from exchange.core.checkpoint import Checkpoint, open_checkpoint
from exchange.core.directory import Directory
from exchange.core.lifetimes import SEALING_KEY
from exchange.core.merkle import Frontier, leaf_hash
from exchange.core.names import Party
from exchange.home import Home
from exchange.store.ports import Log
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from tests.e2e.faults import Faults
from tests.e2e.founding import (
    APPLICATIONS,
    BROKER,
    CIVIL,
    REGISTRY,
    RESIDENTS,
    Founding,
)
from tests.e2e.processes import TIMEOUT, Program, wait_until

# Of each log: its head's size, how many entries are stored, and the first and last index of these.
EXTENTS = (
    "SELECT heads.log, size, count(idx), coalesce(min(idx), 0), coalesce(max(idx), -1) FROM heads"
    " LEFT JOIN entries USING (log) GROUP BY heads.log, size"
)
# Replaced in every copy; nobody listens there.
_TEMPLATE_ADDRESS = "127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Row:
    """One answer of a ledger: its digests, and the entries of the access log that settle it, as (index, kind, code)."""

    number: int
    request_digest: bytes
    response_digest: bytes
    settlements: tuple[tuple[int, int, int], ...]


class City:
    """One exchange in a folder.

    Args:
        path: the folder.
        address: HOST:PORT of the broker.
    """

    def __init__(self, path: Path, address: str) -> None:
        self.path = path
        self.address = address
        (path / "output").mkdir(exist_ok=True)
        self._programs: dict[str, Program] = {}
        self.is_faulty = False

    # --- making one -----------------------------------------------------------------------------------

    @classmethod
    def build(cls, path: Path, *, sealing: int = SEALING_KEY) -> "City":
        """Make a template: everything is entered in the directory, nothing runs.

        Args:
            path: a folder.
            sealing: how long its sealing keys are valid, milliseconds.
        """
        path.mkdir(parents=True, exist_ok=True)
        asyncio.run(Founding(path, _TEMPLATE_ADDRESS, sealing=sealing).build())
        return cls(path, _TEMPLATE_ADDRESS)

    def copy(self, path: Path, *, faulty: bool = False) -> "City":
        """Another city with the same history, on a port of its own.

        Args:
            path: a folder that does not exist.
            faulty: its programs obey `tests.e2e.faulty`.
        """
        shutil.copytree(self.path, path)
        address = f"127.0.0.1:{free_port()}"
        for file in (*path.glob("*/trust.toml"), path / BROKER / "broker.toml"):
            text = file.read_text()
            assert f'"{self.address}"' in text
            file.write_text(text.replace(f'"{self.address}"', f'"{address}"'))
        city = City(path, address)
        city.is_faulty = faulty
        return city

    # --- its programs ---------------------------------------------------------------------------------

    @property
    def broker(self) -> Program:
        """`exchange broker run`."""
        return self._program(BROKER, "is ready on")

    @property
    def registry(self) -> Program:
        """`exchange-adapter run` of population/registry."""
        return self._program(REGISTRY, "is attached to")

    @property
    def civil(self) -> Program:
        """`exchange-adapter run` of civil-affairs/records."""
        return self._program(CIVIL, "is attached to")

    def start(self, *, civil: bool = False) -> None:
        """Start the broker and the registry's adapter, and civil affairs' where it is wanted; all ready on return.

        What runs already is left alone, but for adapters that have to attach to a new broker.
        """
        programs = [self.broker, self.registry, *([self.civil] if civil else [])]
        started = [program for program in programs if not program.is_running]
        waiting = programs if self.broker in started else started
        marks = [(program, program.mark()) for program in waiting]
        for program in started:
            program.start(wait=False)
        for program, mark in marks:
            program.wait_for(program.ready, mark)

    def restart_broker(self) -> None:
        """Start the broker after its end, and wait until every adapter that runs is attached again."""
        marks = [(adapter, adapter.mark()) for adapter in (self.registry, self.civil) if adapter.is_running]
        self.broker.start()
        for adapter, mark in marks:
            adapter.wait_for(adapter.ready, mark)

    def faults(self, name: str) -> Faults:
        """The faults of a program of a faulty city: BROKER, REGISTRY or CIVIL."""
        folder = self.path / "faults" / name
        folder.mkdir(parents=True, exist_ok=True)
        return Faults(folder)

    def close(self) -> None:
        """End every process that is still running."""
        for program in self._programs.values():
            program.kill()

    @contextmanager
    def running(self, *, civil: bool = False) -> Iterator["City"]:
        """Started; on leaving, every process is ended."""
        try:
            self.start(civil=civil)
            yield self
        finally:
            self.close()

    def _program(self, name: str, ready: str) -> Program:
        if name not in self._programs:
            is_broker = name.startswith(BROKER)
            module, *command = ("exchange.cli.main", "broker", "run") if is_broker else ("adapters.cli", "run")
            program = ["-c", f"from {module} import app; app()"]
            if self.is_faulty:
                program = ["-m", "tests.e2e.faulty", "broker" if is_broker else "adapter"]
            faults = self.faults(name).folder
            arguments = [*program, *command, "--home", str(self.path / name)]
            log = self.path / "output" / f"{name}.log"
            self._programs[name] = Program(arguments, log, ready, {"EXCHANGE_TEST_FAULTS": str(faults)})
        return self._programs[name]

    # --- its parties ----------------------------------------------------------------------------------

    def home(self, name: str) -> Home:
        """A party's home, by the names above."""
        return Home(self.path / name)

    def party(self, name: str) -> Party:
        """A party's name in the exchange."""
        return self.home(name).party

    def session(self, name: str) -> Session:
        """A session of a party; enter it with `async with`."""
        return Session(self.home(name))

    def client(self, name: str = APPLICATIONS) -> ExchangeClient:
        """A client of a system; enter it with `async with`."""
        return ExchangeClient(self.session(name))

    async def revoke(self, dataset: str = RESIDENTS) -> int:
        """The owner revokes the agreement on a dataset; returns the entry's index."""
        async with self.session(dataset.split("/")[0]) as session:
            directory = await session.sync()
            draft = entries.revocation_entry(session.party, secrets.token_bytes(16), _agreement(directory), "test")
            return (await session.append(session.sign(draft))).index

    # --- what is on record ----------------------------------------------------------------------------

    def access_log(self) -> list[AccessLeaf]:
        """All entries of the access log, read from the broker's file, whether it runs or not."""
        return [read_access_leaf(leaf) for leaf in self._leaves(Log.ACCESS)]

    def entries_of(self, digest: bytes) -> list[AccessLeaf]:
        """The access entries about a request, by its message digest."""
        return [leaf for leaf in self.access_log() if leaf.request_digest == digest]

    def kinds_of(self, digest: bytes) -> list[str]:
        """The kinds of the access entries about a request: released, unreleased, refused."""
        return [AccessKind.Name(leaf.kind).removeprefix("ACCESS_KIND_").lower() for leaf in self.entries_of(digest)]

    def ledger(self, name: str = REGISTRY) -> list[Row]:
        """All answers of an adapter's ledger, whether it runs or not."""
        path = self.path / name / "ledger.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT number, request_digest, response_digest FROM answers ORDER BY number").fetchall()
            settled = db.execute("SELECT number, log_index, kind, code FROM settlements ORDER BY log_index").fetchall()
        entries = defaultdict[int, list[tuple[int, int, int]]](list)
        for number, index, kind, code in settled:
            entries[number].append((index, kind, code))
        return [Row(number, asked, answered, tuple(entries[number])) for number, asked, answered in rows]

    def rows_of(self, digest: bytes, name: str = REGISTRY) -> list[Row]:
        """The ledger's answers to a request, by its message digest."""
        return [row for row in self.ledger(name) if row.request_digest == digest]

    def owed(self, name: str = REGISTRY) -> int:
        """How many answers of a ledger nothing settles yet."""
        return sum(not row.settlements for row in self.ledger(name))

    def wait_settled(self, name: str = REGISTRY, timeout: float = TIMEOUT) -> None:
        """Wait until nothing is owed."""
        wait_until(lambda: not self.owed(name), f"{self.owed(name)} receipts owed to {name}", timeout)

    def head(self, log: Log) -> Checkpoint:
        """The head of a log as the broker's file has it, its signature checked."""
        trust = self.home(BROKER).trust
        with self._database() as db:
            [(note,)] = db.execute("SELECT checkpoint FROM heads WHERE log = ?", (log.value,)).fetchall()
        return open_checkpoint(note, trust.access_log if log is Log.ACCESS else trust.directory_log)

    def anchored(self, log: Log) -> Checkpoint:
        """The head that the anchor keeps, its signature checked."""
        trust = self.home(BROKER).trust
        note = (self.path / BROKER / "anchor" / log.value).read_bytes()
        return open_checkpoint(note, trust.access_log if log is Log.ACCESS else trust.directory_log)

    def check(self) -> None:
        """What holds in every exchange at any moment, whatever crashed.

        Both logs' leaves make the root that their head signed; no request is released twice, and none has two answers
        in a ledger; what settles an answer is an entry of the log about it; the ledger's chain holds.
        """
        for log in Log:
            frontier, _ = Frontier().extend([leaf_hash(leaf) for leaf in self._leaves(log)])
            head = self.head(log)
            assert (frontier.size, frontier.root()) == (head.size, head.root)
        leaves = self.access_log()
        released = [(e.requester, e.request_id) for e in leaves if e.kind == AccessKind.ACCESS_KIND_RELEASED]
        assert len(released) == len(set(released))
        for name in (REGISTRY, CIVIL):
            self._check_ledger(name, leaves)

    def check_contiguous(self) -> None:
        """Each log has every index from 0 to its head."""
        with self._database() as db:
            require_contiguous(db.execute(EXTENTS).fetchall())

    def _check_ledger(self, name: str, leaves: list[AccessLeaf]) -> None:
        rows = self.ledger(name)
        assert len({row.request_digest for row in rows}) == len(rows)
        for row in rows:
            for index, kind, code in row.settlements:
                leaf = leaves[index]
                assert (leaf.response_digest, leaf.kind, leaf.code) == (row.response_digest, kind, code)
        if rows:
            reader = Ledger.read(self.path / name / "ledger.db")
            try:
                reader.verify()
            finally:
                reader.close()

    def _leaves(self, log: Log) -> list[bytes]:
        with self._database() as db:
            return [leaf for (leaf,) in db.execute("SELECT leaf FROM entries WHERE log = ? ORDER BY idx", (log.value,))]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        path = self.path / BROKER / "exchange.db"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            yield db


def require_contiguous(extents: Sequence[tuple[str, int, int, int, int]]) -> None:
    """That what `EXTENTS` finds are whole logs."""
    assert len(extents) == len(Log)
    for log, size, count, first, last in extents:
        assert (count, first, last) == (size, 0, size - 1), f"the {log} log is not contiguous"


def _agreement(directory: Directory) -> bytes:
    """The one agreement whose terms a department's own mirror holds."""
    [digest] = directory.terms.agreements
    return digest


def free_port() -> int:
    """A port below those that the kernel gives to outgoing connections, so that it stays free while a broker restarts.

    Several tests, also of other runs, may look at the same moment: their process ids set them apart.
    """
    chosen = random.Random(os.getpid() ^ secrets.randbits(32))
    while True:
        port = chosen.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
