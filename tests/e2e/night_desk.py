"""Who is called at night: a city with a port for its figures, and the lines of docs/runbook.md, typed one by one."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from typer.testing import CliRunner

from adapters.cli import app as adapter_app
from exchange.cli.main import app as exchange_app
from exchange.client import ExchangeClient, RefusedError
from exchange.v1.access_pb2 import Code
from tests.e2e.alarms import PROMTOOL, Figures, figures, require_firing, require_quiet
from tests.e2e.asking import ask
from tests.e2e.city import City
from tests.e2e.faults import Faults
from tests.e2e.founding import BROKER, REGISTRY
from tests.e2e.processes import ROOT, TIMEOUT, wait_until
from tests.e2e.watching import fetch, watch
from tests.e2e.witnessing import Witnesses

WITNESSED = "witnessed_desk"
"""The fixture that gives a desk whose city has witnesses."""

_CHAPTER = re.compile(r"^## (?P<name>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh(?: exit (?P<code>\d))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PORTS = {"127.0.0.1:9743": BROKER, "127.0.0.1:9744": REGISTRY}
_APPS = {"exchange": exchange_app, "exchange-adapter": adapter_app}


def chapters() -> Mapping[str, str]:
    """The text of every chapter of the runbook, by its name."""
    return {found["name"]: found["text"] for found in _CHAPTER.finditer((ROOT / "docs" / "runbook.md").read_text())}


class Desk:
    """A city of faulty programs that runs, and is watched.

    Args:
        city: not running yet.
        witnesses: of it, where it has any.
    """

    def __init__(self, city: City, witnesses: Witnesses | None = None) -> None:
        self.city = city
        self._witnesses = witnesses
        self._addresses = watch(city)
        self._taken: list[tuple[Path, Path]] = []
        for name in (BROKER, REGISTRY):
            (city.path / f"{name}.log").symlink_to(city.path / "output" / f"{name}.log")
            city.faults(name).switch_on("hurry")
        city.faults(REGISTRY).switch_on("give-up", "3")
        city.faults(REGISTRY).switch_on("clock", "0")

    @property
    def broker_faults(self) -> Faults:
        """What goes wrong at the broker."""
        return self.city.faults(BROKER)

    @property
    def registry_faults(self) -> Faults:
        """What goes wrong at the registry's adapter."""
        return self.city.faults(REGISTRY)

    @property
    def witnesses(self) -> Witnesses:
        """Of the city that has some."""
        assert self._witnesses is not None
        return self._witnesses

    # --- figures

    def figures(self, home: str) -> Figures:
        """What a program's page says; nothing where nobody answers."""
        with suppress(URLError, ConnectionError, TimeoutError):
            return figures(fetch(self._addresses[home], "/metrics")[1])
        return {}

    def scrape(self) -> Mapping[str, Figures]:
        """Both pages, by home; of programs that run, only when all has been looked at once."""
        for name, program in ((BROKER, self.city.broker), (REGISTRY, self.city.registry)):
            if program.is_running:
                wait_until(lambda name=name: "exchange_disk_free_bytes" in self.figures(name), f"figures of {name}")  # type: ignore[misc]
        return {name: self.figures(name) for name in self._addresses}

    # --- what people do

    def run(self, work: Callable[[ExchangeClient], Coroutine[Any, Any, object]]) -> None:
        """Do something with a client of the housing department."""

        async def inside() -> None:
            async with self.city.client() as client:
                await work(client)

        asyncio.run(inside())

    def ask(self) -> None:
        """One request, which is answered."""
        self.run(ask)

    def refused(self, code: "Code.ValueType", times: int, **changes: object) -> None:
        """Ask until so many were refused, all for the same reason."""

        async def work(client: ExchangeClient) -> None:
            left = times
            async with asyncio.timeout(TIMEOUT):
                while left:
                    try:
                        await ask(client, **changes)
                        await asyncio.sleep(0.05)
                    except RefusedError as error:
                        if error.code != code:
                            raise
                        left -= 1

        self.run(work)

    @contextmanager
    def without(self, path: Path) -> Iterator[None]:
        """A file is elsewhere, until `bring_back` or the end."""
        kept = path.with_name(f"{path.name} elsewhere")
        shutil.move(path, kept)
        self._taken.append((path, kept))
        try:
            yield
        finally:
            self.bring_back()

    def bring_back(self) -> None:
        """The files that were taken away are there again."""
        while self._taken:
            path, kept = self._taken.pop()
            shutil.move(kept, path)

    @contextmanager
    def edited(self, file: str, change: Callable[[str], str]) -> Iterator[None]:
        """A file of a home says something else; its program is started anew with it, and in the end without."""
        path = self.city.path / file
        program = self.city.broker if path.parent.name == BROKER else self.city.registry
        text = path.read_text()
        changed = change(text)
        assert changed != text
        path.write_text(changed)
        try:
            program.restart()
            yield
        finally:
            path.write_text(text)
            program.restart()

    def recover(self) -> None:
        """Whatever went wrong, it is over: everything runs, and nothing is owed."""
        self.bring_back()
        if self._witnesses is not None:
            self._witnesses.start(*(name for name in self._witnesses.urls if not self._witnesses[name].is_running))
        for name in (BROKER, REGISTRY):
            for file in self.city.faults(name).folder.iterdir():
                if file.suffix != ".count" and file.name not in {"hurry", "give-up", "clock"}:
                    file.unlink()
        if self.city.broker.is_running:
            self.city.start()
        else:
            self.city.restart_broker()
            self.city.start()
        self.city.wait_settled(timeout=TIMEOUT)
        self.wait_attached()

    def wait_attached(self) -> None:
        """Wait until requests reach the registry; and until every witness cosigns, where there are some."""
        attached = above("exchange_attached_systems", 0)
        missing = above("exchange_witnesses_missing", 0)

        def is_well() -> bool:
            page = self.figures(BROKER)
            return attached({}, page) and not missing({}, page)

        wait_until(is_well, "an adapter that is attached", explain=lambda: str(self.figures(BROKER)))

    # --- the runbook

    def follow(self, chapter: str) -> int:
        """Type all that a chapter says; how many lines that were."""
        typed = 0
        for block in _BLOCK.finditer(chapters()[chapter]):
            for line in block["text"].splitlines():
                self.type(line, int(block["code"] or 0))
                typed += 1
        return typed

    def type(self, line: str, code: int = 0) -> str:
        """Type a line that ends as it must; what it printed."""
        program, *arguments = line.split()
        match line.partition(" | "):
            case ("exchange broker run --home ./broker", _, _):
                self.city.restart_broker()
                return self.city.broker.output
            case ("exchange-adapter run --home ./registry", _, _):
                self.city.registry.start()
                return self.city.registry.output
            case (asked, _, filtered) if program == "curl":
                page = self._page(asked.removeprefix("curl -s http://"))
                return _shell(filtered, code, page) if filtered else page
        if line == "exchange log fsck --home ./broker":
            # As the chapter says: the broker does not run, and the file is there again.
            self.city.broker.stop()
            self.bring_back()
        if program not in _APPS:
            assert program in {"grep", "tail", "df"}, line
            return _shell(line, code)
        done = CliRunner().invoke(_APPS[program], arguments)
        assert done.exit_code == code, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _page(self, url: str) -> str:
        for address, name in _PORTS.items():
            url = url.replace(address, self._addresses[name])
        address, _, path = url.partition("/")
        return fetch(address, f"/{path}")[1]


def _shell(line: str, code: int, given: str = "") -> str:
    """What a line of the shell finds; it does find something."""
    done = subprocess.run(["/bin/sh", "-c", line], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
    assert done.stdout, line
    return done.stdout


@contextmanager
def at_work(city: City, witnesses: Witnesses | None = None) -> Iterator[Desk]:
    """A desk whose city runs as long as the block does; of witnesses, which run already."""
    desk = Desk(city, witnesses)
    with city.running():
        yield desk


@dataclass(frozen=True, slots=True)
class Fault:
    """What an alert is about.

    Args:
        make: as long as the block lasts; when it has ended, all is mended.
        home: whose page shows it.
        shows: whether it does, by the figures before and those of now.
        city: the fixture that gives a desk for it.
    """

    make: Callable[[Desk], AbstractContextManager[None]]
    home: str
    shows: Callable[[Figures, Figures], bool]
    city: str = "desk"


def go_through(alert: str, fault: Fault, desk: Desk, folder: Path) -> None:
    """Make a fault, see it in the figures, follow its chapter, and see its end; promtool judges where there is one.

    Args:
        alert: its name; fault: makes it; desk: in whose city; folder: for promtool's files.
    """
    before = desk.scrape()
    with fault.make(desk):
        wait_until(
            lambda: fault.shows(before[fault.home], desk.figures(fault.home)),
            f"figures of {alert}",
            explain=lambda: str(desk.figures(fault.home)),
        )
        if PROMTOOL is not None:
            require_firing(folder, alert, before, desk.scrape())
        assert desk.follow(alert)
    mended = desk.scrape()
    wait_until(lambda: not fault.shows(mended[fault.home], desk.figures(fault.home)), f"an end of {alert}")
    if PROMTOOL is not None:
        require_quiet(folder, [alert], desk.scrape())


def above(name: str, limit: float) -> Callable[[Figures, Figures], bool]:
    """A figure, with whatever labels, is larger than a limit."""
    return lambda _before, now: any(value > limit for value in _values(now, name))


def below(name: str, limit: float) -> Callable[[Figures, Figures], bool]:
    """A figure, with whatever labels, is smaller than a limit."""
    return lambda _before, now: any(value < limit for value in _values(now, name))


def _values(page: Figures, name: str) -> Sequence[float]:
    return [value for full, value in page.items() if name in {full, full.partition("{")[0]}]


def grown(limit: float, *names: str) -> Callable[[Figures, Figures], bool]:
    """What is counted has grown by more than a limit, all taken together."""
    return lambda before, now: bool(now) and sum(now[name] - before[name] for name in names) > limit


def silent(_before: Figures, now: Figures) -> bool:
    """Nobody answers."""
    return not now
