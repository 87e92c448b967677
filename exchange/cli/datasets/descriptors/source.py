"""A TOML file, and where in it a key stands: what errors about it name."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exchange.cli.frame.errors import CommandError, ExitCode
from exchange.core.state import MAX_TEXT

_BLOCK = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_.-]+)\s*\]{1,2}")
_SYNTAX = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)
_SEEN = "`exchange dataset template` prints an example"


class DescriptorFileError(CommandError):
    """A descriptor cannot be published as it is: `FILE:LINE: KEY: what is wrong`."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{where}: {problem}", hint, ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class Block:
    """One table of a file: the top of it, `[sharing]`, or the block of a number among `[[fields]]`.

    Args:
        path: the file; lines: of it.
        values: of the table.
        name: of the block; empty for the top.
        number: among blocks of this name, from 0.
    """

    path: Path
    lines: tuple[str, ...]
    values: Mapping[str, object]
    name: str = ""
    number: int = 0

    def error(self, key: str, problem: str, hint: str = "") -> DescriptorFileError:
        """An error about a key of this block, with its line."""
        line = self._line(key)
        where = f"{self.path}:{line}" if line else str(self.path)
        return DescriptorFileError(where, f"{key}: {problem}", hint)

    def check_keys(self, known: Iterable[str], needed: Iterable[str]) -> None:
        """Refuse keys that nobody knows, and miss those that are needed.

        Raises:
            DescriptorFileError: the first of them.
        """
        names = tuple(known)
        for key in self.values:
            if key not in names:
                raise self.error(key, "not known here", _near(key, names))
        missing = [key for key in needed if key not in self.values]
        if missing:
            raise self.error(missing[0], "missing", _SEEN)

    def text(self, key: str, default: str | None = None) -> str:
        """A text, at most 2,000 characters; where there is none, the default, if any."""
        if key not in self.values and default is not None:
            return default
        value = self.values[key]
        if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
            raise self.error(key, f"a text of 1 to {MAX_TEXT:,} characters is expected")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts, each once; none where the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, 'a list of texts is expected, such as ["a", "b"]')
        if len(set(value)) != len(value):
            raise self.error(key, "each is named once")
        return list(value)

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """One of a few words."""
        names = tuple(known)
        word = self.text(key, default)
        if word not in names:
            raise self.error(key, f"{word!r} is not known", _near(word, names))
        return word

    def choices(self, key: str, known: Iterable[str]) -> list[str]:
        """Some of a few words, each once."""
        names = tuple(known)
        words = self.texts(key)
        for word in words:
            if word not in names:
                raise self.error(key, f"{word!r} is not known", _near(word, names))
        return words

    def flag(self, key: str) -> bool:
        """True or false; false where the key is missing."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, "true or false is expected")
        return value

    def number_of(self, key: str, least: int, most: int) -> int:
        """A whole number of a range; 0 where the key is missing."""
        value = self.values.get(key, 0)
        if key in self.values and (not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most):
            raise self.error(key, f"a number from {least} to {most} is expected")
        return value if isinstance(value, int) else 0

    def blocks(self, name: str) -> list["Block"]:
        """The blocks `[[name]]`; none where there are none."""
        value = self.values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(name, f"a [[{name}]] block for each is expected")
        return [Block(self.path, self.lines, item, name, number) for number, item in enumerate(value)]

    def block(self, name: str) -> "Block | None":
        """The block `[name]`, if there is one."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(name, f"a block [{name}] is expected")
        return Block(self.path, self.lines, value, name)

    def _line(self, key: str) -> int:
        start, end = self._range()
        pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
        for number in range(start, end):
            if pattern.match(self.lines[number]):
                return number + 1
        return start + 1 if self.name and start else 0

    def _range(self) -> tuple[int, int]:
        heads = [(number, found[1]) for number, line in enumerate(self.lines) if (found := _BLOCK.match(line))]
        if not self.name:
            return 0, heads[0][0] if heads else len(self.lines)
        own = [number for number, name in heads if name == self.name]
        if self.number >= len(own):
            return 0, len(self.lines)
        start = own[self.number]
        return start, next((number for number, _ in heads if number > start), len(self.lines))


def open_file(path: Path) -> Block:
    """Read a TOML file.

    Raises:
        DescriptorFileError: it is not UTF-8, or not TOML.
    """
    text = _decoded(path.read_bytes(), path)
    return Block(path, tuple(text.splitlines()), _parse(text, path))


def _near(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}:{data.count(10, 0, error.start) + 1}"
        hint = f"save it as UTF-8; from a Chinese Windows: iconv -f GB18030 -t UTF-8 {path.name} > new-{path.name}"
        raise DescriptorFileError(where, "is not UTF-8", hint) from error


def _parse(text: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _SYNTAX.match(str(error))
        where, problem = (f"{path}:{found[2]}", found[1]) if found else (str(path), str(error))
        raise DescriptorFileError(where, f"not TOML: {problem}", _SEEN) from error
