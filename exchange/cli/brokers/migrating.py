"""`exchange log migrate`: bring the database of a broker's logs to the version that this program needs."""

from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, say
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line

if TYPE_CHECKING:
    from exchange.store.migrating import Migration

MIGRATE_EXAMPLE = example(
    "exchange log migrate --dry-run --home ./operator/broker", "exchange log migrate --home ./operator/broker"
)


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL that would run, and change nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Bring the database of an earlier release to the version that this one needs.

    Stop every broker of the exchange first, and keep a backup: there is no way back but that. All of it is one
    transaction under a lock: whatever interrupts it, the database is the old one or the new one. Entries, nodes and
    heads are never rewritten.
    """
    from exchange.broker.config import load_config
    from exchange.store.migrating import migrate as run
    from exchange.store.ports import StoreError

    require_role(home, "broker", "the logs are in the folder broker that `exchange init` made")
    try:
        done = run(load_config(home).store_name(home), dry_run=dry_run)
    except StoreError as error:
        raise CommandError(f"{error}; nothing was changed", "", ExitCode.UNCHECKED) from error
    if as_json:
        print_json(_described(done, dry_run=dry_run))
    else:
        _print(done, dry_run=dry_run)


def _described(done: "Migration", *, dry_run: bool) -> dict[str, object]:
    steps = [{"version": step.version, "title": step.title, "sql": list(step.statements)} for step in done.steps]
    return {"database": done.where, "found": done.found, "dry_run": dry_run, "steps": steps}


def _print(done: "Migration", *, dry_run: bool) -> None:
    if not done.steps:
        print_line(f"{done.where} is of version {done.found}, which this release needs: nothing to do")
        return
    for step in done.steps:
        if dry_run:
            print_line(f"-- {step.title}")
            for statement in step.statements:
                print_line(f"{statement};")
                print_line()
    version = done.steps[-1].version
    if dry_run:
        say(f"nothing was changed: {done.where} is of version {done.found}, and would be of version {version}")
    else:
        print_line(f"{done.where} was of version {done.found}, and is of version {version} now")
