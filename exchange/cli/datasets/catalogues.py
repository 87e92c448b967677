"""`exchange dataset export` and `import`: the catalogue to and from those of others."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.catalogue.ckan import PackageError, descriptor_text, read_package
from exchange.catalogue.dcat import catalogue
from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.output import print_json
from exchange.cli.frame.times import now
from exchange.client.datasets import dataset_name
from exchange.client.session import Session


def export(
    owner: Annotated[str, typer.Option(metavar="DEPARTMENT", help="Only this department's datasets.")] = "",
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Print the catalogue as DCAT-AP 3 in JSON-LD, without what its owners restrict."""
    print_json(act(home, lambda session: _document(session, owner)))


def import_package(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A CKAN package, as JSON.")],
    name: Annotated[str, typer.Option(help="Which package, where the file has several.")] = "",
) -> None:
    """Print a descriptor out of a CKAN package; what a package cannot say is marked in it, to be filled in."""
    try:
        package = read_package(file.read_bytes(), name)
    except PackageError as error:
        hint = "save it as package_show gives it; --name chooses one of several"
        raise WrongUsageError(f"{file}: {error}", hint) from error
    typer.echo(descriptor_text(package), nl=False)


async def _document(session: Session, owner: str) -> dict[str, object]:
    directory = session.directory
    found = (directory.dataset(object_id) for object_id in directory.terms.datasets)
    shown = [
        item
        for item in found
        # A document goes from hand to hand: what only some may see is not in it.
        if item is not None and not item.descriptor.restricted and owner in ("", item.version.owner.department)
    ]
    return catalogue(directory.origin, sorted(shown, key=dataset_name), session.trust.brokers, now())
