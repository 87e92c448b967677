"""`exchange dataset similar`, against a directory in memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

import exchange.cli.datasets.similar
from exchange.catalogue.readers import read_profile
from exchange.cli.datasets.similar import find_similar, print_similar
from exchange.cli.main import app
from exchange.client.datasets import published_datasets
from exchange.v1.catalogue_pb2 import SharingClass
from exchange.v1.directory_pb2 import Dataset
from tests.world import HOUSING, POPULATION, World

FORM = "申请表\n1. 申请人姓名（必填）\n2. 身份证号\n3. 出生日期\n4. 现住址\n5. 配偶姓名\n6. 溶解氧\n"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World.standard()

    def act(_home: Path, work: Callable[[SimpleNamespace], Awaitable[object]]) -> object:
        async def run() -> object:
            return await work(SimpleNamespace(directory=world.directory, home=SimpleNamespace(path=tmp_path)))

        return asyncio.run(run())

    monkeypatch.setattr(exchange.cli.datasets.similar, "act", act)
    return world


@pytest.fixture
def form(tmp_path: Path) -> Path:
    path = tmp_path / "form.txt"
    path.write_text(FORM)
    return path


def similar(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "similar", *map(str, arguments)])


def test_says_which_fields_are_provided_and_what_to_ask_for(world: World, form: Path) -> None:
    result = similar(form)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "申请表 (form): 4 of 6 fields already provided."
    rows = {line.split()[0]: line for line in lines[2:] if line}
    assert "population/residents" in rows["身份证号"]
    assert "id_number" in rows["身份证号"]
    assert rows["配偶姓名"].split()[1:] == ["-", "-", "-", "-"]
    assert (
        lines[-1]
        == "  exchange agreement apply --dataset population/residents --fields name,id_number,birth_date,address …"
    )


def test_programs_get_every_source_with_score_and_reasons(world: World, form: Path) -> None:
    result = similar(form, "--json")
    found = json.loads(result.stdout)
    assert (found["title"], found["kind"], found["provided"]) == ("申请表", "form", 4)
    [best] = found["fields"][1]["provided_by"]
    assert (best["dataset"], best["field"]) == ("population/residents", "id_number")
    assert 0.6 <= best["score"] <= 1
    assert best["reasons"][0].startswith("same meaning: ")
    assert found["fields"][5]["provided_by"] == []
    [dataset] = found["datasets"]
    assert dataset["provides"] == {
        "申请人姓名": "name",
        "身份证号": "id_number",
        "出生日期": "birth_date",
        "现住址": "address",
    }


def test_a_score_that_nothing_reaches_finds_nothing(world: World, form: Path) -> None:
    result = similar(form, "--min-score", "1")
    assert result.exit_code == 0
    assert "0 of 6 fields already provided." in result.stdout
    assert "exchange agreement apply" not in result.stdout


def test_an_empty_directory_provides_nothing(world: World, form: Path) -> None:
    world.directory = World().directory
    assert "0 of 6 fields already provided." in similar(form, "--all").stdout


@pytest.mark.parametrize(
    ("content", "more", "problem", "hint"),
    [
        (b"{", ["--kind", "json-schema"], "file:1: not JSON", "check it there"),
        (b"%PDF-1.7", [], "file: is a PDF", "one a line"),
        (b"a", ["--kind", "word"], "--kind: 'word' is none of descriptor, csv", ""),
        (b"a", ["--min-score", "2"], "'--min-score'", "--help"),
    ],
)
def test_bad_input_is_wrong_usage(
    world: World, tmp_path: Path, content: bytes, more: list[str], problem: str, hint: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    result = similar(path, *more)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert problem in result.stderr
    assert hint in result.stderr


def test_nobody_is_told_to_apply_for_what_is_not_shared(
    world: World, form: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [dataset] = published_datasets(world.directory)
    closed = Dataset()
    closed.CopyFrom(dataset.descriptor)
    closed.sharing.sharing_class = SharingClass.SHARING_CLASS_NOT_SHARED
    profile = read_profile(form)
    print_similar(profile, find_similar([replace(dataset, descriptor=closed)], profile))
    shown = capsys.readouterr().out
    assert "population/residents is not shared: talk to its owner about name,id_number" in shown
    assert "exchange agreement apply" not in shown


def test_a_department_does_not_duplicate_itself(world: World, form: Path) -> None:
    datasets, profile = published_datasets(world.directory), read_profile(form)
    assert find_similar(datasets, profile, apart_from=POPULATION).provided == 0
    assert find_similar(datasets, profile, apart_from=HOUSING).provided == 4
