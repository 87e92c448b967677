"""An Excel workbook (.xlsx): the header of each sheet, and some rows to see what the values look like.

A workbook is a zip of XML that somebody else made: what it unpacks to is bounded before anything of it is read, and
rows are streamed, so that a sheet that claims a million columns costs nothing.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from datetime import date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import ParseError

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import FieldProfile, Profile
from exchange.catalogue.readers.columns import SAMPLES, read_columns
from exchange.catalogue.readers.source import SourceFile

if TYPE_CHECKING:
    from openpyxl import Workbook

MAX_PARTS = 10_000
MAX_PART = 64 * 1024 * 1024
MAX_RATIO = 200
_SMALL = 4 * 1024 * 1024
_ROWS, _COLUMNS, _SHEETS = SAMPLES + 10, 2_000, 100
_DAMAGED = "open it in a spreadsheet program and save it again, as .xlsx"
# What openpyxl raises for a file that is not what it claims to be.
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    ParseError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OSError,
)


def read_workbook(source: SourceFile) -> Profile:
    """Read the columns of every visible sheet.

    Raises:
        SchemaError: it is no workbook, is encrypted, or unpacks to too much.
    """
    _check_size(source)
    try:
        with warnings.catch_warnings():
            # Of styles and extensions, which nothing here looks at.
            warnings.simplefilter("ignore")
            return Profile(source.title, "xlsx", _fields(source))
    except _ERRORS as error:
        raise SchemaError(
            str(source.path), f"not a workbook: {str(error) or type(error).__name__}", _DAMAGED
        ) from error


def _check_size(source: SourceFile) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise SchemaError(str(source.path), f"not a workbook: {error}", _DAMAGED) from error
    # zipfile reads no more of a part than its entry claims, so the claims can be relied on.
    for part in parts:
        ratio = part.file_size / max(1, part.compress_size)
        if part.file_size > MAX_PART or (part.file_size > _SMALL and ratio > MAX_RATIO):
            raise SchemaError(
                f"{source.path}: {part.filename[:80]}", "unpacks to too much", "keep the header and a few rows of it"
            )
    if len(parts) > MAX_PARTS:
        raise SchemaError(
            str(source.path), f"has more than {MAX_PARTS} parts", "keep the sheets that you want compared"
        )


def _fields(source: SourceFile) -> tuple[FieldProfile, ...]:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(source.data), read_only=True, data_only=True, keep_links=False)
    try:
        tables = _tables(book)
    finally:
        book.close()
    fields: list[FieldProfile] = []
    for title, rows in tables:
        fields += read_columns(rows, f"{title}!" if len(tables) > 1 else "")
    return tuple(fields)


def _tables(book: "Workbook") -> list[tuple[str, list[list[str]]]]:
    tables = []
    for sheet in islice(book.worksheets, _SHEETS):
        if sheet.sheet_state != "visible":
            continue
        cells = sheet.iter_rows(max_row=_ROWS, max_col=_COLUMNS, values_only=True)
        rows = [_texts(row) for row in cells]
        if any(any(row) for row in rows):
            tables.append((sheet.title, rows))
    return tables


def _texts(row: Sequence[Any]) -> list[str]:
    texts = [_text(value) for value in row]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
