"""docs/decree-809.md names commands and tests that exist."""

import ast
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.cli.audit.main import app as audit
from exchange.cli.main import app as exchange

ROOT = Path(__file__).parents[3]
ROWS = [line for line in (ROOT / "docs" / "decree-809.md").read_text().splitlines() if re.match(r"\| \d", line)]
COMMANDS = sorted({command for row in ROWS for command in re.findall(r"`(exchange(?:-audit)? [a-z -]+)`", row)})
TESTS = sorted({named for row in ROWS for named in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)})
ARTICLES = [12, 13, 14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 31, 32, 35, 38]


def test_every_article_has_a_command_and_a_test() -> None:
    assert sorted(int(number) for row in ROWS for number in row.split("|")[1].split(",")) == ARTICLES
    for row in ROWS:
        assert "`exchange" in row.split("|")[3], row
        assert "`tests/" in row.split("|")[4], row


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_it_exists(command: str) -> None:
    program, *names = command.split()
    result = CliRunner().invoke(audit if program == "exchange-audit" else exchange, [*names, "--help"])
    assert result.exit_code == 0, command
    assert f"{command} " in result.stdout


@pytest.mark.parametrize(("path", "name"), TESTS, ids=[name for _, name in TESTS])
def test_every_test_in_it_exists(path: str, name: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, functions)}
