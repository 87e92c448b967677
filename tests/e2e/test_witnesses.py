"""Witnesses as people run them: a broker, an adapter and witness servers, each a process of its own."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.ledger import Ledger
from exchange.broker.genesis import log_signers
from exchange.cli.audit.main import app as audit
from exchange.cli.main import app as exchange
from exchange.client import Answer, RefusedError, Session, StaleError
from exchange.client.client import ExchangeClient
from exchange.client.storage import DIRECTORY
from exchange.core.access import verify_receipt
from exchange.core.checkpoint import Checkpoint, sign_checkpoint
from exchange.core.merkle import leaf_hash
from exchange.core.policy import open_cosigned
from exchange.core.witnessing import AddCheckpoint, encode_add_checkpoint
from exchange.store.ports import Log
from exchange.v1.access_pb2 import Code
from tests.e2e.asking import ask, refused
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, AUDITOR, BROKER, REGISTRY
from tests.e2e.processes import TIMEOUT, until
from tests.e2e.witnessing import NAMES, Witnesses, witnessed

OFFICE, UNIVERSITY, ARCHIVE = NAMES
_NOT_YET = (Code.CODE_STATE_STALE, Code.CODE_AUDIT_UNAVAILABLE, Code.CODE_PROVIDER_UNAVAILABLE)
SPLIT = "split view not excluded"


async def test_two_of_three_witnesses_are_enough_for_everything(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city", running=(OFFICE, UNIVERSITY)) as witnesses:
        city = witnesses.city
        trust = city.home(APPLICATIONS).trust
        async with city.client() as client:
            answer = await answered(client)
            receipt = await client.cosigned(answer, timeout=TIMEOUT)
            await client.session.cosignatures.require_fresh()
        proven = verify_receipt(receipt, trust.access_log)
        cosigned = open_cosigned(receipt.checkpoint, trust.access_log, witnesses.policy)
        assert (proven.index, proven.leaf_hash) == (answer.index, answer.proven.leaf_hash)
        assert [name for name, _ in cosigned.cosignatures] == [OFFICE, UNIVERSITY]
        assert "witness=archive" in city.broker.wait_for("a witness did not cosign")
        await asyncio.to_thread(check_commands, city)


def check_commands(city: City) -> None:
    """What people see: the auditor's sync and verification, and anybody's status."""
    runner = CliRunner()
    synced = runner.invoke(audit, ["sync", "--home", str(city.path / AUDITOR)])
    assert synced.exit_code == 0, synced.output
    assert synced.stdout.count("cosignatures audit-office ") == synced.stdout.count("; quorum met") == 2
    assert SPLIT not in synced.stdout
    verified = runner.invoke(audit, ["verify", "full", "--home", str(city.path / AUDITOR)])
    assert verified.exit_code == 0, verified.output
    assert SPLIT not in verified.stdout
    status = runner.invoke(exchange, ["status", "--json", "--home", str(city.path / APPLICATIONS)])
    shown = json.loads(status.stdout)
    assert shown["caveats"] == []
    assert [(log["quorum"], log["fresh"]) for log in shown["witnesses"]] == [(True, True)] * 2
    assert shown["receipts"] == {"not_cosigned": 0, "late": 0}


async def test_without_a_quorum_there_is_an_alarm_until_it_is_back(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city", running=(OFFICE, UNIVERSITY)) as witnesses:
        broker = witnesses.city.broker
        async with witnesses.city.client() as client:
            await answered(client)
            mark = broker.mark()
            await asyncio.to_thread(witnesses.stop, OFFICE, UNIVERSITY)
            alarm = await broker.seen("ALARM: too few witnesses cosign", mark)
            assert 'releases="go on"' in alarm
            # Only an alarm: answers go on, on what was cosigned in the last five minutes.
            await ask(client)
            mark = broker.mark()
            await asyncio.to_thread(witnesses.start, OFFICE, ARCHIVE)
            await broker.seen("enough witnesses cosign again", mark)


async def test_where_it_is_to_stop_nothing_is_released_without_a_quorum(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city", 'missing_quorum = "stop"', running=(OFFICE, UNIVERSITY)) as witnesses:
        city = witnesses.city
        async with city.client() as client:
            await answered(client)
            mark = city.broker.mark()
            await asyncio.to_thread(witnesses.stop, OFFICE, UNIVERSITY)
            await city.broker.seen("ALARM: too few witnesses cosign", mark)
            before = len(city.access_log())
            with refused(Code.CODE_AUDIT_UNAVAILABLE) as caught:
                await ask(client)
            assert "too few witnesses cosign" in caught.value.reason
            assert caught.value.verified
            assert len(city.access_log()) == before
            mark = city.broker.mark()
            await asyncio.to_thread(witnesses.start, UNIVERSITY, ARCHIVE)
            await city.broker.seen("enough witnesses cosign again", mark)
            # Both logs need their quorum.
            await answered(client)


async def test_a_stale_directory_is_neither_asked_nor_answered_on(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city", running=()) as witnesses:
        city = witnesses.city
        # A department may be stricter than the exchange: seconds here instead of five minutes.
        config = city.path / REGISTRY / "adapter.toml"
        config.write_text(f"[adapter]\nmax_directory_age = 2\n\n{config.read_text()}")
        city.registry.restart()
        async with city.client() as client:
            with pytest.raises(StaleError):
                await ask(client)
        witnesses.start(OFFICE, UNIVERSITY)
        async with city.client() as client:
            await answered(client)
            async with Session(city.home(AUDITOR), max_age=1) as strict:
                await strict.sync()
                await asyncio.to_thread(witnesses.stop, OFFICE, UNIVERSITY)
                await until(lambda: strict.cosignatures.is_stale, "a stale directory")
                with pytest.raises(StaleError) as stale:
                    await strict.cosignatures.require_fresh()
                assert stale.value.exit_code == 6
            with pytest.raises(RefusedError) as caught:
                await unanswered(client)
            assert (Code.Name(caught.value.code), caught.value.check) == ("CODE_STATE_STALE", 10)
            assert caught.value.refuser == str(city.party(REGISTRY))
            assert caught.value.verified
            before = answers_of(city)
            with refused(Code.CODE_STATE_STALE):
                await ask(client)
            assert answers_of(city) == before
            assert client.session.cosignatures.of(DIRECTORY) is not None


async def answered(client: ExchangeClient, number: int = 0) -> Answer:
    """Ask until the witnesses have cosigned, and the adapter knows it: what has just started has nothing."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                return await ask(client, number)
            except (StaleError, RefusedError) as error:
                if isinstance(error, RefusedError) and error.code not in _NOT_YET:
                    raise
                await asyncio.sleep(0.1)


async def unanswered(client: ExchangeClient) -> None:
    """Ask until it is refused."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            await ask(client)


def answers_of(city: City) -> int:
    """How many answers the registry's ledger has."""
    reader = Ledger.read(city.path / REGISTRY / "ledger.db")
    try:
        return reader.head.number
    finally:
        reader.close()


async def test_a_split_view_is_refused_by_the_witness_that_saw_the_other_one(template: City, tmp_path: Path) -> None:
    city = template.copy(tmp_path / "city")
    quick = ("witness_round_seconds = 0.2", "witness_heartbeat_seconds = 0.5")
    witnesses = Witnesses(city, quick)
    try:
        witnesses.start(*NAMES)
        # Whoever holds the log's key shows one witness another history, of one entry.
        signer = log_signers(city.home(BROKER))[Log.ACCESS]
        other = sign_checkpoint(Checkpoint(signer.name, 1, leaf_hash(b"shown to the archive alone")), signer)
        assert await asyncio.to_thread(post, witnesses.urls[ARCHIVE], AddCheckpoint(0, (), other)) == 200
        # A witness that was cut off remembers what it cosigned.
        witnesses[ARCHIVE].kill()
        witnesses.start(ARCHIVE)
        with city.running():
            alarm = await city.broker.seen("a witness has seen another history of the log")
            assert "witness=archive" in alarm
            assert "log=access" in alarm
            async with city.client() as client:
                for size in (1, 2):
                    answer = await answered(client, size)
                    receipt = await client.session.receipts.cosigned(answer.index, TIMEOUT)
                    cosigned = open_cosigned(receipt.checkpoint, signer.verifier, witnesses.policy)
                    assert [name for name, _ in cosigned.cosignatures] == [OFFICE, UNIVERSITY]
                    status = 409 if size == 1 else 422
                    await city.broker.seen(f"status {status}")
            await witnesses[ARCHIVE].seen("this checkpoint does not go on from the last one")
        assert await asyncio.to_thread(post, witnesses.urls[OFFICE], AddCheckpoint(2, (), other)) in {400, 409}
    finally:
        witnesses.close()


def post(url: str, request: AddCheckpoint) -> int:
    """One request to a witness, by whom is nobody's to say; returns its status."""
    sent = urllib.request.Request(f"{url}/add-checkpoint", encode_add_checkpoint(request), method="POST")
    try:
        with urllib.request.urlopen(sent, timeout=TIMEOUT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
