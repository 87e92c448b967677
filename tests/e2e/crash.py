"""kill -9 under load, again and again: `python -m tests.e2e.crash ROUNDS [SEED]`; `make crash ROUNDS=200`.

Broker, both adapters and the PostgreSQL behind one of them are real processes. In every round requests are in flight
without a pause, one or two programs are killed at a random moment and started again, and the same bytes are sent
until each request has its answer. Then the logs are hashed again, and held against the ledgers and against every
answer that the client ever got. What is drawn is drawn from the seed; when a signal strikes, the machine says.
"""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine
from structlog.testing import capture_logs

from examples.city import postgres
from examples.city.databases import create_reader
from exchange.client import ExchangeClient, Prepared, RefusedError, UnavailableError
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import prepare
from tests.e2e.city import City
from tests.e2e.founding import BROKER, CIVIL, COUPLES, MARRIAGES, PEOPLE, REGISTRY, RESIDENTS, TABLES
from tests.e2e.processes import Program, until

# Where nobody asks for another number: enough for CI, and few enough for the desk.
ROUNDS = 20 if os.environ.get("CI") else 4
LEAST = 50  # answers a round
ASKING = 16  # requests in flight
SECONDS = 180.0  # that a round may take at the most
_PAUSE = 0.05
_SETTLING = (AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_UNRELEASED)
_TEMPORARY = {
    Code.CODE_AUDIT_UNAVAILABLE,
    Code.CODE_OVERLOADED,
    Code.CODE_PROVIDER_UNAVAILABLE,
    Code.CODE_STATE_STALE,
}
POSTGRES = "postgres"
VICTIMS: Sequence[tuple[str, ...]] = (
    (BROKER,),
    (REGISTRY,),
    (CIVIL,),
    (POSTGRES,),
    (BROKER, REGISTRY),
    (REGISTRY, CIVIL),
    (BROKER, POSTGRES),
    (BROKER, REGISTRY, CIVIL),
)


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Where the requests in flight stood when the signal struck, as the files say.

    Args:
        victims: what was killed.
        asked: how many had no answer in a ledger yet.
        committed: how many were in a ledger, and not in the log.
        released: how many were in the log, and not with the client.
    """

    victims: tuple[str, ...]
    asked: int
    committed: int
    released: int

    def __str__(self) -> str:
        where = f"{self.asked} asked, {self.committed} committed, {self.released} released"
        return f"{'+'.join(self.victims):26} {where}"


@dataclass(slots=True)
class Load:
    """Requests without a pause, each sent with the same bytes until it is answered."""

    client: ExchangeClient
    random: random.Random
    held: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)  # request to entry and response
    in_flight: dict[bytes, Prepared] = field(default_factory=dict)
    stopping: bool = False

    async def run(self) -> None:
        """Ask until `stopping`, and then until nothing is in flight."""
        self.stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(ASKING):
                group.create_task(self._ask())

    async def _ask(self) -> None:
        while not self.stopping:
            dataset = self.random.choice((RESIDENTS, MARRIAGES))
            number = self.random.randrange(PEOPLE if dataset == RESIDENTS else COUPLES)
            prepared = await prepare(self.client, number, dataset)
            digest = prepared.envelope.digest
            self.in_flight[digest] = prepared
            await self._submit(prepared)
            del self.in_flight[digest]

    async def _submit(self, prepared: Prepared) -> None:
        while True:
            try:
                answer = await self.client.submit(prepared)
            except RefusedError as error:
                if error.code not in _TEMPORARY:
                    raise
            except UnavailableError:
                pass
            else:
                self.held[prepared.envelope.digest] = (answer.index, answer.response.digest)
                return
            await asyncio.sleep(_PAUSE)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to: its answers, and where it was killed."""

    answers: int
    point: KillPoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all rounds came to.

    Args:
        rounds: one after the other.
        held: every answer that the client got, as for `check_story`.
    """

    rounds: tuple[Round, ...]
    held: Mapping[bytes, tuple[int, bytes]]

    def __str__(self) -> str:
        points = {done.point for done in self.rounds}
        answers = sum(done.answers for done in self.rounds)
        return (
            f"{len(self.rounds)} rounds, {answers:,} answers, {len(points)} distinct kill points: "
            "nothing lost, nothing twice"
        )


class Crashes:
    """Rounds over one city.

    Args:
        city: running, with civil affairs' adapter on `database`.
        database: the PostgreSQL.
        client: of housing, entered.
        seed: of all that is drawn.
    """

    def __init__(self, city: City, database: "Database", client: ExchangeClient, seed: int) -> None:
        self._city = city
        self._database = database
        self._random = random.Random(seed)
        self._load = Load(client, self._random)

    @property
    def held(self) -> Mapping[bytes, tuple[int, bytes]]:
        """The answers that the client holds."""
        return self._load.held

    @property
    def answers(self) -> int:
        """How many these are."""
        return len(self.held)

    async def round(self) -> Round:
        """Load, a kill, restarts, and the check."""
        before = self.answers
        asking = asyncio.create_task(self._load.run())
        try:
            async with asyncio.timeout(SECONDS):
                await self._answered(before + self._random.randrange(LEAST), asking)
                await asyncio.sleep(self._random.random() * 0.05)
                point = self._kill(self._random.choice(VICTIMS))
                await self._restart(point.victims)
                await self._answered(before + LEAST, asking)
                self._load.stopping = True
                await asking
        except TimeoutError:
            raise AssertionError(f"{self.answers - before} answers in {SECONDS:g} s, at least {LEAST} asked") from None
        finally:
            asking.cancel()
        await self._check()
        return Round(self.answers - before, point)

    async def _answered(self, count: int, asking: "asyncio.Task[None]") -> None:
        while self.answers < count:
            if asking.done():
                await asking
            await asyncio.sleep(0.005)

    def _kill(self, victims: tuple[str, ...]) -> KillPoint:
        for victim in victims:
            self._database.kill() if victim == POSTGRES else os.kill(self._program(victim).pid, signal.SIGKILL)
        for victim in victims:
            if victim != POSTGRES:
                self._program(victim).wait_exit()
        return self._point(victims)

    def _point(self, victims: tuple[str, ...]) -> KillPoint:
        flying = set(self._load.in_flight)
        answered = {row.request_digest for name in (REGISTRY, CIVIL) for row in self._city.ledger(name)}
        logged = {leaf.request_digest for leaf in self._city.access_log() if leaf.kind in _SETTLING}
        stages = Counter((digest in answered, digest in logged) for digest in flying)
        return KillPoint(victims, stages[False, False], stages[True, False], stages[True, True])

    async def _restart(self, victims: tuple[str, ...]) -> None:
        if POSTGRES in victims:
            await asyncio.to_thread(self._database.start)
        await asyncio.to_thread(self._city.start, civil=True)

    def _program(self, name: str) -> Program:
        return {BROKER: self._city.broker, REGISTRY: self._city.registry, CIVIL: self._city.civil}[name]

    async def _check(self) -> None:
        """After the restart: the client's answers, the log and the ledgers tell one story."""
        await self._load.client.settle()
        for name in (REGISTRY, CIVIL):
            await until(lambda at=name: not self._city.owed(at), f"receipts for {name}")
        await asyncio.to_thread(check_story, self._city, self.held)


def check_story(city: City, held: Mapping[bytes, tuple[int, bytes]]) -> None:
    """What must hold when nothing is in flight and nothing is owed.

    Args:
        city: its files.
        held: the answers that clients have: request's digest to entry and response's digest.
    """
    # Rehashes both logs and both ledgers; no request is released twice, and no settlement is made up.
    city.check()
    check_contiguous(city)
    leaves = city.access_log()
    for digest, (index, response) in held.items():
        leaf = leaves[index]
        found = (leaf.kind, leaf.request_digest, leaf.response_digest)
        assert found == (AccessKind.ACCESS_KIND_RELEASED, digest, response), f"an answer without its entry {index}"
    settled = {leaf.response_digest for leaf in leaves if leaf.kind in _SETTLING}
    answered = {row.response_digest for name in (REGISTRY, CIVIL) for row in city.ledger(name)}
    assert settled == answered, "the log and the ledgers disagree about what was answered"


def check_contiguous(city: City) -> None:
    """Each log has every index from 0 to its head."""
    with closing(sqlite3.connect(f"{(city.path / BROKER / 'exchange.db').as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT heads.log, size, count(idx), coalesce(min(idx), 0), coalesce(max(idx), -1) FROM heads"
            " LEFT JOIN entries USING (log) GROUP BY heads.log"
        ).fetchall()
    for log, size, count, first, last in rows:
        assert (count, first, last) == (size, 0, size - 1), f"the {log} log is not contiguous"


class Database:
    """Civil affairs' PostgreSQL, at an address that stays the same over its runs.

    Args:
        folder: a short path, for the sake of a socket's; made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sockets = folder / "s"
        folder.mkdir(mode=0o755, exist_ok=True)

    def start(self) -> None:
        """Start it, once everything of the run before has ended."""
        for _ in range(100):
            # Until the last child of a killed server is gone, its shared memory is in use.
            with suppress(postgres.PostgresError):
                url = postgres.start(self._folder)
                break
        else:
            url = postgres.start(self._folder)
        self._sockets.unlink(missing_ok=True)
        self._sockets.symlink_to(str(url.query["host"]))

    def fill(self, home: Path) -> None:
        """Give it the table of marriages, and the adapter of a home a role that reads it."""
        url = postgres.running(self._folder)
        assert url is not None
        engine = create_engine(url)
        with engine.begin() as connection, closing(sqlite3.connect(home / "data.db")) as data:
            connection.exec_driver_sql(TABLES[MARRIAGES])
            rows = data.execute("SELECT * FROM marriages").fetchall()
            connection.exec_driver_sql("INSERT INTO marriages VALUES (%s, %s, %s)", rows)
        reader = create_reader(engine)
        engine.dispose()
        reader = reader.set(query=dict(reader.query) | {"host": str(self._sockets)})
        config = home / "adapter.toml"
        text = config.read_text()
        assert "sqlite:///data.db" in text
        config.write_text(text.replace("sqlite:///data.db", reader.render_as_string(hide_password=False)))

    def kill(self) -> None:
        """SIGKILL to its first process; the others then end by themselves."""
        server = int((self._folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        ended = os.pidfd_open(server)
        try:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        finally:
            os.close(ended)

    def stop(self) -> None:
        """Stop it, if it runs."""
        postgres.stop(self._folder)


@contextmanager
def crash_city(template: City, folder: Path) -> Iterator[tuple[City, Database]]:
    """A copy of a city, running, whose civil affairs keep their marriages in PostgreSQL.

    Args:
        template: from `City.build`.
        folder: does not exist yet.
    """
    city = template.copy(folder)
    with tempfile.TemporaryDirectory(prefix="crash-") as short:
        Path(short).chmod(0o755)
        database = Database(Path(short) / "pg")
        try:
            database.start()
            database.fill(city.path / CIVIL)
            with city.running(civil=True):
                yield city, database
        finally:
            database.stop()


async def crash(city: City, database: Database, rounds: int, seed: int, report: Callable[[str], None]) -> Outcome:
    """Run so many rounds.

    Args:
        city, database: from `crash_city`.
        rounds: one at least.
        seed: of all that is drawn.
        report: takes a line a round.
    """
    finished = []
    async with city.client() as client:
        crashes = Crashes(city, database, client, seed)
        for number in range(1, rounds + 1):
            done = await crashes.round()
            finished.append(done)
            report(f"round {number:3}  {done.answers:4} answers  killed {done.point}")
    return Outcome(tuple(finished), crashes.held)


def main() -> None:
    """The rounds that the command line asks for."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"{rounds} rounds from seed {seed} (make crash ROUNDS={rounds} SEED={seed} draws the same)", flush=True)
    with tempfile.TemporaryDirectory(prefix="crash-city-") as folder:
        with capture_logs():
            template = City.build(Path(folder) / "template")
        with crash_city(template, Path(folder) / "city") as (city, database):
            print(asyncio.run(crash(city, database, rounds, seed, lambda line: print(line, flush=True))))


if __name__ == "__main__":
    main()
