"""A file that somebody gives: bounded, and its text in whichever encoding offices use."""

import re
from functools import cached_property
from pathlib import Path

from exchange.catalogue.errors import SchemaError

MAX_FILE = 64 * 1024 * 1024
MAX_TEXT = 8 * 1024 * 1024
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.$-]*")
"""What programs call a field; anything else is a label for people."""


class SourceFile:
    """A file's bytes and text.

    Args:
        path: of the file.

    Raises:
        SchemaError: it is too large.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.data = file.read(MAX_FILE + 1)
        if len(self.data) > MAX_FILE:
            raise SchemaError(str(path), f"is larger than {MAX_FILE >> 20} MiB", "give its header and a few rows")

    @property
    def title(self) -> str:
        """The file's name without its ending: what a file is called that says no title of its own."""
        return self.path.stem

    @cached_property
    def text(self) -> str:
        """The text, at most `MAX_TEXT` bytes of it, cut at the end of a line.

        Raises:
            SchemaError: it is in no encoding that is known.
        """
        data = self.data
        if data.startswith(_UTF16):
            return self._decoded(data, "utf-16")
        if len(data) > MAX_TEXT:
            data = data[: data.rfind(b"\n", 0, MAX_TEXT) + 1]
        if b"\0" in data:
            line = data.count(b"\n", 0, data.index(b"\0")) + 1
            raise self.error(line, "is no text", "it may be damaged; save it again as UTF-8")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            # What Chinese editions of Windows and Excel write.
            return self._decoded(data, "gb18030")

    @property
    def whole_text(self) -> str:
        """The text of a file that only the whole of makes sense.

        Raises:
            SchemaError: it is too large, or in no encoding that is known.
        """
        if len(self.data) > MAX_TEXT:
            raise SchemaError(str(self.path), f"is larger than {MAX_TEXT >> 20} MiB", "give the part with the fields")
        return self.text

    def error(self, line: int, problem: str, hint: str = "") -> SchemaError:
        """An error at a line, counted from 1."""
        return SchemaError(f"{self.path}:{line}", problem, hint)

    def _decoded(self, data: bytes, encoding: str) -> str:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise self.error(line, "is neither UTF-8 nor GB18030", "save it as UTF-8") from error


def distinct(path: str, seen: dict[str, int]) -> str:
    """A path that is not taken: the second of a name gets #2."""
    seen[path] = seen.get(path, 0) + 1
    return path if seen[path] == 1 else f"{path}#{seen[path]}"
