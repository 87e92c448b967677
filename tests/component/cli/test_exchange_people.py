"""Officers and mandates, as people type them."""

import json
from pathlib import Path

import pytest

from tests.component.cli.test_exchange_directory import homes, run, world
from tests.world import HOUSING, World

__all__ = ["homes", "world"]


# --- officers ---------------------------------------------------------------------------------------------------


def test_officers_are_registered_removed_and_listed(world: World, homes: Path) -> None:
    assert "registers no officers" in run(homes / "housing", "officer", "list").stdout
    added = run(homes / "housing", "officer", "add", "officer-8", "officer-7")
    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith(f"officer-8 may ask for {HOUSING}: entry ")
    assert "requests of any other are refused" in added.stderr
    again = run(homes / "housing", "officer", "add", "officer-9")
    assert again.stderr == ""
    assert run(homes / "housing", "officer", "remove", "officer-7").stdout.startswith("officer-7 is removed: entry ")
    for home, more in (("housing", ()), ("population", ("--department", "housing")), ("applications", ())):
        listed = json.loads(run(homes / home, "officer", "list", *more, "--json").stdout)
        assert {item["officer"]: item["removed"] for item in listed} == {
            "officer-7": True,
            "officer-8": False,
            "officer-9": False,
        }
    assert "officer-7  removed" in run(homes / "housing", "officer", "list").stdout
    assert run(homes / "housing", "officer", "add", "officer-7").exit_code == 0
    assert "officer-7  may ask" in run(homes / "housing", "officer", "list").stdout


def test_an_officer_who_was_removed_is_told_so_before_asking(world: World, homes: Path) -> None:
    run(homes / "housing", "officer", "add", "officer-7")
    run(homes / "housing", "officer", "remove", "officer-7")
    arguments = (
        "population/residents",
        "--fields",
        "name",
        "--purpose",
        "housing.allocation",
        "--officer",
        "officer-7",
    )
    result = run(homes / "applications", "agreement", "explain", *arguments)
    assert result.exit_code == 1
    assert "has removed this officer" in result.stdout


@pytest.mark.parametrize(
    ("home", "arguments", "problem"),
    [
        ("housing", ("add", "王芳"), "is not an officer's pseudonym"),
        ("housing", ("add", "officer-7"), "is registered already"),
        ("housing", ("add", "officer-8", "officer-7"), "is registered already"),
        ("housing", ("remove", "officer-8"), "is not registered"),
        ("applications", ("add", "officer-8"), "only a department registers officers"),
        ("data-bureau", ("remove", "officer-7"), "only a department registers officers"),
        ("data-bureau", ("list", "--department", "hosing"), "is not in the directory"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(
    world: World, homes: Path, home: str, arguments: tuple[str, ...], problem: str
) -> None:
    world.name_officer(HOUSING, "officer-7")
    size = world.directory.size
    result = run(homes / home, "officer", *arguments)
    assert (result.exit_code, world.directory.size) == (2, size)
    assert problem in result.stderr
