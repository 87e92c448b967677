"""`exchange dataset`: stewards describe and publish datasets, and everybody finds them."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.catalogue.index import FACETS, Hit, Index, Results
from exchange.cli.datasets.catalogues import export, import_package
from exchange.cli.datasets.describing import both_labels, describe_dataset, print_dataset
from exchange.cli.datasets.descriptors import TEMPLATE, Descriptor, read_descriptor
from exchange.cli.datasets.reviewing import register, standing_of
from exchange.cli.datasets.similar import overlap_text, similar, unexplained
from exchange.cli.frame.acting import act, new_object, new_salt
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption, example, new_group
from exchange.cli.frame.errors import CommandError, ExitCode, WrongUsageError
from exchange.cli.frame.homes import has_key, require_role
from exchange.cli.frame.output import listed, print_json, print_line, print_table
from exchange.cli.frame.times import now
from exchange.cli.frame.words import UNCLASSED, operation_names
from exchange.client.datasets import dataset_name, find_dataset, published_datasets
from exchange.client.session import Session
from exchange.core.directory import Directory
from exchange.core.entries import ObjectVersion, body_entry
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.core.versions import Broken, Change, broken_agreements, changes

if TYPE_CHECKING:
    from exchange.catalogue.similar import Match

CATALOGUE = "catalogue.db"
FACET_VALUES = 8

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
    breaking: Annotated[
        bool, typer.Option("--breaking", help="Publish it although agreements that stand rest on what it takes away.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish a dataset; the same code again supersedes the version before.

    What other departments provide already is published again only where an [[overlaps]] of the descriptor says why it
    is needed, and who the source is: `exchange dataset similar FILE` finds it.

    Agreements stand on the new version as long as it takes nothing away from them. One that does is published only
    with --breaking, after the agreements that it breaks were listed.
    """
    owner = require_role(home, "department", "only a department's steward publishes its datasets")
    descriptor = read_descriptor(file, owner)
    dataset = descriptor.dataset
    index, found = act(home, lambda session: _publish(session, descriptor, breaking))
    name = f"{owner.department}/{dataset.code}"
    if as_json:
        broken = [item.agreement.digest for item in found.broken]
        texts = [change.text for change in found.changes]
        print_json({"dataset": name, "index": index, "replaced": found.replaced, "changes": texts, "broken": broken})
        return
    verb = "a new version of " if found.replaced else ""
    print_line(f"Published {verb}{name}: entry {index} of the directory.")
    for change in found.changes:
        print_line(f"  {'breaking: ' if change.breaking else ''}{change.text}")
    if not found.replaced:
        print_line(f"Next: {dataset.system} runs an adapter that answers for it; others apply with")
        print_line(f"      exchange agreement apply --dataset {name} …")


@app.command("list", epilog=example("exchange dataset list --home ./health"))
def list_datasets(
    all_columns: Annotated[bool, typer.Option("--all", help="Show all columns.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """List the datasets that departments share."""
    directory, datasets = act(home, _datasets)
    if as_json:
        print_json([describe_dataset(directory, item) for item in datasets])
    elif not datasets:
        print_line("No dataset is published yet.")
    elif all_columns:
        columns = ("DATASET", "TITLE", "KEY", "OPERATIONS", "FIELDS", "FILTERABLE", "SYSTEM", "ENTRY")
        print_table(columns, [_row(item, all_columns) for item in datasets])
    else:
        rows = [(*_row(item, all_columns), _state(directory, item)) for item in datasets]
        print_table(("DATASET", "TITLE", "OPERATIONS", "FIELDS", "STATE"), rows)


@app.command("search", epilog=example("exchange dataset search 户籍 address --only theme=population --home ./health"))
def search(
    words: Annotated[list[str] | None, typer.Argument(metavar="WORD…", help="Chinese or English; none: all.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="FACET=VALUE", help=f"Narrow it, by {listed(FACETS)}; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Find datasets by words, the best first, and count what was found by owner, theme, level …"""
    narrowed, query = _narrowed(only or ()), " ".join(words or ())
    found = act(home, lambda session: _search(session, query, narrowed, limit))
    if as_json:
        print_json(_results(found))
        return
    if not found.total:
        print_line("No dataset fits. `exchange dataset list` shows all of them.")
        return
    if not found.every:
        print_line("No dataset has all of these words. These have some of them:")
    print_table(("DATASET", "TITLE", "SHARING", "THEME"), [_hit(hit) for hit in found.hits])
    if found.total > len(found.hits):
        print_line(f"… and {found.total - len(found.hits):,} more: add words, narrow it, or raise --limit.")
    print_line()
    for facet, counts in found.facets.items():
        shown = listed(f"{value} ({count:,})" for value, count in counts[:FACET_VALUES])
        print_line(f"{facet:8} {shown or '-'}")


@app.command("show", epilog=example("exchange dataset show registry-office/household.registration --home ./health"))
def show(
    dataset: Annotated[str, typer.Argument(metavar="DEPARTMENT/CODE", help="As `dataset list` names it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a dataset holds, and what may be asked of it."""
    directory, found = act(home, lambda session: _find(session, dataset))
    if as_json:
        print_json(describe_dataset(directory, found))
    else:
        print_dataset(directory, found)


app.command("similar", epilog=example("exchange dataset similar application-form.txt --home ./health"))(similar)
register(app)
app.command("export", epilog=example("exchange dataset export --home ./health > catalogue.jsonld"))(export)
app.command("import", epilog=example("exchange dataset import package.json > roads.toml"))(import_package)


@dataclass(frozen=True, slots=True)
class _Published:
    """Whether a version was replaced, what changed, and which agreements that breaks."""

    replaced: bool
    changes: tuple[Change, ...]
    broken: tuple[Broken, ...]


async def _publish(session: Session, descriptor: Descriptor, breaking: bool) -> tuple[int, _Published]:
    directory = session.directory
    system = Party.parse(descriptor.dataset.system)
    if not has_key(directory, system):
        raise WrongUsageError(
            f"system: {system} has no key in the directory, so nobody could answer",
            "check its name, or add it first: `exchange key new` there, `exchange system add` here",
        )
    dataset = descriptor.resolved(lambda name: find_dataset(directory, name))
    # Decree 809, article 19: one source department for what several would collect.
    duplicates = await asyncio.to_thread(unexplained, directory, dataset, session.party, session.home.path)
    if duplicates:
        raise _duplicated(duplicates)
    object_id = directory.terms.codes.get((str(session.party), dataset.code))
    before = directory.dataset(object_id) if object_id is not None else None
    found = _Published(object_id is not None, (), ())
    if before is not None:
        broken = broken_agreements(directory, before, dataset, now())
        found = _Published(True, changes(before, dataset), broken)
        if broken and not breaking:
            raise _breaks(broken)
    version = new_object() if object_id is None else ObjectVersion(object_id, directory.state.objects[object_id])
    appended = await session.append(session.sign(body_entry(session.party, version, dataset, new_salt())))
    return appended.index, found


def _duplicated(found: "list[tuple[str, Match]]") -> CommandError:
    return CommandError(
        f"other departments provide some of this already: {overlap_text(found)}",
        "apply for it instead of collecting it; or say in [[overlaps]] why this one is needed, and who the source is",
        ExitCode.REFUSED,
    )


def _breaks(broken: tuple[Broken, ...]) -> CommandError:
    named = "; ".join(
        f"{item.agreement.digest.hex()[:12]} of {item.agreement.grantee} ({listed(c.text for c in item.changes)})"
        for item in broken
    )
    agreements = "an agreement" if len(broken) == 1 else f"{len(broken)} agreements"
    return CommandError(
        f"the new version breaks {agreements}: {named}",
        "tell the grantees and sign them new agreements; --breaking publishes it all the same",
        ExitCode.REFUSED,
    )


async def _datasets(session: Session) -> tuple[Directory, list[DatasetTerms]]:
    return session.directory, published_datasets(session.directory)


def _narrowed(only: Sequence[str]) -> dict[str, str]:
    narrowed = {}
    for text in only:
        facet, _, value = text.partition("=")
        if facet not in FACETS or not value:
            raise WrongUsageError(f"--only: {text!r} is not FACET=VALUE", f"facets are {listed(FACETS)}")
        narrowed[facet] = value
    return narrowed


async def _search(session: Session, query: str, narrowed: dict[str, str], limit: int) -> Results:
    def search() -> Results:
        with closing(Index(session.home.path / CATALOGUE)) as index:
            index.refresh(session.directory)
            return index.search(query, narrowed, limit, now())

    return await asyncio.to_thread(search)


def _results(found: Results) -> dict[str, object]:
    return {
        "total": found.total,
        "every_word": found.every,
        "datasets": [
            {"dataset": hit.name, "title": hit.title, "title_en": hit.title_en or None, **hit.facets}
            for hit in found.hits
        ],
        "facets": {facet: dict(counts) for facet, counts in found.facets.items()},
    }


def _hit(hit: Hit) -> tuple[object, ...]:
    return (
        hit.name,
        both_labels(hit.title, hit.title_en),
        hit.facets["sharing"] or UNCLASSED,
        hit.facets["theme"] or None,
    )


async def _find(session: Session, name: str) -> tuple[Directory, DatasetTerms]:
    return session.directory, find_dataset(session.directory, name)


def _state(directory: Directory, item: DatasetTerms) -> str | None:
    found = standing_of(directory, item)
    return str(found.standing) if found is not None else None


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
