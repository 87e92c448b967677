"""`exchange-audit witness`: host a witness of an exchange's logs, or of others."""

import time
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.cli.frame.service_log import log_to_stderr
from exchange.witness.config import LISTEN, MEMORY, WitnessHome, new_config
from exchange.witness.memory import WitnessMemory

INSTALL = "pip install 'department-exchange[witness]'"

app = new_group("Host a witness, which cosigns what only grows.", "exchange-audit witness run")


@app.command(
    "new",
    epilog=example(
        "exchange-audit witness new witness.audit.city.example --trust ./trust.toml --home ./witness",
        "exchange-audit witness new witness.university.example --log 'city.example/access+…' --home ./witness",
    ),
)
def new(
    name: Annotated[str, typer.Argument(help="The witness's name: a URL without its scheme, one for each key.")],
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust", metavar="FILE", exists=True, dir_okay=False, help="Trust file of an exchange to witness."
        ),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", metavar="KEY", help="Verifier key of another log to witness.")
    ] = None,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where it listens.")] = LISTEN,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a witness: its key, settings and memory.

    It prints the verifier key that others trust it by. Without --trust the home's own trust file is taken. The key
    and the memory belong together, and to this machine: neither is ever restored from a backup without the other.
    """
    files = [path.absolute() for path in trust or ()]
    if not files and not log and (home / "trust.toml").exists():
        files = [Path("trust.toml")]
    if not files and not log:
        raise WrongUsageError("no log to witness", "name an exchange's trust file with --trust, or a log with --log")
    config = new_config(name, listen, files, "".join(f"log {key}\n" for key in log or ()))
    made = WitnessHome.create(home, config)
    WitnessMemory.create(home / MEMORY, lambda: int(time.time()))
    verifier, logs = str(made.cosigner(name).verifier), sorted(made.logs(config))
    if as_json:
        print_json({"name": name, "verifier_key": verifier, "listen": listen, "logs": logs})
        return
    print_pairs({"verifier key": verifier, "witnesses": logs, "listens on": listen})
    print_line()
    print_line("The line for the witness_policy of trust files, with a name and the address that brokers reach:")
    print_line(f"witness NAME {verifier} http://{listen}")


@app.command("run", epilog=example("exchange-audit witness run --home ./witness"))
def run(home: HomeOption = DEFAULT_HOME) -> None:
    """Cosign checkpoints until SIGTERM or Ctrl-C.

    It prints one line when it is ready, and logs to stderr: above all each checkpoint, signed by a log, that does not
    go on from the one before.
    """
    try:
        from exchange.witness.server import WitnessServerError, serve
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn"}:
            raise
        raise CommandError(f"{error.name} is not installed: a witness needs it", INSTALL, ExitCode.USAGE) from error
    place = WitnessHome(home)
    log_to_stderr()
    name = place.config().name
    try:
        serve(place, lambda url: print_line(f"witness {name} is ready on {url}"))
    except WitnessServerError as error:
        raise CommandError(str(error), "see listen in witness.toml", ExitCode.UNCHECKED) from error
