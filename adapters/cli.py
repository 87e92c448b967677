"""The command `exchange-adapter`: what a department runs beside its database."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.application import DEFAULT_HOME, CommandGroup, HomeOption, JsonOption, example
from exchange.cli.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.output import print_json, print_line, print_table
from exchange.cli.service_log import log_to_stderr
from exchange.cli.times import iso, now
from exchange.core.names import Party
from exchange.home import Home

app = typer.Typer(
    name="exchange-adapter",
    cls=CommandGroup,
    rich_markup_mode=None,
    add_completion=False,
    help="Answer requests from a department's own database.",
    epilog=example("exchange-adapter check --home ./registry", "exchange-adapter run --home ./registry"),
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="adapter.toml; by default the one in the home.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


@app.command(epilog=example("exchange-adapter check --home ./registry"))
def check(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check keys, broker, ledger, and that every dataset fits its table. Changes nothing."""
    from adapters.checking import examine

    results = asyncio.run(examine(Home(home), _config_path(home, config)))
    if as_json:
        print_json([{"check": item.name, "ok": item.ok, "detail": item.detail} for item in results])
    else:
        print_table(
            ("", "check", "detail"), [("ok" if item.ok else "FAIL", item.name, item.detail) for item in results]
        )
    if not all(item.ok for item in results):
        raise typer.Exit(ExitCode.REFUSED)


@app.command(epilog=example("exchange-adapter run --home ./registry"))
def run(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None) -> None:
    """Answer requests until SIGTERM or Ctrl-C; what was delivered is finished.

    It prints one line whenever it is attached to a broker, and logs to stderr.
    """
    from adapters.config import ConfigError, load_config
    from adapters.host import run as run_host
    from adapters.ledger import LedgerError
    from adapters.orders import OrdersError

    log_to_stderr()
    place = Home(home)
    try:
        settings = load_config(_config_path(home, config))
        asyncio.run(run_host(place, settings, lambda broker: print_line(f"{place.party} is attached to {broker}")))
    except ConfigError as error:
        raise WrongUsageError(str(error)) from error
    except (LedgerError, OrdersError) as error:
        raise CommandError(str(error), "", ExitCode.UNCHECKED) from error


@app.command(epilog=example("exchange-adapter revoke 3f9c2a7be1d04c55 --reason 'data misused' --home ./registry"))
def revoke(
    agreement: Annotated[str, typer.Argument(help="The agreement's id, or the first 8 or more digits of it.")],
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End an agreement of this department: here at once, broker up or down, and in the directory as soon as can be."""
    from adapters.local import revoke_agreement

    revoked = asyncio.run(revoke_agreement(Home(home), agreement, reason, now()))
    if as_json:
        print_json({"agreement": revoked.agreement.hex(), "directory_index": revoked.index})
        return
    print_line(f"agreement {revoked.agreement.hex()[:16]} is revoked here, from this moment on")
    if revoked.index is not None:
        print_line(f"entered in the directory as entry {revoked.index}")
    else:
        say("the broker cannot be reached: the running adapter enters the revocation as soon as it can")


@app.command(epilog=example("exchange-adapter stop residents --reason 'maintenance' --home ./registry"))
def stop(
    dataset: Annotated[str, typer.Argument(help="The dataset's code.")],
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Stop answering from a dataset, at once and with everything else down; `resume` takes it back."""
    from adapters.local import orders_of

    with orders_of(Home(home)) as orders:
        orders.stop(dataset, reason, now())
    print_line(f"{dataset} is stopped: every request for it is refused until `exchange-adapter resume {dataset}`")


@app.command(epilog=example("exchange-adapter resume residents --home ./registry"))
def resume(
    dataset: Annotated[str, typer.Argument(help="The dataset's code.")], home: HomeOption = DEFAULT_HOME
) -> None:
    """Answer from a stopped dataset again."""
    from adapters.local import orders_of

    with orders_of(Home(home)) as orders:
        if dataset not in orders.stopped:
            raise WrongUsageError(f"{dataset} is not stopped", f"stopped now: {', '.join(orders.stopped) or 'none'}")
        orders.resume(dataset, now())
    print_line(f"{dataset} is answered again")


@app.command(epilog=example("exchange-adapter subject 339701199002031234 --home ./registry"))
def subject(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The person's key in the department's data.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Who was told what about this person: every answer in the ledger, each with its entry in the access log."""
    from adapters.local import told

    rows = told(Home(home), identity)
    if as_json:
        print_json(rows)
        return
    columns = ("answered", "requester", "officer", "purpose", "case", "fields", "found", "log entry")
    print_table(
        columns,
        [
            (
                iso(int(str(row["time"]))),
                _short(str(row["requester"])),
                row["officer"],
                row["purpose"],
                row["case_id"],
                " ".join(row["fields"]) if isinstance(row["fields"], list) else "",
                "yes" if row["told"] else "no",
                row["log_entry"],
            )
            for row in rows
        ],
    )


def _short(name: str) -> str:
    """A party without the exchange's name, which is the same in every row."""
    return "/".join(Party.parse(name).segments[1:])


def _config_path(home: Path, config: Path | None) -> Path:
    return config if config is not None else home / "adapter.toml"
