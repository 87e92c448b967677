"""Unit tests call functions: no socket (so no event loop either), and no file of their own."""

from collections.abc import Iterator

import pytest
import pytest_socket


@pytest.fixture(autouse=True)
def no_socket() -> Iterator[None]:
    """Turn every socket off, Unix ones too: what needs an event loop is a component test."""
    pytest_socket.disable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture
def tmp_path() -> None:
    """A test that needs a folder is a component test."""
    pytest.fail("a unit test touches no file: move it to tests/component")
