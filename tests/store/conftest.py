"""The store contract touches no network: a database is reached through a file or a Unix socket."""

from collections.abc import Iterator

import pytest

from tests.databases import Server, server
from tests.fixtures import no_network

__all__ = ["no_network"]


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("postgres")) as running:
        yield running
