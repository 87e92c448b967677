"""The one value that every description of fields is read into, and that fields are compared as."""

from collections.abc import Mapping
from dataclasses import dataclass

from exchange.core.filters import TYPE_NAMES
from exchange.v1.directory_pb2 import Dataset

MAX_FIELDS = 5_000
"""Of one file: a form or a table has hundreds at most."""


@dataclass(frozen=True, slots=True)
class FieldProfile:
    """What is known of one field; what is not known is empty.

    Args:
        path: what people call it in their file, unique there: `owner.phone`, `Sheet2!姓名`.
        name: as programs write it.
        label: as people read it, in any language.
        label_en: a second label, in English.
        group: the label of the object or block that it stands in.
        type: text, integer, decimal, date, boolean.
        element: code of a standard data element.
        patterns: what its values look like, by name (`patterns.PATTERNS`); the values themselves are not kept.
    """

    path: str
    name: str = ""
    label: str = ""
    label_en: str = ""
    group: str = ""
    type: str = ""
    element: str = ""
    patterns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a file or a dataset describes.

    Args:
        title: what the whole is called.
        kind: how it was read (`readers.KINDS`), or `dataset`.
        fields: at least one.
        subject_type: what a record is about, where it says so: person, company, or another code.
    """

    title: str
    kind: str
    fields: tuple[FieldProfile, ...]
    subject_type: str = ""


def dataset_profile(dataset: Dataset) -> Profile:
    """The profile of a dataset, published or about to be."""
    return Profile(
        dataset.title,
        "dataset",
        tuple(
            FieldProfile(
                path=field.name,
                name=field.name,
                label=field.label if field.label != field.name else "",
                label_en=field.label_en,
                type=TYPE_NAMES.get(field.type, ""),
                element=field.element,
            )
            for field in dataset.fields
        ),
        dataset.subject_type,
    )


def descriptor_field(values: Mapping[str, object], path: str) -> FieldProfile:
    """The profile of one `[[fields]]` block of a descriptor; keys that say nothing of its meaning are passed over."""

    def text(key: str) -> str:
        value = values.get(key)
        return value if isinstance(value, str) else ""

    return FieldProfile(path, path, text("label"), text("label_en"), "", text("type"), text("element"))
