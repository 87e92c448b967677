"""A CSV file: its header, and some rows to see what the values look like."""

import csv
from itertools import islice

from exchange.catalogue.fields import Profile
from exchange.catalogue.readers.columns import SAMPLES, read_columns
from exchange.catalogue.readers.source import SourceFile

_DELIMITERS = ",\t;|"
_ROWS = SAMPLES + 10


def read_csv(source: SourceFile) -> Profile:
    """Read a CSV file's columns, separated by whatever its first lines have most of.

    Raises:
        SchemaError: it is no CSV.
    """
    lines = source.text.splitlines(keepends=True)
    delimiter = max(_DELIMITERS, key=lambda character: sum(line.count(character) for line in lines[:5]))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        rows = [[cell.strip() for cell in row] for row in islice(reader, _ROWS)]
    except csv.Error as error:
        hint = "check the quotes there, or say what it is with --kind"
        raise source.error(reader.line_num, f"not CSV: {error}", hint) from error
    return Profile(source.title, "csv", read_columns(rows))
