"""What a descriptor may say of its dataset: the catalogue's part, beside what requests are judged by.

Decree 809, articles 12 to 15: classes of sharing, with their conditions, purposes, reasons and legal bases.
"""

import re
from collections.abc import Iterable, Sequence

from exchange.core.errors import CoreError, NameFormatError
from exchange.core.names import Party, is_code
from exchange.core.state import MAX_TEXT, OBJECT_ID
from exchange.v1.catalogue_pb2 import CodeValue, Overlap, Sharing, SharingClass
from exchange.v1.directory_pb2 import Dataset, Field

# An enum's attribute costs more than a hash, and every body asks for it.
_NOT_SHARED, _CONDITIONAL = SharingClass.SHARING_CLASS_NOT_SHARED, SharingClass.SHARING_CLASS_CONDITIONAL

MOST_SENSITIVE = 4
MAX_KEYWORDS = 50
MAX_KEYWORD = 100
MAX_CODES = 1000
MAX_RELATED = 50
MAX_PARTIES = 200
MAX_CONDITIONS = 50

# Codes of the Publications Office's frequency table, as DCAT-AP's accrualPeriodicity names them.
FREQUENCIES = (
    "CONT",
    "HOURLY",
    "DAILY",
    "WEEKLY",
    "BIWEEKLY",
    "MONTHLY",
    "BIMONTHLY",
    "QUARTERLY",
    "ANNUAL_2",
    "ANNUAL",
    "BIENNIAL",
    "IRREG",
    "NEVER",
    "OTHER",
    "UNKNOWN",
)

_ELEMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CODE_VALUE = re.compile(r"[^\s]{1,64}")


class DescriptorError(CoreError):
    """A descriptor says something of its dataset that does not fit; the text begins with the key."""


def check_descriptor(dataset: Dataset, owner: Party) -> None:
    """Check what a descriptor says beside fields, key and operations.

    Args:
        dataset: as its owner signed it.
        owner: the department.

    Raises:
        DescriptorError: the first thing that does not fit.
    """
    for key in ("title_en", "abstract", "abstract_en", "contact", "retention", "quality", "version"):
        _check_text(key, getattr(dataset, key))
    _check_each("keywords", dataset.keywords, MAX_KEYWORDS)
    if any(not 0 < len(word) <= MAX_KEYWORD for word in dataset.keywords):
        raise DescriptorError(f"keywords: each has 1 to {MAX_KEYWORD} characters")
    for key in ("theme", "subject_type"):
        if getattr(dataset, key) and not is_code(getattr(dataset, key)):
            raise DescriptorError(f"{key}: not a code: small letters, digits and hyphens, joined by dots")
    if dataset.update_frequency and dataset.update_frequency not in FREQUENCIES:
        raise DescriptorError(f"update_frequency: none of {', '.join(FREQUENCIES)}")
    _check_each("related", dataset.related, MAX_RELATED)
    if any(len(object_id) != OBJECT_ID for object_id in dataset.related):
        raise DescriptorError(f"related: a dataset's object id has {OBJECT_ID} bytes")
    _check_sharing(dataset.sharing)
    _check_visible(dataset, owner)
    for field in dataset.fields:
        check_field(field)
    names = frozenset(field.name for field in dataset.fields)
    for overlap in dataset.overlaps:
        _check_overlap(overlap, names)


def check_field(field: Field) -> None:
    """Check a field's labels, sensitivity, element and code list.

    Raises:
        DescriptorError: one of them does not fit.
    """
    if max(len(field.label), len(field.label_en)) > MAX_TEXT:
        raise DescriptorError(f"label: at most {MAX_TEXT:,} characters")
    if field.sensitivity > MOST_SENSITIVE:
        raise DescriptorError(f"sensitivity: 1 (public) to {MOST_SENSITIVE} (most sensitive)")
    if field.element and _ELEMENT.fullmatch(field.element) is None:
        raise DescriptorError("element: letters, digits, dots, hyphens and underscores, at most 64")
    _check_codes(field.codes)


def is_shared(dataset: Dataset) -> bool:
    """Whether the owner shares it at all."""
    return dataset.sharing.sharing_class != _NOT_SHARED


def shared_purposes(dataset: Dataset) -> frozenset[str] | None:
    """The only purposes that a conditional dataset is shared for; None where any registered one will do."""
    if dataset.sharing.sharing_class != _CONDITIONAL:
        return None
    return frozenset(dataset.sharing.purposes)


def may_see(dataset: Dataset, owner: Party, party: Party) -> bool:
    """Whether a dataset is in a party's catalogue: everybody's, unless its owner restricts it.

    Whoever sees it does so as a department: its steward applies for what a system of it is to ask.
    """
    if not dataset.restricted or owner.covers(party):
        return True
    return any(Party.parse(name).own_department.covers(party) for name in dataset.visible_to)


def _check_sharing(sharing: Sharing) -> None:
    kind = sharing.sharing_class
    _check_each("conditions", sharing.conditions, MAX_CONDITIONS)
    _check_each("purposes", sharing.purposes, MAX_CONDITIONS)
    for text in (*sharing.conditions, sharing.reason, sharing.legal_basis):
        _check_text("sharing", text)
    if kind == SharingClass.SHARING_CLASS_CONDITIONAL:
        if not sharing.conditions or not sharing.purposes or not all(sharing.conditions):
            raise DescriptorError("sharing: conditional sharing lists its conditions and its purposes")
        if not all(is_code(code) for code in sharing.purposes):
            raise DescriptorError("sharing: a purpose is named by its code")
        return
    if sharing.conditions or sharing.purposes:
        raise DescriptorError("sharing: only conditional sharing has conditions and purposes")
    if kind == SharingClass.SHARING_CLASS_NOT_SHARED and not (sharing.reason and sharing.legal_basis):
        raise DescriptorError("sharing: what is not shared has a reason and a legal basis")


def _check_visible(dataset: Dataset, owner: Party) -> None:
    _check_each("visible_to", dataset.visible_to, MAX_PARTIES)
    if dataset.visible_to and not dataset.restricted:
        raise DescriptorError("visible_to: only a restricted dataset names who may see it")
    for name in dataset.visible_to:
        try:
            party = Party.parse(name)
        except NameFormatError as error:
            raise DescriptorError(f"visible_to: {error}") from error
        if party.domain != owner.domain or party.is_exchange:
            raise DescriptorError("visible_to: departments or systems of this exchange")


def _check_overlap(overlap: Overlap, names: frozenset[str]) -> None:
    _check_each("overlaps", overlap.fields, len(names))
    if len(overlap.dataset) != OBJECT_ID or not overlap.fields or not names.issuperset(overlap.fields):
        raise DescriptorError("overlaps: the other dataset and fields of this one are named")
    if not overlap.justification:
        raise DescriptorError("overlaps: a justification is needed")
    _check_text("overlaps", overlap.justification)
    try:
        is_department = Party.parse(overlap.source).is_department
    except NameFormatError:
        is_department = False
    if not is_department:
        raise DescriptorError("overlaps: the source is a department")


def _check_codes(codes: Sequence[CodeValue]) -> None:
    values = [value.code for value in codes]
    _check_each("codes", values, MAX_CODES)
    if not all(_CODE_VALUE.fullmatch(value) for value in values):
        raise DescriptorError("codes: each has 1 to 64 characters, without spaces")
    for value in codes:
        _check_text("codes", value.label)
        _check_text("codes", value.label_en)


def _check_text(key: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise DescriptorError(f"{key}: at most {MAX_TEXT:,} characters")


def _check_each(key: str, items: Iterable[object], most: int) -> None:
    values = list(items)
    if len(values) > most or len(set(values)) != len(values):
        raise DescriptorError(f"{key}: at most {most:,}, each once")
