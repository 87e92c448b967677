"""`exchange suspensions`: what is held up now."""

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_command
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.times import now
from exchange.cli.governing.suspending import suspensions as standing
from exchange.client.session import Session
from exchange.core.directory import Directory

app = new_command()


@app.command(epilog=example("exchange suspensions --home ./housing"))
def suspensions(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List what is suspended, by whom, until when and why; the newest first."""
    directory = act(home, _directory)
    found = standing(directory, now())
    if as_json:
        print_json([item.described(directory) for item in found])
    elif not found:
        print_line("Nothing is suspended.")
    else:
        print_table(("ID", "SUSPENDED", "BY", "UNTIL", "REASON"), [item.row(directory) for item in found])


async def _directory(session: Session) -> Directory:
    return session.directory
