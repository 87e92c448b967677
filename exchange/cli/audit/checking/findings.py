"""What verification finds, how bad it is, and what is said of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from exchange.cli.frame.errors import ExitCode


class Level(IntEnum):
    """How bad a finding is; the worst one decides how the command ends."""

    WARNING = 0
    TAMPERED = 1
    UNTRUSTED = 2
    BROKEN = 3

    @property
    def word(self) -> str:
        """As it is printed before a finding."""
        return _WORDS[self]


_WORDS: Mapping[Level, str] = MappingProxyType(
    {Level.WARNING: "warning", Level.TAMPERED: "FAIL", Level.UNTRUSTED: "UNTRUSTED", Level.BROKEN: "BROKEN"}
)
_EXITS: Mapping[Level, ExitCode] = MappingProxyType(
    {
        Level.WARNING: ExitCode.DONE,
        Level.TAMPERED: ExitCode.REFUSED,
        Level.UNTRUSTED: ExitCode.UNTRUSTED,
        Level.BROKEN: ExitCode.FORK,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Args:
        log: the log's name, such as city.example/access.
        index: the entry; None where it is about the log as a whole.
        text: what is wrong, without a full stop.
        level: how bad it is.
    """

    log: str
    index: int | None
    text: str
    level: Level = Level.TAMPERED

    def __str__(self) -> str:
        place = self.log if self.index is None else f"entry {self.index} of {self.log}"
        return f"{self.level.word}  {place}: {self.text}"


def exit_code(findings: Iterable[Finding]) -> ExitCode:
    """How a command with these findings ends: a fork says more than a tampered row, and a warning fails nothing."""
    return _EXITS[max((finding.level for finding in findings), default=Level.WARNING)]


def span(first: int, last: int) -> str:
    """Entries by their indexes: "entry 3", "entries 3 to 5"."""
    return f"entry {first}" if first == last else f"entries {first} to {last}"


def plural(count: int, noun: str = "entries", one: str = "entry") -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else noun}"
