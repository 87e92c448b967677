"""Numbered attacks: each test says what was done and what found it, and the run ends with the table of all."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.attacks.commands import Ended
from tests.e2e.attacks.stage import Stage, set_stage
from tests.e2e.city import City

Found = Callable[..., None]
_KEY = "attack"
_COLUMNS = ("", "attack", "what was done", "what found it", "exit")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "attack(number, name): one of the numbered attacks; 0 is the untouched control")


@pytest.fixture(scope="session")
def stage(template: City, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Made once; every attack works on copies."""
    return set_stage(template, tmp_path_factory.mktemp("stage"))


@pytest.fixture
def found(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Found:
    """Note for the table: `found(done, ended, code, text)`; asserts that the command ended so, and says so."""
    marker = request.node.get_closest_marker("attack")
    assert marker is not None, "an attack has its number"

    def note(done: str, ended: Ended, code: int, text: str) -> None:
        assert ended.code == code, f"`{ended.name}` ended with {ended.code}, not {code}:\n{ended.output}"
        line = ended.says(text)
        record_property(_KEY, (*marker.args, done, f"{ended.name}: {line[line.index(text) :]}", str(code)))

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        value
        for report in terminalreporter.getreports("passed")
        for key, value in getattr(report, "user_properties", ())
        if key == _KEY and report.when == "call"
    ]
    if rows:
        for line in _table(sorted({tuple(row) for row in rows})):
            terminalreporter.write_line(line)


def _table(rows: list[tuple[Any, ...]]) -> list[str]:
    texts = [_COLUMNS, *(tuple(map(str, row)) for row in rows)]
    widths = [min(max(len(row[column]) for row in texts), 100) for column in range(len(_COLUMNS))]
    return ["  ".join(_cut(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def _cut(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
