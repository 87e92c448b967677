from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.city import City

NewCity = Callable[..., AbstractContextManager[City]]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> City:
    """Made once, never started: every city is a copy of it."""
    return City.build(tmp_path_factory.mktemp("city") / "template")


@pytest.fixture(scope="session")
def new_city(template: City, tmp_path_factory: pytest.TempPathFactory) -> NewCity:
    """Cities of one's own: `with new_city(faulty=True, civil=True) as city`."""

    @contextmanager
    def new(*, faulty: bool = False, civil: bool = False) -> Iterator[City]:
        path: Path = tmp_path_factory.mktemp("city") / "city"
        with template.copy(path, faulty=faulty).running(civil=civil) as city:
            yield city

    return new


@pytest.fixture
def city(new_city: NewCity) -> Iterator[City]:
    """A city of this test's own, its broker and the registry's adapter running."""
    with new_city() as made:
        yield made
