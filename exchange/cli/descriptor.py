"""A dataset's descriptor: a TOML file that its steward keeps; errors name the file, the line and the key."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.errors import CommandError, ExitCode
from exchange.core.errors import CoreError
from exchange.core.filters import TYPE_NAMES
from exchange.core.names import Party, is_code, is_field
from exchange.core.state import MAX_TEXT
from exchange.core.terms import MAX_FIELDS
from exchange.core.wire import FORMAT
from exchange.v1.directory_pb2 import Dataset, Field, FieldType
from exchange.v1.request_pb2 import Operation

TEMPLATE = """\
# A dataset that this department shares. Publish it with: exchange dataset publish FILE

# Its code, unique within the department: small letters, digits and hyphens, joined by dots.
code = "household.registration"
title = "Household registration"
abstract = "Who is registered at which address. Updated every night."

# The system of this department that answers: the last part of its name.
system = "registry"

# The field that a LOOKUP goes by: the identity of the subject.
key = "id_number"

# What may be asked: LOOKUP (rows of named subjects), QUERY (rows that a filter selects).
operations = ["LOOKUP", "QUERY"]

# The fields that a QUERY may filter by.
filterable = ["district", "registered_on"]

# One block for each field. Types: text, integer, decimal, date, boolean.
[[fields]]
name = "id_number"
label = "Identity number"
type = "text"

[[fields]]
name = "full_name"
label = "Name"
type = "text"

[[fields]]
name = "district"
label = "District"
type = "text"

[[fields]]
name = "registered_on"
label = "Registered on"
type = "date"
"""

OPERATIONS: Mapping[str, Operation.ValueType] = {
    Operation.Name(number).removeprefix("OPERATION_"): number
    for number in Operation.values()
    if number != Operation.OPERATION_UNSPECIFIED
}
_TYPES: Mapping[str, FieldType.ValueType] = {name: type for type, name in TYPE_NAMES.items()}
_KEYS = ("code", "title", "abstract", "system", "key", "operations", "filterable", "fields")
_OPTIONAL = ("abstract", "filterable")
_FIELD_KEYS = ("name", "label", "type")
_BLOCK = re.compile(r"\s*\[\[\s*fields\s*\]\]")
_SYNTAX = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)


class DescriptorError(CommandError):
    """A descriptor cannot be published as it is: `FILE:LINE: KEY: what is wrong`."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{where}: {problem}", hint, ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class _Source:
    """The file, and where in it a key stands."""

    path: Path
    lines: tuple[str, ...]

    def error(self, key: str, problem: str, block: int | None = None, hint: str = "") -> DescriptorError:
        """An error about a top-level key, or about a key of the field block of this number."""
        line = self._line(key, block)
        where = f"{self.path}:{line}" if line else str(self.path)
        return DescriptorError(where, f"{key}: {problem}", hint)

    def _line(self, key: str, block: int | None) -> int:
        start, end = self._range(block)
        pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
        for number in range(start, end):
            if pattern.match(self.lines[number]):
                return number + 1
        return start + 1 if block is not None and start else 0

    def _range(self, block: int | None) -> tuple[int, int]:
        starts = [number for number, line in enumerate(self.lines) if _BLOCK.match(line)]
        if block is None:
            return 0, starts[0] if starts else len(self.lines)
        if block >= len(starts):
            return 0, len(self.lines)
        return starts[block], (*starts, len(self.lines))[block + 1]


def read_descriptor(path: Path, owner: Party) -> Dataset:
    """Read a descriptor.

    Args:
        path: a TOML file, as `TEMPLATE` has it.
        owner: the department that publishes it.

    Raises:
        DescriptorError: the first thing that is wrong, with its place.
    """
    text = _decoded(path.read_bytes(), path)
    source = _Source(path, tuple(text.splitlines()))
    values = _parse(text, path)
    _check_keys(source, values, _KEYS, _OPTIONAL)
    if not isinstance(values["fields"], list):
        raise source.error("fields", "a [[fields]] block for each field is expected")
    fields = [_field(source, number, value) for number, value in enumerate(values["fields"])]
    _check_fields(source, fields)
    names = [field.name for field in fields]
    return Dataset(
        format=FORMAT,
        code=_code(source, values),
        title=_text(source, values, "title"),
        abstract=_text(source, values, "abstract") if "abstract" in values else "",
        system=_system(source, values, owner),
        fields=fields,
        key=_known(source, "key", [_text(source, values, "key")], names)[0],
        operations=_operations(source, values),
        filterable=_known(source, "filterable", _texts(source, values, "filterable"), names),
    )


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}:{data.count(10, 0, error.start) + 1}"
        hint = f"save it as UTF-8; from a Chinese Windows: iconv -f GB18030 -t UTF-8 {path.name} > new-{path.name}"
        raise DescriptorError(where, "is not UTF-8", hint) from error


def _parse(text: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.match(str(error))
        where, problem = (f"{path}:{found[2]}", found[1]) if found else (str(path), str(error))
        raise DescriptorError(where, f"not TOML: {problem}", "`exchange dataset template` prints an example") from error


def _check_keys(
    source: _Source,
    values: Mapping[str, object],
    known: tuple[str, ...],
    optional: tuple[str, ...],
    block: int | None = None,
) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise source.error(key, "not known here", block, hint)
    missing = [key for key in known if key not in values and key not in optional]
    if missing:
        hint = "`exchange dataset template` prints an example"
        raise source.error(missing[0], "missing", block, hint)


def _field(source: _Source, number: int, values: object) -> Field:
    if not isinstance(values, dict):
        raise source.error("fields", "a [[fields]] block for each field is expected")
    _check_keys(source, values, _FIELD_KEYS, ("label",), number)
    name = _text(source, values, "name", number)
    if not is_field(name):
        raise source.error("name", f"{name!r} is not a small letter, then letters, digits and underscores", number)
    kind = _text(source, values, "type", number)
    if kind not in _TYPES:
        raise source.error("type", f"{kind!r} is none of {', '.join(_TYPES)}", number)
    label = _text(source, values, "label", number) if "label" in values else name
    return Field(name=name, label=label, type=_TYPES[kind])


def _check_fields(source: _Source, fields: list[Field]) -> None:
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise source.error("fields", f"a dataset has 1 to {MAX_FIELDS} fields")
    seen: set[str] = set()
    for number, field in enumerate(fields):
        if field.name in seen:
            raise source.error("name", f"{field.name!r} is described twice", number)
        seen.add(field.name)


def _code(source: _Source, values: Mapping[str, object]) -> str:
    code = _text(source, values, "code")
    if not is_code(code):
        raise source.error("code", f"{code!r} is not small letters, digits and hyphens, joined by dots")
    return code


def _system(source: _Source, values: Mapping[str, object], owner: Party) -> str:
    text = _text(source, values, "system")
    try:
        system = Party.parse(text) if "://" in text else Party(owner.domain, owner.department, text)
    except CoreError as error:
        raise source.error("system", str(error)) from error
    if not system.is_system or not owner.covers(system):
        raise source.error("system", f"{system} is not a system of {owner}")
    return str(system)


def _operations(source: _Source, values: Mapping[str, object]) -> list[Operation.ValueType]:
    names = _known(source, "operations", _texts(source, values, "operations"), tuple(OPERATIONS))
    if not names:
        raise source.error("operations", f"at least one is expected: {', '.join(OPERATIONS)}")
    return [OPERATIONS[name] for name in names]


def _known(source: _Source, key: str, names: list[str], known: Iterable[str]) -> list[str]:
    """Names that are known, each once."""
    known = tuple(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise source.error(key, f"{name!r} is not known", hint=hint)
    if len(set(names)) != len(names):
        raise source.error(key, "each is named once")
    return names


def _text(source: _Source, values: Mapping[str, object], key: str, block: int | None = None) -> str:
    value = values[key]
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise source.error(key, f"a text of 1 to {MAX_TEXT:,} characters is expected", block)
    return value


def _texts(source: _Source, values: Mapping[str, object], key: str) -> list[str]:
    value = values.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise source.error(key, 'a list of texts is expected, such as ["a", "b"]')
    return list(value)
