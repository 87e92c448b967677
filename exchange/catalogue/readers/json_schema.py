"""A JSON Schema: properties, nested objects and lists of them, with titles, formats and patterns."""

import json
from collections.abc import Iterator, Mapping

from exchange.catalogue.fields import MAX_FIELDS, FieldProfile, Profile
from exchange.catalogue.patterns import declared
from exchange.catalogue.readers.source import SourceFile

_DEPTH = 12
_LONGEST_LABEL = 80
_HINT = 'it needs "properties": an example of the data is no schema'
_TYPES: Mapping[str, str] = {"string": "text", "integer": "integer", "number": "decimal", "boolean": "boolean"}


def read_json_schema(source: SourceFile) -> Profile:
    """Read a JSON Schema's properties; references within the file are followed, others are not.

    Raises:
        SchemaError: it is no JSON, or no schema of an object.
    """
    try:
        schema = json.loads(source.whole_text)
    except json.JSONDecodeError as error:
        raise source.error(error.lineno, f"not JSON: {error.msg}, column {error.colno}", "check it there") from error
    except RecursionError as error:
        raise source.error(1, "is nested too deeply", "give the part with the fields") from error
    if not isinstance(schema, dict):
        raise source.error(1, "not a JSON Schema", _HINT)
    walk = _Walk(schema)
    fields = tuple(walk.fields(schema, "", "", 0))
    if not fields:
        raise source.error(1, "not a JSON Schema of an object", _HINT)
    return Profile(_text(schema, "title") or source.title, "json-schema", fields)


class _Walk:
    """Goes through a schema once; `_left` bounds what references can multiply.

    Args:
        root: the whole, which references point into.
    """

    def __init__(self, root: Mapping[str, object]) -> None:
        self._root = root
        self._left = MAX_FIELDS + 1

    def fields(self, schema: Mapping[str, object], prefix: str, group: str, depth: int) -> Iterator[FieldProfile]:
        """The fields of an object and of what is in it."""
        if depth > _DEPTH:
            return
        for part in self._parts(schema, depth):
            properties = part.get("properties")
            if not isinstance(properties, dict):
                continue
            for name, value in properties.items():
                if isinstance(value, dict) and self._left > 0:
                    yield from self._property(name, value, prefix, group, depth)

    def _property(
        self, name: str, value: Mapping[str, object], prefix: str, group: str, depth: int
    ) -> Iterator[FieldProfile]:
        found = self._resolved(value, depth)
        items = found.get("items")
        inner, mark = (self._resolved(items, depth), "[]") if isinstance(items, dict) else (found, "")
        path = f"{prefix}{name}{mark}"
        nested = list(self.fields(inner, f"{path}.", _label(found) or name, depth + 1))
        if nested:
            yield from nested
            return
        self._left -= 1
        yield _field(f"{prefix}{name}", name, inner if mark else found, _label(found), group)

    def _parts(self, schema: Mapping[str, object], depth: int) -> Iterator[Mapping[str, object]]:
        """The schema itself and those it is put together from."""
        yield schema
        for key in ("allOf", "anyOf", "oneOf"):
            parts = schema.get(key)
            for part in parts if isinstance(parts, list) and depth <= _DEPTH else ():
                if isinstance(part, dict):
                    yield from self._parts(self._resolved(part, depth), depth + 1)

    def _resolved(self, schema: Mapping[str, object], depth: int) -> Mapping[str, object]:
        """What a reference within the file points to, with what stands beside it."""
        for _ in range(_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not (reference + "/").startswith("#/"):
                return schema
            target: object = self._root
            for step in reference.split("/")[1:]:
                step = step.replace("~1", "/").replace("~0", "~")
                target = target.get(step) if isinstance(target, dict) else None
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**target, **rest} if isinstance(target, dict) else rest
        return {}


def _field(path: str, name: str, schema: Mapping[str, object], label: str, group: str) -> FieldProfile:
    pattern, form = _text(schema, "pattern"), _text(schema, "format")
    return FieldProfile(
        path=path,
        name=name,
        label=label,
        group=group,
        type="date" if form in ("date", "date-time") else _type(schema.get("type")),
        patterns=declared(pattern, form),
    )


def _type(named: object) -> str:
    names = named if isinstance(named, list) else [named]
    return next((_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES), "")


def _label(schema: Mapping[str, object]) -> str:
    """Its title, or a description that is short enough to be one."""
    title = _text(schema, "title")
    if title:
        return title
    described = _text(schema, "description").strip().rstrip(".。")
    return described if len(described) <= _LONGEST_LABEL else ""


def _text(schema: Mapping[str, object], key: str) -> str:
    value = schema.get(key)
    return value if isinstance(value, str) else ""
