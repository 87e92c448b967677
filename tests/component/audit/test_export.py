"""`exchange-audit export`: each format holds exactly what fits, each row names its leaf, and nothing is overwritten."""

import builtins
import csv
import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from exchange.cli.audit.exports import formats
from exchange.cli.audit.exports.formats import FORMATS, harmless
from exchange.cli.audit.exports.ocsf import event
from exchange.cli.audit.exports.rows import COLUMNS, ExportRow
from exchange.cli.audit.mirror.access_mirror import FILE, PAGE
from exchange.core.merkle import leaf_hash
from tests.component.audit.conftest import Run
from tests.world import World

Read = Callable[[Path], list[dict[str, object]]]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cells(path: Path) -> list[dict[str, object]]:
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def table(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = import_module("pyarrow.parquet").read_table(path).to_pylist()
    return rows


def written(run: Run, home: Path, form: str, output: Path, *arguments: object) -> None:
    result = run("export", "--format", form, "--output", output, *arguments, home=home)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("form", "read"), [("jsonl", lines), ("csv", cells), ("parquet", table)])
def test_every_row_names_its_index_and_the_hash_of_its_leaf(
    run: Run, synced: Path, busy: World, tmp_path: Path, form: str, read: Read
) -> None:
    written(run, synced, form, tmp_path / "all")
    rows = read(tmp_path / "all")
    assert [int(str(row["log_index"])) for row in rows] == [0, 1, 2, 3, 4]
    assert [row["leaf_hash"] for row in rows] == [leaf_hash(leaf).hex() for leaf in busy.access_log.leaves]
    assert [row["kind"] for row in rows] == ["released", "refused", "unreleased", "released", "released"]
    assert {row["dataset"] for row in rows} == {"population/residents"}
    assert list(rows[0]) == list(COLUMNS)


@pytest.mark.parametrize("form", FORMATS)
def test_only_what_fits_is_written(run: Run, synced: Path, tmp_path: Path, form: str) -> None:
    result = run(
        "export", "--format", form, "--officer", "officer-8", "--output", tmp_path / "x", "--json", home=synced
    )
    assert json.loads(result.stdout)["rows"] == 2


def test_the_file_beside_it_says_what_it_is_a_view_of(run: Run, synced: Path, tmp_path: Path) -> None:
    written(run, synced, "csv", tmp_path / "all.csv", "--kind", "released")
    about = json.loads((tmp_path / "all.csv.about.json").read_text())
    assert about["sha256"] == hashlib.sha256((tmp_path / "all.csv").read_bytes()).hexdigest()
    assert (about["rows"], about["findings"], about["verified_to"]) == (3, 0, 5)
    assert about["asked"] == "--kind released"
    assert about["checkpoint"].startswith("city.example/access\n5\n")
    assert "leaf is the evidence" in about["note"]


def test_parquet_says_so_in_its_metadata(run: Run, synced: Path, tmp_path: Path) -> None:
    written(run, synced, "parquet", tmp_path / "all.parquet")
    metadata = import_module("pyarrow.parquet").read_schema(tmp_path / "all.parquet").metadata
    assert metadata[b"exchange.log"] == b"city.example/access"
    assert metadata[b"exchange.verified_to"] == b"5"
    assert b"leaf is the evidence" in metadata[b"exchange.note"]


# OCSF.

REQUIRED = {
    "activity_id",
    "actor",
    "api",
    "category_uid",
    "class_uid",
    "metadata",
    "severity_id",
    "src_endpoint",
    "time",
    "type_uid",
}


def test_an_event_is_an_api_activity_of_a_pinned_version(run: Run, synced: Path, busy: World, tmp_path: Path) -> None:
    written(run, synced, "ocsf", tmp_path / "events.jsonl")
    events = lines(tmp_path / "events.jsonl")
    assert len(events) == 5
    for index, found in enumerate(events):
        assert found.keys() >= REQUIRED
        assert (found["class_uid"], found["category_uid"], found["type_uid"]) == (6003, 6, 600302)
        assert found["type_uid"] == 6003 * 100 + int(str(found["activity_id"]))
        metadata, unmapped = found["metadata"], found["unmapped"]
        assert isinstance(metadata, dict)
        assert isinstance(unmapped, dict)
        assert metadata["version"] == "1.6.0"
        assert metadata["product"]["name"] == "department-exchange"
        assert unmapped["log_index"] == index
        assert unmapped["leaf_hash"] == leaf_hash(busy.access_log.leaves[index]).hex()
    assert [found["status_id"] for found in events] == [1, 2, 99, 1, 1]
    assert events[1]["status_code"] == "FIELD_NOT_GRANTED"
    assert events[0]["actor"] == {
        "app_uid": "exchange://city.example/housing/applications",
        "user": {"uid": "officer-7", "type_id": 1, "type": "User"},
    }
    assert events[0]["api"]["operation"] == "LOOKUP"  # type: ignore[index]


def test_an_event_of_an_entry_that_names_nobody_has_what_is_required() -> None:
    empty = ExportRow(**{name: 0 if name in formats.NUMBERS else "" for name in COLUMNS})  # type: ignore[arg-type]
    found = event(replace(empty, kind="refused", code="MALFORMED"), "city.example/access")
    assert found.keys() >= REQUIRED
    assert found["actor"] == {"app_name": "unknown"}
    assert found["src_endpoint"] == {"name": "unknown"}
    assert found["api"] == {"operation": "unknown", "response": {"error": "MALFORMED"}}


# Spreadsheets.


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["officer-7", "1=1", "", 7, 0])
def test_other_cells_stay_as_they_are(cell: object) -> None:
    assert harmless(cell) == cell


def test_a_formula_as_an_officers_name_reaches_no_spreadsheet(run: Run, tmp_path: Path) -> None:
    row = ExportRow(**{name: 1 if name in formats.NUMBERS else "=cmd" for name in COLUMNS})  # type: ignore[arg-type]
    with (tmp_path / "x.csv").open("wb") as file:
        writer = formats.open_writer("csv", file, "log", {})
        writer.add(row)
        writer.close()
    [found] = cells(tmp_path / "x.csv")
    assert found["officer"] == "'=cmd"
    assert found["log_index"] == "1"


# The file.


def test_a_file_that_is_there_is_replaced_only_by_force(run: Run, synced: Path, tmp_path: Path) -> None:
    output = tmp_path / "all.jsonl"
    output.write_text("mine")
    result = run("export", "--output", output, home=synced)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert output.read_text() == "mine"
    written(run, synced, "jsonl", output, "--force")
    assert len(lines(output)) == 5


def test_nothing_is_left_of_an_export_that_fails(
    run: Run, synced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, row: object) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(formats.JsonLines, "add", full)
    assert run("export", "--output", folder / "all.jsonl", home=synced).exit_code == 3
    assert list(folder.iterdir()) == []


def test_a_file_is_for_its_owners_eyes(run: Run, synced: Path, tmp_path: Path) -> None:
    written(run, synced, "csv", tmp_path / "all.csv")
    for name in ("all.csv", "all.csv.about.json"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_without_pyarrow_the_command_to_install_it_is_printed(
    run: Run, synced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(formats, "import_module", missing)
    result = run("export", "--format", "parquet", "--output", tmp_path / "x", home=synced)
    assert result.exit_code == 3
    assert "pip install 'department-exchange[parquet]'" in result.stderr
    assert not (tmp_path / "x").exists()


def test_parquet_is_loaded_only_when_it_is_asked_for(
    run: Run, synced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = builtins.__import__

    def watched(name: str, *rest: object) -> object:
        assert not name.startswith("pyarrow")
        return loaded(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", watched)
    written(run, synced, "csv", tmp_path / "all.csv")


def test_a_format_that_nobody_knows_is_wrong_usage(run: Run, synced: Path, tmp_path: Path) -> None:
    result = run("export", "--format", "xml", "--output", tmp_path / "x", home=synced)
    assert result.exit_code == 2
    assert "jsonl, csv, parquet, ocsf" in result.stderr


def test_an_altered_entry_is_not_exported(run: Run, synced: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(synced / FILE)) as connection, connection:
        connection.execute("UPDATE entries SET leaf = leaf || x'00' WHERE idx = 2")
    result = run("export", "--output", tmp_path / "all.jsonl", home=synced)
    assert result.exit_code == 1
    assert [row["log_index"] for row in lines(tmp_path / "all.jsonl")] == [0, 1, 3, 4]
    assert json.loads((tmp_path / "all.jsonl.about.json").read_text())["findings"] == 1


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many rows take no more memory at their peak, in any format."""
    monkeypatch.setattr(formats, "BATCH", PAGE)
    row = ExportRow(**{name: 1 if name in formats.NUMBERS else "text " * 10 for name in COLUMNS})  # type: ignore[arg-type]

    def peak(form: str, count: int) -> int:
        tracemalloc.start()
        with (tmp_path / f"{form}-{count}").open("wb") as file:
            writer = formats.open_writer(form, file, "log", {})
            for index in range(count):
                writer.add(replace(row, log_index=index))
            writer.close()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    for form in FORMATS:
        peak(form, PAGE)
        few, many = peak(form, 2 * PAGE), peak(form, 20 * PAGE)
        assert many < 2 * few + 200_000, (form, few, many)
