"""Confirmed flaws, each as a test that fails until it is mended; see the security review's report for the numbers."""

import asyncio
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adapters.tunnel import Tunnel
from exchange.broker.genesis import log_signers
from exchange.broker.proofs import load_frontier
from exchange.client import ExchangeError
from exchange.core import entries
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.envelope import REFUSAL, RESPONSE, Envelope
from exchange.core.merkle import leaf_hash
from exchange.core.wire import encode
from exchange.store.ports import Batch, Head, Log, NewEntry
from exchange.store.sql import SqlLogStore
from exchange.transport import SUBMIT
from exchange.v1.access_pb2 import AccessKind, AccessLeaf
from exchange.v1.directory_pb2 import Application
from exchange.v1.gateway_pb2 import Delivery
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.founding import (
    AUDITOR,
    BROKER,
    CIVIL,
    HOUSING,
    POPULATION,
    PURPOSE,
)
from tests.e2e.processes import ROOT, Program


def rubbish(kind: str, size: int) -> Envelope:
    """An envelope that nobody signed."""
    return Envelope(secrets.token_bytes(32), kind, secrets.token_bytes(size), 1, 0, (), b"x" * 70)


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the project."""
    program = f"from {module} import app; app()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=False, capture_output=True, text=True, cwd=ROOT
    )


@contextmanager
def forging(template: City, path: Path, mode: str) -> Any:
    """A city whose broker forges settlements; its adapter is the real one."""
    city = template.copy(path)
    arguments = ["-m", "tests.security_findings.forging", "run", "--home", str(city.path / BROKER)]
    broker = Program(arguments, city.path / "output" / "forging.log", "is ready on", {"FORGE": mode})
    try:
        broker.start()
        city.registry.start()
        yield city
    finally:
        broker.kill()
        city.close()


# 3
async def test_a_provider_answers_nothing_new_while_consistency_is_not_proved(template: City, tmp_path: Path) -> None:
    with forging(template, tmp_path / "city", "logs") as city:
        async with city.client() as client:
            end = time.monotonic() + 12
            while time.monotonic() < end:
                with suppress(ExchangeError):
                    await ask(client)
                await asyncio.sleep(0.5)
        late = [row for row in city.ledger() if row.number > 16]
        assert not late, f"{len(late)} answers after 8 s, each settled by a log of its own that nothing proves"


# 4
async def test_a_settlement_that_names_others_is_no_receipt(template: City, tmp_path: Path) -> None:
    with forging(template, tmp_path / "city", "names") as city:
        async with city.client() as client:
            await ask(client)
        await asyncio.sleep(2)
        assert city.owed() == 1, "the entry names another requester, provider and request"


# 5
async def test_no_more_than_a_thousand_receipts_are_ever_owed() -> None:
    let_go, answered = asyncio.Event(), []

    class Answerer:
        async def answer(self, frame: bytes) -> tuple[None, bytes]:
            await let_go.wait()
            answered.append(frame)
            return None, rubbish(RESPONSE, 50).encode()

        def refusal(self, deny: Any, digest: bytes) -> Envelope:
            return rubbish(REFUSAL, 50)

    nothing: Any = None
    tunnel = Tunnel("broker", nothing, Answerer(), nothing, nothing, lambda _: None)  # type: ignore[arg-type]
    tunnel.is_ready = True
    tunnel._post = lambda _: None  # type: ignore[method-assign]
    waiting = [asyncio.create_task(tunnel._deliver(Delivery(flight=number))) for number in range(1500)]
    await asyncio.sleep(0.5)
    let_go.set()
    await asyncio.gather(*waiting)
    assert len(answered) <= 1001, f"{len(answered)} answers were given, and no receipt came"


# 6
async def test_the_broker_cannot_see_whether_anybody_was_found(city: City) -> None:
    async with city.client() as client:
        sizes = {len((await ask(client, number)).response.attachments[0]) for number in (1, 250, 5000)}
    assert len(sizes) == 1, f"one lookup of one key has {sorted(sizes)} bytes of ciphertext, the least for nobody"


# 9
async def test_a_party_past_its_budget_cannot_flood_the_log(city: City) -> None:
    city.broker.stop()
    file = city.path / BROKER / "broker.toml"
    text = file.read_text().replace("requests_per_second = 2000", "requests_per_second = 1")
    file.write_text(text.replace("burst = 4000", "burst = 1"))
    city.broker.start()
    async with city.session(CIVIL) as session:
        before = len(city.access_log())
        calls = (session.transport.unary(SUBMIT, b"rubbish %d" % number, 30) for number in range(200))
        await asyncio.gather(*calls, return_exceptions=True)
    assert len(city.access_log()) - before < 20


# 12
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


# 13
async def test_a_time_beyond_the_database_does_not_stop_the_auditor(city: City) -> None:
    city.broker.stop()
    _append_leaf(city, AccessLeaf(format=1, time=2**64 - 1, kind=AccessKind.ACCESS_KIND_REFUSED, code=2))
    city.broker.start()
    done = command("exchange.cli.audit.main", "sync", "--home", str(city.path / AUDITOR))
    assert "unexpected" not in done.stderr, done.stderr


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
