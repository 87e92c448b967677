"""Component tests put a part together with its files, its threads and its event loop; no network."""

from tests.fixtures import no_network

__all__ = ["no_network"]
