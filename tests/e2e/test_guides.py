"""docs/steward.md, docs/coordinator.md and how to join in docs/operator.md, command by command, against a broker."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from examples.city.stage import NAME, PURPOSE, Stage
from exchange.cli.audit.main import app as audit_app
from exchange.cli.main import app

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(?P<kind>[a-z]+)(?: exit (?P<code>\d))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINT = re.compile(r"^fingerprint +((?:[0-9a-f]{4} ?){16})$", re.MULTILINE)
_ID = re.compile(r"^(application|agreement) +([0-9a-f]{64})$", re.MULTILINE)
_APPS = {"exchange": app, "exchange-audit": audit_app}
_MANDATE = re.compile(r"exchange (mandate) end ([0-9a-f]{12})")

# The broker outlives whoever started it; the fixture ends it by its process id.
pytestmark = [
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Office:
    """A folder with the homes of the guides, in which people type.

    Args:
        folder: theirs.
        trust: the exchange's trust file.
        operator: who admits them.
    """

    def __init__(self, folder: Path, trust: Path, operator: Path) -> None:
        self.folder = folder
        self._trust = trust
        self.operator = operator
        self.ids: dict[str, str] = {}

    def open(self) -> None:
        """Admit both departments with their heads and systems, and the auditor; register the purpose."""
        offices = {"data-bureau": "coordinator", "audit-office": "auditor"}
        for name, role in (offices | {"population": "department", "housing": "department"}).items():
            self._join(self.folder / name, name, role, ("department", "admit"), self.operator)
        for department, name, role in (
            ("population", "head", "head"),
            ("population", "registry", "system"),
            ("housing", "head", "head"),
            ("housing", "applications", "system"),
        ):
            home = self.folder / f"{department}-{name}"
            self._join(home, f"{department}/{name}", role, (role, "add"), self.folder / department)
        texts = '--label 保障性住房分配 --legal-basis "Decree 809, article 20"'
        self.must(f"exchange purpose register {PURPOSE} {texts} --home ./data-bureau")

    def _join(self, home: Path, name: str, role: str, group: tuple[str, str], parent: Path) -> None:
        party = f"exchange://{NAME}/{name}"
        made = self.must(f"exchange key new {party} --role {role} --trust {self._trust} --home {home} --json")
        compared = f"--fingerprint '{json.loads(made)['fingerprint']}'"
        request, admission = home / "request.json", home / "admission.json"
        self.must(f"exchange {' '.join(group)} {request} {compared} --home {parent} --out {admission}")
        self.must(f"exchange key install {admission} --home {home}")

    def must(self, line: str, code: int = 0) -> str:
        """Type a line that ends as it must; returns what it prints."""
        done = self.type(line)
        assert done.exit_code == code, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def type(self, line: str) -> Result:
        """Type a line, with the ids that earlier ones have printed in the place of their names."""
        typed = line
        for name, value in self.ids.items():
            typed = re.sub(rf"\b{name}\b", value, typed)
        command, _, file = typed.partition(" > ")
        program, *arguments = shlex.split(command)
        done = CliRunner().invoke(_APPS[program], arguments)
        if file:
            (self.folder / file).write_text(done.stdout)
        found = (*_ID.findall(done.stdout), *_MANDATE.findall(done.stdout))
        self.ids |= {kind.upper(): value for kind, value in found}
        if printed := _PRINT.search(done.stdout):
            self.ids["FINGERPRINT"] = printed[1]
        return done

    def follow(self, guide: str, chapter: str = "") -> list[str]:
        """Type every command of a guide, or of one chapter of it, in order; returns what each printed."""
        printed = list[str]()
        for kind, text, code in blocks(guide, chapter):
            if kind == "toml":
                name = text.splitlines()[0].removeprefix("# ")
                (self.folder / name).write_text(text)
                continue
            assert kind == "sh", kind
            printed.extend(self.must(line, code) for line in text.splitlines())
        return printed


def blocks(guide: str, chapter: str = "") -> list[tuple[str, str, int]]:
    """The blocks of a guide, or of one chapter of it: its language, its text, the exit code of its lines."""
    text = (ROOT / "docs" / guide).read_text()
    if chapter:
        [text] = re.findall(rf"^## {chapter}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [(block["kind"], block["text"], int(block["code"] or 0)) for block in _BLOCK.finditer(text)]


@pytest.fixture
def founded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """An exchange that nobody has joined yet."""
    stage = Stage(tmp_path / "city")
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    try:
        stage.found()
        yield Office(desk, stage.operator / "trust.toml", stage.operator)
    finally:
        stage.stop()


@pytest.fixture
def office(founded: Office) -> Office:
    founded.open()
    return founded


def test_the_stewards_guide_can_be_followed(office: Office) -> None:
    office.must("exchange rules adopt cn-national --consent --home ./data-bureau")
    assert len(office.follow("steward.md")) >= 37
    # What it promises of the end: nothing can be asked for any more.
    asked = f"--fields full_name --purpose {PURPOSE} --officer officer-17 --home ./housing-applications"
    office.must(f"exchange agreement explain population/household.registration {asked}", code=1)


def test_the_coordinators_guide_can_be_followed(office: Office) -> None:
    office.must("exchange dataset template > households.toml")
    assert len(office.follow("coordinator.md")) >= 21


def test_the_operators_guide_can_be_followed(founded: Office) -> None:
    (founded.folder / "operator").symlink_to(founded.operator)
    # The machine that keeps the root key, and the one that does not.
    shutil.copytree(founded.operator, founded.folder / "root")
    assert len(founded.follow("operator.md", "Inviting and approving")) >= 24
    # What it promises of the end: all of them are parties now.
    for home in ("housing", "schools", "applications"):
        assert "reachable" in founded.must(f"exchange status --home ./{home}")
    # The root key is on the other machine alone from now on.
    (founded.operator / "keys" / "signing.pem").unlink()
    for command in ("status", "doctor"):
        assert "kept elsewhere, as it should be" in founded.must(f"exchange {command} --home ./operator")
