"""`exchange purpose`: the coordinator registers purposes, and everybody reads them."""

from typing import Annotated

import typer

from exchange.cli.frame.acting import act, new_object
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, WrongUsageError
from exchange.cli.frame.homes import require_role
from exchange.cli.frame.output import print_json, print_line, print_table
from exchange.cli.frame.texts import check_text
from exchange.cli.frame.times import iso
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, purpose_entry
from exchange.core.names import is_code
from exchange.core.state import Version
from exchange.v1.directory_pb2 import Purpose

app = new_group("Register purposes (coordinator), and list them.", "exchange purpose list --home ./health")


@app.command(
    "register",
    epilog=example(
        'exchange purpose register social.housing-subsidy --label "Housing subsidy" \\',
        '    --legal-basis "Housing Act, section 12" --home ./coordinator',
    ),
)
def register(
    code: Annotated[str, typer.Argument(help="Small letters, digits and hyphens, joined by dots.")],
    label: Annotated[str, typer.Option(help="What it is called.", show_default=False)],
    legal_basis: Annotated[str, typer.Option(help="The law that allows it.", show_default=False)],
    label_en: Annotated[str, typer.Option(help="The same in English.", show_default=False)] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register a purpose; the same code again replaces its labels and legal basis."""
    require_role(home, "coordinator", "only a coordinator registers purposes")
    if not is_code(code):
        raise WrongUsageError(f"{code!r} is not a code", "small letters, digits and hyphens, joined by dots")
    check_text("--label", label)
    check_text("--legal-basis", legal_basis)
    if label_en:
        check_text("--label-en", label_en)
    purpose = Purpose(code=code, label=label, label_en=label_en, legal_basis=legal_basis)
    index, replaced = act(home, lambda session: _register(session, purpose))
    if as_json:
        print_json({"code": code, "index": index, "replaced": replaced})
    else:
        print_line(f"{'Replaced' if replaced else 'Registered'} the purpose {code}: entry {index} of the directory.")


@app.command("list", epilog=example("exchange purpose list --home ./health"))
def list_purposes(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the purposes that requests and agreements may name."""
    versions = act(home, _purposes)
    purposes = [version.purpose for version in versions if version.purpose is not None]
    if as_json:
        print_json([_described(version) for version in versions])
    elif not purposes:
        print_line("No purpose is registered yet.")
    else:
        rows = [(item.code, item.label, item.label_en, item.legal_basis) for item in purposes]
        print_table(("CODE", "LABEL", "IN ENGLISH", "LEGAL BASIS"), rows)


async def _register(session: Session, purpose: Purpose) -> tuple[int, bool]:
    before = _registered(session.directory, purpose.code)
    if before is not None and before.owner != session.party:
        raise CommandError(f"{before.owner} has registered the purpose {purpose.code}", "choose another code")
    version = ObjectVersion(before.object_id, before.digest) if before is not None else new_object()
    appended = await session.append(session.sign(purpose_entry(session.party, version, purpose)))
    return appended.index, before is not None


async def _purposes(session: Session) -> list[Version]:
    state = session.directory.state
    latest = (state.versions[digest] for digest in state.purposes.values())
    found = (item for item in latest if item.ended_index is None)
    return sorted(found, key=lambda item: item.purpose.code if item.purpose is not None else "")


def _registered(directory: Directory, code: str) -> Version | None:
    """The latest version of a purpose, whoever registered it."""
    digest = directory.state.purposes.get(code)
    return directory.state.versions[digest] if digest is not None else None


def _described(version: Version) -> dict[str, object]:
    purpose = version.purpose or Purpose()
    return {
        "code": purpose.code,
        "label": purpose.label,
        "label_en": purpose.label_en,
        "legal_basis": purpose.legal_basis,
        "registered_by": str(version.owner),
        "registered_at": iso(version.time),
        "index": version.index,
    }
