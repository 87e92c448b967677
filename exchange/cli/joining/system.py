"""`exchange system`: a department's steward invites and adds its systems."""

from typing import Annotated

import typer

from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.joining import inviting
from exchange.cli.joining.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    admit,
    require_parent,
)
from exchange.cli.joining.inviting import (
    AllOption,
    ExpiresOption,
    InviteOutOption,
    PartyArgument,
    ReasonOption,
    Signing,
)
from exchange.cli.joining.pending import show

app = new_group(
    "Invite and add systems of a department (its steward).",
    "exchange system invite clinic --expires 7d --home ./health",
    "exchange system add clinic-request.json --home ./health",
)


@app.command(
    "invite",
    epilog=example(
        "exchange system invite exchange://city.example/health/clinic --expires 7d --home ./health",
        "exchange system invite office-head --role head --home ./health",
    ),
)
def invite(
    party: PartyArgument,
    role: Annotated[str, typer.Option(help="system or head.", show_default=False)] = "system",
    expires: ExpiresOption = "7d",
    out: InviteOutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write an invite: a file with which a system makes its keys and asks to be added.

    It works once, and adds nothing: `exchange system approve` does, after the fingerprint has been compared.
    """
    require_parent(home, "department")
    inviting.invite(home, party, role, expires, out, as_json)


@app.command("pending", epilog=example("exchange system pending --home ./health"))
def pending(everything: AllOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List who is invited, and whose key request waits."""
    require_parent(home, "department")
    show(home, everything, as_json)


@app.command("approve", epilog=example("exchange system approve clinic --fingerprint '3f2a 91c0 …' --home ./health"))
def approve(
    party: PartyArgument,
    fingerprint: FingerprintOption = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign the key of a system that came with an invite, with its department's."""
    require_parent(home, "department")
    inviting.approve(home, party, Comparison(fingerprint, optional=False), Signing(), as_json)


@app.command("reject", epilog=example("exchange system reject clinic --reason 'the old one runs on' --home ./health"))
def reject(
    party: PartyArgument, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Turn away whoever came with an invite, or take an invite back; they are told why."""
    require_parent(home, "department")
    inviting.reject(home, party, reason, as_json)


@app.command(
    "add",
    epilog=example(
        "exchange system add clinic-request.json --home ./health",
        "exchange system add clinic-request.json --fingerprint '3f2a 91c0 …' --home ./health",
    ),
)
def add(
    request: RequestArgument,
    fingerprint: FingerprintOption = "",
    unchecked: UncheckedOption = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a system's key with its department's, by files alone.

    The admission has its TLS certificate and the trust file. The same request again renews the certificate.
    """
    require_parent(home, "department")
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "system")
