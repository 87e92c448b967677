"""The formats of an export, each a writer that takes row after row and keeps none."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from types import MappingProxyType
from typing import IO, Any, Final, Protocol

from exchange.cli.audit.exports import ocsf
from exchange.cli.audit.exports.rows import COLUMNS, NUMBERS, ExportRow
from exchange.cli.frame.errors import CommandError, ExitCode

BATCH: Final = 5_000
"""Rows of a Parquet row group."""

NOTE: Final = "a view of the access log: each row's leaf is the evidence, and leaf_hash names it"

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection")."""


class Writer(Protocol):
    """Writes one file."""

    def add(self, row: ExportRow) -> None:
        """Write a row."""
        ...

    def close(self) -> None:
        """Write what is left; the file stays open."""
        ...


class JsonLines:
    """One JSON object a line, UTF-8.

    Args:
        file: to write to.
        describe: what is written of a row.
    """

    def __init__(self, file: IO[bytes], describe: Callable[[ExportRow], Mapping[str, object]] = asdict) -> None:
        self._file = file
        self._describe = describe

    def add(self, row: ExportRow) -> None:
        """Write a row."""
        line = json.dumps(self._describe(row), ensure_ascii=False, separators=(",", ":"))
        self._file.write(line.encode(errors="backslashreplace") + b"\n")

    def close(self) -> None:
        """Nothing is left."""


class CommaSeparated:
    """Comma-separated values (RFC 4180), UTF-8, with a header; no cell begins as a formula does.

    Args:
        file: to write to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._csv.writerow(COLUMNS)

    def add(self, row: ExportRow) -> None:
        """Write a row."""
        self._csv.writerow([harmless(getattr(row, name)) for name in COLUMNS])

    def close(self) -> None:
        """Let go of the file without closing it."""
        self._text.detach()


def harmless(cell: object) -> object:
    """A cell that no spreadsheet computes: what would begin a formula gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


class Parquet:
    """Apache Parquet, in row groups of `BATCH`; what it is a view of is in the file's metadata.

    Args:
        file: to write to.
        about: names and values for the metadata.

    Raises:
        CommandError: pyarrow is not installed.
    """

    def __init__(self, file: IO[bytes], about: Mapping[str, str]) -> None:
        self._arrow, parquet = _pyarrow()
        types = [(name, self._arrow.uint64() if name in NUMBERS else self._arrow.string()) for name in COLUMNS]
        self._schema = self._arrow.schema(types, metadata={"exchange.note": NOTE, **about})
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[ExportRow] = []

    def add(self, row: ExportRow) -> None:
        """Write a row, with those that wait."""
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self._flush()

    def close(self) -> None:
        """Write the rows that wait, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            columns = [[getattr(row, name) for row in self._rows] for name in COLUMNS]
            self._writer.write_batch(self._arrow.record_batch(columns, schema=self._schema))
            self._rows.clear()


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        hint = "install it: pip install 'department-exchange[parquet]'; or choose jsonl or csv"
        raise CommandError("Parquet needs pyarrow, which is not installed", hint, ExitCode.UNCHECKED) from error


def open_writer(name: str, file: IO[bytes], log: str, about: Mapping[str, str]) -> Writer:
    """The writer of a format.

    Args:
        name: one of `FORMATS`.
        file: to write to, open in binary.
        log: the log's name.
        about: what the file is, for its metadata where the format has some.
    """
    return FORMATS[name](file, log, about)


FORMATS: Final[Mapping[str, Callable[[IO[bytes], str, Mapping[str, str]], Writer]]] = MappingProxyType(
    {
        "jsonl": lambda file, _log, _about: JsonLines(file),
        "csv": lambda file, _log, _about: CommaSeparated(file),
        "parquet": lambda file, _log, about: Parquet(file, about),
        "ocsf": lambda file, log, _about: JsonLines(file, lambda row: ocsf.event(row, log)),
    }
)
