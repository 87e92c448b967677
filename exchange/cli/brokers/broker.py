"""`exchange broker`: run a broker, or make one more."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.brokers.addresses import certificate_hosts, check_listen
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import grouped, listed, print_json, print_line, print_pairs
from exchange.cli.frame.service_log import log_to_stderr
from exchange.cli.frame.times import now
from exchange.core.errors import CoreError
from exchange.core.keys import key_id
from exchange.core.names import Party
from exchange.home import Home

if TYPE_CHECKING:
    from exchange.broker.adding import Joined

app = new_group("Run a broker, or make one more.", "exchange broker run --home ./operator/broker")


@app.command("run", epilog=example("exchange broker run --home ./operator/broker"))
def run(home: HomeOption = DEFAULT_HOME) -> None:
    """Run a broker until SIGTERM or Ctrl-C; it finishes what is in flight.

    It prints one line when it is ready, and logs to stderr.
    """
    from exchange.broker.anchor import AnchorError
    from exchange.broker.app import BrokerError, serve
    from exchange.store.ports import StoreError

    place = Home(home)
    require_role(home, "broker", "a broker runs in the folder broker that `exchange init` made")
    log_to_stderr()
    try:
        asyncio.run(serve(place, lambda address: print_line(f"{place.party} is ready on {address}")))
    except AnchorError as error:
        raise CommandError(str(error), getattr(error, "hint", ""), ExitCode.FORK) from error
    except (BrokerError, StoreError) as error:
        raise CommandError(str(error), "", ExitCode.UNCHECKED) from error


@app.command(
    "add",
    epilog=example("exchange broker add broker-2 --listen b2.city.example:7443 --home ./operator"),
)
def add(
    name: Annotated[str, typer.Argument(help="The last part of its name: broker-2.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")],
    host: Annotated[
        list[str] | None, typer.Option(metavar="DNS", help="Another name of its machine; may be repeated.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="A broker's home [default: HOME/broker].")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make one more broker over the same PostgreSQL database (operator).

    Its home is made in the operator's, like the first one's: with the logs' keys and the TLS authority, and keys of
    its own that the root signs. No broker has to run, and those that run need no restart.
    """
    from exchange.broker.adding import join
    from exchange.broker.anchor import AnchorError

    require_role(home, "root", "only the operator makes brokers")
    first = source or home / "broker"
    require_role(first, "broker", "--from is the home of a broker that there is already")
    check_listen(listen)
    _check_name(Home(home).party, name)
    try:
        joined = join(Home(home), Home(first), name, listen, certificate_hosts(listen, host or []), now())
    except AnchorError as error:
        raise CommandError(str(error), error.hint, ExitCode.FORK) from error
    _print_joined(joined, as_json)


def _print_joined(joined: "Joined", as_json: bool) -> None:
    party, path = joined.home.party, joined.home.path
    fingerprint = key_id(joined.home.signer().public_key)
    if as_json:
        print_json(
            {
                "party": str(party),
                "home": str(path),
                "index": joined.index,
                "fingerprint": fingerprint,
                "brokers": list(joined.trust.brokers),
            }
        )
        return
    print_line(f"Added {party}.")
    print_line()
    print_pairs(
        {
            "its home": path,
            "entry": f"{joined.index} of {joined.trust.name}/directory",
            "fingerprint": grouped(fingerprint),
            "brokers now": listed(joined.trust.brokers),
        }
    )
    print_line()
    print_line(f"Its home holds the logs' keys: carry {path} to its machine as safely as the first one's.")
    print_line("Every party puts the brokers' addresses into its trust file: clients go on with the next one when one")
    print_line("stops, and adapters attach to all of them. Parties that are admitted from now on have them.")
    print_line()
    print_line(f"Next: exchange broker run --home {path}")


def _check_name(exchange: Party, name: str) -> None:
    try:
        Party(exchange.domain, name)
    except CoreError as error:
        raise WrongUsageError(str(error), "small letters, digits and hyphens: broker-2") from error
