"""`exchange department`: the operator admits departments, coordinators and auditors."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.admitting import Comparison, require_parent
from exchange.cli.admitting import admit as admit_request
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group

app = new_group(
    "Admit departments, coordinators and auditors (operator).",
    "exchange department admit health-request.json --home ./operator",
)


@app.command(
    "admit",
    epilog=example(
        "exchange department admit health-request.json --home ./operator",
        "exchange department admit health-request.json --fingerprint '3f2a 91c0 …' --home ./operator",
    ),
)
def admit(
    request: Annotated[
        Path,
        typer.Argument(
            metavar="REQUEST", exists=True, dir_okay=False, help="The key request, from `exchange key new`."
        ),
    ],
    fingerprint: Annotated[
        str, typer.Option(metavar="HEX", help="What they read out by telephone.", show_default=False)
    ] = "",
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Sign although nobody compared the fingerprint.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the admission goes.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a department's, coordinator's or auditor's key with the root key.

    The admission has its TLS certificate and the trust file. The same request again renews the certificate.
    """
    require_parent(home, "root")
    admit_request(home, request, Comparison(fingerprint, unchecked), out, as_json)
