"""Versions of the protocol: which this program speaks, what it announces, and who understands whom.

A version is MAJOR.MINOR. Within a major version nothing that is signed changes, and what a minor one adds to messages
that are not signed may be ignored by who does not know it. A program speaks its own minor version and the one before.
"""

import re
from dataclasses import dataclass
from typing import Final

from exchange.core.errors import DecodeError, VersionError

_VERSION: Final = r"(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})"
_FORM: Final = re.compile(rf"([0-9A-Za-z.+!-]{{1,40}}) {_VERSION}-{_VERSION}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of the protocol."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


PROTOCOL: Final = Version(1, 0)
"""The newest that this program speaks."""

OLDEST: Final = Version(PROTOCOL.major, max(0, PROTOCOL.minor - 1))
"""The oldest that this program speaks."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a program says of itself.

    Args:
        package: the version of the program, for people alone.
        oldest, newest: the versions of the protocol that it speaks, all between them too.
    """

    package: str
    oldest: Version
    newest: Version

    def __str__(self) -> str:
        return f"{self.package} {self.oldest}-{self.newest}"

    @property
    def spoken(self) -> str:
        """The versions of the protocol, for people: 1.0, or 1.0 to 1.1."""
        return str(self.newest) if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


SILENT: Final = Announcement("an unknown release", Version(1, 0), Version(1, 0))
"""Who announces nothing: announcing began with 1.0, which did not ask for it."""


def announcement(package: str) -> Announcement:
    """What this program announces.

    Args:
        package: its own version.
    """
    return Announcement(package, OLDEST, PROTOCOL)


def parse_announcement(text: str) -> Announcement:
    """Read an announcement in its one form: `0.1.0 1.0-1.1`.

    Raises:
        DecodeError: it is in another form, or no range within one major version.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise DecodeError("an announcement of versions is RELEASE OLDEST-NEWEST, as 0.1.0 1.0-1.1")
    oldest, newest = Version(int(match[2]), int(match[3])), Version(int(match[4]), int(match[5]))
    if oldest.major != newest.major or oldest > newest:
        raise DecodeError("the versions announced are no range within one major version")
    return Announcement(match[1], oldest, newest)


def agreed(ours: Announcement, theirs: Announcement, names: tuple[str, str]) -> Version:
    """The newest version that two programs both speak.

    Args:
        ours: what this program speaks.
        theirs: what the peer announced.
        names: what the two are called in an error: "this adapter", "the broker".

    Raises:
        VersionError: there is none; the text says which of the two needs which version.
    """
    newest = min(ours.newest, theirs.newest)
    if newest >= max(ours.oldest, theirs.oldest):
        return newest
    us, them = names
    speak = f"{them} ({theirs.package}) speaks protocol {theirs.spoken}, {us} ({ours.package}) {ours.spoken}"
    old, needed = (them, ours.oldest) if theirs.newest < ours.oldest else (us, theirs.oldest)
    raise VersionError(f"{speak}: {old} is too old, and needs a release that speaks {needed}")
