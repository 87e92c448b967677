"""docs/threat-model.md names tests that exist, and every numbered attack."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "::" in line]


@cache
def names_in(path: Path) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = (node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))
    return frozenset(name for name in names if name.startswith("test_"))


def test_it_names_tests() -> None:
    assert len(NAMED) > 50
    assert len(ROWS) >= len(NAMED)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[f"{path}::{name}" for path, name in NAMED])
def test_every_test_that_it_names_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file()
    assert name in names_in(ROOT / path)


def test_every_row_of_an_attack_names_its_test() -> None:
    tables = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    rows = [line for table in tables for line in table.splitlines() if line.startswith("| ")]
    assert [row for row in rows if not row.endswith("| test |") and "::" not in row] == []


def test_it_has_every_numbered_attack_once() -> None:
    assert sorted(map(int, re.findall(r"№ (\d+)", TEXT))) == list(range(1, 23))
