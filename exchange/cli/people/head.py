"""`exchange head`: a department admits the head of its sharing office, who consents to applications and answers."""

from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import grouped, print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of
from exchange.cli.joining.admitting import (
    Comparison,
    FingerprintOption,
    OutOption,
    RequestArgument,
    UncheckedOption,
    admit,
    require_parent,
)
from exchange.cli.people.keys import described_key, keys_in, parsed, revoke_all, state_of
from exchange.client.session import Session
from exchange.core.state import KeyRecord
from exchange.v1.directory_pb2 import Role

app = new_group(
    "Admit the head of a department's sharing office (its steward).",
    "exchange head add head-request.json --home ./health",
    "exchange head list --home ./health",
)


@app.command(
    "add",
    epilog=example(
        "exchange head add head-request.json --home ./health",
        "exchange head add head-request.json --fingerprint '3f2a 91c0 …' --home ./health",
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
    """Sign a head's key with the department's.

    The request comes from `exchange key new exchange://DOMAIN/DEPARTMENT/NAME --role head`. The key signs consents, and
    neither requests nor agreements.
    """
    require_parent(home, "department")
    admit(home, request, Comparison(fingerprint, unchecked), out, as_json, "head")


@app.command("list", epilog=example("exchange head list --home ./health"))
def list_heads(
    everybody: Annotated[bool, typer.Option("--all", help="Also those of other departments.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the heads of a department's sharing office, and whether their keys hold."""
    found = act(home, lambda session: _heads(session, everybody))
    if as_json:
        print_json([described_key(record) for record in found])
    elif not found:
        print_line("No head has a key: `exchange key new exchange://DOMAIN/DEPARTMENT/NAME --role head` makes one.")
    else:
        rows = [(record.party, state_of(record), day_of(record.not_after), grouped(record.key_id)) for record in found]
        print_table(("HEAD", "STATE", "UNTIL", "FINGERPRINT"), rows)


@app.command(
    "remove",
    epilog=example('exchange head remove exchange://city.example/health/head --reason "retired" --home ./health'),
)
def remove(
    head: Annotated[str, typer.Argument(metavar="PARTY", help="The head's name, in full.")],
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Revoke a head's key; what it consented to before stands."""
    require_role(home, "department", "only a department's steward removes its heads")
    check_text("--reason", reason)
    party = parsed(head)
    index = act(home, lambda session: revoke_all(session, party, Role.ROLE_HEAD, reason))
    if as_json:
        print_json({"party": str(party), "index": index, "reason": reason})
    else:
        print_line(f"{party} consents to nothing any more: entry {index} of the directory.")


async def _heads(session: Session, everybody: bool) -> list[KeyRecord]:
    return keys_in(session, Role.ROLE_HEAD, everybody=everybody)
