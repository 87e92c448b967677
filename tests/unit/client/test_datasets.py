import pytest

from exchange.client.datasets import choose_agreement, find_dataset
from exchange.client.errors import UsageError
from exchange.core.terms import AgreementTerms
from tests.world import APPLICATIONS, LOOKUP, MARRIAGE, PURPOSE, QUERY, YEAR, World


@pytest.fixture
def world() -> World:
    return World.standard()


def choose(world: World, fields: list[str] | None = None, operation: int = LOOKUP) -> AgreementTerms:
    return choose_agreement(
        world.directory, APPLICATIONS, world.dataset, operation, fields or ["name"], PURPOSE, world.now
    )


@pytest.mark.parametrize("text", ["population/residents", "exchange://city.example/population/residents"])
def test_finds_a_dataset_by_name(world: World, text: str) -> None:
    assert find_dataset(world.directory, text) == world.dataset


def test_finds_a_dataset_by_object_id(world: World) -> None:
    digits = world.dataset.object_id.hex()
    assert find_dataset(world.directory, digits) == find_dataset(world.directory, digits.upper()) == world.dataset


@pytest.mark.parametrize("text", ["", "residents", "exchange://town.example/population/residents", "population/", "ab"])
def test_an_unknown_dataset_is_a_usage_error(world: World, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_dataset(world.directory, text)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_suggests_what_is_close(world: World) -> None:
    with pytest.raises(UsageError) as caught:
        find_dataset(world.directory, "population/resident")
    assert caught.value.hint == "did you mean population/residents?"


def test_a_revoked_dataset_is_not_found(world: World) -> None:
    world.revoke(world.dataset.version.digest, world.dataset.version.owner)
    with pytest.raises(UsageError):
        find_dataset(world.directory, "population/residents")


def test_chooses_the_newest_agreement_that_grants_all(world: World) -> None:
    first = world.agreement
    wide = world.grant(world.apply_for(world.dataset, fields=["name", "birth_date"]))
    narrow = world.grant(world.apply_for(world.dataset, fields=["name"], operations=[LOOKUP]))
    assert choose(world) == narrow
    assert choose(world, ["birth_date"]) == wide
    assert choose(world, ["address"]) == first
    assert choose(world, ["name"], QUERY) == wide


def test_chooses_the_newest_in_force_if_none_grants_all(world: World) -> None:
    newest = world.grant(world.apply_for(world.dataset, fields=["name"]))
    assert choose(world, ["household_id"]) == newest


def test_chooses_the_newest_that_ended_if_none_is_in_force(world: World) -> None:
    world.grant(world.apply_for(world.dataset))
    newest = world.agreement
    world.now += 2 * YEAR
    assert choose(world) == newest


def test_another_partys_agreement_is_none(world: World) -> None:
    with pytest.raises(UsageError, match="no agreement"):
        choose_agreement(world.directory, MARRIAGE, world.dataset, LOOKUP, ["name"], PURPOSE, world.now)


def test_no_hint_tells_a_person_to_do_what_was_done_already(world: World) -> None:
    """Commands sync before they look."""
    with pytest.raises(UsageError) as dataset:
        find_dataset(world.directory, "zzzzzz")
    with pytest.raises(UsageError) as agreement:
        choose_agreement(world.directory, MARRIAGE, world.dataset, LOOKUP, ["name"], PURPOSE, world.now)
    assert dataset.value.hint == "1 dataset is known here: `exchange dataset list` shows them"
    assert "exchange agreement apply" in agreement.value.hint
