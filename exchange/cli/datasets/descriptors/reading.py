"""What a descriptor says, read key by key, into the message that its owner signs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.datasets.descriptors.source import Block, open_file
from exchange.client.errors import ExchangeError
from exchange.core.descriptor import (
    FREQUENCIES,
    MAX_CODES,
    MOST_SENSITIVE,
    DescriptorError,
    check_descriptor,
    check_field,
)
from exchange.core.errors import CoreError
from exchange.core.filters import TYPE_NAMES
from exchange.core.names import Party, is_code, is_field
from exchange.core.terms import MAX_FIELDS, DatasetTerms
from exchange.core.wire import FORMAT
from exchange.v1.catalogue_pb2 import CodeValue, Level, Overlap, Sharing, SharingClass
from exchange.v1.directory_pb2 import Dataset, Field, FieldType
from exchange.v1.request_pb2 import Operation

OPERATIONS: Mapping[str, Operation.ValueType] = {
    Operation.Name(number).removeprefix("OPERATION_"): number
    for number in Operation.values()
    if number != Operation.OPERATION_UNSPECIFIED
}
LEVELS: Mapping[str, Level.ValueType] = {
    Level.Name(number).removeprefix("LEVEL_").lower(): number
    for number in Level.values()
    if number != Level.LEVEL_UNSPECIFIED
}
CLASSES: Mapping[str, SharingClass.ValueType] = {
    SharingClass.Name(number).removeprefix("SHARING_CLASS_").lower().replace("_", " "): number
    for number in SharingClass.values()
    if number != SharingClass.SHARING_CLASS_UNSPECIFIED
}
_TYPES: Mapping[str, FieldType.ValueType] = {name: type for type, name in TYPE_NAMES.items()}
_NEEDED = ("code", "title", "system", "key", "operations", "fields")
_TEXTS = ("title_en", "abstract", "abstract_en", "theme", "contact", "subject_type", "retention", "quality", "version")
_KEYS = (
    *_NEEDED,
    *_TEXTS,
    "keywords",
    "level",
    "update_frequency",
    "filterable",
    "related",
    "restricted",
    "visible_to",
    "sharing",
    "overlaps",
)
_FIELD_KEYS = ("name", "label", "label_en", "type", "sensitivity", "element", "codes")
_SHARING_KEYS = ("class", "conditions", "purposes", "reason", "legal_basis")
_OVERLAP_KEYS = ("dataset", "fields", "source", "justification")

Find = Callable[[str], DatasetTerms]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a file says: the message, and where datasets of others are named that the directory has to find.

    Args:
        dataset: without `related` and `overlaps`.
        related: where they are named; None where none are.
        overlaps: their blocks.
        owner: the department that publishes it.
    """

    dataset: Dataset
    related: Block
    overlaps: tuple[Block, ...]
    owner: Party

    def resolved(self, find: Find) -> Dataset:
        """The whole message.

        Args:
            find: the dataset that a name names.

        Raises:
            DescriptorFileError: a dataset is not known.
        """
        whole = Dataset()
        whole.CopyFrom(self.dataset)
        whole.related.extend(self._found(self.related, "related", name, find) for name in self.related.texts("related"))
        whole.overlaps.extend(self._overlap(block, find) for block in self.overlaps)
        try:
            check_descriptor(whole, self.owner)
        except DescriptorError as error:
            raise self.related.error(*_key_of(error)) from error
        return whole

    def _found(self, block: Block, key: str, name: str, find: Find) -> bytes:
        try:
            return find(name).object_id
        except ExchangeError as error:
            raise block.error(key, str(error), error.hint) from error

    def _overlap(self, block: Block, find: Find) -> Overlap:
        block.check_keys(_OVERLAP_KEYS, _OVERLAP_KEYS)
        fields = block.choices("fields", [field.name for field in self.dataset.fields])
        if not fields:
            raise block.error("fields", "at least one is expected")
        return Overlap(
            dataset=self._found(block, "dataset", block.text("dataset"), find),
            fields=fields,
            source=str(_department(block, "source", self.owner)),
            justification=block.text("justification"),
        )


def read_descriptor(path: Path, owner: Party) -> Descriptor:
    """Read a descriptor.

    Args:
        path: a TOML file, as `TEMPLATE` has it.
        owner: the department that publishes it.

    Raises:
        DescriptorFileError: the first thing that is wrong, with its place.
    """
    top = open_file(path)
    top.check_keys(_KEYS, _NEEDED)
    fields = [_field(block) for block in _checked_fields(top)]
    names = [field.name for field in fields]
    sharing = top.block("sharing")
    dataset = Dataset(
        format=FORMAT,
        code=_code(top),
        title=top.text("title"),
        system=_system(top, owner),
        fields=fields,
        key=top.choice("key", names),
        operations=_operations(top),
        filterable=top.choices("filterable", names),
        keywords=top.texts("keywords"),
        level=LEVELS[top.choice("level", LEVELS)] if "level" in top.values else Level.LEVEL_UNSPECIFIED,
        update_frequency=top.choice("update_frequency", FREQUENCIES) if "update_frequency" in top.values else "",
        restricted=top.flag("restricted"),
        visible_to=[str(_party(top, "visible_to", name, owner)) for name in top.texts("visible_to")],
        sharing=_sharing(sharing) if sharing is not None else None,
    )
    for key in _TEXTS:
        setattr(dataset, key, top.text(key, ""))
    try:
        check_descriptor(dataset, owner)
    except DescriptorError as error:
        key, problem = _key_of(error)
        raise (sharing.error("class", problem) if sharing and key == "sharing" else top.error(key, problem)) from error
    return Descriptor(dataset, top, tuple(top.blocks("overlaps")), owner)


def _checked_fields(top: Block) -> Sequence[Block]:
    blocks = top.blocks("fields")
    if not 1 <= len(blocks) <= MAX_FIELDS:
        raise top.error("fields", f"a dataset has 1 to {MAX_FIELDS} fields")
    seen: set[object] = set()
    for block in blocks:
        block.check_keys(_FIELD_KEYS, ("name", "type"))
        name = block.text("name")
        if name in seen:
            raise block.error("name", f"{name!r} is described twice")
        seen.add(name)
    return blocks


def _field(block: Block) -> Field:
    name = block.text("name")
    if not is_field(name):
        raise block.error("name", f"{name!r} is not a small letter, then letters, digits and underscores")
    field = Field(
        name=name,
        label=block.text("label", name),
        label_en=block.text("label_en", ""),
        type=_TYPES[block.choice("type", _TYPES)],
        sensitivity=block.number_of("sensitivity", 1, MOST_SENSITIVE),
        element=block.text("element", ""),
        codes=_codes(block),
    )
    try:
        check_field(field)
    except DescriptorError as error:
        raise block.error(*_key_of(error)) from error
    return field


def _codes(block: Block) -> list[CodeValue]:
    value = block.values.get("codes", [])
    expected = 'a list such as [{ code = "1", label = "male" }] is expected'
    if not isinstance(value, list) or len(value) > MAX_CODES:
        raise block.error("codes", expected)
    found = []
    for item in value:
        if not isinstance(item, dict) or "code" not in item or not {"code", "label", "label_en"}.issuperset(item):
            raise block.error("codes", expected)
        if not all(isinstance(text, str) for text in item.values()):
            raise block.error("codes", "code and labels are texts: write them in quotes")
        found.append(CodeValue(**item))
    return found


def _sharing(block: Block) -> Sharing:
    block.check_keys(_SHARING_KEYS, ("class",))
    return Sharing(
        sharing_class=CLASSES[block.choice("class", CLASSES)],
        conditions=block.texts("conditions"),
        purposes=block.texts("purposes"),
        reason=block.text("reason", ""),
        legal_basis=block.text("legal_basis", ""),
    )


def _code(top: Block) -> str:
    code = top.text("code")
    if not is_code(code):
        raise top.error("code", f"{code!r} is not small letters, digits and hyphens, joined by dots")
    return code


def _system(top: Block, owner: Party) -> str:
    text = top.text("system")
    try:
        system = Party.parse(text) if "://" in text else Party(owner.domain, owner.department, text)
    except CoreError as error:
        raise top.error("system", str(error)) from error
    if not system.is_system or not owner.covers(system):
        raise top.error("system", f"{system} is not a system of {owner}")
    return str(system)


def _operations(top: Block) -> list[Operation.ValueType]:
    names = top.choices("operations", OPERATIONS)
    if not names:
        raise top.error("operations", f"at least one is expected: {', '.join(OPERATIONS)}")
    return [OPERATIONS[name] for name in names]


def _department(block: Block, key: str, owner: Party) -> Party:
    party = _party(block, key, block.text(key), owner)
    if not party.is_department:
        raise block.error(key, f"{party} is not a department")
    return party


def _party(block: Block, key: str, text: str, owner: Party) -> Party:
    """A party of the same exchange: in full, or as DEPARTMENT or DEPARTMENT/SYSTEM."""
    try:
        return Party.parse(text) if "://" in text else Party.parse(f"{Party(owner.domain)}/{text}")
    except CoreError as error:
        raise block.error(key, str(error)) from error


def _key_of(error: DescriptorError) -> tuple[str, str]:
    """The key that a core error begins with, and the rest of it."""
    key, _, problem = str(error).partition(": ")
    return key, problem
