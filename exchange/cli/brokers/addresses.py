"""Where a broker listens, and where its database is, as an operator types them."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from exchange.cli.frame.errors import WrongUsageError

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)
_EVERYWHERE = frozenset({"0.0.0.0", "[::]", "*"})  # noqa: S104 - refused


def check_listen(listen: str, option: str = "--listen") -> None:
    """Refuse what is not HOST:PORT, or what nobody can dial.

    Raises:
        WrongUsageError: it is.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise WrongUsageError(f"{option}: {listen} is not HOST:PORT", f"for example {option} 127.0.0.1:7443")
    # The trust file names this address, and every party dials it.
    if host in _EVERYWHERE:
        raise WrongUsageError(
            f"{option}: nobody can dial {host}",
            "give the address that parties dial; broker.toml can make the broker listen on more",
        )


def following(listen: str) -> str:
    """The address one port further; the one before where there is none."""
    host, _, port = listen.rpartition(":")
    number = int(port)
    return f"{host}:{number + 1 if number < 65535 else number - 1}"


def check_database(database: str) -> None:
    """Refuse a URL with a password: what is typed can be seen by every user of the machine, and stays in a history.

    Raises:
        WrongUsageError: it has one, or is of another kind of database.
    """
    if "://" not in database:
        return
    try:
        parts = urlsplit(database)
        has_password = parts.password is not None or "password=" in parts.query
    except ValueError:
        # The text is not repeated: what cannot be read may hold one too.
        raise WrongUsageError("--database: this is not a URL", _FORM) from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise WrongUsageError("--database: a file, or a PostgreSQL database, is expected", _FORM)
    if has_password:
        raise WrongUsageError(
            "--database: a password does not belong on a command line",
            "keep it in ~/.pgpass, in the file that PGPASSFILE names, or in PGPASSWORD",
        )


_FORM = "for example --database postgresql://exchange@db.city.example/exchange"


def certificate_hosts(listen: str, more: Sequence[str]) -> tuple[str, ...]:
    """Names and addresses that a broker's certificate is good for: where it listens, and what the operator adds.

    Raises:
        WrongUsageError: one is no name or address of a machine.
    """
    for host in more:
        if not _HOST.fullmatch(host) and not _is_address(host):
            raise WrongUsageError(
                f"--host: {host!r} is not a name or address of a machine",
                "a certificate names each machine, without wildcards: --host broker.city.example",
            )
    address = listen.rpartition(":")[0].strip("[]")
    loopback = ["localhost"] if address in {"127.0.0.1", "::1"} else []
    return tuple(dict.fromkeys([address, *loopback, *more]))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
