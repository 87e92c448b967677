"""Component tests put a part together with its files, its threads and its event loop; no network."""

from tests.fixtures import no_network, postgres_server

__all__ = ["no_network", "postgres_server"]
