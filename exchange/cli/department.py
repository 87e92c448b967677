"""`exchange department`: the operator admits departments, coordinators and auditors."""

from exchange.cli.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    require_parent,
)
from exchange.cli.admitting import admit as admit_request
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.leaving import EPILOG as LEAVE_EPILOG
from exchange.cli.leaving import leave

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
    request: RequestArgument,
    fingerprint: FingerprintOption = "",
    unchecked: UncheckedOption = False,
    out: OutOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a department's, coordinator's or auditor's key with the root key.

    The admission has its TLS certificate and the trust file. The same request again renews the certificate.
    """
    require_parent(home, "root")
    admit_request(home, request, Comparison(fingerprint, unchecked), out, as_json)


app.command("leave", epilog=LEAVE_EPILOG)(leave)
