"""`exchange guardrail`: rules of the whole exchange that only deny; the coordinator signs, everybody reads them."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_pairs, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import day_of, iso
from exchange.cli.governing.guardrail_file import TEMPLATE, read_guardrail_file, tree_lines
from exchange.client.session import Session
from exchange.core.bars import StandingGuardrail
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, guardrail_entry, revocation_entry
from exchange.core.state import OBJECT_ID

CodeArgument = Annotated[str, typer.Argument(metavar="CODE", help="As `guardrail list` names it.")]

_ONLY = "only a coordinator signs guardrails"

app = new_group(
    "Forbid what no agreement may allow (coordinator), and list it.", "exchange guardrail list --home ./health"
)


@app.command("template", epilog=example("exchange guardrail template > no-sensitive-bulk.toml"))
def template() -> None:
    """Print a guardrail to start from."""
    typer.echo(TEMPLATE, nl=False)


@app.command("add", epilog=example("exchange guardrail add no-sensitive-bulk.toml --home ./coordinator"))
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A guardrail; see `guardrail template`.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sign a guardrail; one with the same code is replaced."""
    require_role(home, "coordinator", _ONLY)
    code, index, replaced = act(home, lambda session: _add(session, file))
    if as_json:
        print_json({"code": code, "index": index, "replaced": replaced})
        return
    print_line(f"{'Replaced' if replaced else 'Added'} the guardrail {code}: entry {index} of the directory.")
    print_line("From now on brokers and adapters refuse whatever it holds for.")


@app.command("list", epilog=example("exchange guardrail list --home ./health"))
def list_guardrails(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the guardrails that stand."""
    directory = act(home, _directory)
    found = directory.state.bars.guardrails
    if as_json:
        print_json([_described(directory, guardrail) for guardrail in found])
    elif not found:
        print_line("No guardrail stands: agreements alone say what is allowed.")
    else:
        rows = [(item.said.code, item.said.label, item.said.label_en, item.said.legal_basis) for item in found]
        print_table(("CODE", "LABEL", "IN ENGLISH", "LEGAL BASIS"), rows)


@app.command("show", epilog=example("exchange guardrail show no-sensitive-bulk --home ./health"))
def show(code: CodeArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what a guardrail forbids."""
    directory = act(home, _directory)
    guardrail = _find(directory, code)
    if as_json:
        print_json(_described(directory, guardrail))
        return
    said, version = guardrail.said, directory.state.versions[guardrail.digest]
    print_pairs(
        {
            "guardrail": said.code,
            "label": said.label,
            "in English": said.label_en or None,
            "legal basis": said.legal_basis or None,
            "forbids": tree_lines(said.test, directory),
            "signed": f"{day_of(version.time)} by {version.owner}, entry {version.index} of the directory",
        }
    )


@app.command(
    "revoke", epilog=example('exchange guardrail revoke no-sensitive-bulk --reason "Repealed" --home ./coordinator')
)
def revoke(
    code: CodeArgument,
    reason: Annotated[str, typer.Option(help="Why; everybody can read it.", show_default=False)],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Revoke a guardrail: from now on it forbids nothing."""
    require_role(home, "coordinator", _ONLY)
    check_text("--reason", reason)
    index = act(home, lambda session: _revoke(session, code, reason))
    if as_json:
        print_json({"code": code, "index": index, "reason": reason})
    else:
        print_line(f"The guardrail {code} is revoked: entry {index} of the directory.")


async def _add(session: Session, file: Path) -> tuple[str, int, bool]:
    directory = session.directory
    guardrail = read_guardrail_file(file, directory)
    standing = [item for item in directory.state.bars.guardrails if item.said.code == guardrail.code]
    version = new_object()
    if standing:
        version = ObjectVersion(directory.state.versions[standing[0].digest].object_id, standing[0].digest)
    appended = await session.append(session.sign(guardrail_entry(session.party, version, guardrail)))
    return guardrail.code, appended.index, bool(standing)


async def _directory(session: Session) -> Directory:
    return session.directory


async def _revoke(session: Session, code: str, reason: str) -> int:
    digest = _find(session.directory, code).digest
    draft = revocation_entry(session.party, secrets.token_bytes(OBJECT_ID), digest, reason)
    return (await session.append(session.sign(draft))).index


def _find(directory: Directory, code: str) -> StandingGuardrail:
    for guardrail in directory.state.bars.guardrails:
        if guardrail.said.code == code:
            return guardrail
    raise WrongUsageError(f"no guardrail {code} stands", "`exchange guardrail list` shows them")


def _described(directory: Directory, guardrail: StandingGuardrail) -> dict[str, object]:
    said, version = guardrail.said, directory.state.versions[guardrail.digest]
    return {
        "code": said.code,
        "label": said.label,
        "label_en": said.label_en,
        "legal_basis": said.legal_basis,
        "forbids": tree_lines(said.test, directory),
        "signed_by": str(version.owner),
        "signed_at": iso(version.time),
        "index": version.index,
    }
