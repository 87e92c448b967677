"""`exchange rules`: what this exchange asks for in procedures, and by whose clocks; signed by the coordinator."""

from typing import Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_pairs
from exchange.cli.frame.times import day_of, iso
from exchange.client.session import Session
from exchange.core.entries import rules_entry
from exchange.core.state import RULES_OBJECT, Version
from exchange.core.wire import FORMAT
from exchange.rules.reading import load_rules, rules_digest
from exchange.v1.procedure_pb2 import Rules

app = new_group(
    "Say what procedures ask for, and by whose clocks (coordinator).",
    "exchange rules adopt cn-national --review --consent --home ./data-bureau",
    "exchange rules show --home ./health",
)


@app.command("adopt", epilog=example("exchange rules adopt cn-national --review --consent --home ./data-bureau"))
def adopt(
    name: Annotated[str, typer.Argument(metavar="RULES", help="Rules of the program, or a FILE.toml of one's own.")],
    review: Annotated[
        bool, typer.Option("--review", help="Datasets can be applied for once the coordinator has published them.")
    ] = False,
    consent: Annotated[
        bool, typer.Option("--consent", help="Heads of office consent to applications and to answers.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Adopt the rules of a jurisdiction; they replace those before, for what comes after them."""
    require_role(home, "coordinator", "only a coordinator adopts rules")
    jurisdiction = load_rules(name)
    rules = Rules(
        format=FORMAT,
        jurisdiction=jurisdiction.name,
        rules_sha256=rules_digest(name),
        review=review,
        consent=consent,
    )
    adopted = act(home, lambda session: _adopt(session, rules))
    if as_json:
        print_json(_described(adopted))
        return
    print_line(f"Adopted {jurisdiction.name} ({jurisdiction.label_en}): entry {adopted.index} of the directory.")
    print_line(f"Datasets are {'reviewed before' if review else 'not reviewed before'} they can be applied for.")
    print_line(f"Heads of office {'consent' if consent else 'are not asked to consent'} to applications and answers.")


@app.command("show", epilog=example("exchange rules show --home ./health"))
def show(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the rules that hold now."""
    standing = act(home, _standing)
    if as_json:
        print_json(_described(standing) if standing is not None else None)
        return
    if standing is None or standing.rules is None:
        print_line("No rules were adopted: an application is submitted, and a dataset published, when it is signed.")
        return
    rules = standing.rules
    print_pairs(
        {
            "jurisdiction": rules.jurisdiction,
            "SHA-256": rules.rules_sha256.hex(),
            "review": "datasets are published by the coordinator" if rules.review else "none",
            "consent": "of heads, to applications and answers" if rules.consent else "none",
            "adopted": f"{day_of(standing.time)} by {standing.owner}, entry {standing.index} of the directory",
        }
    )


async def _adopt(session: Session, rules: Rules) -> Version:
    before = session.directory.state.objects.get(RULES_OBJECT, b"")
    envelope = session.sign(rules_entry(session.party, rules, before))
    await session.append(envelope)
    return session.directory.state.versions[envelope.digest]


async def _standing(session: Session) -> Version | None:
    state = session.directory.state
    version = state.versions.get(state.objects.get(RULES_OBJECT, b""))
    return version if version is not None and version.ended_index is None else None


def _described(version: Version) -> dict[str, object]:
    rules = version.rules or Rules()
    return {
        "jurisdiction": rules.jurisdiction,
        "rules_sha256": rules.rules_sha256,
        "review": rules.review,
        "consent": rules.consent,
        "adopted_by": str(version.owner),
        "adopted_at": iso(version.time),
        "index": version.index,
    }
