"""Officers, mandates and stewards, as people type them."""

import base64
import json
from pathlib import Path

import pytest

from exchange.core.names import Party
from exchange.core.wire import encode
from exchange.v1.directory_pb2 import Entry
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


# --- stewards ---------------------------------------------------------------------------------------------------


def steward(homes: Path, name: str) -> Path:
    """A steward's home, admitted by housing."""
    home = homes / name
    made = run(home, "key", "new", f"exchange://{ORIGIN}/housing/{name}", "--role", "steward")
    assert f"whoever keeps the key of {HOUSING}" in made.stdout
    added = run(homes / "housing", "steward", "add", home / "request.json", "--unchecked")
    assert added.exit_code == 0, added.stderr
    return home


def test_a_steward_signs_for_the_department_until_it_is_removed(world: World, homes: Path) -> None:
    first, second = steward(homes, "steward-1"), steward(homes, "steward-2")
    added = run(first, "officer", "add", "officer-7")
    assert added.exit_code == 0, added.stderr
    # What one has begun, the other goes on with.
    assert run(second, "officer", "remove", "officer-7").exit_code == 0
    held = run(second, "suspend", "officer-7@housing", "--reason", "under inquiry")
    assert held.exit_code == 0, held.stderr
    assert run(first, "resume", "officer-7@housing").exit_code == 0
    name = f"{HOUSING}/steward-1"
    removed = run(homes / "housing", "steward", "remove", name, "--reason", "moved")
    assert f"{name} signs nothing for the department any more" in removed.stdout
    assert removed.stderr == ""
    late = run(first, "officer", "add", "officer-9")
    assert late.exit_code != 0
    assert "is revoked" in late.stderr
    states = {item["party"]: item["state"] for item in json.loads(run(second, "steward", "list", "--json").stdout)}
    assert states == {name: "removed", f"{HOUSING}/steward-2": "valid"}


def test_it_is_told_what_to_do_where_the_last_steward_is_gone(world: World, homes: Path) -> None:
    assert "No steward has a key" in run(homes / "housing", "steward", "list").stdout
    steward(homes, "steward-1")
    gone = run(homes / "housing", "steward", "remove", f"{HOUSING}/steward-1", "--reason", "left")
    assert gone.exit_code == 0
    for said in (gone.stderr, run(homes / "housing", "steward", "list").stderr):
        assert "`exchange key recover`" in said
        assert "adds one with `exchange steward add`" in said
        assert "whose root key signs a new one" in said


def test_a_handover_puts_a_new_key_in_the_place_of_the_old_one(world: World, homes: Path) -> None:
    first = steward(homes, "steward-1")
    run(homes / "next", "key", "new", f"{HOUSING}/steward-2", "--role", "steward")
    size = world.directory.size
    arguments = (f"{HOUSING}/steward-1", homes / "next" / "request.json", "--unchecked", "--reason", "moved")
    result = run(homes / "housing", "steward", "handover", *arguments)
    assert result.exit_code == 0, result.stderr
    # One pair of entries: the new key, and the end of the old one.
    assert world.directory.size == size + 2
    assert run(homes / "next", "officer", "add", "officer-7").exit_code == 0
    assert run(first, "officer", "add", "officer-8").exit_code != 0
    size = world.directory.size
    again = run(homes / "housing", "steward", "handover", *arguments)
    assert (again.exit_code, world.directory.size) == (1, size)
    assert "is no steward of" in again.stderr


@pytest.mark.parametrize("command", ["add", "remove", "handover"])
def test_a_steward_names_and_removes_no_stewards(world: World, homes: Path, command: str) -> None:
    first = steward(homes, "steward-1")
    run(homes / "third", "key", "new", f"{HOUSING}/steward-3", "--role", "steward")
    name, request = f"{HOUSING}/steward-1", homes / "third" / "request.json"
    size = world.directory.size
    arguments = {
        "add": (request, "--unchecked"),
        "remove": (name, "--reason", "x"),
        "handover": (name, request, "--unchecked", "--reason", "x"),
    }[command]
    result = run(first, "steward", command, *arguments)
    assert (result.exit_code, world.directory.size) == (2, size)
    assert "only the department's own key" in result.stderr


def test_a_steward_admits_systems_and_no_heads(world: World, homes: Path) -> None:
    first = steward(homes, "steward-1")
    run(homes / "archive", "key", "new", f"{HOUSING}/archive")
    (first / "trust.toml").write_text("the trust file")
    added = run(first, "system", "add", homes / "archive" / "request.json", "--unchecked")
    assert added.exit_code == 0, added.stderr
    run(homes / "chief", "key", "new", f"{HOUSING}/chief", "--role", "head")
    refused = run(first, "head", "add", homes / "chief" / "request.json", "--unchecked")
    assert refused.exit_code != 0
    assert "only keys of systems are its to sign" in refused.stderr


def two_stewards(homes: Path) -> tuple[Path, Path]:
    """Two stewards of housing, which asks for both."""
    both = steward(homes, "steward-1"), steward(homes, "steward-2")
    for home in both:
        (home / "trust.toml").write_text("the trust file")
    done = run(homes / "housing", "steward", "require", "2")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Two stewards sign: entry ")
    return both


def waiting_system(homes: Path, first: Path) -> Path:
    """The file of a system's key that the first steward has signed."""
    run(homes / "archive", "key", "new", f"{HOUSING}/archive")
    done = run(first, "system", "add", homes / "archive" / "request.json", "--unchecked")
    assert done.exit_code == 1
    assert "asks for two stewards: nothing was entered yet" in done.stderr
    [path] = first.glob("second-*.json")
    return path


def test_two_stewards_admit_a_system_where_the_department_asks_for_two(world: World, homes: Path) -> None:
    first, second = two_stewards(homes)
    size = world.directory.size
    path = waiting_system(homes, first)
    assert world.directory.size == size
    done = run(second, "steward", "countersign", path, "--yes", "--out", homes / "archive-admission.json")
    assert done.exit_code == 0, done.stderr
    assert f"signed first by      {HOUSING}/steward-1" in done.stderr
    assert f"party                {HOUSING}/archive" in done.stderr
    assert (homes / "archive-admission.json").exists()
    assert done.stdout == f"Entered: entry {size} of the directory.\n"
    assert world.directory.state.keys_of(Party(ORIGIN, "housing", "archive"))


def test_the_second_steward_sees_what_is_signed(world: World, homes: Path, tmp_path: Path) -> None:
    first, second = two_stewards(homes)
    descriptor = tmp_path / "flats.toml"
    fields = '[[fields]]\nname = "flat_id"\ntype = "text"\n'
    descriptor.write_text(
        f'code = "flats"\ntitle = "保障房"\nsystem = "applications"\nkey = "flat_id"\noperations = ["LOOKUP"]\n{fields}'
    )
    done = run(first, "dataset", "publish", descriptor)
    assert "asks for two stewards" in done.stderr
    [path] = first.glob("second-*.json")
    shown = run(second, "steward", "countersign", path)
    assert shown.exit_code == 2
    assert "nobody has looked at it; nothing was signed" in shown.stderr
    for line in ("kind                 dataset", "title                保障房", "fields.name          flat_id"):
        assert line in shown.stderr
    assert world.directory.dataset_named(str(HOUSING), "flats") is None
    assert run(second, "steward", "countersign", path, "--yes").exit_code == 0
    assert world.directory.dataset_named(str(HOUSING), "flats") is not None


def test_a_steward_cannot_be_both(world: World, homes: Path) -> None:
    first, _ = two_stewards(homes)
    path = waiting_system(homes, first)
    done = run(first, "steward", "countersign", path, "--yes")
    assert done.exit_code == 5
    assert "cannot be the second one to what it signs" in done.stderr


def test_what_was_altered_on_its_way_is_signed_by_nobody(world: World, homes: Path) -> None:
    first, second = two_stewards(homes)
    path = waiting_system(homes, first)
    values = json.loads(path.read_text())
    entry = Entry.FromString(base64.b64decode(values["entry"]))
    entry.object_id = bytes(16)
    altered = path.with_name("altered.json")
    altered.write_text(json.dumps(values | {"entry": base64.b64encode(encode(entry)).decode()}))
    body = path.with_name("body.json")
    body.write_text(json.dumps(values | {"attachment": base64.b64encode(b"another request").decode()}))
    size = world.directory.size
    for file, problem in ((altered, "did not sign exactly this entry"), (body, "not the one that was signed")):
        done = run(second, "steward", "countersign", file, "--yes")
        assert done.exit_code == 5
        assert problem in done.stderr
    assert world.directory.size == size


def test_only_another_steward_of_the_department_countersigns(world: World, homes: Path) -> None:
    first, _ = two_stewards(homes)
    path = waiting_system(homes, first)
    for home in ("housing", "population"):
        done = run(homes / home, "steward", "countersign", path, "--yes")
        assert done.exit_code == 2
        assert "a steward countersigns" in done.stderr
    assert run(first, "steward", "require", "1").exit_code == 2


def test_a_department_goes_back_to_one_steward(world: World, homes: Path) -> None:
    first, _ = two_stewards(homes)
    assert run(homes / "housing", "steward", "require", "1").stdout.startswith("One steward signs: entry ")
    run(homes / "archive", "key", "new", f"{HOUSING}/archive")
    assert run(first, "system", "add", homes / "archive" / "request.json", "--unchecked").exit_code == 0
    assert run(homes / "housing", "officer", "list").exit_code == 0
