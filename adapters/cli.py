"""The command `exchange-adapter`: what a department runs beside its database."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from adapters import recipient_commands
from exchange.cli.frame.application import DEFAULT_HOME, CommandGroup, HomeOption, JsonOption, LazyCommand, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError, say
from exchange.cli.frame.output import clean, print_json, print_line, print_table
from exchange.cli.frame.service_log import log_to_stderr
from exchange.cli.frame.times import iso, now
from exchange.core.names import Party
from exchange.home import Home

_GROUPS = (
    ("backup", "Take, verify and restore backups of an adapter's home.", "adapters.backups"),
    ("ledger", "Go on after answers were lost for good.", "adapters.ledger_commands"),
)


class _Adapter(CommandGroup):
    """The commands, and groups that are loaded when they are called."""

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]
        for name, help, module in _GROUPS:
            self.add_command(LazyCommand(name, help, module))


app = typer.Typer(
    name="exchange-adapter",
    cls=_Adapter,
    rich_markup_mode=None,
    add_completion=False,
    epilog=example("exchange-adapter check --home ./registry", "exchange-adapter run --home ./registry"),
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="adapter.toml; by default the one in the home.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record: 1 to 2,000 characters.")]
DatasetArgument = Annotated[str, typer.Argument(help="The dataset, as CODE or DEPARTMENT/CODE.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"exchange-adapter {version('department-exchange')}")
        raise typer.Exit


@app.callback()
def adapter(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Answer requests from a department's own database."""


@app.command(epilog=example("exchange-adapter check --home ./registry"))
def check(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check keys, ledger, orders, broker, and that every dataset fits its table. Changes nothing.

    Exit codes, the gravest first: 4 rollback or fork, also of ledger and orders, 5 untrusted key, 1 something is
    wrong, 2 wrong configuration, 6 stale, 3 no broker could be asked.
    """
    from adapters.checking import examine, gravest

    results = asyncio.run(examine(Home(home), _config_path(home, config)))
    if as_json:
        print_json([{"check": item.name, "ok": item.ok, "detail": item.detail, "hint": item.hint} for item in results])
    else:
        print_table(
            ("", "check", "detail"), [("ok" if item.ok else "FAIL", item.name, item.detail) for item in results]
        )
        for item in results:
            if item.hint:
                say(clean(f"hint: {item.name}: {item.hint}"))
    if failure := gravest(results):
        raise typer.Exit(failure)


@app.command(epilog=example("exchange-adapter doctor --home ./registry"))
def doctor(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at keys, certificates, clocks, brokers, databases, ledger, receipts and disk; change nothing.

    Each line is ok, warn or fail, with the command that mends it. Every check has a time limit of its own, and what
    needs no broker is looked at without one. Exit code 0 where nothing failed, 1 where something did, 3 where nothing
    did but something could not be checked.
    """
    from adapters.doctor import of_adapter
    from exchange.cli.frame.findings import show_findings
    from exchange.health.checks import examine

    findings = examine(of_adapter(Home(home), _config_path(home, config)))
    raise typer.Exit(show_findings(findings, as_json=as_json))


@app.command(
    epilog=example("exchange-adapter capabilities --json --home ./registry > ./department/capabilities/registry.json")
)
def capabilities(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say which terms of agreements this adapter enforces, dataset by dataset.

    With the JSON as capabilities/SYSTEM.json in the department's home, `exchange agreement sign` refuses all others.
    """
    from adapters.config import ConfigError, load_config
    from adapters.sources import Sources

    place, path = Home(home), _config_path(home, config)
    try:
        settings = load_config(path)
    except ConfigError as error:
        raise WrongUsageError(str(error)) from error
    sources = Sources(settings)
    enforced = {code: sorted(sources.enforces(code)) for code in sorted(settings.datasets)}
    if as_json:
        print_json({"system": str(place.party), "datasets": enforced})
    else:
        print_table(("dataset", "enforced"), [(code, ", ".join(terms)) for code, terms in enforced.items()])


@app.command(epilog=example("exchange-adapter run --home ./registry"))
def run(home: HomeOption = DEFAULT_HOME, config: ConfigOption = None) -> None:
    """Answer requests until SIGTERM or Ctrl-C; what was delivered is finished.

    It prints one line whenever it is attached to a broker, and logs to stderr.
    """
    from adapters.checking import NO_DATASET
    from adapters.config import ConfigError, load_config
    from adapters.host import run as run_host
    from adapters.ledger import LedgerError
    from adapters.orders import OrdersError
    from exchange.metrics.serving import ListenError

    log_to_stderr()
    place, path = Home(home), _config_path(home, config)
    try:
        settings = load_config(path)
        if not settings.datasets:
            raise WrongUsageError(f"{path}: no dataset, so nothing could be answered", NO_DATASET)
        asyncio.run(run_host(place, settings, lambda broker: print_line(f"{place.party} is attached to {broker}")))
    except ConfigError as error:
        raise WrongUsageError(str(error)) from error
    except (LedgerError, OrdersError) as error:
        raise CommandError(str(error), "", ExitCode.UNCHECKED) from error
    except ListenError as error:
        raise CommandError(str(error), f"see metrics in {path}", ExitCode.UNCHECKED) from error


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
    dataset: DatasetArgument, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, config: ConfigOption = None
) -> None:
    """Stop answering from a dataset, at once and with everything else down; `resume` takes it back.

    Exit code 2 where this home's adapter does not answer for the dataset: nothing was stopped then. 3 where the order
    is in force here, but whether that is enough could not be told.
    """
    from adapters.local import stop_dataset

    stopped = asyncio.run(stop_dataset(Home(home), _config_path(home, config), dataset, reason, now()))
    if stopped.doubt:
        print_line(f"the order to stop {stopped.code} is in force at this home")
        raise CommandError(stopped.doubt, "", ExitCode.UNCHECKED)
    code = stopped.code
    print_line(f"{code} is stopped: every request for it is refused until `exchange-adapter resume {code}`")


@app.command(epilog=example("exchange-adapter resume residents --home ./registry"))
def resume(dataset: DatasetArgument, home: HomeOption = DEFAULT_HOME, config: ConfigOption = None) -> None:
    """Answer from a stopped dataset again."""
    from adapters.local import resume_dataset

    print_line(f"{resume_dataset(Home(home), _config_path(home, config), dataset, now())} is answered again")


@app.command(epilog=example("exchange-adapter subject 339701199002031234 --home ./registry"))
def subject(
    identity: Annotated[str, typer.Argument(metavar="ID", help="The person's key in the department's data.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Who was told what about this person: every answer in the ledger, each with its entry in the access log."""
    from adapters.local import told

    rows = [row | {"time": iso(int(str(row["time"])))} for row in asyncio.run(told(Home(home), identity))]
    if not rows:
        say("nobody was told anything about this person")
    if as_json:
        print_json(rows)
    if as_json or not rows:
        return
    columns = ("answered", "requester", "officer", "purpose", "case", "dataset", "fields", "found", "log entry")
    print_table(
        columns,
        [
            (
                row["time"],
                _short(str(row["requester"])),
                row["officer"],
                row["purpose"],
                row["case_id"],
                row["dataset"],
                " ".join(row["fields"]) if isinstance(row["fields"], list) else "",
                "yes" if row["told"] else "no",
                row["log_entry"],
            )
            for row in rows
        ],
    )


@app.command(epilog=example("exchange-adapter reconcile --home ./registry"))
def reconcile(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Compare the ledger with the access log: every answer has its entry, every entry its answer, no number is missing.

    The adapter may be running. Every entry is proven, by the receipt in the ledger or by the log. Exit code 1 where
    the two do not agree.
    """
    from adapters.reconciling import described, summary
    from adapters.reconciling import reconcile as compare

    found = asyncio.run(compare(Home(home)))
    if as_json:
        print_json(described(found))
    else:
        if found.differences:
            rows = [(item.problem, item.number, item.entry, item.detail) for item in found.differences]
            print_table(("what", "answer", "entry", "detail"), rows)
        for line in summary(found):
            print_line(line)
    if found.differences:
        raise typer.Exit(ExitCode.REFUSED)


@app.command(
    "subject-answer",
    epilog=example("exchange-adapter subject-answer ./request.subject --output ./registry.answer --home ./registry"),
)
def subject_answer(
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="The file of `exchange-audit subject-request new`.")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the answer goes.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Answer an office that asks who saw a person's data: this ledger's rows about them, sealed to the office.

    Read who asks and why before you hand the file over; only that office can open it, with `exchange-audit
    subject-request merge`. Exit code 1 where nobody who may ask has signed the request.
    """
    from adapters.subject_answering import answer_subject, read_request_file
    from exchange.home import write_file

    if output.exists():
        raise WrongUsageError(f"{output} is there already", "name another file")
    asked, answer, rows = asyncio.run(answer_subject(Home(home), read_request_file(request)))
    write_file(output, answer.encode(), 0o600)
    if as_json:
        print_json({"asked_by": asked.asked_by, "reason": asked.reason, "rows": rows, "file": str(output)})
        return
    print_line(clean(f"asked by {_short(asked.asked_by)}: {asked.reason}"))
    count = "1 answer" if rows == 1 else f"{rows} answers"
    print_line(f"{output}: {count} of this ledger, sealed to {_short(asked.asked_by)}")


recipient_commands.register(app)


def _short(name: str) -> str:
    """A party without the exchange's name, which is the same in every row."""
    return "/".join(Party.parse(name).segments[1:])


def _config_path(home: Path, config: Path | None) -> Path:
    return config if config is not None else home / "adapter.toml"
