"""docs/operator.md, "Backup and restore", command by command: disks are lost, and the exchange goes on."""

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters.cli import app as adapter_app
from exchange.cli.audit.main import app as audit_app
from exchange.cli.main import app
from exchange.store.ports import Log
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.conftest import NewCity
from tests.e2e.founding import BROKER, REGISTRY

GUIDE = Path(__file__).parents[2] / "docs" / "operator.md"
APPS = {"exchange": app, "exchange-adapter": adapter_app, "exchange-audit": audit_app}
FORK = 4


@pytest.fixture
def city(new_city: NewCity, monkeypatch: pytest.MonkeyPatch) -> Iterator[City]:
    with new_city() as made:
        monkeypatch.chdir(made.path)
        (made.path / "backups").mkdir()
        secret = made.path / "passphrase"
        secret.write_text("a long night at the data bureau\n")
        secret.chmod(0o600)
        shutil.copy(made.path / BROKER / "trust.toml", made.path / "trust.toml")
        yield made


def sections() -> dict[str, list[str]]:
    """The commands of the chapter, under the heading that each stands below."""
    chapter = GUIDE.read_text().split("## Backup and restore")[1].split("\n## ")[0]
    parts = re.split(r"^### (.*)$", "every night\n" + chapter, flags=re.MULTILINE)
    named = dict(zip(["every night", *parts[1::2]], parts[0::2], strict=True))
    blocks = {name: re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for name, text in named.items()}
    return {name: [line for block in found for line in block.splitlines()] for name, found in blocks.items()}


def typed(line: str) -> Result:
    """Type a line; the homes of the guide are those of the city."""
    line = line.replace("./operator/broker", f"./{BROKER}").replace("./audit-office", "./auditor")
    program, *arguments = shlex.split(line)
    return CliRunner().invoke(APPS[program], arguments)


def follow(section: str) -> str:
    """Type all that a section says; what was printed."""
    printed = ""
    lines = sections()[section]
    assert lines
    for line in lines:
        done = typed(line)
        assert done.exit_code == 0, f"{line}\n{done.output}"
        printed += done.stdout
    return printed


def asked(city: City, count: int) -> None:
    async def work() -> None:
        async with city.client() as client:
            for number in range(count):
                await ask(client, number)

    asyncio.run(work())
    city.wait_settled()


def test_disks_are_lost_and_the_exchange_goes_on(city: City) -> None:
    asked(city, 2)
    follow("every night")

    # The broker's disk, after three more answers that the auditor has.
    asked(city, 3)
    # Twice: that an auditor has read is an entry too, and it comes behind what was read.
    for _ in range(2):
        typed("exchange-audit sync --home ./audit-office")
    before = city.head(Log.ACCESS)
    city.broker.kill()
    shutil.rmtree(city.path / BROKER)
    assert "access: 5 entries put back, 2 to 6" in follow("The broker's disk is lost")
    assert city.head(Log.ACCESS) == before
    city.restart_broker()
    asked(city, 1)
    city.check()

    # Again, after an answer that only those have seen who asked and answered.
    city.broker.kill()
    shutil.rmtree(city.path / BROKER)
    restore, recover, _ = sections()["The broker's disk is lost"]
    assert typed(restore).exit_code == 0
    refused = typed(f"{recover} --from ./applications")
    assert (refused.exit_code, "declare-break" in refused.stderr) == (FORK, True)
    assert "declared lost: entries 7 to 7" in follow("Nobody has the rest")
    city.restart_broker()
    asked(city, 2)
    synced = typed("exchange-audit sync --home ./audit-office")
    assert (synced.exit_code, "signed by the root: the disk of the broker failed" in synced.stdout) == (0, True)
    verified = typed("exchange-audit verify full --home ./audit-office")
    assert (verified.exit_code, "signed by the root: the disk of the broker failed" in verified.stdout) == (0, True)

    # The adapter's disk.
    city.registry.kill()
    shutil.rmtree(city.path / REGISTRY)
    lines = sections()["An adapter's disk is lost"]
    assert typed(lines[0]).exit_code == 0
    city.registry.start(wait=False)
    assert city.registry.wait_exit() == FORK, city.registry.output
    assert "came out of a backup" in city.registry.output
    shutil.rmtree(city.path / REGISTRY)
    printed = follow("An adapter's disk is lost")
    assert "declared lost: answers 3 to 8" in printed
    assert "limits of agreements count 5 of them, by their entries in the access log" in printed
    # One entry was lost with the broker's disk, and given up.
    assert "WARNING: 1 of them count against no limit" in printed
    city.start()
    asked(city, 2)
    assert [row.number for row in city.ledger()] == [1, 2, 9, 10]
    assert typed(lines[2]).exit_code == 0
