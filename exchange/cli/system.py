"""`exchange system`: a department's steward adds its systems."""

from exchange.cli.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    admit,
    require_parent,
)
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group

app = new_group("Add systems to a department (its steward).", "exchange system add clinic-request.json --home ./health")


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
    """Sign a system's key with its department's.

    The admission has its TLS certificate and the trust file. The same request again renews the certificate.
    """
    require_parent(home, "department")
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "system")
