"""A broker that has the keys of the logs, and lies: to adapters about receipts, to auditors about times."""

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exchange.broker.genesis import log_signers
from exchange.broker.proofs import load_frontier
from exchange.client import ExchangeError
from exchange.core import entries
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.merkle import leaf_hash
from exchange.core.wire import encode
from exchange.store.ports import Batch, Head, Log, NewEntry
from exchange.store.sql import SqlLogStore
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from exchange.v1.directory_pb2 import Application
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.founding import AUDITOR, BROKER, HOUSING, POPULATION, PURPOSE
from tests.e2e.processes import ROOT, Program


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the project."""
    program = f"from {module} import app; app()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, cwd=ROOT
    )


@contextmanager
def forging(template: City, path: Path, mode: str) -> Iterator[City]:
    """A city whose broker forges settlements; its adapter is the real one."""
    city = template.copy(path)
    arguments = ["-m", "tests.e2e.forging", "run", "--home", str(city.path / BROKER)]
    broker = Program(arguments, city.path / "output" / "forging.log", "is ready on", {"FORGE": mode})
    try:
        broker.start()
        city.registry.start()
        yield city
    finally:
        broker.kill()
        city.close()


async def test_a_provider_answers_nothing_new_while_consistency_is_not_proved(template: City, tmp_path: Path) -> None:
    """Each answer is settled by a log of its own; five seconds later one of them would have to be proved."""
    with forging(template, tmp_path / "city", "logs") as city:
        async with city.client() as client:
            end = time.monotonic() + 9
            answered = []
            while time.monotonic() < end:
                with suppress(ExchangeError):
                    await ask(client)
                    answered.append(time.monotonic())
                await asyncio.sleep(0.3)
        assert answered
        assert max(answered) < end - 1
        assert "owes this provider a proof" in city.registry.output or len(city.ledger()) < 25


async def test_a_settlement_that_names_others_is_no_receipt(template: City, tmp_path: Path) -> None:
    with forging(template, tmp_path / "city", "names") as city:
        mark = city.registry.mark()
        async with city.client() as client:
            await ask(client)
            await city.registry.seen("a settlement does not hold", mark)
        assert city.owed() == 1


async def test_the_broker_cannot_see_whether_anybody_was_found(city: City) -> None:
    async with city.client() as client:
        answers = [await ask(client, number) for number in (1, 250, 5000)]
    assert [len(answer.rows) for answer in answers] == [1, 1, 0]
    assert len({len(answer.response.attachments[0]) for answer in answers}) == 1


async def test_a_date_beyond_the_calendar_does_not_stop_the_owners_command(city: City) -> None:
    async with city.session(HOUSING) as session:
        directory = await session.sync()
        dataset = directory.dataset_named("exchange://city.test/population", "residents")
        assert dataset is not None
        application = Application(
            format=1,
            dataset=dataset.object_id,
            grantee=str(session.party),
            operations=[1],
            fields=["name"],
            purposes=[PURPOSE],
            not_after=2**64 - 1,
        )
        version = entries.ObjectVersion(secrets.token_bytes(16))
        draft = entries.body_entry(session.party, version, application, secrets.token_bytes(32))
        with suppress(ExchangeError):
            await session.append(session.sign(draft))
    done = command("exchange.cli.main", "agreement", "list", "--home", str(city.path / POPULATION))
    assert done.returncode == 0, done.stderr


async def test_a_time_beyond_the_database_does_not_stop_the_auditor(city: City) -> None:
    assert city.broker.stop() == 0
    _append_leaf(city, AccessLeaf(format=1, time=2**64 - 1, kind=AccessKind.ACCESS_KIND_REFUSED, code=2))
    city.broker.start()
    done = command("exchange.cli.audit.main", "sync", "--home", str(city.path / AUDITOR))
    assert "unexpected" not in done.stderr, done.stderr
    verified = command("exchange.cli.audit.main", "verify", "full", "--home", str(city.path / AUDITOR))
    assert verified.returncode == 1, verified.stdout
    assert "entry 0 of city.test/access" in verified.stdout


def _append_leaf(city: City, leaf: AccessLeaf) -> None:
    """What an operator with the log key can do."""
    store, signer = SqlLogStore.open(city.path / BROKER / "exchange.db"), log_signers(city.home(BROKER))[Log.ACCESS]
    try:
        head, data = store.head(Log.ACCESS), encode(leaf)
        frontier, nodes = load_frontier(store, Log.ACCESS, head.size).extend([leaf_hash(data)])
        note = sign_checkpoint(Checkpoint(signer.name, frontier.size, frontier.root()), signer)
        after = Head(Log.ACCESS, frontier.size, note, head.time)
        with store.locked() as transaction:
            transaction.append(Batch(Log.ACCESS, head.size, (NewEntry(data, b"", None),), nodes, after))
    finally:
        store.close()
