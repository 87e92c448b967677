"""Where a key stands in a TOML file, for errors that name the line: `tomllib` does not tell."""

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_PART = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_KEY_LINE = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=", re.ASCII)
_HEADER_LINE = re.compile(rf"\s*\[\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]", re.ASCII)
_SYNTAX_LINE = re.compile(r" \(at line (\d+), column \d+\)")


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """Finds the line, from 1, of a key, or of the innermost table around it that has a line of its own.

    Args:
        text: the file's, which is TOML.
        keys: the way to the key, from the outermost table.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER_LINE.match(line):
            table = _path(header[1])
            lines.setdefault(table, number)
        elif key := _KEY_LINE.match(line):
            lines.setdefault(table + _path(key[1]), number)
    path = tuple(keys)
    return next((lines[path[:size]] for size in range(len(path), 0, -1) if path[:size] in lines), None)


def syntax_error(error: tomllib.TOMLDecodeError) -> tuple[int | None, str]:
    """The line of a syntax error, from 1, where it is known, and what is wrong there."""
    message = str(error)
    line = _SYNTAX_LINE.search(message)
    return (int(line[1]), _SYNTAX_LINE.sub("", message)) if line else (None, message)


def _path(key: str) -> tuple[str, ...]:
    """The parts of a dotted key, as TOML reads it."""
    try:
        node: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts = []
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)
