"""`exchange-adapter ledger`: what to do when a ledger has lost answers for good."""

import asyncio

import typer

from adapters.lost_answers import declare_lost
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.output import print_json, print_line
from exchange.home import Home

app = new_group(
    "Go on after answers were lost for good.",
    "exchange-adapter ledger recover --reason 'the disk of 3 May failed' --home ./registry",
)

_Reason = typer.Option("--reason", help="What happened, for the record: 1 to 2,000 characters.")


@app.command(
    "recover", epilog=example("exchange-adapter ledger recover --reason 'the disk of 3 May failed' --home ./registry")
)
def recover(reason: str = _Reason, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Declare the answers that the ledger has lost, and go on after them.

    The access log says which numbers were given; the declaration is signed, bound into the ledger's chain, and shown by
    `reconcile` from then on. What was asked, and about whom, is gone: `subject` cannot tell of these answers. The
    adapter must be stopped, and a broker reached. Wait ten minutes after the loss: by then everything that was under
    way has its entry. A ledger that is lost altogether is begun anew the same way. What agreements allow in a minute, a
    day and in all is counted from the log for the answers that are lost.
    """
    declared = asyncio.run(declare_lost(Home(home), reason))
    lost = declared.last - declared.first + 1 if declared.last else 0
    if as_json:
        print_json(
            {
                "kept": declared.kept,
                "first_lost": declared.first if lost else None,
                "last_lost": declared.last if lost else None,
                "entries": declared.entries,
                "counted": declared.counted,
                "not_counted": declared.uncounted,
            }
        )
        return
    if not lost:
        print_line(f"nothing is lost: the ledger has all {declared.kept} answers that the log knows")
    else:
        print_line(f"declared lost: answers {declared.first} to {declared.last}; entries of them: {declared.entries}")
        print_line(f"limits of agreements count {declared.counted} of them, by their entries in the access log")
        if declared.uncounted:
            print_line(f"WARNING: {declared.uncounted} of them count against no limit: the log does not say what for,")
            print_line("as they have no entry, or its body was erased")
        print_line(f"the ledger goes on with answer {declared.last + 1}")
    print_line(f"Next: exchange-adapter reconcile --home {home}")
