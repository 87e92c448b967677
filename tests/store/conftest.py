"""The store contract touches no network: a database is reached through a file or a Unix socket."""

from tests.fixtures import no_network, postgres_server

__all__ = ["no_network", "postgres_server"]
