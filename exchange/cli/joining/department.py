"""`exchange department`: the operator invites and admits departments, coordinators and auditors."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.joining import inviting, offline
from exchange.cli.joining.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    require_parent,
)
from exchange.cli.joining.admitting import admit as admit_request
from exchange.cli.joining.inviting import (
    AllOption,
    ExpiresOption,
    ExportOption,
    ImportOption,
    InviteOutOption,
    PartyArgument,
    ReasonOption,
    Signing,
)
from exchange.cli.joining.leaving import EPILOG as LEAVE_EPILOG
from exchange.cli.joining.leaving import leave
from exchange.cli.joining.pending import show

app = new_group(
    "Invite and admit departments, coordinators and auditors (operator).",
    "exchange department invite exchange://city.example/health --expires 7d --home ./operator",
    "exchange department admit health-request.json --home ./operator",
)


@app.command(
    "invite",
    epilog=example(
        "exchange department invite exchange://city.example/health --expires 7d --home ./operator",
        "exchange department invite data-bureau --role coordinator --out bureau.invite --home ./operator",
    ),
)
def invite(
    party: PartyArgument,
    role: Annotated[str, typer.Option(help="department, coordinator or auditor.", show_default=False)] = "department",
    expires: ExpiresOption = "7d",
    out: InviteOutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write an invite: a file with which a department makes its keys and asks to be admitted.

    It works once, and admits nobody: `exchange department approve` does, after a telephone call.
    """
    require_parent(home, "root")
    inviting.invite(home, party, role, expires, out, as_json)


@app.command("pending", epilog=example("exchange department pending --home ./operator"))
def pending(everything: AllOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List who is invited, and whose key request waits."""
    require_parent(home, "root")
    show(home, everything, as_json)


@app.command(
    "approve",
    epilog=example(
        "exchange department approve health --fingerprint '3f2a 91c0 …' --home ./operator",
        "exchange department approve health --export health.json --home ./operator",
        "exchange department approve health --import health.signed.json --home ./operator",
    ),
)
def approve(
    party: PartyArgument,
    fingerprint: FingerprintOption = "",
    export: ExportOption = None,
    signed: ImportOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign the key of a department that came with an invite, with the root key.

    Where the root key is kept on another machine, --export and --import carry the key there and back.
    """
    require_parent(home, "root")
    inviting.approve(home, party, Comparison(fingerprint, optional=False), Signing(export, signed), as_json)


@app.command(
    "sign",
    epilog=example("exchange department sign health.json --fingerprint '3f2a 91c0 …' --home ./root"),
)
def sign(
    request: RequestArgument,
    fingerprint: FingerprintOption = "",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the signed entry goes.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign an exported key on a machine without a network, which keeps the root key."""
    require_parent(home, "root")
    offline.sign_request(home, request, Comparison(fingerprint, optional=False), out, as_json)


@app.command(
    "reject",
    epilog=example("exchange department reject health --reason 'nobody answers the telephone' --home ./operator"),
)
def reject(
    party: PartyArgument, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Turn away whoever came with an invite, or take an invite back; they are told why."""
    require_parent(home, "root")
    inviting.reject(home, party, reason, as_json)


@app.command(
    "admit",
    epilog=example(
        "exchange department admit health-request.json --home ./operator",
        "exchange department admit health-request.json --fingerprint '3f2a 91c0 …' --home ./operator",
    ),
)
def admit(
    request: RequestArgument,
    fingerprint: FingerprintOption = "",
    unchecked: UncheckedOption = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a department's, coordinator's or auditor's key with the root key, by files alone.

    The admission has its TLS certificate and the trust file. The same request again renews the certificate.
    """
    require_parent(home, "root")
    admit_request(home, request, Comparison(fingerprint, unchecked), out, as_json)


app.command("leave", epilog=LEAVE_EPILOG)(leave)
