"""Commands as processes: pipes that close, terminals that cannot write Chinese."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def start(*arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "exchange.cli.main", *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=os.environ | environment)


@pytest.mark.parametrize("command", [("dataset", "template"), ("status", "--help"), ("--version",)])
def test_a_reader_that_has_left_is_no_failure(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*command, stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_chinese_still_shows_a_result(tmp_path: Path, encoding: str) -> None:
    home = tmp_path / "户籍"
    made = start(
        *("key", "new", "exchange://city.example/health", "--home", str(home), "--json"), PYTHONIOENCODING=encoding
    )
    output, errors = made.communicate(timeout=60)
    assert (made.returncode, errors) == (0, b"")
    assert json.loads(output)["home"] == str(home)
    failed = start("status", "--home", str(home / "none"), PYTHONIOENCODING=encoding)
    _, errors = failed.communicate(timeout=60)
    assert failed.returncode == 3
    assert b"cannot read " in errors
    # Click takes ASCII for a mistake of the environment, and writes UTF-8.
    assert (b"\\u6237\\u7c4d" if encoding == "latin-1" else "户籍".encode()) in errors
