"""How results look: tables for people, JSON for programs; on stdout, and only there."""

import csv
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import typer

# Unicode categories that steer a terminal, or the order of a line, instead of showing something.
_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


# Columns up to this width are never wrapped.
_NARROW = 14


def clean(text: str) -> str:
    """Text that cannot steer a terminal: what another party wrote is shown, never obeyed."""
    return "".join(f"\\u{ord(char):04x}" if unicodedata.category(char) in _STEERING else char for char in text)


def print_line(text: str = "") -> None:
    """Print one line on stdout."""
    typer.echo(text)


def print_json(value: object) -> None:
    """Print a value as JSON; bytes become hex, other objects their text."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: ruled on a terminal, aligned text otherwise, so that it can be cut and compared."""
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_ruled(columns, cells)
    else:
        _print_aligned([list(columns), *cells])


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table as CSV (RFC 4180), with the columns as its first line; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    # A cell that a spreadsheet would take for a formula is shown as text.
    writer.writerows(["" if value is None else _inert(clean(str(value))) for value in row] for row in rows)
    typer.echo(text.getvalue(), nl=False)


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


class RunningTable:
    """A table whose rows come one by one: each is printed at once, in columns as wide as any row before it.

    Args:
        columns: printed before the first row.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._widths: list[int] = []

    def add(self, row: Sequence[object]) -> None:
        """Print a row."""
        cells = [_cell(value) for value in row]
        lines = [cells] if self._widths else [self._columns, cells]
        known = self._widths or [0] * len(cells)
        self._widths = [max(width, *map(_width, column)) for width, *column in zip(known, *lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(_padded(cell, width) for cell, width in zip(line, self._widths, strict=True)).rstrip())


def print_json_line(value: object) -> None:
    """Print a value as one line of JSON, at once, for programs that read while more comes."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names with their values, the values in one column; a list takes a line for each item."""
    width = max((_width(name) for name in pairs), default=0)
    for name, value in pairs.items():
        lines = value if isinstance(value, list | tuple) else [value]
        for label, line in zip_longest([name], lines or ["-"], fillvalue=""):
            typer.echo(f"{_padded(label, width)}  {_cell(line)}".rstrip())


def grouped(digest: bytes) -> str:
    """A fingerprint in hex, in groups of four, to be read out and compared."""
    text = digest.hex()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def listed(items: Iterable[object]) -> str:
    """Items with commas between them."""
    return ", ".join(str(item) for item in items)


def _print_ruled(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(no_color=plain, highlight=False)
    widths = [max(_width(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    # The first column is what people copy. Nothing is ever cut off: other long columns wrap.
    kept = [number == 0 or width <= _NARROW for number, width in enumerate(widths)]
    least = sum(width if keeps else _NARROW for width, keeps in zip(widths, kept, strict=True))
    if least + 2 * (len(columns) - 1) > console.width:
        _print_records(columns, rows)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.header_style = "" if plain else "bold"
    for name, keeps in zip(columns, kept, strict=True):
        table.add_column(name, no_wrap=keeps, overflow="fold")
    for row in rows:
        # Text, not a string: what others wrote is no markup.
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table that is too wide for its terminal, one block for each row."""
    for number, row in enumerate(rows):
        if number:
            typer.echo()
        print_pairs(dict(zip(columns, row, strict=True)))


def _print_aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(str(value))


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
