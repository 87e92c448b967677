"""What auditors read is an entry too: its form, and what a mandate covers (DESIGN sections 1 and 7)."""

from collections.abc import Iterator

from exchange.core.envelope import DIGEST, REQUEST, decode_envelope
from exchange.core.errors import CoreError, DecodeError
from exchange.core.merkle import MAX_SIZE
from exchange.core.names import Party
from exchange.core.state import State, Version
from exchange.core.wire import decode
from exchange.v1.access_pb2 import AccessBody, AccessKind, AccessLeaf
from exchange.v1.people_pb2 import Mandate
from exchange.v1.request_pb2 import RequestHeader, Sealed


def check_read(leaf: AccessLeaf) -> None:
    """Check that a leaf has the field of a read exactly where it is one, and nothing of an access then.

    Raises:
        DecodeError: it has not.
    """
    if (leaf.kind == AccessKind.ACCESS_KIND_READ) != leaf.HasField("read"):
        raise DecodeError("a read, and nothing else, says what was read")
    if not leaf.HasField("read"):
        return
    digests = (leaf.request_digest, leaf.response_digest, leaf.refusal_digest)
    if leaf.provider or leaf.request_id or any(digests):
        raise DecodeError("a read names no request, provider or response")
    read = leaf.read
    if len(read.mandate) != DIGEST or len(read.query_sha256) not in (0, DIGEST):
        raise DecodeError("a digest in a read has an impossible length")
    if not read.first < read.end <= MAX_SIZE or not 1 <= read.bodies <= read.end - read.first:
        raise DecodeError("a read names the entries whose bodies were given, and how many there were")
    Party.parse(leaf.requester)


def mandates_of(state: State, auditor: Party, now: int) -> Iterator[Version]:
    """The mandates that an auditor may read under now, the oldest first.

    Args:
        state: of the directory; now: milliseconds.
    """
    for digest in state.people.mandates.get(str(auditor), ()):
        version = state.versions[digest]
        if version.ended_index is None and isinstance(version.named, Mandate) and now <= version.named.not_after:
            yield version


def covers(mandate: Mandate, leaf: AccessLeaf, body: bytes) -> bool:
    """Whether a mandate covers the body of an access entry.

    Args:
        mandate: in force.
        leaf: of the entry; body: beside it.
    """
    if leaf.time < mandate.since or (mandate.until and leaf.time > mandate.until):
        return False
    if mandate.departments and not any(_is_below(mandate, name) for name in (leaf.requester, leaf.provider)):
        return False
    return not mandate.datasets or dataset_asked(body) in mandate.datasets


def _is_below(mandate: Mandate, name: str) -> bool:
    # Whole segments, or the mandate of one department would read that of another one that is named a little longer.
    return any(name == department or name.startswith(department + "/") for department in mandate.departments)


def dataset_asked(body: bytes) -> bytes:
    """The dataset that the request beside an access entry names, by object id; empty where it names none."""
    try:
        request = decode(AccessBody, body).request
        sealed = decode(Sealed, decode_envelope(request, REQUEST).payload) if request else None
        return decode(RequestHeader, sealed.header).dataset if sealed is not None else b""
    except CoreError:
        return b""


def surely_covers(mandate: Mandate, leaf: AccessLeaf) -> bool:
    """Whether a mandate covers an entry whatever its body says: of which dataset it is, only the body tells."""
    return not mandate.datasets and covers(mandate, leaf, b"")


def may_cover(mandate: Mandate, leaf: AccessLeaf) -> bool:
    """Whether a mandate covers an entry for some body: whoever has none cannot rule it out."""
    return covers(Mandate(departments=mandate.departments, since=mandate.since, until=mandate.until), leaf, b"")


def has_body(leaf: AccessLeaf) -> bool:
    """Whether an entry ever had a body: a read has none."""
    return leaf.kind != AccessKind.ACCESS_KIND_READ
