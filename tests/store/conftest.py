"""The store contract touches no network: a database is reached through a file or a Unix socket."""

from collections.abc import Iterator

import pytest
import pytest_socket


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Turn Python's sockets off. Unix sockets stay: the event loop wakes itself through one.

    Extension modules (grpc, libpq) open theirs out of Python's sight, so this guard does not see them.
    """
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()
