"""`exchange-adapter recipients` and `notify`: who was told of a record that is wrong (Decree 809, article 26)."""

import asyncio
from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import ExitCode, say
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.times import iso
from exchange.core.names import Party
from exchange.home import Home

SubjectOption = Annotated[
    str, typer.Option("--subject", metavar="KEY", help="The person's key in the department's data.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to `exchange-adapter`."""
    app.command(
        "recipients",
        epilog=example(
            "exchange-adapter recipients --subject 339701199002031234 --home ./registry",
            "exchange-adapter recipients --subject 339701199002031234 --correction 5b0e77d1 --home ./registry",
        ),
    )(recipients)
    app.command(
        "notify", epilog=example("exchange-adapter notify 5b0e77d1 --subject 339701199002031234 --home ./registry")
    )(notify)


def recipients(
    subject: SubjectOption,
    correction: Annotated[
        str, typer.Option(metavar="ID", help="Only who was told a field that is wrong, and who knows by now.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find everybody who was told about a person: by the ledger, each answer compared with the access log.

    Exit code 1 where ledger and log do not agree about an answer.
    """
    from adapters.recipients import recipients as find

    found = asyncio.run(find(Home(home), subject, correction))
    if as_json:
        print_json([item.described() | {"time": iso(item.told.time)} for item in found])
    elif not found:
        say("nobody was told anything about this person")
    else:
        columns = ("ANSWERED", "REQUESTER", "OFFICER", "CASE", "DATASET", "FIELDS", "ENTRY", "NOTICE", "DOUBT")
        rows = [
            (
                iso(item.told.time),
                _short(Party.parse(item.told.requester)),
                item.told.officer,
                item.told.case_id,
                item.dataset,
                " ".join(item.told.fields),
                item.entry,
                "acknowledged" if item.acknowledged else "given" if item.notified else "none",
                item.doubt or None,
            )
            for item in found
        ]
        print_table(columns, rows)
    if any(item.doubt for item in found):
        raise typer.Exit(ExitCode.REFUSED)


def notify(
    correction: Annotated[str, typer.Argument(metavar="ID", help="Of the correction: at least 8 digits of it.")],
    subject: SubjectOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Tell every department that was given the record that it is corrected: each learns of its own requests alone.

    They see it when they next contact the exchange. Run again, it tells those who were told of the record meanwhile.
    """
    from adapters.recipients import notify as tell

    done = asyncio.run(tell(Home(home), correction, subject))
    if as_json:
        print_json(
            [{"recipient": str(item.recipient), "requests": item.requests, "index": item.index} for item in done]
        )
    elif not done:
        print_line("Everybody who was told of it is notified already.")
    else:
        print_table(("RECIPIENT", "REQUESTS", "ENTRY"), [(_short(i.recipient), i.requests, i.index) for i in done])
        print_line()
        print_line(f"Who has acknowledged: exchange correction show {correction} --home DIR")


def _short(party: Party) -> str:
    return "/".join(party.segments[1:])
