"""kill -9 under load, again and again: `python -m tests.e2e.crash ROUNDS [SEED]`; `make crash ROUNDS=200`.

Brokers, both adapters and PostgreSQL are real processes. In every round requests are in flight without a pause, one or
more programs are killed at a random moment and started again, and the same bytes are sent until each request has its
answer. Then the logs are hashed again, and held against the ledgers and against every answer that the client ever got.

Rounds are run in stretches, each in a city of its own, so that a check does not grow with the number of rounds. By
turns the logs are in a SQLite file, with PostgreSQL behind one adapter alone, and in that PostgreSQL, with two brokers
on it. What is drawn is drawn from the seed; when a signal strikes, the machine says.
"""

import asyncio
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from exchange.client import ExchangeClient, Prepared, RefusedError, UnavailableError
from exchange.v1.access_pb2 import AccessKind, Code
from tests.e2e.asking import prepare
from tests.e2e.city import City
from tests.e2e.crash_cities import Database, crash_city, shared_crash_city
from tests.e2e.founding import BROKER, CIVIL, COUPLES, MARRIAGES, PEOPLE, REGISTRY, RESIDENTS
from tests.e2e.processes import until
from tests.e2e.shared import SECOND, SharedCity

# Where nobody asks for another number: enough for CI, and few enough for the desk.
ROUNDS = 20 if os.environ.get("CI") else 4
LEAST = 50  # answers a round
STRETCH = 25  # rounds in one city
LANES = 2  # cities at a time
ASKING = 16  # requests in flight
SECONDS = 180.0  # that a round may take at the most
_PAUSE = 0.05
_SETTLING = (AccessKind.ACCESS_KIND_RELEASED, AccessKind.ACCESS_KIND_UNRELEASED)
_TEMPORARY = {
    Code.CODE_AUDIT_UNAVAILABLE,
    Code.CODE_INTERRUPTED,
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
SHARED_VICTIMS: Sequence[tuple[str, ...]] = (
    (BROKER,),
    (SECOND,),
    (REGISTRY,),
    (POSTGRES,),
    (POSTGRES,),
    (BROKER, SECOND),
    (BROKER, POSTGRES),
    (SECOND, REGISTRY, CIVIL),
)


@dataclass(frozen=True, slots=True)
class KillPoint:
    """Where the requests in flight stood when the signal struck, as the files say.

    Args:
        victims: what was killed; where that was the logs' own PostgreSQL, its files are read once it runs again.
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
        return f"{'+'.join(self.victims):27} {where}"


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


def summary(rounds: Sequence[Round]) -> str:
    """What they came to, in one line."""
    points = {done.point for done in rounds}
    answers = sum(done.answers for done in rounds)
    return f"{len(rounds)} rounds, {answers:,} answers, {len(points)} distinct kill points: nothing lost, nothing twice"


class Crashes:
    """Rounds over one city.

    Args:
        city: running, with civil affairs' adapter on `database`; a shared one has its logs there too.
        database: the PostgreSQL.
        client: of housing, entered.
        seed: of all that is drawn.
    """

    def __init__(self, city: City, database: "Database", client: ExchangeClient, seed: int) -> None:
        self._city = city
        self._database = database
        self._random = random.Random(seed)
        self._load = Load(client, self._random)
        self._programs = {BROKER: city.broker, REGISTRY: city.registry, CIVIL: city.civil}
        self._victims = VICTIMS
        if isinstance(city, SharedCity):
            self._programs[SECOND] = city.second
            self._victims = SHARED_VICTIMS

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
                point = await self._killed(self._random.choice(self._victims))
                await asyncio.to_thread(self._restart)
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

    async def _killed(self, victims: tuple[str, ...]) -> KillPoint:
        for victim in victims:
            self._database.kill() if victim == POSTGRES else os.kill(self._programs[victim].pid, signal.SIGKILL)
        for victim in victims:
            if victim != POSTGRES:
                self._programs[victim].wait_exit()
        if POSTGRES in victims:
            await asyncio.to_thread(self._database.start)
        for name, program in self._programs.items():
            assert name in victims or program.is_running, f"{name} ended with {victims}:\n{program.output}"
        return self._point(victims)

    def _point(self, victims: tuple[str, ...]) -> KillPoint:
        flying = set(self._load.in_flight)
        answered = {row.request_digest for name in (REGISTRY, CIVIL) for row in self._city.ledger(name)}
        logged = {leaf.request_digest for leaf in self._city.access_log() if leaf.kind in _SETTLING}
        stages = Counter((digest in answered, digest in logged) for digest in flying)
        return KillPoint(victims, stages[False, False], stages[True, False], stages[True, True])

    def _restart(self) -> None:
        started = [program for program in self._programs.values() if not program.is_running]
        for program in started:
            program.start(wait=False)
        for program in started:
            program.wait_ready()

    async def _check(self) -> None:
        """After the restart: the client's answers, the log and the ledgers tell one story."""
        for name, program in self._programs.items():
            assert program.is_running, f"{name} ended by itself:\n{program.output}"
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
    city.check_contiguous()
    leaves = city.access_log()
    for digest, (index, response) in held.items():
        leaf = leaves[index]
        found = (leaf.kind, leaf.request_digest, leaf.response_digest)
        assert found == (AccessKind.ACCESS_KIND_RELEASED, digest, response), f"an answer without its entry {index}"
    settled = {leaf.response_digest for leaf in leaves if leaf.kind in _SETTLING}
    answered = {row.response_digest for name in (REGISTRY, CIVIL) for row in city.ledger(name)}
    assert settled == answered, "the log and the ledgers disagree about what was answered"


async def crash(
    city: City, database: Database, rounds: int, seed: int, report: Callable[[str], None], before: int = 0
) -> Outcome:
    """Run so many rounds.

    Args:
        city, database: from `crash_city`.
        rounds: one at least.
        seed: of all that is drawn.
        report: takes a line a round.
        before: how many rounds there were already, for their numbers.
    """
    finished = []
    async with city.client() as client:
        crashes = Crashes(city, database, client, seed)
        for number in range(before + 1, before + rounds + 1):
            done = await crashes.round()
            finished.append(done)
            report(f"round {number:3}  {done.answers:4} answers  killed {done.point}")
    return Outcome(tuple(finished), crashes.held)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rounds in one city.

    Args:
        template: from `City.build`.
        folder: of the city; does not exist yet.
        is_shared: whether it has two brokers, and its logs in PostgreSQL.
        before: how many rounds there were already.
        rounds: how many to run.
        seed: of all that is drawn.
    """

    template: City
    folder: Path
    is_shared: bool
    before: int
    rounds: int
    seed: int

    def run(self) -> tuple[Round, ...]:
        """Run them, and print a line for each."""
        where = "PostgreSQL" if self.is_shared else "SQLite    "
        opened = shared_crash_city(self.folder) if self.is_shared else crash_city(self.template, self.folder)
        with capture_logs(), opened as (city, database):
            report = partial(print, f"logs in {where}", flush=True)
            outcome = asyncio.run(crash(city, database, self.rounds, self.seed, report, self.before))
        shutil.rmtree(self.folder)
        return outcome.rounds


def stretches(folder: Path, rounds: int, seed: int) -> Iterator[Stretch]:
    """What so many rounds are made of: of both kinds of city by turns, however few they are.

    Args:
        folder: for their cities.
        rounds: one at least.
        seed: of all that is drawn.
    """
    chance, before = random.Random(seed), 0
    template = City.build(folder / "template")
    length = min(STRETCH, -(-rounds // LANES))
    while before < rounds:
        count, number = min(length, rounds - before), before // length
        path = folder / f"city-{number}"
        yield Stretch(template, path, bool(number % 2), before, count, chance.randrange(1 << 32))
        before += count


def run(rounds: int, seed: int) -> list[Round]:
    """Run the rounds, two cities at a time: while the programs of one start, the other answers.

    Args:
        rounds: one at least.
        seed: of all that is drawn.
    """
    finished: list[Round] = []
    with (
        tempfile.TemporaryDirectory(prefix="crash-city-") as folder,
        ProcessPoolExecutor(LANES, multiprocessing.get_context("spawn"), end_when_told) as lanes,
    ):
        with capture_logs():
            running = [lanes.submit(stretch.run) for stretch in stretches(Path(folder), rounds, seed)]
        try:
            for done in as_completed(running):
                finished += done.result()
        except BaseException:
            # So that whatever was started ends too.
            for child in multiprocessing.active_children():
                child.terminate()
            lanes.shutdown(cancel_futures=True)
            raise
    return finished


def end_when_told() -> None:
    """Let SIGTERM end this process as an error does, with all that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def main() -> None:
    """The rounds that the command line asks for."""
    end_when_told()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"{rounds} rounds from seed {seed} (make crash ROUNDS={rounds} SEED={seed} draws the same)", flush=True)
    print(summary(run(rounds, seed)))


if __name__ == "__main__":
    main()
