"""A dataset as people read it and as programs do: all that its owner says of it."""

from collections.abc import Iterable

from exchange.cli.datasets.reviewing import describe_standing, standing_of, standing_text
from exchange.cli.frame.output import listed, print_line, print_pairs, print_table
from exchange.cli.frame.times import day_of, iso
from exchange.cli.frame.words import level_name, operation_names, sharing_class
from exchange.client.datasets import dataset_name
from exchange.core.directory import Directory
from exchange.core.filters import TYPE_NAMES
from exchange.core.names import Party
from exchange.core.terms import DatasetTerms
from exchange.v1.catalogue_pb2 import Sharing
from exchange.v1.directory_pb2 import Dataset, Field


def describe_dataset(directory: Directory, dataset: DatasetTerms) -> dict[str, object]:
    """A dataset for programs."""
    said = dataset.descriptor
    return {
        "dataset": dataset_name(dataset),
        "review": describe_standing(directory, standing_of(directory, dataset)),
        "owner": str(dataset.version.owner),
        "title": dataset.title,
        "title_en": said.title_en or None,
        "abstract": dataset.abstract,
        "abstract_en": said.abstract_en or None,
        "keywords": list(said.keywords),
        "theme": said.theme or None,
        "level": level_name(said.level),
        "contact": said.contact or None,
        "subject_type": said.subject_type or None,
        "update_frequency": said.update_frequency or None,
        "retention": said.retention or None,
        "quality": said.quality or None,
        "version": said.version or None,
        "related": _named(directory, said.related),
        "restricted": said.restricted,
        "visible_to": list(said.visible_to),
        "sharing": {
            "class": sharing_class(said.sharing),
            "conditions": list(said.sharing.conditions),
            "purposes": list(said.sharing.purposes),
            "reason": said.sharing.reason or None,
            "legal_basis": said.sharing.legal_basis or None,
        },
        "overlaps": [
            {
                "dataset": _named(directory, [overlap.dataset])[0],
                "fields": list(overlap.fields),
                "source": overlap.source,
                "justification": overlap.justification,
            }
            for overlap in said.overlaps
        ],
        "system": str(dataset.system),
        "key": dataset.key,
        "operations": operation_names(dataset.operations),
        "filterable": sorted(dataset.filterable),
        "fields": [_described_field(field) for field in said.fields],
        "object_id": dataset.object_id,
        "index": dataset.version.index,
        "published_at": iso(dataset.version.time),
    }


def _described_field(field: Field) -> dict[str, object]:
    return {
        "name": field.name,
        "label": field.label,
        "label_en": field.label_en or None,
        "type": TYPE_NAMES[field.type],
        "sensitivity": field.sensitivity or None,
        "element": field.element or None,
        "codes": {value.code: value.label for value in field.codes},
    }


def print_dataset(directory: Directory, dataset: DatasetTerms) -> None:
    """Print all that a descriptor says; what its owner left out is left out."""
    said, found = dataset.descriptor, standing_of(directory, dataset)
    pairs: dict[str, object] = {
        "dataset": dataset_name(dataset),
        "state": standing_text(directory, found) if found is not None else "",
        "title": both_labels(said.title, said.title_en),
        "abstract": [text for text in (said.abstract, said.abstract_en) if text],
        "keywords": listed(said.keywords),
        "theme": said.theme,
        "about": said.subject_type,
        "level": level_name(said.level),
        "contact": said.contact,
        "sharing": _sharing(said.sharing),
        "updated": said.update_frequency.lower(),
        "kept": said.retention,
        "quality": said.quality,
        "version": said.version,
        "related": listed(_named(directory, said.related)),
        "seen by": _seen_by(dataset),
        "overlaps": [
            f"{listed(item.fields)} with {_named(directory, [item.dataset])[0]}, source "
            f"{Party.parse(item.source).department}: {item.justification}"
            for item in said.overlaps
        ],
        "answered by": dataset.system,
        "operations": listed(operation_names(dataset.operations)),
        "key": dataset.key,
        "published": f"{day_of(dataset.version.time)}, entry {dataset.version.index} of the directory",
    }
    print_pairs({name: value for name, value in pairs.items() if value})
    print_line()
    print_table(
        ("FIELD", "TYPE", "USE", "SENSITIVITY", "LABEL"),
        [
            (
                field.name,
                TYPE_NAMES[field.type],
                _marks(dataset, field.name),
                field.sensitivity or None,
                both_labels(field.label, field.label_en),
            )
            for field in said.fields
        ],
    )
    _print_codes(said)


def _print_codes(said: Dataset) -> None:
    for field in (field for field in said.fields if field.codes):
        print_line()
        print_table(
            (f"CODE OF {field.name}", "LABEL"), [(v.code, both_labels(v.label, v.label_en)) for v in field.codes]
        )


def _sharing(sharing: Sharing) -> list[str]:
    lines = [sharing_class(sharing)]
    lines += [f"condition: {condition}" for condition in sharing.conditions]
    lines += [f"for {listed(sharing.purposes)} alone"] if sharing.purposes else []
    lines += [f"reason: {sharing.reason}"] if sharing.reason else []
    return lines + ([f"legal basis: {sharing.legal_basis}"] if sharing.legal_basis else [])


def _seen_by(dataset: DatasetTerms) -> str:
    if not dataset.descriptor.restricted:
        return ""
    names = [str(dataset.version.owner), *dataset.descriptor.visible_to]
    return f"{listed(names)} alone"


def _named(directory: Directory, object_ids: Iterable[bytes]) -> list[str]:
    """Datasets by what people call them; by their id where they are not known here."""
    found = []
    for object_id in object_ids:
        dataset = directory.dataset(object_id)
        found.append(dataset_name(dataset) if dataset is not None else object_id.hex())
    return found


def both_labels(label: str, label_en: str) -> str:
    """A label and its English one, where that says more."""
    return f"{label} · {label_en}" if label_en and label_en != label else label


def _marks(dataset: DatasetTerms, field: str) -> str:
    marks = (("key", field == dataset.key), ("filter", field in dataset.filterable))
    return listed(name for name, holds in marks if holds)
