"""`exchange init`: found an exchange."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.brokers.addresses import certificate_hosts, check_database, check_listen, following
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.output import grouped, listed, print_json, print_line, print_pairs
from exchange.cli.frame.times import now
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.core.trust import Trust

app = new_command()


@app.command(
    epilog=example(
        "exchange init city.example --home ./operator --listen 127.0.0.1:7443",
        "exchange init city.example --home ./operator --listen b1.city.example:7443 \\",
        "    --database postgresql://exchange@db.city.example/exchange",
    )
)
def init(
    name: Annotated[str, typer.Argument(help="The exchange's name, a domain: the origin of every signature.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the broker listens.")] = "127.0.0.1:7443",
    host: Annotated[
        list[str] | None, typer.Option(metavar="DNS", help="Another name of the broker's machine; may be repeated.")
    ] = None,
    join_listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where it takes invites.", show_default="the next port"),
    ] = "",
    database: Annotated[
        str, typer.Option(metavar="FILE|URL", help="A file in the broker's home, or an empty PostgreSQL database.")
    ] = "exchange.db",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Found an exchange: its root key, two logs, TLS authority, trust file, and a broker's home."""
    from exchange.broker.genesis import found

    _check_name(name)
    check_listen(listen)
    check_database(database)
    joining = join_listen or following(listen)
    check_listen(joining, "--join-listen")
    hosts = certificate_hosts(listen, [joining.rpartition(":")[0].strip("[]"), *(host or [])])
    trust = found(home, name, listen, hosts, now(), database, joining)
    if as_json:
        print_json(_described(trust, home, joining))
    else:
        _show(trust, home, joining)


def _check_name(name: str) -> None:
    try:
        Party(name)
    except CoreError as error:
        raise WrongUsageError(str(error), "small letters, digits and hyphens, joined by dots: city.example") from error


def _described(trust: Trust, home: Path, joining: str) -> dict[str, object]:
    return {
        "name": trust.name,
        "home": str(home),
        "broker_home": str(home / "broker"),
        "trust_file": str(home / "trust.toml"),
        "root_fingerprint": key_id(trust.root_key),
        "brokers": list(trust.brokers),
        "join_listen": joining,
    }


def _show(trust: Trust, home: Path, joining: str) -> None:
    print_line(f"Founded the exchange {trust.name}.")
    print_line()
    print_pairs(
        {
            "operator's home": home,
            "broker's home": home / "broker",
            "broker listens": listed(trust.brokers),
            "takes invites on": joining,
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
