"""holds.toml: entries of the access log whose bodies an incident needs, so that nobody erases them.

[[hold]]
name = "HS-2026-118"
first = 1200
end = 1350
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass

from exchange.core.errors import CoreError
from exchange.core.merkle import MAX_SIZE

FILE = "holds.toml"
MAX_NAME = 200


class HoldError(CoreError):
    """The text is not a list of holds."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Access entries whose bodies stay.

    Args:
        name: what for.
        first: index of the first; end: one more than that of the last.
    """

    name: str
    first: int
    end: int

    def keeps(self, first: int, end: int) -> bool:
        """Whether one of these entries is held."""
        return self.first < end and first < self.end


def parse_holds(text: str) -> tuple[Hold, ...]:
    """Read a file of holds; what it says beside name, first and end is for people.

    Raises:
        HoldError: it is not TOML, or a hold lacks its name or its entries.
    """
    try:
        listed = tomllib.loads(text).get("hold", [])
    except tomllib.TOMLDecodeError as error:
        raise HoldError(f"not TOML: {error}") from error
    if not isinstance(listed, list):
        raise HoldError("holds are tables: [[hold]]")
    return tuple(map(_hold, listed))


def held(holds: Iterable[Hold], first: int, end: int) -> Hold | None:
    """A hold on one of these entries, if there is one."""
    return next((hold for hold in holds if hold.keeps(first, end)), None)


def _hold(said: object) -> Hold:
    if not isinstance(said, dict):
        raise HoldError("holds are tables: [[hold]]")
    name, first, end = (said.get(key) for key in ("name", "first", "end"))
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise HoldError(f"a hold has a name, of at most {MAX_NAME} characters")
    # A bool is an int: `first = true` would hold entry 1.
    if type(first) is not int or type(end) is not int or not 0 <= first < end <= MAX_SIZE:
        raise HoldError(f"the hold {name} has entries: first, and end, one more than the last")
    return Hold(name, first, end)
