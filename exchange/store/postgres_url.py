"""Where a PostgreSQL log store is: its URL, which is libpq's, and whether a server there keeps what it commits."""

import os
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from exchange.store.ports import StoreOpenError

SCHEMES: Final = ("postgresql://", "postgres://")

# What libpq waits for by default is for ever: a server's machine may be switched off in the middle of a call.
_DEFAULTS: Final = {
    "application_name": "exchange-broker",
    "client_encoding": "utf8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Of several hosts, the one that takes writes.
    "target_session_attrs": "read-write",
}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_LOSES: Final = {
    "fsync": frozenset({"off"}),
    "full_page_writes": frozenset({"off"}),
    "synchronous_commit": frozenset({"off", "local"}),
}


def parameters(url: str) -> dict[str, Any]:
    """The connection parameters of a URL, with ours where it says nothing.

    The password may be left to the environment (PGPASSWORD) or a password file (PGPASSFILE, ~/.pgpass, passfile=).
    To another machine the connection is encrypted and its certificate checked, unless sslmode says otherwise.

    Raises:
        StoreOpenError: it cannot be read; the text does not repeat it.
    """
    try:
        if not url.startswith(SCHEMES):
            raise psycopg.ProgrammingError
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # Not chained: the driver repeats parts of what it could not read, and that may be a password.
        raise StoreOpenError("the database's URL is not of the form postgresql://USER@HOST/DATABASE") from None
    known = _DEFAULTS | {name: value for name, value in given.items() if value is not None}
    if not _is_local(known) and "PGSSLMODE" not in os.environ:
        known.setdefault("sslmode", "verify-full")
    return known


def has_password(url: str) -> bool:
    """Whether a URL holds a password.

    Raises:
        StoreOpenError: as `parameters`.
    """
    return "password" in parameters(url)


def place(known: dict[str, Any]) -> str:
    """A database's name for people, from its parameters, without user and password."""
    host = known.get("host") or known.get("hostaddr") or os.environ.get("PGHOST", "the default host")
    name = known.get("dbname") or os.environ.get("PGDATABASE", "the user's own")
    return f"the PostgreSQL database {name} at {host}"


def check_settings(session: psycopg.Connection) -> None:
    """Refuse a server that may lose what it has committed, or takes no writes.

    Raises:
        StoreOpenError: the text names the setting.
    """
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    rows = session.execute(query, [[*_LOSES, "transaction_read_only"]]).fetchall()
    found = {str(name): str(setting) for name, setting in rows}
    for name, values in _LOSES.items():
        if found.get(name, "off") in values:
            raise StoreOpenError(f"the server has {name} = {found.get(name)}: it may lose what it has committed")
    if found.get("transaction_read_only") != "off":
        raise StoreOpenError("the database is read-only: a standby?")


def _is_local(known: dict[str, Any]) -> bool:
    host = str(known.get("host") or known.get("hostaddr") or os.environ.get("PGHOST", ""))
    return not host or host.startswith("/") or host in _LOOPBACK
