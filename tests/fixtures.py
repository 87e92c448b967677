"""Fixtures that several suites share."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import pytest_socket
from structlog.testing import capture_logs

from tests.databases import Server, server
from tests.world import World


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Turn Python's sockets off. Unix sockets stay: the event loop wakes itself through one.

    Extension modules (grpc, libpq) open theirs out of Python's sight, so this guard does not see them.
    """
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged, and printed nowhere: drawing tracebacks takes longer than most tests."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def world() -> World:
    return World.standard()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL that keeps what it commits, over a Unix socket; started where a test asks for it."""
    with server(tmp_path_factory.mktemp("postgres")) as running:
        yield running
