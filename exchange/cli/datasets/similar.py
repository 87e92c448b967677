"""`exchange dataset similar`: before a department builds or collects, what others already provide of it."""

import asyncio
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.frame.acting import act
from exchange.cli.frame.application import DEFAULT_HOME, HomeOption, JsonOption
from exchange.cli.frame.errors import WrongUsageError
from exchange.cli.frame.output import clean, listed, print_json, print_line, print_table
from exchange.cli.frame.progress import Advance, bar
from exchange.client.datasets import dataset_name, published_datasets
from exchange.client.session import Session
from exchange.core.descriptor import is_shared
from exchange.core.directory import Directory
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.v1.directory_pb2 import Dataset

# The readers and their libraries are loaded when they are needed: the other commands of the group start without them.
if TYPE_CHECKING:
    from exchange.catalogue.fields import Profile
    from exchange.catalogue.similar import FieldMatches, Match, Similar, Source, Version

SIMILAR = "similar.db"
"""In a home: what was read of datasets, for the next time."""

_SHOWN = 5
_REASONS = 2


def similar(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="What is to be collected: a descriptor, a CSV file or Excel workbook with its header, a JSON Schema, "
            "SQL that creates tables, or a form's fields as text, one a line.",
        ),
    ],
    kind: Annotated[
        str,
        typer.Option("--kind", metavar="KIND", help="descriptor, csv, xlsx, json-schema, sql, form; else it is found."),
    ] = "",
    min_score: Annotated[
        float | None, typer.Option("--min-score", min=0.0, max=1.0, help="Show what scores at least this much.")
    ] = None,
    all_sources: Annotated[bool, typer.Option("--all", help="Show every dataset that provides a field.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show which fields a department already provides, before you build or collect them."""
    profile = read_file(file, kind)
    found = act(home, lambda session: _compare(session, profile, min_score, all_sources))
    if as_json:
        print_json(describe_similar(profile, found))
    else:
        print_similar(profile, found, all_sources)


def read_file(file: Path, kind: str = "") -> "Profile":
    """Read what somebody is about to build or collect.

    Args:
        file: see `exchange.catalogue.read_profile`; kind: one of `KINDS`, or empty.

    Raises:
        WrongUsageError: no such kind, or the file has no fields; with its place and what to do.
    """
    from exchange.catalogue.errors import SchemaError
    from exchange.catalogue.readers import KINDS, read_profile

    if kind and kind not in KINDS:
        raise WrongUsageError(f"--kind: {kind!r} is none of {listed(KINDS)}")
    try:
        return read_profile(file, kind)
    except SchemaError as error:
        raise WrongUsageError(str(error), error.hint) from error


def find_similar(
    datasets: Iterable[DatasetTerms],
    profile: "Profile",
    index: Path | None = None,
    min_score: float | None = None,
    apart_from: Party | None = None,
    all_sources: bool = False,
    advance: Advance | None = None,
) -> "Similar":
    """What published datasets provide of a profile.

    Args:
        datasets: those that may be named.
        profile: what somebody is about to build, collect or publish.
        index: the file that keeps what was read of datasets; None to keep nothing.
        min_score: 0 to 1; None for the threshold that is measured.
        apart_from: a department whose own datasets do not count.
        all_sources: all of them, not the best alone.
        advance: told how many new datasets are read.
    """
    from exchange.catalogue.similar import SOURCES, THRESHOLD, Catalogue

    minimum = THRESHOLD if min_score is None else min_score
    department = (apart_from.department or "") if apart_from is not None else ""
    with closing(Catalogue(index)) as catalogue:
        catalogue.refresh(map(_version, datasets), advance)
        return catalogue.similar(profile, minimum, None if all_sources else SOURCES, department)


def _version(dataset: DatasetTerms) -> "Version":
    from exchange.catalogue.fields import dataset_profile
    from exchange.catalogue.similar import Source, Version

    name = dataset_name(dataset)

    def read() -> Source:
        return Source(name, dataset_profile(dataset.descriptor), is_shared(dataset.descriptor))

    return Version(name, dataset.version.digest, read)


def unexplained(directory: Directory, dataset: Dataset, owner: Party, home: Path) -> "list[tuple[str, Match]]":
    """The fields of a descriptor that another department provides already, and that no overlap of it explains.

    The key is what records are joined by: it is no duplicate. Nor does the source have to explain itself, where the
    other department's overlap names it.

    Args:
        directory: whose published datasets count; dataset: about to be published; owner: by this department.
        home: the folder of whoever asks, where what was read of datasets is kept.

    Returns:
        Each field with the best source of it.
    """
    from exchange.catalogue.fields import dataset_profile

    explained = {name for overlap in dataset.overlaps for name in overlap.fields} | {dataset.key}
    datasets = published_datasets(directory)
    ours = {
        (dataset_name(item), name)
        for item in datasets
        for overlap in item.descriptor.overlaps
        if overlap.source == str(owner)
        for name in overlap.fields
    }
    asked = dataset_profile(dataset)
    found: list[tuple[str, Match]] = []
    for item in find_similar(datasets, asked, home / SIMILAR, apart_from=owner, all_sources=True).fields:
        theirs = (match for match in item.matches if (match.source.name, match.field.path) not in ours)
        best = None if item.field.path in explained else next(theirs, None)
        if best is not None:
            found.append((item.field.path, best))
    return found


def overlap_text(found: "list[tuple[str, Match]]") -> str:
    """Fields with who provides them, in one line."""
    return listed(f"{name} by {match.source.name} ({match.field.path})" for name, match in found)


def describe_similar(profile: "Profile", found: "Similar") -> dict[str, object]:
    """What was found, for programs."""
    return {
        "title": profile.title,
        "kind": profile.kind,
        "provided": found.provided,
        "fields": [
            {
                "field": item.field.path,
                "label": item.field.label,
                "provided_by": [_described(match) for match in item.matches],
            }
            for item in found.fields
        ],
        "datasets": [
            {
                "dataset": item.source.name,
                "title": item.source.profile.title,
                "shared": item.source.shared,
                "provides": {field.path: match.field.path for field, match in item.provided},
            }
            for item in found.datasets
        ],
    }


async def _compare(session: Session, profile: "Profile", min_score: float | None, all_sources: bool) -> "Similar":
    datasets, index = published_datasets(session.directory), session.home.path / SIMILAR
    with bar("reading datasets") as advance:
        return await asyncio.to_thread(find_similar, datasets, profile, index, min_score, None, all_sources, advance)


def _described(match: "Match") -> dict[str, object]:
    return {
        "dataset": match.source.name,
        "field": match.field.path,
        "label": match.field.label,
        "score": match.score,
        "reasons": list(match.reasons),
    }


def print_similar(profile: "Profile", found: "Similar", all_sources: bool = False) -> None:
    """Show people what was found: each field with its source, the datasets, and what to ask for."""
    total = len(found.fields)
    print_line(
        f"{clean(profile.title)} ({profile.kind}): {found.provided} of {_count(total, 'field')} already provided."
    )
    print_line()
    columns = ("YOUR FIELD", "DATASET", "FIELD", "SCORE", "WHY")
    print_table(columns, [row for item in found.fields for row in _rows(item, all_sources)])
    if not found.datasets:
        return
    shown = found.datasets if all_sources else found.datasets[:_SHOWN]
    print_line()
    rows = [(item.source.name, item.source.profile.title, f"{len(item.provided)} of {total}") for item in shown]
    print_table(("DATASET", "TITLE", "PROVIDES"), rows)
    print_line()
    print_line("Ask for what is there instead of collecting it again:")
    for source, fields in _sources(found).items():
        if source.shared:
            print_line(f"  exchange agreement apply --dataset {source.name} --fields {','.join(fields)} …")
        else:
            print_line(f"  {source.name} is not shared: talk to its owner about {','.join(fields)}")


def _rows(item: "FieldMatches", all_sources: bool) -> list[tuple[object, ...]]:
    if not item.matches:
        return [(item.field.path, None, None, None, None)]
    chosen = item.matches if all_sources else item.matches[:1]
    return [
        (
            item.field.path if number == 0 else "",
            match.source.name,
            match.field.path,
            f"{match.score:.2f}",
            "; ".join(match.reasons[:_REASONS]),
        )
        for number, match in enumerate(chosen)
    ]


def _sources(found: "Similar") -> dict["Source", dict[str, None]]:
    """The dataset named for each field, with the fields to ask it for: most fields first."""
    named: dict[Source, dict[str, None]] = {}
    for item in found.fields:
        for match in item.matches[:1]:
            named.setdefault(match.source, {})[match.field.path] = None
    return dict(sorted(named.items(), key=lambda pair: -len(pair[1])))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
