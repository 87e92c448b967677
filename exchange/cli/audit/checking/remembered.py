"""What a verification must remember of every entry before: kept in a temporary file, not in memory.

A log has no end, and an auditor's machine has. SQLite keeps some megabytes at hand and the rest in a file that has no
name and is gone with the process.
"""

import sqlite3
from types import TracebackType
from typing import Self

_CACHE = 8 * 1024
"""KiB that stay in memory, however long the log."""


class Remembered:
    """Which requests were released, and which answers were withheld; leave its `with` block to forget them."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size = -{_CACHE}",
            # Nothing is ever undone or read again: a journal would only grow.
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE released (request BLOB PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE withheld (answer BLOB PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._connection.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def first_release(self, request: bytes, index: int) -> int:
        """Remember that an entry released a request, and say which did first: this one, or an earlier one."""
        added = self._connection.execute("INSERT OR IGNORE INTO released VALUES (?, ?)", (request, index))
        if added.rowcount:
            return index
        (earlier,) = self._connection.execute("SELECT idx FROM released WHERE request = ?", (request,)).fetchone()
        return int(earlier)

    def withhold(self, answer: bytes) -> None:
        """Remember that an answer, by its digest, was settled without being released."""
        self._connection.execute("INSERT OR IGNORE INTO withheld VALUES (?)", (answer,))

    def is_withheld(self, answer: bytes) -> bool:
        """Whether it was."""
        return self._connection.execute("SELECT 1 FROM withheld WHERE answer = ?", (answer,)).fetchone() is not None
