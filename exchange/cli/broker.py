"""`exchange broker`: run a broker."""

import asyncio

from exchange.cli.application import DEFAULT_HOME, HomeOption, example, new_group
from exchange.cli.errors import CommandError, ExitCode
from exchange.cli.homes import require_role
from exchange.cli.output import print_line
from exchange.cli.service_log import log_to_stderr
from exchange.home import Home

app = new_group("Run a broker.", "exchange broker run --home ./operator/broker")


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
