"""`exchange dataset`: stewards describe and publish datasets, and everybody finds them."""

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.acting import act, new_object, new_salt
from exchange.cli.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.descriptor import TEMPLATE, read_descriptor
from exchange.cli.errors import WrongUsageError
from exchange.cli.homes import has_key, require_role
from exchange.cli.output import listed, print_json, print_line, print_pairs, print_table
from exchange.cli.similar import similar
from exchange.cli.times import day_of, iso
from exchange.client.datasets import dataset_name, find_dataset, published_datasets
from exchange.client.session import Session
from exchange.core.entries import ObjectVersion, body_entry
from exchange.core.filters import TYPE_NAMES
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.v1.directory_pb2 import Dataset
from exchange.v1.request_pb2 import Operation

app = new_group(
    "Describe and publish datasets, and find them.",
    "exchange dataset template > household.toml",
    "exchange dataset publish household.toml --home ./registry-office",
)


@app.command("template", epilog=example("exchange dataset template > household.toml"))
def template() -> None:
    """Print a descriptor to start from."""
    typer.echo(TEMPLATE, nl=False)


@app.command("publish", epilog=example("exchange dataset publish household.toml --home ./registry-office"))
def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A descriptor: see `dataset template`.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish a dataset; the same code again supersedes the version before, and agreements on it stand."""
    owner = require_role(home, "department", "only a department's steward publishes its datasets")
    dataset = read_descriptor(file, owner)
    index, replaced = act(home, lambda session: _publish(session, dataset))
    name = f"{owner.department}/{dataset.code}"
    if as_json:
        print_json({"dataset": name, "index": index, "replaced": replaced})
        return
    verb = "a new version of " if replaced else ""
    print_line(f"Published {verb}{name}: entry {index} of the directory.")
    if not replaced:
        print_line(f"Next: {dataset.system} runs an adapter that answers for it; others apply with")
        print_line(f"      exchange agreement apply --dataset {name} …")


@app.command("list", epilog=example("exchange dataset list --home ./health"))
def list_datasets(
    all_columns: Annotated[bool, typer.Option("--all", help="Show all columns.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the datasets that departments share."""
    datasets = act(home, _datasets)
    if as_json:
        print_json([describe_dataset(item) for item in datasets])
    elif not datasets:
        print_line("No dataset is published yet.")
    elif all_columns:
        columns = ("DATASET", "TITLE", "KEY", "OPERATIONS", "FIELDS", "FILTERABLE", "SYSTEM", "ENTRY")
        print_table(columns, [_row(item, all_columns) for item in datasets])
    else:
        print_table(("DATASET", "TITLE", "OPERATIONS", "FIELDS"), [_row(item, all_columns) for item in datasets])


@app.command("show", epilog=example("exchange dataset show registry-office/household.registration --home ./health"))
def show(
    dataset: Annotated[str, typer.Argument(metavar="DEPARTMENT/CODE", help="As `dataset list` names it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a dataset holds, and what may be asked of it."""
    found = act(home, lambda session: _find(session, dataset))
    if as_json:
        print_json(describe_dataset(found))
        return
    print_pairs(
        {
            "dataset": dataset_name(found),
            "title": found.title,
            "abstract": found.abstract or None,
            "answered by": found.system,
            "operations": listed(operation_names(found.operations)),
            "key": found.key,
            "published": f"{day_of(found.version.time)}, entry {found.version.index} of the directory",
        }
    )
    print_line()
    rows = [(item.name, TYPE_NAMES[item.type], _marks(found, item.name), item.label) for item in found.fields.values()]
    print_table(("FIELD", "TYPE", "USE", "LABEL"), rows)


app.command("similar", epilog=example("exchange dataset similar application-form.txt --home ./health"))(similar)


def operation_names(operations: frozenset[Operation.ValueType]) -> list[str]:
    """Operations as people write them: LOOKUP, QUERY."""
    return [Operation.Name(number).removeprefix("OPERATION_") for number in sorted(operations)]


def describe_dataset(dataset: DatasetTerms) -> dict[str, object]:
    """A dataset for programs."""
    return {
        "dataset": dataset_name(dataset),
        "owner": str(dataset.version.owner),
        "title": dataset.title,
        "abstract": dataset.abstract,
        "system": str(dataset.system),
        "key": dataset.key,
        "operations": operation_names(dataset.operations),
        "filterable": sorted(dataset.filterable),
        "fields": [
            {"name": item.name, "label": item.label, "type": TYPE_NAMES[item.type]} for item in dataset.fields.values()
        ],
        "object_id": dataset.object_id,
        "index": dataset.version.index,
        "published_at": iso(dataset.version.time),
    }


async def _publish(session: Session, dataset: Dataset) -> tuple[int, bool]:
    directory = session.directory
    system = Party.parse(dataset.system)
    if not has_key(directory, system):
        raise WrongUsageError(
            f"system: {system} has no key in the directory, so nobody could answer",
            "check its name, or add it first: `exchange key new` there, `exchange system add` here",
        )
    object_id = directory.terms.codes.get((str(session.party), dataset.code))
    version = new_object() if object_id is None else ObjectVersion(object_id, directory.state.objects[object_id])
    appended = await session.append(session.sign(body_entry(session.party, version, dataset, new_salt())))
    return appended.index, object_id is not None


async def _datasets(session: Session) -> list[DatasetTerms]:
    return published_datasets(session.directory)


async def _find(session: Session, name: str) -> DatasetTerms:
    return find_dataset(session.directory, name)


def _row(item: DatasetTerms, all_columns: bool) -> tuple[object, ...]:
    operations = listed(operation_names(item.operations))
    if not all_columns:
        return (dataset_name(item), item.title, operations, len(item.fields))
    return (
        dataset_name(item),
        item.title,
        item.key,
        operations,
        listed(item.fields),
        listed(sorted(item.filterable)),
        item.system,
        item.version.index,
    )


def _marks(dataset: DatasetTerms, field: str) -> str:
    marks = (("key", field == dataset.key), ("filter", field in dataset.filterable))
    return listed(name for name, holds in marks if holds)
