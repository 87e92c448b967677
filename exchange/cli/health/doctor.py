"""`exchange doctor`: what is wrong where this party lives, and the command that mends it."""

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.findings import show_findings
from exchange.health.checks import Check, OnlineCheck, examine
from exchange.health.files import disk
from exchange.health.party import of_party
from exchange.home import Home

app = new_command()


@app.command(epilog=example("exchange doctor --home ./operator/broker", "exchange doctor --json --home ./health"))
def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Look at keys, certificates, clocks, names, ports, brokers, directory, receipts and disk; change nothing.

    Each line is ok, warn or fail, with the command that mends it. Every check has a time limit of its own, and what
    needs no broker is looked at without one. Exit code 0 where nothing failed, 1 where something did, 3 where nothing
    did but something could not be checked.
    """
    place = Home(home)
    raise typer.Exit(show_findings(examine([*of_party(place), *_of_role(place)]), as_json=as_json))


def _of_role(home: Home) -> list[Check | OnlineCheck]:
    if home.role != "broker":
        return [disk(home)]
    from exchange.cli.health.broker import of_broker

    return of_broker(home)
