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
from exchange.core.trust import Trust
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
    new_witnesses: Annotated[
        bool, typer.Option("--new-witnesses", help="Where there is a quorum: witnesses with new keys take its place.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Declare that the access log lost its end, and go on without it.

    First everything is put back that the mirrors give, as `exchange log recover` does. What somebody was shown beyond
    that is given up: the root signs which entries are lost, and why, as an entry of the directory, which every party
    reads. Parties and auditors accept the smaller log with this entry alone, and auditors print it ever after. It
    cannot be taken back. Ask every auditor first: whoever has the lost entries can give them back instead. The
    directory itself is never given up: every party has it.

    Where trust.toml has a quorum, --new-witnesses is needed: no witness ever cosigns this access log again once it is
    smaller than what that witness saw. Others, with new keys, must take their place in everybody's trust file.
    """
    from exchange.broker.recovery import Declared

    require_role(home, ROOT, "only the root declares a break: name the operator's home")
    place, target = home / "broker" if broker is None else broker, Home(home)
    _check(target, Home(place), reason)
    _check_witnesses(target.trust, new_witnesses)
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
    if new_witnesses:
        print_line("Those witnesses never cosign this access log again. Each begins anew with a new key, by")
        print_line("`exchange-audit witness new`, and the witness_policy of every trust.toml names the new ones.")
    print_line(f"Next: exchange broker run --home {place}")


def _check(target: Home, broker: Home, reason: str) -> None:
    """What is known before anything is changed."""
    if not 1 <= len(reason.strip()) <= MAX_TEXT:
        raise WrongUsageError(
            f"--reason: {len(reason)} characters", f"say what happened in 1 to {MAX_TEXT:,} characters"
        )
    if broker.trust.name != target.trust.name:
        raise CommandError(f"{broker.path} is of another exchange than {target.path}", "", ExitCode.UNTRUSTED)


def _check_witnesses(trust: Trust, new_witnesses: bool) -> None:
    """A quorum that has seen more never cosigns less (C2SP tlog-witness): whoever declares must know what follows."""
    is_needed = trust.policy is not None and trust.policy.needs_witnesses
    if is_needed and not new_witnesses:
        text = "witnesses have cosigned what would be given up, and cosign nothing smaller"
        hint = (
            "bring the lost entries back with `exchange log recover`; if nobody has them, --new-witnesses says that"
            " witnesses with new keys take their place (docs/operator.md)"
        )
        raise CommandError(text, hint, ExitCode.FORK)
    if new_witnesses and not is_needed:
        raise WrongUsageError("--new-witnesses: trust.toml has no quorum of witnesses", "leave it out")
