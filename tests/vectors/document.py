"""The values in docs/protocol.md: a name at the start of a line, its hexadecimal digits indented below it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
WIDTH = 112

_VALUE = re.compile(r"^([a-z][a-z0-9_.]*\.[a-z0-9_]+)\n((?:    [0-9a-f]+\n)+)", re.MULTILINE)


def values_in(text: str) -> Iterator[tuple[str, bytes]]:
    """Every value that the document shows, with its name."""
    for name, digits in _VALUE.findall(text):
        yield name, bytes.fromhex(digits)


def with_values(text: str, values: Mapping[str, bytes]) -> str:
    """The document with every value as `values` has it.

    Raises:
        KeyError: it shows a name that is not there.
    """
    return _VALUE.sub(lambda found: f"{found[1]}\n{_wrapped(values[found[1]])}", text)


def _wrapped(data: bytes) -> str:
    digits = data.hex()
    return "".join(f"    {digits[start : start + WIDTH]}\n" for start in range(0, len(digits), WIDTH))
