"""The command `exchange-audit`: what an auditor does, with no program of the exchange's own."""

from typing import Annotated

import typer

from exchange.cli.frame.application import CommandGroup, LazyCommand, example

COMMANDS = (
    ("sync", "Mirror both logs, and verify that each only grew."),
    ("search", "Find accesses by who, what, why and when."),
    ("show", "Tell the story of one request, each proof checked."),
    ("export", "Write what fits to a file: JSONL, CSV, Parquet or OCSF."),
    ("incident", "Gather what happened, and keep it from being erased."),
    ("subject-request", "Find out who saw a person's data, from every owner."),
    ("verify", "Verify everything: the mirror, or a copied database."),
    ("prove", "Write an entry's proof as one file, a C2SP tlog-proof."),
    ("bundle", "Pack entries with all that proves them, for offline work."),
    ("sign", "Vouch for a report with the auditor's key."),
    ("tiles", "Write a log as a C2SP tlog-tiles tree."),
    ("witness", "Host a witness, which cosigns what only grows."),
)


class Audit(CommandGroup):
    """The commands, each loaded when it is called."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        for name, help in COMMANDS:
            self.add_command(LazyCommand(name, help, f"exchange.cli.audit.{name.replace('-', '_')}"))


app = typer.Typer(
    name="exchange-audit",
    cls=Audit,
    rich_markup_mode=None,
    add_completion=False,
    epilog=example("exchange-audit sync --home ./audit-office", "exchange-audit verify full --home ./audit-office"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"exchange-audit {version('department-exchange')}")
        raise typer.Exit


@app.callback()
def audit(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find every access, and verify every proof, by the trust file alone.

    Exit codes: 0 verified, 1 tampered or refused, 2 usage, 3 could not check, 4 rollback or fork, 5 untrusted key,
    6 stale.
    """


if __name__ == "__main__":
    app()
