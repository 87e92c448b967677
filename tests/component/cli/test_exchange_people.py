"""Officers and mandates, as people type them."""

import json
from pathlib import Path

import pytest

from exchange.core.names import Party
from exchange.v1.people_pb2 import Mandate
from tests.component.cli.test_exchange_directory import homes, run, world
from tests.world import AUDITOR, COORDINATOR, HOUSING, ORIGIN, World

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


# --- mandates ---------------------------------------------------------------------------------------------------


def test_a_mandate_is_given_listed_and_ended(world: World, homes: Path) -> None:
    bureau = homes / "data-bureau"
    given = run(
        bureau,
        *("mandate", "give", "auditor", "--until", "2027-12-31", "--department", "housing"),
        *("--dataset", "population/residents", "--accesses-since", "2026-01-01", "--accesses-until", "2026-12-31"),
    )
    assert given.exit_code == 0, given.stderr
    assert (
        f"{AUDITOR} may read accesses of housing to population/residents, from 2026-01-01 to 2026-12-31" in given.stdout
    )
    [_, digest] = world.directory.state.people.mandates[str(AUDITOR)]
    said = world.directory.state.versions[digest].named
    assert isinstance(said, Mandate)
    assert (list(said.departments), list(said.datasets)) == ([str(HOUSING)], [world.dataset.object_id])
    listed = json.loads(run(homes / "housing", "mandate", "list", "--json").stdout)
    assert [(item["departments"], item["datasets"], item["standing"]) for item in listed] == [
        ([str(HOUSING)], ["population/residents"], "in force"),
        ([], [], "in force"),
    ]
    assert "all departments" in run(bureau, "mandate", "list").stdout
    ended = run(bureau, "mandate", "end", digest.hex()[:12], "--reason", "done")
    assert "is ended" in ended.stdout
    assert len(json.loads(run(bureau, "mandate", "list", "--json").stdout)) == 1
    standings = [item["standing"] for item in json.loads(run(bureau, "mandate", "list", "--all", "--json").stdout)]
    assert standings == ["ended", "in force"]
    assert run(bureau, "mandate", "end", digest.hex()[:12], "--reason", "again").exit_code == 2


def test_a_mandate_that_is_over_is_not_listed(world: World, homes: Path) -> None:
    for digest in world.directory.state.people.mandates[str(AUDITOR)]:
        world.revoke(digest, COORDINATOR)
    assert "No mandate is in force" in run(homes / "housing", "mandate", "list").stdout
    world.mandate(not_after=world.now + 1)
    world.now += 2
    assert "over" in run(homes / "housing", "mandate", "list", "--all").stdout
    assert "No mandate is in force" in run(homes / "housing", "mandate", "list").stdout


@pytest.mark.parametrize(
    ("home", "arguments", "problem"),
    [
        ("housing", ("give", "auditor", "--until", "2027-12-31"), "only a coordinator gives mandates"),
        ("housing", ("end", "00000000", "--reason", "x"), "only a coordinator gives mandates"),
        ("data-bureau", ("give", "auditor", "--until", "soon"), "--until: not a day"),
        ("data-bureau", ("give", "auditor", "--until", "2020-01-01"), "is over"),
        ("data-bureau", ("give", "auditors", "--until", "2027-12-31"), "is not in the directory"),
        ("data-bureau", ("give", "Auditor", "--until", "2027-12-31"), "write NAME"),
        (
            "data-bureau",
            ("give", "auditor", "--until", "2027-12-31", "--dataset", "population/residence"),
            "population/residence",
        ),
        (
            "data-bureau",
            ("give", "auditor", "--until", "2027-12-31", "--accesses-since", "yesterday"),
            "--accesses-since: not a day",
        ),
        (
            "data-bureau",
            (
                *("give", "auditor", "--until", "2027-12-31"),
                *("--accesses-since", "2026-12-31", "--accesses-until", "2026-01-01"),
            ),
            "lies before",
        ),
        ("data-bureau", ("end", "00000000", "--reason", "x"), "is no mandate"),
        ("data-bureau", ("end", "0000", "--reason", "x"), "is too short"),
        ("data-bureau", ("end", "00000000", "--reason", ""), "--reason"),
    ],
)
def test_what_cannot_be_a_mandate_is_told(
    world: World, homes: Path, home: str, arguments: tuple[str, ...], problem: str
) -> None:
    size = world.directory.size
    result = run(homes / home, "mandate", *arguments)
    assert (result.exit_code, world.directory.size) == (2, size)
    assert problem in result.stderr


def test_only_an_auditor_is_given_a_mandate(world: World, homes: Path) -> None:
    result = run(homes / "data-bureau", "mandate", "give", "housing", "--until", "2027-12-31")
    assert result.exit_code != 0
    assert f"{Party(ORIGIN, 'housing')} is no auditor" in result.stderr
