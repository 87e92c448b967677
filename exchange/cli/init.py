"""`exchange init`: found an exchange."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.errors import WrongUsageError
from exchange.cli.output import grouped, listed, print_json, print_line, print_pairs
from exchange.cli.times import now
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)
_EVERYWHERE = frozenset({"0.0.0.0", "[::]", "*"})  # noqa: S104 - refused

app = new_command()


@app.command(epilog=example("exchange init city.example --home ./operator --listen 127.0.0.1:7443"))
def init(
    name: Annotated[str, typer.Argument(help="The exchange's name, a domain: the origin of every signature.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the broker listens.")] = "127.0.0.1:7443",
    host: Annotated[
        list[str] | None, typer.Option(metavar="DNS", help="Another name of the broker's machine; may be repeated.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Found an exchange: its root key, two logs, TLS authority, trust file, and a broker's home."""
    from exchange.broker.genesis import found

    _check(name, listen)
    for item in host or []:
        _check_host(item)
    trust = found(home, name, listen, _hosts(listen, host or []), now())
    if as_json:
        print_json(_described(trust, home))
    else:
        _show(trust, home)


def _check(name: str, listen: str) -> None:
    try:
        Party(name)
    except CoreError as error:
        raise WrongUsageError(str(error), "small letters, digits and hyphens, joined by dots: city.example") from error
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise WrongUsageError(f"--listen: {listen} is not HOST:PORT", "for example --listen 127.0.0.1:7443")
    # The trust file names this address, and every party dials it.
    if host in _EVERYWHERE:
        raise WrongUsageError(
            f"--listen: nobody can dial {host}",
            "give the address that parties dial; broker.toml can make the broker listen on more",
        )


def _check_host(host: str) -> None:
    if not _HOST.fullmatch(host) and not _is_address(host):
        raise WrongUsageError(
            f"--host: {host!r} is not a name or address of a machine",
            "a certificate names each machine, without wildcards: --host broker.city.example",
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _hosts(listen: str, more: list[str]) -> tuple[str, ...]:
    """Names and addresses that the broker's certificate is good for: where it listens, and what the operator adds."""
    address = listen.rpartition(":")[0].strip("[]")
    loopback = ["localhost"] if address in {"127.0.0.1", "::1"} else []
    return tuple(dict.fromkeys([address, *loopback, *more]))


def _described(trust: Trust, home: Path) -> dict[str, object]:
    return {
        "name": trust.name,
        "home": str(home),
        "broker_home": str(home / "broker"),
        "trust_file": str(home / "trust.toml"),
        "root_fingerprint": key_id(trust.root_key),
        "brokers": list(trust.brokers),
    }


def _show(trust: Trust, home: Path) -> None:
    print_line(f"Founded the exchange {trust.name}.")
    print_line()
    print_pairs(
        {
            "operator's home": home,
            "broker's home": home / "broker",
            "broker listens": listed(trust.brokers),
            "trust file": home / "trust.toml",
            "root fingerprint": grouped(key_id(trust.root_key)),
        }
    )
    print_line()
    print_line("Every party needs the trust file, or the root fingerprint, from somebody it knows.")
    print_line(f"The root key, {home / 'keys' / 'signing.pem'}, belongs offline: keep it on a device that is locked")
    print_line("away, and bring it back to admit a department.")
    print_line()
    print_line(f"Next: exchange broker run --home {home / 'broker'}")
