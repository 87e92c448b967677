"""A dataset's descriptor, published or a draft: only what says what its fields are is looked at."""

import re
import tomllib

from exchange.catalogue.fields import FieldProfile, Profile, descriptor_field
from exchange.catalogue.readers.source import SourceFile, distinct

_HINT = "`exchange dataset template` prints an example"
_SYNTAX = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)


def read_descriptor_fields(source: SourceFile) -> Profile:
    """Read a descriptor, strict about its syntax and nothing else: a draft may lack what publishing needs.

    Raises:
        SchemaError: it is no TOML, or has no fields.
    """
    text = source.whole_text
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.match(str(error))
        line, problem = (int(found[2]), found[1]) if found else (text.count("\n") + 1, str(error))
        raise source.error(line, f"not TOML: {problem}", _HINT) from error
    blocks = values.get("fields")
    if not isinstance(blocks, list) or not blocks:
        raise source.error(1, "fields: a [[fields]] block for each field is expected", _HINT)
    seen: dict[str, int] = {}
    fields = tuple(_field(source, number, block, seen) for number, block in enumerate(blocks, 1))
    title = values.get("title")
    return Profile(title if isinstance(title, str) else source.title, "descriptor", fields)


def _field(source: SourceFile, number: int, block: object, seen: dict[str, int]) -> FieldProfile:
    name = block.get("name") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(name, str) or not name:
        raise source.error(1, f"fields: block {number} has no name", _HINT)
    return descriptor_field(block, distinct(name, seen))
