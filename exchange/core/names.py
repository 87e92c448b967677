"""Names of parties, and the forms of the codes that messages carry in the clear.

A name has one spelling, so that equal names are equal strings in signatures, certificates and indexes.
Nothing is normalised: what is not in that spelling is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from exchange.core.errors import NameFormatError

SCHEME = "exchange://"
MAX_DOMAIN = 253
MAX_CODE = 128

# Only explicit classes with fullmatch: \d, \w and `$` would let in other scripts' digits and a final newline.
_SEGMENT = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*", re.ASCII)
_CODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9][a-z0-9-]{0,62})*", re.ASCII)
_CASE_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_OFFICER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)

# What people confuse when they read a name, of the characters that a segment may have; after Unicode UTS 39, section 4.
_LOOKALIKES = (("-", ""), ("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("i", "l"), ("2", "z"), ("5", "s"))


@dataclass(frozen=True, slots=True)
class Party:
    """The exchange itself, a department of it, or a system of a department (DESIGN section 3).

    Args:
        domain: the exchange's name, lowercase labels joined by dots, at most 253 characters.
        department: one segment, or None for the exchange itself.
        system: one segment, or None for a department or the exchange.

    Raises:
        NameFormatError: a segment is not in its one form, or a system has no department.
    """

    domain: str
    department: str | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        if len(self.domain) > MAX_DOMAIN or not _DOMAIN.fullmatch(self.domain):
            raise NameFormatError(f"not a domain: {self.domain[:80]!r}")
        if self.department is None and self.system is not None:
            raise NameFormatError("a system's name needs its department")
        for segment in self.segments[1:]:
            if not _SEGMENT.fullmatch(segment):
                raise NameFormatError(f"not a name segment: {segment[:80]!r}")

    @classmethod
    def parse(cls, text: str) -> "Party":
        """Reads `exchange://DOMAIN[/DEPARTMENT[/SYSTEM]]`, the inverse of `str`.

        Raises:
            NameFormatError: the text is not exactly that form.
        """
        return _parsed(text)

    def __str__(self) -> str:
        if self.department is None:
            return f"{SCHEME}{self.domain}"
        if self.system is None:
            return f"{SCHEME}{self.domain}/{self.department}"
        return f"{SCHEME}{self.domain}/{self.department}/{self.system}"

    @property
    def segments(self) -> tuple[str, ...]:
        """Domain, department and system, as far as the name goes: one to three strings."""
        if self.department is None:
            return (self.domain,)
        if self.system is None:
            return (self.domain, self.department)
        return (self.domain, self.department, self.system)

    @property
    def parent(self) -> "Party | None":
        """The party one segment up, or None for the exchange."""
        if self.department is None:
            return None
        return Party(self.domain, self.department if self.system is not None else None)

    @property
    def own_department(self) -> "Party":
        """The department that a system belongs to; a department and the exchange are their own."""
        return _department_of(self.domain, self.department)

    @property
    def is_exchange(self) -> bool:
        """Whether this names the exchange itself."""
        return self.department is None

    @property
    def is_department(self) -> bool:
        """Whether this names a department, not a system of one."""
        return self.department is not None and self.system is None

    @property
    def is_system(self) -> bool:
        """Whether this names a system."""
        return self.system is not None

    def covers(self, other: "Party") -> bool:
        """Tells whether `other` is this party or lies under it, by whole segments (DESIGN section 3).

        Args:
            other: the party that something is asked or signed for.
        """
        # Whole segments: a string prefix would let "health" sign for "health-insurance".
        if self.domain != other.domain:
            return False
        if self.department is None:
            return True
        return self.department == other.department and (self.system is None or self.system == other.system)


@lru_cache(maxsize=16_384)
def _department_of(domain: str, department: str | None) -> Party:
    # Every decision asks for the requester's: the segments were checked, once is enough.
    return Party(domain, department)


def skeleton(segment: str) -> str:
    """What is left of a name's segment where all that looks alike is the same: equal for `housing` and `hous1ng`.

    Args:
        segment: one segment of a name; the result is none, and is compared only.
    """
    for written, read in _LOOKALIKES:
        segment = segment.replace(written, read)
    return segment


def lookalike(party: Party, others: Iterable[Party]) -> Party | None:
    """The first of some parties whose name could be taken for another one's, but is not that name.

    Args:
        party: not the exchange itself.
        others: those below another parent are passed over.
    """
    own = skeleton(party.segments[-1])
    for other in others:
        if other != party and other.parent == party.parent and skeleton(other.segments[-1]) == own:
            return other
    return None


def is_code(text: str) -> bool:
    """Tells whether `text` is the code of a purpose or dataset: dotted segments, at most 128 characters."""
    return len(text) <= MAX_CODE and _CODE.fullmatch(text) is not None


def is_case_id(text: str) -> bool:
    """Tells whether `text` is a case id, `[A-Za-z0-9-]{1,64}` (DESIGN section 6)."""
    return _CASE_ID.fullmatch(text) is not None


def is_officer(text: str) -> bool:
    """Tells whether `text` is an officer's pseudonym, `[A-Za-z0-9._-]{1,64}` (DESIGN section 6)."""
    return _OFFICER.fullmatch(text) is not None


def is_field(text: str) -> bool:
    """Tells whether `text` is a field's name, `[a-z][a-z0-9_]{0,62}`."""
    return _FIELD.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Party:
    """As `Party.parse`; the same few names stand in every message."""
    if not text.startswith(SCHEME):
        raise NameFormatError(f"not a party's name: {text[:80]!r}")
    segments = text[len(SCHEME) :].split("/", 3)
    if len(segments) > 3:
        raise NameFormatError(f"too many segments: {text[:80]!r}")
    return Party(*segments)
