"""`exchange log declare-break`: the root declares that the access log lost its end, where nobody can give it back."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.backups.recovering import recovered, said_of
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line
from exchange.cli.frame.times import now
from exchange.core.entries import successor_entry
from exchange.core.envelope import Envelope, sign
from exchange.core.state import MAX_TEXT
from exchange.home import ROOT, Home, write_file
from exchange.v1.directory_pb2 import Successor

DECLARE_EXAMPLE = example(
    "exchange log declare-break --from ./audit-office --from ./housing --home ./operator \\",
    "    --reason 'the database disk of broker 1 failed on 3 May, the last backup is of 2 May'",
)


def declare_break(
    sources: Annotated[
        list[Path],
        typer.Option("--from", metavar="MIRROR", help="Of everybody who may have seen more; may be repeated."),
    ],
    reason: Annotated[str, typer.Option("--reason", help="What happened, for everybody: 1 to 2,000 characters.")],
    broker: Annotated[
        Path | None, typer.Option("--broker", metavar="DIR", help="The broker's home, by default HOME/broker.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Declare that the access log lost its end, and go on without it.

    First everything is put back that the mirrors give, as `exchange log recover` does. What somebody was shown beyond
    that is given up: the root signs which entries are lost, and why, as an entry of the directory, which every party
    reads. Parties and auditors accept the smaller log with this entry alone, and auditors print it ever after. It
    cannot be taken back, and is refused where a quorum of witnesses is needed: they cosign nothing smaller. Ask every
    auditor first: whoever has the lost entries can give them back instead. The directory itself is never given up:
    every party has it.
    """
    from exchange.broker.recovery import Declared

    require_role(home, ROOT, "only the root declares a break: name the operator's home")
    place, target = home / "broker" if broker is None else broker, Home(home)
    _check(target, Home(place), reason)
    signed: list[Envelope] = []

    def declare(lost: bytes, first: bytes, before: bytes) -> Envelope:
        said = Successor(lost_checkpoint=lost, first_checkpoint=first, reason=reason.strip())
        draft = successor_entry(target.party, said, before)
        signed.append(sign(target.signer(), target.trust.name, draft))
        return signed[-1]

    require_role(place, "broker", "the logs are in the folder broker that `exchange init` made")
    done = recovered(place, sources, Declared(declare, now()))
    access = next(item for item in done if item.log.value == "access")
    file = place / f"break-{access.lost}.declaration"
    write_file(file, signed[0].encode(), 0o644)
    if as_json:
        described = {"kept": access.after, "lost": [access.after, access.lost - 1], "declaration": str(file)}
        print_json(described)
        return
    for item in done:
        print_line(said_of(item))
    print_line(
        f"declared lost: entries {access.after} to {access.lost - 1} of the access log, in the directory and {file}"
    )
    print_line("Adapters whose answers are among them compare with `exchange-adapter reconcile`.")
    print_line(f"Next: exchange broker run --home {place}")


def _check(target: Home, broker: Home, reason: str) -> None:
    """What is known before anything is changed."""
    if not 1 <= len(reason.strip()) <= MAX_TEXT:
        raise WrongUsageError(
            f"--reason: {len(reason)} characters", f"say what happened in 1 to {MAX_TEXT:,} characters"
        )
    if target.trust.policy is not None and target.trust.policy.needs_witnesses:
        text = "witnesses have cosigned what would be given up, and cosign nothing smaller"
        raise CommandError(text, "the lost entries must come back with `exchange log recover`", ExitCode.FORK)
    if broker.trust.name != target.trust.name:
        raise CommandError(f"{broker.path} is of another exchange than {target.path}", "", ExitCode.UNTRUSTED)
