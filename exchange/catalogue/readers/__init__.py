"""Read what somebody is about to build or collect, in whatever form they have it."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from exchange.catalogue.errors import SchemaError
from exchange.catalogue.fields import MAX_FIELDS, Profile
from exchange.catalogue.readers.csv_header import read_csv
from exchange.catalogue.readers.ddl import read_ddl
from exchange.catalogue.readers.descriptor import read_descriptor_fields
from exchange.catalogue.readers.form import read_form
from exchange.catalogue.readers.json_schema import read_json_schema
from exchange.catalogue.readers.source import SourceFile
from exchange.catalogue.readers.workbook import read_workbook

KINDS: Mapping[str, Callable[[SourceFile], Profile]] = MappingProxyType(
    {
        "descriptor": read_descriptor_fields,
        "csv": read_csv,
        "xlsx": read_workbook,
        "json-schema": read_json_schema,
        "sql": read_ddl,
        "form": read_form,
    }
)
"""Each kind of file, and what reads it."""

_EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        ".toml": "descriptor",
        ".csv": "csv",
        ".tsv": "csv",
        ".xlsx": "xlsx",
        ".xlsm": "xlsx",
        ".json": "json-schema",
        ".sql": "sql",
        ".ddl": "sql",
    }
)
_LIST = "write its fields into a text file, one a line"
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0", "is in the old format of Office", "save it as .xlsx, or " + _LIST),
    (b"%PDF", "is a PDF", _LIST),
    (b"\x89PNG", "is a picture", _LIST),
    (b"\xff\xd8\xff", "is a picture", _LIST),
)
_ZIP = b"PK\x03\x04"
_TABLE = re.compile(r"\bcreate\s+(?:\w+\s+){0,3}table\b", re.IGNORECASE)
_FIELDS = re.compile(r"^\s*(?:\[\[\s*fields\s*\]\]|fields\s*=\s*\[)", re.MULTILINE)
_HEADER = re.compile(r"[^\n,\t;|]*(?:[,\t;|][^\n,\t;|]*){2,}")


def read_profile(path: Path, kind: str = "") -> Profile:
    """Read a file's fields.

    Args:
        path: of the file.
        kind: one of `KINDS`; found by content and extension where it is empty.

    Raises:
        SchemaError: it is none of these, or has no fields; the text names the place, the hint what to do.
        OSError: it cannot be read.
    """
    source = SourceFile(path)
    for magic, problem, hint in _REFUSED:
        if source.data.startswith(magic):
            raise SchemaError(str(path), problem, hint)
    if not source.data.strip():
        raise SchemaError(str(path), "is empty", "name a file with fields")
    profile = KINDS[kind or _kind(source)](source)
    if not profile.fields:
        raise SchemaError(str(path), "no field is in it", f"say what it is: --kind {'|'.join(KINDS)}")
    if len(profile.fields) > MAX_FIELDS:
        raise SchemaError(str(path), f"has more than {MAX_FIELDS} fields", "give the part that you want compared")
    return profile


def _kind(source: SourceFile) -> str:
    if source.data.startswith(_ZIP):
        if source.path.suffix.lower() in (".docx", ".pptx", ".wps", ".zip"):
            raise SchemaError(str(source.path), "is no workbook", _LIST)
        return "xlsx"
    named = _EXTENSIONS.get(source.path.suffix.lower())
    if named:
        return named
    text = source.text
    if text.lstrip().startswith("{"):
        return "json-schema"
    if _TABLE.search(text):
        return "sql"
    if _FIELDS.search(text):
        return "descriptor"
    first = text.lstrip().partition("\n")[0]
    return "csv" if _HEADER.fullmatch(first.strip()) else "form"
