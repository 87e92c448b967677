"""Component tests put a part together with its files, its threads and its event loop; no network."""

from collections.abc import Iterator

import pytest
import structlog

from tests.fixtures import no_network, postgres_server

__all__ = ["no_network", "postgres_server"]


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """A command that runs for long sends its log to stderr: here that is a file of this test's, closed when it ends."""
    yield
    structlog.reset_defaults()
