"""docs/runbook.md, command by command; what an alert means is the case, wherever a test can make it so."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.cli import app as adapter_app
from exchange.cli.main import app as exchange_app
from tests.e2e.city import City
from tests.e2e.founding import BROKER, REGISTRY
from tests.e2e.processes import ROOT, wait_until
from tests.e2e.watching import fetch, watch

_CHAPTER = re.compile(r"^## (?P<name>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh(?: exit (?P<code>\d))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PORTS = {"127.0.0.1:9743": BROKER, "127.0.0.1:9744": REGISTRY}
_APPS = {"exchange": exchange_app, "exchange-adapter": adapter_app}

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True, slots=True)
class Desk:
    """A city, and where its figures are."""

    city: City
    addresses: Mapping[str, str]

    def stop_broker(self) -> None:
        self.city.broker.stop()
        wait_until(lambda: fetch(self.addresses[REGISTRY], "/ready")[0] == 503, "an adapter that is not attached")

    def stop_adapter(self) -> None:
        self.city.registry.stop()

    def stop_dataset(self) -> None:
        self.type("exchange-adapter stop residents --reason maintenance --home ./registry", 0)

    def type(self, line: str, code: int) -> None:
        """Type a line that ends as it must."""
        program, *arguments = line.split()
        if line.startswith("curl -s "):
            for address, name in _PORTS.items():
                line = line.replace(address, self.addresses[name])
            address, _, path = line.removeprefix("curl -s http://").partition("/")
            assert fetch(address, f"/{path}")[0] == 200, line
        elif line == "exchange broker run --home ./broker":
            self.city.restart_broker()
        elif line == "exchange-adapter run --home ./registry":
            self.city.registry.start()
        elif program in _APPS:
            done = CliRunner().invoke(_APPS[program], arguments)
            assert done.exit_code == code, f"{line}\n{done.stdout}{done.stderr}"
        else:
            # Looks at files: grep, tail, df.
            assert program in {"grep", "tail", "df"}, line
            done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
            assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"


FAULTS: Mapping[str, Callable[[Desk], None]] = {
    "BrokerDown": Desk.stop_broker,
    "DatabaseUnreadable": Desk.stop_broker,
    "AdapterDown": Desk.stop_adapter,
    "AdapterNotAttached": Desk.stop_broker,
    "DatasetStopped": Desk.stop_dataset,
}


@pytest.fixture
def desk(template: City, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    city = template.copy(tmp_path / "city")
    addresses = watch(city)
    for name in (BROKER, REGISTRY):
        (city.path / f"{name}.log").symlink_to(city.path / "output" / f"{name}.log")
    with city.running():
        monkeypatch.chdir(city.path)
        yield Desk(city, addresses)


def test_the_runbook_can_be_followed(desk: Desk) -> None:
    chapters = list(_CHAPTER.finditer((ROOT / "docs" / "runbook.md").read_text()))
    assert FAULTS.keys() <= {chapter["name"] for chapter in chapters}
    typed = 0
    for chapter in chapters:
        FAULTS.get(chapter["name"], lambda _desk: None)(desk)
        for block in _BLOCK.finditer(chapter["text"]):
            for line in block["text"].splitlines():
                desk.type(line, int(block["code"] or 0))
                typed += 1
        # What the next chapter finds is an exchange that runs.
        if not desk.city.broker.is_running:
            desk.city.restart_broker()
    assert typed >= 60
