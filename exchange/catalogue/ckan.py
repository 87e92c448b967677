"""A descriptor to start from, out of a CKAN package (docs.ckan.org, "API guide", `package_show`).

A package describes files; a dataset of the exchange is asked record by record. What a package cannot say (the system
that answers, the key, sensitivities, the class of sharing) is left for the steward, marked in the text.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from exchange.core.errors import CoreError
from exchange.core.names import is_code, is_field

MAX_FILE = 8 * 1024 * 1024
_TYPES: Mapping[str, str] = {
    "int": "integer",
    "integer": "integer",
    "int4": "integer",
    "int8": "integer",
    "number": "decimal",
    "numeric": "decimal",
    "float": "decimal",
    "float8": "decimal",
    "date": "date",
    "bool": "boolean",
    "boolean": "boolean",
}
_FREQUENCIES: Mapping[str, str] = {
    "continual": "CONT",
    "daily": "DAILY",
    "weekly": "WEEKLY",
    "fortnightly": "BIWEEKLY",
    "monthly": "MONTHLY",
    "quarterly": "QUARTERLY",
    "biannually": "ANNUAL_2",
    "annually": "ANNUAL",
    "annual": "ANNUAL",
    "irregular": "IRREG",
    "never": "NEVER",
}


class PackageError(CoreError):
    """A file is no CKAN package, or holds several."""


@dataclass(frozen=True, slots=True)
class Column:
    """A field that a package's data dictionary names; `type` is one of the exchange's."""

    name: str
    label: str
    type: str


@dataclass(frozen=True, slots=True)
class Package:
    """What a package says that a descriptor can take; texts are empty where it says nothing."""

    name: str
    title: str
    notes: str
    keywords: tuple[str, ...]
    theme: str
    contact: str
    frequency: str
    version: str
    columns: tuple[Column, ...]


def read_package(data: bytes, name: str = "") -> Package:
    """Read a package: alone, as the answer of `package_show`, or one of those of `package_search`.

    Args:
        data: JSON, at most 8 MiB.
        name: which one, where the file has several.

    Raises:
        PackageError: not JSON, no package, or several and no name.
    """
    if len(data) > MAX_FILE:
        raise PackageError(f"the file has more than {MAX_FILE >> 20} MiB")
    try:
        value = json.loads(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise PackageError("not JSON in UTF-8") from error
    except json.JSONDecodeError as error:
        raise PackageError(f"line {error.lineno}: not JSON: {error.msg}") from error
    packages = list(_packages(value))
    if not packages:
        raise PackageError("no CKAN package: an object with a name, a title and resources is expected")
    chosen = [package for package in packages if not name or package["name"] == name]
    if len(chosen) != 1:
        names = ", ".join(str(package["name"]) for package in packages[:10])
        raise PackageError(f"{len(packages)} packages are in the file: {names}")
    return _package(chosen[0])


def descriptor_text(package: Package) -> str:
    """The package as a descriptor's TOML; what is marked `FILL IN` is the steward's."""
    code = re.sub(r"[^a-z0-9]+", "-", package.name.lower()).strip("-")
    lines = [
        f"# From the CKAN package {_quoted(package.name)}. Fill in what is marked, then: exchange dataset publish FILE",
        f"code = {_quoted(code if is_code(code) else 'dataset')}",
        f"title = {_quoted(package.title or package.name)}",
    ]
    texts = {
        "abstract": package.notes[:2000],
        "version": package.version,
        "theme": package.theme,
        "contact": package.contact,
        "update_frequency": package.frequency,
    }
    lines += [f"{key} = {_quoted(text)}" for key, text in texts.items() if text]
    if package.keywords:
        lines.append(f"keywords = [{', '.join(map(_quoted, package.keywords))}]")
    lines += ["", "# FILL IN: the system of this department that answers.", 'system = ""']
    lines += ["# FILL IN: the field that a LOOKUP goes by.", 'key = ""', 'operations = ["LOOKUP"]', ""]
    lines += ["# FILL IN: unconditional, conditional or not shared.", "[sharing]", 'class = ""']
    for column in package.columns:
        lines += ["", "[[fields]]", f"name = {_quoted(column.name)}", f"label = {_quoted(column.label)}"]
        lines += [f'type = "{column.type}"', "# FILL IN: sensitivity = 1 (public) to 4"]
    if not package.columns:
        lines += ["", "# FILL IN: the package names no fields. One block for each:"]
        lines += ["# [[fields]]", '# name = ""', '# label = ""', '# type = "text"']
    return "\n".join(lines) + "\n"


def _packages(value: object) -> Iterator[Mapping[str, object]]:
    if isinstance(value, list):
        for item in value:
            yield from _packages(item)
    elif isinstance(value, dict):
        if isinstance(value.get("name"), str) and ("resources" in value or "notes" in value):
            yield value
        else:
            for key in ("result", "results"):
                yield from _packages(value.get(key))


def _package(value: Mapping[str, object]) -> Package:
    tags = [_text(tag, "name") for tag in _dicts(value.get("tags"))]
    groups = [_text(group, "name") for group in _dicts(value.get("groups"))]
    extras = {_text(extra, "key"): _text(extra, "value") for extra in _dicts(value.get("extras"))}
    owner = value.get("organization")
    contacts = (_text(value, "maintainer"), _text(value, "author"), _text(owner, "title"))
    frequency = extras.get("frequency", extras.get("update_frequency", "")).lower()
    return Package(
        _text(value, "name"),
        _text(value, "title"),
        _text(value, "notes"),
        tuple(dict.fromkeys(tag[:100] for tag in tags if tag))[:50],
        next((group for group in groups if is_code(group)), ""),
        next((contact for contact in contacts if contact), ""),
        _FREQUENCIES.get(frequency, ""),
        _text(value, "version"),
        tuple(_columns(value)),
    )


def _columns(value: Mapping[str, object]) -> Iterator[Column]:
    """Of the first resource that has a data dictionary, or a Table Schema."""
    for resource in _dicts(value.get("resources")):
        schema = resource.get("schema")
        fields = _dicts(resource.get("fields")) or (_dicts(schema.get("fields")) if isinstance(schema, dict) else [])
        seen: set[str] = set()
        for field in fields:
            said = _text(field, "name") or _text(field, "id")
            name = _field_name(said, len(seen) + 1)
            if said and not said.startswith("_") and name not in seen:
                seen.add(name)
                info = field.get("info")
                label = _text(info, "label") or _text(field, "title") or said
                yield Column(name, label, _TYPES.get(_text(field, "type").lower(), "text"))
        if seen:
            return


def _field_name(said: str, number: int) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", said.lower()).strip("_")
    return name if is_field(name) else f"field_{number}"


def _dicts(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return " ".join(found.split()) if isinstance(found, str) else ""


def _quoted(text: str) -> str:
    # A JSON string without escapes past ASCII is a TOML basic string (toml.io, v1.0.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
