"""A TOML file whose errors name the file, the line and the key."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exchange.cli.frame.errors import CommandError, ExitCode

_SYNTAX = re.compile(r"^(.*) \(at line (\d+), column \d+\)$", re.DOTALL)


class PlacedError(CommandError):
    """A file says what cannot be meant: `FILE:LINE: KEY: what is wrong`."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{where}: {problem}", hint, ExitCode.USAGE)


class PlacedFile:
    """What a TOML file says, read in the order in which it is written.

    Args:
        path: of the file.

    Raises:
        PlacedError: it cannot be read, or is no TOML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Counter[str] = Counter()
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise PlacedError(str(path), f"cannot be read: {error}") from error
        self._lines = [line.partition("#")[0] if '"' not in line else line for line in text.splitlines()]
        try:
            self.said: Mapping[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _SYNTAX.match(str(error))
            where = f"{path}:{found[2]}" if found else str(path)
            raise PlacedError(where, found[1] if found else str(error)) from error

    def reach(self, key: str) -> int:
        """Say that reading has come to a key of this name; its line, or 0 where it is not found."""
        self._seen[key] += 1
        left = self._seen[key]
        pattern = re.compile(rf"""(?:^|[\s{{,\[])["']?{re.escape(key)}["']?\s*[=\]]""")
        for number, line in enumerate(self._lines, start=1):
            left -= 0 if line.lstrip().startswith("#") else len(pattern.findall(line))
            if left <= 0:
                return number
        return 0

    def error(self, key: str, line: int, problem: str, hint: str = "") -> PlacedError:
        """An error about a key, which stands on this line."""
        where = f"{self.path}:{line}" if line else str(self.path)
        return PlacedError(where, f"{key}: {problem}", hint)
