"""A steward cannot sign terms that the owner's adapter says it does not enforce."""

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.core.enforcement import TERMS
from tests.component.cli.test_exchange_barring import TERMS as FILE
from tests.component.cli.test_exchange_barring import newest, sign, write
from tests.component.cli.test_exchange_directory import apply, homes, waiting, world
from tests.world import POPULATION, REGISTRY, World

__all__ = ["homes", "waiting", "world"]


def say(homes: Path, enforced: Any = None, system: str = str(REGISTRY), code: str = "residents") -> Path:
    """What the registry's adapter prints, in the steward's home."""
    path = homes / POPULATION.segments[-1] / "capabilities" / "registry.json"
    path.parent.mkdir(exist_ok=True)
    terms = sorted(TERMS) if enforced is None else enforced
    path.write_text(json.dumps({"system": system, "datasets": {code: terms}}))
    return path


def entries(world: World) -> int:
    return world.directory.size


def test_terms_that_the_adapter_enforces_are_signed(world: World, homes: Path, waiting: Any) -> None:
    say(homes)
    assert sign(homes, waiting, "--terms", write(homes, FILE, "terms.toml")).exit_code == 0
    assert newest(world).masks


@pytest.mark.parametrize("lacking", ["mask.hash", "mask.first", "hours", "officers", "limits.per_day", "review_at"])
def test_a_term_that_the_adapter_does_not_enforce_is_not_published(
    world: World, homes: Path, waiting: Any, lacking: str
) -> None:
    say(homes, sorted(TERMS - {lacking}))
    before = entries(world)
    result = sign(homes, waiting, "--terms", write(homes, FILE, "terms.toml"))
    assert result.exit_code == 1
    assert f"{REGISTRY} cannot enforce {lacking} for residents" in result.stderr
    assert entries(world) == before
    # Without it nothing is in the way.
    assert sign(homes, waiting).exit_code == 0


def test_a_row_filter_is_a_term_too(world: World, homes: Path, waiting: Any) -> None:
    say(homes, sorted(TERMS - {"row_filter"}))
    result = sign(homes, waiting, "--where", "area_m2 > 50")
    assert result.exit_code == 1
    assert "row_filter" in result.stderr


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"system": "exchange://city.example/population/archive"}, "is answered by"),
        ({"code": "vehicles"}, "does not answer for residents"),
        ({"enforced": "all"}, "does not answer for residents"),
    ],
)
def test_what_another_adapter_says_proves_nothing(
    world: World, homes: Path, waiting: Any, said: dict[str, Any], complaint: str
) -> None:
    say(homes, **said)
    before = entries(world)
    result = sign(homes, waiting)
    assert result.exit_code == 1
    assert complaint in result.stderr
    assert "exchange-adapter capabilities --json" in result.stderr
    assert entries(world) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"system": 7', '{"datasets": {"residents": []}}'])
def test_a_file_that_cannot_be_read_is_not_passed_over(world: World, homes: Path, waiting: Any, text: str) -> None:
    say(homes).write_text(text)
    before = entries(world)
    result = sign(homes, waiting)
    assert result.exit_code == 3
    assert "does not say what an adapter can enforce" in result.stderr
    assert entries(world) == before


def test_a_mask_on_the_key_of_a_lookup_is_pointed_out(world: World, homes: Path) -> None:
    application = apply(homes, "--json", fields="id_number,name")
    waits = world.directory.terms.applications[bytes.fromhex(json.loads(application.stdout)["id"])]
    terms = write(homes, '[masks]\nid_number = "last 4"\n', "terms.toml")
    signed = sign(homes, waits, "--terms", terms)
    assert signed.exit_code == 0, signed.stderr
    assert "note: id_number is the key" in signed.stderr
    other = write(homes, '[masks]\nname = "first 1"\n', "terms.toml")
    on_another = sign(homes, waits, "--terms", other, "--supersedes", newest(world).digest.hex()[:12])
    assert on_another.exit_code == 0, on_another.stderr
    assert "note:" not in on_another.stderr
