"""A workbook from the rows of a CSV file: the labelled schemas are text, so that people can read and compare them."""

import csv
from pathlib import Path

from openpyxl import Workbook


def build_workbook(rows_file: Path, folder: Path) -> Path:
    """Write the rows of NAME.xlsx.csv as NAME.xlsx into a folder."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    with rows_file.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            sheet.append(row)
    path = folder / rows_file.name.removesuffix(".csv")
    book.save(path)
    return path
