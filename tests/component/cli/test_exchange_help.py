import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from exchange.cli.main import COMMANDS, app

GROUPS = {
    "broker": ("run", "add"),
    "backup": ("create", "verify", "restore"),
    "log": ("erase", "migrate", "recover", "declare-break", "fsck", "retain", "archive"),
    "key": ("new", "install", "rotate", "renew", "revoke", "recover", "pending", "cancel"),
    "department": ("invite", "pending", "approve", "sign", "reject", "admit", "leave"),
    "system": ("invite", "pending", "approve", "reject", "add"),
    "head": ("add", "list", "remove"),
    "steward": ("add", "list", "remove", "handover", "require", "countersign"),
    "officer": ("add", "remove", "list"),
    "mandate": ("give", "end", "list"),
    "rules": ("adopt", "show"),
    "report": ("month",),
    "purpose": ("register", "list"),
    "dataset": (
        *("template", "publish", "list", "search", "show", "similar"),
        *("review", "extend", "deprecate", "export", "import"),
    ),
    "agreement": (
        *("apply", "sign", "list", "show", "revoke", "terms", "explain"),
        *("consent", "submit", "return", "refuse", "answer", "supply", "withdraw", "end", "extend", "rate"),
        *("approve-standing", "queue", "stale", "dispute"),
    ),
    "agreement dispute": ("open", "escalate", "settle"),
    "guardrail": ("template", "add", "list", "show", "revoke"),
    "clocks": ("list", "due"),
    "use": ("record", "dispose", "due", "corrections", "prune", "report", "verify"),
    "correction": ("file", "answer", "list", "show", "acknowledge"),
}
LEAVES: list[tuple[str, ...]] = [(name,) for name, _ in COMMANDS if name not in GROUPS]
LEAVES += [(*group.split(), name) for group, names in GROUPS.items() for name in names]
LEAVES = [leaf for leaf in LEAVES if " ".join(leaf) not in GROUPS]
# What prints a document of its own: TOML, JSON-LD.
TEMPLATES = {("dataset", "template"), ("dataset", "import"), ("agreement", "terms"), ("guardrail", "template")}
DOCUMENTS = {*TEMPLATES, ("dataset", "export")}
DATA = [leaf for leaf in LEAVES if leaf not in {("broker", "run"), *DOCUMENTS}]

NOBODY_ACTS = {*TEMPLATES, ("clocks", "list"), ("clocks", "due"), ("backup", "verify")}


@pytest.mark.parametrize("command", [(), *(tuple(group.split()) for group in GROUPS), *LEAVES], ids=" ".join)
def test_every_help_shows_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example:\n" in result.stdout
    assert f"exchange {' '.join(command)}".strip() in result.stdout.split("Example:\n")[1]


@pytest.mark.parametrize("command", DATA, ids=" ".join)
def test_every_command_that_prints_data_has_json(command: tuple[str, ...]) -> None:
    assert "--json" in CliRunner().invoke(app, [*command, "--help"]).stdout


@pytest.mark.parametrize("command", [leaf for leaf in LEAVES if leaf not in NOBODY_ACTS], ids=" ".join)
def test_every_command_that_acts_has_a_home_from_the_environment(command: tuple[str, ...]) -> None:
    assert "EXCHANGE_HOME" in CliRunner().invoke(app, [*command, "--help"]).stdout


@pytest.mark.parametrize("group", GROUPS)
def test_groups_list_exactly_the_commands_tested_here(group: str) -> None:
    listed = CliRunner().invoke(app, [*group.split(), "--help"]).stdout.split("Commands:\n")[1].split("Example:")[0]
    names = [line.split()[0] for line in listed.splitlines() if re.match(r" {2}\w", line)]
    assert tuple(names) == GROUPS[group]


def test_a_bare_command_shows_its_help_as_wrong_usage() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Commands:" in result.stderr


def test_prints_its_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("exchange ")


def test_help_loads_neither_grpc_nor_sqlalchemy() -> None:
    code = (
        "import sys\n"
        "from exchange.cli.main import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'grpc', 'sqlalchemy', 'sqlglot', 'cryptography'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
