"""What a search asks for: the same conditions for the mirror's index and for the entry itself."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from exchange.cli.audit.checking.opening import OpenedEntry
from exchange.cli.audit.mirror.postings import Wanted
from exchange.cli.frame.errors import WrongUsageError
from exchange.core.directory import Directory
from exchange.core.errors import NameFormatError
from exchange.core.names import SCHEME, Party
from exchange.core.state import OBJECT_ID
from exchange.v1.access_pb2 import AccessKind, Code

KINDS: Mapping[str, int] = {
    name.removeprefix("ACCESS_KIND_").lower(): number for name, number in AccessKind.items() if number
}
CODES: Mapping[str, int] = {name.removeprefix("CODE_"): number for name, number in Code.items() if number}


class Criteria(Wanted):
    """What a search asks for, of the mirror's index and of the entry itself.

    Args:
        key: SHA-256 of a key that signed the request, the response or the refusal; no index has it.
    """

    key: bytes | None = None

    def holds(self, entry: OpenedEntry) -> bool:
        """Whether the entry itself fulfils every condition, whatever the index said."""
        said = said_of(entry)
        return (
            all(_says(entry, name, said[name], value) for name, value in self.exact.items())
            and all(_covers(party, str(said[name])) for name, party in self.parties.items())
            and (self.key is None or self.key in signers_of(entry))
            and (self.since is None or entry.leaf.time >= self.since)
            and (self.until is None or entry.leaf.time <= self.until)
        )


def signers_of(entry: OpenedEntry) -> frozenset[bytes]:
    """The ids of the keys that signed what the entry holds."""
    parts = (entry.request, entry.response, entry.refusal)
    return frozenset(part.key_id for part in parts if part is not None)


def said_of(entry: OpenedEntry) -> dict[str, object]:
    """What leaf and request header say, by the names of the mirror's columns."""
    leaf, header = entry.leaf, entry.asked
    return {
        "kind": leaf.kind,
        "code": leaf.code,
        "requester": leaf.requester,
        "provider": leaf.provider,
        "request_id": leaf.request_id,
        "request_digest": leaf.request_digest,
        "dataset": header.dataset if header is not None else None,
        "officer": header.officer if header is not None else None,
        "purpose": header.purpose if header is not None else None,
        "case_id": header.case_id if header is not None else None,
    }


def party(text: str, domain: str, option: str) -> Party:
    """A party by its full name, or by what follows the exchange's: housing/applications.

    Raises:
        WrongUsageError: not a name.
    """
    try:
        return Party.parse(text if text.startswith(SCHEME) else f"{SCHEME}{domain}/{text}")
    except NameFormatError as error:
        hint = "write exchange://DOMAIN/DEPARTMENT[/SYSTEM], or DEPARTMENT[/SYSTEM]"
        raise WrongUsageError(f"{option}: {error}", hint) from error


def one_of(text: str, known: Mapping[str, int], option: str) -> int:
    """The number behind a word.

    Raises:
        WrongUsageError: none of the known ones.
    """
    words = {word.lower(): number for word, number in known.items()}
    if text.lower() not in words:
        raise WrongUsageError(f"{option}: {text} is none of them", f"one of {', '.join(known)}")
    return words[text.lower()]


def request_id(text: str) -> bytes | None:
    """A request's id, 16 bytes, if the text is a UUID."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def key_of(text: str, directory: Directory) -> bytes:
    """The id of a key of the directory, by its fingerprint or the beginning of it.

    Raises:
        WrongUsageError: no key begins so, or several do.
    """
    prefix = "".join(text.lower().split())
    is_hex = 8 <= len(prefix) <= 64 and all(char in "0123456789abcdef" for char in prefix)
    found = [key for key in directory.state.keys if key.hex().startswith(prefix)] if is_hex else []
    if len(found) != 1:
        problem = f"{len(found)} keys of the directory begin so" if is_hex else "not a key's fingerprint"
        raise WrongUsageError(f"--key: {problem}: {text[:100]}", "give 8 or more hexadecimal digits of one")
    return found[0]


def object_id(text: str) -> bytes | None:
    """A dataset's object id, if the text is one in hex."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == OBJECT_ID else None


def moment(text: str, option: str, *, end: bool) -> int:
    """A time in UTC, milliseconds.

    Args:
        text: YYYY-MM-DD, or a time as ISO 8601; without an offset it is UTC.
        option: where it was typed, for the error.
        end: whether a day stands for its last millisecond.

    Raises:
        WrongUsageError: neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write a day or a time in UTC, such as 2027-01-15 or 2027-01-15T08:30"
        raise WrongUsageError(f"{option}: not a time: {text}", hint) from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    is_day = len(text) <= len("2027-01-15")
    if end and is_day:
        found += timedelta(days=1)
    return int(found.timestamp() * 1000) - int(end and is_day)


def _says(entry: OpenedEntry, name: str, said: object, wanted: object) -> bool:
    """A summary says each code that it counts."""
    return said == wanted or (name == "code" and any(item.code == wanted for item in entry.leaf.counts))


def _covers(party: Party, name: str) -> bool:
    try:
        return party.covers(Party.parse(name))
    except NameFormatError:
        return False
