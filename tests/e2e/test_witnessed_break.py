"""The access log loses its end where a quorum of witnesses had cosigned it: it goes on with other witnesses."""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exchange.cli.audit.main import app as audit
from exchange.cli.main import app as exchange
from exchange.core.policy import open_cosigned
from exchange.store.ports import Log
from tests.e2e.city import City
from tests.e2e.founding import APPLICATIONS, AUDITOR, BROKER, OPERATOR, REGISTRY
from tests.e2e.processes import TIMEOUT
from tests.e2e.test_witnesses import SPLIT, answered
from tests.e2e.witnessing import NAMES, Witnesses, trust_witnesses, witnessed

pytestmark = pytest.mark.timeout(600)

AGAIN = ("audit-office-2", "university-2", "archive-2")
FORK = 4


def typed(*arguments: object) -> Result:
    return CliRunner().invoke(exchange, [str(argument) for argument in arguments])


def must(*arguments: object) -> str:
    result = typed(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def audited(city: City, *arguments: str) -> str:
    result = CliRunner().invoke(audit, [*arguments, "--home", str(city.path / AUDITOR)])
    assert result.exit_code == 0, result.output
    return result.stdout


def lose_the_disk(city: City, backup: Path, secret: Path) -> None:
    """The broker's machine is gone; its home comes back as it was in the backup."""
    city.broker.kill()
    shutil.rmtree(city.path / BROKER)
    trust = city.path / AUDITOR / "trust.toml"
    must("backup", "restore", backup, "--home", city.path / BROKER, "--trust", trust, "--passphrase-file", secret)


def declare(city: City, *arguments: object) -> Result:
    """Of the lost end the requester knows, and a witness."""
    told = ("--from", city.path / APPLICATIONS, "--from", city.path / f"witness-{NAMES[0]}")
    homes = ("--home", city.path / OPERATOR, "--broker", city.path / BROKER)
    return typed("log", "declare-break", *told, *homes, "--reason", "the disk failed", *arguments)


async def lose_what_was_cosigned(city: City, folder: Path) -> int:
    """An answer that witnesses cosigned is lost with the broker's disk; how many entries are left."""
    secret, backup = folder / "passphrase", folder / "broker.backup"
    secret.write_text("a long night at the data bureau\n")
    secret.chmod(0o600)
    async with city.client() as client:
        await client.cosigned(await answered(client), timeout=TIMEOUT)
        await asyncio.to_thread(city.wait_settled)
        written = ("--out", backup, "--passphrase-file", secret)
        await asyncio.to_thread(must, "backup", "create", "--home", city.path / BROKER, *written)
        await client.cosigned(await answered(client, 1), timeout=TIMEOUT)
        await asyncio.to_thread(city.wait_settled)
    # The auditor has its checkpoint, cosigned, and has not fetched the entries.
    await asyncio.to_thread(must, "status", "--home", city.path / AUDITOR)
    await asyncio.to_thread(lose_the_disk, city, backup, secret)
    return city.head(Log.ACCESS).size


async def check_cosigned(city: City, after: Witnesses) -> None:
    """Everything holds as before the loss: receipts, what the auditor verifies, and anybody's status."""
    async with city.client() as client:
        receipt = await client.cosigned(await answered(client, 3), timeout=TIMEOUT)
    cosigned = open_cosigned(receipt.checkpoint, city.home(APPLICATIONS).trust.access_log, after.policy)
    assert cosigned.quorum
    assert {name for name, _ in cosigned.cosignatures} <= set(AGAIN)
    for command in (("sync",), ("verify", "full")):
        told = await asyncio.to_thread(audited, city, *command)
        assert "signed by the root: the disk failed" in told
        assert SPLIT not in told
    status = json.loads(await asyncio.to_thread(must, "status", "--json", "--home", city.path / REGISTRY))
    assert status["caveats"] == []


async def test_a_break_is_declared_and_other_witnesses_cosign_what_goes_on(template: City, tmp_path: Path) -> None:
    with witnessed(template, tmp_path / "city") as before:
        city, old = before.city, before.policy
        kept = await lose_what_was_cosigned(city, tmp_path)
        refused = await asyncio.to_thread(declare, city)
        assert (refused.exit_code, "cosign nothing smaller" in refused.stderr) == (FORK, True), refused.output
        assert "--new-witnesses" in refused.stderr
        declared = await asyncio.to_thread(declare, city, "--new-witnesses")
        assert declared.exit_code == 0, declared.output
        found = re.search(r"declared lost: entries (\d+) to (\d+) of the access log", declared.stdout)
        assert found is not None, declared.stdout
        assert int(found[1]) == kept
        lost = int(found[2]) + 1
        assert "exchange-audit witness new" in declared.stdout

        after = Witnesses(city, names=AGAIN)
        try:
            after.start(*AGAIN)
            # The broker asks both for a while: the directory, which lost nothing, stays fresh by the old file too.
            both = replace(after.policy, witnesses=(*old.witnesses, *after.policy.witnesses))
            trust_witnesses(city.home(BROKER), both)
            for name in (APPLICATIONS, AUDITOR):
                trust_witnesses(city.home(name), old)
            await asyncio.to_thread(city.restart_broker)
            async with city.client() as client:
                for number in range(2 + lost - kept):
                    await answered(client, number)
            # None of the old ones cosigns the smaller log, however large it grows.
            alarm = await city.broker.seen("a witness has seen another history of the log")
            assert "log=access" in alarm
            await before[NAMES[0]].seen("this checkpoint does not go on from the last one")
            assert city.head(Log.ACCESS).size > lost
            told = await asyncio.to_thread(audited, city, "sync")
            assert "signed by the root: the disk failed" in told
            assert "split view not excluded: no quorum of witnesses has cosigned" in told

            for name in (APPLICATIONS, AUDITOR):
                trust_witnesses(city.home(name), after.policy)
            await asyncio.to_thread(city.wait_settled)
            await asyncio.to_thread(city.registry.restart)
            await check_cosigned(city, after)
            city.wait_settled()
        finally:
            after.close()
