"""The command `exchange`: what operators, stewards and requesters do."""

from typing import Annotated

import typer

from exchange.cli.frame.application import CommandGroup, LazyCommand, example

COMMANDS = (
    ("init", "Found an exchange: root key, logs, TLS authority, trust file."),
    ("broker", "Run a broker."),
    ("backup", "Take, verify and restore backups of a home."),
    ("log", "Check a broker's logs (operator); erase bodies that need not be kept (coordinator, owners)."),
    ("key", "Make a party's keys, install what its parent gives back; rotate, revoke and recover keys."),
    ("certificates", "List the keys and certificates that end soon."),
    ("join", "Join an exchange by invite: make the keys, and wait to be approved."),
    ("department", "Invite and admit departments, coordinators and auditors (operator)."),
    ("system", "Invite and add systems of a department (its steward)."),
    ("head", "Admit the head of a department's sharing office (its steward)."),
    ("steward", "Admit a department's stewards, hand over, and remove them (with the department's own key)."),
    ("officer", "Register and remove the officers who may ask for a department (its steward)."),
    ("mandate", "Give auditors mandates to read accesses (coordinator), and list them."),
    ("rules", "Say what procedures ask for, and by whose clocks (coordinator)."),
    ("purpose", "Register purposes (coordinator), and list them."),
    ("dataset", "Describe and publish datasets, and find them."),
    ("agreement", "Apply for a dataset, answer, sign or revoke agreements; what is due."),
    ("guardrail", "Forbid what no agreement may allow (coordinator), and list it."),
    ("suspend", "Suspend an agreement, a dataset, a party or an officer."),
    ("resume", "Lift a suspension."),
    ("suspensions", "List what is suspended now."),
    ("clocks", "Show the time limits of a jurisdiction, and when something is due."),
    ("report", "Report on timeliness, quality and use."),
    ("request", "Ask for records, and verify the answer."),
    ("use", "The ledger of what was told: what it was used for, when it was destroyed, what is due."),
    ("correction", "File that a record is wrong, answer, and see who was told of it."),
    ("status", "Show who this is, and what can be verified now."),
    ("doctor", "Find what is wrong here, and the command that mends it."),
)

PACKAGES = {
    "agreements": ("agreement",),
    "backups": ("backup",),
    "brokers": ("init", "broker", "log"),
    "datasets": ("dataset",),
    "governing": ("purpose", "rules", "guardrail", "suspend", "resume", "suspensions", "clocks", "report"),
    "health": ("status", "doctor"),
    "joining": ("join", "department", "system"),
    "keys": ("key", "certificates"),
    "people": ("head", "steward", "officer", "mandate"),
    "using": ("request", "use", "correction"),
}
"""Where the commands are, below `exchange.cli`: each in a module of its name."""


class Exchange(CommandGroup):
    """The commands, each loaded when it is called."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        packages = {name: package for package, names in PACKAGES.items() for name in names}
        for name, help in COMMANDS:
            self.add_command(LazyCommand(name, help, f"exchange.cli.{packages[name]}.{name}"))


app = typer.Typer(
    name="exchange",
    cls=Exchange,
    rich_markup_mode=None,
    add_completion=False,
    epilog=example("exchange init city.example --home ./operator", "exchange broker run --home ./operator/broker"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"exchange {version('department-exchange')}")
        raise typer.Exit


@app.callback()
def exchange(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ask another department for exactly the records you may have, and leave proof of every access."""


if __name__ == "__main__":
    app()
