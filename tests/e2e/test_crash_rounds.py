"""kill -9 at random moments under load, as `make crash` does it; and that its check sees what it is there to see."""

import asyncio
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.anchor import AnchorError
from adapters.ledger import LedgerError
from tests.e2e.city import City
from tests.e2e.crash import LEAST, ROUNDS, Outcome, Round, check_story, crash, summary
from tests.e2e.crash_cities import crash_city, shared_crash_city
from tests.e2e.founding import BROKER, REGISTRY

SEED = 20261126
# Half of the rounds for each kind of city.
HALF = ROUNDS // 2
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True)
class Crashed:
    """A city after its crashes, all ended, and what came of them."""

    path: Path
    address: str
    outcome: Outcome


@pytest.fixture(scope="module")
def crashed(template: City, tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    path = tmp_path_factory.mktemp("crashes") / "city"
    with crash_city(template, path) as (city, database):
        print(f"seed {SEED}")
        outcome = asyncio.run(crash(city, database, HALF, SEED, print))
    return Crashed(path, city.address, outcome)


@pytest.fixture
def city(crashed: Crashed, tmp_path: Path) -> City:
    return City(Path(shutil.copytree(crashed.path, tmp_path / "city")), crashed.address)


@pytest.fixture
def held(crashed: Crashed) -> Mapping[bytes, tuple[int, bytes]]:
    return crashed.outcome.held


def check_rounds(rounds: Sequence[Round]) -> None:
    assert len(rounds) == HALF
    assert all(done.answers >= LEAST for done in rounds)
    assert len({done.point for done in rounds}) >= HALF // 2
    assert f"{HALF} rounds" in summary(rounds)


def test_no_kill_loses_an_answer_or_gives_it_twice(crashed: Crashed) -> None:
    check_rounds(crashed.outcome.rounds)


def test_no_kill_among_two_brokers_and_their_postgresql_does_either(tmp_path: Path) -> None:
    with shared_crash_city(tmp_path / "city") as (city, database):
        outcome = asyncio.run(crash(city, database, HALF, SEED, print))
    check_rounds(outcome.rounds)


def test_the_check_passes_an_untouched_city(city: City, held: Mapping[bytes, tuple[int, bytes]]) -> None:
    check_story(city, held)


TAMPERING = {
    "an entry is gone": (BROKER, "DELETE FROM entries WHERE log = 'access' AND idx = 7"),
    "an index is skipped": (BROKER, "UPDATE entries SET idx = 1000000 WHERE log = 'access' AND idx = 7"),
    "a leaf is another": (
        BROKER,
        "UPDATE entries SET leaf = zeroblob(length(leaf)) WHERE log = 'access' AND idx = 7",
    ),
    "an answer of the ledger is gone": (
        REGISTRY,
        "DELETE FROM answers WHERE number = (SELECT max(number) FROM answers)",
    ),
    "a settlement names another entry": (REGISTRY, "UPDATE settlements SET log_index = log_index + 1000000"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_the_check_finds_what_was_lost(city: City, held: Mapping[bytes, tuple[int, bytes]], what: str) -> None:
    home, statement = TAMPERING[what]
    file = city.path / home / ("exchange.db" if home == BROKER else "ledger.db")
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute(statement).rowcount > 0
    with pytest.raises((AssertionError, IndexError, LedgerError, AnchorError)):
        check_story(city, held)


def test_the_check_finds_an_answer_without_its_entry(city: City, held: Mapping[bytes, tuple[int, bytes]]) -> None:
    digest, (index, response) = next(iter(held.items()))
    for wrong in ((index, bytes(32)), (index + 1, response)):
        with pytest.raises(AssertionError, match="without its entry"):
            check_story(city, {**held, digest: wrong})
