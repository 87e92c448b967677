"""`exchange department leave`, against an exchange in memory."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

import exchange.cli.frame.acting
import exchange.cli.joining.leaving
from exchange.core.keys import key_id
from exchange.home import Home
from tests.component.cli.test_exchange_directory import FakeSession, run
from tests.world import HOUSING, POPULATION, REGISTRY, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World.standard()
    monkeypatch.setattr(exchange.cli.frame.acting, "Session", type("WorldSession", (FakeSession,), {"world": world}))
    return world


@pytest.fixture
def home(world: World, tmp_path: Path) -> Path:
    home = Home.create(tmp_path / "population", POPULATION, "department")
    home.new_private_key("signing", world.keys[POPULATION].private_key)
    return home.path


def leave(home: Path, *more: str) -> Result:
    return run(home, "department", "leave", "--reason", "Merged into the planning office", *more)


def test_nothing_of_a_department_that_left_stands(world: World, home: Path) -> None:
    dataset, agreement = world.dataset, world.agreement
    result = leave(home, "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[-1]["ended"] == f"key of {POPULATION}"
    state = world.directory.state
    assert not world.directory.stands(agreement)
    assert state.versions[dataset.version.digest].ended_index is not None
    assert all(record.revoked_index is not None for party in (POPULATION, REGISTRY) for record in state.keys_of(party))


def test_others_are_left_as_they_are(world: World, home: Path) -> None:
    leave(home, "--yes")
    state = world.directory.state
    assert all(record.revoked_index is None for record in state.keys_of(HOUSING))
    assert all(version.ended_index is None for version in state.versions_of(HOUSING))


def test_rights_end_before_keys_and_the_signing_key_is_the_last(world: World, home: Path) -> None:
    leave(home, "--yes")
    ended = {record.key_id: record.revoked_index or 0 for record in world.directory.state.keys.values()}
    last = ended.pop(key_id(world.keys[POPULATION].public_key))
    versions = [version.ended_index or 0 for version in world.directory.state.versions_of(POPULATION)]
    keys = [index for index in ended.values() if index]
    assert max(versions) < min(keys)
    assert max(keys) < last


def test_what_was_stopped_in_the_middle_goes_on(world: World, home: Path) -> None:
    first = next(exchange.cli.joining.leaving.endings(world.directory, POPULATION, b""))
    assert first.what == "agreement"
    world.revoke(first.target, POPULATION)
    result = leave(home, "--yes")
    assert result.exit_code == 0, result.stderr
    assert "agreement" not in result.stdout
    assert "has left the exchange" in result.stdout


def test_nothing_ends_where_nobody_confirms(world: World, home: Path) -> None:
    size = world.directory.state.size
    result = leave(home)
    assert result.exit_code == 2
    assert "nobody has confirmed it" in result.stderr
    assert "  agreement" in result.stderr
    assert world.directory.state.size == size


@pytest.mark.parametrize("role", ["system", "coordinator"])
def test_only_a_department_leaves(tmp_path: Path, role: str) -> None:
    party = REGISTRY if role == "system" else HOUSING
    Home.create(tmp_path / "other", party, role)
    result = leave(tmp_path / "other", "--yes")
    assert result.exit_code == 2
    assert "only a department leaves" in result.stderr


def test_what_ends_is_listed_kind_by_kind(world: World, home: Path) -> None:
    found = [item.what for item in exchange.cli.joining.leaving.endings(world.directory, POPULATION, b"")]
    kinds = list(dict.fromkeys(found))
    assert kinds == ["agreement", "dataset", f"key of {REGISTRY}", f"key of {POPULATION}"]
